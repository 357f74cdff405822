"""Limits at ±∞ and beside a point: known ones, none where there is none, and values far out."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import jets
import pytest
from formula_witness import STRANGERS, at
from turns import one_in

from precision_lab.formula.expression import Expression, X, number
from precision_lab.formula.rewriting import simplified
from precision_lab.functions import FUNCTIONS, Activation, get_function
from precision_lab.math import (
    atan,
    cos,
    cosh,
    erf,
    erfc,
    exp,
    exp2,
    expm1,
    log,
    log1p,
    maximum,
    pi,
    rsqrt,
    sigmoid,
    sin,
    sinh,
    softplus,
    sqrt,
    tan,
    tanh,
    where,
)
from precision_lab.oracle.infinity import ball_beside, limit

INF = math.inf
FILE = Path(__file__).parents[1] / "formula" / "strangers.py"


def named(name: str) -> Activation:
    return FUNCTIONS[name] if name in BUILT_IN else get_function(f"{FILE}:{name}")


# Forward and grad_x at −∞ and +∞, from their papers; parameters at their defaults.
BUILT_IN = {
    "relu": (0, INF, 0, 1),
    "relu2": (0, INF, 0, INF),
    "silu": (0, INF, 0, 1),
    "gelu": (0, INF, 0, 1),
    "gelu_tanh": (0, INF, 0, 1),
    "mish": (0, INF, 0, 1),
    "softplus": (0, INF, 0, 1),
    "sigmoid": (0, 1, 0, 0),
    "tanh": (-1, 1, 0, 0),
    "logsigmoid": (-INF, 0, 1, 0),
    "celu": (-1, INF, 0, 1),
    "elu": (-1, INF, 0, 1),
    "selu": (-1.7580993408473766, INF, 0, 1.0507009873554805),
    "prelu": (-INF, INF, 0.25, 1),
    "atlu": (-1 / math.pi, INF, 0, 1),
    "swiglu": (0, INF, 0, 1.5),
    "geglu": (0, INF, 0, 1.5),
    "geglu_tanh": (0, INF, 0, 1.5),
    "reglu": (0, INF, 0, 1.5),
    "xsilu": (INF, INF, -0.8, 1.8),
    "xgelu": (INF, INF, -0.8, 1.8),
    "xatlu": (INF, INF, -0.8, 1.8),
    "xelu": (INF, INF, -0.8, 1.8),
    "xielu": (INF, INF, -0.3, INF),
    "xielu_cubic": (INF, INF, -0.3, INF),
    "xielu_trainable_beta": (INF, INF, -0.3, INF),
    "xielu_fixed_alpha": (INF, INF, -0.3, INF),
    "xiprelu": (INF, INF, -INF, INF),
    "xiprelu_fixed_alpha": (INF, INF, -INF, INF),
    "xielu_neg_silu": (0, INF, 0, INF),
    "xielu_neg_zero": (0, INF, 0, INF),
    "xielu_neg_xsilu": (INF, INF, -0.8, INF),
}
OF_STRANGERS = {
    "hardswish": (0, INF, 0, 1),
    "hardsigmoid": (0, 1, 0, 0),
    "hardtanh": (-1, 1, 0, 0),
    "relu6": (0, 6, 0, 0),
    "leaky_relu": (-INF, INF, 0.01, 1),
    "elu_alpha": (-1.25, INF, 0, 1),
    "celu_alpha": (-1.5, INF, 0, 1),
    "selu_two": (-1.0507009873554805 * 1.6732632423543772, INF, 0, 1.0507009873554805),
    "gelu_tanh_written": (0, INF, 0, 1),
    "silu_written": (0, INF, 0, 1),
    "mish_written": (0, INF, 0, 1),
    "softplus_beta": (0, INF, 0, 1),
    "softsign": (-1, 1, 0, 0),
    "tanhshrink": (-INF, INF, 1, 1),
    "softshrink": (-INF, INF, 1, 1),
    "hardshrink": (-INF, INF, 1, 1),
    "threshold": (20, INF, 0, 1),
    "logsigmoid_written": (-INF, 0, 1, 0),
    "rrelu": (-INF, INF, (1 / 8 + 1 / 3) / 2, 1),
    "glu": (-INF, INF, 1 / (1 + math.exp(-1.5)), 1 / (1 + math.exp(-1.5))),
    "swish": (0, INF, 0, 1),
    "snake": (-INF, INF, None, None),
    "star_relu": (-0.4472, INF, 0, INF),
    "softcap": (-50, 50, 0, 0),
    "log1p": (None, INF, None, 0),
    "rsqrt": (None, 0, None, 0),
    "gpt_oss_swiglu": (0, 7 / (1 + math.exp(-7 * 1.702)) * 2.5, 0, 0),
    "squareplus": (0, INF, 0, 1),
}
# log1p and 1/√x have no limit at −∞.
KNOWN = [(name, *limits) for name, limits in (BUILT_IN | OF_STRANGERS).items()]


def close(found: float | None, known: float | None) -> bool:
    if found is None or known is None or math.isinf(known):
        return found == known
    return abs(found - known) <= 2.0**-51 * abs(known)


def test_every_function_has_its_known_limits() -> None:
    assert set(BUILT_IN) <= set(FUNCTIONS) and set(OF_STRANGERS) == set(STRANGERS)


@pytest.mark.parametrize(("name", "low", "high", "slope_low", "slope_high"), KNOWN)
def test_limits_are_the_known_ones(
    name: str, low: float, high: float, slope_low: float, slope_high: float
) -> None:
    f = named(name)
    params = f.check_params()
    for output, ends in (("forward", (low, high)), ("grad_x", (slope_low, slope_high))):
        e = f.bound_expression(output, params)
        for sign, known in zip((-1, 1), ends, strict=True):
            found = limit(e, sign)
            # log1p's slope has a limit where log1p has no value: that is no claim of this test's.
            if (name, output, sign) != ("log1p", "grad_x", -1):
                assert close(found, known), (output, sign, found)


MORE: dict[str, tuple[Expression, float | None]] = {
    "sigmoid of a constant": (sigmoid(maximum(5, 0) + 7 * X / X), 1 / (1 + math.exp(-12))),
    "tanh of a constant": (tanh(where(X > 7, 2, X)), math.tanh(2)),
    "e to a constant": (exp(where(X > 7, 3, X)), math.exp(3)),
    "erf of a constant": (erf(where(X > 7, -2, X)), math.erf(-2)),
    "erfc of a constant": (erfc(where(X > 7, 2, X)), math.erfc(2)),
    "softplus of a constant": (softplus(where(X > 7, -3, X)), math.log1p(math.exp(-3))),
    "2^ of a constant": (exp2(where(X > 7, -2.5, X)), 2.0**-2.5),
    "sin": (sin(X), None),
    "cos": (cos(X), None),
    "tan": (tan(X), None),
    "sin/x": (sin(X) / X, 0.0),
    "x + sin²": (X + sin(X) ** 2, INF),
    "x(2 + sin)": (X * (2 + sin(X)), INF),
    "x·sin": (X * sin(X), None),
    "x(1 + sin)": (X * (1 + sin(X)), None),
    "sin > 0": (where(sin(X) > 0, 1, 0), None),
    "tanh eˣ": (tanh(exp(X)), 1.0),
    "eˣ·e⁻ˣ": (exp(X) * exp(-X), 1.0),
    "e²ˣ·e⁻ˣ": (exp(2 * X) * exp(-X), INF),
    "x·2⁻ˣ": (X * exp2(-X), 0.0),
    "x¹⁰⁰·e⁻ˣ": (X**100 * exp(-X), 0.0),
    "erf·x − x": (erf(X) * X - X, 0.0),
    "softplus − x": (softplus(X) - X, 0.0),
    "log ratio": (log(1 + X + X * X) / log(X), 2.0),
    "log/x^ε": (log(X) / X**0.001, 0.0),
    "x·tan(1/x)": (X * tan(1 / X), 1.0),
    "(1 + 1/x)": (1 + 1 / X, 1.0),
    "rational": ((3 * X**3 - X) / (7 * X**3 + 1), 3 / 7),
    "cosh·e⁻ˣ": (cosh(X) * exp(-X) * 0 + 1 / cosh(X), 0.0),
    "root": (rsqrt(X), 0.0),
    "arctan": (atan(X) / pi, 0.5),
    "arctan(−x)": (atan(-X), -math.pi / 2),
    "√(x² + 1) − x": (sqrt(X * X + 1) - X, 0.0),
    "x(√(x² + 1) − x)": (X * (sqrt(X * X + 1) - X), 0.5),
    "√(9x² + 3x + 1) − 3x": (sqrt(9 * X * X + 3 * X + 1) - 3 * X, 0.5),
    "√(4x⁴ + x³ − 2) − 2x² − x/4": (sqrt(4 * X**4 + X**3 - 2) - 2 * X**2 - X / 4, -1 / 64),
    "√(x⁴ + x³) − x²": (sqrt(X**4 + X**3) - X**2, INF),
    "√(x⁶ − 2x³) − x³": (sqrt(X**6 - 2 * X**3) - X**3, -1.0),
    "√(x² + sin x) − x": (sqrt(X * X + sin(X)) - X, 0.0),
    "√(x² − 6x) − |3 − x|": (sqrt(X * X - 6 * X) - abs(3 - X), 0.0),
}


@pytest.mark.parametrize("name", MORE)
def test_what_grows_otherwise_has_its_limit(name: str) -> None:
    e, known = MORE[name]
    assert close(limit(simplified(e), 1), known), limit(simplified(e), 1)


# A limit that nobody proved may be left open, and never be another one.
HARD: dict[str, tuple[Expression, float | None]] = {
    "e to a logarithm": (X * exp(-log(2 * X)), 0.5),
    "a root of a logarithm": (exp(0.5 * log1p(4 * X * X)) / X, 2.0),
    "a logarithm's factor": (exp(log(2 * X) / 2) / sqrt(X), math.sqrt(2)),
    "log(x + 1) − log x": (log(X + 1) - log(X), 0.0),
    "√(2x² + 1) − 1.4142…x": (sqrt(2 * X * X + 1) - 1.4142135623730951 * X, -INF),
    "√(x² + log x) − x": (X * (sqrt(X * X + log(X)) - X) / log(X), 0.5),
    "x(log(x + 1) − log x)": (X * (log(X + 1) - log(X)), 1.0),
    "cosh − sinh": (cosh(X) - sinh(X), 0.0),
    "eˣ − e²ˣ": (exp(X) - exp(2 * X), -INF),
    "xˣ": (X**X, INF),
    "e^log²": (exp(log(X) ** 2) / X, INF),
    "x^(1/log x)": (exp(log(X) / log(X)), math.e),
    "(1 + 1/x)ˣ": (exp(X * log1p(1 / X)), math.e),
    "log log": (log(log(X)), INF),
    "x^(1/x)": (exp(log(X) / X), 1.0),
    "√x − log x": (sqrt(X) - log(X), INF),
    "e^√log": (exp(sqrt(log(X))) / log(X), INF),
    "sinh/cosh": (sinh(X) / cosh(X), 1.0),
    "e^(x + 1/x)/eˣ": (exp(X + 1 / X) * exp(-X), 1.0),
    "e^(x + log x)/eˣ/x": (exp(X + log(X)) * exp(-X) / X, 1.0),
    "1/(x − x)": (1 / (X - X * 1 + exp(-X)), INF),
    "log eˣ+1": (log(exp(X) + exp(2 * X)) / X, 2.0),
    "tanh(log x)": (tanh(log(X)), 1.0),
    "x/√(x² + 1)": (X / sqrt(X * X + 1), 1.0),
    "expm1/eˣ": (expm1(X) * exp(-X), 1.0),
    "x^(2 + 1/log x)/x²": (X ** (2 + 1 / log(X)) / X**2, math.e),
    "x^(1/x)/x": (X ** (1 / X + 1) / X, 1.0),
    "log(2 + sin) > 1.05": (where(log(2 + sin(X)) > 1.05, 1, 0), None),
    "e⁻²ˣ/4 < e⁻ˣ/2, as a difference": (
        where(exp(-2 * X) / 4 - (sqrt(X * X + X) - X) * exp(-X) < 0, 1, 2),
        1.0,
    ),
}


@pytest.mark.parametrize("name", HARD)
def test_a_limit_is_the_right_one_or_none(name: str) -> None:
    e, known = HARD[name]
    found = limit(simplified(e), 1)
    assert found is None or close(found, known), found


BESIDE: dict[str, tuple[Expression, Fraction, float | None, float | None]] = {
    "1/x": (1 / X, Fraction(0), -INF, INF),
    "1/x²": (X**-2, Fraction(0), INF, INF),
    "sin x/x": (sin(X) / X, Fraction(0), 1.0, 1.0),
    "expm1/x": (expm1(X) / X, Fraction(0), 1.0, 1.0),
    "(1 − cos)/x²": ((1 - cos(X)) / X**2, Fraction(0), 0.5, 0.5),
    "x log x": (X * log(X), Fraction(0), None, 0.0),
    "arctan 1/x": (atan(1 / X), Fraction(0), -math.pi / 2, math.pi / 2),
    "σ(1/x)": (sigmoid(1 / X), Fraction(0), 0.0, 1.0),
    "sin 1/x": (sin(1 / X), Fraction(0), None, None),
    "x sin 1/x": (X * sin(1 / X), Fraction(0), 0.0, 0.0),
    "jump": (where(X > 0, 3, X - 2), Fraction(0), -2.0, 3.0),
    "edge": (where(X >= 0, 3, X - 2), Fraction(0), -2.0, 3.0),
    "1/(x − 2)": (1 / (X - 2), Fraction(2), -INF, INF),
    "slope of tanh": (tanh(X) / X, Fraction(0), 1.0, 1.0),
    "log": (log(X), Fraction(0), None, -INF),
    "1/√x": (rsqrt(X), Fraction(0), None, INF),
    "√x": (sqrt(X), Fraction(0), None, 0.0),
    "log1p": (log1p(X), Fraction(-1), None, -INF),
    "(x² − 4)/(x − 2)": ((X * X - 4) / (X - 2), Fraction(2), 4.0, 4.0),
}


@pytest.mark.parametrize("name", BESIDE)
def test_limits_from_either_side_of_a_point(name: str) -> None:
    e, point, left, right = BESIDE[name]
    for side, known in ((-1, left), (1, right)):
        found = ball_beside(simplified(e), point, side)
        assert close(None if found is None else float(found), known), (side, found)


OUTPUTS = [
    (n, o) for n in (*BUILT_IN, *STRANGERS) for o in named(n).all_outputs if n not in ("log1p", "rsqrt")
]


@pytest.mark.parametrize(("name", "output"), one_in(3, OUTPUTS))
def test_values_far_out_go_where_the_limit_says(name: str, output: str) -> None:
    """At ±2^10, ±2^100 and ±2^300, mpmath against the limit: nearer each time, or larger each time."""
    f = named(name)
    params = f.check_params()
    m = jets.context(3000)
    value = at(name, output, tuple(sorted(params.items())), 9000)
    for sign in (-1, 1):
        known = limit(f.bound_expression(output, params), sign)
        if known is None:
            assert name in ("snake", "squareplus"), "no limit is proven of it"
            continue
        values = [m.mpf(value(sign * 2.0**k)) for k in (10, 100, 300)]
        if math.isinf(known):
            assert all(v * known > 0 for v in values)
            assert abs(values[0]) < abs(values[1]) < abs(values[2]) and abs(values[2]) > 2**290
        else:
            apart = [abs(v - m.mpf(known)) for v in values]
            # The limit is a float64 number, half an ulp away where it is irrational.
            assert apart[2] <= 2.0**-52 * abs(known) + m.mpf(2) ** -290
            assert apart[1] <= apart[0] + 2.0**-52 * abs(known) + m.mpf(2) ** -290


def test_a_number_is_its_own_limit() -> None:
    assert limit(number(Fraction(1, 3)), 1) == 1 / 3 and limit(number(0), -1) == 0


DECLARED: dict[str, tuple[Any, float, bool]] = {
    "log(x + 1) − log x": (lambda x: log(x + 1) - log(x), 0.0, True),
    "log(x + 1) − log x, wrongly": (lambda x: log(x + 1) - log(x), 0.5, False),
    "log(x + 1) − log x, by little": (lambda x: log(x + 1) - log(x), 1e-9, False),
    "1/log log": (lambda x: 1 / log(log(x)), 0.0, True),
    "1/log log, wrongly": (lambda x: 1 / log(log(x)), 0.3, False),
    "sine": (lambda x: sin(x), 0.0, False),
    "sine over logarithm": (lambda x: sin(x) / log(log(x)), 0.0, True),
    "sine, declared to have none": (lambda x: sin(x), math.nan, True),
    "e to a logarithm": (lambda x: x * exp(-log(2 * x)), 0.5, True),
    "log log": (lambda x: log(log(x)), INF, True),
    "log log, downwards": (lambda x: log(log(x)), -INF, False),
    "log(x + 1) − log x, upwards": (lambda x: 1 + log(x + 1) - log(x), INF, False),
    "x·sine": (lambda x: x * sin(x), INF, False),
    "tanh, proven": (lambda x: tanh(x), 1.0, True),
    "tanh, proven otherwise": (lambda x: tanh(x), 0.999, False),
    "1/3, to float64": (lambda x: (x + 1) / (3 * x), 1 / 3, True),
    "squareplus, proven otherwise": (lambda x: (x + sqrt(x * x + 4)) / 2, 5.0, False),
    "without values": (lambda x: log(3 - x) * sqrt(x * x + 4) - x, 0.0, False),
}


@pytest.mark.parametrize("name", DECLARED)
def test_a_declared_limit_is_held_to_the_formula(name: str) -> None:
    from precision_lab.functions import activation
    from precision_lab.oracle.certified import limit_of

    formula, declared, holds = DECLARED[name]
    f = activation(name="f", limits={"forward": (None, declared)})(formula)
    if holds:
        found = limit_of(f, "forward", {}, 1)
        assert found == declared or (math.isnan(declared) and math.isnan(found or 0.0))
        return
    with pytest.raises(ValueError, match=r"limits=\{'forward': …\} of f is .* at ∞, but"):
        limit_of(f, "forward", {}, 1)


def test_an_authors_limit_is_taken_where_none_is_proven() -> None:
    from precision_lab.functions import activation
    from precision_lab.oracle.certified import limit_of

    formula: Any = lambda x: where(x < -1, log(1 - x) - log(-x), x)  # noqa: E731
    f = activation(name="f", limits={"forward": (0.0, None)})(formula)
    assert limit_of(activation(formula), "forward", {}, -1) is None
    assert limit_of(f, "forward", {}, -1) == 0.0 and limit_of(f, "forward", {}, 1) == INF
