"""Findings about torch.compile for a GPU: which formulation survives the compiler that trains with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from precision_lab.report.findings_accuracy import safety
from precision_lab.report.wording import Finding, counted, listed, shown, ulps, written
from precision_lab.results import Measurement, Results
from precision_lab.results.execution import COMPILED, EAGER, MODULE

_EAGER = (EAGER.name, MODULE.name)
OUTCOMES = {
    "safe": "within 1 ulp on every output",
    "outside roots": "within 1 ulp on every output except around the roots",
    "finite x": "within 1 ulp on every output for finite x, but not at ±inf",
}


@dataclass(frozen=True)
class Way:
    """A way to run a formulation, as a column has it."""

    title: str
    on_gpu: bool
    compiled: bool
    casts: bool = False

    def holds(self, m: Measurement) -> bool:
        """Whether a measurement was of this way."""
        name, _, settings = m.execution.partition(" ")
        if self.on_gpu != (m.device != "cpu") or bool(settings) != self.casts:
            return False
        return name == COMPILED.name if self.compiled else name in _EAGER


CPU_EAGER = Way("eager, CPU", on_gpu=False, compiled=False)
CPU_COMPILED = Way("compiled, CPU", on_gpu=False, compiled=True)
GPU_COMPILED = Way("compiled, GPU", on_gpu=True, compiled=True)
GPU_CASTS = Way("with casts, GPU", on_gpu=True, compiled=True, casts=True)
WAYS = (CPU_EAGER, CPU_COMPILED, GPU_COMPILED, GPU_CASTS)

Cases = dict[tuple[str, str], dict[Way, list[Measurement]]]  # of one function, by formulation and format


def side_by_side(results: Results) -> dict[tuple[str, str, str], dict[Way, list[Measurement]]]:
    """Measurements at initial parameters by (function, formulation, format), then by the way they were run.

    Only what was also compiled for a GPU.
    """
    found: dict[tuple[str, str, str], dict[Way, list[Measurement]]] = {}
    for m in (*results.emulated, *results.measurements):
        way = next((way for way in WAYS if way.holds(m)), None)
        key = m.function, m.implementation, m.fmt
        if way is None or m.params_name != "init" or (not way.on_gpu and key not in found):
            continue
        found.setdefault(key, {}).setdefault(way, []).append(m)
    return found


def survivors(results: Results) -> Iterator[Finding]:
    """Per function: which formulations are accurate as compiled for a GPU, and which the CPU flatters."""
    by_function: dict[str, Cases] = {}
    for (function, name, fmt), ways in side_by_side(results).items():
        by_function.setdefault(function, {})[name, fmt] = ways
    for function, cases in by_function.items():
        yield from _of(function, cases)


def _of(function: str, cases: Cases) -> Iterator[Finding]:
    outcomes = {key: _outcome(ways.get(GPU_COMPILED, ())) for key, ways in cases.items()}
    formats = list(dict.fromkeys(fmt for _, fmt in cases))
    rows = [m for ways in cases.values() for m in ways.get(GPU_COMPILED, ()) if m.failure is None]
    if not rows:
        return
    clauses, good = [], True
    for outcome, words in OUTCOMES.items():
        names = {fmt: [n for n, f in cases if f == fmt and outcomes[n, f] == outcome] for fmt in formats}
        for group in by_names(names):
            clauses.append(f"{listed(names[group[0]])} in {listed(group)} {words}")
    if lost := [fmt for fmt in formats if not any(outcomes[n, f] in OUTCOMES for n, f in cases if f == fmt)]:
        clauses.append(f"nothing in {listed(lost)}")
        good = False
    worst = max(rows, key=lambda m: m.max_ulp)
    yield Finding(
        "compiled",
        "good" if good else "fault",
        f"{function}, compiled for {worst.device}: {'; '.join(clauses)}.",
        tuple(f"compiled/{function}/{name}/{fmt}" for name, fmt in cases),
        shown(worst, worst.witness),
        tuple(_line(fmt, cases) for fmt in formats),
    )
    flattered = [
        (name, fmt) for (name, fmt), ways in cases.items()
        if _outcome(ways.get(CPU_COMPILED, ())) in OUTCOMES and outcomes[name, fmt] == "unsafe"
    ]  # fmt: skip
    if flattered:
        told = listed(f"{name} in {fmt}" for name, fmt in flattered)
        yield Finding(
            "compiled",
            "caution",
            f"{function}, accurate as compiled for the CPU and not as compiled for {worst.device}, so that a "
            f"test on the CPU passes it: {told}.",
            tuple(f"compiled/{function}/{name}/{fmt}" for name, fmt in flattered),
        )


def by_names(names: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Formats that have the same names, together; those without any are left out."""
    found: dict[tuple[str, ...], list[str]] = {}
    for fmt, having in names.items():
        if having:
            found.setdefault(tuple(having), []).append(fmt)
    return list(found.values())


def _outcome(rows: Sequence[Measurement]) -> str:
    """As `safety`; "" where nothing, or not everything, was measured."""
    if not rows or any(m.failure is not None for m in rows):
        return ""
    return safety(rows)


def _line(fmt: str, cases: Cases) -> str:
    """Each formulation's worst error as compiled for the GPU, the best first."""
    found = []
    for (name, own), ways in cases.items():
        rows = [m for m in ways.get(GPU_COMPILED, ()) if m.failure is None]
        if own != fmt or not rows:
            continue
        worst = max(rows, key=lambda m: m.max_ulp)
        flaws = [
            counted(count, words)
            for count, words in (
                (sum(m.wrong_sign for m in rows), "wrong sign"),
                (sum(m.nonfinite_mismatch for m in rows), "stray NaN or infinity"),
            )
            if count
        ]
        words = ", ".join([f"{name} {ulps(worst.max_ulp)} ({written(worst.output)})", *flaws])
        found.append((worst.max_ulp, words))
    return f"{fmt}: {'; '.join(words for _, words in sorted(found))}"


__all__ = ["GPU_CASTS", "GPU_COMPILED", "WAYS", "Way", "side_by_side", "survivors"]
