"""What the plots and the map show, as plain records."""

from __future__ import annotations

from dataclasses import dataclass

from precision_lab.report.wording import by_key, worst_outside_roots, written
from precision_lab.results import Measurement, Results

# One colour and dash per formulation everywhere; ordered, chosen to stay apart on white and on black.
STYLES = {
    "stable": ("#0f9d76", "solid"),
    "naive": ("#d9480f", "solid"),
    "expm1": ("#2f74d0", "dash"),
    "eps-naive": ("#e8a20c", "dot"),
    "eps-expm1": ("#9b5de5", "dashdot"),
    "zero-expm1": ("#1098ad", "solid"),
    "autograd-function": ("#8d6e63", "dash"),
    "transformers": ("#d6336c", "dashdot"),
    "as-printed": ("#d9480f", "solid"),
    "factored": ("#2f74d0", "dash"),
    "torch": ("#5c7cfa", "solid"),
    "composed": ("#5c7cfa", "solid"),
}
OTHER_STYLE = ("#868e96", "solid")
PLOTTED_OUTPUTS = ("forward", "grad_x", "grad_alpha_n")


def style(implementation: str) -> tuple[str, str]:
    """Colour and dash of a formulation."""
    return STYLES.get(implementation, OTHER_STYLE)


def draw_order(implementation: str) -> tuple[bool, int]:
    """Lowest first: a wide line for the lab's own, then full lines, then ever more broken ones.

    Formulations often coincide; this way each stays visible over the one it equals.
    """
    return implementation != "stable", ("solid", "dash", "dashdot", "dot").index(style(implementation)[1])


@dataclass(frozen=True)
class Line:
    """Worst correct bits per binade of negative x, nearest to zero last."""

    function: str
    fmt: str
    execution: str
    output: str
    implementation: str
    precision: int
    exponents: tuple[int, ...]
    bits: tuple[float, ...]


def lines(results: Results) -> tuple[Line, ...]:
    """One line per implementation that stored binades, for the outputs the report draws."""
    found = []
    for m in results.measurements:
        if m.params_name != "init" or m.output not in PLOTTED_OUTPUTS or not m.binades:
            continue
        steps = sorted((b for b in m.binades if b.sign < 0), key=lambda b: b.exponent)
        found.append(
            Line(
                m.function,
                m.fmt,
                m.execution,
                m.output,
                m.implementation,
                m.precision_bits,
                tuple(b.exponent for b in steps),
                tuple(round(b.statistics.min_correct_bits + 0.0, 2) for b in steps),
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class HeatCell:
    """Worst over all parameter sets of one implementation's output in one format."""

    function: str
    implementation: str
    fmt: str
    execution: str
    output: str
    everywhere: float
    outside_roots: float
    flags: str
    text: str


def heat(results: Results) -> tuple[HeatCell, ...]:
    sound = [m for m in results.measurements if m.failure is None]
    cells = []
    for key, group in by_key(sound, "function", "implementation", "fmt", "execution", "output").items():
        worst = max(group, key=lambda m: m.max_ulp)
        flags = ("±" if any(m.wrong_sign for m in group) else "") + (
            "∞" if any(m.nonfinite_mismatch for m in group) else ""
        )
        function, implementation, fmt, execution, output = key
        cells.append(
            HeatCell(
                function,
                implementation,
                fmt,
                execution,
                output,
                worst.max_ulp,
                max(worst_outside_roots(m) for m in group),
                flags,
                _hover(worst, group),
            )
        )
    return tuple(cells)


def _hover(worst: Measurement, group: list[Measurement]) -> str:
    counts = (
        (sum(m.wrong_sign for m in group), "wrong signs"),
        (sum(m.nonfinite_mismatch for m in group), "NaN or infinities in the wrong place"),
    )
    parts = [f"{written(worst.output)}, {worst.params_name}"]
    if worst.witness:
        parts.append(f"at x = {worst.witness.x:.6g} ({worst.witness.bits})")
    return "; ".join(parts + [f"{count:,} {words}" for count, words in counts if count])
