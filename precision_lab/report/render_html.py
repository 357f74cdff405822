"""A report's records as one HTML page that opens offline.

Everything that is shown goes through `Markup.format`, which escapes it. What is folded away, or is one of
several that a reader may choose, is no part of the page's tree until it is asked for: it lies, packed, in one
script element, from where the page's script puts it.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence

from markupsafe import Markup, escape

from precision_lab.report.section import (
    Cell,
    Choice,
    Claim,
    Code,
    Column,
    Control,
    Document,
    Drawn,
    Figure,
    Fold,
    Formula,
    Key,
    Part,
    Prose,
    Row,
    Section,
    Table,
)
from precision_lab.report.svg import DASHES, Stroke, tidied

CITED = 2  # rows a claim names before the others are folded away
MARKED = re.compile(r"(?<!`)`([^`]+)`(?!`)|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*")
CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
BETWEEN = "\0"  # packed parts; no text of a page holds it
FLAG_WORDS = {"±": "wrong signs", "∞": "NaN or infinity in the wrong place"}


def page(document: Document, pictures: Mapping[str, bytes], details: str = "") -> str:
    """The document as a page.

    Args:
        pictures: SVG files by the names of still figures; others are not shown.
        details: the folder beside the page where Markdown files have what is folded; "" for none.
    """
    import jinja2

    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("precision_lab.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made = _Page(pictures, details)
    text: str = templates.get_template("page.html").render(
        document=document,
        title=_plain(document.title),
        heading=_coded(document.heading),
        lede=made.part(document.lede, "", 1) if document.lede else "",
        facts=[(_coded(name), _coded(value), len(value) > 24) for name, value in document.facts],
        nav=[(s.anchor, _coded(s.nav or s.title)) for s in (*document.opening, *document.folded)],
        opening=made.walk(document.opening, "", 1),
        folded=made.walk(document.folded, "", 1),
        details=details,
        packed=Markup(made.packed()),
    )
    return text


class _Page:
    """Walks over the records, and keeps what is to be packed."""

    def __init__(self, pictures: Mapping[str, bytes], details: str) -> None:
        self._pictures, self._details = pictures, details
        self._kept: list[str] = []
        self._file = ""  # where Markdown has the section that is being made

    def packed(self) -> str:
        """The parts that are put in later, or ""."""
        if not self._kept:
            return ""
        return base64.b64encode(zlib.compress(BETWEEN.join(self._kept).encode(), 9)).decode()

    def walk(self, parts: Iterable[Part], about: str, depth: int) -> Markup:
        return _lines(self.part(part, about, depth) for part in parts)

    def part(self, part: Part, about: str, depth: int) -> Markup:
        """One part; `about` says what a table in it is of, to who hears the page."""
        match part:
            case str():
                return Markup("<p>{}</p>").format(_marked(part)) if part else Markup("")
            case Prose():
                return self.part(" ".join(filter(None, (part.text, part.page))), about, depth)
            case Table():
                return self._split(part, about) if part.split else self._table(part, about)
            case Figure():
                return self._figure(part)
            case Drawn():
                return _drawn(part)
            case Choice():
                return self._choice(part, about, depth)
            case Key(levels):
                spans = (
                    Markup('<span class="l{}">{}</span>').format(level, _coded(words))
                    for level, words in levels
                )
                return Markup('<p class="key">{}</p>').format(Markup("").join(spans))
            case Claim():
                return _claim(part)
            case Code(text, words=words, anchor=anchor):
                code = Markup('<pre tabindex="0"><code>{}</code></pre>').format(text) if text else Markup("")
                above = Markup("<p>{}</p>").format(_coded(words)) if words else Markup("")
                named = Markup(' id="{}"').format(anchor) if anchor else ""
                return Markup('<div class="listing"{}>{}{}</div>').format(named, above, code)
            case Formula(text=equation):
                return Markup('<p class="formula">{}</p>').format(equation)
            case Fold(words, within):
                inside = self.walk(within, f"{about}: {words}" if about else words, depth)
                return self._folded(Markup("<details{}><summary>{}</summary>"), _coded(words), inside)
            case Section():
                return self._section(part, depth)

    def _section(self, section: Section, depth: int) -> Markup:
        if depth > 1:
            inside = self.walk(section.parts, section.title, depth + 1)
            return Markup('<h3 id="{}">{}</h3>\n{}').format(section.anchor, _coded(section.title), inside)
        self._file = f"{self._details}/{section.anchor}.md" if self._details else ""
        inside = self.walk(section.parts, section.title, depth + 1)
        if not section.opening:
            head = Markup("<h2>{}</h2><span>{}</span>").format(_coded(section.title), _coded(section.line))
            inside = self._folded(Markup('<details class="part"{}><summary>{}</summary>'), head, inside)
        else:
            inside = Markup("<h2>{}</h2>\n{}").format(_coded(section.title), inside)
        return Markup('<section id="{}">\n{}\n</section>\n').format(section.anchor, inside)

    def _folded(self, opening: Markup, summary: Markup, inside: Markup) -> Markup:
        """Folded away, with a line on where else it stands until the script has put it in."""
        if not inside:
            return inside
        elsewhere = Markup("")
        if self._file:
            elsewhere = Markup(' It also stands in <a href="{}">{}</a>.').format(self._file, self._file)
        until = Markup('<p class="muted">The page’s script puts this in.{}</p></details>').format(elsewhere)
        return opening.format(self._keep(inside), summary) + until

    def _keep(self, inside: Markup) -> Markup:
        self._kept.append(str(inside).replace(BETWEEN, "\ufffd"))
        return Markup(' data-part="{}"').format(len(self._kept) - 1)

    def _figure(self, figure: Figure) -> Markup:
        if figure.name not in self._pictures:
            return Markup("")
        told = figure.told or figure.caption
        drawn = Markup(tidied(self._pictures[figure.name], _plain(figure.caption), _plain(told)))
        shown = Markup('<figure><div class="scroll plain" tabindex="0" role="group" aria-label="{}">{}</div>')
        caption = Markup("<figcaption>{}</figcaption></figure>").format(_coded(figure.caption))
        return shown.format(_plain(figure.caption), drawn) + caption

    def _choice(self, choice: Choice, about: str, depth: int) -> Markup:
        controls = Markup(" ").join(_control(control) for control in choice.controls)
        made = {key: self.walk(parts, about, depth) for key, parts in choice.variants.items()}
        first = next(iter(made.values()), Markup(""))
        numbers = {"\n".join(key): len(self._kept) + i for i, key in enumerate(made)}
        self._kept += map(str, made.values())
        shown = Markup('<div class="choice" data-variants="{}">\n<div class="controls">{}</div>\n')
        box = Markup('<div class="chosen">{}</div></div>').format(first)
        return shown.format(json.dumps(numbers, separators=(",", ":")), controls) + box

    def _split(self, table: Table, about: str) -> Markup:
        """One folded table for each value of the first column."""
        groups: dict[str, list[Row]] = {}
        for (first, *cells), row in table.lines():
            groups.setdefault(first.text, []).append(Row(cells, row.anchor))
        return _lines(
            self._table(Table(table.columns[1:], rows, folded=name, note=f"{len(rows)} {table.split}"), about)
            for name, rows in groups.items()
        )

    def _table(self, table: Table, about: str) -> Markup:
        heads = table.heads
        label = _plain(": ".join(filter(None, (about, table.folded))) or "Figures")
        titles = Markup("").join(
            Markup('<th scope="col"{}>{}</th>').format(_classes(column), _coded(column.heading))
            for column in heads
        )
        kind = "scroll" + " narrow" * table.narrow + " dense" * table.dense
        shown = Markup('<div class="{}" tabindex="0" role="group" aria-label="{}"><table aria-label="{}">\n')
        shown = shown.format(kind, label, label)
        if any(table.headings):
            shown += Markup("<thead><tr>{}</tr></thead>").format(titles)
        rows = _lines(_row(cells, row.anchor, heads) for cells, row in table.lines())
        shown += Markup("<tbody>\n{}\n</tbody></table></div>").format(rows)
        if not table.folded:
            return shown
        note = Markup("<span>{}</span>").format(_coded(table.note)) if table.note else ""
        summary = Markup("{}{}").format(_coded(table.folded), note)
        return self._folded(Markup('<details class="table"{}><summary>{}</summary>'), summary, shown)


def _lines(parts: Iterable[Markup]) -> Markup:
    return Markup("\n").join(part for part in parts if part)


def _marked(text: str) -> Markup:
    """Prose with its `code`, **strong** and *emphasis*; all else is escaped."""
    return _with(MARKED, ("code", "b", "i"), text)


def _coded(text: str) -> Markup:
    """Words with their `code`, in which a star is a star."""
    return _with(CODE, ("code",), text)


def _with(marked: re.Pattern[str], tags: Sequence[str], text: str) -> Markup:
    shown, end = Markup(""), 0
    for found in marked.finditer(text):
        tag = tags[(found.lastindex or 1) - 1]
        shown += escape(text[end : found.start()])
        shown += Markup(f"<{tag}>{{}}</{tag}>").format(found[found.lastindex or 1])
        end = found.end()
    return shown + escape(text[end:])


def _plain(text: str) -> str:
    """Words for an attribute, which cannot be marked."""
    return CODE.sub(r"\1", text)


def _claim(claim: Claim) -> Markup:
    shown = Markup(
        '<details class="finding {}"{}>\n<summary><span class="tag">{}</span> {}</summary>\n'
    ).format(claim.severity, Markup(" open") if claim.opened else "", claim.severity, _coded(claim.sentence))
    if claim.details:
        lines = Markup("").join(Markup("<li>{}</li>").format(_coded(line)) for line in claim.details)
        shown += Markup("<ul>{}</ul>\n").format(lines)
    if claim.command:
        shown += Markup('<pre tabindex="0"><code>{}</code></pre>\n').format(claim.command)
    if claim.cites:
        first, rest = _cited(claim.cites[:CITED]), _cited(claim.cites[CITED:])
        more = Markup(" <details><summary>and {} more</summary>{}</details>").format(
            len(claim.cites) - CITED, rest
        )
        named = Markup('<div class="source">Read from {}{}</div>\n').format(first, more if rest else "")
        shown += named
    return shown + Markup("</details>")


def _cited(cites: Sequence[tuple[str, str]]) -> Markup:
    link = Markup('<a href="#{}">{}</a>')
    return Markup(", ").join(link.format(anchor, _coded(name)) for name, anchor in cites)


def _drawn(drawn: Drawn) -> Markup:
    legend = Markup("").join(map(_swatch, drawn.legend))
    shown = Markup('<ul class="legend">{}</ul>\n').format(legend) if legend else Markup("")
    places = Markup("").join(
        Markup('<div class="scroll plain" tabindex="0" role="group" aria-label="{}">{}</div>').format(
            d.title, Markup(d.inline())
        )
        for d in drawn.drawings
    )
    return shown + Markup('<div class="plots">{}</div>').format(places)


def _swatch(stroke: Stroke) -> Markup:
    line = Markup(
        '<li><svg width="30" height="8" aria-hidden="true"><path d="M0 4h30" stroke="{}" stroke-width="{}" '
        'stroke-dasharray="{}"/></svg>{}</li>'
    )
    return line.format(stroke.colour, stroke.width, DASHES[stroke.dash] or "none", stroke.name)


def _control(control: Control) -> Markup:
    options = Markup("").join(
        Markup('<option value="{}">{}</option>').format(value, _plain(words))
        for value, words in control.options
    )
    select = Markup('<label>{} <select id="{}">{}</select></label>')
    return select.format(control.label, control.id, options)


def _row(cells: Sequence[Cell], anchor: str, columns: Sequence[Column]) -> Markup:
    """The first cell is the row's heading, unless it fills several columns."""
    shown, at = Markup(""), 0
    for cell in cells:
        shown += _cell(cell, columns[at], heads=at == 0 and cell.span == 1 and len(columns) > 1)
        at += cell.span
    return Markup("<tr{}>{}</tr>").format(Markup(' id="{}"').format(anchor) if anchor else "", shown)


