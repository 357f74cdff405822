"""The plots as still SVG files; the same results give the same bytes."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

from precision_lab.report.questions import CURE, picture, questions
from precision_lab.report.series import HeatCell, Line, draw_order, heat, lines, style
from precision_lab.report.tables import figure
from precision_lab.results import Results, Timing
from precision_lab.results.execution import labelled

HEADLINE = "headline.png"
TITLES = {"forward": "forward", "grad_x": "d/dx", "grad_alpha_n": "d/dα_n"}
# As the page's scale: 0.5, 1, 4, 16 and ≥ 256 ulp.
COLOURS = ((0.0, "#58b894"), (0.111, "#a3d9b8"), (0.333, "#f5e1a0"), (0.556, "#f0ae78"), (1.0, "#d96a62"))
DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
RC: dict[Any, Any] = {
    "svg.hashsalt": "precision_lab",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # matplotlib's own, so that every machine draws the same glyphs
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
    import matplotlib

    found = lines(results)
    cells = heat(results)
    lead = results.profile.lead
    names = list(dict.fromkeys((v.function, v.fmt) for v in found if v.function in lead))
    files: dict[str, bytes] = {}
    with matplotlib.rc_context(RC):
        for function, fmt in names:
            mine = _eager([v for v in found if (v.function, v.fmt) == (function, fmt)])
            if mine:
                files[f"bits-{function}-{fmt}.svg"] = save(_bits(mine, f"{function} in {fmt}"))
        for q in questions(results):
            mine = _eager([v for v in found if (v.function, v.fmt) == (q.function, q.fmt)])
            mine = [v for v in mine if v.implementation in (q.implementation, CURE)]
            if any(v.implementation == q.implementation for v in mine):
                files[picture(q)] = save(_bits(mine, f"{q.function} in {q.fmt}: {q.implementation}"))
        for name, part in (
            ("map", [c for c in cells if c.function in lead]),
            ("map-others", [c for c in cells if c.function not in lead]),
        ):
            if part:
                files[f"{name}.svg"] = save(_map(part))
        for direction in dict.fromkeys(t.direction for t in results.timings):
            rows = [t for t in results.timings if t.direction == direction and t.failure is None]
            rows = [t for t in rows if t.fmt == _middle(rows) and math.isfinite(t.time_ns)]
            if rows:
                files[f"time-{direction}.svg"] = save(_times(rows, lead))
        headline = next((key for key in (*((f, "bf16") for f in lead[:1]), *names) if key in names), None)
        if headline:
            mine = _eager([v for v in found if (v.function, v.fmt) == headline])
            drawn = _bits(
                mine, f"{headline[0]} in {headline[1]}: correct bits of the worst input on the way to 0⁻"
            )
            files[HEADLINE] = save(drawn, "png")
    return files


def _middle(rows: list[Timing]) -> str:
    formats = list(dict.fromkeys(t.fmt for t in rows))
    return "bf16" if "bf16" in formats else formats[0] if formats else ""


def _eager(found: list[Line]) -> list[Line]:
    """Eager lines, and a module's beside them; a format without eager execution gives its first."""
    plain = [v for v in found if v.execution in ("eager", "module")]
    return plain or [v for v in found if v.execution == found[0].execution]


def save(figure_: Any, kind: str = "svg") -> bytes:
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with warnings.catch_warnings():
        # A character that the font lacks is drawn as a box: names come from anywhere.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure_.savefig(buffer, format=kind, metadata=metadata, dpi=160, facecolor="white")
    return buffer.getvalue()


