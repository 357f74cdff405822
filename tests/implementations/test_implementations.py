"""Implementations are what they declare: registry, executions, adapters, faults by name.

By default every eager implementation runs in fp32, but for two functions, and one in three in bf16; the
exhaustive run adds the others.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from by_name import (
    as_implementation,
    effective_parameters,
    from_module,
    get_implementation,
    implementations_for,
    measure_all,
    precompile,
    resolve,
    run,
    run_reduced,
)

from precision_lab.exceptions import KernelError
from precision_lab.formats import BF16, FP16, FP32, get_format
from precision_lab.functions import FUNCTIONS, GELU_TANH, MISH, get_function
from precision_lab.implementations import IMPLEMENTATIONS
from precision_lab.measuring.measure import measure
from precision_lab.results import Failure
from precision_lab.results.execution import EAGER as EXECUTION_EAGER
from precision_lab.results.execution import FP8_BF16, FP8_FP32, UPCAST
from precision_lab.running import precompile as compiler
from precision_lab.running.tensors import store, to_array
from precision_lab.system.extras import install_line

# The oracle's pieces for these in fp32 take up to half a minute to fit.
EAGER = [
    pytest.param(i, fmt, id=f"{fmt}-{i.function.name}-{i.name}",
                 marks=[pytest.mark.slow] * (i.function in (MISH, GELU_TANH) if fmt == "fp32" else n % 3 > 0))
    for n, i in enumerate(IMPLEMENTATIONS.values()) if i.execution == EXECUTION_EAGER
    for fmt in ("fp32", "bf16")
]  # fmt: skip


def test_every_function_has_an_implementation():
    assert {i.function for i in IMPLEMENTATIONS.values()} == set(FUNCTIONS.values())


@pytest.mark.parametrize(("implementation", "fmt"), EAGER)
def test_every_eager_implementation_computes_its_function(implementation, fmt):
    """Between 0.5 and 2 nothing cancels or overflows: a few ulps there, or it is another function.

    Snake's d/dα and StarReLU have a root there, and x − tanh x cancels.
    """
    target = get_format(fmt)
    low, high = {"snake": (0.5, 0.75), "star_relu": (1.0, 2.0), "tanhshrink": (1.25, 2.0)}.get(
        implementation.function.name, (0.5, 2.0)
    )
    x = np.unique(target.round(np.linspace(low, high, 257)))
    for m in measure_all(implementation, implementation.measured_outputs(), fmt, inputs=x):
        assert m.failure is None, m.failure
        assert m.max_ulp < 16, (m.case, m.witness)


def test_upcast_rounds_once():
    """Away from roots and subnormals fp32 arithmetic leaves bf16 at half an ulp and a bit."""
    m = measure("expm1 [upcast]", "xielu", fmt="bf16")
    assert m.regions["positive"].max_ulp < 0.51
    assert measure("expm1", "xielu", fmt="bf16").regions["positive"].max_ulp > 0.6


def test_eps_clamp_flips_gradient_signs_and_the_others_do_not():
    for name, flips in (("eps-naive", True), ("eps-expm1", True), ("zero-expm1", False), ("stable", False)):
        m = measure(name, "xielu", fmt="bf16", output="grad_x")
        # At the clamp itself the minimum of two equal numbers shares its gradient: half, and the right sign.
        assert (m.regions["eps_zone"].wrong_sign > 0) is flips
    # Half precision holds the clamp only as a subnormal, which changes nothing.
    assert measure("eps-expm1", "xielu", fmt="fp16", output="grad_x").wrong_sign > 0


def test_no_clamp_gives_nan_gradients_for_large_x_and_a_clamp_at_zero_does_not():
    assert measure("expm1", "xielu", fmt="bf16", output="grad_x").nonfinite_mismatch > 10000
    assert measure("zero-expm1", "xielu", fmt="bf16", output="grad_x").nonfinite_mismatch <= 2


def test_expm1_does_not_cure_the_gradient_of_alpha_n():
    """e^x − 1 − x from a rounded e^x − 1 has lost about log2(2/|x|) bits."""
    bits = {
        name: measure(name, "xielu", fmt="fp32", output="grad_alpha_n")
        .regions["near_zero_negative"]
        .min_correct_bits
        for name in ("naive", "zero-expm1", "stable")
    }
    assert bits["naive"] == 0.0
    assert bits["zero-expm1"] < 8
    assert bits["stable"] > 23.5


def test_fp8_storage_saturates_only_where_declared():
    fmt = get_format("e4m3")
    x = fmt.decode(fmt.all_bits())
    params = get_function("xielu").check_params()
    plain = run(get_implementation("xielu", "stable", "fp8-fp32"), x, "e4m3", params, ("forward",))["forward"]
    clamped = run(
        get_implementation("xielu", "stable", "fp8-fp32", saturating=True), x, "e4m3", params, ("forward",)
    )
    assert np.isnan(plain[x == 448.0]).all()
    assert (clamped["forward"][x == 448.0] == 448.0).all()


@pytest.mark.parametrize("fmt", ["e4m3", "e5m2"])
@pytest.mark.parametrize("saturating", [False, True])
def test_storing_in_fp8_is_correct_rounding_of_every_bf16_value(fmt, saturating):
    source, target = get_format("bf16"), get_format(fmt)
    values = source.decode(source.all_bits())
    values = values[np.isfinite(values)]
    stored = store(torch.from_numpy(values).float(), target, saturating=saturating)
    assert np.array_equal(
        to_array(stored, target), target.round(values, saturating=saturating), equal_nan=True
    )


def test_fp8_storage_is_judged_as_it_saturates():
    """Of f(384), some 100,000, E4M3 keeps 448 where storage saturates, and NaN where it does not."""
    found = {}
    for saturating in (True, False):
        subject = get_implementation("xielu", "stable", "fp8-fp32", saturating=saturating)
        (found[saturating],) = measure_all(subject, ("forward",), "e4m3", inputs=np.array([384.0, -1.0, 2.0]))
    assert [found[s].nonfinite_mismatch for s in (True, False)] == [0, 0]
    assert found[True].max_ulp <= 0.5 and found[True].regions["positive"].n_inputs == 2


def test_upcast_is_of_the_small_formats_and_saturation_is_declared():
    """FP32 inside is what fp32 is without a cast; of FP8 storage both kinds around FP32, one around BF16."""
    upcast = [i for i in IMPLEMENTATIONS.values() if i.execution == UPCAST]
    assert upcast and {i.formats for i in upcast} == {(BF16, FP16)}
    assert {i.compute_dtype for i in upcast} == {"fp32"}
    fp8 = {(i.execution, i.saturating) for i in IMPLEMENTATIONS.values() if i.execution.core is not None}
    assert fp8 == {(FP8_FP32, False), (FP8_FP32, True), (FP8_BF16, True)}


def test_fp8_gradients_are_stored_in_e5m2():
    m = measure_all(get_implementation("xielu", "stable", "fp8-fp32"), ("forward", "grad_x"), "e4m3")
    assert [(r.fmt, r.output_fmt, r.n_inputs) for r in m] == [("e4m3", "e4m3", 256), ("e4m3", "e5m2", 256)]


def test_compiled_agrees_with_eager_within_a_few_ulps_where_nothing_cancels():
    fmt = get_format("fp32")
    x = fmt.round(np.linspace(0.5, 2.0, 1001))
    m = measure_all(get_implementation("relu2", "torch", "compiled"), ("forward", "grad_x"), "fp32", inputs=x)
    assert [r.failure for r in m] == [None, None]
    assert max(r.max_ulp for r in m) <= 0.5


class UsersXIELU(torch.nn.Module):
    """A module as a user might write it: raw parameters, softplus inside."""

    def __init__(self, alpha_p: float, alpha_n: float, beta: float) -> None:
        super().__init__()
        self.a_p = torch.nn.Parameter(torch.tensor(alpha_p).expm1().log())
        self.a_n = torch.nn.Parameter(torch.tensor(alpha_n - beta).expm1().log())
        self.beta = beta

    def effective(self) -> dict[str, float]:
        with torch.no_grad():
            softplus = torch.nn.functional.softplus
            return {"alpha_p": float(softplus(self.a_p)), "alpha_n": float(self.beta + softplus(self.a_n))}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        softplus = torch.nn.functional.softplus
        alpha_p, alpha_n = softplus(self.a_p), self.beta + softplus(self.a_n)
        negative = alpha_n * (torch.expm1(x.clamp(max=0.0)) - x) + self.beta * x
        return torch.where(x > 0, alpha_p * x * x + self.beta * x, negative)


def users_module() -> object:
    return from_module(
        lambda params, dtype: UsersXIELU(**params).to(dtype),
        "xielu",
        leaves={"raw_alpha_p": "a_p", "raw_alpha_n": "a_n"},
        effective=UsersXIELU.effective,
    )


def test_a_users_module_is_measured_with_its_own_raw_parameters():
    results = measure_all(
        users_module(), ("forward", "grad_x", "grad_raw_alpha_p", "grad_raw_alpha_n"), "fp32"
    )
    assert [m.failure for m in results] == [None] * 4
    assert results[0].params["alpha_p"] == pytest.approx(0.8, rel=1e-6)
    for m in results[:3]:
        assert m.regions["positive"].max_ulp < 8


def test_transformers_is_measured_as_its_users_run_it():
    pytest.importorskip("transformers")
    implementation = get_implementation("xielu", "transformers", "module")
    effective = effective_parameters(implementation, get_function("xielu").check_params(), "bf16")
    assert effective["beta"] == 0.5
    assert effective["alpha_n"] != 0.8  # softplus of a rounded raw value, not the asked one
    forward, grad_x, *raw = measure_all(implementation, implementation.measured_outputs(), "bf16")
    assert [m.failure for m in (forward, grad_x, *raw)] == [None] * 4
    assert forward.regions["positive"].max_ulp < 4
    assert forward.jump_at_zero > 0  # the clamp at eps
    assert grad_x.regions["eps_zone"].wrong_sign > 0


@pytest.mark.parametrize("value", [1e-9, 0.3, 0.8, 170.0, 1000.0])
def test_the_inverse_of_softplus_is_one(value):
    from precision_lab.implementations.transformers_xielu import inverse_softplus

    raw = torch.tensor(inverse_softplus(value), dtype=torch.float64)
    assert torch.nn.functional.softplus(raw, threshold=50).item() == pytest.approx(value, rel=1e-12)


def test_parameters_out_of_reach_are_a_named_finding():
    pytest.importorskip("transformers")
    implementation = get_implementation("xielu", "transformers", "module")
    result = measure_all(implementation, ("forward",), "bf16", {"alpha_n": 0.4})
    assert result[0].failure.kind == "not_finite_parameters"


def test_a_missing_library_is_a_named_finding(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "transformers.activations", None)
    implementation = get_implementation("xielu", "transformers", "module")
    result = measure_all(implementation, ("forward",), "bf16")
    assert result[0].failure.kind == "missing_dependency"
    assert install_line("transformers") in result[0].failure.message


def test_a_kernel_that_raises_names_the_exception_and_its_place():
    def kernel(x, **_):
        raise RuntimeError("no kernel for this dtype")

    line = kernel.__code__.co_firstlineno + 1

    got = run(as_implementation(kernel, "relu", ("bf16",)), np.zeros(4), "bf16", {}, ("forward", "grad_x"))
    place = f"(test_implementations.py, line {line} in kernel)"
    assert got["forward"] == Failure("raised", f"RuntimeError: no kernel for this dtype {place}")
    assert isinstance(got["grad_x"], Failure)


def test_a_module_that_cannot_be_built_is_a_named_finding():
    def factory(params, dtype):
        raise RuntimeError("no such device")

    line = factory.__code__.co_firstlineno + 1
    got = measure_all(from_module(factory, "xielu"), ("forward", "grad_x"), "fp32")
    place = f"(test_implementations.py, line {line} in factory)"
    assert [m.failure for m in got] == [Failure("raised", f"RuntimeError: no such device {place}")] * 2


def test_a_module_without_the_named_parameter_says_which_it_has():
    implementation = from_module(
        lambda params, dtype: UsersXIELU(**params).to(dtype), "xielu", leaves={"raw_alpha_p": "a_pp"}
    )
    params, x = get_function("xielu").check_params(), np.ones(4)
    for got in (
        run(implementation, x, "fp32", params, ("grad_raw_alpha_p",)),
        run_reduced(implementation, x, x, "fp32", params),
    ):
        assert got["grad_raw_alpha_p"].message.endswith("'a_pp'; did you mean a_p?")


def test_a_summed_gradient_that_fails_leaves_the_others():
    def kernel(x, *, alpha_p, alpha_n, beta):
        return alpha_p * x + beta.detach() * x

    x = np.array([1.0, 2.0])
    params = get_function("xielu").check_params()
    got = run_reduced(as_implementation(kernel, "xielu", ("fp32",)), x, x, "fp32", params)
    assert got["grad_alpha_p"] == (5.0, FP32)
    assert got["grad_alpha_n"].kind == got["grad_beta"].kind == "not_differentiable"


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        (lambda x, **_: x[:1], "wrong_shape"),
        (lambda x, **_: x.double(), "wrong_dtype"),
        (lambda x, **_: 1 / 0, "raised"),
    ],
)
def test_faults_of_summed_gradients_are_named(kernel, kind):
    x, params = np.ones(4), get_function("xielu").check_params()
    got = run_reduced(as_implementation(kernel, "xielu", ("fp32",)), x, x, "fp32", params)
    assert {failure.kind for failure in got.values()} == {kind}


@pytest.mark.parametrize(("slow", "expected"), [(None, []), (0, []), (2, [6])])
def test_compiling_is_shared_from_the_first_kernel_that_no_cache_holds(monkeypatch, slow, expected):
    """The first kernel of a process is always slow: it starts the compiler."""
    chosen = [i for i in implementations_for("xielu", "compiled") if not i.inductor][:3]
    spent = iter([compiler.COLD_SECONDS + 1 if k == slow else 0.1 for k in range(9)])
    shared = []
    monkeypatch.setattr(compiler, "warm", lambda *_, **__: next(spent))
    monkeypatch.setattr(compiler, "_compile_elsewhere", lambda cases, *_: shared.append(len(cases)))
    seconds = precompile(chosen, ("fp32", "bf16", "fp16"), workers=2)
    assert len(seconds) == 9
    assert shared == expected


def test_what_is_not_callable_is_refused():
    with pytest.raises(TypeError, match=r"kernel=3 is not callable"):
        as_implementation(3, "relu", ("bf16",))


def test_resolve_takes_names_with_an_execution():
    assert resolve("stable", "xielu", "bf16").execution.name == "eager"
    assert resolve("naive [upcast]", "xielu", "bf16").execution.name == "upcast"
    with pytest.raises(ValueError, match=r"did you mean.*stable"):
        resolve("stabel", "xielu", "bf16")


def test_unknown_execution_is_refused():
    with pytest.raises(ValueError, match=r"unknown execution 'egaer'; did you mean eager"):
        implementations_for("xielu", "egaer")


def test_a_kernel_error_carries_its_kind():
    assert KernelError("raised", "x").kind == "raised"
