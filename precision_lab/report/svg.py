"""Pictures in SVG: curves and dots, with their text as text, on the page or in a file of their own.

On the page colours follow its scheme; a file has a white ground, for whoever shows it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

DASHES = {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "8 3 2 3"}
FONT = "font:11px 'DejaVu Sans',Verdana,sans-serif"
# What the page's style sheet says of these classes, for a file that stands alone.
STYLE = (
    f"svg{{{FONT};color:#1c2430}}text{{fill:currentColor}}.grid{{stroke:#e3e7ec}}.axis{{stroke:#8a94a0}}"
    ".bar{fill:#8792a2}.lead{fill:#2f74d0}.head{font-weight:600}"
)
GROUND = '<rect width="100%" height="100%" fill="#fff"/>'
CHARACTER = 6.9  # units; the widest that a character of the font is on average, at 11 px


@dataclass(frozen=True)
class Stroke:
    """How a line looks, and its name in a legend."""

    name: str
    colour: str
    dash: str = "solid"
    width: float = 2

    def attributes(self) -> str:
        dash = f' stroke-dasharray="{DASHES[self.dash]}"' if DASHES[self.dash] else ""
        return f'fill="none" stroke="{self.colour}" stroke-width="{_n(self.width)}"{dash}'


@dataclass(frozen=True)
class Drawing:
    """One picture in units of its own.

    Attributes:
        title: what it is of; `told`: what is seen in it, for who does not see it.
        body: SVG elements, from (0, 0) to (width, height).
        attributes: more of them for the `<svg>`.
    """

    title: str
    told: str
    width: float
    height: float
    body: str
    attributes: str = ""

    def inline(self) -> str:
        """As an element of a page."""
        return (
            f'<svg viewBox="0 0 {_n(self.width)} {_n(self.height)}" role="img" '
            f'aria-label="{escape(self.title)}"{self.attributes}>'
            f"<title>{escape(self.title)}</title><desc>{escape(self.told)}</desc>{self.body}</svg>"
        )


def file_of(title: str, drawings: Sequence[Drawing], legend: Iterable[Stroke] = ()) -> bytes:
    """Drawings side by side under a title and above a legend, as a file."""
    width = max(math.fsum(d.width for d in drawings), 320)
    height = max(d.height for d in drawings) + 24
    parts = [f'<text x="8" y="17" class="head">{escape(title)}</text>']
    x = 0.0
    for drawing in drawings:
        parts.append(f'<g transform="translate({_n(x)} 24)">{drawing.body}</g>')
        x += drawing.width
    x = 12.0
    for stroke in legend:
        room = 36 + CHARACTER * len(stroke.name) + 14
        if x > 12 and x + room > width:
            x, height = 12.0, height + 18
        parts.append(
            f'<path d="M{_n(x)} {_n(height + 8)}h28" {stroke.attributes()}/>'
            f'<text x="{_n(x + 34)}" y="{_n(height + 12)}">{escape(stroke.name)}</text>'
        )
        x += room
    height += 22 if x > 12 else 0
    told = " ".join(d.told for d in drawings)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(width)}" height="{_n(height)}" '
        f'viewBox="0 0 {_n(width)} {_n(height)}" role="img"><title>{escape(title)}</title>'
        f"<desc>{escape(told)}</desc><style>{STYLE}</style>{GROUND}"
        f"{''.join(parts)}</svg>\n"
    ).encode()


@dataclass(frozen=True)
class Curve:
    """A line through points."""

    stroke: Stroke
    xs: Sequence[float]
    ys: Sequence[float]


def curves(
    title: str,
    told: str,
    found: Sequence[Curve],
    *,
    x: tuple[float, float],
    top: float,
    labels: tuple[str, str],
) -> Drawing:
    """Lines over x, from its first end at the left to its last at the right; y goes from 0 to `top`.

    Args:
        labels: of x and of y.
    """
    width, height, left, right, above, below = 340, 250, 34, 16, 38, 36
    first, last = x

    def at(value: float) -> float:
        return left + (value - first) / ((last - first) or 1) * (width - left - right)

    def up(value: float) -> float:
        return above + (1 - value / (1.04 * top)) * (height - above - below)

    parts = [f'<text x="2" y="12" class="head">{escape(title)}</text>',
             f'<text x="2" y="28">{escape(labels[1])}</text>']  # fmt: skip
    for value in _ticks(0, top, 5):
        parts.append(
            f'<path class="grid" d="M{left} {_n(up(value))}H{width - right}"/>'
            f'<text x="{left - 5}" y="{_n(up(value) + 4)}" text-anchor="end">{_n(value)}</text>'
        )
    for value in _ticks(min(x), max(x), 6):
        parts.append(
            f'<path class="grid" d="M{_n(at(value))} {above}V{height - below}"/>'
            f'<text x="{_n(at(value))}" y="{height - below + 14}" text-anchor="middle">{_label(value)}</text>'
        )
    parts.append(f'<path class="axis" d="M{left} {_n(up(0))}H{width - right}"/>')
    parts.append(
        f'<text x="{(left + width) // 2}" y="{height - 4}" text-anchor="middle">{escape(labels[0])}</text>'
    )
    inside = (min(x), max(x))
    for curve in found:
        points = [
            (round(at(a), 1), round(up(b), 1))
            for a, b in sorted(zip(curve.xs, curve.ys, strict=True), key=lambda p: at(p[0]))
            if inside[0] <= a <= inside[1]
        ]
        if points:
            parts.append(f'<path d="{_path(points)}" {curve.stroke.attributes()}/>')
    return Drawing(title, told, width, height, "".join(parts))


@dataclass(frozen=True)
class Dot:
    """A positive value with an interval around it."""

    name: str
    value: float
    low: float
    high: float
    leads: bool = False


def dots(title: str, told: str, found: Sequence[Dot], label: str) -> Drawing:
    """Values on a logarithmic scale, one to a row between its name and its number, so that no labels meet."""
    left = 16 + CHARACTER * max(len(dot.name) for dot in found)
    wide, row, above = 330.0, 17, 38
    width, height = left + wide + 66, above + row * len(found) + 6
    ends = [math.log10(v) for dot in found for v in (dot.low, dot.value, dot.high) if v > 0]
    first, last = min(ends), max(ends)

    def at(value: float) -> float:
        return left + 8 + (math.log10(max(value, 10**first)) - first) / ((last - first) or 1) * (wide - 16)

    parts = [f'<text x="{_n(left)}" y="12">{escape(label)}</text>']
    for value in (k * 10.0**power for power in range(-9, 10) for k in (1, 2, 5)):
        if 10**first <= value <= 10**last:
            parts.append(
                f'<path class="grid" d="M{_n(at(value))} {above - 8}V{height - 4}"/>'
                f'<text x="{_n(at(value))}" y="{above - 11}" text-anchor="middle">{value:g}</text>'
            )
    for i, dot in enumerate(found):
        y = above + row * i
        kind = "bar lead" if dot.leads else "bar"
        parts.append(
            f'<text x="{_n(left - 6)}" y="{y + 9}" text-anchor="end">{escape(dot.name)}</text>'
            f'<path class="axis" d="M{_n(at(dot.low))} {_n(y + 5.5)}H{_n(at(dot.high))}"/>'
            f'<circle class="{kind}" cx="{_n(at(dot.value))}" cy="{_n(y + 5.5)}" r="4"/>'
            f'<text x="{_n(left + wide + 6)}" y="{y + 9}">{dot.value:.3g}</text>'
        )
    return Drawing(title, told, width, height, "".join(parts), ' class="wide"')


def tidied(svg: bytes, title: str, told: str) -> str:
    """An SVG file, ours or another program's, as an element of a page.

    What only a file needs is left out, and ids are the title's own.
    """
    text = svg.decode()
    text = text[text.index("<svg") :].strip()
    # A style element would hold for the whole page, which has its own for our classes.
    text = re.sub(r"<(metadata|style)[^>]*>.*?</\1>\s*", "", text, flags=re.S).replace(GROUND, "")
    head, body = re.match(r"<svg([^>]*)>(.*)</svg>$", text, re.S).groups()  # type: ignore[union-attr]
    body = re.sub(r"^\s*<title>.*?</title>\s*(<desc>.*?</desc>)?", "", body, flags=re.S)
    mark = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    for name in dict.fromkeys(re.findall(r'\bid="([^"]+)"', body)):
        new = f"{mark}-{name}"
        body = body.replace(f'id="{name}"', f'id="{new}"').replace(f"#{name})", f"#{new})")
        body = body.replace(f'"#{name}"', f'"#{new}"')
    box = re.search(r'viewBox="([\d.\s-]+)"', head)
    if box is None:
        raise ValueError(f"the figure {title!r} has no viewBox")
    return (
        f'<svg viewBox="{box[1]}" role="img" aria-label="{escape(title)}" class="still">'
        f"<title>{escape(title)}</title><desc>{escape(told)}</desc>{body}</svg>"
    )


def _path(points: Sequence[tuple[float, float]]) -> str:
    """Through the points, without those that lie on the line between their neighbours."""
    kept = [points[0]]
    for (ax, ay), (bx, by), (cx, cy) in zip(points, points[1:], points[2:], strict=False):
        if abs((bx - ax) * (cy - ay) - (cx - ax) * (by - ay)) > 1e-9:
            kept.append((bx, by))
    if len(points) > 1:
        kept.append(points[-1])
    return "M" + "L".join(f"{_n(x)} {_n(y)}" for x, y in kept)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between the ends, at most so many steps of 1, 2, 5 or 10 times a power of ten."""
    span = (high - low) or 1
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next((power * k for k in (1, 2, 5, 10) if span / (power * k) <= most), power * 10)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _label(value: float) -> str:
    return _n(value).replace("-", "−")


def _n(value: float) -> str:
    """A coordinate with a tenth of a unit."""
    return f"{round(value, 1):g}" if abs(value) < 1e6 else f"{value:.0f}"


__all__ = ["Curve", "Dot", "Drawing", "Stroke", "curves", "dots", "file_of", "tidied"]
