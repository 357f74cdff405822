"""The wheel and the sdist as they are built from the tree, and what says how the lab is installed."""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("hatchling", reason="needs hatchling, of the extra test")
pytest.importorskip("hatch_fancy_pypi_readme", reason="needs hatch-fancy-pypi-readme, of the extra test")
from markdown_it import MarkdownIt
from markdown_it.token import Token
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def build(tree: Path, into: Path, *kinds: str) -> None:
    """As pip builds it, with what is installed here in place of an environment of its own."""
    words = [word for kind in kinds for word in ("-t", kind)]
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", *words, "-d", str(into)],
        cwd=tree, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist of the tree."""
    folder = tmp_path_factory.mktemp("built")
    build(ROOT, folder, "sdist", "wheel")
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def wheel_of_the_sdist(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("of_the_sdist")
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (tree,) = folder.iterdir()
    build(tree, folder, "wheel")
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_has_all_that_the_package_has_and_no_more(wheel: Path) -> None:
    names = set(contents(wheel))
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "precision_lab").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    tables = {f"precision_lab/_golden/{path.name}" for path in (ROOT / "reference" / "tables").iterdir()}
    about = {name for name in names if ".dist-info/" in name}
    assert names - about == package | tables
    assert {Path(name).name for name in about} >= {"METADATA", "RECORD", "LICENSE", "entry_points.txt"}
    for name in ("py.typed", "results/profile.toml", "scoring/score.cu", "report/templates/page.html"):
        assert f"precision_lab/{name}" in names, name
    assert "precision_lab/_golden/SHA256SUMS" in names


def test_the_sdist_has_what_a_wheel_is_built_from_and_no_results(
    built: Path, wheel: Path, wheel_of_the_sdist: Path
) -> None:
    assert contents(wheel_of_the_sdist) == contents(wheel)
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    kept_out = ("reports", "tests", ".ci", ".tox", ".git/")
    assert not [name for name in names if "__pycache__" in name or name.startswith(kept_out)]
    assert {"pyproject.toml", "README.md", "LICENSE", "PKG-INFO", "constraints.txt"} <= set(names)
    assert sdist.stat().st_size < 5e6  # the largest file of results alone has six times as much


def test_what_is_installed_from_the_sdist_runs_where_no_checkout_is(
    wheel_of_the_sdist: Path, tmp_path: Path
) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin" / "python"
    libraries = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            capture_output=True, text=True, check=True,
        ).stdout.strip()
    )  # fmt: skip
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install",
         "--quiet", "--no-deps", "--no-index", "--no-compile", str(wheel_of_the_sdist)],
        check=True, timeout=300,
    )  # fmt: skip
    # What the lab needs is there already, behind what is installed; before, pip would take the lab for it.
    others = [place for place in sys.path if place.endswith(("site-packages", "dist-packages"))]
    (libraries / "of_the_tests.pth").write_text("\n".join(others), encoding="utf-8")
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def said(*words: str | Path) -> str:
        done = subprocess.run(
            list(map(str, words)), cwd=tmp_path, env=clean, capture_output=True, text=True, check=False,
            timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    command = environment / "bin" / "precision-lab"
    assert said(command, "--version") == f"precision-lab {PROJECT['version']}\n"
    assert "xielu" in said(command, "list")
    code = (
        "import precision_lab as pl\nprint(pl.__file__)\n"
        "values = {'alpha_p': 0.8, 'alpha_n': 0.8, 'beta': 0.5}\n"
        "print(pl.evaluate('xielu', -0.5, values, output='grad_x', bits=80))"
    )
    place, value = said(python, "-c", code).splitlines()[:2]
    assert Path(place).is_relative_to(environment)
    assert "0.18522452" in value  # 0.8 (exp(-0.5) - 1) + 0.5


# -- what an index would show ---------------------------------------------------------------------


def described(wheel: Path) -> str:
    name = next(name for name in contents(wheel) if name.endswith(".dist-info/METADATA"))
    about = email.message_from_bytes(contents(wheel)[name])
    assert about["Description-Content-Type"] == "text/markdown"
    return str(about.get_payload(decode=True), "utf-8")


def flat(text: str) -> list[Token]:
    tokens: list[Token] = []
    for token in MarkdownIt("commonmark", {"html": True}).enable("table").parse(text):
        tokens += [token, *(token.children or ())]
    return tokens


def test_the_description_has_no_link_or_picture_relative_to_the_repository(wheel: Path) -> None:
    text = described(wheel)
    tokens = flat(text)
    places = [str(token.attrs.get("href") or token.attrs.get("src") or "") for token in tokens]
    html = " ".join(token.content for token in tokens if token.type in ("html_inline", "html_block"))
    places += re.findall(r"""\b(?:href|src|srcset)=["']([^"']*)""", html)
    assert [place for place in places if place and not place.startswith(("https://", "mailto:"))] == []
    assert "![" not in "".join(token.content for token in tokens if token.type == "text")


def test_the_description_is_the_readme_but_for_these(wheel: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    of_readme, of_description = flat(readme), flat(described(wheel))

    def parts(tokens: list[Token], kind: str) -> list[str]:
        return [token.content for token in tokens if token.type == kind]

    for kind in ("fence", "code_block", "code_inline"):
        assert parts(of_description, kind) == parts(of_readme, kind), kind
    headings = [token.type for token in of_readme].count("heading_open")
    assert headings > 3 and [token.type for token in of_description].count("heading_open") == headings
    words = len(re.findall(r"\w+", " ".join(parts(of_description, "text"))))
    assert words > 0.95 * len(re.findall(r"\w+", " ".join(parts(of_readme, "text"))))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("see [how](docs/a.md#b) and [x](https://x.org)", "see how and [x](https://x.org)"),
        ("![a\nb](p.png)\n\nnext", "next"),
        ("[![a](p.png)](docs/a.md)", ""),
        ('<a href="docs/a.md">it</a> <img src="p.png" alt="a">', "it "),
        ("`kernel[grid](x)`", "`kernel[grid](x)`"),
        ("[up](#top)", "up"),
    ],
)
def test_relative_links_become_text_and_relative_pictures_go(before: str, after: str) -> None:
    hook = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["metadata"]
    for rule in hook["hooks"]["fancy-pypi-readme"]["substitutions"]:
        before = re.sub(rule["pattern"], rule["replacement"], before)
    assert before == after


