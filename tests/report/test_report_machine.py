"""Sections are listed, and both renderers show what the records hold, whatever the words in them are."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pytest
from sample_results import sample_results

from precision_lab.functions import get_function
from precision_lab.report import derive
from precision_lab.report import sections as sections_package
from precision_lab.report.document import document, html, markdown
from precision_lab.report.render_html import page
from precision_lab.report.render_markdown import text
from precision_lab.report.section import (
    Cell,
    Claim,
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
    numeric,
)
from precision_lab.report.sections import SECTIONS
from precision_lab.report.sections.decision import formulations
from precision_lab.results import Block, Conversion, Results
from precision_lab.study.equations import equations

BLOCK = Block("silu", "torch", "eager", "bf16", 64, 256, 512, False, 5, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0)
FULL = replace(
    sample_results(),
    blocks=(BLOCK,),
    conversions=(Conversion("torch", "cpu", "bf16", "e4m3", 65536, 3, "0x1 to 0x2", "NaN", "NaN", "NaN"),),
)


def shown(*parts: Part) -> tuple[str, str]:
    """The page and the Markdown of one section."""
    whole = Document("Title", "Heading", [Section("part", "Part", parts)], "report.json")
    return page(whole, {}), text(whole)


class Tables(HTMLParser):
    """The rows of a page's tables, and its tags."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.within = False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.within = tag in ("td", "th") or (self.within and tag != "tr")

    def handle_data(self, data: str) -> None:
        self.words += data
        if self.within:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self.within = self.within and tag not in ("td", "th")


