"""The pytest plugin, as a user's own test run sees it: no conftest, a `reference.py` of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

REFERENCE = """
import torch

def relu(x):
    return torch.relu(x)

def off_by_one_ulp(x):
    y = torch.relu(x)
    return torch.where(y == 1.5, torch.nextafter(y.float(), y.float() * 2).to(y.dtype) + 0.0078125, y)
"""

TESTS = """
import pytest
import reference

def test_as_a_fixture(assert_accurate):
    assert_accurate(reference.relu, "relu", dtype="bf16", max_ulp=0.5)

def test_fixture_fails(assert_accurate):
    assert_accurate(reference.off_by_one_ulp, "relu", dtype="bf16", max_ulp=0.5)

@pytest.mark.precision(function="relu", formats=["bf16", "fp16"], max_ulp=0.5)
def test_marked():
    return reference.relu

@pytest.mark.precision("relu", formats="bf16", outputs=["forward"], max_ulp=0.5, properties=True)
@pytest.mark.parametrize("name", ["relu", "off_by_one_ulp"])
def test_marked_and_parametrised(name):
    return getattr(reference, name)

@pytest.mark.precision("relu", finite=True, outputs=["forward"], properties=False)
def test_finite():
    return lambda x: reference.relu(x) + 0 * x

@pytest.mark.precision(function="relu")
def test_returns_nothing():
    pass

@pytest.mark.precision(functoin="relu")
def test_wrong_argument():
    return reference.relu

@pytest.mark.precision("relu", device="sm_x")
def test_no_such_device():
    return reference.relu
"""


def pytest_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "reference.py").write_text(REFERENCE, encoding="utf-8")
    (folder / "test_kernels.py").write_text(TESTS, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers -W error\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def result(project: Path) -> subprocess.CompletedProcess[str]:
    return pytest_in(project, "-rA", "--precision-report=out/precision")


@pytest.mark.parametrize(
    ("test", "outcome"),
    [
        ("test_as_a_fixture", "PASSED"),
        ("test_fixture_fails", "FAILED"),
        ("test_marked", "PASSED"),
        ("test_finite", "PASSED"),
        ("test_marked_and_parametrised[relu]", "PASSED"),
        ("test_marked_and_parametrised[off_by_one_ulp]", "FAILED"),
        ("test_returns_nothing", "FAILED"),
        ("test_wrong_argument", "FAILED"),
        ("test_no_such_device", "FAILED"),
    ],
)
def test_each_test_ends_as_it_should(
    result: subprocess.CompletedProcess[str], test: str, outcome: str
) -> None:
    assert f"{outcome} test_kernels.py::{test}" in result.stdout, result.stdout


def test_a_failure_shows_region_witness_exact_value_and_replay(
    result: subprocess.CompletedProcess[str],
) -> None:
    assert "minor inaccurate: forward [bf16, init]: 1 ulps in positive, bound 0.5" in result.stdout
    assert "positive: x = 1.5  0x1.8p+0  bits 0x3fc0" in result.stdout
    assert "computed 1.5078125 (0x3fc1), exact 1.5" in result.stdout
    assert "Replay: precision-lab explain relu --bits 0x3fc0 --format bf16 --output forward" in result.stdout
    assert "bound: --max-ulp 1 would pass" in result.stdout
    assert "relu  off_by_one_ulp  bf16  exhaustive (65536)  init: fail: " in result.stdout


def test_misuse_of_the_marker_is_explained(result: subprocess.CompletedProcess[str]) -> None:
    assert "returns the kernel to be verified, and this one returned None" in result.stdout
    assert "@pytest.mark.precision has no argument 'functoin'; it has function, formats" in result.stdout
    assert "@pytest.mark.precision: device='sm_x': expected 'cpu', " in result.stdout
    assert "kinds.py" not in result.stdout, "nobody asks where in the lab it was noticed"


def test_the_report_holds_every_measurement_of_the_session(
    project: Path, result: subprocess.CompletedProcess[str]
) -> None:
    entries = json.loads((project / "out/precision/precision.json").read_text(encoding="utf-8"))
    assert len(entries) == 6
    (finite,) = (entry for entry in entries if entry["test"].endswith("::test_finite"))
    assert finite["finite"] and finite["summary"]["sentence"].endswith(
        "infinite and NaN inputs were left out"
    )
    failed = {entry["test"].rpartition("::")[2] for entry in entries if not entry["passed"]}
    assert failed == {"test_fixture_fails", "test_marked_and_parametrised[off_by_one_ulp]"}
    table = (project / "out/precision/precision.md").read_text(encoding="utf-8")
    assert "| test_kernels.py::test_marked | relu | grad_x | fp16 | 65536 | 0 | 0 | 0 | passed |" in table
    assert "- `test_kernels.py::test_finite`: left out: finite: infinite and NaN inputs" in table
    assert "left out: outputs: grad_x; properties" in result.stdout and "precision report: " in result.stdout


def test_the_plugin_loads_neither_torch_nor_numpy_for_those_who_do_not_use_it(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text(
        "import sys\n\ndef test_modules():\n"
        "    assert 'precision_lab.verifying.pytest_plugin' in sys.modules\n"
        "    assert not {'torch', 'numpy', 'numba'} & set(sys.modules)\n",
        encoding="utf-8",
    )
    # Other plugins of this environment import numpy for reasons of their own.
    others = ("benchmark", "hypothesispytest", "anyio", "randomly")
    found = pytest_in(tmp_path, "-q", *(f"-pno:{name}" for name in others))
    assert found.returncode == 0, found.stdout


def test_a_report_directory_that_cannot_be_made_is_wrong_use(project: Path) -> None:
    found = pytest_in(project, "--precision-report=reference.py/x")
    assert found.returncode == 4
    assert "--precision-report 'reference.py/x' cannot be made" in found.stderr


def test_a_row_of_the_report_is_failed_undecided_or_passed_by_its_own_figures() -> None:
    from dataclasses import replace

    from sample_results import measurement

    from precision_lab.results import Failure, Finding
    from precision_lab.verifying.pytest_plugin import _markdown
    from precision_lab.verifying.verdict import Verdict

    right = replace(measurement("stable", accurate=True), n_inputs=700, max_ulp=0.5, wrong_sign=0)
    wrong = replace(right, params_name="wide", max_ulp=3.25, wrong_sign=17, nonfinite_mismatch=19)
    rows = (
        right, wrong, replace(right, output="grad_x", undecided=2),
        replace(right, output="grad_beta", failure=Failure("raised", "no")),
    )  # fmt: skip
    faults = tuple(
        Finding(
            code=kind,
            function="xielu",
            implementation="stable",
            fmt="bf16",
            output=output,
            params_name=name,
            message="it was seen",
        )
        for kind, output, name in (("inaccurate", "forward", "wide"), ("raised", "grad_beta", "init"))
    )
    text = _markdown([{"test": "test_a", **Verdict(rows, faults).to_json()}])
    assert [line for line in text.splitlines() if line.startswith("| test_a")] == [
        "| test_a | xielu | forward | bf16 | 700 | 0.5 | 0 | 0 | passed |",
        "| test_a | xielu | forward | bf16 | 700 | 3.25 | 17 | 19 | failed |",
        "| test_a | xielu | grad_x | bf16 | 700 | 0.5 | 0 | 0 | undecided |",
        "| test_a | xielu | grad_beta | bf16 | raised |  |  |  | failed |",
    ]
