"""Which results stay on the GPU that computed them: a GPU has the compiled tiers, and no balls."""

from __future__ import annotations

from dataclasses import replace

import pytest

from precision_lab.devices import CPU, CUDA
from precision_lab.formats import get_format
from precision_lab.functions import Asked, get_function
from precision_lab.implementations import get_implementation
from precision_lab.measuring.measure import measure
from precision_lab.running.case import Case


@pytest.mark.parametrize(
    ("name", "fmt", "there"),
    [
        ("silu", "bf16", True),
        ("silu", "fp64", False),
        ("hardswish", "bf16", False),
        ("leaky_relu", "bf16", True),
    ],
)
def test_a_gpu_scores_what_its_compiled_tiers_have(name: str, fmt: str, there: bool) -> None:
    function = get_function(name)
    kernel = replace(get_implementation(function, "torch"), device=CUDA)
    asked = Case(kernel, get_format(fmt), Asked(function.check_params()), ("forward", "grad_x"))
    assert asked.is_scored_there is there
    assert not replace(asked, implementation=replace(kernel, device=CPU)).is_scored_there


@pytest.mark.slow
@pytest.mark.parametrize("name", ["threshold", "softplus_torch"])
def test_compiled_kernels_get_python_numbers_too(name: str) -> None:
    m = measure("torch [compiled]", name, fmt="bf16", params=get_function(name).check_params())
    assert m.failure is None and m.max_ulp < 0.51
