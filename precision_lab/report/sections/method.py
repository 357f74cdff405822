"""Where and how the figures came about."""

from __future__ import annotations

from precision_lab.report.section import Part, Section, Table, numeric
from precision_lab.report.tables import parameter_sets, tiers
from precision_lab.results import Results

REFERENCE = (
    "The reference is the exact value of the function at the very input and parameter values the "
    "implementation received. It is computed in tiers, each with a proven error bound; an input climbs to "
    "the next only when its error in ulps is not certified to 2⁻¹⁰."
)
ULP = (
    "One ulp is 2^(max(e, e_min) − p + 1), e the exponent of the exact value, p the precision of the "
    "output's format. Formats of 8 and 16 bits are measured on every input; wider ones on a fixed sample of "
    "every binade and on all directed cases (±0, subnormals, edges of binades, ±eps, both roots, overflow "
    "thresholds), so their maxima are what was seen, not a bound."
)
WORDS = (
    "Regions: the eps zone is −1e-6 < x < 0; near 0⁻ is −1/16 ≤ x ≤ −1e-6; a root region is within 2 % of a "
    "negative root of the function or of its x-gradient; the far tail is x < −16. Inputs whose exact result "
    "is subnormal are counted in their own region only. Executions: *eager* rounds every operation to the "
    "storage format, *upcast* computes in FP32 and rounds once, *compiled* is torch.compile, *module* is a "
    "ready-made module, *fp8* stores E4M3 (gradients E5M2) around a wider core."
)
LIMITS = (
    "Limits: one machine and one version of each library; timings on a shared CPU; torch.compile may choose "
    "other instructions on another processor. Accuracy in one format says nothing about training in it."
)
ABOUT = "what everything ran on, and how long it took"


def environment(results: Results) -> Section | None:
    """What everything ran on, and how long it took."""
    rows = list(results.environment.items())
    rows += [(f"time: {name}", f"{value:.1f} s") for name, value in results.seconds.items()]
    return (
        Section("environment", "Environment", [Table(["", ""], rows, narrow=True)], about=ABOUT)
        if rows
        else None
    )


def method(results: Results) -> Section | None:
    """How an error is computed, and what it does not say."""
    if not results.measurements:
        return None
    undecided = sum(m.undecided for m in results.measurements if m.failure is None)
    counted = (
        f"{undecided:,} results stayed undecided and count for nothing."
        if undecided
        else "No result stayed undecided."
    )
    parts: list[Part] = [f"{REFERENCE} {counted}"]
    settled = tiers(results)
    if settled:
        total = sum(settled.values()) or 1
        rows = [
            [name.replace("_", "-"), f"{count:,}", f"{100 * count / total:.4g} %"]
            for name, count in settled.items()
        ]
        parts.append(Table(["settled by", *numeric("results", "share")], rows, narrow=True))
    parts += [ULP, WORDS]
    sets = [
        [function, name, ", ".join(f"{key} = {value:.9g}" for key, value in values.items())]
        for function, named in parameter_sets(results).items()
        for name, values in named.items()
    ]
    if sets:
        parts.append(Table(["", "", ""], sets, folded="Parameter sets"))
    return Section(
        "method",
        "Method and limits",
        [*parts, LIMITS],
        nav="Method",
        about="how an error is computed, and what it does not say",
    )


__all__ = ["environment", "method"]
