"""Nothing measured is lost on the way out, and no text of a kernel's is an instruction where it is shown."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_page import packed, unfolded
from sample_results import sample_results as sample
from typer.testing import CliRunner

from precision_lab.cli.main import app
from precision_lab.cli.output import Outputs
from precision_lab.cli.print_verdict import print_verdict
from precision_lab.cli.printing import console_for
from precision_lab.exceptions import KernelError, UndecidedError, UsageError
from precision_lab.report import read_results, write_report
from precision_lab.results import Failure, Finding, Measurement
from precision_lab.study import study
from precision_lab.study.saved_cases import Cases
from precision_lab.system import atomic_file
from precision_lab.system.text import LONGEST, markdown_safe, plain, plain_message
from precision_lab.verifying import verify as doors
from precision_lab.verifying.junit import junit_xml
from precision_lab.verifying.verdict import Verdict

HERE = ("--format", "bf16", "--output", "forward", "--properties", "none", "--no-isolate", "--params", "init")


def run(*arguments: str | Path):  # type: ignore[no-untyped-def]
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kernels") / "kernels.py"
    path.write_text(
        "import os, signal, time, torch\n"
        "def relu(x): return torch.relu(x)\n"
        "def wrong(x): return torch.relu(x) + 1\n"
        "def hostile(x): raise ValueError('\\x1b[2J\\ud800\\x00<script>alert(1)</script>\\u202e|](http://x)')\n"
        "def waits(x):\n"
        "    open(__file__ + '.started', 'w').close()\n"
        "    time.sleep(600)\n",
        encoding="utf-8",
    )
    return path


# -- files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--json", "--junit"])
@pytest.mark.parametrize(
    ("place", "words"), [("folder", "is a folder"), ("no/such.file", "its folder does not exist")]
)
def test_an_output_that_cannot_be_written_is_refused_before_anything_is_measured(
    kernels: Path, tmp_path: Path, option: str, place: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(doors, "verify", lambda *_, **__: pytest.fail("measured"))
    result = run("verify", f"{kernels}:relu", "--function", "relu", *HERE, option, tmp_path / place)
    assert result.exit_code == 2
    assert f"{option} '{tmp_path / place}': {words}" in result.output


def test_one_file_for_two_outputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another option names it as well"):
        Outputs({"--json": tmp_path / "x", "--junit": tmp_path / "x"})


@pytest.mark.parametrize(("name", "code"), [("relu", 2), ("wrong", 1)])
def test_a_full_disk_costs_neither_the_verdict_nor_the_file(
    kernels: Path, tmp_path: Path, name: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic_file, "write_atomically", full)
    path = tmp_path / "v.json"
    result = run("verify", f"{kernels}:{name}", "--function", "relu", *HERE, "--json", path)
    assert result.exit_code == code
    assert "\nforward  " in result.stdout
    assert f"--json '{path}' could not be written (No space left on device)" in result.stderr
    kept = Path(re.search(r"it is kept in (\S+\.json)", result.stderr)[1])  # type: ignore[index]
    assert json.loads(kept.read_text())["outcome"] == ("pass" if name == "relu" else "fail")
    kept.unlink()
    assert list(tmp_path.iterdir()) == []


def test_json_on_standard_output_is_all_that_is_there(kernels: Path) -> None:
    result = run("verify", f"{kernels}:relu", "--function", "relu", *HERE, "--json", "-")
    data = json.loads(result.stdout)
    assert "\nforward  holds" in result.stderr
    assert data["bounds"]["bf16.forward"]["max_ulp"] == 1.0
    assert data["precision_lab"] and data["environment"]["torch"]


@pytest.mark.parametrize("sink", ["/dev/full", "closed pipe"])
def test_a_standard_output_that_fails_costs_no_file(kernels: Path, tmp_path: Path, sink: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("the system has no /dev/full")
    path = tmp_path / "list.json"
    command = [sys.executable, "-m", "precision_lab", "list", "--json", str(path)]
    if sink == "closed pipe":
        read, write = os.pipe()
        os.close(read)
    else:
        write = os.open(sink, os.O_WRONLY)
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(write)
    assert json.loads(path.read_text())["functions"]
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if sink == "closed pipe" else 2)
    assert ("No space left on device" in done.stderr) == (sink == "/dev/full")


def test_options_without_effect_are_refused(tmp_path: Path) -> None:
    for arguments, option in (
        (("report", "--from", tmp_path, "--quick"), "--quick"),
        (("report", "--from", tmp_path, "--resume"), "--resume"),
        (("report", "--from", tmp_path, "--format", "bf16"), "--format"),
        (("tables", "--check", "--function", "xielu"), "--function"),
        (("verify", "naive", "--function", "xielu", "--time-limit", "3"), "--time-limit"),
    ):
        if "report" in arguments:
            arguments = (*arguments, "--out", tmp_path / "out")
        result = run(*arguments)
        assert result.exit_code == 2
        assert f"{option} has no effect with" in result.output, result.output


def test_the_version() -> None:
    from precision_lab import __version__

    assert run("--version").stdout == f"precision-lab {__version__}\n"


# -- exit codes -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("an argument"), 2),
        (ValueError("operands could not be broadcast together"), 3),
        (ImportError("cannot import name"), 3),
        (OSError(errno.ENOSPC, "No space left on device", "/nobody/named/this"), 3),
        (MemoryError(), 3),
        (RecursionError("maximum recursion depth exceeded"), 3),
        (AssertionError(), 3),
        (KernelError("raised", "the kernel"), 1),
        (UndecidedError("no tier"), 1),
    ],
)  # fmt: skip
def test_an_exception_of_the_labs_own_is_not_called_wrong_use(
    error: Exception, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(doors, "verify", fails)
    result = run("verify", "naive", "--function", "xielu")
    assert result.exit_code == code
    assert ("the lab's own trouble" in result.stderr) == (code == 3)
    if code == 3:
        kept = Path(re.search(r"the traceback is in (\S+)", result.stderr)[1])  # type: ignore[index]
        assert type(error).__name__ in kept.read_text()
        kept.unlink()


def test_a_file_the_user_named_that_cannot_be_read_is_wrong_use(tmp_path: Path) -> None:
    folder = tmp_path / "bounds.toml"
    folder.mkdir()
    result = run("verify", "naive", "--function", "xielu", "--bound", folder)
    assert result.exit_code == 2 and "bounds.toml" in result.output


# -- Ctrl-C ---------------------------------------------------------------------------------


def test_an_interrupted_verdict_says_what_arrived_and_never_passes(kernels: Path, tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    command = [
        sys.executable,
        "-m",
        "precision_lab.cli.main",
        "verify",
        f"{kernels}:waits",
        "--function",
        "relu",
    ]
    with subprocess.Popen(
        [*command, "--json", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        end = time.monotonic() + 120
        while not Path(f"{kernels}.started").exists() and time.monotonic() < end:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted; what had been measured is judged above" in err
    assert "Traceback" not in err
    assert "interrupted: what follows was not measured" in out
    assert json.loads(path.read_text())["outcome"] == "inconclusive"


def test_an_interrupted_report_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = study.StudySettings(
        functions=("relu2",), formats=("e4m3", "bf16"), compiled=False, timing=False
    )
    monkeypatch.setattr("precision_lab.study.lowprecision.examine", lambda *_: None)
    whole = study.run(settings)
    from precision_lab.measuring import measure

    real, calls = measure.measure_all, []

    def counted(case):  # type: ignore[no-untyped-def]
        if len(calls) == 1:
            raise KeyboardInterrupt
        calls.append(case.fmt)
        return real(case)

    monkeypatch.setattr(measure, "measure_all", counted)
    with pytest.raises(KeyboardInterrupt):
        study.run(settings, cases=Cases(tmp_path, settings))
    calls.clear()
    with pytest.raises(UsageError, match="holds an unfinished report; --resume goes on with it"):
        Cases(tmp_path, settings)
    with pytest.raises(UsageError, match="other settings, another version or another machine"):
        Cases(tmp_path, replace(settings, formats=("bf16",)), resume=True)
    monkeypatch.setattr(measure, "measure_all", lambda case: calls.append(case.fmt) or real(case))
    cases = Cases(tmp_path, settings, resume=True)
    resumed = study.run(settings, cases=cases)
    assert len(calls) == len({(m.implementation, m.execution, m.fmt) for m in whole.measurements}) - 1
    assert resumed.measurements == whole.measurements
    # One that is damaged is measured again.
    calls.clear()
    file = min((tmp_path / "cases").glob("*.case"))
    file.write_bytes(file.read_bytes()[:-9] + b"123456789")
    again = study.run(settings, cases=Cases(tmp_path, settings, resume=True))
    assert (again.measurements, again.reductions) == (whole.measurements, whole.reductions)
    cases.remove()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="holds no unfinished report"):
        Cases(tmp_path, settings, resume=True)


# -- texts ----------------------------------------------------------------------------------

HOSTILE = (
    "\x1b[2J\x1b]0;title\x07",
    "\x00\x01\x08", "\ud800", "\udcff", "\u202etxt.exe", "\u2028", "\ufffe", "\x9b31m",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "]]>", "a|b`c", "[x](javascript:alert(1))",
    "[red]x[/red]", "[/]", "$x_", "{{ 7 * 7 }}", "&lt;", "\r\n::error::", "é∂ 好 🙂", "x" * (LONGEST + 1),
)  # fmt: skip


def test_foreign_text_is_safe_on_a_terminal_and_in_xml() -> None:
    for text in HOSTILE:
        m = replace(sample().measurements[0], failure=Failure("raised", text), implementation=text)
        fault = Finding(
            code="raised", function="xielu", implementation=text, fmt="bf16", output="forward",
            params_name=text, message=text, replay=text,
        )  # fmt: skip
        found = Verdict((m,), (fault,), notes=(text,))
        assert ElementTree.fromstring(junit_xml(found).encode())[0].get("failures") == "1"
        console = console_for()
        console.file = io.StringIO()
        print_verdict(found, console)
        shown = console.file.getvalue()
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2028\ud800-\udfff]", shown), text
        assert not any(line.startswith("::") for line in shown.splitlines())  # a command to some CI systems
        shown.encode()
        assert len(shown) < 12 * LONGEST


def test_foreign_text_is_safe_in_a_report(tmp_path: Path) -> None:
    results = sample()
    texts = {k: HOSTILE[k % len(HOSTILE)] for k in range(0, len(results.measurements), 3)}
    hostile = [
        replace(m, implementation=texts[k], failure=Failure("raised", texts[k]) if k % 2 else m.failure)
        if k in texts
        else m
        for k, m in enumerate(results.measurements)
    ]
    assert {m.implementation for m in hostile if m.failure} & {m.implementation for m in hostile}
    written = write_report(replace(results, measurements=tuple(hostile)), tmp_path)
    page = written["html"].read_text(encoding="utf-8")
    assert page.count("<script>") == 1 and "<img src=x" not in page + "".join(packed(page))
    assert "<script" not in unfolded(page)
    markdown = "".join(path.read_text(encoding="utf-8") for path in written.values() if path.suffix == ".md")
    assert "<script>" not in markdown and "<img" not in markdown and "](javascript" not in markdown
    again = read_results(written["json"])
    assert {m.implementation for m in again.measurements} == {m.implementation for m in hostile}


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert plain(plain(text)) == plain(text)
    assert markdown_safe(markdown_safe(text)) == markdown_safe(text)


def test_what_is_spelt_out_can_be_read() -> None:
    assert plain("a\x1b[1mb\ud800\U000e0001é\n") == "a\\x1b[1mb\\ud800\\U000e0001é\n"
    assert plain_message("x" * 5000) == "x" * LONGEST + "… (5,000 characters)"


def test_a_hostile_report_file_is_read_and_shown(tmp_path: Path) -> None:
    data = json.loads(sample().dumps())
    data["measurements"][0]["implementation"] = "\ud800<script>"
    data["environment"]["cpu"] = "\x1b[31m\ud800"
    (tmp_path / "report.json").write_text(json.dumps(data))
    result = run("report", "--from", tmp_path / "report.json", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "\x1b[31m" not in result.output


def test_a_hostile_kernel_and_a_hostile_argument_end_with_words(kernels: Path, tmp_path: Path) -> None:
    paths = ("--json", tmp_path / "v.json", "--junit", tmp_path / "v.xml")
    result = run("verify", f"{kernels}:hostile", "--function", "relu", *HERE, *paths)
    assert result.exit_code == 1
    assert "\\x1b[2J\\ud800\\x00<script>" in result.stdout
    assert json.loads((tmp_path / "v.json").read_text())["outcome"] == "fail"
    ElementTree.parse(tmp_path / "v.xml")
    wrong = run("verify", "no\x1b[31m\udcffsuch:thing", "--function", "relu")
    assert wrong.exit_code == 2 and "no\\x1b[31m\\udcffsuch" in wrong.output


def test_a_measurement_of_a_named_set_is_plain() -> None:
    m: Measurement = sample().measurements[0]
    assert partial(replace, m)(params_name="\x1b").params_name == "\\x1b"
