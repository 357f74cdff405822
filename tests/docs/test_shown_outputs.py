"""What README.md and docs/ show of commands is what they print; `regenerate.py` here writes it anew.

The default run tries the quick blocks of every page; `tox -e exhaustive` those marked as slow, too.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import regenerate
from regenerate import Page, agrees, differences, folded, read, rewritten, silent, written

PAGES = {page.name: page for page in regenerate.pages()}
LEFT = {name: {block.left for block in page.blocks} for name, page in PAGES.items()}
ANEW = "python tests/docs/regenerate.py"


def disagreements(page: Page, *, slow: bool) -> list[str]:
    outputs, failed = regenerate.run(page, slow=slow)
    return [*failed, *map(str, differences(page, outputs)), *silent(page, outputs)]


@pytest.mark.parametrize("name", [name for name, left in LEFT.items() if "" in left])
def test_a_page_shows_what_its_quick_commands_print(name: str) -> None:
    found = disagreements(read(PAGES[name].path), slow=False)
    assert found == [], "\n".join([f"run: {ANEW} {name}", *found])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, left in LEFT.items() if "slow" in left])
def test_a_page_shows_what_all_its_commands_print(name: str) -> None:
    found = disagreements(read(PAGES[name].path), slow=True)
    assert found == [], "\n".join([f"run: {ANEW} {name}", *found])


# -- the script itself --------------------------------------------------------


def page(tmp_path: Path, text: str) -> Page:
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    return read(path)


RUN = """# A page

```python
# said.py
print("pytest: one")
print("two in 3.5 s")
```

{comment}
```console
$ python said.py  # precision-lab
{shown}
$ echo $?
0
```
"""


def test_a_page_that_shows_all_lines_agrees_in_its_own_folder(tmp_path: Path) -> None:
    found = page(tmp_path, RUN.format(comment="", shown="pytest: one\ntwo in 99 s"))
    assert disagreements(found, slow=False) == []  # a duration is a duration


@pytest.mark.parametrize("shown", ["pytest: one", "pytest: one\nthree", "pytest: one\ntwo in 3.5 s\nthree"])
def test_a_page_that_shows_something_else_is_told_and_mended(shown: str, tmp_path: Path) -> None:
    found = page(tmp_path, RUN.format(comment="", shown=shown))
    outputs, failed = regenerate.run(found, slow=False)
    assert failed == [] and len(differences(found, outputs)) == 1
    assert written(found) == RUN.format(comment="", shown="pytest: one\ntwo in 3.5 s")


def test_a_block_that_is_marked_is_left(tmp_path: Path) -> None:
    slow = page(tmp_path, RUN.format(comment="<!-- slow: a reason -->", shown="wrong"))
    assert disagreements(slow, slow=False) == [] and len(disagreements(slow, slow=True)) == 1
    never = page(tmp_path, RUN.format(comment="<!-- not regenerated: needs a device -->", shown="wrong"))
    assert disagreements(never, slow=True) == []
    assert (never.blocks[0].left, never.blocks[0].reason) == ("not regenerated", "needs a device")


def test_a_command_that_is_used_wrongly_fails_its_page(tmp_path: Path) -> None:
    text = "```console\n$ precision-lab verify\n…\n```\n"
    assert "ended with 2" in disagreements(page(tmp_path, text), slow=False)[0]


def test_a_block_that_shows_no_word_is_told(tmp_path: Path) -> None:
    text = "```console\n$ echo precision-lab\n…\n```\n"
    assert "no word" in disagreements(page(tmp_path, text), slow=False)[0]


PRINTED = "region  max\nzero    0.5\nother   2.0\nfault at x=1.0 (0x1p+0): computed 3. Replay: this\nfail\n"


@pytest.mark.parametrize(
    ("shown", "same"),
    [
        (["region max", "zero 0.5", "…", "fail"], True),
        (["…", "other 2.0", "fault at x=1.0 …: computed 3.", "Replay: …", "fail"], True),
        (["…", "fail"], True),
        (["…", "pass"], False),
        (["region max", "…", "zero 0.6", "…"], False),
        (["…", "other 2.0", "…", "zero 0.5", "…"], False),  # the order counts
        (["region max", "fail"], False),  # nothing is left out without a sign
        (["…", "fault at x=1.0 … computed 3. Replay: this fail", "fail"], False),  # nothing counts twice
    ],
)
def test_an_elision_stands_for_anything_and_everything_else_for_itself(shown: list[str], same: bool) -> None:
    assert agrees(shown, PRINTED) is same


def test_lines_are_folded_at_blanks() -> None:
    long = "word " * 40
    lines = folded(f"short  columns   kept\n{long}\n")
    assert lines[0] == "short  columns   kept"
    assert " ".join(lines[1:]) == long.strip() and all(len(line) <= regenerate.WIDTH for line in lines)
    assert folded("\n") == []


def test_a_page_that_leaves_lines_out_leaves_them_out_of_what_is_new() -> None:
    shown = ["region  max", "…", "other   1.5", "…", "fail"]
    new = PRINTED.replace("2.0", "7.25")
    assert rewritten(shown, new) == ["region  max", "…", "other   7.25", "…", "fail"]
    assert agrees(rewritten(shown, new), new)
    assert rewritten([], new) == folded(new)


# -- what is shown and not run ------------------------------------------------

COMMAND = re.compile(r"(?:^|[\s;&|(])(precision-lab\s.*)")


def shown_commands() -> list[tuple[str, str]]:
    """Every line in a block that calls the program, with its page; continued lines are one."""
    found = []
    for path in (regenerate.ROOT / "README.md", *sorted((regenerate.ROOT / "docs").rglob("*.md"))):
        lines = path.read_text(encoding="utf-8").splitlines()
        for start, end, language in regenerate._fenced(lines):
            if language not in ("sh", "console"):
                continue
            for line in re.sub(r"\\\n", " ", "\n".join(lines[start:end])).splitlines():
                if (language == "sh" or line.startswith("$ ")) and (match := COMMAND.search(line)):
                    found.append((path.name, match[1]))
    return found


def test_every_command_that_is_shown_is_one_that_the_program_takes() -> None:
    import typer

    from precision_lab.cli.main import app

    program = typer.main.get_command(app)
    wrong = []
    for place, line in shown_commands():
        words = shlex.split(re.split(r"\s*(?:\||;|&&|\s#|>)", line)[0], comments=True)[1:]
        if words == ["--version"] or "--help" in words:
            continue
        try:
            command = program.commands[words[0]]
            command.make_context(words[0], list(words[1:]))
        except Exception as error:  # the program's own errors of use, of whatever class
            wrong.append(f"{place}: {line}: {type(error).__name__}: {error}")
    assert len(shown_commands()) > 50
    assert wrong == []
