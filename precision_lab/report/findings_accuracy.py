"""Findings about errors: what is safe, what expm1 cures, what the clamp does, where NaN comes from."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from precision_lab.report.rows import label
from precision_lab.report.wording import (
    CERTAINTY,
    REGION_WORDS,
    ROOTS,
    SAFE_ULPS,
    Finding,
    by_key,
    cases,
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
AT_INFINITY = "a wrong limit at infinite x, right for all finite x"


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
    """ "safe": ≤ 1 ulp everywhere; "outside roots": there only; else "unsafe"."""
    rows = list(group)
    if not all(sound_everywhere(m) for m in rows):
        return "unsafe"
    if all(m.max_ulp <= SAFE_ULPS + CERTAINTY for m in rows):
        return "safe"
    if all(worst_outside_roots(m) <= SAFE_ULPS + CERTAINTY for m in rows):
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
            ("unsafe", "nothing stays within 1 ulp on every output"),
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
    reached = next((o for o in ("safe", "outside roots") if o in outcome.values()), "unsafe")
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
        (sum(m.wrong_sign for m in rows), "wrong signs"),
        (sum(m.nonfinite_mismatch for m in rows), "NaN or infinities in the wrong place"),
        (sum(m.undecided for m in rows), "undecided"),
    )
    found = [f"{count:,} {words}" for count, words in counts if count]
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
    rows = [m for m in sound if m.execution == "eager" and m.params_name == "init" and _near_zero(m)]
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
            ranks.append(_cure(p, _bits_near_zero(naive), _bits_near_zero(cure)))
            kept = ", ".join(f"{m.implementation} {_bits_near_zero(m) + 0.0:.1f}" for m in compared)
            details.append(f"{fmt}: of {p:.0f} bits the worst input keeps {kept}")
            cited += compared
        if not details:
            continue
        severity, verdict = CURES[max(ranks)]
        hurt = max(
            (m for m in cited if m.implementation in EXPM1), key=lambda m: precision(m) - _bits_near_zero(m)
        )
        yield Finding(
            "expm1",
            severity,
            f"{function}, {written(output)} just below 0: {verdict}.",
            cases(cited),
            shown(hurt, _near_zero_witness(hurt)),
            tuple(details),
        )


def _cure(precision_bits: float, before: float, after: float) -> int:
    """Index into `CURES` from the bits kept without and with expm1; one lost bit and a half is rounding."""
    if after < precision_bits - 1.5:
        return 2 if after >= before + 1 else 3
    return 0 if before >= precision_bits - 1.5 else 1


def _near_zero(m: Measurement) -> bool:
    return any(name in m.regions for name in NEAR_ZERO)


def _bits_near_zero(m: Measurement) -> float:
    return min(m.regions[name].min_correct_bits for name in NEAR_ZERO if name in m.regions)


def _near_zero_witness(m: Measurement) -> Witness | None:
    parts = [m.regions[name] for name in NEAR_ZERO if name in m.regions]
    return min(parts, key=lambda s: s.min_correct_bits).witness


def eps_clamp(sound: list[Measurement]) -> Iterator[Finding]:
    """Does clamping at −eps turn the gradient's sign, and shift f(0)."""
    clamped = [m for m in sound if m.implementation.startswith("eps-") and m.execution == "eager"]
    for (function,), rows in by_key(clamped, "function").items():
        zone = [m for m in rows if m.output == "grad_x" and "eps_zone" in m.regions]
        flipped = [m for m in zone if m.regions["eps_zone"].wrong_sign]
        if flipped:
            witness = flipped[0].regions["eps_zone"].witness or flipped[0].sign_witness
            yield Finding(
                "eps",
                "fault",
                f"{function}: clamping x at −1e-6 inside the exponential gives d/dx the wrong sign in "
                f"−1e-6 < x < 0 ({listed(label(m) for m in flipped)}).",
                cases(flipped),
                shown(flipped[0], witness),
                tuple(
                    f"{fmt}, {params}: {_most(m.regions['eps_zone'].wrong_sign for m in group)} of "
                    f"{_most(m.regions['eps_zone'].n_inputs for m in group)} inputs"
                    for (fmt, params), group in by_key(flipped, "fmt", "params_name").items()
                ),
            )
        elif zone:
            yield Finding(
                "eps",
                "good",
                f"{function}: clamping x at −1e-6 turns no sign of d/dx in −1e-6 < x < 0.",
                cases(zone),
            )
        jumps = [m for m in rows if m.output == "forward" and m.jump_at_zero > 0]
        if jumps:
            yield Finding(
                "eps",
                "caution",
                f"{function}: clamping x at −1e-6 makes the computed function jump at 0, where the exact one "
                f"is continuous ({listed(label(m) for m in jumps)}).",
                cases(jumps),
                details=tuple(
                    f"{fmt}: by up to {max(m.jump_at_zero for m in group):.2g}"
                    for (fmt,), group in by_key(jumps, "fmt").items()
                ),
            )


