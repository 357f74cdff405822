"""Findings about accuracy: what is certain, what is safe, what expm1 cures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from precision_lab.numeric.certainty import CERTIFIED_ULPS
from precision_lab.report.rows import label
from precision_lab.report.wording import (
    SAFE_ULPS,
    Finding,
    by_key,
    cases,
    counted,
    listed,
    precision,
    shown,
    sound_everywhere,
    ulps,
    who,
    worst_outside_roots,
    written,
)
from precision_lab.results import Measurement, Witness

NEAR_ZERO = ("eps_zone", "near_zero_negative")
# Formulations whose names say which way the exponential is taken; looked for, never assumed.
EXP_MINUS_ONE, EXPM1 = "naive", ("zero-expm1", "expm1", "eps-expm1")
# What replacing exp(x) − 1 by expm1 does, mildest first; a finding over several formats takes the last.
CURES = (
    ("note", "exp(x) − 1 loses nothing there that expm1 would save"),
    ("good", "expm1 is enough"),
    ("caution", "expm1 helps but is not enough"),
    ("fault", "expm1 is not enough"),
)


def certainty(sound: list[Measurement]) -> Iterator[Finding]:
    """Whether every result was decided."""
    if not sound:
        return
    total, undecided = sum(m.n_inputs for m in sound), [m for m in sound if m.undecided]
    if undecided:
        count = sum(m.undecided for m in undecided)
        yield Finding(
            "certainty",
            "fault",
            f"{count:,} of {total:,} results could not be decided by any tier of the oracle; the figures "
            "below leave them out, and the cases that hold them do not count as safe.",
            cases(undecided),
        )
        return
    yield Finding(
        "certainty",
        "good",
        f"All {total:,} results were compared with a reference certified to 2⁻¹⁰ ulp; none stayed undecided.",
        cases(sound[:1]),
    )


def safety(group: Iterable[Measurement]) -> str:
    """ "safe": ≤ 1 ulp everywhere; "outside roots", "finite x": there only; else "unsafe"."""
    rows = list(group)
    if any(m.wrong_sign or m.undecided for m in rows):
        return "unsafe"
    strays = [m.nonfinite_witness for m in rows if m.nonfinite_mismatch]
    if strays:
        # Witnesses are of smallest magnitude: an infinite one means that every finite x is right.
        at_infinity = all(w is not None and math.isinf(w.x) for w in strays)
        right = all(m.max_ulp <= SAFE_ULPS + CERTIFIED_ULPS for m in rows)
        return "finite x" if at_infinity and right else "unsafe"
    if all(m.max_ulp <= SAFE_ULPS + CERTIFIED_ULPS for m in rows):
        return "safe"
    if all(worst_outside_roots(m) <= SAFE_ULPS + CERTIFIED_ULPS for m in rows):
        return "outside roots"
    return "unsafe"


@dataclass(frozen=True)
class _Verdict:
    fmt: str
    outcome: str
    names: tuple[tuple[str, str], ...]  # those that reach it
    words: str
    worst: Measurement
    evidence: tuple[Measurement, ...]


def safest(sound: list[Measurement]) -> Iterator[Finding]:
    """Per function: what keeps every output within one ulp, what comes closest, format by format."""
    for (function,), everything in by_key(sound, "function").items():
        verdicts = [_verdict(fmt, rows) for (fmt,), rows in by_key(everything, "fmt").items()]
        worst = max((v.worst for v in verdicts), key=lambda m: m.max_ulp)
        clauses = []
        for outcome, words in (
            ("safe", "within 1 ulp on every output"),
            ("outside roots", "within 1 ulp on every output except around the roots"),
            ("finite x", "within 1 ulp on every output for finite x, but not at ±inf"),
            ("unsafe", "nothing is safe: within 1 ulp on every output, no wrong sign, no stray NaN"),
        ):
            having = [v for v in verdicts if v.outcome == outcome]
            if not having:
                continue
            formats = listed(v.fmt for v in having)
            # What is safe in every one of these formats; each format's own list is in the details.
            common = list(dict.fromkeys(n for n, _ in having[0].names))
            common = [n for n in common if all(any(n == m for m, _ in v.names) for v in having)]
            if outcome == "unsafe":
                clauses.append(f"in {formats} {words}")
            else:
                subject = listed(common) if common else "a different formulation in each"
                clauses.append(f"in {formats} {subject} {'stay' if len(common) > 1 else 'stays'} {words}")
        yield Finding(
            "safety",
            "good" if all(v.outcome != "unsafe" for v in verdicts) else "caution",
            f"{function}: {'; '.join(clauses)}.",
            cases(m for v in verdicts for m in v.evidence),
            shown(worst, worst.witness),
            tuple(f"{v.fmt}: {v.words}" for v in verdicts),
        )


def _verdict(fmt: str, rows: list[Measurement]) -> _Verdict:
    """What one function's implementations achieve in one format."""
    groups = by_key(rows, "implementation", "execution")
    outcome = {key: safety(group) for key, group in groups.items()}
    best = min(groups, key=lambda k: (not all(map(sound_everywhere, groups[k])), _rank(groups[k])))
    worst = _worst(groups[best])
    reached = next((o for o in ("safe", "outside roots", "finite x") if o in outcome.values()), "unsafe")
    good = [key for key in groups if outcome[key] == reached] if reached != "unsafe" else []
    closest = f"{label(worst)}, worst {ulps(worst.max_ulp)} ({written(worst.output)}, {worst.params_name})"
    if not good:
        flawed = tuple(m for m in groups[best] if not sound_everywhere(m))
        words = f"closest is {closest}{_flaws(groups[best])}"
        return _Verdict(fmt, reached, (), words, worst, (worst, *flawed))
    names = tuple((key[0], key[1]) for key in good)
    words = f"safe: {who(names)}; most accurate: {closest}" if len(groups) > 1 else f"{closest}"
    return _Verdict(fmt, reached, names, words, worst, (*(_worst(groups[k]) for k in good), worst))


