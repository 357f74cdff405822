"""Parameters' gradients: sums over all elements, of which none is missing and whose accuracy is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np

from precision_lab.exceptions import KernelError
from precision_lab.running.tensors import to_numpy
from precision_lab.verifying.properties.pool import Index
from precision_lab.verifying.properties.products import (
    LUCKY,
    ROOM,
    Float64,
    Products,
    exponents,
    random_significands,
    spread,
)
from precision_lab.verifying.properties.subject import Subject
from precision_lab.verifying.properties.summing import Summing, pivots
from precision_lab.verifying.properties.sums import Sum, given_parameters

LENGTHS = (1, 3, 8, 1000, 1025, 4099, (1 << 16) + 3)
ROUNDS = 2  # calls element by element with upstream gradients of all magnitudes
FEW = 4  # elements of the sums that are tried with upstream gradients of one binade


def reductions(subject: Subject) -> str | None:
    """A parameter's gradient is the sum of all terms, each times its upstream gradient, and accurate."""
    outputs = given_parameters(subject)
    if subject.implementation.execution.one_number:
        return "in C the sum is the lab's own"
    if not outputs:
        return "no parameter's gradient is examined"
    usual = subject.x[np.isfinite(subject.x) & (np.abs(subject.x) < 8) & (np.abs(subject.x) > 2.0**-4)]
    usual = np.unique(usual)
    sums = {
        o: Sum(subject, o, subject.terms.bounds[o].max_ulp, subject.effective, usual)
        for o in outputs
    }  # fmt: skip
    sums = {o: s for o, s in sums.items() if (s.terms != 0).any()}
    if sums:
        trial = _Reductions(subject, usual, sums)
        for where, work in trial.parts.items():
            subject.tried(f"in the sum of {', '.join(sums)}: {where}", work)
    return None


