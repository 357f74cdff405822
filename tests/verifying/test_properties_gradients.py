"""Upstream gradients, sums, operands and steps of training: what is exact, what is allowed, what is said.

By default two of the four properties are examined in each format; the exhaustive run adds the others, and two
of three kernels with a declared contract.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from turns import in_turn, one_in

torch = pytest.importorskip("torch")

import by_name
from by_name import as_implementation, get_implementation

from precision_lab.formats import KERNEL_FORMATS, get_format
from precision_lab.functions import FUNCTIONS, PRELU, get_function
from precision_lab.implementations.contract import CallContract
from precision_lab.running.tensors import to_tensor
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.properties import DEFAULT_PROPERTIES
from precision_lab.verifying.properties.products import (
    HIGHEST,
    LOWEST,
    exponents,
    random_significands,
    spread,
)
from precision_lab.verifying.properties.registry import examine
from precision_lab.verifying.properties.subject import Subject
from precision_lab.verifying.properties.sums import Sum
from precision_lab.verifying.verify import verify

GRADIENTS = ("upstream", "reductions", "operands", "training_step")
ALL = ("fp64", "fp32", "bf16", "fp16")


def silu(x: Any) -> Any:
    return torch.nn.functional.silu(x.double().clamp(min=-800)).to(x.dtype)


def swiglu(x: Any, b: Any) -> Any:
    return (torch.nn.functional.silu(x.double().clamp(min=-800)) * b.double()).to(x.dtype)


def prelu(x: Any, *, alpha: Any) -> Any:
    return torch.where(x > 0, x, alpha * x)


def subject_of(
    kernel: Any, function: str, fmt: str = "bf16", *, contract: CallContract | None = None,
    max_ulp: float = 1.0, finite: bool = False, compiled: bool = False,
) -> Subject:  # fmt: skip
    implementation = as_implementation(kernel, function, KERNEL_FORMATS, compiled=compiled)
    implementation = replace(implementation, contract=contract or CallContract())
    outputs = implementation.measured_outputs()
    bounds = {o: Bound(max_ulp) for o in outputs}
    found: Subject = by_name.subject(implementation, fmt, bounds, finite=finite)
    return found


@pytest.mark.parametrize("fmt", KERNEL_FORMATS)
def test_upstream_gradients_are_normal_numbers_of_the_format(fmt: str) -> None:
    target, generator = get_format(fmt), np.random.default_rng(1)
    known = exponents(target)
    assert known[0] >= max(LOWEST, target.emin)
    assert known[-1] < HIGHEST
    significand = random_significands(target, 999, generator)
    assert set(np.sign(significand)) == {-1.0, 1.0}
    rounds = spread(target, significand, 4, generator)
    for weight in (significand, *rounds):
        assert np.array_equal(target.round(weight), weight)
        assert (np.abs(weight) >= target.min_normal).all()
    met = np.sort(np.frexp(np.stack(rounds))[1], axis=0)
    # Every element meets a quarter of the range from its lower and its upper end.
    assert (met[0] - 1 - known[0] <= known.size // 4 + 1).all()
    assert (known[-1] - met[-1] + 1 <= known.size // 4 + 1).all()


@pytest.mark.parametrize("fmt", ["bf16", "fp32", "fp64"])
def test_a_sum_is_exact_to_what_it_allows(fmt: str) -> None:
    target, generator = get_format(fmt), np.random.default_rng(2)
    subject: Any = SimpleNamespace(fmt=target, function=PRELU)
    x = np.unique(target.round(-np.abs(generator.standard_normal(40)) - 0.1))
    total = Sum(subject, "grad_alpha", 0.5, {"alpha": 0.25}, x)
    index = generator.integers(0, x.size, 500)
    weight = target.round(generator.standard_normal(500))
    exact = sum(Fraction(w) * Fraction(v) for w, v in zip(weight, x[index], strict=True))
    found, allowed = total.at(index, weight)
    assert abs(Fraction(found) - exact) < allowed / 8
    # A float32 sum of products rounded to the format is right; one that misses a term is not.
    rounded = float(target.round(weight * x[index]).sum())
    assert abs(rounded - found) <= allowed
    alone = np.zeros(500)
    alone[7] = 1.0
    assert total.at(index, alone)[1] < abs(x[index[7]])


@pytest.mark.parametrize(("kernel", "function"), [(silu, "silu"), (swiglu, "swiglu"), (prelu, "prelu")])
@pytest.mark.parametrize(("fmt", "name"), in_turn(ALL, GRADIENTS, every=2))
def test_a_right_kernel_has_right_gradients(kernel: Any, function: str, fmt: str, name: str) -> None:
    if fmt == "fp64":  # a float64 kernel is not exact to an ulp in float64
        kernel = {silu: torch.nn.functional.silu}.get(kernel, kernel)
    subject = subject_of(kernel, function, fmt, max_ulp=1.0 if fmt != "fp64" else 64.0)
    assert examine(subject, name).faults == ()


class OnceInFp8(torch.autograd.Function):
    """SwiGLU in float64, each result rounded once: torch adds and multiplies no FP8 tensors in place."""

    @staticmethod
    def forward(ctx: Any, x: Any, b: Any) -> Any:
        ctx.save_for_backward(x, b)
        return stored(swiglu(x.double(), b.double()), x)

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        x, b = (t.double().requires_grad_() for t in ctx.saved_tensors)
        with torch.enable_grad():
            y = swiglu(x, b)
        return tuple(stored(t, dy) for t in torch.autograd.grad(y, (x, b), dy.double()))


def stored(wide: Any, like: Any) -> Any:
    """Rounded by the format's own table; releases of torch differ in what an overflowing number becomes."""
    fmt = get_format("e4m3" if like.dtype is torch.float8_e4m3fn else "e5m2")
    return to_tensor(fmt.round(wide.detach().reshape(-1).numpy()), fmt).reshape(wide.shape)


