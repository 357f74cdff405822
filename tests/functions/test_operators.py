"""Where torch's operators bend or jump: the side that counts is torch's, by running it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import precision_lab as pl
from precision_lab.formats import get_format
from precision_lab.functions import FUNCTIONS
from precision_lab.implementations import get_implementation
from precision_lab.measuring.measure import measure
from precision_lab.oracle import reference

BENDING = (
    "hardswish", "hardsigmoid", "hardtanh", "relu6", "leaky_relu", "celu", "threshold", "softshrink",
    "hardshrink", "softplus_torch",
)  # fmt: skip


def edges(name: str, params: dict[str, float]) -> np.ndarray:
    """Every breakpoint, as fp32 number, and 0."""
    found = [0.0, *FUNCTIONS[name].edges(params)]
    return np.array([float(np.float32(x)) for x in found])


@pytest.mark.parametrize("name", BENDING)
def test_torchs_side_of_a_breakpoint_counts(name: str) -> None:
    function = FUNCTIONS[name]
    kernel = get_implementation(function, "torch").kernel
    for values in function.parameter_sets.values():
        params = {p: float(np.float32(v)) for p, v in values.items()}
        at = edges(name, params)
        x = torch.tensor(at, dtype=torch.float32, requires_grad=True)
        y = kernel(x, **params)
        (slope,) = torch.autograd.grad(y.sum(), x)
        for output, found in (("forward", y.detach()), ("grad_x", slope)):
            exact = reference(function, output, params, at, "fp32")
            assert np.abs(found.double().numpy() - exact.rounded).max() <= 1e-6, (output, at, params)


def test_a_clamp_has_the_inner_slope_at_its_limit() -> None:
    x = torch.tensor(7.0, requires_grad=True)
    (slope,) = torch.autograd.grad(x.clamp(max=7.0), x)
    assert slope == 1
    assert pl.evaluate("gpt_oss_swiglu", 7.0, output="grad_x") > 2  # (1 + b)·σ(11.9) and more
    assert pl.evaluate("gpt_oss_swiglu", math.nextafter(7, 8), output="grad_x") == 0
    inside, outside = ({"b": b} for b in (7.0, math.nextafter(7, 8)))
    assert pl.evaluate("gpt_oss_swiglu", 1.0, inside, output="grad_b") > 0.8
    assert pl.evaluate("gpt_oss_swiglu", 1.0, outside, output="grad_b") == 0


def test_softplus_jumps_at_its_threshold() -> None:
    """By log(1 + e^−20) = 2.06e-9 at 20, where it is still the logarithm; `softplus` does not."""
    at, beyond = (pl.evaluate("softplus_torch", x, bits=100) for x in (20.0, math.nextafter(20, 21)))
    assert float(at - 20) == pytest.approx(math.log1p(math.exp(-20)), rel=1e-12)
    assert beyond == math.nextafter(20, 21) and at > beyond
    assert pl.evaluate("softplus", 20.0, bits=100) == at
    assert pl.evaluate("softplus", math.nextafter(20, 21), bits=100) > at


def test_celu_is_what_it_was_for_alpha_1_and_has_torchs_alpha() -> None:
    assert measure("torch", "celu", fmt="bf16").max_ulp < 0.51
    m = measure("torch", "celu", fmt="bf16", params={"alpha": 0.25})
    assert m.params == {"alpha": 0.25} and m.max_ulp < 0.51
    celu, elu = (float(pl.evaluate(name, -1.0, {"alpha": 1.0})) for name in ("celu", "elu"))
    assert celu == elu


@pytest.mark.parametrize("execution", ["eager", "upcast"])
def test_numbers_reach_the_kernel_as_python_numbers(execution: str) -> None:
    from dataclasses import replace

    seen: list[Any] = []

    def kernel(x: torch.Tensor, *, slope: Any) -> torch.Tensor:
        seen.append(slope)
        return torch.nn.functional.leaky_relu(x, slope)

    registered = get_implementation(FUNCTIONS["leaky_relu"], "torch", execution)
    m = measure(replace(registered, kernel=kernel), "leaky_relu", fmt="bf16", params={"slope": 0.01})
    rounded = float(get_format("bf16").round(np.array([0.01]))[0])
    assert set(map(type, seen)) == {float} and set(seen) == {rounded}
    assert m.params == {"slope": rounded} and m.max_ulp <= 0.5
