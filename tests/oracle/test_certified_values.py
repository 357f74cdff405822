"""The general oracle on the lab's own functions: against mpmath, and against the fast tiers bit for bit.

`certified_reference` is called directly, as the package does for outputs without fast tiers. The
exhaustive run takes every number of the formats of 8 and 16 bits, and 2^24 of fp32 for each output with
fast tiers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import jets
import numpy as np
import pytest
from formula_witness import BUILT_IN
from judged import KINDS, expected, fault, faults, format_inputs, hard_inputs
from turns import one_in

from precision_lab.formats import FORMATS
from precision_lab.formula.expression import X
from precision_lab.functions import FUNCTIONS, Activation, activation
from precision_lab.math import cos, cosh, exp, exp2, log, log1p, sigmoid, sin, sinh, sqrt, tan, tanh, where
from precision_lab.oracle.certified import certified_reference
from precision_lab.oracle.plain_roots import roots_of
from precision_lab.oracle.record import Reference
from precision_lab.oracle.reference import reference

# Of the functions that came later tests/functions has witnesses.
OUTPUTS = [(name, output) for name in BUILT_IN for output in FUNCTIONS[name].all_outputs]
FAST = [(name, output) for name, output in OUTPUTS if FUNCTIONS[name].has_terms(output)]
SMALL = ("bf16", "fp16", "e4m3", "e5m2")
IN_TURN = [(*pair, SMALL[k // 3 % 4]) for k, pair in enumerate(FAST)]
WIDE = ("bf16", "fp16", "fp32", "fp64")


def params_of(name: str) -> dict[str, float]:
    return FUNCTIONS[name].check_params()


def inputs(name: str, output: str, every: int) -> np.ndarray:
    f = FUNCTIONS[name]
    own = [*roots_of(f, output, params_of(name)), *params_of(name).values()] if f.has_terms(output) else []
    listed = [format_inputs(fmt)[::every] for fmt in ("bf16", "fp16")]
    x = np.unique(np.concatenate([hard_inputs(own), *listed]))
    # Beyond, x⁶ times what `jets.CUT` stands for is no small number.
    return x[np.abs(x) < 2.0**300] if "tanh" in name and output == "grad_grad_x" else x


def test_every_function_has_a_witness() -> None:
    assert set(BUILT_IN) <= set(FUNCTIONS)


@pytest.mark.parametrize(("name", "output"), one_in(6, OUTPUTS))
def test_values_are_those_of_mpmath_where_it_is_hard(name: str, output: str) -> None:
    x = inputs(name, output, 1 << 12)
    x = x[hash_of(name + output) % 8 :: 8]
    assert faults(FUNCTIONS[name], output, params_of(name), x, WIDE) == []


def hash_of(text: str) -> int:
    return sum(text.encode())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "output"), OUTPUTS)
def test_values_are_those_of_mpmath_at_all_hard_inputs(name: str, output: str) -> None:
    assert faults(FUNCTIONS[name], output, params_of(name), inputs(name, output, 1 << 7), WIDE) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("fmt", ["bf16", "fp16"])
@pytest.mark.parametrize(("name", "output"), OUTPUTS)
def test_values_are_those_of_mpmath_at_every_input(name: str, output: str, fmt: str) -> None:
    assert faults(FUNCTIONS[name], output, params_of(name), format_inputs(fmt), (fmt,)) == []


SETS = [(name, chosen) for name in BUILT_IN for chosen in FUNCTIONS[name].parameter_sets if chosen != "init"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "chosen"), SETS)
def test_values_are_those_of_mpmath_for_other_parameters(name: str, chosen: str) -> None:
    f = FUNCTIONS[name]
    params = f.check_params(f.parameter_sets[chosen])
    for output in f.outputs:
        assert faults(f, output, params, inputs(name, output, 1 << 10)[::3], WIDE) == []


# -- the same as the fast tiers -------------------------------------------------------------


def compared(name: str, output: str, x: np.ndarray, fmt: str) -> None:
    """rounded, ulp and sign bit for bit, zero's sign apart; tails to 2^-10."""
    f, params = FUNCTIONS[name], params_of(name)
    general = certified_reference(f, output, params, x, FORMATS[fmt])
    fast = reference(f, output, params, x, fmt)
    assert not general.undecided.any() and not fast.undecided.any()
    assert np.array_equal(general.rounded, fast.rounded, equal_nan=True)
    assert np.array_equal(general.ulp, fast.ulp)
    invisible = (fast.rounded == 0) & (np.abs(fast.tail) < 0.5)
    # 0 says of either that the sign was not needed.
    same = (general.sign == fast.sign) | (invisible & (general.sign * fast.sign == 0))
    assert same.all(), x[~same][:4]
    assert (np.abs(general.tail - fast.tail) <= 2.0**-10).all()