@pytest.mark.parametrize("fmt", ["e4m3", "e5m2"])
def test_a_right_fp8_kernel_keeps_every_property(fmt: str) -> None:
    """Of tensors that torch neither flips nor sums, nor compares."""
    subject = subject_of(OnceInFp8.apply, "swiglu", fmt)
    for name in DEFAULT_PROPERTIES:
        if name != "sizes":  # a second of its own
            found = examine(subject, name)
            assert found.faults == (), name
    assert [n.what for n in examine(subject, "training_step").not_examined] == ["steps of a module"]


CONTRACTS = {
    "multiples of 16": CallContract(multiple_of=16),
    "rows of 64": CallContract(shapes=((None, 64),)),
    "three dimensions": CallContract(shapes=((2, None, 32),)),
    "one shape": CallContract(shapes=((8, 64),)),
}


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize(
    ("kernel", "function"), one_in(3, [(swiglu, "swiglu"), (silu, "silu"), (prelu, "prelu")])
)
def test_only_shapes_of_the_contract_are_called(
    kernel: Callable[..., Any], function: str, name: str, contract: CallContract
) -> None:
    def strict(x: Any, **params: Any) -> Any:
        assert contract.accepts(tuple(x.shape)), f"x of shape {tuple(x.shape)}"
        return kernel(x, **params)

    names = [p.name for p in get_function(function).parameters]
    implementation = replace(
        as_implementation(kernel, function, ALL), kernel=strict, contract=contract
    )  # fmt: skip
    subject = subject_of(implementation, function, contract=contract)
    assert set(subject.leaves) == set(names)
    found = examine(subject, name)
    assert found.faults == ()