def _most(counts: Iterable[int]) -> str:
    found = sorted(set(counts))
    return f"{found[0]:,}" if len(found) == 1 else f"{found[0]:,} to {found[-1]:,}"


def nonfinite(sound: list[Measurement]) -> Iterator[Finding]:
    """NaN from the branch not taken, and overflow before the result does, read off the witnesses.

    FP8 has its own finding: there a missing infinity is a matter of saturation.
    """
    rows = [m for m in sound if m.nonfinite_witness is not None and m.fmt != "e4m3"]
    for (function,), members in by_key(rows, "function").items():
        for kind, group in _kinds(members).items():
            first = min(group, key=lambda m: _size(m.nonfinite_witness))
            names = listed(m.implementation for m in group)
            yield Finding(
                "nonfinite",
                "caution" if kind == AT_INFINITY else "fault",
                f"{function}: {kind} ({listed(written(m.output) for m in group)}), from {names}.",
                cases(group),
                shown(first, first.nonfinite_witness),
                tuple(_onset(fmt, part) for (fmt,), part in by_key(group, "fmt").items()),
            )


def _onset(fmt: str, group: list[Measurement]) -> str:
    """Who fails in one format, on how many inputs, and the input of smallest magnitude."""
    first = min(group, key=lambda m: _size(m.nonfinite_witness))
    names = who((m.implementation, m.execution) for m in group)
    seen = first.nonfinite_witness
    where = f" (nearest to 0: x = {seen.x:.6g}, {written(first.output)}, {first.params_name})" if seen else ""
    return f"{fmt}: {names}, {_most(m.nonfinite_mismatch for m in group)} inputs{where}"


def _kinds(group: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    kinds: dict[str, list[Measurement]] = {}
    for m in group:
        seen = m.nonfinite_witness
        if seen is None:
            continue
        if math.isinf(seen.x):
            kind = AT_INFINITY
        elif math.isnan(seen.computed):
            kind = "NaN for finite x"
        elif math.isinf(seen.computed):
            kind = "infinity where the exact result is finite"
        else:
            kind = "a number where the exact result overflows"
        kinds.setdefault(kind, []).append(m)
    return kinds


def _size(witness: Witness | None) -> float:
    if witness is None or math.isnan(witness.x):
        return math.inf
    return abs(witness.x)


def breaks(sound: list[Measurement]) -> Iterator[Finding]:
    """Where each eager formulation loses most outside the roots."""
    rows = [m for m in sound if m.execution == "eager" and m.params_name == "init"]
    for (function, name), everything in by_key(rows, "function", "implementation").items():
        details: list[str] = []
        cited: list[tuple[float, Measurement, Witness | None]] = []
        for (fmt,), group in by_key(everything, "fmt").items():
            parts = [
                (s.max_ulp, m, region)
                for m in group
                for region, s in m.regions.items()
                if region not in ROOTS and s.max_ulp > SAFE_ULPS + CERTAINTY
            ]
            if not parts:
                continue
            error, m, region = max(parts, key=lambda part: part[0])
            statistics = m.regions[region]
            lost = max(0.0, precision(m) - statistics.min_correct_bits)
            at = f", at x = {statistics.witness.x:.6g}" if statistics.witness else ""
            details.append(
                f"{fmt}: {ulps(error)} in {written(m.output)} {REGION_WORDS.get(region, region)}{at}; "
                f"{lost:.0f} of {precision(m):.0f} bits lost there at worst"
            )
            cited.append((error, m, statistics.witness))
        if not details:
            continue
        error, m, witness = max(cited, key=lambda row: row[0])
        yield Finding(
            "breaks",
            "caution" if error < 16 else "fault",
            f"{function}, {name}: up to {ulps(error)} outside the root regions, at the initial parameters.",
            cases(row[1] for row in cited),
            shown(m, witness),
            tuple(details),
        )
