"""The instrument sees what it must: known faults give their known figures."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from answers import bits_of, correctly_rounded, tensor_of
from by_name import Implementation, as_implementation, get_implementation, measure_all, sweep

import precision_lab as pl
from precision_lab.exceptions import KernelError
from precision_lab.formats import get_format
from precision_lab.inputs.points import default_inputs
from precision_lab.measuring.measure import measure
from precision_lab.oracle import reference

torch = pytest.importorskip("torch")

PARAMS = {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.5}


def shifted(fmt_name, steps, where):
    """The correctly rounded answer moved by `steps` ordinals where `where(x)`."""
    fmt = get_format(fmt_name)
    right = correctly_rounded(fmt_name)

    def kernel(x, **_):
        values = fmt.decode(bits_of(right(x), fmt))
        inputs = fmt.decode(bits_of(x, fmt))
        chosen = where(inputs) & np.isfinite(values)
        moved = values.copy()
        moved[chosen] = fmt.from_ordinal(fmt.ordinal(values[chosen]) + steps)
        return tensor_of(moved, fmt)

    return kernel


@pytest.mark.parametrize("fmt", ["bf16", "fp16"])
def test_correct_rounding_measures_at_most_half_an_ulp_and_no_finding(fmt):
    m = measure(correctly_rounded(fmt), "relu2", fmt=fmt)
    assert m.max_ulp <= 0.5
    assert m.n_inputs == 65536
    assert (m.not_correctly_rounded, m.wrong_sign, m.nonfinite_mismatch, m.undecided) == (0, 0, 0, 0)
    assert m.monotonicity_violations == 0
    assert sum(m.escalated.values()) == m.n_inputs


def test_one_ulp_shift_in_one_binade_is_seen_there_and_only_there():
    m = measure(shifted("bf16", 1, lambda x: (x >= 4) & (x < 8)), "relu2", fmt="bf16")
    # A step past a binade's end is two ulps of the exact value below it, plus half an ulp.
    assert 0.5 < m.max_ulp <= 2.5
    assert m.not_correctly_rounded == 128
    assert 4 <= m.witness.x < 8
    bad = {(b.sign, b.exponent) for b in m.binades if b.statistics.not_correctly_rounded}
    assert bad == {(1, 2)}


def test_a_single_wrong_bit_pattern_is_found():
    m = measure(shifted("bf16", 3, lambda x: x == 1.0), "relu2", fmt="bf16")
    assert m.not_correctly_rounded == 1
    assert (m.witness.bits, m.witness.x, m.witness.rounded) == ("0x3f80", 1.0, 1.0)
    assert m.max_ulp == m.witness.error_ulps == 3.0


def test_a_constant_answer_loses_every_bit():
    m = measure(lambda x, **_: torch.zeros_like(x), "silu", fmt="bf16")
    assert m.regions["positive"].min_correct_bits == 0
    assert m.regions["positive"].not_correctly_rounded > 16000


def test_nan_in_place_of_a_number_is_a_mismatch_and_no_ulp_figure():
    def kernel(x, **_):
        return torch.where(x == 1, torch.nan, torch.relu(x))

    m = measure(kernel, "relu", fmt="bf16")
    assert m.nonfinite_mismatch == 1
    assert m.nonfinite_witness.x == 1.0
    assert m.max_ulp == 0.0


@pytest.mark.parametrize(
    ("at", "bits"), [(torch.inf, "0x7f80"), (-torch.inf, "0xff80"), (torch.nan, "0x7f81")]
)
@pytest.mark.parametrize("swept", [False, True])
def test_a_wrong_answer_to_infinity_or_nan_is_shown_at_its_own_bits(at, bits, swept):
    def kernel(x, **_):
        there = torch.isnan(x) if at != at else x == at
        return torch.where(there, 1.0 if at != at or at > 0 else torch.inf, torch.relu(x))

    if swept:
        (m,) = sweep(as_implementation(kernel, "relu", ("bf16",)), "bf16", ("forward",)).measurements
    else:
        m = measure(kernel, "relu", fmt="bf16")
    assert m.nonfinite_mismatch == (254 if at != at else 1)
    assert m.nonfinite_witness.bits == bits


def test_all_nan_is_not_a_perfect_score():
    m = measure(lambda x, **_: torch.full_like(x, torch.nan), "relu", fmt="fp16")
    assert m.nonfinite_mismatch == 65536 - 2 * 1023
    assert m.regions["positive"].min_correct_bits == 0


def test_overflow_one_step_early_is_a_mismatch_and_overflow_at_the_threshold_is_not():
    fmt = get_format("fp16")
    m = measure(lambda x, **_: torch.relu(x) ** 2, "relu2", fmt="fp16")
    assert m.nonfinite_mismatch == 0
    early = measure(lambda x, **_: torch.where(x > 200, torch.inf, torch.relu(x) ** 2), "relu2", fmt="fp16")
    x = fmt.decode(fmt.all_bits())
    with np.errstate(over="ignore", invalid="ignore"):
        assert early.nonfinite_mismatch == np.count_nonzero((x > 200) & (x * x < fmt.overflow_threshold))


def test_flushed_subnormals_are_counted_and_kept_out_of_the_other_regions():
    tiny = get_format("bf16").min_normal

    def kernel(x, **_):
        y = torch.relu(x)
        return torch.where(y.abs() < tiny, torch.zeros_like(y), y)

    m = measure(kernel, "relu", fmt="bf16")
    assert m.regions["subnormal_result"].not_correctly_rounded == 127
    assert m.regions["positive"].max_ulp == 0.0
    assert m.regions["subnormal_result"].max_ulp == 127.0


def test_wrong_gradient_sign_is_counted():
    class Flipped(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.relu(x)

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            slope = (x > 0).to(grad.dtype)
            return grad * torch.where((x >= 2) & (x < 4), -slope, slope)

    m = measure(lambda x, **_: Flipped.apply(x), "relu", fmt="bf16", output="grad_x")
    assert m.wrong_sign == 128
    assert m.sign_witness.x == 2.0


def test_eps_clamp_shows_as_a_jump_at_zero_and_a_wrong_gradient_sign():
    def kernel(x, *, alpha_p, alpha_n, beta):
        clamped = torch.minimum(x, torch.tensor(-1e-6, dtype=x.dtype))
        return torch.where(x > 0, (alpha_p * x + beta) * x, alpha_n * (torch.expm1(clamped) - x) + beta * x)

    m = measure(kernel, "xielu", fmt="fp32", output="grad_x", params=PARAMS)
    assert m.regions["eps_zone"].wrong_sign == m.regions["eps_zone"].n_inputs
    forward = measure(kernel, "xielu", fmt="fp32", output="forward", params=PARAMS)
    assert forward.jump_at_zero == pytest.approx(0.8e-6, rel=1e-3)


@pytest.mark.parametrize("at", [-0.0, 0.0, 0.5, -0.5], ids=str)
def test_a_jump_at_zero_is_what_the_exact_values_do_not_have(at):
    """ReLU and a kernel that is 1 too large at ±0 or the input next to it: the values there spread by
    1, or 1.5 at 1/2, where they should by 1/2."""
    x = np.array([-0.5, -0.0, 0.0, 0.5])

    def kernel(x):
        here = (x == at) & (torch.signbit(x) == bool(np.signbit(at)))
        return torch.relu(x) + here.to(x.dtype)

    assert measure(torch.relu, "relu", fmt="fp32", inputs=x).jump_at_zero == 0
    assert measure(kernel, "relu", fmt="fp32", inputs=x).jump_at_zero == (1.0 if at == 0.5 else 0.5)


def test_steps_too_small_to_be_sure_of_are_no_moves():
    """e^x − 1 + 1 rises by 2^-14 ulp of fp64 between these: which way a result moves says nothing."""
    x = -np.array([50.0, 50.0 - 2.0**-6])

    def kernel(x, *, alpha):
        return torch.where(x == -50.0, -torch.ones_like(x) + 2.0**-53, -torch.ones_like(x))

    assert measure(kernel, "elu", fmt="fp64", inputs=x).monotonicity_violations == 0


def test_monotonicity_violations_are_counted():
    m = measure(shifted("bf16", 40, lambda x: x == 1.0), "relu2", fmt="bf16")
    assert m.monotonicity_violations >= 1


@pytest.mark.parametrize("edge", [2.0, -2.0, 0.0625, -1e-6], ids=str)
def test_monotony_is_judged_across_the_edges_of_binades_and_regions(edge):
    """f rises strictly; the value at the edge alone is put one step beyond its neighbour's nearer to 0."""
    fmt = get_format("bf16")
    edge = float(fmt.round(np.array([edge]))[0])
    nearer = fmt.from_ordinal(fmt.ordinal(np.array([edge])) - np.sign(edge).astype(int))[0]
    right = correctly_rounded("bf16", "elu", {"alpha": 1.0})

    def kernel(x, **_):
        y = fmt.decode(bits_of(right(x), fmt))
        v = fmt.decode(bits_of(x, fmt))
        y[v == edge] = fmt.from_ordinal(fmt.ordinal(y[v == nearer]) - int(np.sign(edge)))
        return tensor_of(y, fmt)

    assert measure(right, "elu", fmt="bf16", params={"alpha": 1.0}).monotonicity_violations == 0
    assert measure(kernel, "elu", fmt="bf16", params={"alpha": 1.0}).monotonicity_violations == 1


