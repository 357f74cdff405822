"""Findings in plain words, each derived from rows of the results and naming them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from precision_lab.report.replay import label, reduction_case, replay, timing_case
from precision_lab.results import Measurement, Results, Timing, Witness

SEVERITIES = ("fault", "caution", "good", "note")
ROOTS = ("root_forward", "root_gradient")
NEAR_ZERO = ("eps_zone", "near_zero_negative")
# Formulations whose names say which way the exponential is taken; looked for, never assumed.
EXP_MINUS_ONE, EXPM1 = "naive", ("zero-expm1", "expm1", "eps-expm1")
# The paper's Table 1, fastest first.
PAPER_ORDER = ("relu2", "silu", "xiprelu", "gelu", "xielu")
SAFE_ULPS = 1.0
# The oracle certifies an error to 2^-10 ulp; a measured 1.0005 is not evidence against "≤ 1".
CERTAINTY = 2.0**-10

REGION_WORDS = {
    "special": "at inf or NaN",
    "zero": "at ±0",
    "subnormal_input": "for subnormal inputs",
    "subnormal_result": "where the result is subnormal",
    "eps_zone": "for −1e-6 < x < 0",
    "near_zero_negative": "just below 0 (−1/16 ≤ x ≤ −1e-6)",
    "root_forward": "within 2 % of the negative root of the function",
    "root_gradient": "within 2 % of the root of the gradient",
    "far_tail": "for x < −16",
    "rest_negative": "on the rest of the negative side",
    "positive": "for x > 0",
}


@dataclass(frozen=True)
class Finding:
    """One sentence, the cases it was read from, and a command that shows its worst input.

    Attributes:
        severity: one of `SEVERITIES`.
        evidence: keys of the rows, as `Measurement.case`, `reduction_case` or `timing_case`.
    """

    topic: str
    severity: str
    sentence: str
    evidence: tuple[str, ...]
    replay: str = ""


def derive(results: Results) -> tuple[Finding, ...]:
    """Every finding the numbers support, in the order a reader should meet them."""
    sound = [m for m in results.measurements if m.failure is None]
    topics: tuple[Callable[[], Iterable[Finding]], ...] = (
        lambda: _certainty(results.measurements),
        lambda: _safety(sound),
        lambda: _expm1(sound),
        lambda: _eps(sound),
        lambda: _nonfinite(sound),
        lambda: _breaks(sound),
        lambda: _module(sound),
        lambda: _fp8(sound),
        lambda: _executions(sound),
        lambda: _reductions(results),
        lambda: _timings(results.timings),
        lambda: _failures(results),
    )
    return tuple(finding for topic in topics for finding in topic())


def ulps(value: float) -> str:
    """An error for a sentence: three digits, and a power of two for the hopeless."""
    if value < 1e4:
        return f"{value:.3g} ulp"
    return f"2^{math.log2(value):.0f} ulp" if math.isfinite(value) else "no finite number of ulps"


def by_key(
    measurements: Iterable[Measurement], *names: str
) -> dict[tuple[str, ...], list[Measurement]]:
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


def safety(group: Iterable[Measurement]) -> str:
    """"safe": ≤ 1 ulp everywhere; "outside roots": there only; else "unsafe"."""
    rows = list(group)
    if not all(sound_everywhere(m) for m in rows):
        return "unsafe"
    if all(m.max_ulp <= SAFE_ULPS + CERTAINTY for m in rows):
        return "safe"
    if all(worst_outside_roots(m) <= SAFE_ULPS + CERTAINTY for m in rows):
        return "outside roots"
    return "unsafe"


def _cases(rows: Iterable[Measurement]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(m.case for m in rows))


def _worst(rows: Iterable[Measurement]) -> Measurement:
    return max(rows, key=lambda m: m.max_ulp)


def _shown(m: Measurement, witness: Witness | None) -> str:
    return replay(m, witness) if witness is not None else ""


def _listed(names: Iterable[str]) -> str:
    unique = list(dict.fromkeys(names))
    return unique[0] if len(unique) == 1 else ", ".join(unique[:-1]) + " and " + unique[-1]


def _gradients(m: Measurement) -> bool:
    return m.output.startswith("grad_")


def _certainty(measurements: Iterable[Measurement]) -> Iterator[Finding]:
    rows = [m for m in measurements if m.failure is None]
    if not rows:
        return
    total, undecided = sum(m.n_inputs for m in rows), [m for m in rows if m.undecided]
    if undecided:
        count = sum(m.undecided for m in undecided)
        yield Finding(
            "certainty",
            "fault",
            f"{count:,} of {total:,} results could not be decided by any tier of the oracle; the figures below "
            "leave them out, and the cases that hold them do not count as safe.",
            _cases(undecided),
        )
        return
    yield Finding(
        "certainty",
        "note",
        f"All {total:,} results were compared with a reference certified to 2⁻¹⁰ ulp; none stayed undecided.",
        _cases(rows[:1]),
    )


def _safety(sound: list[Measurement]) -> Iterator[Finding]:
    """Per function and format: which implementation keeps every output within one ulp, which is closest."""
    for (function, fmt), rows in by_key(sound, "function", "fmt").items():
        groups = {k: v for k, v in by_key(rows, "implementation", "execution").items()}
        names = {key: label(group[0]) for key, group in groups.items()}
        outcome = {key: safety(group) for key, group in groups.items()}
        best = min(groups, key=lambda k: (not all(map(sound_everywhere, groups[k])), _rank(groups[k])))
        safe = [key for key in groups if outcome[key] == "safe"]
        outside = [key for key in groups if outcome[key] == "outside roots"]
        n_outputs = len({m.output for m in groups[best]})
        scope = f"{function} in {fmt}"
        worst = _worst(groups[best])
        most = f"{names[best]} is the most accurate (worst {ulps(worst.max_ulp)} over {n_outputs} outputs)"
        alone = len(groups) == 1
        if safe:
            who = names[best] if alone else _listed(names[k] for k in safe)
            sentence = f"{scope}: {who} stay{'s' if len(safe) == 1 else ''} within 1 ulp everywhere, every output"
            sentence += f" (worst {ulps(worst.max_ulp)})." if alone else f"; {most}."
            evidence = [_worst(groups[k]) for k in safe] + [worst]
            yield Finding("safety", "good", sentence, _cases(evidence), _shown(worst, worst.witness))
        elif outside:
            who = _listed(names[k] for k in outside)
            sentence = f"{scope}: {who} stay{'s' if len(outside) == 1 else ''} within 1 ulp except around the roots; "
            evidence = [_worst(groups[k]) for k in outside] + [worst]
            sentence += f"{most}."
            yield Finding("safety", "good", sentence, _cases(evidence), _shown(worst, worst.witness))
        else:
            clean = all(map(sound_everywhere, groups[best]))
            flaw = "" if clean else ", and it has wrong signs, NaN or infinities in the wrong place"
            what = f"{names[best]} does not stay" if alone else "no implementation stays"
            sentence = f"{scope}: {what} within 1 ulp on every output; "
            sentence += f"its worst is {ulps(worst.max_ulp)}{flaw}." if alone else f"{most}{flaw}."
            yield Finding("safety", "caution", sentence, _cases([worst]), _shown(worst, worst.witness))


def _rank(group: Iterable[Measurement]) -> tuple[float, float]:
    rows = list(group)
    return max(m.max_ulp for m in rows), sum(m.mean_ulp for m in rows) / len(rows)


def _expm1(sound: list[Measurement]) -> Iterator[Finding]:
    """Does expm1 cure the cancellation near 0⁻: in forward, and in the gradient by alpha_n."""
    rows = [m for m in sound if m.execution == "eager" and m.params_name == "init" and _near_zero(m)]
    for (function, fmt, output), group in by_key(rows, "function", "fmt", "output").items():
        if output not in ("forward", "grad_x", "grad_alpha_n"):
            continue
        named = {m.implementation: m for m in group}
        naive, expm1 = named.get(EXP_MINUS_ONE), next((named[n] for n in EXPM1 if n in named), None)
        if naive is None or expm1 is None:
            continue
        p = _precision(naive)
        kept = {m.implementation: _bits_near_zero(m) for m in (naive, expm1)}
        before, after = kept[naive.implementation], kept[expm1.implementation]
        cited, stable = [naive, expm1], named.get("stable")
        best = ""
        if stable is not None:
            cited.append(stable)
            best = f"; stable keeps {_bits_near_zero(stable):.1f}"
        if before >= p - 1:
            what, severity = "exp(x) − 1 loses nothing that expm1 would save", "note"
        elif after >= p - 1:
            what, severity = "expm1 is enough", "good"
        elif after >= before + 1:
            what, severity = "expm1 helps but is not enough", "caution"
        else:
            what, severity = "expm1 is not enough", "fault"
        named_output = output if output == "forward" else f"d/d{output.removeprefix('grad_')}"
        yield Finding(
            "expm1",
            severity,
            f"{function} {named_output} just below 0 in {fmt}: {what}. Of {p:.0f} bits the worst input keeps "
            f"{before:.1f} with {naive.implementation} and {after:.1f} with {expm1.implementation}{best}.",
            _cases(cited),
            _shown(expm1, _near_zero_witness(expm1)),
        )


def _near_zero(m: Measurement) -> bool:
    return any(name in m.regions for name in NEAR_ZERO)


def _bits_near_zero(m: Measurement) -> float:
    return min(m.regions[name].min_correct_bits for name in NEAR_ZERO if name in m.regions)


def _near_zero_witness(m: Measurement) -> Witness | None:
    parts = [m.regions[name] for name in NEAR_ZERO if name in m.regions]
    return min(parts, key=lambda s: s.min_correct_bits).witness


def _precision(m: Measurement) -> float:
    from precision_lab.formats import get_format

    return float(get_format(m.output_fmt).precision)


def _eps(sound: list[Measurement]) -> Iterator[Finding]:
    """Does clamping at −eps turn the gradient's sign, and shift f(0)."""
    clamped = [m for m in sound if m.implementation.startswith("eps-") and m.execution == "eager"]
    for (function, fmt), group in by_key(clamped, "function", "fmt").items():
        gradients = [m for m in group if m.output == "grad_x"]
        zone = [m for m in gradients if "eps_zone" in m.regions]
        flipped = [m for m in zone if m.regions["eps_zone"].wrong_sign]
        if flipped:
            count = sum(m.regions["eps_zone"].wrong_sign for m in flipped)
            total = sum(m.regions["eps_zone"].n_inputs for m in flipped)
            shown = flipped[0].regions["eps_zone"].witness or flipped[0].sign_witness
            yield Finding(
                "eps",
                "fault",
                f"{function} in {fmt}: clamping x at −1e-6 gives d/dx the wrong sign for {count:,} of {total:,} "
                f"inputs in −1e-6 < x < 0 ({_listed(label(m) for m in flipped)}).",
                _cases(flipped),
                _shown(flipped[0], shown),
            )
        elif zone:
            yield Finding(
                "eps",
                "good",
                f"{function} in {fmt}: clamping x at −1e-6 turns no gradient's sign in −1e-6 < x < 0.",
                _cases(zone),
            )
        jumps = [m for m in group if m.output == "forward" and m.jump_at_zero > 0]
        if jumps:
            largest = max(jumps, key=lambda m: m.jump_at_zero)
            yield Finding(
                "eps",
                "caution",
                f"{function} in {fmt}: clamping x at −1e-6 makes the computed function jump by "
                f"{largest.jump_at_zero:.2g} at 0, where the exact one is continuous.",
                _cases(jumps),
            )


