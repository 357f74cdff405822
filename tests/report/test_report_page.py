"""The page can be read by everybody: with a keyboard, by ear, without JavaScript, on paper, on a phone.

What follows from the source is held here. The slow test asks headless Chromium for the rest, where it is:
that the script puts in what it should, and that nothing is wider than a phone.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_page import packed, unfolded, variants
from sample_results import sample_results

from precision_lab.report import write_report
from precision_lab.report.document import html
from precision_lab.results import Block, Failure, Results

VOID = {"meta", "link", "br", "hr", "img", "input", "path", "circle", "rect", "line", "use"}
BLOCK = Block("silu", "torch", "eager", "bf16", 64, 256, 512, False, 5, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0)


def results() -> Results:
    """With a failure whose words have code in them."""
    some = sample_results()
    failure = Failure("raised", "use `x`, not `y`")
    failed = replace(some.measurements[0], failure=failure, implementation="broken")
    return replace(some, measurements=(*some.measurements, failed), blocks=(BLOCK,))


class Element:
    def __init__(self, tag: str, attrs: dict[str, str], parent: Element | None) -> None:
        self.tag, self.attrs, self.parent = tag, attrs, parent
        self.children: list[Element] = []
        self.text = ""

    def all(self, *tags: str) -> list[Element]:
        found = [self] if not tags or self.tag in tags else []
        return found + [e for child in self.children for e in child.all(*tags)]

    def words(self) -> str:
        return self.text + "".join(child.words() for child in self.children)


class Tree(HTMLParser):
    """The elements of a page, each closed where it should be."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.root = self.at = Element("", {}, None)
        self.feed(source)
        assert self.at is self.root, self.at.tag

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs}, self.at)
        self.at.children.append(element)
        if tag not in VOID:
            self.at = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.at.children.append(Element(tag, {name: value or "" for name, value in attrs}, self.at))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.at.tag == tag and self.at.parent is not None, (tag, self.at.tag)
            self.at = self.at.parent

    def handle_data(self, data: str) -> None:
        self.at.text += data


@pytest.fixture(scope="module")
def source() -> str:
    return html(results(), "details")


@pytest.fixture(scope="module")
def tree(source: str) -> Element:
    return Tree(unfolded(source)).root


def test_the_page_is_small_until_something_is_opened(source: str) -> None:
    closed = Tree(source).root
    assert len(closed.all()) < 1500 and len(closed.all()) < len(Tree(unfolded(source)).root.all()) / 4
    order = [e.attrs["id"] for e in closed.all("section")]
    assert order.index("map") < order.index("facts") < order.index("findings")
    assert not any(details.attrs.get("class") == "part" for e in closed.all("section")[: order.index("facts")]
                   for details in e.all("details"))  # fmt: skip


def test_every_table_has_a_name_and_headings_with_a_scope(tree: Element) -> None:
    tables = tree.all("table")
    assert len(tables) > 20
    for table in tables:
        assert table.attrs["aria-label"]
        assert all(th.attrs["scope"] in ("col", "row") for th in table.all("th"))
        for row in table.all("tbody")[0].all("tr"):
            first = row.children[0]
            assert first.tag == "th" or first.attrs.get("colspan") or len(row.children) == 1
    names = [table.attrs["aria-label"] for table in tables]
    assert len(set(names)) > len(names) / 2


def test_every_picture_is_named_and_told(tree: Element) -> None:
    drawn = [svg for svg in tree.all("svg") if svg.attrs.get("aria-hidden") != "true"]
    assert len(drawn) >= 4 and not tree.all("img")
    for svg in drawn:
        assert svg.attrs["role"] == "img" and svg.attrs["aria-label"]
        assert svg.children[0].tag == "title" and svg.children[1].tag == "desc" and svg.children[1].text


def test_ids_are_single_and_links_lead_somewhere(tree: Element) -> None:
    ids = [e.attrs["id"] for e in tree.all() if "id" in e.attrs]
    assert len(ids) == len(set(ids))
    targets = {a.attrs["href"].removeprefix("#") for a in tree.all("a") if a.attrs["href"].startswith("#")}
    assert len(targets) > 50 and targets <= set(ids)


