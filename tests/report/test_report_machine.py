"""Sections are listed, and both renderers show what the records hold, whatever the words in them are."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pytest
from report_page import packed, unfolded, variants
from sample_results import sample_results

from precision_lab.functions import get_function
from precision_lab.report import derive
from precision_lab.report import sections as sections_package
from precision_lab.report.document import document, html, markdown
from precision_lab.report.render_html import page
from precision_lab.report.render_markdown import files
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
    numeric,
)
from precision_lab.report.sections import SECTIONS
from precision_lab.report.sections.decision import formulations
from precision_lab.report.svg import Curve, Dot, Stroke, curves, dots, file_of, tidied
from precision_lab.results import Block, Conversion, Results
from precision_lab.study.equations import equations

BLOCK = Block("silu", "torch", "eager", "bf16", 64, 256, 512, False, 5, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0)
FULL = replace(
    sample_results(),
    blocks=(BLOCK,),
    conversions=(Conversion("torch", "cpu", "bf16", "e4m3", 65536, 3, "0x1 to 0x2", "NaN", "NaN", "NaN"),),
)


def text(document: Document, figures: Collection[str] | None = None) -> str:
    return files(document, "report.md", figures)["report.md"]


def shown(*parts: Part, opening: bool = True) -> tuple[str, str]:
    """The page, unfolded, and the Markdown of one section: of the report, or of the section's own file."""
    whole = Document("Title", "Heading", [Section("part", "Part", parts, opening=opening)], "report.json")
    name = "report.md" if opening else "details/part.md"
    return unfolded(page(whole, {})), files(whole, "report.md")[name]


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
    source, made = html(FULL), markdown(FULL, [])
    for section in sections:
        assert f'<section id="{section.anchor}">' in source
        assert f'<a href="#{section.anchor}">' in source
        if section.opening:
            assert f"\n## {section.title}\n" in made["report.md"]
        else:
            assert f"- [{section.title}](details/{section.anchor}.md)" in made["report.md"]
            assert made[f"details/{section.anchor}.md"].startswith(f"# {section.title}\n")


def claims(parts: Sequence[Part]) -> Iterator[Claim]:
    for part in parts:
        if isinstance(part, Claim):
            yield part
        elif isinstance(part, Fold | Section):
            yield from claims(part.parts)


def test_every_finding_is_shown_once() -> None:
    (section,) = (s for s in document(FULL).sections if s.anchor == "findings")
    shown = [claim.sentence for claim in claims(section.parts)]
    assert sorted(shown) == sorted(f.sentence for f in derive(FULL))
    folded = [claim for topic in section.parts[1:] if isinstance(topic, Section) for part in topic.parts
              if isinstance(part, Fold) for claim in claims(part.parts)]  # fmt: skip
    assert folded and not any(claim.sentence.startswith("xielu") for claim in folded)


def test_the_short_map_has_the_labs_functions_and_the_whole_one_all() -> None:
    made = markdown(FULL, [])
    assert "| xielu naive |" in made["report.md"] and "| gelu torch |" not in made["report.md"]
    assert "| gelu torch |" in made["details/map.md"]
    assert "[details/map.md](details/map.md)" in made["report.md"]


