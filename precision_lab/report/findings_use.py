"""Findings about use: modules, FP8 storage, executions, summed gradients, time, and what failed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

from precision_lab.numeric.certainty import CERTIFIED_ULPS
from precision_lab.report.rows import label, reduction_case, timing_case
from precision_lab.report.wording import (
    SAFE_ULPS,
    Finding,
    by_key,
    cases,
    counted,
    listed,
    shown,
    ulps,
    worst_outside_roots,
    written,
)
from precision_lab.results import Measurement, Reduction, Results, Timing
from precision_lab.results.profile import Shown


def modules(sound: list[Measurement]) -> Iterator[Finding]:
    """A module as its users run it: worst output per format."""
    rows = [m for m in sound if m.execution == "module"]
    for (name,), everything in by_key(rows, "implementation").items():
        details: list[str] = []
        cited: list[Measurement] = []
        for (fmt,), group in by_key(everything, "fmt").items():
            worst = max(group, key=worst_outside_roots)
            flagged = [m for m in group if m.wrong_sign or m.nonfinite_mismatch]
            flaws = [
                counted(count, words)
                for count, words in (
                    (sum(m.wrong_sign for m in group), "wrong sign"),
                    (sum(m.nonfinite_mismatch for m in group), "stray NaN or infinity"),
                )
                if count
            ]
            details.append(
                f"{fmt}: worst {ulps(worst_outside_roots(worst))} outside the roots ({written(worst.output)}"
                f", {worst.params_name}); {listed(flaws) if flaws else 'no wrong sign, no stray NaN'}"
            )
            cited += [worst, *flagged]
        hurt = max(cited, key=worst_outside_roots)
        clean = worst_outside_roots(hurt) <= SAFE_ULPS + CERTIFIED_ULPS
        clean &= not any(m.wrong_sign or m.nonfinite_mismatch for m in cited)
        verdict = "stays within 1 ulp outside the roots" if clean else "does not keep 1 ulp outside the roots"
        if not clean and worst_outside_roots(hurt) <= SAFE_ULPS + CERTIFIED_ULPS:
            verdict = "keeps 1 ulp outside the roots, but has wrong signs, NaN or infinities"
        yield Finding(
            "module",
            "good" if clean else "caution",
            f"{name}, as its users run it (raw parameters in the model's dtype), {verdict}.",
            cases(cited),
            shown(hurt, hurt.witness),
            tuple(details),
        )


def fp8(sound: list[Measurement]) -> Iterator[Finding]:
    """FP8 storage: what saturation changes, and what the core's dtype does."""
    rows = [m for m in sound if m.fmt == "e4m3" and m.execution.startswith("fp8")]
    for (function,), group in by_key(rows, "function").items():
        executions = by_key(group, "execution")
        cited = [max(part, key=worst_outside_roots) for part in executions.values()]
        details = []
        for (execution,), part in executions.items():
            best = min(
                by_key(part, "implementation").values(), key=lambda rows: max(map(worst_outside_roots, rows))
            )
            worst, best_worst = max(map(worst_outside_roots, part)), max(map(worst_outside_roots, best))
            stray = [m for m in part if m.nonfinite_mismatch]
            cited += [*stray, max(best, key=worst_outside_roots)]
            counted = (
                f"{sum(m.nonfinite_mismatch for m in stray):,} from {listed(m.implementation for m in stray)}"
            )
            details.append(
                f"{execution}: {ulps(best_worst)} with {best[0].implementation}, {ulps(worst)} with the worst"
                f"; NaN or infinities in the wrong place: {counted if stray else 'none'}"
            )
        stray = [m for m in group if m.nonfinite_mismatch]
        apart = sorted({m.execution for m in stray})
        verdict = (
            f"NaN or infinities appear in the wrong place with {listed(apart)}"
            if stray
            else ("no NaN or infinity in the wrong place, saturating or not")
        )
        hurt = max(cited, key=worst_outside_roots)
        yield Finding(
            "fp8",
            "caution" if stray else "good",
            f"{function} stored in E4M3 with gradients in E5M2: {verdict}.",
            cases(cited),
            shown(stray[0], stray[0].nonfinite_witness) if stray else shown(hurt, hurt.witness),
            tuple(details),
        )