def markdown_rows(source: str) -> list[list[str]]:
    lines = [line for line in source.splitlines() if line.startswith("|") and set(line) - set("|-: ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


# The list


def test_every_function_that_gives_a_section_is_listed() -> None:
    folder = Path(inspect.getfile(sections_package)).parent
    found = {}
    for path in sorted(folder.glob("*.py")):
        module = import_module(f"{sections_package.__name__}.{path.stem}".removesuffix(".__init__"))
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            gives = isinstance(node, ast.FunctionDef) and node.returns is not None
            if gives and ast.unparse(node.returns) in ("Section", "Section | None"):
                found[f"{path.stem}.{node.name}"] = getattr(module, node.name)
    missing = [name for name, make in found.items() if make not in SECTIONS]
    assert missing == [], f"list {missing} in SECTIONS of {folder / '__init__.py'}, where it is to be read"
    assert len(found) == len(SECTIONS) == len(set(SECTIONS))


def test_a_section_without_anything_to_say_is_none() -> None:
    assert [make(Results({}, {}, (), (), (), {})) for make in SECTIONS] == [None] * len(SECTIONS)


def test_each_section_of_the_page_stands_under_its_own_anchor_and_in_markdown_too() -> None:
    sections = document(FULL).sections
    assert len({s.anchor for s in sections}) == len(sections) >= 11
    names = {f"bits-xielu-{fmt}.svg" for fmt in ("fp32", "bf16", "fp16", "e4m3")} | {"map.svg"}
    source, short = html(FULL), markdown(FULL, names)
    for section in sections:
        assert f'<section id="{section.anchor}">' in source
        assert f"\n## {section.title}\n" in short
        assert f'<a href="#{section.anchor}">' in source


def claims(parts: Sequence[Part]) -> Iterator[Claim]:
    for part in parts:
        if isinstance(part, Claim):
            yield part
        elif isinstance(part, Fold | Section):
            yield from claims(part.parts)


def test_every_finding_is_shown_once() -> None:
    section = document(FULL).sections[0]
    shown = [claim.sentence for claim in claims(section.parts)]
    assert sorted(shown) == sorted(f.sentence for f in derive(FULL))
    folded = [claim for topic in section.parts[1:] if isinstance(topic, Section) for part in topic.parts
              if isinstance(part, Fold) for claim in claims(part.parts)]  # fmt: skip
    assert folded and not any(claim.sentence.startswith("xielu") for claim in folded)


def test_the_digest_has_the_labs_functions_at_their_initial_parameters() -> None:
    (section,) = (s for s in document(FULL).sections if s.anchor == "regions")
    rows = [row for part in section.parts if isinstance(part, Table) for row in part.rows]
    short = [row.cells for row in rows if isinstance(row, Row) and row.digest]
    assert {str(cells[2]) for cells in short} == {"init"}
    assert {str(cells[1]) for cells in short} == {"forward", "d/dx", "d/dalpha_p", "d/dalpha_n"}
    assert len(short) < len(rows)
    assert "gelu" not in re.findall(r"<summary>(\w+) in bf16", markdown(FULL, []))


def test_every_row_of_markdown_is_one_of_the_page() -> None:
    """Digits of the exact value and GB/s are cut; all else is word for word the same."""
    cut = {"exact", "GB/s"}
    for section in document(FULL).sections:
        for part in section.parts:
            if isinstance(part, Table):
                whole = Tables(shown(replace(part, split="", folded=""))[0]).rows
                lines = markdown_rows(shown(part)[1])
                if not lines:
                    continue
                kept = [i for i, c in enumerate(part.heads) if c.digest and c.title not in cut]
                titles = [c.title for c in part.heads if c.digest]
                rows = {tuple(row[i].strip() for i in kept if i < len(row)) for row in whole}
                for line in lines[1:]:
                    words = [c.strip("`") for c, title in zip(line, titles, strict=True) if title not in cut]
                    assert tuple(words) in rows, (section.title, line)


# Cells and words


HOSTILE = [
    "a|b", "a\\|b", "a\\\\|b", "`", "``a`", "a\nb\r\nc", "<script>alert(1)</script>", "<img src=x>",
    '" onx="', "[a](javascript:b)", "*a* **b**", "| - | - |", "&amp;", "{{ 1 }}", "\x1b[31m", "\u2028x",
]  # fmt: skip


@pytest.mark.parametrize("words", HOSTILE, ids=range(len(HOSTILE)))
def test_a_table_keeps_its_shape_whatever_stands_in_it(words: str) -> None:
    cells = [words, Cell(words, code=True), Cell("x", title=words, flags=words), "end"]
    table = Table(
        ["a", words, Column(words, words), "d"], [cells, ["1", "2", "3", "4"]], folded=words, note=words
    )
    source, short = shown(table)
    lines = [line for line in short.splitlines() if line.startswith("|")]
    assert len(lines) == 4
    for line in lines:
        # In a row of a table a pipe ends a cell unless a backslash stands right before it.
        assert len(re.findall(r"(?<!\\)\|", line)) == 5, line
        assert not re.search(r"\\\\+\|", re.sub("`.*?`", "", line)), line  # a reader could take either way
    rows = Tables(source).rows
    assert [len(row) for row in rows] == [4, 4, 4]
    assert rows[1][0] == rows[1][1] == words and rows[2] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("words", HOSTILE, ids=range(len(HOSTILE)))
def test_words_stay_words_wherever_they_stand(words: str) -> None:
    claim = Claim("fault", words, [words], words, [(words, "anchor")])
    table = Table(["a", words], [[words, Cell("x", title=words, flags=words)]], folded=words, note=words)
    inside = [words, table, claim, Fold(words, [words]), Section("b", words, [words])]
    part = Section("part", words, inside, nav=words)
    whole = Document(words, words, [part], words, Prose(words), [(words, words)])
    short, found = text(whole), Tables(page(whole, {}))
    assert "<script" not in short and "<img" not in short and "](javascript" not in short
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028]", short)
    assert len([line for line in short.splitlines() if line.startswith("#")]) == 3
    assert not {tag for tag, _ in found.tags} & {"script", "img"}
    assert not any(name.startswith("on") for _, attrs in found.tags for name in attrs)
    assert len([tag for tag, _ in found.tags if tag == "details"]) == 3
    assert " ".join(words.split()) in " ".join(found.words.split())


def test_a_row_that_does_not_fill_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="a row fills 1 of 2 columns"):
        Table(["a", "b"], [["1"]])
    with pytest.raises(ValueError, match="a row fills 3 of 2 columns"):
        Table(["a", "b"], [["1", Cell("2", span=2)]])


