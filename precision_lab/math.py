"""What formulas are written with: `from precision_lab.math import sigmoid, sin, where`.

Every function takes x, parameters, numbers and what other functions gave. A formula is plain Python over
them, called once with symbols: `pl.activation` makes a function of it.

>>> import precision_lab as pl
>>> from precision_lab.math import where
>>> @pl.activation
... def hardswish(x):
...     return where(x <= -3, 0, where(x >= 3, x, x * (x + 3) / 6))
>>> pl.evaluate(hardswish, 1.5, output="grad_x")
mpf('1.0')
"""

from precision_lab.formula.vocabulary import (
    absolute,
    atan,
    clamp,
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
    minimum,
    pi,
    piecewise,
    power,
    relu,
    rsqrt,
    sigmoid,
    sign,
    sin,
    sinh,
    softplus,
    sqrt,
    square,
    tan,
    tanh,
    where,
)

__all__ = [
    "absolute",
    "atan",
    "clamp",
    "cos",
    "cosh",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "maximum",
    "minimum",
    "pi",
    "piecewise",
    "power",
    "relu",
    "rsqrt",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "softplus",
    "sqrt",
    "square",
    "tan",
    "tanh",
    "where",
]