def test_the_markdown_files_have_every_row_of_the_page() -> None:
    for section in document(FULL).sections:
        for part in section.parts:
            if isinstance(part, Table):
                unlined = [row for cells, row in part.lines() if not any(cell.lines for cell in cells)]
                plain = replace(part, rows=unlined, split="", folded="")
                if not unlined:
                    continue
                rows = Tables(shown(plain)[0]).rows
                lines = markdown_rows(shown(plain, opening=False)[1])
                assert len(rows) == len(lines)
                for row, line in zip(rows, lines, strict=True):
                    full = line if len(row) == len(line) else [cell for cell in line if cell]
                    assert [cell.strip() for cell in row if cell] == [
                        re.sub(r"\\(.)", r"\1", cell.strip("`")) for cell in full if cell
                    ], section.title


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
    source, short = shown(table, opening=False)
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
    part = Section("part", words, inside, nav=words, about=words)
    whole = Document(words, words, [part], words, Prose(words), [(words, words)])
    made = files(whole, "report.md")
    short, found = "".join(made.values()), Tables(unfolded(page(whole, {})))
    assert "<script" not in short and "<img" not in short and "](javascript" not in short
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028]", short)
    assert len([line for line in made["report.md"].splitlines() if line.startswith("#")]) == 3
    assert not {tag for tag, _ in found.tags} & {"script", "img"}
    assert not any(name.startswith("on") for _, attrs in found.tags for name in attrs)
    assert len([tag for tag, _ in found.tags if tag == "details"]) == 4
    assert " ".join(words.split()) in " ".join(found.words.split())


def test_a_row_that_does_not_fill_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="a row fills 1 of 2 columns"):
        Table(["a", "b"], [["1"]])
    with pytest.raises(ValueError, match="a row fills 3 of 2 columns"):
        Table(["a", "b"], [["1", Cell("2", span=2)]])


def test_a_cell_over_several_columns_fills_them_in_both() -> None:
    columns = ["name", *numeric("x", "y"), *numeric("z"), "end"]
    rows = [["a", "1", "2", "3", "c"], ["b", Cell("no figures", span=2), "4", "d"], [Cell("none", span=5)]]
    source, short = shown(Table(columns, rows))
    assert '<td class="t" colspan="2">no figures</td><td>4</td><td class="t">d</td>' in source
    assert "<td>1</td><td>2</td><td>3</td>" in source
    assert (
        "| name | x | y | z | end |\n|--|--:|--:|--:|--|\n| a | 1 | 2 | 3 | c |\n"
        "| b | no figures | | 4 | d |\n| none | | | | |\n"
    ) in short


def test_units_stand_in_the_heading_and_numbers_to_the_right() -> None:
    source, short = shown(Table(["name", *numeric("time", unit="ns")], [["a", "1.5"]]))
    assert '<th scope="col" class="t">name</th><th scope="col">time (ns)</th>' in source
    assert "| name | time (ns) |\n|--|--:|\n" in short


def test_what_is_left_out_of_the_digest_stands_on_the_page() -> None:
    rows = [Row(["1", "2"], digest=False), Row(["3", "4444"], "here")]
    table = Table(["a", Column("b")], rows)
    source, short = shown(table, Prose("Said.", page="On the page.", digest="In short."))
    assert [row[0] for row in Tables(source).rows] == ["a", "1", "3"]
    assert markdown_rows(short) == [["a", "b"], ["3", "4444"]]
    assert '<tr id="here"><th scope="row" class="t">3</th><td class="t">4444</td></tr>' in source
    assert "Said. On the page.</p>" in source and "Said. In short.\n" in short


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
    fold = Fold("f", [Formula("y = x·σ(x) <", r"y = x \, \sigma\left(x\right)")])
    source, short = shown(fold, opening=False)
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
    gone = Table(["a"], [Row(["1"], digest=False)])
    folded = Table(["a"], [["2"]], folded="more")
    short = shown("Said.", Key([(1, "much")]), gone, folded, Fold("all", ["words"]))[1]
    assert short == "# Heading\n\nAll of it: [details/part.md](details/part.md).\n"
    assert shown("Said.")[1] == "# Heading\n\n## Part\n\nSaid.\n"


def test_a_table_is_split_by_its_first_column_on_the_page_alone() -> None:
    rows = [["f", "1"], Row(["g", "2"], "second"), ["f", "3"]]
    source, whole = shown(Table(["function", "value"], rows, split="rows"), opening=False)
    assert "<summary>f<span>2 rows</span></summary>" in source
    assert "<summary>g<span>1 rows</span></summary>" in source
    assert Tables(source).rows == [["value"], ["1"], ["3"], ["value"], ["2"]]
    assert '<tr id="second">' in source
    assert markdown_rows(whole) == [["function", "value"], ["f", "1"], ["g", "2"], ["f", "3"]]