def test_a_cell_over_several_columns_fills_them_in_both() -> None:
    columns = ["name", *numeric("x", "y"), *numeric("z", digest=False), "end"]
    rows = [["a", "1", "2", "3", "c"], ["b", Cell("no figures", span=2), "4", "d"], [Cell("none", span=5)]]
    source, short = shown(Table(columns, rows))
    assert '<td class="t" colspan="2">no figures</td><td>4</td><td class="t">d</td>' in source
    assert "<td>1</td><td>2</td><td>3</td>" in source
    assert short.endswith(
        "| name | x | y | end |\n|--|--:|--:|--|\n| a | 1 | 2 | c |\n| b | no figures | | d |\n"
        "| none | | | |\n"
    )


def test_units_stand_in_the_heading_and_numbers_to_the_right() -> None:
    source, short = shown(Table(["name", *numeric("time", unit="ns")], [["a", "1.5"]]))
    assert '<th scope="col" class="t">name</th><th scope="col">time (ns)</th>' in source
    assert "| name | time (ns) |\n|--|--:|\n" in short


def test_what_is_left_out_of_the_digest_stands_on_the_page() -> None:
    rows = [Row(["1", "2"], digest=False), Row(["3", Cell("4444", digest="4")], "here")]
    table = Table(["a", Column("b")], rows)
    source, short = shown(table, Prose("Said.", page="On the page.", digest="In short."))
    assert [row[0] for row in Tables(source).rows] == ["a", "1", "3"]
    assert markdown_rows(short) == [["a", "b"], ["3", "4"]]
    assert '<tr id="here"><td class="t">3</td><td class="t">4444</td></tr>' in source
    assert "Said. On the page.</p>" in source and "Said. In short.\n" in short
    hidden = replace(table, columns=["a", Column("b", digest=False)])
    assert markdown_rows(shown(hidden)[1]) == [["a"], ["3"]]


@pytest.mark.parametrize(
    ("functions", "heading"),
    [
        (("xielu", "silu"), "How accurate are xIELU, xIPReLU and their relatives in low precision?"),
        (("hardswish",), "How accurate is hardswish in low precision?"),
        (("silu", "gelu", "mish"), "How accurate are silu, gelu and mish in low precision?"),
        (tuple("abcde"), "How accurate are 5 activation functions in low precision?"),
    ],
)
def test_the_heading_names_what_was_measured(functions: tuple[str, ...], heading: str) -> None:
    some = sample_results()
    measured = [replace(some.measurements[0], function=name) for name in functions for _ in range(2)]
    made = document(replace(some, measurements=tuple(measured)))
    assert made.heading == heading and ("xIELU" in made.title) == ("xIELU" in heading)


def test_an_equation_is_words_on_the_page_and_latex_in_markdown() -> None:
    source, short = shown(Fold("f", [Formula("y = x·σ(x) <", r"y = x \, \sigma\left(x\right)")]))
    assert '<p class="formula">y = x·σ(x) &lt;</p>' in source and "sigma" not in source
    assert "\n\n```math\ny = x \\, \\sigma\\left(x\\right)\n```\n\n</details>" in short


def test_definitions_are_those_of_the_study() -> None:
    settings = {"definitions": [equations(get_function("quick_gelu"))]}
    results = Results({}, settings, (), (), (), {})
    section = formulations(Results.loads(results.dumps()))
    assert section is not None and formulations(replace(results, settings={})) is None
    _, within = section.parts
    assert isinstance(within, Section) and within.title.startswith("quick GELU (Hendrycks")
    assert [part.text for part in within.parts if isinstance(part, Formula)] == [
        "y = x·σ(851/500·x)",
        "∂y/∂x = σ(851/500·x) + x·851/500·σ′(851/500·x)",
    ]


def test_nothing_stands_under_a_heading_without_a_table_or_figure_in_markdown() -> None:
    gone = Table(["a"], [Row(["1"], digest=False)], folded="more")
    assert shown("Said.", Key([(1, "much")]), gone, Fold("all", [gone]))[1] == "# Heading\n"
    assert shown("Said.")[1] == "# Heading\n\n## Part\n\nSaid.\n"