def _canvas(width: float, height: float, columns: int = 1) -> Any:
    """A figure that needs no display, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    drawn = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(drawn)
    return drawn, drawn.subplots(1, columns, squeeze=False)[0]


def _bits(found: list[Line], title: str) -> Any:
    outputs = [name for name in TITLES if any(v.output == name for v in found)]
    drawn, axes = _canvas(3.5 * len(outputs) + 0.4, 3.6, len(outputs))
    for ax, output in zip(axes, outputs, strict=True):
        mine = [v for v in found if v.output == output]
        for v in sorted(mine, key=lambda v: draw_order(v.implementation)):
            colour, dash = style(v.implementation)
            width = 4.5 if v.implementation == "stable" else 1.6
            ax.plot(
                v.exponents,
                v.bits,
                color=colour,
                linestyle=DASHES[dash],
                linewidth=width,
                label=v.implementation,
            )
        p = mine[0].precision
        ax.set_xlim(min(4, max(max(v.exponents) for v in mine)), min(min(v.exponents) for v in mine))
        ax.set_ylim(-0.02 * p, 1.06 * p)
        ax.set_title(TITLES[output], loc="left", fontsize=10)
        ax.set_xlabel("log₂|x|, x < 0 (towards 0 →)")
    axes[0].set_ylabel("correct bits (worst input)")
    named: dict[str, Any] = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        named |= {name: handle for name, handle in zip(labels, handles, strict=True) if name not in named}
    drawn.legend(
        named.values(), named.keys(), loc="outside lower center", ncols=min(8, len(named)), frameon=False
    )
    drawn.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    return drawn


def _map(cells: Iterable[HeatCell]) -> Any:
    """Implementation × format and execution, worst output outside the root regions."""
    from matplotlib.colors import LinearSegmentedColormap

    worst: dict[tuple[tuple[str, str], tuple[str, str]], HeatCell] = {}
    flags: dict[tuple[tuple[str, str], tuple[str, str]], str] = {}
    for c in cells:
        key = ((c.function, c.implementation), (c.fmt, c.execution))
        flags[key] = "".join(f for f in "±∞" if f in flags.get(key, "") + c.flags)
        if key not in worst or c.outside_roots > worst[key].outside_roots:
            worst[key] = c
    rows = list(dict.fromkeys(row for row, _ in worst))
    formats = list(dict.fromkeys(column[0] for _, column in worst))
    columns = sorted(
        dict.fromkeys(column for _, column in worst), key=lambda c: (formats.index(c[0]), c[1] != "eager")
    )
    drawn, (ax,) = _canvas(2.6 + 0.85 * len(columns), 1.3 + 0.27 * len(rows))
    grid = [[math.nan] * len(columns) for _ in rows]
    for (row, column), c in worst.items():
        i, j = rows.index(row), columns.index(column)
        value = c.outside_roots
        grid[i][j] = min(8.0, math.log2(max(value, 0.5))) if math.isfinite(value) else 8.0
        short = figure(value) if value >= 10 else f"{value:.1f}"
        ax.text(
            j,
            i,
            f"{short} {flags[row, column]}".strip(),
            ha="center",
            va="center",
            fontsize=7,
            color="#14202b",
        )
    ramp = LinearSegmentedColormap.from_list("ulp", COLOURS)
    ax.imshow(grid, aspect="auto", cmap=ramp, vmin=-1, vmax=8)
    ax.set_yticks(range(len(rows)), [" · ".join(row) for row in rows], fontsize=8)
    words = ["\n".join((fmt, *execution.split(", "))) for fmt, execution in columns]
    ax.set_xticks(range(len(columns)), words, fontsize=7)
    ax.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, length=0)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return drawn


def _times(rows: list[Timing], lead: Sequence[str]) -> Any:
    ordered = sorted(rows, key=lambda t: -t.time_ns)
    drawn, (ax,) = _canvas(8.2, 0.9 + 0.19 * len(ordered))
    names = [f"{t.function} · {labelled(t.implementation, t.execution)}" for t in ordered]
    low = [max(0.0, t.time_ns - t.time_ns_low) for t in ordered]
    high = [max(0.0, t.time_ns_high - t.time_ns) for t in ordered]
    colours = ["#2f74d0" if t.function in lead else "#9aa6b5" for t in ordered]
    ax.barh(
        names,
        [t.time_ns for t in ordered],
        xerr=[low, high],
        color=colours,
        height=0.7,
        ecolor="#1c2430",
        capsize=2,
    )
    ax.tick_params(axis="y", labelsize=7, length=0)
    ax.grid(False, axis="y")
    ax.set_ylim(-0.7, len(ordered) - 0.3)
    ax.set_xlabel(f"ns per element, {ordered[0].direction}, {ordered[0].fmt} (median; whiskers: quartiles)")
    return drawn
