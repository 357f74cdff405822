"""Expressions over Arb's power series: Taylor coefficients, as balls, of any formula without conditions.

Where a function's series would cancel, it is the value at the centre and the integral of its slope, which
does not.
"""

from __future__ import annotations

from collections.abc import Callable

from flint import arb, arb_series, fmpq

from precision_lab.exceptions import InternalError
from precision_lab.formula.expression import Expression, children
from precision_lab.oracle import arb_program


def series(e: Expression, x: arb_series) -> arb_series:
    """The series of an expression in x, which is one itself, at Arb's precision and number of terms."""
    memo: dict[Expression, arb_series] = {}

    def go(part: Expression) -> arb_series:
        if part not in memo:
            memo[part] = _evaluated(part, x, [go(p) for p in children(part)])
        return memo[part]

    return go(e)


def _evaluated(e: Expression, x: arb_series, parts: list[arb_series]) -> arb_series:
    if e.kind == "number":
        return arb_series([arb(fmpq(e.args[0].numerator, e.args[0].denominator))])
    if e.kind == "symbol":
        return x
    if e.kind == "pi":
        return arb_series([arb.pi()])
    if e.kind == "add":
        return parts[0] + parts[1]
    if e.kind == "sub":
        return parts[0] - parts[1]
    if e.kind == "mul":
        return parts[0] * parts[1]
    if e.kind == "div":
        return parts[0] / parts[1]
    if e.kind == "neg":
        return -parts[0]
    if e.kind == "power":
        return _power(e, parts[0], parts[1])
    if e.kind == "where":
        raise InternalError(f"a condition is left in {e!r}", "")
    return _FUNCTIONS[e.kind](parts[0])


def _power(e: Expression, a: arb_series, n: arb_series) -> arb_series:
    exponent = e.args[1].args[0] if e.args[1].kind == "number" else None
    if exponent is not None and exponent.denominator == 1 and 0 < exponent <= 64:
        found, square, k = arb_series([1]), a, int(exponent)
        while k:
            if k & 1:
                found = found * square
            square, k = square * square, k >> 1
        return found
    return (n * a.log()).exp()


def _from_slope(value: arb, slope: arb_series, u: arb_series) -> arb_series:
    return (slope * u.derivative()).integral() + arb_series([value])


def _exp_of_negative(u: arb_series) -> arb_series:
    """e^−|u|, whichever side of 0 the centre is on."""
    return u.exp() if u[0] < 0 else (-u).exp()


def _sigmoid(u: arb_series) -> arb_series:
    t = _exp_of_negative(u)
    return t / (1 + t) if u[0] < 0 else 1 / (1 + t)


def _sigmoid_slope(u: arb_series) -> arb_series:
    t = _exp_of_negative(u)
    below = 1 + t
    return t / (below * below)


def _expm1(u: arb_series) -> arb_series:
    return _from_slope(u[0].expm1(), u.exp(), u)


def _log1p(u: arb_series) -> arb_series:
    return _from_slope(u[0].log1p(), 1 / (1 + u), u)


def _gaussian(u: arb_series) -> arb_series:
    return (-(u * u)).exp() * arb_series([2 / arb.pi().sqrt()])


def _cosh(u: arb_series) -> arb_series:
    return (u.exp() + (-u).exp()) * arb_series([arb(0.5)])


def _sinh(u: arb_series) -> arb_series:
    return _from_slope(u[0].sinh(), _cosh(u), u)


_FUNCTIONS: dict[str, Callable[[arb_series], arb_series]] = {
    "exp": lambda u: u.exp(),
    "expm1": _expm1,
    "exp2": lambda u: (u * arb_series([arb.const_log2()])).exp(),
    "log": lambda u: u.log(),
    "log1p": _log1p,
    "sqrt": lambda u: u.sqrt(),
    "rsqrt": lambda u: u.rsqrt(),
    "sin": lambda u: u.sin(),
    "cos": lambda u: u.cos(),
    "tan": lambda u: u.tan(),
    "tanh": lambda u: _from_slope(u[0].tanh(), 4 * _sigmoid_slope(2 * u), u),
    "sigmoid": _sigmoid,
    "sigmoid_slope": _sigmoid_slope,
    "softplus": lambda u: _from_slope(arb_program.softplus(u[0]), _sigmoid(u), u),
    "erf": lambda u: _from_slope(u[0].erf(), _gaussian(u), u),
    "erfc": lambda u: _from_slope(u[0].erfc(), -_gaussian(u), u),
    "atan": lambda u: _from_slope(u[0].atan(), 1 / (1 + u * u), u),
    "sinh": _sinh,
    "cosh": _cosh,
}