def test_zero_sign_is_reported_and_not_an_error():
    m = measure(lambda x, **_: torch.relu(x) + 0.0, "silu", fmt="bf16")
    assert m.zero_sign_mismatch >= 1
    exact = measure(lambda x, **_: torch.nn.functional.silu(x), "silu", fmt="bf16")
    assert exact.zero_sign_mismatch == 0
    # Of a result below the normal numbers, too.
    right = measure(lambda x, **_: torch.relu(x) ** 2, "relu2", fmt="bf16")
    m = measure(lambda x, **_: torch.where(x == 2.0**-100, -0.0, torch.relu(x) ** 2), "relu2", fmt="bf16")
    assert m.zero_sign_mismatch == right.zero_sign_mismatch + 1


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        (lambda x, **_: (_ for _ in ()).throw(RuntimeError("no kernel for this dtype")), "raised"),
        (lambda x, **_: x[:-1], "wrong_shape"),
        (lambda x, **_: x.double(), "wrong_dtype"),
        (lambda x, **_: x.detach(), "not_differentiable"),
    ],
)
def test_a_faulty_kernel_is_a_named_finding(kernel, kind):
    with pytest.raises(KernelError) as caught:
        measure(kernel, "relu", fmt="bf16", output="grad_x")
    assert caught.value.kind == kind


