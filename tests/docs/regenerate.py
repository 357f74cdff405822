"""What the pages show of commands is what the commands print.

    python tests/docs/regenerate.py                  # README.md and docs/: writes outputs that have changed
    python tests/docs/regenerate.py docs/start.md    # some pages alone
    python tests/docs/regenerate.py --check          # writes nothing; exit code 1 where an output differs
    python tests/docs/regenerate.py --list           # says what is run, what is slow, and what is left out
    python tests/docs/regenerate.py --quick          # leaves blocks marked as slow as they are

A block ```` ```console ```` with `precision-lab` or `pytest` behind a prompt is run: its page's commands in
order, in one folder that holds the files of docs/examples and those that the page shows, in blocks whose
first line is a comment with the file's name (`# my_kernels.py`). What is shown is what a terminal of 100
columns without colours shows. Exit codes from 2 on are errors unless `echo $?` follows.

`…` stands for what a page leaves out: lines, or a part of one. White space is not compared, since pages fold
long lines. What `VARIES` names is equal to itself whatever its digits are.

A comment before a block says what is done with it:

    <!-- slow: thirty seconds -->                run by `tox -e exhaustive`, and by this script
    <!-- not regenerated: needs an H200 -->      never run, listed with its reason
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
WIDTH = 110  # columns of a line in a page; what is printed is at most 100 wide, or not folded at all
ELISION = "…"

# What may differ between two runs on one machine, or two machines, without anything having changed.
VARIES = {
    "how far a budget of time goes": (
        r"(?:\d+ elements were tried, as many as fit|it does not fit) the budget of \S+ s"
        r"(?: at \S+ ns an element)?"
    ),
    "a duration": r"\b\d+(?:\.\d+)? ?(?:ns|µs|ms|s|min|h)\b",
    "a clock": r"\b\d+:\d\d:\d\d\b",
    "a rate": r"\b\d+(?:\.\d+)? ?[kMG]? ?(?:inputs|elements)/s",
    "a progress bar": r"[━╸╺]+",
    "a temporary folder": r"/tmp/[\w./-]+",
}

_NEW_LINES = 4  # so many lines further, a line still stands beside the one before it

_FENCE = re.compile(r"(`{3,}|~{3,})(\S*)[^`]*")
_COMMENT = re.compile(r"<!-- (slow|not regenerated): (.+?) -->")
_FILE_NAME = re.compile(r"(?:#|//|/\*) ([\w-]+\.\w+)(?: \*/)?")
_RUN = re.compile(r"\b(?:precision-lab|pytest)\b")


@dataclass
class Command:
    """A command behind a prompt, and the lines that a page shows of what it prints."""

    lines: list[str]
    shown: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@dataclass
class Block:
    """A block of commands.

    Attributes:
        start, end: the lines within its fences, as a range of the page's lines.
        left: "slow", "not regenerated" or "".
    """

    start: int
    end: int
    commands: list[Command]
    left: str = ""
    reason: str = ""

    @property
    def tells(self) -> bool:
        """Whether it shows a word of what is printed; a block of prompts and elisions cannot be wrong."""
        return any(line.strip() not in ("", ELISION) for command in self.commands for line in command.shown)


@dataclass
class Page:
    path: Path
    lines: list[str]
    blocks: list[Block]
    files: dict[str, str]

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix() if self.path.is_relative_to(ROOT) else self.path.name


def read(path: Path) -> Page:
    """A page, with its blocks of commands and the files that it shows."""
    lines = path.read_text(encoding="utf-8").splitlines()
    blocks: list[Block] = []
    files: dict[str, str] = {}
    for start, end, language in _fenced(lines):
        body = lines[start:end]
        if language == "console":
            commands = _commands(body)
            if any(_RUN.search(command.text) for command in commands):
                blocks.append(Block(start, end, commands, *_marked(lines, start - 1)))
        elif body and (named := _FILE_NAME.fullmatch(body[0])):
            files[named[1]] = "\n".join(body) + "\n"
    return Page(path, lines, blocks, files)


def _fenced(lines: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    at = 0
    while at < len(lines):
        opened = _FENCE.fullmatch(lines[at])
        at += 1
        if not opened:
            continue
        start = at
        while at < len(lines) and lines[at].rstrip() != opened[1]:
            at += 1
        yield start, at, opened[2]
        at += 1


def _commands(body: Sequence[str]) -> list[Command]:
    commands: list[Command] = []
    continued = False
    for line in body:
        if continued:
            commands[-1].lines.append(line.removeprefix("> "))
        elif line.startswith("$ "):
            commands.append(Command([line[2:]]))
        elif commands:
            commands[-1].shown.append(line)
            continue
        continued = line.endswith("\\")
    return commands


def _marked(lines: Sequence[str], fence: int) -> tuple[str, str]:
    """What the comment before a block's fence says of it."""
    before = [line for line in lines[max(fence - 2, 0) : fence] if line.strip()]
    found = _COMMENT.fullmatch(before[-1].strip()) if before else None
    return (found[1], found[2]) if found else ("", "")


