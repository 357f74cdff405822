"""A user's formula as torch computes it, operation by operation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import precision_lab as pl
from precision_lab.functions import activation
from precision_lab.implementations.as_written import as_written
from precision_lab.math import clamp, exp2, pi, sigmoid, sin, softplus, where


@activation(alpha=1.5, limit=2.0)
def mixed(x, alpha, limit):  # type: ignore[no-untyped-def]
    y = clamp(x, -limit, limit)
    return where(
        (x > -1) & (x < 1), y * sigmoid(alpha * y) + exp2(y), softplus(y, threshold=1) - sin(y) ** 3 / pi
    )


def test_it_computes_what_is_written_in_the_formats_arithmetic() -> None:
    kernel = next(i.kernel for i in as_written(mixed) if i.execution.name == "eager")
    x = torch.linspace(-4, 4, 999)
    a, b = torch.tensor(1.5), torch.tensor(2.0)
    y = torch.minimum(torch.maximum(x, -b), b)
    wanted = torch.where(
        (x > -1) & (x < 1), y * torch.sigmoid(a * y) + torch.exp2(y),
        torch.where(y > 1, y, torch.nn.functional.softplus(y)) - torch.sin(y) ** 3 / torch.pi,
    )  # fmt: skip
    assert torch.equal(kernel(x, alpha=a, limit=b), wanted)
    half = kernel(x.bfloat16(), alpha=a.bfloat16(), limit=b.bfloat16())
    assert half.dtype == torch.bfloat16 and half.shape == x.shape


def test_a_formula_without_x_has_its_shape() -> None:
    @activation
    def constant(x):  # type: ignore[no-untyped-def]
        return where(x > 0, 1, 1)

    kernel = as_written(constant)[0].kernel
    assert kernel(torch.zeros(3, 4)).tolist() == [[1.0] * 4] * 3


def test_its_gradients_are_autograds() -> None:
    kernel = as_written(mixed)[0].kernel
    x = torch.randn(50, dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    limit = torch.tensor(2.0, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v, a: kernel(v, alpha=a, limit=limit), (x, alpha))


def test_every_execution_is_a_subject_of_the_users_function() -> None:
    names = {i.execution.name for i in as_written(mixed)}
    assert {"eager", "upcast", "compiled", "fp8-fp32"} <= names
    assert all(i.function is mixed for i in as_written(mixed))


def test_second_derivatives_are_measured_on_request() -> None:
    """Of silu: σ′(2 + x·(1 − 2σ)), at every bf16 number, in FP32 arithmetic and rounded once."""
    found = pl.measure(torch.nn.functional.silu, "silu", fmt="fp16", output="grad_grad_x")
    assert found.undecided == 0 and found.n_inputs == 2**16
    linear = pl.measure(torch.relu, "relu", fmt="bf16", output="grad_grad_x")
    assert linear.max_ulp == 0


def test_a_kernel_without_a_double_backward_says_so() -> None:
    from precision_lab.exceptions import KernelError

    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(x)
            return torch.nn.functional.silu(x)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, dy):  # type: ignore[no-untyped-def]
            (x,) = ctx.saved_tensors
            s = torch.sigmoid(x)
            return dy * s * (1 + x * (1 - s))

    with pytest.raises(KernelError, match=r"double backward|no gradient"):
        pl.measure(Once.apply, "silu", fmt="bf16", output="grad_grad_x")


def test_a_report_of_a_users_function(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import precision_lab as pl\nfrom precision_lab.math import exp\n"
        "@pl.activation\ndef bell(x):\n    return exp(-x * x)\n"
    )
    from precision_lab.study.settings import StudySettings

    settings = StudySettings(functions=(f"{tmp_path / 'mine.py'}:bell",), formats=("bf16",), quick=True)
    assert [f.name for f in settings.chosen_functions()] == ["bell"]
    assert {i.label for i in settings.listed()} == {"as-written [eager]", "as-written [upcast]"} or all(
        i.name == "as-written" for i in settings.listed()
    )