def _cell(cell: Cell, column: Column, *, heads: bool) -> Markup:
    words = escape(cell.text) if cell.code else _coded(cell.text)
    inside = Markup('<a href="#{}">{}</a>').format(cell.link, words) if cell.link else words
    for flag in cell.flags:
        inside += Markup(' <b title="{}">{}</b>').format(FLAG_WORDS.get(flag, ""), flag)
    if cell.note:
        inside += Markup(" <small>{}</small>").format(_coded(cell.note))
    for name, said in cell.lines:
        named = Markup("<b>{}</b> ").format(name) if name else Markup("")
        inside += Markup('<span class="line">{}{}</span>').format(named, _coded(said))
    title = Markup(' title="{}"').format(_plain(cell.title)) if cell.title else ""
    span = Markup(' colspan="{}"').format(cell.span) if cell.span > 1 else ""
    tag = Markup('<th scope="row"{}{}{}>{}</th>' if heads else "<td{}{}{}>{}</td>")
    return tag.format(_classes(column, cell), title, span, inside)


def _classes(column: Column, cell: Cell | None = None) -> Markup:
    """Words stand to the left, as does what spans columns; numbers to the right."""
    names = [] if column.numeric and (cell is None or cell.span == 1) else ["t"]
    if cell is not None:
        names += ["mono"] if cell.code else []
        names += [f"l{cell.level}"] if cell.level else []
    return Markup(' class="{}"').format(" ".join(names)) if names else Markup("")


__all__ = ["page"]