def test_the_message_says_which_magnitudes_fail() -> None:
    class Clamped(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g.clamp(-8, 8)

    subject = subject_of(lambda x: silu(Clamped.apply(x)), "silu", "fp16")
    found = {f.kind: f for f in examine(subject, "upstream").faults}
    # Of d/dx = g·silu'(x), which here is clamped after the product: the largest g fail.
    assert set(found) == {"ignores_upstream", "loses_nonfinite"}
    assert "with upstream gradients of 2^" in found["ignores_upstream"].message


def test_a_loss_scale_is_named_with_an_input() -> None:
    class Half(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return silu(x)

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            s = torch.sigmoid(x.float())
            inner = g.float() * s + (g * x).float() * (s * (1 - s))
            return torch.where(torch.isinf(x), g.float() * s, inner).to(x.dtype)

    (fault,) = examine(subject_of(Half.apply, "silu", "fp16"), "upstream").faults
    assert fault.kind == "ignores_upstream"
    assert "with upstream gradients of 1024, a loss scale" in fault.message
    assert "x=" in fault.message
    assert "0x" in fault.message
    assert "nan instead of 1024.0" in fault.message
    assert math.isinf(fault.ulps)


def test_nan_where_the_derivative_is_0_is_a_note() -> None:
    found = examine(subject_of(torch.relu, "relu"), "upstream")
    assert found.faults == ()
    assert any("do not arrive where d/dx is 0" in note for note in found.notes)


def test_finite_terms_leave_nonfinite_upstream_gradients_out() -> None:
    swallowing = subject_of(torch.relu, "relu", finite=True)
    found = examine(swallowing, "upstream")
    assert [n.what for n in found.not_examined] == ["NaN and infinite upstream gradients"]


def test_only_gated_functions_have_an_operand() -> None:
    having = {f.name for f in FUNCTIONS.values() if any(p.operand for p in f.parameters)}
    assert having == {"swiglu", "geglu", "geglu_tanh", "reglu", "gpt_oss_swiglu"}
    assert "no operand" in examine(subject_of(silu, "silu"), "operands").inapplicable
    fixed = subject_of(lambda x: swiglu(x, torch.tensor(1.5, dtype=x.dtype)), "swiglu")
    assert examine(fixed, "operands").inapplicable == "the kernel is not given b"


def test_digits_that_all_cancel_are_no_misread_operand() -> None:
    """torch's GELU in BF16 at −5: three bits of 1 + erf are left, others in a vector than alone."""
    found = examine(subject_of(lambda x, b: torch.nn.functional.gelu(x) * b, "geglu"), "operands")
    assert found.faults == ()


def test_a_refused_broadcast_is_said() -> None:
    def strict(x: Any, b: Any) -> Any:
        assert b.dim() == 0 or b.shape == x.shape
        return swiglu(x, b)

    found = examine(subject_of(strict, "swiglu"), "operands")
    assert found.faults == ()
    assert [n.what for n in found.not_examined] == [
        "one row of b, of shape (1, 64) beside x of (64, 64)",
        "one column of b, of shape (64, 1) beside x of (64, 64)",
    ]


def test_results_of_another_dtype_beside_wide_parameters_are_noted_and_not_judged() -> None:
    found = examine(subject_of(prelu, "prelu"), "training_step")
    assert found.faults == ()
    # torch promotes a 0-d tensor to the other's dtype, so a module does it with a slope for each element.
    wide = subject_of(lambda x, *, alpha: torch.where(x > 0, x, alpha.reshape(1) * x), "prelu")
    found = examine(wide, "training_step")
    assert found.faults == ()
    assert any("with FP32 parameters: forward is torch.float32" in note for note in found.notes)


def test_where_training_is_not_the_kernels_own_that_is_said() -> None:
    numpy_relu = as_implementation(np.negative, "relu", ALL, framework="numpy")
    subject: Any = SimpleNamespace(implementation=numpy_relu)
    from precision_lab.verifying.properties.training import training_step

    assert training_step(subject) == "autograd around a kernel in numpy is the lab's own"


def doubled_together(x: Any, *, alpha: Any) -> Any:
    """d/dα twice what it is where x requires a gradient too; compiled measurements give α the shape of x."""
    if x.requires_grad and alpha.dim() == 0:
        alpha = 2 * alpha - alpha.detach()
    return prelu(x, alpha=alpha)


def test_a_compiled_kernel_is_trained() -> None:
    subject = subject_of(prelu, "prelu", compiled=True)
    assert examine(subject, "training_step").faults == ()
    (fault,) = examine(subject_of(doubled_together, "prelu", compiled=True), "training_step").faults
    assert "x and parameters require gradients together, the gradient of alpha" in fault.message


def hugging_face(alpha_p: float, alpha_n: float, beta: float, dtype: Any) -> Any:
    from transformers.activations import XIELUActivation

    return XIELUActivation(alpha_p_init=alpha_p, alpha_n_init=alpha_n, beta=beta, dtype=dtype).to(dtype)


@pytest.mark.parametrize("own", [True, False], ids=["registered", "factory"])
def test_a_module_behind_softplus_is_trained_and_its_unreachable_sets_are_said(own: bool) -> None:
    pytest.importorskip("transformers")
    registered = get_implementation("xielu", "transformers", "module")
    # Of α_n < β the one says that there is none; the other's raw value becomes NaN.
    implementation = registered if own else as_implementation(hugging_face, "xielu", ALL)
    outputs = implementation.measured_outputs()
    bounds = {o: Bound(64.0) for o in outputs}
    subject = by_name.subject(implementation, "fp32", bounds)
    found = examine(subject, "training_step")
    assert found.faults == ()
    assert any("'rootless'" in n.what for n in found.not_examined)


class _SavesMemory(torch.autograd.Function):
    """SwiGLU whose backward puts the gradients where its inputs were, as published kernels do."""

    @staticmethod
    def forward(ctx, x, b):  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x, b)
        return (torch.nn.functional.silu(x.double()) * b.double()).to(x.dtype)

    @staticmethod
    def backward(ctx, dy):  # type: ignore[no-untyped-def]
        x, b = ctx.saved_tensors
        wide, s = x.double(), torch.sigmoid(x.double())
        dx = dy.double() * b.double() * (s + wide * s * (1 - s))
        db = dy.double() * wide * s
        x.data.copy_(dx)
        b.data.copy_(db)
        return x, b


def _saves_memory(x, b):  # type: ignore[no-untyped-def]
    return _SavesMemory.apply(x, b if b.shape == x.shape else b.expand(x.shape).contiguous())


def test_a_kernel_that_overwrites_its_inputs_is_wrong_once() -> None:
    """What it has overwritten is given to no other call: the other properties hold."""
    verdict = verify(_saves_memory, "swiglu", fmts=("bf16",), params={"init": {}}, finite=True)
    # What is expanded cannot be overwritten at all.
    assert {fault.code for fault in verdict.faults} == {"writes_input", "not_deterministic", "raised"}
    assert all("expanded" in fault.message for fault in verdict.faults if fault.code == "raised")
