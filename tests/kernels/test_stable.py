"""The stable kernels keep their bounds over every input measured, root regions included."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import torch
from by_name import get_implementation, measure_all, run

from precision_lab.formats import get_format
from precision_lab.functions import get_function
from precision_lab.inputs.sets import ROOT_WIDTH
from precision_lab.kernels import stable_xielu, stable_xiprelu
from precision_lab.kernels.stable import round_once
from precision_lab.oracle.plain_roots import roots_of
from precision_lab.running.tensors import to_array, to_tensor

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
        for root in roots_of(definition, output, params):
            edges = fmt.ordinal(fmt.round(np.array([root * (1 - ROOT_WIDTH), root * (1 + ROOT_WIDTH)])))
            x = fmt.from_ordinal(np.arange(edges.min(), edges.max() + 1))
            for m in measure_all(get_implementation(function, "stable"), (output,), fmt, params, inputs=x):
                assert m.undecided == 0
                assert m.max_ulp <= 1.0, m.witness
                assert m.wrong_sign == 0


# α_n and β in fp32. The lab's parameter sets have no root of f in (−1, 0), and none within 2^-45 of a number.
ROOTS = [
    (0.8, 0.03380943089723587),  # f: −0.087, where float64 alone is 2.17 ulps off
    (20.291919708251953, 0.034197848290205),  # f: −0.0034, 16,381 ulps
    (0.18792375922203064, 0.05858900398015976),  # f: −0.80, 20,449
    (2.313157081604004, 0.976686418056488),  # f: −1.22, 5,967
    (24.739511489868164, 18.5577449798584),  # f′: −1.39, 6,493
    (9.100261688232422, 3.4236395359039307),  # f′: −0.47, 5,394
    (1.4606620073318481, 0.0063925618305802345),  # f′: −0.0044, 5,206
    (0.75, 0.75 * 2.0**-43),  # f and f′: below 2^-42
    (0.8, 0.796875),  # f: −256; f′: −5.5
]


def beside_roots(alpha_n: float, beta: float, reach: int) -> np.ndarray:
    """fp32 numbers around the roots of f and of f′, found by mpmath."""
    fmt, found = get_format("fp32"), []
    with mpmath.workprec(400):
        rho = mpmath.mpf(float(np.float32(beta))) / float(np.float32(alpha_n))
        start = -min(mpmath.mpf(1), 2 * rho) / (
            1 - rho
        )  # left of the root, where f is convex: Newton's method
        root = start
        for _ in range(12):
            root -= (mpmath.expm1(root) - root + rho * root) / (mpmath.expm1(root) + rho)
        for place in (root, mpmath.log1p(-rho)):
            centre = int(fmt.ordinal(fmt.round(np.array([float(place)])))[0])
            found.append(fmt.from_ordinal(np.arange(centre - reach, centre + reach + 1)))
    return np.unique(np.concatenate(found))


@pytest.mark.parametrize(("alpha_n", "beta"), ROOTS, ids=str)
def test_stable_is_within_its_bound_beside_the_roots_for_any_alpha_and_beta(alpha_n, beta):
    """Forward and every gradient, the nearest numbers and those just beyond what is computed anew."""
    x = beside_roots(alpha_n, beta, 1000)
    stable, params = get_implementation("xielu", "stable"), {"alpha_n": alpha_n, "beta": beta}
    for m in measure_all(stable, stable.measured_outputs(), "fp32", params, inputs=x):
        assert m.failure is None and m.undecided == 0
        assert m.max_ulp <= 0.51, (m.case, m.witness)
        assert (m.wrong_sign, m.nonfinite_mismatch) == (0, 0)


@pytest.mark.parametrize(("alpha_n", "beta"), ROOTS, ids=str)
def test_mpmath_finds_stable_within_its_bound_too(alpha_n, beta):
    """Next to the roots, by the formula itself in 400 bits, with a parameter for each element."""
    x = torch.from_numpy(beside_roots(alpha_n, beta, 12)).float().requires_grad_()
    a, b = torch.full_like(x, alpha_n), torch.full_like(x, beta)
    y = stable_xielu(x, alpha_p=torch.tensor(0.8), alpha_n=a, beta=b)
    y.sum().backward()
    fmt = get_format("fp32")
    for got, output in ((y, "forward"), (x.grad, "grad_x")):
        with mpmath.workprec(400):
            for point, value, p, q in zip(x.tolist(), got.tolist(), a.tolist(), b.tolist(), strict=True):
                growth = mpmath.expm1(mpmath.mpf(point))
                exact = (
                    p * (growth - point) + q * mpmath.mpf(point) if output == "forward" else p * growth + q
                )
                ulp = float(fmt.ulp(np.array([float(exact)]))[0])
                assert abs(value - exact) <= 0.51 * ulp, (output, point.hex(), value.hex())


def test_elements_with_parameters_of_their_own_are_computed_anew_each_by_its_own():
    x = torch.tensor([-0.003374380059540272, -float.fromhex("0x1.6451f0p-4"), -1.0, -0.003374380059540272])
    a = torch.tensor([20.291919708251953, 0.8, 0.8, 0.8])
    b = torch.tensor([0.034197848290205, 0.03380943089723587, 0.5, 0.5])
    p = torch.tensor(0.8)
    together = stable_xielu(x, alpha_p=p, alpha_n=a, beta=b)
    alone = [stable_xielu(x[k], alpha_p=p, alpha_n=a[k], beta=b[k]) for k in range(4)]
    assert torch.equal(together, torch.stack(alone))


@pytest.mark.parametrize("derivative", [False, True])
def test_computing_anew_satisfies_torchs_own_check(derivative):
    x = torch.tensor([-0.08698, -1.0], dtype=torch.float64)
    a, b = (torch.tensor(v, dtype=torch.float64) for v in (0.8, 0.0338))
    operator = torch.ops.precision_lab.xielu_beside_roots.default
    torch.library.opcheck(operator, (torch.zeros_like(x), x, a, b, derivative))


def test_what_is_computed_anew_compiles_into_one_graph():
    x = torch.tensor([-float.fromhex("0x1.6451f0p-4"), -1.0])
    params = {
        n: torch.tensor(v) for n, v in (("alpha_p", 0.8), ("alpha_n", 0.8), ("beta", 0.03380943089723587))
    }
    compiled = torch.compile(stable_xielu, fullgraph=True)
    assert torch.equal(compiled(x, **params), stable_xielu(x, **params))


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


def test_far_out_what_is_left_is_the_exponential():
    """f′ is α_n·e^x there if α_n = β, of which e^x − 1 has forgotten all below −37."""
    half, x = torch.tensor(0.5), torch.tensor([-5.0, -40.0, -60.0], requires_grad=True)
    stable_xielu(x, alpha_p=half, alpha_n=half, beta=half).sum().backward()
    assert torch.equal(x.grad, (0.5 * x.detach().double().exp()).float())


def test_gradients_of_parameters_are_of_their_own_side():
    leaves = {
        n: torch.tensor(v, requires_grad=True) for n, v in (("alpha_p", 0.8), ("alpha_n", 0.7), ("beta", 0.5))
    }
    stable_xielu(torch.tensor([3.0, -2.0]), **leaves).sum().backward()
    found = [leaf.grad.item() for leaf in leaves.values()]
    assert found == pytest.approx([9.0, np.exp(-2.0) + 1, 1.0], rel=1e-7)


def test_a_summed_gradient_is_rounded_once():
    """300 squares of 1.0546875, in bf16 334, not squares rounded to bf16 first, 332."""
    x = torch.full((300,), 1.0546875, dtype=torch.bfloat16)
    alpha_p = torch.tensor(0.8, dtype=torch.bfloat16, requires_grad=True)
    other = torch.tensor(0.5, dtype=torch.bfloat16)
    stable_xielu(x, alpha_p=alpha_p, alpha_n=other, beta=other).sum().backward()
    assert (alpha_p.grad.item(), (x * x).sum().item()) == (334.0, 332.0)


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
