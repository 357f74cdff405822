"""Which formulation to use for each function and format, at what cost, and what breaks with the others."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from precision_lab.numeric.certainty import CERTIFIED_ULPS
from precision_lab.report.findings_accuracy import NEAR_ZERO, safety
from precision_lab.report.tables import figure
from precision_lab.report.wording import ROOTS, SAFE_ULPS, by_key, counted, worst_outside_roots, written
from precision_lab.results import Measurement, Results, Statistics, Timing
from precision_lab.results.cost import Cost as Counted
from precision_lab.results.execution import labelled

# From `safety`, the best first.
GRADES = ("safe", "outside roots", "finite x", "unsafe")
GRADE_WORDS = {
    "safe": "yes",
    "outside roots": "outside the roots",
    "finite x": "for finite x",
    "unsafe": "no",
}
RULE = (
    "Use what keeps every output within 1 ulp at every parameter set, without a wrong sign and without a NaN "
    "or infinity in the wrong place: of several the fastest that was timed, then the most accurate. Where "
    "nothing keeps 1 ulp, it is what comes closest, and the row says how it fails."
)
# In which a formulation is met first: what a user writes before anybody optimises it.
PLAIN = ("eager", "module", "operator", "triton", "cuda", "te")
DIRECTIONS = ("forward", "backward")
# At most three words each; see `breakage`.
PLACES = {
    "special": "at infinite x",
    "zero": "at ±0",
    "subnormal_input": "for subnormal x",
    "subnormal_result": "for subnormal results",
    "eps_zone": "just below 0",
    "near_zero_negative": "just below 0",
    "root_forward": "around a root",
    "root_gradient": "around a root",
    "edge": "around an edge",
    "far_tail": "for x < −16",
    "rest_negative": "for negative x",
    "positive": "for positive x",
}


@dataclass(frozen=True)
class Cost:
    """Time of one execution as a factor, forward and backward; NaN where that was not timed.

    Attributes:
        how: the execution that was timed; or the GPU in whose code instructions were counted.
        silu: of torch's SiLU in the same format and run. naive: of the baseline formulation, run plainly.
    """

    how: str
    silu: tuple[float, float]
    naive: tuple[float, float]


@dataclass(frozen=True)
class Recommendation:
    """What to use for a function in a format.

    Attributes:
        implementation, executions: it, and where it is as good as this, the recommended one first.
        grade: one of `GRADES`.
        forward, gradients: largest error in ulps over all parameter sets; NaN where there are none.
        output: the gradient that is off by the most, as `written`.
        broken: what breaks with it, in at most six words; "" where it is safe.
        baseline: the formulation that costs are compared with; "" for none.
        costs: of those of the executions that were timed, in their order, then as counted for emulated GPUs.
        others: what breaks with each of the other formulations, in at most six words.
    """

    function: str
    fmt: str
    implementation: str
    executions: tuple[str, ...]
    grade: str
    forward: float
    gradients: float
    output: str
    broken: str
    baseline: str
    costs: tuple[Cost, ...]
    others: Mapping[str, str]

    @property
    def label(self) -> str:
        return labelled(self.implementation, self.executions[0])


@dataclass(frozen=True)
class _Formulation:
    """What one formulation achieves in its executions."""

    name: str
    rows: Mapping[str, Sequence[Measurement]]  # by execution
    grades: Mapping[str, str]
    costs: Mapping[str, Cost]  # of what was timed

    @property
    def grade(self) -> str:
        return min(self.grades.values(), key=GRADES.index)

    @property
    def best(self) -> tuple[str, ...]:
        """Executions of the best grade, plain ones first, then the most accurate."""
        names = [name for name, grade in self.grades.items() if grade == self.grade]
        return tuple(sorted(names, key=lambda name: (name not in PLAIN, _error(self.rows[name]))))

    @property
    def plain(self) -> str:
        """The execution in which people meet it first."""
        return min(self.rows, key=lambda name: PLAIN.index(name) if name in PLAIN else len(PLAIN))

    @property
    def time(self) -> float:
        """That of its first good execution, both directions, as a factor of SiLU's; infinite if not timed."""
        cost = self.costs.get(self.best[0])
        both = math.inf if cost is None else sum(cost.silu)
        return both if math.isfinite(both) else math.inf

    def preference(self) -> tuple[int, float, tuple[float, float]]:
        """Least for what is to be used: by grade, then time, then error."""
        # What is not safe is chosen by its error alone: nobody wants the fastest of the wrong ones.
        time = self.time if self.grade != "unsafe" else 0.0
        return GRADES.index(self.grade), time, _error(self.rows[self.best[0]])