def test_the_metadata_claims_what_is_tested_and_no_address() -> None:
    classifiers = PROJECT["classifiers"]
    assert "Typing :: Typed" in classifiers and not any("License ::" in each for each in classifiers)
    versions = [c.rpartition(" ")[2] for c in classifiers if re.search(r":: 3\.\d+$", c)]
    lowest = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert versions and all(lowest.contains(version) for version in versions)
    assert "urls" not in PROJECT  # the project has none


# -- how it is installed --------------------------------------------------------------------------


def documents() -> list[Path]:
    files = [*(ROOT / "precision_lab").rglob("*.py"), *(ROOT / "docs").rglob("*"), *ROOT.glob("*.md")]
    return [f for f in files if f.suffix in (".py", ".md", ".sh", ".toml", ".yml", ".ini")]


def test_nothing_tells_to_install_what_no_index_has() -> None:
    pattern = re.compile(r"pip install[^\n`&;#]*[ '\"]precision[-_]lab\b(?!\S*\.whl)|\bprecision-lab\[")
    # A page may have readers build a wheel and install that.
    own = [path for path in documents() if "--find-links" in path.read_text(encoding="utf-8")]
    told = [
        f"{path.relative_to(ROOT)}: {found.group()}"
        for path in documents()
        if path.name != "CHANGELOG.md" and path not in own
        for found in pattern.finditer(path.read_text(encoding="utf-8"))
    ]
    assert told == []


def test_every_extra_that_is_named_is_there() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "precision_lab").rglob("*.py"))
    named = set(re.findall(r"""install_line\(["'](\w+)["']\)""", code))
    assert len(named) >= 7 and named <= set(PROJECT["optional-dependencies"])
    text = "".join(path.read_text(encoding="utf-8") for path in documents() if path.suffix == ".md")
    in_documents = {
        extra for group in re.findall(r"pip install[^\n`]*\.\[([\w,]+)\]", text) for extra in group.split(",")
    }
    assert in_documents and in_documents <= set(PROJECT["optional-dependencies"])
