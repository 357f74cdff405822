"""What pages and docstrings name exists: a file moves, and what points to it comes along."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "precision_lab"
ROOMS = sorted(path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists())
PAGES = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), ROOT / "tests" / "README.md"]
PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]  # which names what was
SOURCES = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.cu")]
FILE = re.compile(r"`((?:[\w.-]+/)*\w+\.(?:py|cu))(?::\w+)?`")
DOTTED = re.compile(rf"`(?:precision_lab\.)?((?:{'|'.join(ROOMS)})(?:\.\w+)+)`")
# A reader's own, those of examples, and of other packages.
OTHERS = {
    "my_kernels.py",
    "my_kernels.cu",
    "path/to/file.py",
    "common/recipe/__init__.py",
    "delayed_scaling.cu",
    "mxfp/fake.py",
    "pytorch/quantization.py",
    "transformer_engine/common/recipe/__init__.py",
}
# Endings of files, not names in a room.
FILES = re.compile(r"^\w+\.(html|md|json|py|cu|toml)$")


PATHS = [
    path.as_posix() for room in (PACKAGE, ROOT / "tests", ROOT / "docs", ROOT / "reference")
    for path in room.rglob("*.*") if path.suffix in (".py", ".cu")
]  # fmt: skip


def missing_files(text: str) -> Iterator[str]:
    for name in set(FILE.findall(text)) - OTHERS:
        if "NAME" not in name and not any(path.endswith(f"/{name}") for path in PATHS):
            yield name


def missing_names(text: str) -> Iterator[str]:
    """Dotted names that are neither a module nor defined in the last module on their way."""
    for name in set(DOTTED.findall(text)):
        if FILES.match(name):
            continue
        place, parts = PACKAGE, name.split(".")
        while parts and (place / parts[0]).is_dir():
            place /= parts.pop(0)
        if parts and (place / f"{parts[0]}.py").exists():
            place = place / f"{parts.pop(0)}.py"
        else:
            place /= "__init__.py"
        if parts and not re.search(rf"\b{parts[0]}\b", place.read_text(encoding="utf-8")):
            yield name


def test_what_is_named_exists() -> None:
    texts = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in [*PAGES, *SOURCES]
    }
    found = {name: [*missing_files(text), *missing_names(text)] for name, text in texts.items()}
    assert {name: missing for name, missing in found.items() if missing} == {}


def test_no_two_files_of_tests_have_one_name() -> None:
    """Tests are no packages: pytest imports each by its name alone, and takes the second for the first."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_what_does_not_exist_is_found() -> None:
    text = "`oracle/tally.py`, `oracle.tally`, `scoring.tally.nil`; `scoring/tally.py`, `scoring.tally.Tally`"
    assert [*missing_files(text)] == ["oracle/tally.py"]
    assert sorted(missing_names(text)) == ["oracle.tally", "scoring.tally.nil"]
