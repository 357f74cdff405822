"""`precision-lab cost`: what is printed, what is written, and how it ends."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from emulation import require
from rich.console import Console
from sample_costs import FORWARD, cost
from typer.testing import CliRunner

from precision_lab.cli.cost import print_costs
from precision_lab.cli.main import app
from precision_lab.results.cost import Cost, DirectionCost

require("triton", "cuda.bindings")
KERNELS = Path(__file__).parents[1] / "helpers" / "cost_kernels.cu"


def shown(found: Cost) -> str:
    console = Console(file=io.StringIO(), width=160)
    print_costs([found], console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_kernel_is_counted_printed_and_written(tmp_path: Path) -> None:
    path = tmp_path / "cost.json"
    arguments = ["cost", f"{KERNELS}:silu", "--function", "silu", "--format", "fp32", "--device", "sm_90"]
    done = CliRunner().invoke(app, [*arguments, "--json", str(path)])
    assert done.exit_code == 0, done.output
    assert "per element, counted and not timed" in done.output and "bound by memory" in done.output
    assert "the paper counts, forward: 1 exp, 2 mul, 1 add, 1 div" in done.output
    (data,) = json.loads(path.read_text())["costs"]
    found = Cost.from_json(data)
    assert (found.device, found.fmt, found.target) == ("sm_90", "fp32", f"{KERNELS}:silu")
    assert f"{found.directions[0].most:.4g}" in done.output


def test_what_the_table_says() -> None:
    text = shown(cost())
    lines = {line.split("  ")[0].strip(): line.split()[-1] for line in text.splitlines()}
    assert "23.25" in text and "30 to 39.5" in text and "no bound" in text
    assert lines["registers of a thread"] == "62"
    assert "64 of 64, by warps" in text and "32 of 64, by registers" in text
    assert "H100 SXM*, at copy speed" in text and "H200, at copy speed" in text
    assert "open: memory or instructions" in text
    assert "roots_kernel takes 700 instructions of a thread once (1 block)" in text
    assert "backward_kernel: left out, as machine code differs: sums" in text
    assert "note: backward: torch's operator sum ran on the CPU" in text
    for word in ("faster", "slower", "time", "seconds"):
        assert word not in text.replace("not timed", ""), word


def test_a_pass_that_is_not_counted_ends_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    import precision_lab.running.own_process as own_process

    failed = DirectionCost("backward", 6.0, failure="no kernel was launched")
    monkeypatch.setattr(own_process, "on", lambda *_: cost(directions=(FORWARD, failed)))
    done = CliRunner().invoke(app, ["cost", "stable [operator]", "--function", "xielu", "--device", "sm_90"])
    assert done.exit_code == 1 and "backward: not counted: no kernel was launched" in done.output


def test_a_processor_is_no_place_to_count() -> None:
    done = CliRunner().invoke(app, ["cost", "stable", "--function", "xielu"])
    assert done.exit_code == 2 and "--device sm_90" in done.output


def test_an_engine_that_is_not_asked_is_refused() -> None:
    arguments = ["cost", "stable [operator]", "--function", "xielu", "--device", "sm_90"]
    done = CliRunner().invoke(app, [*arguments, "--emulator", "reference"])
    assert done.exit_code == 2 and "--emulator has no effect with a count of instructions" in done.output


def test_the_help_lists_the_command() -> None:
    done = CliRunner().invoke(app, ["--help"])
    assert "cost" in done.output and done.exit_code == 0