def recommendations(results: Results) -> tuple[Recommendation, ...]:
    """One for each function and format that was measured, the profile's leading functions first."""
    sound = [m for m in results.measurements if m.failure is None and m.n_inputs]
    lead = results.profile.lead
    found = [_recommended(results, *key, rows) for key, rows in _by_case(sound).items()]
    return tuple(sorted(found, key=lambda c: lead.index(c.function) if c.function in lead else len(lead)))


def _by_case(rows: Iterable[Measurement]) -> dict[tuple[str, str], list[Measurement]]:
    return {(key[0], key[1]): group for key, group in by_key(rows, "function", "fmt").items()}


def _recommended(results: Results, function: str, fmt: str, rows: Sequence[Measurement]) -> Recommendation:
    baseline = _baseline(results, function)
    timings = [t for t in results.timings if (t.function, t.fmt) == (function, fmt) and t.failure is None]
    formulations = []
    for (name,), members in by_key(rows, "implementation").items():
        executions = {key[0]: group for key, group in by_key(members, "execution").items()}
        grades = {execution: safety(group) for execution, group in executions.items()}
        formulations.append(_Formulation(name, executions, grades, _costs(timings, name, baseline)))
    used = min(formulations, key=_Formulation.preference)
    best = used.rows[used.best[0]]
    slopes = [m for m in best if m.output != "forward"]
    steepest = max(slopes, key=lambda m: m.max_ulp, default=None)
    others = {f.name: _verdict(f, used) for f in formulations if f is not used}
    return Recommendation(
        function,
        fmt,
        used.name,
        used.best,
        used.grade,
        max((m.max_ulp for m in best if m.output == "forward"), default=math.nan),
        math.nan if steepest is None else steepest.max_ulp,
        "" if steepest is None else written(steepest.output),
        "" if used.grade == "safe" else breakage(best),
        baseline if baseline != used.name else "",
        (
            *(used.costs[e] for e in used.best if e in used.costs),
            *_counted(results.costs, function, fmt, used.name, baseline),
        ),
        others,
    )


def _baseline(results: Results, function: str) -> str:
    """The formulation people start from: `naive`, or the first one that was measured."""
    names = list(dict.fromkeys(m.implementation for m in results.measurements if m.function == function))
    return "naive" if "naive" in names else names[0]


def _costs(timings: Sequence[Timing], name: str, baseline: str) -> dict[str, Cost]:
    """By execution, of those of a formulation that were timed."""
    base: dict[str, Timing] = {}
    for execution in reversed(PLAIN):
        base |= {t.direction: t for t in timings if (t.implementation, t.execution) == (baseline, execution)}
    found: dict[str, dict[str, Timing]] = {}
    for t in timings:
        if t.implementation == name:
            found.setdefault(t.execution, {})[t.direction] = t
    costs = {}
    for execution, own in found.items():
        silu = [own[d].ratio_to_silu if d in own else math.nan for d in DIRECTIONS]
        naive = [own[d].time_ns / base[d].time_ns if d in own and d in base else math.nan for d in DIRECTIONS]
        costs[execution] = Cost(execution, (silu[0], silu[1]), (naive[0], naive[1]))
    return costs


def _counted(costs: Sequence[Counted], function: str, fmt: str, name: str, baseline: str) -> Iterator[Cost]:
    """Instructions of one element, as factors, for each emulated GPU; kernels written for it come first."""

    def of(function: str, device: str, *names: str) -> tuple[float, float]:
        found = [c for c in costs if (c.function, c.fmt, c.device) == (function, fmt, device)]
        found = [c for c in found if not names or c.implementation in names]
        found.sort(key=lambda c: PLAIN.index(c.execution) if c.execution in PLAIN else len(PLAIN))
        most = {d.direction: d.most for c in found[:1] for d in c.directions if not d.failure}
        return most.get("forward", math.nan), most.get("backward", math.nan)

    for device in dict.fromkeys(c.device for c in costs):
        own, silu, naive = of(function, device, name), of("silu", device), of(function, device, baseline)
        if math.isfinite(own[0]):
            yield Cost(
                f"{device} code",
                (own[0] / silu[0], own[1] / silu[1]),
                (own[0] / naive[0], own[1] / naive[1]),
            )


