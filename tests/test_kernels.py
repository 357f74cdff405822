"""The stable kernels keep their bounds over every input measured, root regions included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from precision_lab.formats import get_format
from precision_lab.functions import get_function
from precision_lab.implementations import get_implementation
from precision_lab.implementations.runner import run, to_array, to_tensor
from precision_lab.inputs import ROOT_WIDTH
from precision_lab.kernels import stable_xielu, stable_xiprelu
from precision_lab.kernels.stable import round_once
from precision_lab.measure import measure_all

OUTPUTS = ("forward", "grad_x", "grad_alpha_p", "grad_alpha_n")
BOUNDS = {"bf16": 0.51, "fp16": 0.75, "fp32": 1.0}
SETS = [
    pytest.param(function, name, id=f"{function}-{name}")
    for function in ("xielu", "xiprelu")
    for name in get_function(function).parameter_sets
]


@pytest.mark.parametrize("fmt", BOUNDS)
@pytest.mark.parametrize(("function", "name"), SETS)
def test_stable_is_within_its_bound(function, name, fmt):
    """Every bf16 and fp16 input; fp32 stratified (its root regions are exhausted below)."""
    params = get_function(function).parameter_sets[name]
    for m in measure_all(get_implementation(function, "stable"), OUTPUTS, fmt, params, params_name=name):
        assert m.failure is None
        assert m.undecided == 0
        assert m.max_ulp <= BOUNDS[fmt] + 2.0**-10, m.witness
        assert (m.wrong_sign, m.nonfinite_mismatch, m.zero_sign_mismatch) == (0, 0, 0)


@pytest.mark.parametrize(("function", "name"), SETS)
def test_stable_is_within_its_bound_at_every_fp32_input_around_the_roots(function, name):
    """About half a million inputs around each root: this is where cancellation is worst."""
    fmt, definition = get_format("fp32"), get_function(function)
    params = {k: float(np.float32(v)) for k, v in definition.parameter_sets[name].items()}
    for output in ("forward", "grad_x"):
        for root in definition.roots(output, params):
            edges = fmt.ordinal(fmt.round(np.array([root * (1 - ROOT_WIDTH), root * (1 + ROOT_WIDTH)])))
            x = fmt.from_ordinal(np.arange(edges.min(), edges.max() + 1))
            for m in measure_all(get_implementation(function, "stable"), (output,), fmt, params, inputs=x):
                assert m.undecided == 0
                assert m.max_ulp <= 1.0, m.witness
                assert m.wrong_sign == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kernel", [stable_xielu, stable_xiprelu], ids=["xielu", "xiprelu"])
def test_zeros_keep_their_sign(kernel, dtype):
    parameters = {
        name: torch.tensor(v, dtype=dtype) for name, v in (("alpha_p", 0.8), ("alpha_n", 0.8), ("beta", 0.5))
    }
    y = kernel(torch.tensor([0.0, -0.0], dtype=dtype), **parameters)
    assert y.tolist() == [0.0, 0.0]
    assert torch.signbit(y).tolist() == [False, True]


def test_alpha_equal_to_beta_has_the_finite_limit_and_no_nan():
    half = torch.tensor(0.5)
    x = torch.tensor([-torch.inf, -1e30, -100.0])
    assert stable_xielu(x, alpha_p=half, alpha_n=half, beta=half).tolist() == [-0.5, -0.5, -0.5]


def test_gradients_reduce_to_each_parameters_shape():
    x = torch.linspace(-3, 3, 24).reshape(2, 3, 4)
    alpha_p = torch.full((4,), 0.8, requires_grad=True)
    alpha_n = torch.tensor(0.8, requires_grad=True)
    beta = torch.full((2, 3, 4), 0.5, requires_grad=True)
    stable_xielu(x, alpha_p=alpha_p, alpha_n=alpha_n, beta=beta).sum().backward()
    assert alpha_p.grad.shape == (4,)
    assert alpha_n.grad.shape == ()
    assert torch.equal(beta.grad, x)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0, 2), (5, 7)])
def test_any_shape_is_accepted(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    value = torch.tensor(0.8)
    assert stable_xielu(x, alpha_p=value, alpha_n=value, beta=torch.tensor(0.5)).shape == x.shape


def test_a_result_does_not_depend_on_strides():
    x = torch.randn(64, 48, generator=torch.Generator().manual_seed(2))
    value = {"alpha_p": torch.tensor(0.8), "alpha_n": torch.tensor(0.8), "beta": torch.tensor(0.5)}
    assert torch.equal(stable_xielu(x.t(), **value), stable_xielu(x, **value).t())


@pytest.mark.parametrize("fmt", ["bf16", "fp16", "e4m3", "e5m2"])
def test_round_once_rounds_correctly_where_torch_rounds_twice(fmt):
    """Values a hair off every tie of the format: rounding through float32 gets half of them wrong."""
    target = get_format(fmt)
    numbers = target.from_ordinal(np.arange(1, target.max_ordinal))
    following = target.from_ordinal(np.arange(2, target.max_ordinal + 1))
    ties = (numbers + following) / 2
    values = np.concatenate([ties * (1 - 2.0**-50), ties, ties * (1 + 2.0**-50)])
    values = np.concatenate([values, -values])
    dtype = getattr(torch, target.torch_name)
    rounded = to_array(round_once(torch.from_numpy(values), dtype), target)
    assert np.array_equal(rounded, target.round(values))
    twice = to_array(torch.from_numpy(values).float().to(dtype), target)
    assert not np.array_equal(twice, target.round(values))


def test_saved_special_values_survive_the_runner():
    fmt = get_format("bf16")
    x = np.array([np.inf, -np.inf, np.nan, -0.0])
    assert np.array_equal(to_array(to_tensor(x, fmt), fmt), x, equal_nan=True)
    y = run(
        get_implementation("xielu", "stable"), x, "bf16", get_function("xielu").check_params(), ("forward",)
    )
    assert np.array_equal(y["forward"], np.array([np.inf, np.inf, np.nan, -0.0]), equal_nan=True)