@pytest.mark.parametrize(("name", "output", "fmt"), one_in(3, IN_TURN))
def test_the_general_path_counts_as_the_fast_tiers_do(name: str, output: str, fmt: str) -> None:
    x = FORMATS[fmt].decode(FORMATS[fmt].all_bits())
    compared(name, output, x[hash_of(name + output) % 61 :: 61] if x.size > 256 else x, fmt)


@pytest.mark.exhaustive
@pytest.mark.parametrize("fmt", SMALL)
@pytest.mark.parametrize(("name", "output"), FAST)
def test_the_general_path_counts_as_the_fast_tiers_do_at_every_input(
    name: str, output: str, fmt: str
) -> None:
    compared(name, output, FORMATS[fmt].decode(FORMATS[fmt].all_bits()), fmt)


def spread(stride: int) -> Iterator[np.ndarray]:
    """One of every `stride` numbers of fp32, another one each time, a few thousand at once."""
    for first in range(0, 1 << 32, stride << 16):
        codes = np.arange(first, first + (stride << 16), stride, dtype=np.uint64)
        codes += codes // np.uint64(stride) * np.uint64(97) % np.uint64(stride)
        yield FORMATS["fp32"].decode(codes.astype(np.uint32))


@pytest.mark.exhaustive
@pytest.mark.parametrize(("name", "output"), FAST)
def test_the_general_path_counts_as_the_fast_tiers_do_in_fp32(name: str, output: str) -> None:
    """2^24 inputs of each output."""
    for x in spread(256):
        compared(name, output, x, "fp32")


# -- what no precision shows, and corners ------------------------------------------------------


def of(e: object, x: list[float], fmt: str) -> Reference:
    f = activation(name="f")(lambda x: e)
    return certified_reference(f, "forward", {}, np.array(x, np.float64), FORMATS[fmt])