def test_a_folded_table_says_what_is_in_it() -> None:
    source, whole = shown(Table(["a"], [["1"]], folded="All of it", note="one row"), opening=False)
    assert '<details class="table" open><summary>All of it<span>one row</span></summary>' in source
    assert "<details><summary>All of it (one row)</summary>\n\n| a |\n|--|\n| 1 |\n\n</details>\n" in whole


def test_a_section_too_long_for_a_file_has_its_tables_in_several() -> None:
    tables = [
        Table(["a", "b"], [["word " * 400, str(k)]] * 5, folded=f"table {k}", note="so") for k in range(9)
    ]
    long = Table(["a", "b"], [[f"row {i} " * 100, ""] for i in range(61)], folded="a long one")
    section = Section("part", "Part", ["Said.", *tables[:4], Fold("the rest", tables[4:]), long])
    made = files(Document("Title", "Heading", [section], "report.json"), "report.md")
    index = made["details/part.md"]
    assert "Said." in index and "- [table 0](part-1.md#table-0)\n" in index
    assert "- [a long one, part 2 of 2](part-4.md#a-long-one-part-2-of-2)\n" in index
    assert all(len(words.split()) < 10_000 for words in made.values())
    joined = "".join(made.values())
    for k in range(9):
        assert joined.count(f"## table {k}\n\nso\n") == 1
    for i in range(61):
        assert f"row {i} " in joined
    assert "Part, 2 of 4" in made["details/part-2.md"]


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
    assert links == ["#main", "#part", *(f"#id-{k}" for k in range(5)), "#id-0"]
    assert "<summary>and 3 more</summary>" in source


LINE = Curve(Stroke("a & b", "#123456", "dash"), [4, 0, -4, -8], [8, 7, 3, 3])
DRAWING = curves("Of <f>", "It falls.", [LINE], x=(4, -8), top=8, labels=("x", "y"))


def test_a_choice_shows_its_first_variant_and_packs_the_others() -> None:
    controls = [Control("what", "what", [("a", "the first"), ("b", "the second")])]
    still = Figure("a.svg", "What is seen")
    choice = Choice(controls, {("a",): [Drawn([DRAWING], [LINE.stroke])], ("b",): ["Another."]}, [still])
    whole = Document("Title", "Heading", [Section("part", "Part", [choice], opening=True)], "report.json")
    source = page(whole, {})
    assert '<label>what <select id="what"><option value="a">the first</option>' in source
    assert variants(source)["b",] == "<p>Another.</p>" and "<p>Another.</p>" not in source
    assert variants(source)["a",] in source
    assert "<title>Of &lt;f&gt;</title><desc>It falls.</desc>" in source
    assert "a &amp; b" in source and 'role="img"' in source
    assert "![What is seen](figures/a.svg)\n" in text(whole, {"a.svg"})
    assert "![" not in text(whole, set())


def test_a_line_leaves_out_what_lies_between_its_neighbours_and_beyond_the_axis() -> None:
    flat = Curve(LINE.stroke, list(range(10, -10, -1)), [5] * 20)
    body = curves("t", "d", [flat], x=(4, -8), top=8, labels=("x", "y")).body
    (path,) = re.findall(r'<path d="(M[^"]+)" fill="none" stroke="#123456"', body)
    assert path.count("L") == 1
    first, last = (point.split()[0] for point in path[1:].split("L"))
    assert float(first) == 34 and float(last) == 340 - 16