def test_the_public_name_is_callable_even_after_importing_the_module():
    assert pl.measure("torch", "relu", fmt="bf16").max_ulp == 0.0


def test_one_failing_output_keeps_the_others():
    from by_name import as_implementation

    results = measure_all(
        as_implementation(lambda x, **_: torch.relu(x).detach(), "relu", ("bf16",)),
        ("forward", "grad_x"),
        "bf16",
    )
    assert results[0].failure is None
    assert results[0].max_ulp == 0.0
    assert results[1].failure.kind == "not_differentiable"


def test_measurement_survives_json_unchanged():
    m = measure("expm1", "xielu", fmt="bf16", output="grad_alpha_n", params=PARAMS)
    assert type(m).from_json(m.to_json()) == m


def test_reference_uses_the_rounded_parameters():
    m = measure("expm1", "xielu", fmt="bf16", params=PARAMS)
    assert m.params["alpha_p"] == 0.80078125


def test_inputs_in_any_order_are_scored_each_against_its_own():
    x = np.random.default_rng(3).permutation(np.linspace(-4, 4, 33))
    m = measure(correctly_rounded("fp32", "silu"), "silu", fmt="fp32", inputs=x)
    assert (m.n_inputs, m.not_correctly_rounded) == (33, 0) and 0 < m.max_ulp <= 0.5


