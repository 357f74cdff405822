"""Every built-in activation and every stranger a second time, to attack the general oracle with.

Written from papers and torch's documentation, one function each: value and derivatives come from `jets`,
that is mpmath, branches from Python's comparisons of exact numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

import jets
from arb_witness import RAW
from jets import Jet, cos, erfc, exp, expm1, log1p, power, sigmoid, sin, softplus, sqrt, tanh

P = Mapping[str, Jet]
Formula = Callable[[Jet, P], Any]


def _silu(x: Jet) -> Jet:
    return x * sigmoid(x)


def _gelu(x: Jet) -> Jet:
    return x * erfc(-x / sqrt(x * 0 + 2)) / 2


def _gelu_tanh(x: Jet) -> Jet:
    # (1 + tanh u)/2 = σ(2u); as a paper has it, with 0.044715 exactly.
    return _gelu_tanh_with(x, Fraction(44715, 10**6))


def _gelu_tanh_with(x: Jet, c: Any) -> Jet:
    m = x.m
    factor = m.sqrt(2 / m.pi)
    return x * sigmoid((x + x * x * x * c) * (2 * factor))


def _atlu(x: Jet) -> Jet:
    m = x.m
    if x.v < -1:  # π/2 − arctan(1/|x|), which cancels; arctan(1/|x|)/π does not
        return -x * jets.atan(1 / x) / m.pi
    return x * (jets.atan(x) / m.pi + Fraction(1, 2))


def _mish(x: Jet) -> Jet:
    # tanh(log(1 + eˣ)) = n/(n + 2) with n = eˣ·(eˣ + 2); far right with e⁻ˣ.
    if x.v > 0:
        e = exp(-x)
        return x * (1 - 2 * e * e / (1 + 2 * e + 2 * e * e))
    n = exp(x) * (exp(x) + 2)
    return x * n / (n + 2)


def _expanded(base: Jet, x: Jet, alpha: Jet) -> Jet:
    return (1 + 2 * alpha) * base - alpha * x


def _xi(positive: Formula, negative: Formula) -> Formula:
    return lambda x, p: positive(x, p) if x.v > 0 else negative(x, p)


def _line(x: Jet, p: P) -> Jet:
    return p["beta"] * x


def _bowl(x: Jet, p: P) -> Jet:
    return p["alpha_p"] * x * x + _line(x, p)


def _left(x: Jet, p: P) -> Jet:
    return p["alpha_n"] * expm1(x) + (p["beta"] - p["alpha_n"]) * x


def _elu(x: Jet, alpha: Any) -> Jet:
    return x if x.v > 0 else expm1(x) * alpha


def _relu(x: Jet) -> Jet:
    return x if x.v > 0 else x * 0


BUILT_IN: dict[str, Formula] = {
    "xielu": _xi(_bowl, _left),
    "xiprelu": _xi(_bowl, lambda x, p: p["alpha_n"] * x * x + _line(x, p)),
    "elu": lambda x, p: _elu(x, p["alpha"]),
    "relu": lambda x, p: _relu(x),
    "prelu": lambda x, p: x if x.v > 0 else p["alpha"] * x,
    "relu2": lambda x, p: _relu(x) * _relu(x),
    "silu": lambda x, p: _silu(x),
    "gelu": lambda x, p: _gelu(x),
    "gelu_tanh": lambda x, p: _gelu_tanh(x),
    "swiglu": lambda x, p: _silu(x) * p["b"],
    "atlu": lambda x, p: _atlu(x),
    "xsilu": lambda x, p: _expanded(_silu(x), x, p["alpha"]),
    "xgelu": lambda x, p: _expanded(_gelu(x), x, p["alpha"]),
    "xatlu": lambda x, p: _expanded(_atlu(x), x, p["alpha"]),
    "xelu": lambda x, p: _expanded(_elu(x, 1), x, p["alpha"]),
    "softplus": lambda x, p: softplus(x),
    "selu": lambda x, p: p["scale"] * x if x.v > 0 else p["scale_alpha"] * expm1(x),
    "mish": lambda x, p: _mish(x),
    "xielu_cubic": _xi(lambda x, p: p["alpha_p"] * x * x * x + _line(x, p), _left),
    "xielu_neg_xsilu": _xi(_bowl, lambda x, p: _expanded(_silu(x), x, p["alpha_n"])),
    "xielu_neg_silu": _xi(_bowl, lambda x, p: _silu(x)),
    "xielu_neg_zero": _xi(_bowl, lambda x, p: x * 0),
    "xielu_trainable_beta": _xi(_bowl, _left),
    "xielu_fixed_alpha": _xi(_bowl, _left),
    "xiprelu_fixed_alpha": _xi(_bowl, lambda x, p: p["alpha_n"] * x * x + _line(x, p)),
    "sigmoid": lambda x, p: sigmoid(x),
    "tanh": lambda x, p: tanh(x),
    "logsigmoid": lambda x, p: -softplus(-x),
    "celu": lambda x, p: x if x.v > 0 else p["alpha"] * expm1(x / p["alpha"]),
    "geglu": lambda x, p: _gelu(x) * p["b"],
    "geglu_tanh": lambda x, p: _gelu_tanh(x) * p["b"],
    "reglu": lambda x, p: _relu(x) * p["b"],
}


def _hardtanh(x: Jet, p: P) -> Jet:
    return p["low"] if x.v <= p["low"].v else p["high"] if x.v >= p["high"].v else x


def _softshrink(x: Jet, p: P) -> Jet:
    edge = p["lambd"]
    return x - edge if x.v > edge.v else x + edge if x.v < -edge.v else x * 0


def _gpt_oss(x: Jet, p: P) -> Jet:
    limit, b = p["limit"], p["b"]
    x = x if x.v <= limit.v else limit
    b = -limit if b.v < -limit.v else b
    b = limit if b.v > limit.v else b
    return x * sigmoid(p["alpha"] * x) * (b + 1)


def _softplus_beta(x: Jet, p: P) -> Jet:
    t = p["beta"] * x
    return x if t.v > p["threshold"].v else softplus(t) / p["beta"]


def _squareplus(x: Jet, p: P) -> Jet:
    root = sqrt(x * x + p["b"])
    # (x + r)/2 = b/2/(r − x), which does not cancel for x < 0.
    return (x + root) / 2 if x.v > 0 else p["b"] / (root - x) / 2


STRANGERS: dict[str, Formula] = {
    "hardswish": lambda x, p: x * 0 if x.v <= -3 else x if x.v >= 3 else x * (x + 3) / 6,
    "hardsigmoid": lambda x, p: x * 0 if x.v <= -3 else x * 0 + 1 if x.v >= 3 else (x + 3) / 6,
    "hardtanh": _hardtanh,
    "relu6": lambda x, p: x * 0 if x.v <= 0 else x * 0 + 6 if x.v >= 6 else x,
    "leaky_relu": lambda x, p: x if x.v > 0 else p["slope"] * x,
    "elu_alpha": lambda x, p: _elu(x, p["alpha"]),
    "celu_alpha": lambda x, p: x if x.v > 0 else p["alpha"] * expm1(x / p["alpha"]),
    "selu_two": lambda x, p: p["scale"] * (x if x.v > 0 else p["alpha"] * expm1(x)),
    "gelu_tanh_written": lambda x, p: _gelu_tanh_with(x, 0.044715),
    "silu_written": lambda x, p: _silu(x),
    "mish_written": lambda x, p: _mish(x),
    "softplus_beta": _softplus_beta,
    "softsign": lambda x, p: x / (1 - x if x.v < 0 else 1 + x),
    "tanhshrink": lambda x, p: x - tanh(x),
    "softshrink": _softshrink,
    "hardshrink": lambda x, p: x if abs(x.v) > p["lambd"].v else x * 0,
    "threshold": lambda x, p: x if x.v > p["threshold"].v else p["value"],
    "logsigmoid_written": lambda x, p: -softplus(-x),
    "rrelu": lambda x, p: x if x.v >= 0 else x * (p["lower"] + p["upper"]) / 2,
    "glu": lambda x, p: x * sigmoid(p["b"]),
    "swish": lambda x, p: x * sigmoid(p["beta"] * x),
    "snake": lambda x, p: x + sin(p["alpha"] * x) * sin(p["alpha"] * x) / p["alpha"],
    "star_relu": lambda x, p: p["s"] * _relu(x) * _relu(x) + p["b"],
    "softcap": lambda x, p: p["cap"] * tanh(x / p["cap"]),
    "log1p": lambda x, p: log1p(x),
    "rsqrt": lambda x, p: 1 / sqrt(x),
    "gpt_oss_swiglu": _gpt_oss,
    "squareplus": _squareplus,
}
FORMULAS = BUILT_IN | STRANGERS
# x without a value, and at which there is an infinite one.
OUTSIDE: dict[str, Callable[[float], bool]] = {"log1p": lambda x: x < -1, "rsqrt": lambda x: x < 0}
POLE = {"log1p": -1.0, "rsqrt": 0.0}


def value(name: str, output: str, params: Mapping[str, float], x: float, bits: int) -> Any:
    """The output of a function at a finite x where it has a value, as an mpf of so many bits."""
    return at(name, output, tuple(params.items()), bits)(x)


@lru_cache(maxsize=64)
def at(name: str, output: str, items: tuple[tuple[str, float], ...], bits: int) -> Callable[[float], Any]:
    """`value` as a function of x."""
    m = jets.context(bits)
    order = {"forward": 0, "grad_grad_x": 2}.get(output, 1)
    moved = output.removeprefix("grad_")
    params = dict(items)

    def constant(number: float, slope: Any = 0) -> Jet:
        return Jet(m, (m.mpf(number), m.mpf(slope), m.zero)[: order + 1])

    given = {key: constant(number, int(key == moved)) for key, number in items}
    if moved.startswith("raw_"):
        raw, key = RAW[name], moved.removeprefix("raw_")
        base = m.mpf(params["beta"]) if raw[key] == "above beta" else m.zero
        # θ = softplus(a): dθ/da = σ(a) = 1 − e^−θ.
        slope = 1 if raw[key] == "itself" else -m.expm1(base - m.mpf(params[key]))
        given[key] = constant(params[key], slope)
        if raw[key] == "itself":  # what is built on it moves along
            given |= {
                other: constant(params[other], slope) for other, kind in raw.items() if kind == "above beta"
            }
    formula = FORMULAS[name]
    moves = output in ("grad_x", "grad_grad_x")

    def evaluated(x: float) -> Any:
        return formula(constant(x, int(moves)), given).c[order]

    return evaluated


__all__ = ["BUILT_IN", "FORMULAS", "OUTSIDE", "POLE", "STRANGERS", "at", "cos", "power", "value"]
