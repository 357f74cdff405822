"""`precision-lab verify` on strangers' kernels, run for real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from precision_lab.cli.main import app

pytest.importorskip("torch")

KERNELS = """
import torch
from precision_lab.kernels import stable_xielu

def xielu(x, alpha_p, alpha_n, beta):
    return stable_xielu(x, alpha_p=alpha_p, alpha_n=alpha_n, beta=beta)

def fixed(x):
    a = torch.tensor(0.75, dtype=x.dtype)
    return stable_xielu(x, alpha_p=a, alpha_n=a, beta=torch.tensor(0.5, dtype=x.dtype))

def clamped(x, *, alpha_p, alpha_n, beta):
    eps = torch.tensor(-1e-6, dtype=x.dtype)
    curve = alpha_n * torch.expm1(torch.minimum(x, eps)) - alpha_n * x + beta * x
    return torch.where(x > 0, alpha_p * x * x + beta * x, curve)

class Stateless(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x)

class Trained(torch.nn.Module):
    def __init__(self, alpha_p=0.8, alpha_n=0.8, beta=0.5):
        super().__init__()
        self.alpha_p = torch.nn.Parameter(torch.tensor(float(alpha_p)))
        self.alpha_n = torch.nn.Parameter(torch.tensor(float(alpha_n)))
        self.beta = beta

    def forward(self, x):
        beta = torch.tensor(self.beta, dtype=x.dtype)
        return stable_xielu(x, alpha_p=self.alpha_p, alpha_n=self.alpha_n, beta=beta)

def make(alpha_p, alpha_n, beta, dtype):
    return Trained(alpha_p, alpha_n, beta).to(dtype)

def right_at_first(x, alpha_p, alpha_n, beta):
    return stable_xielu(x, alpha_p=alpha_p, alpha_n=alpha_n.clamp(max=2.0), beta=beta)

def but_for_infinities(x, alpha_p, alpha_n, beta):
    return stable_xielu(x, alpha_p=alpha_p, alpha_n=alpha_n, beta=beta) + 0 * x

def wants_more(x, eps):
    return x