def _flaws(rows: list[Measurement]) -> str:
    """What, other than the size of its error, keeps an implementation from being safe."""
    counts = (
        (sum(m.wrong_sign for m in rows), "wrong sign"),
        (sum(m.nonfinite_mismatch for m in rows), "stray NaN or infinity"),
        (sum(m.undecided for m in rows), "undecided result"),
    )
    found = [counted(count, words) for count, words in counts if count]
    if not found:
        return ""
    only_infinite = {m.nonfinite_witness.x for m in rows if m.nonfinite_witness} <= {math.inf, -math.inf}
    where = " (only at infinite x)" if found == found[-1:] and counts[1][0] and only_infinite else ""
    return f"; {listed(found)}{where}"


def _worst(rows: Iterable[Measurement]) -> Measurement:
    return max(rows, key=lambda m: m.max_ulp)


def _rank(group: Iterable[Measurement]) -> tuple[float, float]:
    rows = list(group)
    return max(m.max_ulp for m in rows), sum(m.mean_ulp for m in rows) / len(rows)


def expm1(sound: list[Measurement]) -> Iterator[Finding]:
    """Does expm1 cure the cancellation near 0⁻: in forward, d/dx, and in the gradient by alpha_n."""
    rows = [m for m in sound if m.execution == "eager" and m.params_name == "init" and is_near_zero(m)]
    for (function, output), members in by_key(rows, "function", "output").items():
        if output not in ("forward", "grad_x", "grad_alpha_n"):
            continue
        details: list[str] = []
        cited: list[Measurement] = []
        ranks: list[int] = []
        for (fmt,), group in by_key(members, "fmt").items():
            named = {m.implementation: m for m in group}
            naive, cure = named.get(EXP_MINUS_ONE), next((named[n] for n in EXPM1 if n in named), None)
            if naive is None or cure is None:
                continue
            compared = [m for m in (naive, cure, named.get("stable")) if m is not None]
            p = precision(naive)
            ranks.append(_cure(p, bits_near_zero(naive), bits_near_zero(cure)))
            kept = ", ".join(f"{m.implementation} {bits_near_zero(m) + 0.0:.1f}" for m in compared)
            details.append(f"{fmt}: of {p:.0f} bits the worst input keeps {kept}")
            cited += compared
        if not details:
            continue
        severity, verdict = CURES[max(ranks)]
        hurt = max(
            (m for m in cited if m.implementation in EXPM1), key=lambda m: precision(m) - bits_near_zero(m)
        )
        yield Finding(
            "expm1",
            severity,
            f"{function}, {written(output)} just below 0: {verdict}.",
            cases(cited),
            shown(hurt, near_zero_witness(hurt)),
            tuple(details),
        )


def _cure(precision_bits: float, before: float, after: float) -> int:
    """Index into `CURES` from the bits kept without and with expm1; one lost bit and a half is rounding."""
    if after < precision_bits - 1.5:
        return 2 if after >= before + 1 else 3
    return 0 if before >= precision_bits - 1.5 else 1


def is_near_zero(m: Measurement) -> bool:
    """Whether it has figures of the inputs just below 0, as the next two ask for."""
    return any(name in m.regions for name in NEAR_ZERO)


def bits_near_zero(m: Measurement) -> float:
    """Correct bits of the worst input just below 0."""
    return min(m.regions[name].min_correct_bits for name in NEAR_ZERO if name in m.regions)


def near_zero_witness(m: Measurement) -> Witness | None:
    parts = [m.regions[name] for name in NEAR_ZERO if name in m.regions]
    return min(parts, key=lambda s: s.min_correct_bits).witness