def _verdict(other: _Formulation, used: _Formulation) -> str:
    """What speaks against another formulation, in at most six words."""
    if used.grade != "unsafe" and GRADES.index(other.grade) <= GRADES.index(used.grade):
        if other.best[0] not in PLAIN and other.plain in PLAIN:
            return f"as good, but only {other.best[0]}"
        factor = other.time / used.time if math.isfinite(other.time) and used.time else math.nan
        return f"as good, {factor:.2g}× the time" if math.isfinite(factor) else "as good, not timed"
    return breakage(other.rows[other.plain])


def breakage(rows: Sequence[Measurement]) -> str:
    """The worst that happens to a formulation in one execution, in at most six words.

    Wrong signs come first, then NaN and infinities at finite x, undecided results, errors above 1 ulp, NaN
    and infinities at infinite x. Around a root any program in working precision may err: what happens there
    comes last. "" where nothing of this happens.
    """
    signs = max(rows, key=_wrong_signs)
    if _wrong_signs(signs):
        return f"{written(signs.output)}: wrong sign, {counted(_wrong_signs(signs), 'input')}"
    strays = [m for m in rows if m.nonfinite_mismatch]
    finite = [m for m in strays if m.nonfinite_witness is None or math.isfinite(m.nonfinite_witness.x)]
    if finite:
        worst = max(finite, key=lambda m: m.nonfinite_mismatch)
        return f"{written(worst.output)}: {_kind(worst)}, {counted(worst.nonfinite_mismatch, 'input')}"
    unknown = max(rows, key=lambda m: m.undecided)
    if unknown.undecided:
        return f"{written(unknown.output)}: {counted(unknown.undecided, 'input')} undecided"
    far = max(rows, key=worst_outside_roots)
    if worst_outside_roots(far) > SAFE_ULPS + CERTIFIED_ULPS:
        return _off(far, {name: s for name, s in far.regions.items() if name not in ROOTS})
    if strays:
        worst = max(strays, key=lambda m: m.nonfinite_mismatch)
        return f"{written(worst.output)}: {_kind(worst)} at ±inf"
    signs = max(rows, key=lambda m: m.wrong_sign)
    if signs.wrong_sign:
        return f"{written(signs.output)}: wrong sign {PLACES['root_forward']}"
    near = max(rows, key=lambda m: m.max_ulp)
    return _off(near, near.regions) if near.max_ulp > SAFE_ULPS + CERTIFIED_ULPS else ""


def _wrong_signs(m: Measurement) -> int:
    """Those outside the roots."""
    return sum(s.wrong_sign for name, s in m.regions.items() if name not in ROOTS)


def _off(m: Measurement, regions: Mapping[str, Statistics]) -> str:
    """By how much, and where."""
    name = max(regions, key=lambda name: regions[name].max_ulp)
    worst = regions[name]
    if worst.min_correct_bits <= 0 and name in NEAR_ZERO:
        return f"{written(m.output)}: no bit right below 0"
    place = PLACES.get(name, f"in {name.replace('_', '-')}")
    return f"{written(m.output)}: {figure(worst.max_ulp)} ulp {place}"


def _kind(m: Measurement) -> str:
    computed = m.nonfinite_witness.computed if m.nonfinite_witness is not None else math.nan
    return "NaN" if math.isnan(computed) else "infinity" if math.isinf(computed) else "finite, not infinite"


def _error(rows: Iterable[Measurement]) -> tuple[float, float]:
    found = list(rows)
    return max(m.max_ulp for m in found), sum(m.mean_ulp for m in found) / len(found)


__all__ = ["GRADES", "GRADE_WORDS", "RULE", "Cost", "Recommendation", "breakage", "recommendations"]