def test_headings_go_down_one_level_at_a_time(tree: Element) -> None:
    levels = [int(e.tag[1]) for e in tree.all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1 and levels.count(1) == 1 and len(levels) > 10
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_the_page_has_landmarks_and_a_way_past_the_navigation(tree: Element) -> None:
    for tag in ("header", "nav", "main", "footer"):
        assert len(tree.all(tag)) == 1, tag
    first = tree.all("a")[0]
    assert first.attrs["class"] == "skip" and first.attrs["href"] == "#main"
    assert tree.all("main")[0].attrs["id"] == "main" and tree.all("html")[0].attrs["lang"] == "en"


def test_a_keyboard_reaches_what_scrolls_and_nothing_out_of_turn(tree: Element) -> None:
    assert {e.attrs["tabindex"] for e in tree.all() if "tabindex" in e.attrs} == {"0", "-1"}
    for box in (e for e in tree.all("div", "pre") if "scroll" in e.attrs.get("class", "") or e.tag == "pre"):
        assert box.attrs["tabindex"] == "0"
        assert box.tag == "pre" or (box.attrs["role"] == "group" and box.attrs["aria-label"])


def test_every_control_has_a_label_and_its_first_choice_is_shown(tree: Element, source: str) -> None:
    selects = tree.all("select")
    assert len(selects) >= 6
    for select in selects:
        assert select.parent is not None and select.parent.tag == "label" and select.parent.text.strip()
    for button in tree.all("button"):
        assert button.words().strip()
    for choice in (e for e in tree.all("div") if e.attrs.get("class") == "choice"):
        keys = [tuple(key.split("\n")) for key in json.loads(choice.attrs["data-variants"])]
        firsts = tuple(s.all("option")[0].attrs["value"] for s in choice.all("select"))
        assert firsts == keys[0] and len(keys) == len(set(keys))
        values = [{o.attrs["value"] for o in s.all("option")} for s in choice.all("select")]
        assert all(v in options for key in keys for v, options in zip(key, values, strict=True))
    for key, variant in variants(source).items():
        assert Tree(variant).root.children, key


def test_no_backtick_and_no_star_is_left_in_words(tree: Element, source: str) -> None:
    shown = tree.words() + " ".join(value for e in tree.all() for value in e.attrs.values())
    assert "use <code>x</code>, not <code>y</code>" in unfolded(source)
    assert "`" not in shown and "**" not in shown
    assert not any("`" in part for part in packed(source))


def test_executions_and_their_columns_hold_no_comma(tree: Element) -> None:
    heads = [th.words() for th in tree.all("th")]
    assert "e4m3 fp8-fp32 saturating" in heads
    assert not [words for words in heads if re.search(r"(fp8|compiled)[^ ]*, ", words)]


def test_the_map_says_in_words_what_its_colours_and_signs_mean(source: str) -> None:
    (section,) = (e for e in Tree(source).root.all("section") if e.attrs["id"] == "map")
    coloured = [e for e in section.all("td") if re.search(r"\bl[1-4]\b", e.attrs.get("class", ""))]
    assert coloured and all(re.match(r"[\d–]", e.words()) for e in coloured)
    assert {e.text for e in section.all("small")} & {"sign", "NaN", "sign, NaN"}
    assert "beyond" in section.words() and "wrong signs" in section.words()


def test_without_javascript_the_page_says_where_the_rest_is(source: str, tmp_path: Path) -> None:
    shown = re.sub(r"<script.*?</script>", "", source, flags=re.S)
    named = set(re.findall(r'href="(details/[^"]+\.md)"', shown))
    written = write_report(results(), tmp_path)
    assert named and all((tmp_path / name).is_file() for name in named)
    page = written["html"].read_text(encoding="utf-8")
    assert '<a href="details/">details/</a>' in page.split("<noscript><p>", 1)[1].split("</noscript>")[0]
    alone = write_report(results(), tmp_path / "alone", markdown=False)["html"].read_text(encoding="utf-8")
    assert "details/" not in re.sub(r"<script.*?</script>", "", alone, flags=re.S)


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark", "print"])
def test_words_stand_out_from_their_ground_in_every_scheme(source: str, scheme: str) -> None:
    """4.5:1 for text, 3:1 for marks of a plot (WCAG 2.2, 1.4.3 and 1.4.11)."""
    style = source.split("<style>", 1)[1].split("</style>", 1)[0]
    blocks = [
        {name: (len(value) == 4 and "#" + "".join(2 * c for c in value[1:])) or value
         for name, value in re.findall(r"--([\w]+): (#[0-9a-f]+)", block)}
        for block in re.findall(r":root \{(.*?)\}", style, re.S)
    ]  # fmt: skip
    light, dark, paper = blocks
    colours = {"light": light, "dark": {**light, **dark}, "print": {**light, **paper}}[scheme]
    for ground in ("bg", "panel"):
        for ink in ("ink", "muted", "accent", "good", "caution", "fault", "note"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    for level in ("l1", "l2", "l3", "l4"):
        for ink in ("ink", "fault", "accent"):
            assert contrast(colours[ink], colours[level]) >= 4.5, (ink, level)
    for mark in ("bar", "lead", "muted"):
        assert contrast(colours[mark], colours["bg"]) >= 3, mark


def test_the_committed_report_is_light_and_short() -> None:
    folder = Path(__file__).parents[2] / "reports" / "cpu"
    if not (folder / "report.html").exists():
        pytest.skip("needs reports/cpu/report.html")
    source = (folder / "report.html").read_text(encoding="utf-8")
    assert len(source.encode()) <= 1_500_000 and len(Tree(source).root.all()) < 3000
    assert len((folder / "report.md").read_text(encoding="utf-8").split()) <= 4000
    details = [path.read_text(encoding="utf-8") for path in (folder / "details").glob("*.md")]
    assert len(details) > 20 and all(len(text.split()) <= 10_000 for text in details)
    shown = unfolded(source)
    assert "`" not in Tree(shown).root.words()
    assert {f"details/{path.name}" for path in (folder / "details").glob("*.md")} >= set(
        re.findall(r'href="(details/[^"#]+\.md)"', source)
    )


SCRIPT = """
const said = {over: document.documentElement.scrollWidth > innerWidth, nodes: document.all.length};
const wait = () => new Promise((done) => setTimeout(done, 300));
(async () => {
  location.hash = "TARGET";
  await wait();
  const row = document.getElementById("TARGET");
  const box = row && row.getBoundingClientRect();
  said.revealed = Boolean(box && box.height && box.top >= 0 && box.bottom <= innerHeight);
  const select = document.getElementById("heat-where");
  const before = document.querySelector("#map tbody").innerText;
  select.value = "everywhere";
  select.dispatchEvent(new Event("change", {bubbles: true}));
  await wait();
  said.changed = document.querySelector("#map tbody").innerText !== before;
  document.getElementById("unfold").click();
  await wait(); await wait();
  said.closed = document.querySelectorAll("details:not([open])").length;
  said.unfilled = document.querySelectorAll("[data-part]").length;
  said.rows = document.querySelectorAll("tr").length;
  said.wide = document.documentElement.scrollWidth > innerWidth;
  document.body.dataset.said = JSON.stringify(said);
})();
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1280])
def test_chromium_opens_chooses_and_reveals(source: str, width: int, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs chromium or google-chrome")
    target = re.findall(r'<tr id="(case-[^"]+)"', unfolded(source))[-1]
    path = tmp_path / "page.html"
    # Chromium's own window is never narrower than 500 pixels; a frame is.
    path.write_text(source.replace("</body>", f"<script>{SCRIPT.replace('TARGET', target)}</script></body>"))
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe src="page.html" width="{width}" height="700"></iframe><script>setInterval(() => {{'
        "const page = document.querySelector('iframe').contentDocument;"
        "document.body.dataset.said = page.body.dataset.said; }, 100)</script>"
    )
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
         f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=20000", "--dump-dom",
         frame.as_uri()],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    found = re.search(r'data-said="(\{[^"]*\})"', done.stdout)
    assert found is not None, done.stderr[-2000:]
    said = json.loads(found[1].replace("&quot;", '"'))
    rows = len(Tree(unfolded(source)).root.all("tr"))
    assert said == {
        "over": False, "nodes": said["nodes"], "revealed": True, "changed": True, "closed": 0,
        "unfilled": 0, "rows": rows, "wide": False,
    }  # fmt: skip
