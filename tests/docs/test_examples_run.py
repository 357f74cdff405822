"""Examples behind `>>>`, in docstrings and in pages, give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import precision_lab

ROOT = Path(__file__).parents[2]
PACKAGE = Path(precision_lab.__file__).parent
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# The doors of the lab: each shows in its docstring how it is used.
SHOWN = {
    "assert_accurate", "verify", "measure", "evaluate", "get_format", "FloatFormat", "get_function",
    "activation",
}  # fmt: skip


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = sorted(_module(path) for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text("utf-8"))
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
    if ">>> " in path.read_text("utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_give_what_they_say(name: str) -> None:
    found = doctest.testmod(importlib.import_module(name), optionflags=FLAGS, report=False)
    assert found.attempted > 0 and found.failed == 0


@pytest.mark.parametrize("name", PAGES)
def test_the_examples_of_a_page_give_what_they_say(name: str) -> None:
    # The fence that ends a block would be taken for the last line of an output.
    text = "\n".join(
        "" if line.startswith("```") else line for line in (ROOT / name).read_text("utf-8").splitlines()
    )
    example = doctest.DocTestParser().get_doctest(text, {}, name, name, 0)
    found = doctest.DocTestRunner(optionflags=FLAGS).run(example)
    assert found.attempted > 0 and found.failed == 0


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_what_people_begin_with_has_an_example(name: str) -> None:
    assert ">>> " in (getattr(precision_lab, name).__doc__ or "")


def test_a_wrong_example_fails() -> None:
    example = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner(optionflags=FLAGS).run(example, out=lambda _: None).failed == 1