def pages() -> list[Page]:
    """README.md and all pages of docs/ that have blocks of commands."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page for page in map(read, paths) if page.blocks]


class CommandFailedError(Exception):
    """A command of a page ended otherwise than by what it found."""


def run(page: Page, *, slow: bool) -> tuple[dict[int, list[str]], list[str]]:
    """What the commands of a page print, by the number of its block, one output for each; and what failed.

    A command fails that ends with an exit code of 2 or more. The blocks after it are run all the same.
    """
    found: dict[int, list[str]] = {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="page-") as folder:
        for example in EXAMPLES.iterdir():
            if example.is_file():
                shutil.copy(example, folder)
        for name, text in page.files.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        for number, block in enumerate(page.blocks):
            if not block.left or (slow and block.left == "slow"):
                try:
                    found[number] = _run_block(page, block, folder)
                except CommandFailedError as error:
                    failed.append(str(error))
    return found, failed


def _run_block(page: Page, block: Block, folder: str) -> list[str]:
    mark = "==== end of a command, status "
    script = "".join(
        f"(exit \"${{status:-0}}\")\n{command.text}\nstatus=$?; printf '%s%s\\n' '{mark}' \"$status\"\n"
        for command in block.commands
    )
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
        "NO_COLOR": "1",
        "PYTHONIOENCODING": "utf-8",
        "PYTEST_ADDOPTS": "-p no:cacheprovider",
    }
    for name in ("FORCE_COLOR", "PYTEST_CURRENT_TEST", "PYTEST_XDIST_WORKER"):
        environment.pop(name, None)
    ran = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, encoding="utf-8", check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    printed = re.split(rf"{re.escape(mark)}(\d+)\n", ran.stdout)
    outputs, statuses = printed[0:-1:2], [int(status) for status in printed[1::2]]
    for at, (command, status) in enumerate(zip(block.commands, statuses, strict=False)):
        following = block.commands[at + 1].text if at + 1 < len(block.commands) else ""
        if status > 1 and "$?" not in following + command.text:
            raise CommandFailedError(
                f"{page.name}, line {block.start + 1}: `{command.text}` ended with {status}:\n{outputs[at]}"
            )
    if len(outputs) != len(block.commands):
        raise CommandFailedError(
            f"{page.name}, line {block.start + 1}: the commands did not end:\n{ran.stdout}"
        )
    return [
        output.replace(os.path.realpath(folder), "/tmp/page").replace(folder, "/tmp/page")
        for output in outputs
    ]


def _comparable(text: str) -> str:
    text = " ".join(text.split())
    for what, pattern in VARIES.items():
        text = re.sub(pattern, f"<{what}>", text)
    return text


def agrees(shown: Sequence[str], printed: str) -> bool:
    """Whether what a page shows is what was printed, but for white space, elisions and what varies."""
    text = _comparable(printed)
    parts = [_comparable(part) for part in "\n".join(shown).split(ELISION)]
    if len(parts) == 1:
        return parts[0] == text
    if not text.startswith(parts[0]) or not text.endswith(parts[-1]):
        return False
    at, end = len(parts[0]), len(text) - len(parts[-1])
    for part in parts[1:-1]:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return at <= end


def folded(printed: str) -> list[str]:
    """Lines of an output as a page has them: none wider than it, none with blanks at its end."""
    return [
        part
        for line in printed.rstrip("\n").split("\n")
        for part in (
            [line.rstrip()]
            if len(line.rstrip()) <= WIDTH
            else textwrap.wrap(line.rstrip(), WIDTH, break_long_words=False, break_on_hyphens=False)
        )
    ] if printed.strip() else []  # fmt: skip


def rewritten(shown: Sequence[str], printed: str) -> list[str]:
    """The lines to be shown instead: those printed that are most like the ones shown now, and `…`.

    A page that shows all of an output gets all of the new one; one that shows nothing gets all of it, too.
    """
    new = folded(printed)
    if not any(ELISION in line for line in shown):
        return new
    wanted = [line for line in shown if line.strip() != ELISION]
    chosen = _most_alike(wanted, new)
    # Between two lines that stood beside each other, what is new belongs to them.
    kept: set[int] = set()
    previous: int | None = None
    at = 0
    for line in shown:
        if line.strip() == ELISION:
            previous = None
            continue
        here = chosen[at]
        at += 1
        if here is not None:
            together = previous is not None and here - previous <= _NEW_LINES
            kept.update(range(previous if together else here, here + 1))  # type: ignore[arg-type]
            previous = here
    result: list[str] = []
    for number, line in enumerate(new):
        if number in kept:
            result.append(line)
        elif not result or result[-1] != ELISION:
            result.append(ELISION)
    return result


def _most_alike(wanted: Sequence[str], new: Sequence[str], least: float = 0.5) -> list[int | None]:
    """For each line the number of the new line that is most like it, in order; None where none is."""
    alike = [[difflib.SequenceMatcher(None, a, b, autojunk=False).ratio() for b in new] for a in wanted]
    best = [[0.0] * (len(new) + 1) for _ in range(len(wanted) + 1)]
    for i in range(len(wanted) - 1, -1, -1):
        for j in range(len(new) - 1, -1, -1):
            pair = alike[i][j] + best[i + 1][j + 1] if alike[i][j] >= least else 0.0
            best[i][j] = max(pair, best[i + 1][j], best[i][j + 1])
    chosen: list[int | None] = []
    j = 0
    for i in range(len(wanted)):
        while j < len(new) and best[i][j] == best[i][j + 1]:
            j += 1
        if j < len(new) and best[i][j] != best[i + 1][j]:
            chosen.append(j)
            j += 1
        else:
            chosen.append(None)
    return chosen


@dataclass(frozen=True)
class Difference:
    """An output that is not as its page shows it."""

    page: str
    line: int
    command: str
    shown: tuple[str, ...]
    instead: tuple[str, ...]

    def __str__(self) -> str:
        lines = difflib.unified_diff(self.shown, self.instead, "shown", "printed", lineterm="")
        return "\n".join([f"{self.page}, line {self.line}: $ {self.command}", *lines])


def differences(page: Page, outputs: dict[int, list[str]]) -> list[Difference]:
    """What a page shows otherwise than it was printed."""
    found = []
    for number, printed in outputs.items():
        block = page.blocks[number]
        for command, output in zip(block.commands, printed, strict=True):
            if not agrees(command.shown, output):
                instead = rewritten(command.shown, output)
                found.append(
                    Difference(page.name, block.start + 1, command.text, tuple(command.shown), tuple(instead))
                )
                command.shown = instead
    return found


def silent(page: Page, outputs: dict[int, list[str]]) -> list[str]:
    """Blocks of which nothing is shown, so that they agree with anything."""
    blocks = [page.blocks[number] for number in outputs]
    return [
        f"{page.name}, line {block.start + 1}: no word of the output is shown"
        for block in blocks
        if not block.tells
    ]


def written(page: Page) -> str:
    """The page with the outputs that its commands have now."""
    lines = list(page.lines)
    for block in reversed(page.blocks):
        body = []
        for command in block.commands:
            first, *others = command.lines
            body += [f"$ {first}", *others, *command.shown]
        lines[block.start : block.end] = body
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Runs the commands that pages show, and writes what they print."
    )
    parser.add_argument("pages", nargs="*", type=Path, help="default: README.md and docs/")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where an output differs"
    )
    parser.add_argument("--quick", action="store_true", help="leave blocks marked as slow as they are")
    parser.add_argument("--list", action="store_true", help="run nothing; say what is run and what is not")
    given = parser.parse_args(arguments)
    chosen = [read(path.resolve()) for path in given.pages] if given.pages else pages()
    if given.list:
        print(*_listed(chosen), sep="\n")
        return 0
    changed = failures = 0
    for page in chosen:
        outputs, failed = run(page, slow=not given.quick)
        found = differences(page, outputs)
        failed += silent(page, outputs)
        changed, failures = changed + len(found), failures + len(failed)
        print(*failed, *found, sep="\n", end="\n" if failed or found else "", flush=True)
        if found and not given.check:
            page.path.write_text(written(page), encoding="utf-8")
    print(f"{changed} outputs {'differ' if given.check else 'written'}, {failures} commands failed")
    return int(bool(failures or (changed and given.check)))


def _listed(chosen: Sequence[Page]) -> Iterator[str]:
    blocks = [(page, block) for page in chosen for block in page.blocks]
    for left, title in (
        ("", "run by the default tests"),
        ("slow", "slow"),
        ("not regenerated", "not regenerated"),
    ):
        those = [(page, block) for page, block in blocks if block.left == left]
        yield f"{len(those)} blocks {title}"
        for page, block in those:
            reason = f": {block.reason}" if block.reason else ""
            yield f"  {page.name}, line {block.start + 1}, {len(block.commands)} commands{reason}"


if __name__ == "__main__":
    sys.exit(main())
