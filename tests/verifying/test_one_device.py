"""Verdicts of one device: what its tables say it returns, and what its machine code fuses."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from emulation import require
from numpy.typing import NDArray
from typer.testing import CliRunner

import precision_lab
from precision_lab.cli.main import app
from precision_lab.emulator import machine_code, nominal
from precision_lab.emulator.device_table import Header, write
from precision_lab.results import Measurement, replay_command
from precision_lab.virtual_gpu.settings import TABLES

require("torch")

HELPERS = Path(__file__).parents[1] / "helpers"
OP, FTZ = "ex2.approx.bf16", True
BF16 = ml_dtypes.bfloat16


def returned(moved: int) -> NDArray[np.uint16]:
    """By a device whose every result is so many numbers from the rounded one, as far as that conforms."""
    found: NDArray[np.uint16] = nominal.evaluate(OP, FTZ, moved, np.arange(1 << 16).astype(np.uint16))
    return found


def table(path: Path, results: NDArray[np.uint16], capability: str = "9.0") -> Path:
    write(path, Header("Mine", capability, "13.0", OP, FTZ, 0, 1 << 16), [results])
    return path


def verified(monkeypatch: pytest.MonkeyPatch, folder: Path, *tables: Path) -> tuple[int, Any, str]:
    """SiLU with an exponential in BF16: the exit code, the result, and what was said."""
    monkeypatch.setenv(TABLES, "")  # put back, whatever the option says
    command = ["verify", f"{HELPERS / 'silu_in_bf16.ptx'}:silu", "--function", "silu", "--format", "bf16",
               "--output", "forward", "--properties", "none", "--max-ulp", "300", "--finite",
               "--device", "sm_90"]  # fmt: skip
    options = [word for path in tables for word in ("--device-table", str(path))]
    file = folder / "result.json"
    result = CliRunner().invoke(app, [*command, *options, "--json", str(file)])
    data = json.loads(file.read_text(encoding="utf-8")) if file.exists() else None
    return result.exit_code, data, " ".join(result.output.split())


def largest_error(exponentials: NDArray[np.uint16]) -> float:
    """Of all finite inputs, in ulps: the kernel's steps in numpy, against float64."""
    x = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32)
    x = x[np.isfinite(x)]
    with np.errstate(all="ignore"):
        scaled = (x * np.float32(-1.44269502)).astype(BF16)
        e = exponentials[scaled.view(np.uint16)].view(BF16).astype(np.float32)
        y = (x / (e + np.float32(1))).astype(BF16).astype(np.float64)
        exact = x.astype(np.float64) / (1 + np.exp(-x.astype(np.float64)))
        binade = np.maximum(np.frexp(exact)[1] - 1, -126)
    return float(np.max(np.abs(y - exact) / np.exp2(binade - 7.0)))


def test_a_verdict_with_a_table_is_of_that_device_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code, data, said = verified(monkeypatch, tmp_path)
    every = data["measurements"][0]["conformity"]
    assert code == 0 and every["tables"] == [] and every["instructions"] == ["ex2.approx.ftz.bf16"]
    assert "certified for every conforming device: ex2.approx.ftz.bf16, 5 combinations" in said
    most = max(span["most"] for span in every["regions"].values())
    results = returned(2)
    code, data, said = verified(monkeypatch, tmp_path, table(tmp_path / "table", results))
    (measured,) = data["measurements"]
    assert code == 0 and measured["conformity"]["tables"] == ["Mine"]
    assert measured["conformity"]["combinations"] == 1 and measured["conformity"]["instructions"] == []
    assert measured["max_ulp"] == pytest.approx(largest_error(results), rel=1e-6)
    assert measured["max_ulp"] <= most
    assert "certified for what Mine was measured to return" in said
    assert "every conforming device" not in said
    # The command that shows its worst input again has the table.
    told = Measurement.from_json(measured)
    assert told.witness is not None
    words = shlex.split(replay_command(told, told.witness))
    assert words[words.index("--device-table") + 1] == str(tmp_path / "table")
    again = CliRunner().invoke(app, [*words[1:], "--json", str(tmp_path / "again.json")])
    assert again.exit_code == 0
    shown = json.loads((tmp_path / "again.json").read_text(encoding="utf-8"))
    assert shown["rows"][0]["value"] == told.witness.computed


@pytest.mark.slow
def test_a_table_of_another_kind_of_device_is_wrong_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = table(tmp_path / "table", returned(0), "8.0")
    code, data, said = verified(monkeypatch, tmp_path, other)
    assert code == 2 and data is None
    assert "it was measured on Mine, of capability 8.0, and sm_90 is emulated" in said
    other.write_bytes(other.read_bytes()[:-1])
    code, data, said = verified(monkeypatch, tmp_path, other)
    assert code == 2 and data is None and "its digest differs" in said


@pytest.mark.slow
def test_a_table_beyond_the_manual_is_no_fault_of_the_kernel(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wild = returned(0)
    wild[0x4000] += 9  # 2^2, which is right to 2^-7: 2^-5 above and below
    code, data, said = verified(monkeypatch, tmp_path, table(tmp_path / "table", wild))
    assert code == 1 and "inconclusive" in said and "fail" not in said
    (finding,) = data["findings"]
    assert finding["code"] == "unsupported_instruction"
    assert (
        "ex2.approx.bf16 of 0x4000 is 0x4089, which the manual does not allow: 0x407e to 0x4081"
        in finding["message"]
    )


@pytest.mark.slow
@pytest.mark.skipif(not machine_code.assemblers(), reason="no ptxas here; it comes with Triton")
def test_where_no_machine_code_says_what_is_fused_a_verdict_depends_on_it(tmp_path: Path) -> None:
    """PTX that any assembler takes, and of a release that none here knows."""
    text = (HELPERS / "residual.ptx").read_text(encoding="utf-8")
    outcomes = {}
    for version in ("8.6", "99.0"):
        file = tmp_path / "residual.ptx"
        file.write_text(text.replace(".version 8.6", f".version {version}"), encoding="utf-8")
        found = precision_lab.verify(
            f"{file}:residual", "relu", fmts=("bf16",), outputs=("forward",), properties=False,
            device="sm_90",
        )  # fmt: skip
        (measured,) = found.measurements
        assert measured.max_ulp == 4 and measured.conformity is not None
        outcomes[version] = found.outcome, measured.conformity.combinations, found.findings[0]
    assert outcomes["8.6"][:2] == ("fail", 1) and outcomes["8.6"][2].code == "inaccurate"
    assert outcomes["99.0"][:2] == ("inconclusive", 2) and outcomes["99.0"][2].code == "depends_on_device"
    assert "by what contraction in residual returns" in outcomes["99.0"][2].message
