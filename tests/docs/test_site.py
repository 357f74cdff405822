"""The site: what Sphinx refuses, what the reference holds, and that the pages' own tables are the code's."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="Sphinx is not installed; `pip install '.[docs]'`")
pytest.importorskip("furo", reason="furo is not installed; `pip install '.[docs]'`")

import precision_lab
import precision_lab.kernels
from precision_lab.inputs.sets import REGIONS
from precision_lab.results.severity import Severity

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def build(folder: Path, pages: Mapping[str, str]) -> tuple[subprocess.CompletedProcess[str], Path]:
    """What Sphinx says of a repository of these pages, with the configuration of ours; where the site is."""
    for name, text in pages.items():
        path = folder / "repository" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    site = folder / "site"
    ran = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-c", str(DOCS),
         str(folder / "repository"), str(site)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return ran, site


SOUND = {
    "docs/index.md": """# A site

[a page](page.md), [its part](page.md#a-part), [an anchor](../reports/field/README.md#report-1),
[a folder with a page](../reports/field), [a folder without](examples), [a file](examples/kernel.py),
[below](#below).

## Below

```{toctree}
page
/reports/field/README
```
""",
    "docs/page.md": """# A page

```{command-line}
```

## A part

```{eval-rst}
.. autofunction:: precision_lab.math.absolute

.. autofunction:: precision_lab.evaluate
```
""",
    "docs/examples/kernel.py": "",
    "reports/field/README.md": '# A report\n\n[first](#report-1)\n\n<a id="report-1"></a>\n\nText.\n',
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ran, site = build(tmp_path_factory.mktemp("sound"), SOUND)
    assert ran.returncode == 0, ran.stderr
    return site


def test_links_of_the_repository_lead_from_page_to_page(sound: Path) -> None:
    index = (sound / "docs/index.html").read_text("utf-8")
    for target in ("page.html", "page.html#a-part", "../reports/field/README.html#report-1", "#below"):
        assert f'href="{target}"' in index
    assert index.count('href="../reports/field/README.html"') >= 2  # the folder's, beside the list of pages
    assert re.search(r'href="\.\./_downloads/[0-9a-f]+/kernel\.py"', index)
    assert "a folder without" in index and 'href="examples"' not in index
    assert 'href="#report-1"' in (sound / "reports/field/README.html").read_text("utf-8")
    assert "url=docs/index.html" in (sound / "index.html").read_text("utf-8")


def test_every_command_s_help_is_on_its_page(sound: Path) -> None:
    from precision_lab.cli.main import app

    page = (sound / "docs/page.html").read_text("utf-8")
    names = re.findall(r"Usage: precision-lab ([\w-]+) \[OPTIONS\]", page)
    assert len(names) == len(set(names)) == len(app.registered_commands)
    assert "--max-ulp" in page and "\x1b" not in page


def test_docstrings_are_shown_as_they_are_written(sound: Path) -> None:
    page = (sound / "docs/page.html").read_text("utf-8")
    assert "|x|; its derivative at 0 is that of x." in page  # no substitution
    assert "UndecidedError" in page and "&gt;&gt;&gt; " in page


def test_nothing_is_fetched_when_a_page_is_read(sound: Path) -> None:
    fetched = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["'](?:https?:)?//[^"']+""")
    remote = re.compile(r"""(?:url\(|@import\s+)["']?(?:https?:)?//""")
    files = [path for path in sound.rglob("*") if path.suffix in (".html", ".css")]
    assert len(files) > 5
    assert [path for path in files if fetched.search(path.read_text("utf-8"))] == []
    assert [path for path in files if path.suffix == ".css" and remote.search(path.read_text("utf-8"))] == []


def test_a_link_that_leads_nowhere_fails_the_build(tmp_path: Path) -> None:
    wrong = {
        "a page": "gone.md", "a part of this page": "#gone-part", "a part of another": "page.md#gone-part-2",
        "an anchor": "../reports/field/README.md#report-2", "a folder": "gone-folder",
        "a file": "examples/gone.py", "a page outside": "../GONE.md",
    }  # fmt: skip
    links = "\n\n".join(f"[{what}]({target})" for what, target in wrong.items())
    picture = "![a picture](../reports/gone.png)"
    pages = {**SOUND, "docs/index.md": f"{SOUND['docs/index.md']}\n{links}\n\n{picture}\n"}
    ran, _ = build(tmp_path, pages)
    assert ran.returncode != 0
    for target in (*wrong.values(), "gone.png"):
        assert re.search(re.escape(re.split(r"[#/]", target)[-1].removesuffix(".md")), ran.stderr), target
    assert ran.stderr.count("WARNING") == len(wrong) + 1


def test_the_reference_has_every_public_name_once() -> None:
    page = (DOCS / "api/python.md").read_text("utf-8")
    names = re.findall(
        r"^\.\. auto(?:function|class|data|exception)(?:::) precision_lab\.([\w.]+)(?:\(\))?$", page, re.M
    )
    assert len(names) == len(set(names))
    wanted = {*precision_lab.__all__, *(f"kernels.{name}" for name in precision_lab.kernels.__all__)}
    assert wanted - set(names) == set()
    raised = {
        f"exceptions.{name}"
        for name, value in vars(precision_lab.exceptions).items()
        if isinstance(value, type) and issubclass(value, Exception) and not name.startswith("_")
    }
    assert raised - set(names) == set()
    # All that formulas are written with comes from the module's own list.
    formulas = (DOCS / "api/formulas.md").read_text("utf-8")
    assert ".. automodule:: precision_lab.math" in formulas and ":imported-members:" in formulas


def test_the_marker_s_arguments_stand_on_its_page() -> None:
    from precision_lab.verifying.pytest_plugin import _ARGUMENTS

    page = (DOCS / "api/pytest.md").read_text("utf-8")
    assert [name for name in _ARGUMENTS if name != "function" and f"`{name}`" not in page] == []


def test_the_regions_and_severities_that_are_explained_are_those_there_are() -> None:
    page = (DOCS / "concepts.md").read_text("utf-8")
    table = page.split("## Regions")[1].split("## ")[0]
    first = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(name for cell in first for name in re.findall(r"`(\w+)`", cell)) == sorted(
        (*REGIONS, "subnormal_result")
    )
    terms = re.findall(r"^`(\w+)`\n: ", page.split("## Severity")[1], re.M)
    assert terms == [severity.word for severity in Severity]