def test_no_two_labels_of_dots_meet() -> None:
    found = [
        Dot(f"implementation {k} [compiled]", 0.1 * 1.3**k, 0.1 * 1.3**k, 0.2 * 1.3**k) for k in range(30)
    ]
    drawing = dots("t", "d", found, "ns per element")
    places = re.findall(
        r'<text x="([\d.]+)" y="([\d.]+)"(?: text-anchor="(\w+)")?>([^<]+)</text>', drawing.body
    )
    boxes = []
    for x, y, anchor, words in places:
        wide = 6.2 * len(words)
        left = float(x) - {"end": wide, "middle": wide / 2}.get(anchor, 0.0)
        assert left >= 0 and left + wide <= drawing.width, words
        boxes.append((left, left + wide, float(y) - 9, float(y) + 3, words))
    for i, a in enumerate(boxes):
        for b in boxes[:i]:
            assert a[0] >= b[1] or b[0] >= a[1] or a[2] >= b[3] or b[2] >= a[3], (a, b)


def test_a_file_has_its_legend_and_a_white_ground_and_the_page_neither_ground_nor_style() -> None:
    file = file_of("Both", [DRAWING, DRAWING], [Stroke(f"line {k}", "#000") for k in range(20)])
    assert file.count(b"<g transform") == 2 and file.count(b">line ") == 20
    height = int(re.search(rb'height="(\d+)"', file)[1])
    assert all(float(y) < height for y in re.findall(rb'<text x="[\d.]+" y="([\d.]+)">line', file))
    inside = tidied(file, "Both of them", "Seen.")
    assert "<style" not in inside and 'fill="#fff"' not in inside and "<title>Both of them</title>" in inside
    assert (
        tidied(b'<?xml?><svg viewBox="0 0 1 1"><g id="a"/><use href="#a"/></svg>', "T", "d").count("t-a") == 2
    )
    with pytest.raises(ValueError, match="has no viewBox"):
        tidied(b"<svg><g/></svg>", "T", "d")


def test_a_figure_stands_on_the_page_with_its_words() -> None:
    figure = Figure("a.svg", "Seen in `f`", "It falls.")
    part = Section("part", "Part", [figure], opening=True)
    whole = Document("Title", "Heading", [part], "report.json")
    source = page(whole, {"a.svg": file_of("a", [DRAWING])})
    assert "<title>Seen in f</title><desc>It falls.</desc>" in source
    assert "<figcaption>Seen in <code>f</code></figcaption>" in source
    assert "<figure" not in page(whole, {})


def test_a_listing_is_code_in_both() -> None:
    source, short = shown(Code("x = `a` < b\ny", "python"))
    assert '<pre tabindex="0"><code>x = `a` &lt; b\ny</code></pre>' in source
    assert short.endswith("```python\nx = `a` < b\ny\n```\n")
    assert "````\n```\n````\n" in shown(Code("```"))[1]


def test_what_is_folded_is_packed_and_says_where_else_it_stands() -> None:
    part = Section("part", "Part", ["Hidden.", Table(["a"], [["1"]], folded="more")])
    whole = Document("Title", "Heading", [part], "report.json")
    source = page(whole, {}, "details")
    assert "Hidden." not in source.split("</summary>", 1)[1] and "<td" not in source
    assert '<a href="details/part.md">details/part.md</a>' in source
    assert "Hidden." in unfolded(source) and Tables(unfolded(source)).rows == [["a"], ["1"]]
    assert len(packed(source)) == 2
    assert "details/part.md" not in page(whole, {})
    assert packed(page(Document("T", "H", [Section("p", "P", ["Open."], opening=True)], "r"), {})) == []


def test_the_line_beside_a_title_is_its_own_or_the_first_sentence() -> None:
    assert Section("a", "A", ["One. Two."]).line == "One"
    assert Section("a", "A", [Prose("One `a`. Two.")], about="what").line == "what"
    assert Section("a", "A", ["A clause; " + "word " * 30]).line == "A clause"
    assert Section("a", "A", []).line == Section("a", "A", [Table(["a"], [["1"]])]).line == ""