def executions(sound: list[Measurement]) -> Iterator[Finding]:
    """Upcast against eager, compiled against eager: the same kernel, the same inputs."""
    for other, words in (("upcast", "Computing in FP32 inside"), ("compiled", "torch.compile")):
        by_format: dict[str, list[tuple[Measurement, Measurement]]] = {}
        for group in by_key(sound, "function", "implementation", "fmt", "output", "params_name").values():
            named = {m.execution: m for m in group}
            if "eager" in named and other in named:
                by_format.setdefault(named["eager"].fmt, []).append((named["eager"], named[other]))
        if not by_format:
            continue
        details: list[str] = []
        cited: list[Measurement] = []
        hurt: Measurement | None = None
        better = worse = total = 0
        for fmt, pairs in by_format.items():
            less = [p for p in pairs if worst_outside_roots(p[1]) < worst_outside_roots(p[0]) * 0.9]
            more = [p for p in pairs if worst_outside_roots(p[1]) > worst_outside_roots(p[0]) * 1.1]
            better, worse, total = better + len(less), worse + len(more), total + len(pairs)
            line = f"{fmt}: worst error lower in {len(less)}, higher in {len(more)} of {len(pairs)} cases"
            for chosen, kind in ((less, "most gained"), (more, "most lost")):
                if chosen:
                    a, b = max(chosen, key=lambda p: abs(_gain(*p)))
                    line += (
                        f"; {kind}: {a.function} {a.implementation}, {written(a.output)}, {a.params_name}, "
                        f"from {ulps(worst_outside_roots(a))} to {ulps(worst_outside_roots(b))}"
                    )
                    cited += [a, b]
                    hurt = b if kind == "most lost" else hurt
            cited += pairs[0]
            details.append(line)
        if not better and not worse:
            verdict = f"changes no worst error outside the roots by more than a tenth ({total} cases)"
        else:
            verdict = (
                f"lowers the worst error outside the roots by more than a tenth in {better} of {total} cases "
                f"and raises it in {worse}"
            )
        yield Finding(
            "executions",
            "caution" if worse else "good" if better else "note",
            f"{words} {verdict}.",
            cases(cited),
            shown(hurt, hurt.witness) if hurt else "",
            tuple(details),
        )


def _gain(a: Measurement, b: Measurement) -> float:
    """Bits of worst error between two executions; an error of 0 or infinity is beyond all others."""
    before, after = worst_outside_roots(a), worst_outside_roots(b)
    if not (0 < before < math.inf and 0 < after < math.inf):
        return math.inf
    return math.log2(before / after)


def reductions(results: Iterable[Reduction]) -> Iterator[Finding]:
    """The parameter gradient an optimiser receives: summed over a tensor."""
    functions: dict[str, list[Reduction]] = {}
    for r in results:
        if r.failure is None:
            functions.setdefault(r.function, []).append(r)
    for function, members in functions.items():
        lost = [r for r in members if not math.isfinite(r.computed)]
        if lost:
            yield Finding(
                "reductions",
                "fault",
                f"{function}: {listed(label(r) for r in lost)} {'give' if len(lost) > 1 else 'gives'} a "
                f"summed parameter gradient that is not finite, in {listed(r.fmt for r in lost)}.",
                tuple(dict.fromkeys(reduction_case(r) for r in lost)),
            )
        finite = [r for r in members if math.isfinite(r.computed) and math.isfinite(r.relative_error)]
        # β is fixed in xIELU and xIPReLU; its gradient leads the finding only where it is trained.
        learned = [r for r in finite if r.output != "grad_beta" or "beta" in function] or finite
        if not finite:
            continue
        details, cited = [], []
        for output in dict.fromkeys(r.output for r in finite):
            clauses = []
            for fmt in dict.fromkeys(r.fmt for r in finite if r.output == output):
                summed = [r for r in finite if (r.fmt, r.output) == (fmt, output)]
                worst = max(summed, key=lambda r: r.relative_error)
                best = min((r for r in summed if r.data == worst.data), key=_exactness)
                against = "" if best is worst else f"; {label(best)} {_percent(best)}"
                condition = f"condition of the sum {worst.condition:.3g}"
                clauses.append(f"{fmt} {_percent(worst)} ({label(worst)}{against}; {condition})")
                cited += [worst, best]
            details.append(f"{written(output)}: {', '.join(clauses)}")
        worst = max(learned, key=lambda r: r.relative_error)
        yield Finding(
            "reductions",
            "caution" if worst.relative_error > 2.0**-8 else "good",
            f"{function}: summed over {worst.n:,} elements, a trained parameter's gradient is off by up to "
            f"{_percent(worst)} ({written(worst.output)} in {worst.fmt}, {label(worst)}).",
            tuple(dict.fromkeys(map(reduction_case, cited))),
            details=tuple(details),
        )