@pytest.mark.parametrize("fmt", ["bf16", "e5m2"])
def test_finite_inputs_are_all_that_are_finite(fmt):
    target = get_format(fmt)
    (m,) = measure_all(get_implementation("relu", "torch"), ("forward",), fmt, finite=True)
    assert m.n_inputs == np.count_nonzero(np.isfinite(target.decode(target.all_bits())))
    assert m.inputs == "exhaustive, finite" and "special" not in m.regions


def test_every_input_of_a_small_format_is_the_default():
    assert [default_inputs(get_format(f)) for f in ("e4m3", "bf16", "fp32", "fp64")] == [
        "exhaustive", "exhaustive", "stratified", "stratified"
    ]  # fmt: skip


def test_a_zero_keeps_its_inputs_sign():
    """f(±0) = ±0 of a function that passes through 0: each sign that is lost is reported."""
    for lost, count in ((0.0, 1), (-0.0, 1)):
        m = measure(lambda x, lost=lost, **_: torch.where(x == 0, lost, x), "elu", fmt="bf16",
                    inputs=np.array([0.0, -0.0, 1.0]))  # fmt: skip
        assert m.zero_sign_mismatch == count
    m = measure(lambda x, **_: x.clone(), "elu", fmt="bf16", inputs=np.array([0.0, -0.0, 1.0]))
    assert m.zero_sign_mismatch == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_monotony_is_judged_in_fp64_on_both_sides(sign):
    x = sign * np.linspace(1.0, 2.0, 65)

    def kernel(x, *, alpha):
        y = torch.where(x > 0, x, torch.expm1(x))
        return torch.where(x == sign * 1.5, y - 0.25, y)

    assert measure(kernel, "elu", fmt="fp64", inputs=x).monotonicity_violations == 1


def test_input_arrays_are_measured_as_given():
    m = measure(
        "naive", "xielu", fmt="fp32", inputs=np.array([-1e-7, 0.0, 1.0], np.float32).astype(np.float64)
    )
    assert (m.inputs, m.n_inputs) == ("array", 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"function": "xielo"}, "did you mean.*xielu"),
        ({"fmt": "bf17"}, "did you mean.*bf16"),
        ({"output": "grad_alpha"}, "did you mean.*grad_alpha"),
        ({"params": {"alpha_q": 1.0}}, "did you mean.*alpha"),
        ({"params": {"alpha_n": -1.0}}, r"alpha_n=-1.0: must be greater than 0"),
        ({"params": {"alpha_n": float("nan")}}, "must be finite"),
        ({"device": "cuda"}, "device='cuda'"),
        ({"inputs": "exhaustve"}, "exhaustve"),
    ],
)
def test_misuse_names_the_argument(arguments, message):
    call = {"function": "xielu", **arguments}
    with pytest.raises(ValueError, match=message):
        measure("naive", call.pop("function"), **call)


def test_unknown_implementation_suggests_the_nearest():
    with pytest.raises(ValueError, match=r"did you mean.*expm1"):
        measure("expml", "xielu")


def test_undecided_inputs_are_counted_and_in_no_statistic(monkeypatch):
    from precision_lab.scoring import standard

    def undecided(*arguments, **options):
        exact = reference(*arguments, **options)
        return dataclasses.replace(exact, undecided=np.ones_like(exact.undecided))

    # Powers of two are what the first tier leaves of ReLU²: their enclosures touch two binades.
    monkeypatch.setattr(standard, "reference", undecided)
    m = measure(shifted("bf16", 100, lambda x: x == 1.0), "relu2", fmt="bf16")
    assert m.undecided > 100
    assert m.max_ulp <= 0.5
    from precision_lab.verifying.bounds import Bound
    from precision_lab.verifying.judge import judge

    assert any("undecided" in fault.message for fault in judge(m, Bound(1.0)))


