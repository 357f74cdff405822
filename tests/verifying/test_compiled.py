"""What torch.compile makes of a kernel, for the CPU and an emulated GPU: what is said to be compiled is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulation import missing
from typer.testing import CliRunner

import precision_lab
from precision_lab.cli.main import app
from precision_lab.devices import get_device
from precision_lab.exceptions import UsageError
from precision_lab.formats import BF16
from precision_lab.implementations import IMPLEMENTATIONS, resolve
from precision_lab.implementations.inductor import inductor_settings, read_settings
from precision_lab.running.case import case_of
from precision_lab.running.own_process import on
from precision_lab.running.placement import on_device
from precision_lab.running.runner import run

WHY = missing("triton")
emulated = pytest.mark.skipif(bool(WHY), reason=WHY)
CASTS = {"emulate_precision_casts": True}
FILE = '''
import torch

def right_if_compiled(x):
    return torch.relu(x) if torch.compiler.is_compiling() else torch.full_like(x, 7.0)

class Module(torch.nn.Module):
    def forward(self, x):
        return right_if_compiled(x)

class Slope(torch.nn.Module):
    """Its own parameter, which torch.compile sees as an input of the graph."""
    def __init__(self, alpha=0.25):
        super().__init__()
        self.alpha = torch.nn.Parameter(torch.tensor(float(alpha)))

    def forward(self, x):
        return right_if_compiled(x) + torch.where(x > 0, torch.zeros_like(x), self.alpha * x)

instance, slope = Module(), Slope()
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "modules.py"
    path.write_text(FILE, encoding="utf-8")
    return path


def verify(target: str, function: str, **options: Any) -> Any:
    given = {"fmts": ("bf16",), "outputs": ("forward",), "properties": False, "finite": True}
    return precision_lab.verify(target, function, **{**given, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("right_if_compiled", "relu"), ("Module", "relu"), ("instance", "relu"), ("Slope", "prelu"),
        ("slope", "prelu"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("device", ["cpu", pytest.param("sm_90", marks=emulated)])
def test_functions_modules_and_their_classes_are_compiled(
    name: str, function: str, device: str, file: Path
) -> None:
    """Each is right only where torch.compile traces it; once a module's class ran eagerly in silence."""
    verdict = verify(f"{file}:{name}", function, compiled=True, device=device, params={"init": {}})
    assert verdict.passed, verdict.failures or verdict.reasons
    assert {(m.execution, m.device) for m in verdict.measurements} == {("compiled", device)}
    if device == "cpu":
        assert not verify(f"{file}:{name}", function, params={"init": {}}).passed


def test_a_module_that_is_compiled_is_compared_with_itself_run_eagerly(file: Path) -> None:
    verdict = verify(f"{file}:Module", "relu", compiled=True, properties=("compilation",))
    (found,) = verdict.examinations
    assert (found.property, found.state) == ("compilation", "broken")


def outputs_of(name: str, device: str) -> dict[str, Any]:
    """Of the registered implementation, in bf16, at every input; called in the device's process."""
    implementation = on_device(IMPLEMENTATIONS[name], get_device(device))
    case = case_of(implementation, BF16, outputs=("forward", "grad_x", "grad_alpha_p"))
    return run(case, BF16.decode(np.arange(2**16)).astype(np.float64))


@emulated
def test_with_casts_a_gpu_rounds_where_an_eager_kernel_does_and_without_it_does_not() -> None:
    """xIPReLU has no function that machines compute differently: with casts every bit is the eager one's."""
    eager = outputs_of("xiprelu as-printed [eager]", "cpu")
    gpu = get_device("sm_90")
    casts = on(gpu, outputs_of, "xiprelu as-printed [compiled emulate_precision_casts]", "sm_90")
    fused = on(gpu, outputs_of, "xiprelu as-printed [compiled]", "sm_90")
    for output, values in eager.items():
        np.testing.assert_array_equal(casts[output], values, err_msg=output)
    assert (fused["forward"] != eager["forward"]).sum() > 1000


@emulated
def test_settings_of_the_compiler_are_named_and_come_back_in_the_replay(file: Path) -> None:
    path = file.parent / "kernel.py"
    path.write_text(
        "import torch\n\ndef naive(x, alpha):\n    return torch.where(x > 0, x, alpha * (torch.exp(x) - 1))\n"
    )
    found = verify(f"{path}:naive", "elu", compiled=CASTS, device="sm_90", params={"init": {}})
    (m,) = found.measurements
    assert m.execution == "compiled emulate_precision_casts"
    assert found.faults and all(
        "--compiled --inductor emulate_precision_casts=True --device sm_90" in fault.replay
        for fault in found.faults if fault.witness
    )  # fmt: skip
    (plain,) = verify(f"{path}:naive", "elu", compiled=True, device="sm_90", params={"init": {}}).measurements
    assert plain.execution == "compiled"
    assert plain.not_correctly_rounded < m.not_correctly_rounded


def test_settings_are_checked_by_name_and_type() -> None:
    assert inductor_settings(True) == inductor_settings(False) == inductor_settings({}) == ()
    assert inductor_settings(CASTS) == (("emulate_precision_casts", True),)
    with pytest.raises(
        UsageError, match=r"unknown setting of torch\.compile's Inductor 'emulate_casts'; did you"
    ):
        inductor_settings({"emulate_casts": True})
    with pytest.raises(
        UsageError, match=r"emulate_precision_casts=1 is a int: expected a bool, such as False"
    ):
        inductor_settings({"emulate_precision_casts": 1})


def test_settings_of_a_command_line() -> None:
    assert read_settings(["a=True", "b=3", "c=text"]) == {"a": True, "b": 3, "c": "text"}
    for wrong in (["a"], ["=3"], ["a=1", "a=2"]):
        with pytest.raises(UsageError, match="expected NAME=VALUE, once each"):
            read_settings(wrong)


def test_settings_without_compiling_are_refused() -> None:
    words = ["verify", "stable", "--function", "xielu", "--inductor", "emulate_precision_casts=True"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2 and "it is a setting of --compiled, which is missing" in done.output


def test_a_registered_name_may_have_settings() -> None:
    function = IMPLEMENTATIONS["xielu naive [compiled]"].function
    plain = resolve("naive [compiled]", function, BF16)
    casts = resolve("naive [compiled emulate_precision_casts]", function, BF16)
    assert (plain.inductor, casts.inductor) == ((), (("emulate_precision_casts", True),))
    assert casts.execution == plain.execution and casts.label != plain.label


def test_what_is_no_kernel_of_torchs_is_not_compiled(tmp_path: Path) -> None:
    path = tmp_path / "arrays.py"
    path.write_text("import numpy as np\n\ndef relu(x):\n    return np.maximum(x, np.float32(0))\n")
    with pytest.raises(UsageError, match=r"is numpy's: torch\.compile does not apply"):
        verify(f"{path}:relu", "relu", compiled=True, framework="numpy", isolate=False)
