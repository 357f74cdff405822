"""Steps of training whose results are known: inputs, upstream gradients and what must come of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from precision_lab.numeric.certainty import CERTIFIED_ULPS
from precision_lab.oracle import reference
from precision_lab.verifying.properties.pool import SEED, Index
from precision_lab.verifying.properties.products import Float64, random_significands
from precision_lab.verifying.properties.subject import Subject
from precision_lab.verifying.properties.sums import Sum

ELEMENTS = 1003


@dataclass(frozen=True)
class Exact:
    """What one step must give: exact values, and how far off the results may be.

    Attributes:
        leaves: the parameters of the call.
        values, allowed: of forward and d/dx, by element; what is NaN is not judged.
        sums: of each parameter's gradient, exact and allowed.
        measured: whether the kernel's accuracy was measured at these parameters.
    """

    leaves: Mapping[str, Tensor]
    x: Tensor
    upstream: Tensor
    values: Mapping[str, Float64]
    allowed: Mapping[str, Float64]
    sums: Mapping[str, tuple[float, float]]
    measured: bool = True


class Layer(torch.nn.Module):
    """A layer that hands its parameters to the kernel."""

    def __init__(self, subject: Subject, leaves: Mapping[str, Tensor], trained: Collection[str]) -> None:
        super().__init__()
        self._subject, self._names = subject, tuple(leaves)
        for name, leaf in leaves.items():
            self.register_parameter(
                f"p_{name}", torch.nn.Parameter(leaf.detach().clone(), requires_grad=name in trained)
            )

    def held(self) -> dict[str, torch.nn.Parameter]:
        """Parameters by the names that the kernel knows."""
        return {name: getattr(self, f"p_{name}") for name in self._names}

    def forward(self, x: Tensor) -> Tensor:
        return self._subject.forward(x, self.held())


class Steps:
    """Steps of one kernel at a few inputs of its pool."""

    def __init__(self, subject: Subject, outputs: list[str]) -> None:
        self.subject, self.outputs = subject, outputs
        self.generator = np.random.Generator(np.random.PCG64(SEED + 4))
        usual = np.flatnonzero(
            np.isfinite(subject.x) & (np.abs(subject.x) < 8) & (np.abs(subject.x) > 2.0**-4)
        )
        self.usual = usual if usual.size else np.arange(subject.size)
        self.shape = subject.contract.shape_for(ELEMENTS, len(subject.shape)) or subject.shape

    def drawn(self) -> tuple[Index, Float64]:
        """Inputs of the pool and upstream gradients: of one sign, so that sums do not cancel."""
        n = math.prod(self.shape)
        index = self.generator.choice(self.usual, n)
        return index, -np.abs(random_significands(self.subject.fmt, n, self.generator)) / 2

    def measured(self) -> Exact:
        """A step at the parameters that were measured."""
        subject = self.subject
        index, weight = self.drawn()
        return self.exact(
            subject.leaves, subject.effective, index, weight,
            {o: subject.limits(o, index) for o in subject.outputs}, measured=True,
        )  # fmt: skip

    def exact(
        self, leaves: Mapping[str, Tensor], effective: Mapping[str, float], index: Index, weight: Float64,
        limits: Mapping[str, Float64], *, measured: bool,
    ) -> Exact:  # fmt: skip
        subject, fmt = self.subject, self.subject.fmt
        x, where = np.unique(subject.x[index], return_inverse=True)
        values, allowed = {}, {}
        for output, limit in limits.items():
            exact = reference(subject.function, output, effective, x, fmt).exact[where]
            bound = subject.terms.bounds[output]
            # Of d/dx as in `Products.allowed`; of y at the parameters that were measured its own limit.
            loose = output == "grad_x" or not measured
            ulps = (
                2 * limit + 1 + 2 * CERTIFIED_ULPS + (2.0 if fmt.bits == 64 else 0.0)
                if loose
                else limit + CERTIFIED_ULPS
            )
            smallest = fmt.min_normal if bound.flush_subnormals else fmt.min_subnormal
            expected = exact * weight if output == "grad_x" else exact
            judged = (np.abs(expected) >= fmt.min_normal) & (np.abs(expected) <= fmt.max_finite / 8)
            values[output] = np.where(judged, expected, np.nan)
            allowed[output] = ulps * fmt.ulp(np.where(judged, expected, 0.0)) + 16 * smallest
        sums = {}
        for output in self.outputs:
            bound = subject.terms.bounds[output]
            widest = bound.max_ulp if measured else 2 * max([bound.max_ulp, *bound.regions.values()]) + 1
            total = Sum(subject, output, widest, effective, x).at(where, weight)
            if abs(total[0]) <= fmt.max_finite / 4:
                sums[output] = total
        return Exact(
            leaves, subject.tensor(index, self.shape), subject.put(weight).reshape(self.shape), values,
            allowed, sums, measured,
        )  # fmt: skip
