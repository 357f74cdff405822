"""No escape codes where NO_COLOR or a dumb terminal forbid them, on a terminal that would have them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from precision_lab.cli import progress, terminal
from precision_lab.cli.printing import console_for

pty = pytest.importorskip("pty", reason="pseudo-terminals are POSIX's")

ESCAPE = b"\x1b"
SHOW_PROGRESS = (
    "from precision_lab.cli.progress import ProgressBars, Rate\n"
    "with ProgressBars() as bars:\n    [bars('stage', k, 7) for k in range(8)]\n"
    "with Rate('fp32') as rate:\n    [rate('fp32', k, 7) for k in range(8)]\n"
)
CHECKS = (
    ("--help",), ("verify", "--help"), ("list",), ("explain", "silu", "--x", "1"), ("check",),
    ("verify", "stable", "--function", "xielu", "--output", "forward", "--properties", "none"),
    ("verify", "nothing.py:f", "--function", "silu"),
)  # fmt: skip


def on_a_terminal(words: list[str], folder: Path, **variables: str) -> bytes:
    """What a program writes to stdout and stderr that are a terminal."""
    ours, its = pty.openpty()
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "TERM", "COLORTERM")}
    process = subprocess.Popen(
        [sys.executable, *words], stdin=its, stdout=its, stderr=its, cwd=folder, close_fds=True,
        env={**kept, "TERM": "xterm-256color", "PYTHONPATH": str(Path(__file__).parents[2]), **variables},
    )  # fmt: skip
    os.close(its)
    said = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux's way to say that nobody writes any more
            break
        if not piece:
            break
        said += piece
    process.wait()
    os.close(ours)
    return said


@pytest.mark.parametrize("words", CHECKS, ids=" ".join)
def test_no_command_writes_an_escape_code_with_no_color(words: tuple[str, ...], tmp_path: Path) -> None:
    said = on_a_terminal(["-m", "precision_lab", *words], tmp_path, NO_COLOR="1")
    assert said.strip() and ESCAPE not in said
    assert b"leaked" not in said  # nor of Triton's objects, when the process ends


@pytest.mark.parametrize(
    "variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {"NO_COLOR": "0", "FORCE_COLOR": "1"}]
)
def test_progress_is_lines_of_text_where_nothing_may_be_redrawn(
    variables: dict[str, str], tmp_path: Path
) -> None:
    said = on_a_terminal(["-c", SHOW_PROGRESS], tmp_path, **variables)
    assert ESCAPE not in said
    assert [*re.findall(rb"stage +(\d+) %", said)] == [b"10", b"20", b"40", b"50", b"70", b"80", b"100"]
    assert b"fp32 100 %  7 of 7" in said


def test_with_colours_allowed_there_are_some(tmp_path: Path) -> None:
    assert ESCAPE in on_a_terminal(["-m", "precision_lab", "list"], tmp_path, NO_COLOR="")  # empty is not set
    assert ESCAPE in on_a_terminal(["-c", SHOW_PROGRESS], tmp_path)


@pytest.mark.slow
def test_the_pytest_plugin_adds_no_escape_code(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import torch\nimport precision_lab as pl\ndef test_silu():\n"
        "    pl.assert_accurate(torch.relu, 'silu', dtype='bf16', properties=False)\n",
        encoding="utf-8",
    )
    said = on_a_terminal(["-m", "pytest", "-p", "no:cacheprovider", "test_it.py"], tmp_path, NO_COLOR="1")
    assert b"exceeds bound" in said and ESCAPE not in said


def test_forced_colours_reach_a_pipe_and_never_against_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_coloured() -> bool:
        console = console_for()
        with console.capture() as kept:
            console.print("words", style="red")
        return "\x1b" in kept.get()

    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert not is_coloured()
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert is_coloured()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not is_coloured() and terminal.wants_no_escapes()


def test_in_a_file_only_the_end_of_a_stage_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.ProgressBars() as bars:
        for done in range(11):
            bars("stage", done, 10)
    assert capsys.readouterr().err == "       stage 100 %  10 of 10\n"


def test_every_console_is_told_of_the_streams_options() -> None:
    """rich's own consoles take NO_COLOR as half of what it says."""
    source = "".join(path.read_text(encoding="utf-8") for path in Path(terminal.__file__).parent.glob("*.py"))
    made = re.findall(r"Console\((?!Console)([^)]+\)?)", source)
    assert len(made) >= 3 and all("options" in arguments for arguments in made)
