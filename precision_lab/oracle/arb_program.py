"""Expressions as loops over Arb's balls: Python written from the expression, no machine code.

Parameters are exact float64 numbers; what does not depend on x is computed once for all inputs. A ball of
radius 0 is exact, so that ties and zeros that are exact numbers show as such.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from flint import arb, fmpq

from precision_lab.exceptions import InternalError
from precision_lab.formula.expression import Expression, children
from precision_lab.oracle.arb_precision import working_precision

# Points are float64 numbers, fractions or balls, which Arb takes exactly at the precision of the call.
Loop = Callable[[Sequence[Any], int], "list[arb]"]

_LARGEST_EXPONENT = 1 << 20  # 2^n beyond is left to the exponential


def sigmoid(u: arb) -> arb:
    """σ(u) by whichever form takes the exponential of a number ≤ 0: both hold for every ball."""
    if u > 0:
        return 1 / (1 + (-u).exp())
    t = u.exp()
    return t / (1 + t)


def sigmoid_slope(u: arb) -> arb:
    """σ(u)·σ(−u) = e^−|u|/(1 + e^−|u|)²."""
    t = (-u).exp() if u > 0 else u.exp()
    return t / ((1 + t) * (1 + t))


def softplus(u: arb) -> arb:
    """log(1 + eᵘ), likewise."""
    return u + (-u).exp().log1p() if u > 0 else u.exp().log1p()


def exp2(u: arb) -> arb:
    """2ᵘ, exact where u is a whole number."""
    if u.is_integer() and abs(u) < _LARGEST_EXPONENT:
        exponent = u.unique_fmpz()
        assert exponent is not None
        whole: arb = arb(2) ** int(exponent)
        return whole
    return (u * arb.const_log2()).exp()


_TEMPLATES = {
    "add": "{0} + {1}", "sub": "{0} - {1}", "mul": "{0} * {1}", "div": "{0} / {1}", "neg": "-{0}",
    "power": "{0} ** {1}", "sigmoid": "sigmoid({0})", "sigmoid_slope": "sigmoid_slope({0})",
    "softplus": "softplus({0})", "exp2": "exp2({0})",
    "rsqrt": "1 / {0}.sqrt()",
}  # fmt: skip
_NAMES = {
    "sigmoid": sigmoid, "sigmoid_slope": sigmoid_slope, "softplus": softplus, "exp2": exp2, "arb": arb,
    "fmpq": fmpq,     "working_precision": working_precision,
}  # fmt: skip


@lru_cache(maxsize=512)
def loop(e: Expression) -> Loop:
    """What evaluates a branch-free expression in x at float64 numbers, at a precision in bits."""
    names: dict[Expression, str] = {}
    varies: dict[Expression, bool] = {}
    before: list[str] = []
    inside: list[str] = []

    def name(part: Expression) -> str:
        if part in names:
            return names[part]
        if part.kind == "where":
            raise InternalError(f"a condition is left in {part!r}", "")
        if part.kind == "symbol":
            if part.args[0] != "x":
                raise InternalError(f"{part.args[0]} has no value in {part!r}", "")
            names[part], varies[part] = "x", True
            return "x"
        inner = [name(p) for p in children(part)]
        varies[part] = any(varies[p] for p in children(part))
        names[part] = made = f"v{len(names)}"
        if part.kind == "number":
            value = part.args[0]
            code = f"arb(fmpq({value.numerator}, {value.denominator}))"
        elif part.kind == "pi":
            code = "arb.pi()"
        elif part.kind == "power" and part.args[1].kind == "number" and part.args[1].args[0].denominator == 1:
            code = f"{inner[0]} ** {int(part.args[1].args[0])}"
        else:
            code = _TEMPLATES.get(part.kind, "{0}." + part.kind + "()").format(*inner)
        (inside if varies[part] else before).append(f"{made} = {code}")
        return made

    result = name(e)
    lines = [
        "def run(points, precision):",
        "    with working_precision(precision):",
        *(f"        {line}" for line in before),
        "        found = []",
        "        append = found.append",
        "        for point in points:",
        "            x = arb(point)",
        *(f"            {line}" for line in inside),
        f"            append({result})",
        "    return found",
    ]
    space: dict[str, Any] = dict(_NAMES)
    exec("\n".join(lines), space)
    run: Loop = space["run"]
    return run


__all__ = ["exp2", "loop", "sigmoid", "sigmoid_slope", "softplus"]