def _exactness(r: Reduction) -> tuple[float, bool]:
    """Smallest error first; the lab's own before its equals, since it is the one recommended."""
    return r.relative_error, r.implementation != "stable"


def _percent(r: Reduction) -> str:
    return f"{100 * r.relative_error:.2g} %"


def timings(results: Iterable[Timing], shown: Shown) -> Iterator[Finding]:
    """The order of speed that the profile names, of the paper's Table 1, beside the order measured here."""
    known, source = shown.speed_order, shown.speed_source
    rows = [t for t in results if t.failure is None and t.function in known and t.execution == "eager"]
    for direction in dict.fromkeys(t.direction for t in rows):
        details: list[str] = []
        cited: list[Timing] = []
        against: dict[str, list[str]] = {}
        paper: list[str] = []
        for fmt in dict.fromkeys(t.fmt for t in rows):
            members = [t for t in rows if (t.fmt, t.direction) == (fmt, direction)]
            fastest = {
                name: min((t for t in members if t.function == name), key=lambda t: t.time_ns)
                for name in known
                if any(t.function == name for t in members)
            }
            if len(fastest) < 2:
                continue
            paper = [name for name in known if name in fastest]
            order = sorted(fastest.values(), key=lambda t: t.time_ns)
            for a, b in itertools.pairwise(paper):
                if fastest[a].time_ns_low > fastest[b].time_ns_high:
                    against.setdefault(f"{b} before {a}", []).append(fmt)
            listing = " < ".join(f"{t.function} {t.time_ns:.2f}" for t in order)
            details.append(f"{fmt}: {listing} ns per element")
            cited += order
        if not details:
            continue
        claim = " ≤ ".join(paper)
        verdict = (
            f"differs from {source} ({claim}) beyond the quartiles: "
            f"{listed(f'{pair} ({listed(fmts)})' for pair, fmts in against.items())}"
            if against
            else f"agrees with {source} ({claim}) within the quartiles"
        )
        yield Finding(
            "timings",
            "note",
            f"Speed, {direction}, eager on this machine, each function's fastest formulation: "
            f"the order {verdict}.",
            tuple(map(timing_case, cited)),
            details=tuple(details),
        )


def _brief(message: str) -> str:
    """The first line of a kernel's message, at most 160 characters of it."""
    line = message.strip().split("\n", 1)[0].rstrip(".")
    return line if len(line) <= 160 else f"{line[:160].rsplit(' ', 1)[0]} …"


def failures(results: Results) -> Iterator[Finding]:
    """Cases that gave no figures, by what went wrong."""
    rows_of_all: tuple[tuple[Measurement | Reduction | Timing, str, str], ...] = (
        *((m, m.case, "measured") for m in results.measurements),
        *((r, reduction_case(r), "summed") for r in results.reductions),
        *((t, timing_case(t), "timed") for t in results.timings),
    )
    failed: dict[tuple[str, str, str], list[tuple[Measurement | Reduction | Timing, str]]] = {}
    for row, key, done in rows_of_all:
        if row.failure is not None:
            reason = (row.failure.kind, _brief(row.failure.message), done)
            failed.setdefault(reason, []).append((row, key))
    for (kind, message, done), rows in failed.items():
        names = listed(f"{row.function} {label(row)}" for row, _ in rows)
        formats = listed(row.fmt for row, _ in rows)
        yield Finding(
            "failures",
            # Parameters out of a module's reach are a limit of its definition, and a lost GPU is another
            # kernel's doing: no fault of its arithmetic.
            "note" if kind in ("not_finite_parameters", "device_lost") else "fault",
            f"{names} could not be {done} in {formats} ({counted(len(rows), 'case')}), "
            f"{kind.replace('_', ' ')}: {message}.",
            tuple(key for _, key in rows),
        )