class _Reductions(Summing):
    """Ways in which a sum may be wrong, each tried with the calls of `Summing`."""

    def __init__(self, subject: Subject, x: Float64, sums: Mapping[str, Sum]) -> None:
        super().__init__(subject, x, sums)
        self.pivots = pivots(sums)
        self.parts: dict[str, Callable[[], None]] = {
            "each element": self.complete,
            "many elements": self.accurate,
            "one parameter alone": self.alone,
            "element by element": self.elements,
            "upstream gradients of one binade": self.few,
            "upstream gradients of all magnitudes": self.many,
            "the same again": self.repeated,
        }
        if subject.case.finite:
            subject.leave_out("NaN and infinite upstream gradients", "only finite numbers are asked for")
        else:
            self.parts["NaN and infinite upstream gradients"] = self.nonfinite

    def complete(self) -> None:
        """Each element counts once, whatever the length."""
        for n in dict.fromkeys(math.prod(self.shape(n)) for n in LENGTHS):
            far = {0, n // 2, n - 1} if n > 5000 else {0, 1, 7, 8, 255, 256, n // 2, n - 9, n - 2, n - 1}
            places = sorted(far & set(range(n)))
            for pivot, outputs in self.pivots.items():
                index = self.drawn(n)
                index[places] = pivot
                weight = np.zeros(n)
                # Several numbers, so that one missing does not stand for another counted twice.
                kinds = min(8, 1 << self.subject.fmt.fraction_bits)
                weight[places] = 1 + np.arange(len(places)) % kinds / kinds
                wanted = [o for o in outputs if o in self.whole()]
                for output in self.wrong(index, weight, wanted):
                    self._missing(output, index, places, weight)

    def _missing(self, output: str, index: Index, places: Sequence[int], together: Float64) -> None:
        nothing = np.zeros(index.size)
        got = self.gradients(index, nothing, [output])[output]
        if got != 0:
            where = f"with an upstream gradient of 0 for all {index.size} elements"
            self.fault("ignores_upstream", where, output, got, index, nothing)
            self.ignoring.add(output)
            return
        for place in places:
            weight = np.zeros(index.size)
            weight[place] = 1.0
            got = self.gradients(index, weight, [output])[output]
            if self.off(output, got, index, weight):
                where = (
                    f"with an upstream gradient of 1 for element {place} of {index.size} and 0 for the others"
                )
                self.fault("reduction_incomplete", where, output, got, index, weight)
                return
        got = self.gradients(index, together, [output])[output]
        where = (
            f"with upstream gradients of 1 to 2 for elements {', '.join(map(str, places))} of {index.size}"
        )
        self.fault("ignores_upstream", f"{where} and 0 for the others", output, got, index, together)

    def accurate(self) -> None:
        """Sums over many elements, also of those that cancel."""
        for n in (4099, (1 << 17) + 5):
            index = self.drawn(n)
            n = index.size
            self.judged("reduction_inaccurate", f"over {n} elements, upstream 1", index, np.ones(n))
            # Pairs that cancel but for a small remainder: an ill-conditioned sum.
            half, order = n // 2, self.generator.permutation(n)
            paired = np.concatenate([index[:half], index[:half], index[2 * half :]])
            weight = np.ones(n)
            weight[half : 2 * half] = -1.0
            self.judged(
                "reduction_inaccurate",
                f"over {n} elements of which pairs cancel",
                paired[order],
                weight[order],
            )

    def alone(self) -> None:
        """One parameter's gradient, without that of any other."""
        for n in (3, 1000):
            index = self.drawn(n)
            weight = np.abs(random_significands(self.subject.fmt, index.size, self.generator))
            where = f"with upstream gradients between 1 and 2 for {index.size} elements"
            self.judged("ignores_upstream", where, index, weight, alone=True)

    def few(self) -> None:
        """Sums of few elements, where rounding the upstream gradient shows, at several magnitudes."""
        fmt = self.subject.fmt
        known = exponents(fmt)
        bad: dict[str, dict[int, tuple[float, Index, Float64]]] = {}
        # Where terms are wrong one by one, sums of few are wrong for that reason.
        outputs = [o for o in self.whole() if o not in self.inaccurate]
        # No product may overflow, nor a part of it.
        known = known[np.ldexp(1.0, known) <= fmt.max_finite / ROOM]
        largest = np.max([np.abs(s.terms) for s in self.sums.values()], axis=0)
        for exponent in sorted({int(known[0]), int(known[-1]), 0, *known[-2::-3].tolist()}):
            fit = np.flatnonzero(largest <= fmt.max_finite / 4 / 2.0 ** (exponent + 1))
            sides = [fit[self.x[fit] < 0], fit[self.x[fit] > 0]]
            if min(side.size for side in sides) < FEW:
                continue
            for n in (1, 2, FEW):
                if n != FEW and exponent != 0:
                    continue
                index, weight = self.few_of(n, exponent, sides)
                for output, got in self.wrong(index, weight, outputs).items():
                    if self._confirmed(output, n, exponent, sides):
                        bad.setdefault(output, {})[exponent] = got, index, weight
        for output, found in bad.items():
            worst = max(found, key=abs)
            got, index, weight = found[worst]
            sizes = f"2^{min(found)} to 2^{max(found) + 1}"
            where = (
                f"with upstream gradients of {sizes} for few elements of {index.size} and 0 for the others"
            )
            self.fault("ignores_upstream", where, output, got, index, weight)

    def few_of(self, n: int, exponent: int, sides: Sequence[Index]) -> tuple[Index, Float64]:
        """n elements of each sign with upstream gradients of one binade, and 0 for the others."""
        m = math.prod(self.shape(2 * n))
        index = np.resize(
            np.concatenate([self.generator.choice(side, n, replace=False) for side in sides]), m
        )
        weight = np.zeros(m)
        weight[: 2 * n] = random_significands(self.subject.fmt, min(2 * n, m), self.generator)
        return index, np.ldexp(weight, exponent)

    def _confirmed(self, output: str, n: int, exponent: int, sides: Sequence[Index]) -> bool:
        """Whether other elements are off too: what cancels may be lucky once."""
        others = [self.few_of(n, exponent, sides) for _ in range(8)]
        return sum(bool(self.wrong(*given, [output], alone=True)) for given in others) >= 2

    def many(self) -> None:
        """Sums of thousands of elements whose upstream gradients are of many magnitudes, or of one."""
        fmt = self.subject.fmt
        index = self.drawn(4099)
        significand = np.abs(random_significands(fmt, index.size, self.generator))
        known = exponents(fmt)
        # The sum of all must be in range.
        known = known[known <= min(16, math.log2(fmt.max_finite) - 6 - math.log2(index.size))]
        if not known.size:
            return
        mixed = np.ldexp(significand, self.generator.choice(known, index.size))
        for signs in (np.ones(index.size), np.sign(self.x[index])):  # in one of them hardly anything cancels
            self.judged(
                "ignores_upstream",
                f"with upstream gradients of 2^{known[0]} to 2^{known[-1] + 1} for {index.size} elements",
                index, mixed * signs,
            )  # fmt: skip
        one = int(known[-1])
        self.judged(
            "ignores_upstream",
            f"with upstream gradients of 2^{one} to 2^{one + 1} for {index.size} elements",
            index, np.ldexp(significand * np.sign(self.x[index]), one),
        )  # fmt: skip

    def elements(self) -> None:
        """Each term times its upstream gradient, where parameters are as many as there are elements."""
        subject, fmt = self.subject, self.subject.fmt
        outputs = self.whole()
        if not outputs:
            return

        def run(weight: Float64, some: Collection[str] = outputs) -> dict[str, Float64]:
            leaves = dict(subject.leaves)
            names = [o.removeprefix("grad_") for o in some]
            for name in names:
                leaves[name] = leaves[name].detach().expand(subject.shape).clone().requires_grad_()
            y = subject.forward(subject.tensor(), leaves)
            found = subject.backward(
                y, [leaves[name] for name in names], subject.put(weight).reshape(y.shape)
            )
            return {
                o: np.asarray(to_numpy(t.reshape(-1), fmt), np.float64)
                for o, t in zip(some, found, strict=True)
            }

        try:
            plain = run(np.ones(subject.size))
        except KernelError as error:
            subject.leave_out("parameters' gradients element by element", str(error))
            return
        significand = random_significands(fmt, subject.size, self.generator)
        usual = np.isin(subject.x, self.x)
        for output in outputs:
            subject.exact.setdefault(output, subject._reference(output))
        products = [
            Products(subject, o, f"d/d{o.removeprefix('grad_')} of each element", plain[o]) for o in outputs
        ]
        for p in products:
            if (usual & ~p.right).sum() > usual.sum() // LUCKY:
                self.inaccurate.add(p.output)
        for k, weight in enumerate([significand, *spread(fmt, significand, ROUNDS, self.generator)]):
            values = run(weight)
            for p in products:

                def again(p: Products = p, weight: Float64 = weight) -> Float64:
                    return run(weight, [p.output])[p.output]

                judge = p.scaled if k else p.significands
                judge(values[p.output], weight, again)

    def repeated(self) -> None:
        """The same sum has the same bits."""
        index = self.drawn(5003)
        weight = self.subject.fmt.round(self.generator.standard_normal(index.size))
        first = self.gradients(index, weight, list(self.sums))
        others = [self.gradients(index, weight, list(self.sums)) for _ in range(6)]
        for output, value in first.items():
            different = {o[output] for o in others} - {value}
            if different and not math.isnan(value):
                self.subject.fault(
                    "not_deterministic",
                    f"the same sum over {index.size} elements gave {value!r} and {max(different)!r}",
                    output,
                )

    def nonfinite(self) -> None:
        """A NaN or infinite upstream gradient of one element arrives in the sum, where it counts."""
        values = {"a NaN": np.nan, "an infinite": np.inf}
        if not self.subject.fmt.has_infinity:
            del values["an infinite"]
        for pivot, outputs in self.pivots.items():
            index = self.drawn(64)
            place = index.size // 3
            index[place] = pivot
            for name, value in values.items():
                weight = np.ones(index.size)
                weight[place] = value
                wanted = [o for o in outputs if o in self.whole()]
                found = self.gradients(index, weight, wanted) if wanted else {}
                for output in [o for o, got in found.items() if math.isfinite(got)]:
                    got = self.gradients(index, weight, [output])[output]
                    if math.isfinite(got):
                        self.subject.fault(
                            "loses_nonfinite",
                            f"with {name} upstream gradient for element {place} of {index.size}, where "
                            f"x={float(self.x[pivot])!r}, the sum is {got!r}",
                            output,
                        )
