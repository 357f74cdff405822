"""Calls that give parameters' gradients, and when such a sum is off."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from precision_lab.running.tensors import to_numpy
from precision_lab.verifying.properties.pool import SEED, Index
from precision_lab.verifying.properties.products import (
    Float64,
)
from precision_lab.verifying.properties.subject import Subject
from precision_lab.verifying.properties.sums import Sum


class Summing:
    """Sums of one kernel, all parameters' from one call.

    What is off there is looked at once more with one parameter's gradient alone: what is wrong only
    together is `training_step`'s.
    """

    def __init__(self, subject: Subject, x: Float64, sums: Mapping[str, Sum]) -> None:
        self.subject, self.x, self.sums = subject, x, sums
        self.generator = np.random.Generator(np.random.PCG64(SEED + 2))
        self.ignoring: set[str] = set()  # outputs that are wrong whatever the upstream gradient is
        self.inaccurate: set[str] = set()  # those whose terms are wrong one by one

    # -- calls ----------------------------------------------------------------------------------

    def shape(self, n: int) -> tuple[int, ...]:
        """An accepted shape of n elements or more."""
        return self.subject.contract.shape_for(n, len(self.subject.shape)) or self.subject.shape

    def drawn(self, n: int) -> Index:
        """Places in the list of inputs for a call of n elements or more."""
        return self.generator.integers(0, self.x.size, math.prod(self.shape(n)))

    def gradients(self, index: Index, weight: Float64, outputs: Collection[str]) -> dict[str, float]:
        """Sums of these outputs from one call."""
        subject, names = self.subject, [o.removeprefix("grad_") for o in outputs]
        leaves = dict(subject.leaves)
        for name in names:
            leaves[name] = leaves[name].detach().clone().requires_grad_()
        shape = self.shape(index.size)
        y = subject.forward(subject.put(self.x[index]).reshape(shape), leaves)
        sources = [leaves[name] for name in names]
        found = subject.backward(y, sources, subject.put(weight).reshape(shape))
        return {o: float(t.double().sum()) for o, t in zip(outputs, found, strict=True)}

    def separate(self, index: Index, weight: Float64, outputs: Collection[str]) -> dict[str, Float64]:
        """The kernel's gradients for each element, as it gives them where parameters are x-shaped."""
        subject, names = self.subject, [o.removeprefix("grad_") for o in outputs]
        leaves = dict(subject.leaves)
        shape = self.shape(index.size)
        for name in names:
            leaves[name] = leaves[name].detach().expand(shape).clone().requires_grad_()
        y = subject.forward(subject.put(self.x[index]).reshape(shape), leaves)
        sources = [leaves[name] for name in names]
        found = subject.backward(y, sources, subject.put(weight).reshape(shape))
        return {
            o: np.asarray(to_numpy(t.reshape(-1), subject.fmt), np.float64)
            for o, t in zip(outputs, found, strict=True)
        }

    # -- judging --------------------------------------------------------------------------------

    def off(self, output: str, got: float, index: Index, weight: Float64) -> bool:
        """Whether a sum is off, both from the exact one and from that of the kernel's own terms."""
        exact, allowed = self.sums[output].at(index, weight)
        if abs(exact) > self.subject.fmt.max_finite / 2 or abs(got - exact) <= allowed:
            return False
        # Terms that are wrong one by one are a matter of accuracy: the sum of the kernel's own is right too.
        own = weight * self.separate(index, np.ones(index.size), [output])[output]
        size = math.fsum(np.abs(own))
        if not math.isfinite(size):
            return True
        slack = allowed + float(self.subject.fmt.ulp(own[own != 0]).sum()) / 2
        slack += self.sums[output].adding(index.size) * size
        return not abs(got - math.fsum(own)) <= slack  # a NaN is off

    def wrong(
        self, index: Index, weight: Float64, outputs: Collection[str], *, alone: bool = False
    ) -> dict[str, float]:
        """Sums that are off, from a call for all these outputs and from one for each alone."""
        if not outputs:
            return {}
        if not alone:
            found = self.gradients(index, weight, outputs)
            outputs = [o for o in outputs if self.off(o, found[o], index, weight)]
        found = {o: self.gradients(index, weight, [o])[o] for o in outputs}
        return {o: got for o, got in found.items() if self.off(o, got, index, weight)}

    def fault(
        self, kind: str, where: str, output: str, got: float, index: Index, weight: Float64
    ) -> None:  # fmt: skip
        exact, allowed = self.sums[output].at(index, weight)
        ulps = (got - exact) / float(self.subject.fmt.ulp(np.array([exact]))[0])
        self.subject.fault(
            kind,
            f"{where}, the sum is {got!r} instead of {exact!r}; {allowed:.3g} would be allowed",
            output, ulps=float(np.nan_to_num(ulps, nan=np.inf)),
        )  # fmt: skip

    def judged(self, kind: str, where: str, index: Index, weight: Float64, *, alone: bool = False) -> None:
        for output, got in self.wrong(index, weight, self.whole(), alone=alone).items():
            self.fault(kind, where, output, got, index, weight)

    def whole(self) -> list[str]:
        """Outputs whose sums have not been found faulty element by element."""
        missing = {f.output for f in self.subject.faults if f.code == "reduction_incomplete"} | self.ignoring
        return [o for o in self.sums if o not in missing]


def pivots(sums: Mapping[str, Sum]) -> dict[int, list[str]]:
    """Inputs of the list, few, at one of which each output's derivative is large, with those outputs."""
    left, found = set(sums), {}
    sizes = {o: np.abs(s.terms) for o, s in sums.items()}
    large = {o: size >= np.median(size[size > 0]) for o, size in sizes.items()}
    while left:
        score: NDArray[np.int64] = np.sum([large[o] for o in sorted(left)], axis=0)
        pivot = int(np.argmax(score))
        found[pivot] = [o for o in sums if o in left and large[o][pivot]]
        left -= set(found[pivot])
    return found
