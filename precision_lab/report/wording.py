"""What a finding is, and the words and groupings all findings share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from precision_lab.results import Failure, Measurement, Witness, replay_command

SEVERITIES = ("fault", "caution", "good", "note")
ROOTS = ("root_forward", "root_gradient")
SAFE_ULPS = 1.0


@dataclass(frozen=True)
class Finding:
    """One sentence, the cases it was read from, and a command that shows its worst input.

    Attributes:
        topic: key of `findings.TOPICS`.
        details: one line per format or formulation, with the figures.
        severity: one of `SEVERITIES`.
        evidence: keys of the rows, as `Measurement.case`, `reduction_case` or `timing_case`.
    """

    topic: str
    severity: str
    sentence: str
    evidence: tuple[str, ...]
    replay: str = ""
    details: tuple[str, ...] = ()


def ulps(value: float) -> str:
    """An error for a sentence: three digits, and a power of two for the hopeless."""
    if value < 1e4:
        return f"{value:.3g} ulp"
    return f"2^{math.log2(value):.0f} ulp" if math.isfinite(value) else "no finite number of ulps"


def by_key(measurements: Iterable[Measurement], *names: str) -> dict[tuple[str, ...], list[Measurement]]:
    """Measurements grouped by the named attributes, in their own order."""
    groups: dict[tuple[str, ...], list[Measurement]] = {}
    for m in measurements:
        groups.setdefault(tuple(str(getattr(m, name)) for name in names), []).append(m)
    return groups


def worst_outside_roots(m: Measurement) -> float:
    """Largest error in ulps outside ±2 % of the roots."""
    return max((s.max_ulp for name, s in m.regions.items() if name not in ROOTS), default=0.0)


def sound_everywhere(m: Measurement) -> bool:
    """No wrong sign, no NaN or infinity in the wrong place, nothing undecided."""
    return not (m.wrong_sign or m.nonfinite_mismatch or m.undecided)


def cases(rows: Iterable[Measurement]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(m.case for m in rows))


def shown(m: Measurement, witness: Witness | None) -> str:
    """The replay command, or nothing where there is no witness."""
    return replay_command(m, witness) if witness is not None else ""


def listed(names: Iterable[str]) -> str:
    """Distinct names joined for a sentence."""
    unique = list(dict.fromkeys(names))
    return "".join(unique) if len(unique) < 2 else ", ".join(unique[:-1]) + " and " + unique[-1]


def counted(count: int, singular: str) -> str:
    """A number and its noun: "1 wrong sign", "12 stray NaN or infinities"."""
    plural = f"{singular[:-1]}ies" if singular.endswith("y") else f"{singular}s"
    return f"{count:,} {singular if count == 1 else plural}"


def who(rows: Iterable[tuple[str, str]]) -> str:
    """(implementation, execution) pairs for a sentence: "naive (eager, upcast) and expm1"."""
    executions: dict[str, list[str]] = {}
    for implementation, execution in rows:
        if execution not in executions.setdefault(implementation, []):
            executions[implementation].append(execution)
    return listed(
        name if found == ["eager"] else f"{name} ({', '.join(found)})" for name, found in executions.items()
    )


def reason(failure: Failure) -> str:
    """What stands in place of the figures that a failed case has not."""
    return f"{failure.kind.replace('_', ' ')}: {failure.message}"


def written(output: str) -> str:
    """An output for a sentence: forward, d/dx, d/dalpha_n, d/d(raw alpha_n)."""
    name = output.removeprefix("grad_")
    if name.startswith("raw_"):
        name = f"(raw {name.removeprefix('raw_')})"
    return output if name == output else f"d/d{name}"


def precision(m: Measurement) -> float:
    return float(m.precision_bits)
