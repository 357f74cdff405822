"""The command line, run for real: what it prints, writes and returns."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from precision_lab.cli.main import app
from precision_lab.formats import FORMATS
from precision_lab.functions import FUNCTIONS
from precision_lab.results import Failure
from precision_lab.system import ieee

NAIVE = """
import torch

def naive(x, *, alpha_p, alpha_n, beta):
    return torch.where(x > 0, alpha_p * x * x + beta * x, alpha_n * (torch.exp(x) - 1 - x) + beta * x)

def my_relu(x):
    return torch.relu(x)

def breaks(x):
    raise RuntimeError("no such luck")

class Module(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x)

number = 3
"""


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def succeed(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.stdout


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kernels") / "my_kernels.py"
    path.write_text(NAIVE, encoding="utf-8")
    return path


# -- explain ------------------------------------------------------------------------------


def test_explain_shows_everything_on_one_screen() -> None:
    out = succeed("explain", "xielu", "-x", "-1e-7", "--format", "bf16")
    assert "-1.0011717677116394e-07   -0x1.ae00000000000p-24   bits 0xb3d7   region eps_zone" in out
    assert "-5.0058584372287060498018437" in out
    assert "24.9 written with exp(x) − 1" in out
    row = next(line for line in out.splitlines() if re.match(r"naive +eager", line))
    # exp(x) rounds to 1, so β·x − α·x remains, of the wrong sign.
    assert "+344" in row
    assert "wrong sign" in row
    assert re.search(r"stable +eager .*0xb357", out)
    assert len(out.splitlines()) <= 40
    assert max(map(len, out.splitlines())) <= 120


def test_explain_takes_bits_and_hexadecimal_floats_for_the_same_input() -> None:
    by_bits = succeed("explain", "silu", "--bits", "0xb3d7")
    assert by_bits == succeed("explain", "silu", "-x", "-0x1.aep-24")
    assert by_bits == succeed("explain", "silu", "-x", "-1e-7")


def test_explain_writes_what_it_shows_as_json(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    succeed("explain", "xielu", "--x=-1e-7", "--output", "grad_alpha_n", "--json", path)
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["bits"] == "0xb3d7"
    assert data["output"] == "grad_alpha_n"
    rows = {(row["implementation"], row["execution"]): row for row in data["rows"]}
    assert rows["expm1", "eager"]["value"] == 0.0  # expm1 does not cure (e^x − 1) − x
    assert abs(rows["stable", "eager"]["error_ulps"]) <= 0.51


@pytest.mark.parametrize("x", ["0", "-0.0", "inf", "-inf", "nan", "1e-45", "3e38"])
def test_explain_takes_every_kind_of_number(x: str) -> None:
    assert "condition" in succeed("explain", "xielu", "-x", x, "--output", "grad_x")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_explain_knows_every_function(function: str) -> None:
    assert f"{function}.forward" in succeed("explain", function, "-x", "-0.5")


def test_explain_in_fp8_judges_gradients_in_e5m2() -> None:
    assert "in e5m2" in succeed("explain", "xielu", "-x", "-1", "--format", "e4m3", "--output", "grad_x")


def test_explain_uses_the_named_parameter_set_and_single_parameters() -> None:
    out = succeed("explain", "xielu", "-x", "1", "--params", "first-layer", "--param", "alpha_n=2")
    assert "alpha_p=170.0, alpha_n=2.0, beta=0.5" in out


# -- verify -------------------------------------------------------------------------------


def test_verify_passes_an_accurate_kernel(kernels: Path) -> None:
    out = succeed("verify", f"{kernels}:my_relu", "--function", "relu", "--max-ulp", "0.5")
    assert re.search(r"^forward +holds +0 ", out, re.MULTILINE)
    assert re.search(r"^grad_x +holds +0 ", out, re.MULTILINE)
    assert re.fullmatch(
        r"pass: all outputs within 0.5 ulps, \d+ engineering properties hold", out.splitlines()[-1]
    )


def test_verify_fails_an_inaccurate_kernel_with_a_witness_that_replays(kernels: Path, tmp_path: Path) -> None:
    path = tmp_path / "verdict.json"
    arguments = ("--function", "xielu", "--output", "forward", "--format", "bf16", "--json", path)
    result = run("verify", f"{kernels}:naive", *arguments, "--params", "init")
    assert result.exit_code == 1
    assert re.search(
        r"^critical wrong_sign: forward \[bf16, init\]: wrong sign for 15102 inputs",
        result.stdout,
        re.MULTILINE,
    )
    assert "fail: 3 faults (1 critical, 1 major, 1 minor), the worst: wrong sign for" in result.stdout
    data = json.loads(path.read_text(encoding="utf-8"))
    assert (data["passed"], data["outcome"]) == (False, "fail")
    assert data["measurements"][0]["n_inputs"] == 2**16
    assert len(data["failures"]) == 3  # too far off, wrong signs, a NaN
    assert all("Replay: precision-lab explain xielu --bits 0x" in failure for failure in data["failures"])
    failure = next(failure for failure in data["failures"] if ": inaccurate: " in failure)
    command = failure.partition("Replay: precision-lab ")[2]
    shown = succeed(*shlex.split(command))
    assert data["measurements"][0]["witness"]["x_hex"] in shown


def test_verify_takes_a_module_class_an_importable_name_and_a_registered_one(
    kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed("verify", f"{kernels}:Module", "--function", "relu", "--format", "bf16")
    monkeypatch.syspath_prepend(str(kernels.parent))
    succeed("verify", "my_kernels:my_relu", "--function", "relu", "--format", "bf16")
    stable = ("verify", "stable", "--function", "xielu", "--output", "grad_x", "--format", "bf16")
    assert "xielu  stable  bf16  exhaustive (65536)" in succeed(*stable)


def test_verify_names_a_kernel_that_raises(kernels: Path) -> None:
    result = run("verify", f"{kernels}:breaks", "--function", "relu")
    assert result.exit_code == 1
    assert "major raised: forward [bf16, init]: RuntimeError: no such luck" in result.stdout


# -- list, selfcheck, tables ----------------------------------------------------------------


def test_list_names_every_function_format_and_implementation(tmp_path: Path) -> None:
    from precision_lab.implementations import IMPLEMENTATIONS

    path = tmp_path / "list.json"
    out = succeed("list", "--json", path)
    data = json.loads(path.read_text(encoding="utf-8"))
    assert set(data["functions"]) == set(FUNCTIONS)
    assert set(data["formats"]) == set(FORMATS)
    assert len(data["implementations"]) == len(IMPLEMENTATIONS)
    assert data["functions"]["xielu"]["outputs"][0] == "forward"
    for name in (*FUNCTIONS, *FORMATS, "stable", "transformers", "nearly-linear"):
        assert re.search(rf"(^|[\s,]){re.escape(name)}([\s,]|$)", out), name


def test_the_page_of_functions_is_what_list_writes(tmp_path: Path) -> None:
    written = tmp_path / "functions.md"
    succeed("list", "--markdown", written)
    committed = Path(__file__).parents[2] / "docs" / "functions.md"
    assert written.read_text(encoding="utf-8") == committed.read_text(encoding="utf-8"), (
        "run: precision-lab list --markdown docs/functions.md"
    )
    row = "| `hardswish` | 0 (x ≤ −3); x (x ≥ 3); x·(x + 3)/6 between | x | Howard"
    assert row in written.read_text(encoding="utf-8")


def test_selfcheck_passes_here_and_records_versions(tmp_path: Path) -> None:
    path = tmp_path / "self.json"
    assert "torch keeps subnormals" in succeed("selfcheck", "--json", path)
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["environment"]["flush to zero"] == "off"
    assert all(check["ok"] is not False for check in data["checks"])


def test_selfcheck_fails_where_subnormals_are_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ieee, "flushes", lambda: "outputs")
    result = run("selfcheck")
    assert result.exit_code == 1
    assert "flushes outputs" in result.stdout


def test_tables_are_written_checked_and_their_damage_is_found(tmp_path: Path) -> None:
    assert "tables written" in succeed("tables", "--out", tmp_path, "--function", "relu")
    assert "all right" in succeed("tables", "--check", "--out", tmp_path)
    table = next(tmp_path.glob("relu.*.tsv"))
    table.write_text(table.read_text(encoding="utf-8").replace("0x", "0y", 1), encoding="utf-8")
    result = run("tables", "--check", "--out", tmp_path)
    assert result.exit_code == 1
    assert table.name in result.stderr


# -- report -------------------------------------------------------------------------------


def test_report_measures_writes_and_rebuilds_the_same_page(tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    arguments = ("--quick", "--function", "relu2", "--format", "bf16", "--no-timing", "--no-compiled")
    succeed("report", *arguments, "--out", first, "--json", tmp_path / "copy.json")
    pages = {path.name for path in first.iterdir()}
    assert {"report.html", "report.md", "report.json"} <= pages
    succeed("report", "--from", first / "report.json", "--out", again)
    assert {path.name for path in again.iterdir()} == pages
    for name in ("report.html", "report.md"):
        assert (again / name).read_text(encoding="utf-8") == (first / name).read_text(encoding="utf-8")
    data = json.loads((tmp_path / "copy.json").read_text(encoding="utf-8"))
    assert {m["function"] for m in data["measurements"]} == {"relu2"}
    assert all(m["undecided"] == 0 for m in data["measurements"])


def test_a_report_without_transformers_says_so_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("transformers", "transformers.activations"):
        monkeypatch.setitem(sys.modules, name, None)  # what a missing package looks like
    path = tmp_path / "results.json"
    succeed("report", "--quick", "--function", "xielu", "--format", "bf16", "--out", tmp_path, "--json", path)
    data = json.loads(path.read_text(encoding="utf-8"))
    for kind in ("measurements", "reductions", "timings"):
        failed = {row["implementation"]: row["failure"] for row in data[kind] if row["failure"]}
        assert set(failed) == {"transformers"}, kind
        assert failed["transformers"]["kind"] == "missing_dependency"
        assert "pip install" in failed["transformers"]["message"]


def test_a_report_with_undecided_inputs_is_written_and_ends_with_1(tmp_path: Path) -> None:
    from dataclasses import replace

    from sample_results import measurement

    from precision_lab.results import Results

    right, undecided = measurement("stable"), replace(measurement("naive"), undecided=2)
    found = Results({"cpu": "A processor"}, {}, (right, undecided), (), (), {})
    (tmp_path / "report.json").write_text(found.dumps(), encoding="utf-8")
    result = run("report", "--from", tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "some inputs are undecided; the report names them" in result.stderr
    assert "| 131,072 | 2 | 2 | 0 |" in (tmp_path / "out" / "report.md").read_text("utf-8")
    details = (tmp_path / "out" / "details" / "findings.md").read_text("utf-8")
    assert "2 of 131,072 results could not be decided" in details
    lost = replace(
        found, measurements=(right, replace(right, failure=Failure("device_lost", "x destroyed it")))
    )
    (tmp_path / "report.json").write_text(lost.dumps(), encoding="utf-8")
    result = run("report", "--from", tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 1 and "the report is incomplete: x destroyed it" in result.stderr


@pytest.mark.parametrize(("changes", "code"), [({}, 0), ({"undecided": 1}, 1), ({"failure": "raised"}, 1)])
def test_a_sweep_with_undecided_inputs_ends_with_1(
    changes: dict[str, Any], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import precision_lab.measuring.sweep as sweeping

    usual = sweeping.sweep

    def told(*arguments: Any, **options: Any) -> Any:
        from dataclasses import replace

        found = usual(*arguments, **options)
        given = {k: Failure(v, "no") if k == "failure" else v for k, v in changes.items()}
        rows = tuple(replace(m, **given) for m in found.measurements)
        return replace(found, measurements=rows)

    monkeypatch.setattr(sweeping, "sweep", told)
    options = ("--implementation", "torch", "--format", "bf16", "--output", "forward")
    assert run("sweep", "relu", *options).exit_code == code


def test_report_looks_at_the_folder_before_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from precision_lab.study import study

    def unexpected(*_: Any) -> None:
        raise AssertionError("measured first")

    monkeypatch.setattr(study, "run", unexpected)
    (tmp_path / "file").write_text("", encoding="utf-8")
    result = run("report", "--quick", "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert "file" in result.stderr


# -- wrong use ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("explain xilu -x 1", "unknown function 'xilu'; did you mean xsilu, xielu"),
        ("explain xielu -x 1 --format bf61", "unknown format 'bf61'; did you mean bf16"),
        ("explain xielu -x 1 --format e3m2", "format 'e3m2': torch has no dtype of it, so no kernel can be"),
        ("explain xielu -x 1 --output grad_alpha", "unknown output of xielu 'grad_alpha'; did you mean"),
        ("explain xielu -x 1 --params inti", "unknown parameter set of xielu 'inti'; did you mean init"),
        ("explain xielu -x 1 --param alpha_m=1", "unknown parameter of xielu 'alpha_m'; did you mean alpha"),
        ("explain xielu -x 1 --param alpha_n", "expected NAME=NUMBER"),
        ("explain xielu -x 1 --param alpha_n=big", "expected NAME=NUMBER"),
        ("explain xielu -x 1 --param alpha_n=-1", "alpha_n=-1.0: must be greater than 0"),
        ("explain xielu -x 1 --param alpha_n=nan", "alpha_n=nan: parameters of xielu must be finite"),
        ("explain xielu -x one", "-x 'one': expected a number"),
        ("explain xielu", "give either x or bits"),
        ("explain xielu -x 1 --bits 0x1", "give either x or bits"),
        ("explain xielu --bits 0x12345", "bits=0x12345 is no pattern of bf16"),
        ("explain xielu --bits -1", "no pattern of bf16"),
        ("explain xielu --bits x", "--bits 'x': expected a hexadecimal pattern"),
        ("verify naive --function xielu --format e3m2", "format 'e3m2': torch has no dtype of it, so no"),
        ("verify naive --function xielu --format e8m0", "format 'e8m0': it has no sign or no zero, so no"),
        ("sweep xielu --implementation naive --format e2m1", "format 'e2m1': torch has no dtype of it"),
        ("report --format e2m3", "format 'e2m3': torch has no dtype of it"),
        ("verify stabel --function xielu", "unknown eager implementation of xielu 'stabel'; did you mean"),
        ("verify stable --function xielu --max-ulp 0.1", "max_ulp=0.1: must be a number of at least 0.5"),
        ("verify no_such_module:f --function xielu", "TARGET module 'no_such_module' does not import"),
        ("verify nothing.py:f --function xielu", "TARGET file 'nothing.py' does not exist"),
        ("verify math:sine --function xielu", "math has no attribute 'sine'"),
        ("verify math:pi --function xielu", "is of type float and cannot be called"),
        ("report --function xilu", "unknown function 'xilu'"),
        ("report --format bf61", "unknown format 'bf61'"),
        ("report --from nothing.json", "nothing.json"),
        ("tables --function xilu --out unused", "unknown function 'xilu'"),
        ("explian", "No such command 'explian'; did you mean explain?"),
        ("check kernels.py", "No such command 'check'; did you mean verify?"),
        ("kernels.py:silu", "did you mean precision-lab verify kernels.py:silu --function FUNCTION?"),
        (
            "verify stable",
            "--function is missing: it says which activation stable computes, such as --function",
        ),
        (
            "cost my.py:fast_xielu",
            "--function is missing: it says which activation my.py:fast_xielu computes; "
            "did you mean --function xielu?",
        ),
    ],
)
def test_wrong_use_is_one_clear_sentence(
    arguments: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*arguments.split())
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_a_damaged_results_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("{", encoding="utf-8")
    result = run("report", "--from", path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "not a precision_lab results file" in result.stderr


def test_an_environment_that_alters_results_is_wrong_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ieee, "flushes", lambda: "outputs")
    result = run("report", "--quick", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "torch.set_flush_denormal(False)" in result.stderr


def test_the_entry_point_makes_the_working_folder_importable(
    kernels: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from precision_lab.cli import main

    monkeypatch.chdir(kernels.parent)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    monkeypatch.delitem(sys.modules, "my_kernels", raising=False)
    arguments = ["precision-lab", "verify", "my_kernels:my_relu", "--function", "relu"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 0
    assert "\npass: all outputs within 1 ulp" in capsys.readouterr().out


@pytest.mark.parametrize("module", ["triton", "torch"])
def test_the_program_says_nothing_when_it_ends(module: str) -> None:
    """Triton's bindings report what is left: spared the last search for cycles, that is all of them."""
    pytest.importorskip(module)
    script = (
        f"import sys, {module}; from precision_lab.cli.main import main; sys.argv[1:] = ['--version']; main()"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("precision-lab ")
