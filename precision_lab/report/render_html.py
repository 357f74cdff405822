"""A report's records as one HTML page that opens offline.

Everything that is shown goes through `Markup.format`, which escapes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup, escape

from precision_lab.report.section import (
    Cell,
    Claim,
    Code,
    Column,
    Control,
    Document,
    Figure,
    Fold,
    Formula,
    Key,
    Part,
    Plot,
    Prose,
    Row,
    Section,
    Table,
)

CITED = 2  # rows a claim names before the others are folded away
MARKED = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*")


def page(document: Document, pictures: Mapping[str, str], data: str = "") -> str:
    """The document as a page.

    Args:
        pictures: addresses of the still figures; others are not shown.
        data: JSON that holds no "<", for the script that draws the plots; "" for a page without any.
    """
    import jinja2

    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("precision_lab.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text: str = templates.get_template("page.html").render(
        document=document,
        lede=_part(document.lede, pictures, 1) if document.lede else "",
        body=_walk(document.sections, pictures, 1),
        data=Markup(data),
        plotly_js=Markup(_plotly()) if data else "",
    )
    return text


def _plotly() -> str:
    import plotly.offline

    text: str = plotly.offline.get_plotlyjs()
    return text


def _walk(parts: Iterable[Part], pictures: Mapping[str, str], depth: int) -> Markup:
    return _lines(_part(part, pictures, depth) for part in parts)


def _part(part: Part, pictures: Mapping[str, str], depth: int) -> Markup:
    match part:
        case str():
            return Markup("<p>{}</p>").format(_marked(part)) if part else Markup("")
        case Prose():
            return _part(" ".join(filter(None, (part.text, part.page))), pictures, depth)
        case Table():
            return _split(part) if part.split else _table(part)
        case Figure(name, caption):
            image = Markup('<figure><img src="{}" alt="{}"></figure>')
            return image.format(pictures[name], caption) if name in pictures else Markup("")
        case Plot():
            return _plot(part)
        case Key(levels):
            spans = (Markup('<span class="l{}">{}</span>').format(level, words) for level, words in levels)
            return Markup('<p class="key">{}</p>').format(Markup("").join(spans))
        case Claim():
            return _claim(part)
        case Code(listing):
            return Markup("<pre><code>{}</code></pre>").format(listing)
        case Formula(text=equation):
            return Markup('<p class="formula">{}</p>').format(equation)
        case Fold(words, within):
            inside = _walk(within, pictures, depth)
            folded = Markup("<details><summary>{}</summary>{}</details>")
            return folded.format(words, inside) if inside else inside
        case Section():
            inside = _walk(part.parts, pictures, depth + 1)
            if depth > 1:
                return Markup('<h3 id="{}">{}</h3>\n{}').format(part.anchor, part.title, inside)
            whole = Markup('<section id="{}">\n<h2>{}</h2>\n{}\n</section>\n')
            return whole.format(part.anchor, part.title, inside)


def _lines(parts: Iterable[Markup]) -> Markup:
    return Markup("\n").join(part for part in parts if part)


def _marked(text: str) -> Markup:
    """Prose with its `code`, **strong** and *emphasis*; all else is escaped."""
    shown, end = Markup(""), 0
    for found in MARKED.finditer(text):
        tag = ("code", "b", "i")[(found.lastindex or 1) - 1]
        shown += escape(text[end : found.start()])
        shown += Markup(f"<{tag}>{{}}</{tag}>").format(found[found.lastindex or 1])
        end = found.end()
    return shown + escape(text[end:])


def _claim(claim: Claim) -> Markup:
    shown = Markup(
        '<details class="finding {}"{}>\n<summary><span class="tag">{}</span>{}</summary>\n'
    ).format(claim.severity, Markup(" open") if claim.opened else "", claim.severity, claim.sentence)
    if claim.details:
        lines = Markup("").join(Markup("<li>{}</li>").format(line) for line in claim.details)
        shown += Markup("<ul>{}</ul>\n").format(lines)
    if claim.command:
        shown += Markup('<code class="replay">{}</code>\n').format(claim.command)
    if claim.cites:
        first, rest = _cited(claim.cites[:CITED]), _cited(claim.cites[CITED:])
        more = Markup(" <details><summary>and {} more</summary>{}</details>").format(
            len(claim.cites) - CITED, rest
        )
        named = Markup('<div class="source">Read from {}{}</div>\n').format(first, more if rest else "")
        shown += named
    return shown + Markup("</details>")


def _cited(cites: Sequence[tuple[str, str]]) -> Markup:
    return Markup(", ").join(Markup('<a href="#{}">{}</a>').format(anchor, name) for name, anchor in cites)


def _plot(plot: Plot) -> Markup:
    controls = Markup(" ").join(map(_control, plot.controls))
    shown = Markup('<div class="controls no-print">{}</div>\n').format(controls)
    if plot.legend:
        shown += Markup('<ul class="legend" id="{}"></ul>\n').format(plot.legend)
    if len(plot.places) == 1:
        return shown + Markup('<div class="plot-box"><div id="{}"></div></div>').format(plot.places[0])
    places = Markup("").join(Markup('<div class="plot" id="{}"></div>').format(id_) for id_ in plot.places)
    return shown + Markup('<div class="plots">{}</div>').format(places)


def _control(control: Control) -> Markup:
    options = Markup("").join(
        Markup('<option value="{}">{}</option>').format(value, words) for value, words in control.options
    )
    select = Markup('<label>{}<select id="{}">{}</select></label>')
    return select.format(control.label, control.id, options)


def _split(table: Table) -> Markup:
    """One folded table for each value of the first column."""
    groups: dict[str, list[Row]] = {}
    for (first, *cells), row in table.lines():
        groups.setdefault(first.text, []).append(Row(cells, row.anchor))
    return _lines(
        _table(Table(table.columns[1:], rows, folded=name, note=f"{len(rows)} {table.split}"))
        for name, rows in groups.items()
    )


def _table(table: Table) -> Markup:
    heads = table.heads
    titles = Markup("").join(
        Markup('<th scope="col"{}>{}</th>').format(_classes(column), column.heading) for column in heads
    )
    shown = Markup('<div class="{}"><table>\n').format("scroll narrow" if table.narrow else "scroll")
    if any(table.headings):
        shown += Markup("<thead><tr>{}</tr></thead>").format(titles)
    rows = _lines(_row(cells, row.anchor, heads) for cells, row in table.lines())
    shown += Markup("<tbody>\n{}\n</tbody></table></div>").format(rows)
    if not table.folded:
        return shown
    note = Markup("<span>{}</span>").format(table.note) if table.note else ""
    folded = Markup('<details class="table"><summary>{}{}</summary>{}</details>')
    return folded.format(table.folded, note, shown)


def _row(cells: Sequence[Cell], anchor: str, columns: Sequence[Column]) -> Markup:
    shown, at = Markup(""), 0
    for cell in cells:
        shown += _cell(cell, columns[at])
        at += cell.span
    return Markup("<tr{}>{}</tr>").format(Markup(' id="{}"').format(anchor) if anchor else "", shown)


def _cell(cell: Cell, column: Column) -> Markup:
    inside = Markup('<a href="#{}">{}</a>').format(cell.link, cell.text) if cell.link else escape(cell.text)
    if cell.flags:
        inside += Markup(" <b>{}</b>").format(cell.flags)
    title = Markup(' title="{}"').format(cell.title) if cell.title else ""
    span = Markup(' colspan="{}"').format(cell.span) if cell.span > 1 else ""
    return Markup("<td{}{}{}>{}</td>").format(_classes(column, cell), title, span, inside)


def _classes(column: Column, cell: Cell | None = None) -> Markup:
    """Words stand to the left, as does what spans columns; numbers to the right."""
    names = [] if column.numeric and (cell is None or cell.span == 1) else ["t"]
    if cell is not None:
        names += ["mono"] if cell.code else []
        names += [f"l{cell.level}"] if cell.level else []
    return Markup(' class="{}"').format(" ".join(names)) if names else Markup("")


__all__ = ["page"]