def _nonfinite(sound: list[Measurement]) -> Iterator[Finding]:
    """NaN for large x from the branch not taken; early overflow; both read off the witnesses."""
    rows = [m for m in sound if m.nonfinite_mismatch and m.nonfinite_witness is not None]
    for (function, fmt, output), group in by_key(rows, "function", "fmt", "output").items():
        for kind, members in _kinds(group).items():
            first = min(members, key=lambda m: _size(m.nonfinite_witness))
            seen = first.nonfinite_witness
            assert seen is not None  # filtered above
            n = max(m.nonfinite_mismatch for m in members)
            yield Finding(
                "nonfinite",
                "fault",
                f"{function} {output} in {fmt}: {_listed(label(m) for m in members)} {kind}, first at "
                f"x = {seen.x:.6g} (exact {_short(seen.exact)}), for up to {n:,} of {first.n_inputs:,} inputs.",
                _cases(members),
                replay(first, seen),
            )


def _kinds(group: Iterable[Measurement]) -> dict[str, list[Measurement]]:
    kinds: dict[str, list[Measurement]] = {}
    for m in group:
        seen = m.nonfinite_witness
        if seen is None:
            continue
        if math.isnan(seen.computed):
            kind = "returns NaN"
        elif math.isinf(seen.computed):
            kind = "overflows too early"
        else:
            kind = "returns a number where the result is not finite"
        kinds.setdefault(kind, []).append(m)
    return kinds


