"""The plots, as drawings for the page and as SVG files; the same results give the same bytes."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from precision_lab.report.questions import CURE, Question, picture, questions
from precision_lab.report.rows import label
from precision_lab.report.section import Drawn
from precision_lab.report.series import Line, draw_order, lines, style
from precision_lab.report.svg import Curve, Dot, Drawing, Stroke, curves, dots, file_of
from precision_lab.results import Results, Timing
from precision_lab.results.execution import EAGER

HEADLINE = "headline.svg"
TITLES = {"forward": "forward", "grad_x": "d/dx", "grad_alpha_n": "d/dα_n"}
UNITS = ("ns per element", "ratio to SiLU", "ratio to copy")
RC: dict[Any, Any] = {
    "svg.hashsalt": "precision_lab",
    "svg.fonttype": "none",  # text as text
    "font.family": "DejaVu Sans",  # matplotlib's own, so that every machine measures the same glyphs
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a94a0",
    "axes.grid": True,
    "grid.color": "#e3e7ec",
    "axes.axisbelow": True,
    "text.parse_math": False,  # a name with $ in it is no formula
}


def draw(results: Results) -> dict[str, bytes]:
    """File name → contents, for the figures the results allow."""
    found = lines(results)
    lead = results.profile.lead
    names = list(dict.fromkeys((v.function, v.fmt) for v in found if v.function in lead))
    files: dict[str, bytes] = {}
    for function, fmt in names:
        mine = eager([v for v in found if (v.function, v.fmt) == (function, fmt)])
        files[f"bits-{function}-{fmt}.svg"] = _file(f"{function} in {fmt}", bits(mine))
    for direction in dict.fromkeys(t.direction for t in results.timings):
        rows = timed(results.timings, direction)
        rows = [t for t in rows if t.fmt == _middle(rows)]
        if rows and (drawing := times(rows, UNITS[0], lead)):
            files[f"time-{direction}.svg"] = file_of(drawing.title, [drawing])
    for q in questions(results):
        if (drawn := answered(q, found)) is not None:
            files[picture(q)] = _file(q.asks, drawn)
    headline = next((key for key in (*((f, "bf16") for f in lead[:1]), *names) if key in names), None)
    if headline:
        mine = eager([v for v in found if (v.function, v.fmt) == headline])
        title = f"{headline[0]} in {headline[1]}: correct bits of the worst input on the way to 0⁻"
        files[HEADLINE] = _file(title, bits(mine))
    return files


def answered(q: Question, found: Sequence[Line]) -> Drawn | None:
    """The formulation that a question is about, beside the lab's own; None without its lines."""
    mine = [v for v in found if (v.function, v.fmt, v.execution) == (q.function, q.fmt, EAGER.name)]
    mine = [v for v in mine if v.implementation in (q.implementation, CURE)]
    return bits(mine) if any(v.implementation == q.implementation for v in mine) else None


def _file(title: str, drawn: Drawn) -> bytes:
    return file_of(title, drawn.drawings, drawn.legend)


def _middle(rows: Sequence[Timing]) -> str:
    formats = list(dict.fromkeys(t.fmt for t in rows))
    return "bf16" if "bf16" in formats else formats[0] if formats else ""


def eager(found: Sequence[Line]) -> list[Line]:
    """Eager lines, and a module's beside them; a format without eager execution gives its first."""
    plain = [v for v in found if v.execution in ("eager", "module")]
    return plain or [v for v in found if v.execution == found[0].execution]


def bits(found: Sequence[Line]) -> Drawn:
    """Correct bits of the worst input of each binade below zero: a drawing for each output."""
    names = sorted(dict.fromkeys(v.implementation for v in found), key=draw_order)
    strokes = {name: _stroke(name) for name in names}
    outputs = [name for name in TITLES if any(v.output == name for v in found)]
    drawings = []
    for output in outputs:
        mine = sorted((v for v in found if v.output == output), key=lambda v: draw_order(v.implementation))
        exponents = [e for v in mine for e in v.exponents]
        first, last = min(4, max(exponents)), min(exponents)
        v = mine[0]
        drawings.append(
            curves(
                f"{v.function} in {v.fmt}, {TITLES[output]}",
                _told(mine),
                [Curve(strokes[v.implementation], v.exponents, v.bits) for v in mine],
                x=(first, last),
                top=v.precision,
                labels=("log₂|x|, x < 0 (towards 0 →)", "correct bits (worst input)"),
            )
        )
    return Drawn(drawings, [strokes[name] for name in names])


def _stroke(name: str) -> Stroke:
    colour, dash = style(name)
    return Stroke(name, colour, dash, 5 if name == "stable" else 2)


def _told(found: Sequence[Line]) -> str:
    """Where each line is lowest."""
    said = []
    for v in found:
        lowest = min(v.bits)
        exponent = v.exponents[v.bits.index(lowest)]
        said.append(f"{v.implementation} {lowest:.1f} (x near −2^{exponent})")
    return f"Fewest correct bits of {found[0].precision}: {', '.join(said)}."


def timed(found: Iterable[Timing], direction: str) -> list[Timing]:
    return [t for t in found if t.direction == direction and t.failure is None and math.isfinite(t.time_ns)]


def times(rows: Sequence[Timing], unit: str, lead: Sequence[str]) -> Drawing | None:
    """Medians with their quartiles, of one format and direction; the fastest first. None without any."""
    scaled = []
    for t in rows:
        value = dict(zip(UNITS, (t.time_ns, t.ratio_to_silu, t.ratio_to_copy), strict=True))[unit]
        if math.isfinite(value) and value > 0:
            by = value / t.time_ns
            scaled.append(
                Dot(
                    f"{t.function} · {label(t)}", value, t.time_ns_low * by, t.time_ns_high * by,
                    t.function in lead,
                )
            )  # fmt: skip
    if not scaled:
        return None
    scaled.sort(key=lambda dot: dot.value)
    fastest, slowest = scaled[0], scaled[-1]
    told = f"From {fastest.name}, {fastest.value:.3g}, to {slowest.name}, {slowest.value:.3g}."
    title = f"{rows[0].direction} in {rows[0].fmt}, {unit}"
    return dots(title, told, scaled, f"{unit} (median; lines: quartiles)")


def save(figure_: Any) -> bytes:
    """A figure of matplotlib's as SVG, with coordinates to a hundredth of a point."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # A character that the font lacks is drawn as a box: names come from anywhere.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        metadata = {"Date": None, "Creator": None}
        figure_.savefig(buffer, format="svg", metadata=metadata, dpi=160, facecolor="white")
    text = re.sub(
        r' (?:d|transform|x|y|x1|x2|y1|y2|points|width|height)="[^"]*"',
        lambda attribute: re.sub(r"(\d\.\d\d)\d+", r"\1", attribute[0]),
        buffer.getvalue().decode(),
    )
    return text.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif").encode()


__all__ = ["HEADLINE", "RC", "TITLES", "UNITS", "bits", "draw", "eager", "save", "timed", "times"]