# -- parameters that rounding makes impossible -----------------------------------------------------

TOO_SMALL = {"alpha_p": 1e-9}  # 0 in fp16


def entrances():
    from by_name import explain, measure_reductions, sweep

    from precision_lab.verifying.search import search

    naive = get_implementation("xielu", "naive", "eager")
    return {
        "measure": lambda: measure("naive", "xielu", fmt="fp16", params=TOO_SMALL),
        "verify": lambda: pl.verify("naive", "xielu", fmts=("fp16",), params=TOO_SMALL, properties=False),
        "sweep": lambda: sweep(naive, "fp16", ("forward",), TOO_SMALL),
        "explain": lambda: explain("xielu", x=0.5, fmt="fp16", params=TOO_SMALL),
        "search": lambda: search("naive", "xielu", fmt="fp16", params=TOO_SMALL),
        "sums": lambda: measure_reductions(naive, "fp16", TOO_SMALL),
    }


@pytest.mark.parametrize("entrance", ["measure", "verify", "sweep", "explain", "search", "sums"])
def test_a_parameter_that_rounds_to_nothing_is_named_as_it_was_asked_for(entrance):
    with pytest.raises(ValueError, match=r"^alpha_p=1e-09 becomes 0\.0 in fp16, and must be greater than 0"):
        entrances()[entrance]()


@pytest.mark.parametrize(
    ("execution", "fmt", "params", "message"),
    [
        (
            "eager",
            "fp16",
            {"alpha_n": 1e5},
            r"^alpha_n=100000\.0 becomes inf in fp16, and parameters of",
        ),
        ("eager", "bf16", {"alpha_p": 1e-300}, r"^alpha_p=1e-300 becomes 0\.0 in bf16, and must be"),
        ("fp8-fp32", "e4m3", {"alpha_p": 1e-60}, r"^alpha_p=1e-60 becomes 0\.0 in fp32, and must be"),
        ("eager", "fp16", {"alpha_p": 0.0}, r"^alpha_p=0\.0: must be greater than 0 in xielu"),
    ],
)
def test_the_format_that_rounds_a_parameter_is_named(execution, fmt, params, message):
    with pytest.raises(ValueError, match=message):
        measure_all(get_implementation("xielu", "naive", execution), ("forward",), fmt, params)


def test_an_adapter_that_makes_a_parameter_impossible_is_named():
    naive = get_implementation("xielu", "naive", "eager")
    lossy = dataclasses.replace(naive, name="lossy", effective=lambda params, fmt: {**params, "alpha_n": 0.0})
    with pytest.raises(ValueError, match=r"^alpha_n=0\.8 becomes 0\.0 in lossy \[eager\] for bf16, and must"):
        measure_all(lossy, ("forward",), "bf16", {})


@pytest.mark.parametrize(("saturating", "wrong"), [(True, 0), (False, 1)])
def test_what_is_beyond_a_format_is_judged_by_whether_storage_saturates(saturating, wrong):
    """ReLU of ∞, stored as 448: right where storage clamps, and no NaN where it does not."""

    def kernel(x):
        return x.clamp(0, 448).to(torch.float8_e4m3fn)

    to_e4m3 = Implementation(
        "to e4m3", "relu", kernel, "eager", ("bf16",), "storage", "", saturating=saturating, storage="e4m3"
    )
    (m,) = measure_all(to_e4m3, ("forward",), "bf16", inputs=np.array([1.0, np.inf]))
    assert (m.failure, m.n_inputs, m.nonfinite_mismatch) == (None, 2, wrong)
