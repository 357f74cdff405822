"""`precision_lab.kernels` as its users see it: operators, modules, shapes, strides, errors; on the CPU."""

from __future__ import annotations

import copy
import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from precision_lab.kernels import XIELU, XIPReLU, operators, xielu, xiprelu
from precision_lab.oracle import evaluate
from precision_lab.verifying.verify import verify

BOTH = [pytest.param(XIELU, xielu, id="xielu"), pytest.param(XIPReLU, xiprelu, id="xiprelu")]


def parameters(*values: float, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {
        name: torch.tensor(v, dtype=dtype)
        for name, v in zip(("alpha_p", "alpha_n", "beta"), values, strict=True)
    }


@pytest.mark.parametrize("name", ["xielu", "xiprelu"])
def test_operators_satisfy_torchs_own_check(name: str) -> None:
    operator = getattr(torch.ops.precision_lab, name).default
    leaves = [torch.tensor(v, requires_grad=True) for v in (0.8, 0.8, 0.5)]
    for x in (torch.randn(4, 6), torch.randn(4, 6).t(), torch.randn(4, 6)[:, ::2], torch.randn(3, 1, 2)):
        torch.library.opcheck(operator, (x.detach().requires_grad_(), *leaves))


@pytest.mark.parametrize(("module", "operator"), BOTH)
def test_modules_compile_as_one_graph_with_the_same_result(module: type[XIELU], operator: object) -> None:
    eager, x = module(0.9, 0.7), torch.randn(7, 33, dtype=torch.bfloat16)
    compiled = torch.compile(copy.deepcopy(eager), fullgraph=True)
    results = []
    for f in (eager, compiled):
        point = x.clone().requires_grad_()
        y = f(point)
        y.float().square().sum().backward()
        results.append((y, point.grad, *(p.grad for p in f.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(("module", "operator"), BOTH)
def test_module_has_the_parameters_it_was_asked_for(module: type[XIELU], operator: object) -> None:
    for alpha_p, alpha_n in ((0.8, 0.8), (1e-6, 0.5000001), (170.0, 1.2)):
        got = module(alpha_p, alpha_n, dtype=torch.float64).effective_parameters()
        assert [float(v.detach()) for v in got.values()] == pytest.approx([alpha_p, alpha_n, 0.5], rel=1e-6)


def test_module_loads_a_hugging_face_state_dict() -> None:
    activations = pytest.importorskip("transformers.activations")
    theirs, ours = activations.XIELUActivation(0.9, 0.7), XIELU()
    ours.load_state_dict(theirs.state_dict())
    ours.requires_grad_(False)
    assert list(map(float, ours.effective_parameters().values())) == pytest.approx([0.9, 0.7, 0.5], rel=4e-3)
    x = torch.linspace(-4, 4, 101)
    assert torch.allclose(ours(x), theirs.float()(x), rtol=2e-2, atol=2e-2)


def test_gradients_reach_the_raw_parameters_through_softplus() -> None:
    module, x = XIELU(0.9, 0.7), torch.randn(1000, generator=torch.Generator().manual_seed(5))
    module(x).sum().backward()
    wide = x.double()
    q = torch.expm1(wide.clamp(max=0)) - wide.clamp(max=0)
    for raw, terms in ((module.alpha_p, wide.clamp(min=0) ** 2), (module.alpha_n, q)):
        expected = float(terms.sum()) * float(torch.sigmoid(raw.detach().double()))
        assert float(raw.grad) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("module", "operator"), BOTH)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_any_strides_give_the_same_numbers(module: object, operator: object, dtype: torch.dtype) -> None:
    base = torch.randn(6, 8, 10, dtype=torch.float64).to(dtype)
    p = parameters(0.8, 1.2, 0.5)
    expected = operator(base, **p)  # type: ignore[operator]
    for view in (lambda t: t.permute(2, 0, 1), lambda t: t[:, ::3], lambda t: t[1:, :, 3:], lambda t: t[:0]):
        got = operator(view(base), **p)  # type: ignore[operator]
        assert torch.equal(got, view(expected))
        assert got.stride() == torch.empty_like(view(base)).stride()


def test_expanded_upstream_and_parameters_per_channel() -> None:
    x = torch.randn(5, 3, dtype=torch.float64).requires_grad_()
    p = {k: v.expand(3).clone().requires_grad_() for k, v in parameters(0.8, 1.2, 0.5).items()}
    xielu(x, **p).sum().backward()
    one = {k: v.clone().requires_grad_() for k, v in parameters(0.8, 1.2, 0.5).items()}
    y = x.detach().clone().requires_grad_()
    xielu(y, **one).sum().backward()
    assert torch.equal(x.grad, y.grad)
    for name in p:
        assert p[name].grad.shape == (3,)
        assert float(p[name].grad.sum()) == pytest.approx(float(one[name].grad), rel=1e-5)


@pytest.mark.parametrize(("operator", "slope"), [(xielu, 0.7 * (math.exp(-2) - 1) + 0.5), (xiprelu, -2.3)])
def test_the_operators_gradients_are_of_its_own_parameters(operator: object, slope: float) -> None:
    """2·α_p·x + β above 0, and below α_n·(e^x − 1) + β or 2·α_n·x + β."""
    x = torch.tensor([3.0, -2.0], requires_grad=True)
    operator(x, **parameters(0.9, 0.7, 0.5)).sum().backward()  # type: ignore[operator]
    assert x.grad is not None
    assert x.grad.tolist() == pytest.approx([5.9, slope], rel=1e-6)


def test_empty_tensors_have_empty_results_and_zero_gradients() -> None:
    x = torch.empty(0, 5, requires_grad=True)
    module = XIELU()
    module(x).sum().backward()
    assert x.grad is not None and x.grad.shape == (0, 5)
    assert float(module.alpha_p.grad) == 0.0


def test_the_operator_without_triton_is_as_accurate_beside_a_root() -> None:
    """A GPU without Triton is such a place: without the roots its fp32 was seen 388 ulps off."""
    x = torch.tensor([-0.1673135310411453])
    values = {"alpha_p": 0.8, "alpha_n": 4.99566125869751, "beta": 0.39555612206459045}
    params = {name: torch.tensor(value) for name, value in values.items()}
    y = xielu(x, **params)
    exact = evaluate("xielu", x.item(), {name: value.item() for name, value in params.items()})
    assert abs(y.item() - exact) <= 0.51 * abs(exact) * 2**-23


@pytest.mark.parametrize("needed", [[True] * 4, [False, True, False, True]], ids=str)
def test_backward_satisfies_torchs_own_check(needed: list[bool]) -> None:
    x, each = torch.randn(6, 4).t(), [torch.full((4, 6), v) for v in (0.8, 0.9, 0.5)]
    operator = torch.ops.precision_lab.xielu_backward.default
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(operator, (torch.randn_like(x), x, *each, needed), test_utils=checks)


def test_wrong_arguments_are_named() -> None:
    x, p = torch.randn(4), parameters(0.8, 0.8, 0.5)
    with pytest.raises(TypeError, match=r"xielu: x is torch.int64, expected a floating-point dtype"):
        xielu(torch.arange(4), **p)
    with pytest.raises(ValueError, match=r"alpha_n of shape \(3,\) does not broadcast to x of shape \(4,\)"):
        xielu(x, **{**p, "alpha_n": torch.ones(3)})
    with pytest.raises(ValueError, match=r"alpha_p is on meta, x on cpu"):
        operators.forward("xielu", x, (torch.ones((), device="meta"), p["alpha_n"], p["beta"]))
    with pytest.raises(ValueError, match=r"alpha_n=0.5: must be greater than 0.5"):
        XIELU(alpha_n=0.5)
    with pytest.raises(ValueError, match=r"alpha_p=nan"):
        XIELU(alpha_p=math.nan)


@pytest.mark.parametrize("target", ["precision_lab.kernels:XIELU", "precision_lab.kernels:xielu"])
def test_the_operator_and_the_module_pass_as_strangers(target: str) -> None:
    verdict = verify(target, "xielu", fmts=("bf16",), max_ulp=0.51, isolate=False)
    assert verdict.passed, verdict.failures


def test_kernels_import_without_triton() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import torch; from precision_lab.kernels import XIELU\n"
        "print(float(XIELU()(torch.ones(1)).detach()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(1.3)