number = 3
"""


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["verify", *[str(a) for a in arguments]])


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("strangers") / "kernels.py"
    path.write_text(KERNELS, encoding="utf-8")
    return path


HERE = ("--no-isolate", "--properties", "none")


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("xielu", {"forward", "grad_x", "grad_alpha_p", "grad_alpha_n", "grad_beta"}),
        ("Trained", {"forward", "grad_x", "grad_alpha_p", "grad_alpha_n"}),
        ("make", {"forward", "grad_x", "grad_alpha_p", "grad_alpha_n"}),
        ("fixed", {"forward", "grad_x"}),
    ],
)
def test_functions_classes_and_factories_are_measured_in_all_they_can_give(
    kernels: Path, tmp_path: Path, name: str, outputs: set[str]
) -> None:
    path = tmp_path / "v.json"
    sets = ("--param", "alpha_p=0.75", "--param", "alpha_n=0.75")
    result = run(f"{kernels}:{name}", "--function", "xielu", *sets, *HERE, "--json", path)
    assert result.exit_code == 0, result.output
    data = json.loads(path.read_text(encoding="utf-8"))
    assert {m["output"] for m in data["measurements"]} == outputs
    assert all(m["target"] == f"{kernels}:{name}" for m in data["measurements"])


def test_the_engineering_properties_are_examined_by_default_in_a_process_of_its_own(kernels: Path) -> None:
    result = run(f"{kernels}:xielu", "--function", "xielu", "--format", "bf16", "--format", "fp16")
    assert result.exit_code == 0, result.output
    assert "engineering properties that hold: 15" in result.output
    assert "do not hold" not in result.output


def test_junit_has_a_case_per_output_and_one_for_the_properties(kernels: Path, tmp_path: Path) -> None:
    path = tmp_path / "junit.xml"
    options = (
        "--function",
        "xielu",
        "--params",
        "init",
        "--output",
        "forward",
        "--output",
        "grad_x",
        "--no-isolate",
        "--junit",
        path,
    )
    assert run(f"{kernels}:clamped", *options).exit_code == 1
    suite = ElementTree.parse(path).getroot()[0]
    assert (suite.get("tests"), suite.get("failures")) == ("3", "2")
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert set(cases) == {"forward [init]", "grad_x [init]", "engineering properties"}
    failure = cases["grad_x [init]"][0]
    assert "wrong_sign" in str(failure.get("message"))
    assert "Replay: precision-lab explain xielu" in str(failure.text)
    assert len(cases["engineering properties"]) == 0


def test_a_written_bound_passes_afterwards_and_keeps_the_kernel_there(
    kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ("--function", "xielu", "--output", "forward", "--output", "grad_x", *HERE)
    written = run(f"{kernels}:clamped", *options, "--write-bound")
    assert written.exit_code == 0, written.output
    assert "bounds of what was measured: precision.toml" in written.output
    assert "failed" not in written.output
    text = (tmp_path / "precision.toml").read_text(encoding="utf-8")
    assert "[xielu.bf16.grad_x]" in text
    assert "wrong_sign = 13703" in text
    assert run(f"{kernels}:clamped", *options, "--bound", "precision.toml").exit_code == 0
    (tmp_path / "precision.toml").write_text(text.replace("13703", "13702"), encoding="utf-8")
    worse = run(f"{kernels}:clamped", *options, "--bound", "precision.toml")
    assert worse.exit_code == 1
    assert "wrong sign for 13703 inputs, 13702 of them known" in worse.output
    assert "bound: --write-bound --loosen records this kernel in the file, faults included" in worse.output


def test_against_the_eager_formulation_only_what_is_worse_fails(kernels: Path) -> None:
    options = ("--function", "xielu", "--output", "forward", "--output", "grad_x", *HERE)
    assert run(f"{kernels}:clamped", *options, "--against", "eager").exit_code == 0
    assert run(f"{kernels}:xielu", *options, "--against", "naive").exit_code == 0
    result = run(f"{kernels}:clamped", *options, "--against", "stable", "--all")
    assert result.exit_code == 1
    assert "worse_than: error 410 ulps" in result.output
    assert "where stable has " in result.output


def test_without_infinite_inputs_a_kernel_passes_and_everything_says_what_was_left_out(
    kernels: Path, tmp_path: Path
) -> None:
    options = (f"{kernels}:but_for_infinities", "--function", "xielu", "--output", "forward", *HERE)
    told = " ".join(run(*options).output.split())
    assert "bound: --finite, with the present bound, would pass" in told
    assert "next: If no infinity and no NaN reaches this kernel, leave these inputs out with --finite" in told
    json_path, junit = tmp_path / "v.json", tmp_path / "v.xml"
    result = run(*options, "--finite", "--json", json_path, "--junit", junit)
    assert result.exit_code == 0
    assert "left out: finite: infinite and NaN inputs" in result.output
    assert (
        result.output.splitlines()[-1]
        == "pass: all outputs within 1 ulp; infinite and NaN inputs were left out"
    )
    data = json.loads(json_path.read_text(encoding="utf-8"))
    assert data["finite"] is True and "finite: infinite and NaN inputs" in data["left_out"]
    assert data["summary"]["sentence"] in result.output
    assert "finite: infinite and NaN inputs" in junit.read_text(encoding="utf-8")


def test_all_shows_the_regions_and_every_finding_for_itself(kernels: Path, tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    options = (f"{kernels}:clamped", "--function", "xielu", *HERE)
    short, whole = run(*options), run(*options, "--all", "--json", path)
    faults = json.loads(path.read_text(encoding="utf-8"))["faults"]
    assert len(faults) > 20 > len(short.output.split("precision-lab explain")) - 1
    assert whole.output.count(". Replay: precision-lab explain") == len(faults)
    assert "least" in whole.output and "least" not in short.output
    assert len(short.output.splitlines()) <= 50


def test_every_parameter_set_of_a_file_is_measured(kernels: Path, tmp_path: Path) -> None:
    sets, path = tmp_path / "layers.toml", tmp_path / "v.json"
    sets.write_text("[layer-0]\nalpha_p = 170\nalpha_n = 1.2\n[layer-9]\nalpha_p = 0.05\n", encoding="utf-8")
    options = ("--function", "xielu", "--output", "forward", *HERE, "--params-file", sets, "--json", path)
    assert run(f"{kernels}:xielu", *options).exit_code == 0
    data = json.loads(path.read_text(encoding="utf-8"))
    assert [(m["params_name"], m["params"]["alpha_p"]) for m in data["measurements"]] == [
        ("layer-0", 170.0),
        ("layer-9", 0.050048828125),
    ]


def test_a_parameter_file_may_not_give_init_another_meaning(kernels: Path, tmp_path: Path) -> None:
    sets = tmp_path / "layers.toml"
    sets.write_text("[init]\nalpha_p = 170\n", encoding="utf-8")
    result = run(f"{kernels}:xielu", "--function", "xielu", *HERE, "--params-file", sets)
    assert result.exit_code == 2
    assert "[init] is what xielu starts with" in result.output


def test_laws_find_what_the_initial_parameters_hide(kernels: Path) -> None:
    options = ("--function", "xielu", "--output", "forward", *HERE)
    assert run(f"{kernels}:right_at_first", *options).exit_code == 0
    result = run(f"{kernels}:right_at_first", *options, "--laws")
    assert result.exit_code == 1
    # The simplest value above the limit that Hypothesis shrinks to.
    assert "accuracy with alpha_p=0.8, alpha_n=2.5, beta=0.5" in result.output.replace("\n", " ")


def test_a_replay_command_shows_the_strangers_value_again(kernels: Path) -> None:
    result = run(f"{kernels}:clamped", "--function", "xielu", "--output", "grad_x", *HERE)
    command = result.output.partition("\n  precision-lab ")[2].splitlines()[0]
    assert f"--kernel {kernels}:clamped" in command
    shown = CliRunner().invoke(app, command.split())
    row = next(line for line in shown.output.splitlines() if line.startswith("clamped "))
    computed = result.output.partition("  computed ")[2].splitlines()[0]
    assert row.split()[3] in computed and "wrong sign" in row


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("{k}:nothing", "--function", "xielu"), "has no attribute 'nothing'"),
        (("{k}:number", "--function", "xielu"), "is of type int and cannot be called"),
        (("{k}:wants_more", "--function", "xielu"), "wants an argument 'eps' that xielu does not have"),
        (("none.py:kernel", "--function", "xielu"), "TARGET file 'none.py' does not exist"),
        (("no_such_module:kernel", "--function", "xielu"), "TARGET module 'no_such_module' does not import"),
        (("none.so:kernel", "--function", "xielu"), "none.so"),
        (("{k}:xielu", "--function", "xilu"), "did you mean xsilu, xielu"),
        (("{k}:xielu", "--function", "xielu", "--format", "bf61"), "unknown format 'bf61'"),
        (("{k}:xielu", "--function", "xielu", "--output", "grad_y"), "did you mean"),
        (("{k}:xielu", "--function", "xielu", "--max-ulp", "0.1"), "max_ulp=0.1"),
        (
            ("{k}:xielu", "--function", "xielu", "--properties", "length"),
            "unknown property 'length'; did you mean",
        ),
        (("{k}:xielu", "--function", "xielu", "--bound", "none.toml"), "--bound 'none.toml' cannot be read"),
        (("{k}:xielu", "--function", "xielu", "--device", "tpu"), "device='tpu': expected 'cpu', 'cuda'"),
        (("{k}:xielu", "--function", "xielu", "--against", "best"), "unknown eager implementation"),
        (("{k}:xielu", "--function", "xielu", "--write-bound", "--max-ulp", "1"), "takes neither --max-ulp"),
        (
            ("{k}:xielu", "--function", "xielu", "--params-file", "p.toml", "--param", "beta=1"),
            "takes neither",
        ),
        (("{k}:xielu", "--function", "xielu", "--params-file", "p.toml"), "cannot be read"),
        (
            ("{k}:xielu", "--function", "xielu", "--junit", "no/such/f.xml"),
            "--junit 'no/such/f.xml': its folder",
        ),
        (
            ("{k}:xielu", "--function", "xielu", "--framework", "tf"),
            "unknown framework 'tf'; known: jax, mlx, numpy, torch",
        ),
        (("{k}:xielu", "--function", "xielu", "--time-limit", "0"), "time_limit=0.0"),
        (("stable", "--function", "xielu", "--isolate"), "isolate=True needs a TARGET"),
        (("stable", "--function", "xielu", "--compiled"), "its execution is part of its name"),
    ],
)
def test_wrong_use_is_one_clear_sentence_and_exit_code_2(
    kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    target, *rest = (a.replace("{k}", str(kernels)) for a in arguments)
    isolation = () if "--time-limit" in rest or "--isolate" in rest else ("--no-isolate",)
    result = run(target, *rest, *isolation)
    assert result.exit_code == 2, result.output
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_max_ulp_and_a_bound_file_contradict_each_other(kernels: Path, tmp_path: Path) -> None:
    path = tmp_path / "precision.toml"
    path.write_text("version = 1\n[xielu.bf16.forward]\nmax_ulp = 1\n", encoding="utf-8")
    result = run(f"{kernels}:xielu", "--function", "xielu", "--max-ulp", "1", "--bound", path, *HERE)
    assert result.exit_code == 2
    assert "contradict each other" in result.stderr
    missing = run(f"{kernels}:xielu", "--function", "xielu", "--bound", path, *HERE)
    assert missing.exit_code == 2
    assert "no bound for xielu.bf16.grad_x" in missing.stderr