def test_a_table_is_split_by_its_first_column_on_the_page_alone() -> None:
    rows = [["f", "1"], Row(["g", "2"], "second"), ["f", "3"]]
    source, short = shown(Table(["function", "value"], rows, split="rows"))
    assert "<summary>f<span>2 rows</span></summary>" in source
    assert "<summary>g<span>1 rows</span></summary>" in source
    assert Tables(source).rows == [["value"], ["1"], ["3"], ["value"], ["2"]]
    assert '<tr id="second">' in source
    assert markdown_rows(short) == [["function", "value"], ["f", "1"], ["g", "2"], ["f", "3"]]


def test_a_folded_table_says_what_is_in_it() -> None:
    source, short = shown(Table(["a"], [["1"]], folded="All of it", note="one row"))
    assert '<details class="table"><summary>All of it<span>one row</span></summary>' in source
    assert "<details><summary>All of it (one row)</summary>\n\n| a |\n|--|\n| 1 |\n\n</details>\n" in short


def test_prose_is_marked_up_in_both() -> None:
    source, short = shown("`a < b` is *so*, **very** 2 * 3 * 4.")
    assert "<p><code>a &lt; b</code> is <i>so</i>, <b>very</b> 2 * 3 * 4.</p>" in source
    assert "`a < b` is *so*, **very** 2 * 3 * 4." in short


def test_a_claim_names_its_rows_and_where_to_see_it_again() -> None:
    cites = [(f"row {k}", f"id-{k}") for k in range(5)]
    claim = Claim("caution", "It is so.", ["one", "two"], "see it `again`", cites, opened=True)
    source, short = shown(claim, replace(claim, severity="good", cites=cites[:1], command=""))
    assert short.endswith(
        "- ⚠️ It is so.\n  - one\n  - two\n  - `` see it `again` ``\n"
        "  - Read from `row 0`, `row 1`, `row 2` and 2 more.\n"
        "- ✅ It is so.\n  - one\n  - two\n  - Read from `row 0`.\n"
    )
    assert '<details class="finding caution" open>' in source
    links = [attrs["href"] for tag, attrs in Tables(source).tags if tag == "a"]
    assert links == ["#part", *(f"#id-{k}" for k in range(5)), "#id-0"]
    assert "<summary>and 3 more</summary>" in source


def test_a_plot_is_drawn_on_the_page_and_still_in_markdown() -> None:
    stills = [Figure("a.svg", "What is seen"), Figure("b.svg", "What is not there")]
    plot = Plot([Control("unit", "unit", [("ns", "nanoseconds")])], ["one", "two"], stills, "names")
    whole = Document("Title", "Heading", [Section("part", "Part", [plot])], "report.json")
    source = page(whole, {})
    for id_ in ("unit", "one", "two", "names"):
        assert f'id="{id_}"' in source
    assert '<option value="ns">nanoseconds</option>' in source
    assert text(whole, {"a.svg"}).endswith("## Part\n\n![What is seen](figures/a.svg)\n")
    assert text(whole, set()) == "# Heading\n"


def test_a_figure_is_held_by_the_page() -> None:
    whole = Document("Title", "Heading", [Section("part", "Part", [Figure("a.svg", "Seen")])], "report.json")
    assert '<img src="data:x" alt="Seen">' in page(whole, {"a.svg": "data:x"})
    assert "<img" not in page(whole, {})


def test_every_place_the_script_draws_in_is_on_the_page() -> None:
    """`page.js` finds its elements by id, and asks for none of a section that is not there."""
    plots = [part for s in document(FULL).sections for part in s.parts if isinstance(part, Plot)]
    made = {name for plot in plots for name in (*plot.places, plot.legend, *(c.id for c in plot.controls))}
    folder = Path(inspect.getfile(sections_package)).parents[1]
    script = (folder / "templates" / "page.js").read_text(encoding="utf-8")
    asked = set(re.findall(r'\$\("([a-z-]+)"\)', script)) | set(re.findall(r'react\("([a-z-]+)"', script))
    assert asked <= made and {"heat", "times", "bits-legend"} <= asked