def _size(witness: Witness | None) -> float:
    if witness is None or math.isnan(witness.x):
        return math.inf
    return abs(witness.x)


def _short(exact: str) -> str:
    try:
        return f"{float(exact):.6g}"
    except ValueError:
        return exact


def _breaks(sound: list[Measurement]) -> Iterator[Finding]:
    """Where each formulation of a function loses most outside the roots, one sentence per formulation and format."""
    rows = [m for m in sound if m.execution == "eager" and m.params_name == "init"]
    for (function, fmt, name), group in by_key(rows, "function", "fmt", "implementation").items():
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
        lost = max(0.0, _precision(m) - statistics.min_correct_bits)
        at = f", worst at x = {statistics.witness.x:.6g}" if statistics.witness else ""
        yield Finding(
            "breaks",
            "caution" if error < 16 else "fault",
            f"{function} in {fmt}: {name} is worst {REGION_WORDS.get(region, region)}: {ulps(error)} in "
            f"{m.output}, {lost:.1f} of {_precision(m):.0f} bits lost{at}.",
            _cases([m]),
            _shown(m, statistics.witness),
        )


def _module(sound: list[Measurement]) -> Iterator[Finding]:
    """A module as its users run it: worst output per format."""
    rows = [m for m in sound if m.execution == "module"]
    for (name, fmt), group in by_key(rows, "implementation", "fmt").items():
        worst = max(group, key=worst_outside_roots)
        wrong, bad = sum(m.wrong_sign for m in group), sum(m.nonfinite_mismatch for m in group)
        flaws = [
            f"{count:,} {words}"
            for count, words in ((wrong, "wrong signs"), (bad, "wrong infinities or NaN"))
            if count
        ]
        flagged = [m for m in group if m.wrong_sign or m.nonfinite_mismatch]
        tail = f"; over all outputs and parameter sets {_listed(flaws)}" if flaws else "; no wrong sign, no stray NaN"
        shown = worst.witness or worst.sign_witness or worst.nonfinite_witness
        yield Finding(
            "module",
            "caution" if flaws or worst_outside_roots(worst) > SAFE_ULPS + CERTAINTY else "good",
            f"{name}, as its users run it in {fmt}: worst {ulps(worst_outside_roots(worst))} outside the roots "
            f"(in {worst.output}, {worst.params_name}){tail}.",
            _cases([worst, *flagged]),
            _shown(worst, shown),
        )


