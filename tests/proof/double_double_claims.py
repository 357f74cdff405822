"""What `numeric.error_free` and `oracle.double_double` claim of their steps, as scripts for Gappa.

Numbers are scaled and reflected so that the larger high parts lie in [1, 2): powers of two and signs go
through every step unchanged where nothing underflows. A low part is at most half an ulp of its high part, u
or less. A high part of exactly 1 is a case of its own: the exact value may lie below 1 then. In a sum, x is
the number with the larger high part: both two_sum are the same for either order.

The published bound of a sum is relative to the result for unlike signs, too; here, as in what the code
derives from it, it is relative to |x| + |y|.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from proof_trace import Script, Symbol, at_most, dyadic, within

from precision_lab.numeric import error_free as code

U = Fraction(code.U)
NEXT, LAST = 1 + 2 * U, 2 - 2 * U  # the float64 numbers after 1 and before 2
# The relative bounds that the docstrings of `error_free` state. The sum's is 3u²/(1−4u), which is below what
# the code charges for it, 3.01u².
TIMES_FLOAT, PLUS, TIMES = 2 * U**2, dyadic(3 * U**2 / (1 - 4 * U), up=False), 4 * U**2


def _highs(script: Script, a: str, b: str, one: str) -> tuple[Symbol, Symbol, list[str]]:
    """Two numbers in [1, 2): `one` is exactly 1 and the other any, or neither is 1."""
    ranges = {a: (NEXT, LAST), b: (NEXT, LAST)} if not one else {a: (1, LAST), b: (1, LAST), one: (1, 1)}
    given = [within(name, *ends) for name, ends in ranges.items()]
    return script.float64(a), script.float64(b), given


def _low(script: Script, name: str) -> tuple[Symbol, str]:
    return script.float64(name), at_most(name, U)


def _fits(script: Script) -> list[str]:
    """Of each fast_two_sum, that its second number is the smaller one."""
    return [f"|{b} / {a}| <= 1" for a, b in script.exactness]


# Of dd·float: which number is exactly 1, and what high·b lies between.
FLOAT_CASES = {"below": ("", (1, 2)), "above": ("", (2, 4)), "high=1": ("high", (1, 2)), "b=1": ("b", (1, 2))}


def times_float(case: str, bound: Fraction = TIMES_FLOAT, function: Any = code.dd_times_float) -> str:
    """(high + low)·b: error over exact result."""
    script = Script()
    one, product = FLOAT_CASES[case]
    high, b, given = _highs(script, "high", "b", one)
    low, small = _low(script, "low")
    given += [small, within("high * b", *product)]
    rh, rl = script.run(function, high, low, b)
    exact = "(high + low) * b"
    error = f"({rh.name} + {rl.name}) - {exact}"
    return script.goal(
        given,
        [at_most(f"({error}) / ({exact})", bound), *_fits(script)],
        [f"{error} -> {' + '.join(script.lost)}", f"{exact} -> high * b + low * b"],
    )


# Of dd + dd: the signs of the high parts, and what their sum lies between.
PLUS_CASES = {
    "like signs, to 3/2": (1, 1, Fraction(3, 2)),
    "like signs, to 2": (1, Fraction(3, 2), 2),
    "like signs, above": (1, 2, 4),
    "unlike signs, to 3/2": (-1, 0, Fraction(3, 2)),
    "unlike signs, above": (-1, Fraction(3, 2), 2),
}


def plus(case: str, bound: Fraction = PLUS) -> str:
    """Error of x + y over |x| + |y|, which is |x + y| for like signs; |yh| ≤ |xh|, and 1 ≤ xh < 2."""
    sign, least, most = PLUS_CASES[case]
    script = Script()
    xh, yh, xl, yl = (script.float64(name) for name in ("xh", "yh", "xl", "yl"))
    given = [
        within("xh", 1, LAST),
        within("yh", 0, LAST) if sign > 0 else within("yh", -LAST, 0),
        within("xh + yh", least, most),
        at_most("xl", U),
        at_most("yl", U),
    ]
    rh, rl = script.run(code.dd_plus_dd, xh, xl, yh, yl)
    sizes = "(xh + yh) + (xl + yl)" if sign > 0 else "(xh - yh) + (xl - yl)"
    error = f"({rh.name} + {rl.name}) - ((xh + xl) + (yh + yl))"
    return script.goal(
        given,
        # Unlike signs may cancel: that fast_two_sum is exact then is Joldes, Muller and Popescu's.
        [at_most(f"({error}) / ({sizes})", bound), *(_fits(script) if sign > 0 else [])],
        [
            f"{error} -> {' + '.join(script.lost)}",
            *(["xh - yh -> (xh + yh) - 2 * yh"] if sign < 0 and least else []),
        ],
    )


# Of dd·dd: which high part is exactly 1, what xh·yh lies between, and what the second fused step rounds. From
# 2u on its result is a multiple of 4u², as the first product's low part is, so that the last sum is exact up
# to 4u; beyond, xh·yh is so near 2 that more may be lost.
TIMES_CASES = {
    "above": ("", (2, 4), (-8 * U, 8 * U)),
    "near": ("", (Fraction(15, 8), 2), (-8 * U, 8 * U)),
    **{
        f"{name}, {size}": (one, (1, most), fused)
        for name, one, most in (("below", "", Fraction(15, 8)), ("xh=1", "xh", 2), ("yh=1", "yh", 2))
        for size, fused in (
            ("small", (-2 * U, 2 * U)),
            ("large", (2 * U, 8 * U)),
            ("large negative", (-8 * U, -2 * U)),
        )
    },
}


def times(case: str, bound: Fraction = TIMES) -> str:
    """x·y: error over exact result."""
    one, product, fused = TIMES_CASES[case]
    script = Script()
    xh, yh, given = _highs(script, "xh", "yh", one)
    (xl, x_small), (yl, y_small) = _low(script, "xl"), _low(script, "yl")
    rh, rl = script.run(code.dd_times_dd, xh, xl, yh, yl)
    second = script.lost[2].partition(" - ")[2][:-1].strip("()")
    given += [x_small, y_small, within("xh * yh", *product), within(second, *fused)]
    exact = "(xh + xl) * (yh + yl)"
    error = f"({rh.name} + {rl.name}) - {exact}"
    return script.goal(
        given,
        [at_most(f"({error}) / ({exact})", bound), *_fits(script)],
        [f"{error} -> {' + '.join(script.lost)}", "$ xh in 64"],
    )
