"""A second definition of every activation and gradient, in Arb ball arithmetic.

Written from the formulas alone and sharing nothing with `precision_lab`: another
arithmetic (balls instead of raised working precision) and another route to the
derivatives. No gradient is typed here: the forward formula is evaluated on a power
series whose variable is x, a parameter or a raw parameter, and the derivative is the
coefficient of its first power. What a ball says is proven by Arb, not argued.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

from flint import arb, arb_series, ctx, fmpq, fmpz

# Widest precision tried. 2^-1074 squared against 1 costs 2150 bits, 1e300 costs 1000.
MAX_BITS = 1 << 15


@contextmanager
def arithmetic(bits: int) -> Iterator[None]:
    """Ball precision `bits` and series up to the first power, restored afterwards."""
    before = ctx.prec, ctx.cap
    ctx.prec, ctx.cap = bits, 2
    try:
        yield
    finally:
        ctx.prec, ctx.cap = before


def to_arb(value: Any) -> arb:
    """The exact ball of a float, int, Fraction or mpmath.mpf (a Fraction may be rounded outwards).

    An mpf goes through its integers, (-1)^sign * man * 2^exp: no float is in between.
    """
    if isinstance(value, Fraction):
        return arb(fmpq(value.numerator, value.denominator))
    if hasattr(value, "_mpf_"):
        sign, man, exp, _ = value._mpf_
        if not man and exp:
            raise ValueError(f"the witness works on finite numbers; value={value}")
        return arb((fmpz(-int(man) if sign else int(man)), fmpz(int(exp))))
    value = arb(value)
    if not value.is_finite():
        raise ValueError(f"the witness works on finite numbers; value={value}")
    return value


# -- building blocks on power series --------------------------------------------------------


def _softplus(s: arb_series) -> arb_series:
    # The constant term apart: far left, 1 + e^s rounds to 1 and its logarithm to 0.
    return arb_series([s[0].exp().log1p(), (1 + s.exp()).log()[1]])


def _sigmoid(s: arb_series) -> arb_series:
    denominator = 1 + (-s).exp()
    if not denominator[0] > 0:  # e^(-s) wider than Arb bounds at this precision: no answer yet
        return arb_series([arb.nan(), arb.nan()])
    return 1 / denominator


def _silu(s: arb_series) -> arb_series:
    return s * _sigmoid(s)


def _tanh(s: arb_series) -> arb_series:
    # (e^s - e^-s) / (e^s + e^-s), both multiplied by the exponential that stays small.
    if s[0] > 0:
        e = (-2 * s).exp()
        return (1 - e) / (1 + e)
    e = (2 * s).exp()
    return (e - 1) / (e + 1)


def _mish(s: arb_series) -> arb_series:
    # tanh(log(1 + e^s)) = n/(n + 2) with n = e^s (e^s + 2); for large s, with e^-s, which stays small.
    if s[0] > 0:
        e = (-s).exp()
        return s * (1 + 2 * e) / (1 + 2 * e + 2 * e * e)
    n = s.exp() * (s.exp() + 2)
    return s * n / (n + 2)


def _normal_cdf(s: arb_series) -> arb_series:
    # erfc, not 1 + erf: the latter cancels x^2/2 * log2(e) bits on the far left.
    cdf = (-s / arb(2).sqrt()).erfc() / 2
    if s[0] < -16:
        # Arb's erfc widens the ball of -x/sqrt(2) without the Gaussian factor in the derivative;
        # x^2/2 is exact, and erfc(|x|/sqrt(2)) = Gamma(1/2, x^2/2) / sqrt(pi).
        tail = (s[0] * s[0] / 2).gamma_upper(arb(1) / 2) / arb.pi().sqrt()
        return arb_series([tail / 2, cdf[1]])
    return cdf


def _gelu(s: arb_series) -> arb_series:
    return s * _normal_cdf(s)


def _gelu_tanh(s: arb_series) -> arb_series:
    # (1 + tanh u)/2 = sigmoid(2u).
    inner = (2 / arb.pi()).sqrt() * (s + arb(fmpq(44715, 1000000)) * s * s * s)
    return s * _sigmoid(2 * inner)


def _atlu(s: arb_series) -> arb_series:
    angle = s.atan() / arb.pi()
    if abs(s[0]) == 1:
        # The one rational slope besides 0 whose angle is a rational part of pi (Niven), so the
        # one place where a combination of this and rationals can vanish: the value must be exact.
        angle = arb_series([s[0] / 4, angle[1]])
    return s * (angle + arb(1) / 2)


def _elu(s: arb_series, left: bool, alpha: arb_series) -> arb_series:
    return alpha * (s.exp() - 1) if left else s


def _expanded(base: arb_series, s: arb_series, alpha: arb_series) -> arb_series:
    """(1 + 2 alpha) f(x) - alpha x: the gradient limits (0, 1) become (-alpha, 1 + alpha)."""
    return (1 + 2 * alpha) * base - alpha * s


def _hard(s: arb_series, low: arb_series, high: arb_series, between: arb_series) -> arb_series:
    return low if s[0] <= -3 else high if s[0] >= 3 else between


def _clamped(s: arb_series, low: arb_series | None, high: arb_series) -> arb_series:
    if low is not None and s[0] < low[0]:
        return low
    return high if s[0] > high[0] else s


def _gpt_oss(s: arb_series, p: Params) -> arb_series:
    gate, linear = _clamped(s, None, p["limit"]), _clamped(p["b"], -p["limit"], p["limit"])
    return gate * _sigmoid(p["alpha"] * gate) * (linear + 1)


def _snake(s: arb_series, alpha: arb_series) -> arb_series:
    # sin² = (1 − cos 2u)/2 is another route than the definition's.
    return s + (1 - (2 * alpha * s).cos()) / (2 * alpha)


# -- the activations -----------------------------------------------------------------------

Params = Mapping[str, arb_series]
Formula = Callable[[arb_series, bool, Params], arb_series]


def _xi(
    positive: Callable[[arb_series], arb_series], negative: Callable[[arb_series, Params], arb_series]
) -> Formula:
    """alpha_p * positive(x) + beta x for x > 0; negative(x) for x <= 0."""

    def formula(s: arb_series, left: bool, p: Params) -> arb_series:
        return negative(s, p) if left else p["alpha_p"] * positive(s) + p["beta"] * s

    return formula


def _square(s: arb_series) -> arb_series:
    return s * s


def _xielu_negative(s: arb_series, p: Params) -> arb_series:
    # alpha_n (e^x - 1 - x) + beta x with the linear terms joined: for alpha_n == beta the
    # gradient is alpha_n e^x, which no precision finds beside an uncancelled beta - alpha_n.
    return p["alpha_n"] * (s.exp() - 1) + (p["beta"] - p["alpha_n"]) * s


_XIELU = _xi(_square, _xielu_negative)
_XIPRELU = _xi(_square, lambda s, p: p["alpha_n"] * s * s + p["beta"] * s)

FORMULAS: dict[str, Formula] = {
    "xielu": _XIELU,
    "xiprelu": _XIPRELU,
    "elu": lambda s, left, p: _elu(s, left, p["alpha"]),
    "relu": lambda s, left, p: 0 * s if left else s,
    "prelu": lambda s, left, p: p["alpha"] * s if left else s,
    "relu2": lambda s, left, p: 0 * s if left else s * s,
    "silu": lambda s, left, p: _silu(s),
    "gelu": lambda s, left, p: _gelu(s),
    "gelu_tanh": lambda s, left, p: _gelu_tanh(s),
    "swiglu": lambda s, left, p: _silu(s) * p["b"],
    "atlu": lambda s, left, p: _atlu(s),
    "xsilu": lambda s, left, p: _expanded(_silu(s), s, p["alpha"]),
    "xgelu": lambda s, left, p: _expanded(_gelu(s), s, p["alpha"]),
    "xatlu": lambda s, left, p: _expanded(_atlu(s), s, p["alpha"]),
    "xelu": lambda s, left, p: _expanded(_elu(s, left, arb_series([1])), s, p["alpha"]),
    "softplus": lambda s, left, p: _softplus(s),
    "selu": lambda s, left, p: p["scale_alpha"] * (s.exp() - 1) if left else p["scale"] * s,
    "mish": lambda s, left, p: _mish(s),
    "xielu_cubic": _xi(lambda s: s * s * s, _xielu_negative),
    "xielu_neg_xsilu": _xi(_square, lambda s, p: _expanded(_silu(s), s, p["alpha_n"])),
    "xielu_neg_silu": _xi(_square, lambda s, p: _silu(s)),
    "xielu_neg_zero": _xi(_square, lambda s, p: 0 * s),
    "xielu_trainable_beta": _XIELU,
    "xielu_fixed_alpha": _XIELU,
    "xiprelu_fixed_alpha": _XIPRELU,
    "sigmoid": lambda s, left, p: _sigmoid(s),
    "tanh": lambda s, left, p: _tanh(s),
    "logsigmoid": lambda s, left, p: -_softplus(-s),
    "celu": lambda s, left, p: p["alpha"] * ((s / p["alpha"]).exp() - 1) if left else s,
    "geglu": lambda s, left, p: _gelu(s) * p["b"],
    "geglu_tanh": lambda s, left, p: _gelu_tanh(s) * p["b"],
    "reglu": lambda s, left, p: 0 * s if left else s * p["b"],
    "erf": lambda s, left, p: s.erf(),
    "exp": lambda s, left, p: s.exp(),
    "exp2": lambda s, left, p: (s * arb(2).log()).exp(),
    "expm1": lambda s, left, p: s.exp() - 1,
    "gpt_oss_swiglu": lambda s, left, p: _gpt_oss(s, p),
    "hardshrink": lambda s, left, p: s if abs(s[0]) > p["lambd"][0] else 0 * s,
    "hardsigmoid": lambda s, left, p: _hard(s, 0 * s, 0 * s + 1, (s + 3) / 6),
    "hardswish": lambda s, left, p: _hard(s, 0 * s, s, s * (s + 3) / 6),
    "hardtanh": lambda s, left, p: s if abs(s[0]) < 1 else 0 * s + (1 if s[0] > 0 else -1),
    "leaky_relu": lambda s, left, p: p["slope"] * s if left else s,
    # Apart: the derivative is 1/(1 + x) below −1 too, where there is no logarithm.
    "log1p": lambda s, left, p: arb_series([(1 + s[0]).log(), s[1] / (1 + s[0])]),
    "quick_gelu": lambda s, left, p: s * _sigmoid(s * arb(fmpq(851, 500))),
    "relu6": lambda s, left, p: 0 * s if left else s if s[0] < 6 else 0 * s + 6,
    "rsqrt": lambda s, left, p: s.rsqrt(),
    "snake": lambda s, left, p: _snake(s, p["alpha"]),
    "softcap": lambda s, left, p: p["cap"] * _tanh(s / p["cap"]),
    "softplus_torch": lambda s, left, p: (
        s if (p["beta"] * s)[0] > p["threshold"][0] else _softplus(p["beta"] * s) / p["beta"]
    ),
    "softshrink": lambda s, left, p: (
        0 * s if abs(s[0]) <= p["lambd"][0] else s + p["lambd"] if left else s - p["lambd"]
    ),
    "softsign": lambda s, left, p: s / (1 - s) if left else s / (1 + s),
    "star_relu": lambda s, left, p: (0 * s if left else p["scale"] * s * s) + p["bias"],
    "swish": lambda s, left, p: s * _sigmoid(p["beta"] * s),
    "tanhshrink": lambda s, left, p: s - _tanh(s),
    "threshold": lambda s, left, p: s if s[0] > p["threshold"][0] else 0 * s + p["value"],
}
# There are values above these alone.
DOMAIN = {"log1p": -1.0, "rsqrt": 0.0}


# -- raw parameters --------------------------------------------------------------------------

# alpha = softplus(a) for "positive"; alpha = beta + softplus(a) for "above beta"; alpha = a for "itself".
RAW: dict[str, dict[str, str]] = {
    "xielu": {"alpha_p": "positive", "alpha_n": "above beta"},
    "xiprelu": {"alpha_p": "positive", "alpha_n": "positive"},
    "elu": {"alpha": "itself"},
    "prelu": {"alpha": "itself"},
    **{name: {"alpha": "positive"} for name in ("xsilu", "xgelu", "xatlu", "xelu")},
    "xielu_cubic": {"alpha_p": "positive", "alpha_n": "above beta"},
    "xielu_neg_xsilu": {"alpha_p": "positive", "alpha_n": "positive"},
    "xielu_neg_silu": {"alpha_p": "positive"},
    "xielu_neg_zero": {"alpha_p": "positive"},
    "xielu_trainable_beta": {"alpha_p": "positive", "alpha_n": "above beta", "beta": "itself"},
    "snake": {"alpha": "itself"},
    "star_relu": {"scale": "itself", "bias": "itself"},
    "swish": {"beta": "itself"},
}


def _through_raw(function: str, params: dict[str, arb], moved: str) -> dict[str, arb_series]:
    """Effective parameters as series in the raw form of `moved`, the other raw ones held still."""
    raw = RAW[function]
    series = {name: arb_series([value]) for name, value in params.items()}
    if raw[moved] == "itself":
        series[moved] = arb_series([params[moved], 1])
        for name, kind in raw.items():
            if kind == "above beta":  # softplus(a) stays what it is while beta moves
                series[name] = series[moved] + (params[name] - params[moved])
        return series
    base = params["beta"] if raw[moved] == "above beta" else arb(0)
    excess = params[moved] - base
    if excess <= 0:
        raise ValueError(f"no raw parameter gives {moved}={params[moved]}: softplus is positive")
    a = excess.expm1().log()
    series[moved] = base + _softplus(arb_series([a, 1]))
    return series


# -- the witness -----------------------------------------------------------------------------


def _ball(function: str, output: str, x: Any, params: Mapping[str, Any]) -> arb:
    """Enclosure of the output at the ambient ball precision."""
    point = to_arb(x)
    left = not point > 0
    exact = {name: to_arb(value) for name, value in params.items()}
    moved = output.removeprefix("grad_")
    series = {name: arb_series([value, 1 if name == moved else 0]) for name, value in exact.items()}
    if moved.startswith("raw_"):
        series = _through_raw(function, exact, moved.removeprefix("raw_"))
    elif moved not in exact and output not in ("forward", "grad_x"):
        raise ValueError(f"unknown output {output!r} of {function} with parameters {sorted(params)}")
    s = arb_series([point, 1 if output == "grad_x" else 0])
    return FORMULAS[function](s, left, series)[0 if output == "forward" else 1]


def witness(function: str, output: str, x: Any, params: Mapping[str, Any], bits: int) -> arb:
    """Ball around the exact output with at least `bits` relative bits, or the exact zero.

    Args:
        output: "forward", "grad_x", "grad_<parameter>", or "grad_raw_<parameter>".
        x: exact float, int, Fraction or mpf; -0.0 is 0.
        params: effective parameters, every one the formula uses.

    Raises:
        ValueError: a non-finite number, an unknown output, or effective parameters no raw
            parameter reaches.
        ArithmeticError: MAX_BITS of working precision do not give `bits` bits.
    """
    working = bits + 64
    while working <= MAX_BITS:
        with arithmetic(working):
            ball = _ball(function, output, x, params)
            if ball.is_zero() or (ball.is_finite() and ball.rel_accuracy_bits() >= bits):
                return ball
        working *= 2
    raise ArithmeticError(
        f"{function} {output} at x={x!r}, {dict(params)}: no {bits} bits from {MAX_BITS} bits of precision"
    )