def _fp8(sound: list[Measurement]) -> Iterator[Finding]:
    """FP8 storage: what saturation changes."""
    rows = [m for m in sound if m.fmt == "e4m3"]
    for (function, name), group in by_key(rows, "function", "implementation").items():
        plain = [m for m in group if m.execution == "fp8-fp32"]
        clamped = [m for m in group if m.execution == "fp8-fp32, saturating"]
        if not plain or not clamped:
            continue
        lost, kept = (sum(m.nonfinite_mismatch for m in part) for part in (plain, clamped))
        worst, other = _worst(plain), _worst(clamped)
        yield Finding(
            "fp8",
            "caution" if lost or kept else "note",
            f"{function} {name} stored in E4M3 (gradients E5M2) around an FP32 core: worst {ulps(worst.max_ulp)} and "
            f"{lost:,} infinities or NaN in the wrong place without saturation, {ulps(other.max_ulp)} and {kept:,} "
            "with it.",
            _cases([worst, other, *(m for m in plain + clamped if m.nonfinite_mismatch)]),
            _shown(worst, worst.witness),
        )


def _executions(sound: list[Measurement]) -> Iterator[Finding]:
    """Upcast against eager, compiled against eager: the same kernel, the same inputs."""
    for other, words in (("upcast", "computing in FP32 inside"), ("compiled", "torch.compile")):
        by_format: dict[str, list[tuple[Measurement, Measurement]]] = {}
        for group in by_key(sound, "function", "implementation", "fmt", "output", "params_name").values():
            named = {m.execution: m for m in group}
            if "eager" in named and other in named:
                by_format.setdefault(named["eager"].fmt, []).append((named["eager"], named[other]))
        for fmt, pairs in by_format.items():
            better = [p for p in pairs if worst_outside_roots(p[1]) < worst_outside_roots(p[0]) * 0.9]
            worse = [p for p in pairs if worst_outside_roots(p[1]) > worst_outside_roots(p[0]) * 1.1]
            if not better and not worse:
                yield Finding(
                    "executions",
                    "note",
                    f"{fmt}: {words} changes the worst error by less than a tenth in all {len(pairs)} cases.",
                    _cases(pairs[0]),
                )
                continue
            gain = [math.log2(worst_outside_roots(a) / worst_outside_roots(b)) for a, b in better if _both(a, b)]
            cited = max(worse or better, key=lambda p: abs(_ratio(*p)))
            example = (
                f" Largest change for the worse: {cited[0].function} {cited[0].output}, {cited[0].implementation}, "
                f"from {ulps(worst_outside_roots(cited[0]))} to {ulps(worst_outside_roots(cited[1]))}."
                if worse
                else ""
            )
            middle = sorted(gain)[len(gain) // 2] if gain else 0.0
            typical = f" (typically by {middle:.1f} bits)" if gain else ""
            yield Finding(
                "executions",
                "caution" if worse else "good",
                f"{fmt}: {words} lowers the worst error outside the roots in {len(better)} of {len(pairs)} cases"
                f"{typical}, raises it in {len(worse)}.{example}",
                _cases([*cited, *(m for pair in (better[:1] + worse[:1]) for m in pair)]),
                _shown(cited[1], cited[1].witness),
            )


def _both(a: Measurement, b: Measurement) -> bool:
    return 0 < worst_outside_roots(a) < math.inf and 0 < worst_outside_roots(b) < math.inf


def _ratio(a: Measurement, b: Measurement) -> float:
    return math.log2(worst_outside_roots(b) / worst_outside_roots(a)) if _both(a, b) else 0.0


def _reductions(results: Results) -> Iterator[Finding]:
    """The parameter gradient an optimiser receives: summed over a tensor."""
    rows = [r for r in results.reductions if r.failure is None]
    groups: dict[tuple[str, str], list[int]] = {}
    for i, r in enumerate(rows):
        groups.setdefault((r.function, r.fmt), []).append(i)
    for (function, fmt), members in groups.items():
        finite = [rows[i] for i in members if math.isfinite(rows[i].relative_error)]
        lost = [rows[i] for i in members if not math.isfinite(rows[i].computed)]
        if lost:
            yield Finding(
                "reductions",
                "fault",
                f"{function} in {fmt}: {_listed(label(r) for r in lost)} give{'s' if len(lost) == 1 else ''} a "
                f"parameter gradient that is not finite.",
                tuple(dict.fromkeys(reduction_case(r) for r in lost)),
            )
        if not finite:
            continue
        worst = max(finite, key=lambda r: r.relative_error)
        best = min(
            (r for r in finite if (r.output, r.data) == (worst.output, worst.data)), key=lambda r: r.relative_error
        )
        yield Finding(
            "reductions",
            "caution" if worst.relative_error > 2.0**-8 else "note",
            f"{function} in {fmt}: summed over {worst.n:,} elements, {worst.output} is off by "
            f"{_percent(worst.relative_error)} with {label(worst)} (the sum's condition number is "
            f"{worst.condition:.3g})" + ("." if best is worst else f", by {_percent(best.relative_error)} with {label(best)}."),
            tuple(dict.fromkeys((reduction_case(worst), reduction_case(best)))),
        )


def _percent(relative: float) -> str:
    return f"{100 * relative:.3g} %"


def _timings(timings: Iterable[Timing]) -> Iterator[Finding]:
    """The paper's order of Table 1 beside the order measured here."""
    rows = [t for t in timings if t.failure is None and t.function in PAPER_ORDER and t.execution == "eager"]
    groups: dict[tuple[str, str], list[Timing]] = {}
    for t in rows:
        groups.setdefault((t.fmt, t.direction), []).append(t)
    for (fmt, direction), members in groups.items():
        fastest = {
            name: min((t for t in members if t.function == name), key=lambda t: t.time_ns)
            for name in PAPER_ORDER
            if any(t.function == name for t in members)
        }
        if len(fastest) < 2:
            continue
        paper = [name for name in PAPER_ORDER if name in fastest]
        measured = sorted(fastest, key=lambda name: fastest[name].time_ns)
        broken = [
            (a, b)
            for a, b in zip(paper, paper[1:], strict=False)
            if fastest[a].time_ns_low > fastest[b].time_ns_high
        ]
        order = " < ".join(f"{name} {fastest[name].time_ns:.2f}" for name in measured)
        if broken:
            against = "; ".join(f"{b} was faster than {a} beyond the spread" for a, b in broken)
            sentence = f"differs from the paper's Table 1 ({' ≤ '.join(paper)}): {against}"
        else:
            sentence = f"does not contradict the paper's Table 1 ({' ≤ '.join(paper)})"
        yield Finding(
            "timings",
            "note",
            f"The order of speed, {direction} in {fmt}, eager on this machine, {sentence}. ns per element, each "
            f"function's fastest formulation: {order}.",
            tuple(timing_case(t) for t in fastest.values()),
        )


def _failures(results: Results) -> Iterator[Finding]:
    """Cases that gave no figures, by what went wrong."""
    failed: dict[tuple[str, str, str], list[str]] = {}
    for m in results.measurements:
        if m.failure is not None:
            key = (f"{m.function} {label(m)} in {m.fmt}", m.failure.kind, m.failure.message)
            failed.setdefault(key, []).append(m.case)
    for r in results.reductions:
        if r.failure is not None:
            key = (f"{r.function} {label(r)} in {r.fmt}, summed", r.failure.kind, r.failure.message)
            failed.setdefault(key, []).append(reduction_case(r))
    for t in results.timings:
        if t.failure is not None:
            key = (f"{t.function} {label(t)} in {t.fmt}, timed", t.failure.kind, t.failure.message)
            failed.setdefault(key, []).append(timing_case(t))
    for (who, kind, message), cases in failed.items():
        yield Finding(
            "failures",
            "fault",
            f"{who} gave no figures for {len(cases)} case{'s' if len(cases) > 1 else ''} "
            f"({kind.replace('_', ' ')}): {message}",
            tuple(cases),
        )