# expression, x, the exact part, and on which side of it the value lies: worked out by hand.
BESIDE = {
    "sigmoid below 1": (sigmoid(X), 1e30, 1.0, -1),
    "sigmoid above 0": (sigmoid(X), -1e30, 0.0, 1),
    "turned around": (3 - 2 * sigmoid(X), 1e30, 1.0, 1),
    "tanh above -1": (tanh(X), -5e5, -1.0, 1),
    "x·sigmoid below x": (X * sigmoid(X), 2.0**40, 2.0**40, -1),
    "half of it": (X / 2 + exp(-X), 2.0**30, 2.0**29, 1),
    "cos below 1": (cos(X), 2.0**-600, 1.0, -1),
    "cosh above 1": (cosh(X), 2.0**-600, 1.0, 1),
    "exp above 1": (exp(X), 2.0**-1074, 1.0, 1),
    "exp below 1": (exp(X), -(2.0**-1074), 1.0, -1),
    "exp2 below 1": (exp2(X), -(2.0**-900), 1.0, -1),
    "root above 1": (sqrt(1 + X * X), 2.0**-500, 1.0, 1),
    "tie above": (1 + X * 2.0**-8 + exp(-(X**40)), 1.0 + 2.0**3, 1.0 + 9 * 2.0**-8, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", BESIDE)
def test_a_rest_that_no_precision_shows_decides_ties_and_binades(name: str) -> None:
    """The ulp just below a power of two is the smaller one; a tie goes to the side of the rest."""
    e, x, anchor, side = BESIDE[name]
    for fmt in KINDS:
        found = of(e, [x], fmt)
        f = FORMATS[fmt]
        assert not found.undecided[0] and found.sign[0] in ((side, 0) if not anchor else (np.sign(anchor),))
        if abs(anchor) > f.max_finite or not anchor:
            continue
        inward = side * anchor < 0
        exponent = max(
            math.frexp(abs(anchor))[1] - 1 - (math.frexp(anchor)[0] in (0.5, -0.5) and inward), f.emin
        )
        ulp = 2.0 ** (exponent - f.precision + 1)
        assert found.ulp[0] == ulp
        quotient = anchor / ulp
        nearest = np.rint(quotient) if quotient % 1 != 0.5 else math.floor(quotient) + (side > 0)
        assert found.rounded[0] == nearest * ulp


def test_a_block_knows_the_side_of_its_rest() -> None:
    """A hundred inputs at once: 1 − e⁻ˣ has the ulp below 1, x/2 + e⁻ˣ is above its ties."""
    x = np.linspace(2.0**20, 2.0**21, 100)
    found = of(sigmoid(X), x.tolist(), "fp32")
    assert (found.rounded == 1).all() and (found.ulp == 2.0**-24).all()
    odd = 2.0**20 + 2 * np.arange(1, 100, 2.0)
    ties = of(X / 2**20 + exp(-X), (2.0**20 + 2.0**12 * np.arange(1, 100, 2.0)).tolist(), "bf16")
    assert (ties.rounded == 1 + 2.0**-7 * np.ceil(np.arange(1, 100, 2.0) / 2)).all() and odd.size == 50


def test_a_block_leaves_out_what_float64_does_not_show_alone() -> None:
    """At 65 x·σ(x/2) is below x by 1e-14 of it: far too little for bf16, and plain in float64."""
    x = np.linspace(64.5, 65.0, 40)
    found = of(X / (1 + exp(-X / 2)), x.tolist(), "bf16")
    truth = x - x / (1 + np.exp(x / 2))
    assert (np.abs(found.exact - truth) <= 2.0**-46).all() and (found.exact < x).all()


def test_exact_has_the_digits_of_float64_in_a_coarse_format() -> None:
    """The slope of softplus(βx)/β for β loses 60 bits at 10: what settles bf16 settles no relative error."""
    m = jets.context(400)
    x, beta = m.mpf(10), 2
    truth = x / (1 + m.exp(-beta * x)) / beta - m.log1p(m.exp(beta * x)) / beta**2
    found = of(X / (1 + exp(-2 * X)) / 2 - log(1 + exp(2 * X)) / 4, [10.0], "bf16")
    assert abs(found.exact[0] - truth) <= abs(truth) * 2.0**-50


def test_a_breakpoint_between_two_floats_is_between_them() -> None:
    """1/3 and 2/3, of which one has its nearest float64 number below it and the other above."""
    for edge in (Fraction(1, 3), Fraction(2, 3), Fraction(1, 10)):
        below = float(edge) if Fraction(float(edge)) < edge else math.nextafter(float(edge), 0)
        above = math.nextafter(below, 1)
        assert Fraction(below) < edge < Fraction(above)
        for condition in (edge > X, edge >= X, ~(edge < X)):
            assert of(where(condition, 1, 2), [below, above], "fp64").rounded.tolist() == [1.0, 2.0]


def test_a_curved_condition_is_decided_on_its_edge() -> None:
    x = [-2.0, 2.0, math.nextafter(2, 3)]
    assert of(where(X * X < 4, 1, 2), x, "fp32").rounded.tolist() == [2.0, 2.0, 2.0]
    assert of(where(X * X <= 4, 1, 2), x, "fp32").rounded.tolist() == [1.0, 1.0, 2.0]


def test_outside_of_the_domain_there_is_no_value() -> None:
    for e in (sqrt(X), log(X), X**1.5, log1p(X - 1)):
        x = [-(2.0**k) for k in range(-40, 40)]
        found = of(e, x, "fp32")
        assert np.isnan(found.rounded).all() and not found.undecided.any(), e
        assert np.isfinite(of(e, [2.0], "fp32").rounded).all()


def test_a_tie_goes_to_even_where_nothing_is_beside_it() -> None:
    e = X / 2
    found = of(e, [FORMATS["bf16"].min_subnormal, 3 * FORMATS["bf16"].min_subnormal], "bf16")
    assert found.rounded.tolist() == [0.0, 2 * FORMATS["bf16"].min_subnormal]
    assert found.tail.tolist() == [0.5, -0.5] and found.sign.tolist() == [1, 1]


def test_exact_zeros_are_zeros() -> None:
    for e, x in (
        (X - X * X, 1.0),
        (sin(X), 0.0),
        (where(X > 0, X, 0), -3.0),
        (X * log(X), 1.0),
        (tanh(X) - tanh(X) + 0 * X, 5.0),
    ):
        found = of(e, [x], "fp64")
        assert (found.rounded[0], found.tail[0], found.sign[0], found.exact[0]) == (0.0, 0.0, 0, 0.0)


def test_a_root_next_to_a_float_has_its_sign_and_digits() -> None:
    """sin at the float64 next to 22π, tan at that next to π/2, x − tanh x where a third of x³ is left."""
    mp = jets.context(2000)
    near = float(22 * mp.pi)
    cases = [(sin(X), near, mp.sin(mp.mpf(near))), (tan(X), math.pi / 2, mp.tan(mp.mpf(math.pi / 2)))]
    cases += [(X - tanh(X), 2.0**-200, 2.0**-200 - mp.tanh(mp.mpf(2) ** -200))]
    cases += [(log1p(X) - sinh(X), 2.0**-40, mp.log1p(mp.mpf(2) ** -40) - mp.sinh(mp.mpf(2) ** -40))]
    for e, x, v in cases:
        for fmt in KINDS:
            assert fault(of(e, [x], fmt), 0, v, None) is None, (e, fmt)


@pytest.mark.parametrize("power", [150, 300, 684, 900, 1023])
def test_the_second_derivative_of_gelu_tanh_is_decided_far_out(power: int) -> None:
    """e^(−x⁶) times a polynomial is 0 in every format, of the sign of −1 on both sides."""
    x = np.array([-(2.0**power), 2.0**power])
    for fmt in WIDE:
        found = certified_reference(FUNCTIONS["gelu_tanh"], "grad_grad_x", {}, x, FORMATS[fmt])
        assert not found.undecided.any() and not found.rounded.any(), fmt


def test_a_condition_without_a_value_does_not_hold() -> None:
    """log x > 0 is false for x ≤ 0, as for the NaN that a kernel computes; the other inputs have values."""
    for e in (where(log(X) > 0, X, 0), where(1 / X > 2, X, 0)):
        found = of(e, [-1.0, 0.0, 0.25, 2.0], "fp32")
        assert not found.undecided.any()


def test_poles_have_the_side_of_the_zero() -> None:
    found = of(1 / X, [0.0, -0.0], "bf16")
    assert found.rounded.tolist() == [np.inf, -np.inf]
    assert of(sin(X) / X, [0.0, -0.0], "fp32").rounded.tolist() == [1.0, 1.0]
    assert of(X**-2, [0.0, -0.0], "fp32").rounded.tolist() == [np.inf, np.inf]


def test_a_removed_singularity_has_a_certified_tail() -> None:
    """exp(sin x/x) is e at 0, which is no float64 number."""
    found = of(exp(sin(X) / X), [0.0], "fp64")
    assert fault(found, 0, jets.context(400).e * 1, None) is None


def test_the_logarithm_goes_to_minus_infinity_at_both_zeros() -> None:
    """IEEE 754: log(±0) = −∞; and no logarithm of a negative number, −∞ included."""
    found = of(log(X), [0.0, -0.0, -1.0, -np.inf], "bf16")
    assert not found.undecided.any()
    assert found.rounded[:2].tolist() == [-np.inf, -np.inf] and np.isnan(found.rounded[2:]).all()


def test_overflow_is_what_a_format_makes_of_it() -> None:
    x = [90.0, 700.0, 1e300]
    for fmt in KINDS:
        found, f = of(exp(X), x, fmt), FORMATS[fmt]
        assert not found.undecided.any()
        over = np.inf if f.has_infinity else np.nan
        large = np.array([np.exp(v) if v < 709 else np.inf for v in x])
        assert np.array_equal(
            found.rounded[large > 2 * f.max_finite], np.full((large > 2 * f.max_finite).sum(), over), True
        )


# -- the judge itself ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r.rounded.__setitem__(0, np.nextafter(np.float32(r.rounded[0]), np.float32(9))),
        lambda r: r.tail.__setitem__(0, r.tail[0] + 2.0**-9),
        lambda r: r.tail.__setitem__(0, np.nan),
        lambda r: r.ulp.__setitem__(0, r.ulp[0] * 2),
        lambda r: r.sign.__setitem__(0, -r.sign[0]),
        lambda r: r.sign.__setitem__(0, 0),
        lambda r: r.exact.__setitem__(0, r.exact[0] * (1 + 2.0**-45)),
        lambda r: r.undecided.__setitem__(0, True),
        lambda r: r.rounded.__setitem__(0, np.nan),
    ],
    ids=["rounded", "tail", "no tail", "ulp", "sign", "no sign", "exact", "undecided", "nan"],
)  # fmt: skip
def test_the_judge_sees_a_wrong_reference(spoil) -> None:  # type: ignore[no-untyped-def]
    f: Activation = FUNCTIONS["gelu"]

    def spoilt(*arguments: object) -> Reference:
        found = certified_reference(*arguments)  # type: ignore[arg-type]
        spoil(found)
        return found

    assert faults(f, "forward", {}, [1.375], ("fp32",)) == []
    assert len(faults(f, "forward", {}, [1.375], ("fp32",), spoilt)) == 1


def test_the_judge_rounds_as_ieee_does() -> None:
    """Against numpy's own conversions, ties and overflow included."""
    mp = jets.context(300)
    draw = np.random.default_rng(3)
    values = [
        *draw.standard_normal(200) * 10.0 ** draw.integers(-46, 39, 200),
        65519.999,
        65520.0,
        2.0**-25,
        2.0**-149 * 1.5,
    ]
    for fmt, kind in (("fp16", np.float16), ("fp32", np.float32)):
        for v in values:
            with np.errstate(over="ignore"):
                truth = expected(mp.mpf(float(v)), FORMATS[fmt], None)
                assert truth is not None and truth[0] == float(kind(v)), (fmt, v)
