"""Formulas that nobody thought of: random trees over the vocabulary, against mpmath operation by operation.

Nothing is simplified on mpmath's side, and results near an edge are left to the tests that know on which side
they lie. The slow part draws more and larger trees.
"""

from __future__ import annotations

import random
from typing import Any

import jets
import numpy as np
import pytest
from judged import expected, fault
from tree_witness import evaluated

import precision_lab.math as lab
from precision_lab.exceptions import UndecidedError
from precision_lab.formats import FORMATS
from precision_lab.formula.expression import FUNCTIONS, Expression, X, lift, symbols_of
from precision_lab.functions import Activation
from precision_lab.oracle.certified import certified_reference

SIZES = (1.0, 0.5, 3.0, 7.25, 30.0, 120.0, 2.0**-10, 2.0**-60, 2.0**-140, 1e4, 0.3, 1.7)
INPUTS = [0.0, *SIZES, *(-x for x in SIZES)]
LIMITS = {
    **dict.fromkeys(("exp", "expm1", "exp2", "sinh", "cosh", "sigmoid", "softplus"), (-5000, 5000)),
    **dict.fromkeys(("tanh", "erf", "erfc"), (-100, 100)),
    **dict.fromkeys(("sin", "cos", "tan", "atan"), (-(2.0**200), 2.0**200)),
    **dict.fromkeys(("sqrt", "rsqrt", "log"), (0, np.inf)),
    "log1p": (-1, np.inf),
}


def grown(draw: random.Random, depth: int) -> Expression:
    if depth == 0 or draw.random() < 0.12:
        return draw.choice(
            [X, X, X, X, 2 * X, -X, X / 3, X + 1, 1 - X, lift(draw.choice([1, 2, -1, 0.5, 3]))]
        )
    chance = draw.random()
    if chance < 0.45:
        return getattr(lab, draw.choice(FUNCTIONS))(grown(draw, depth - 1))
    if chance < 0.55:
        return abs(grown(draw, depth - 1))
    a = grown(draw, depth - 1)
    if chance < 0.66:
        return a ** draw.choice([2, 3, -1, -2, 0.5, 1.5])
    b = grown(draw, depth - 1)
    if chance < 0.72:
        return lab.where(draw.choice([0, 1, -2, 0.25]) < X, a, b)
    return draw.choice(
        [lambda: a + b, lambda: a - b, lambda: a * b, lambda: a / b, lambda: lab.maximum(a, b)]
    )()


def known(e: Expression, x: float) -> Any:
    """The value to 200 bits; None where it has none, or mpmath's bits do not reach."""
    try:
        first, second = (evaluated(e, {"x": m.mpf(x)}, m, LIMITS) for m in map(jets.context, (500, 1500)))
    except (ValueError, ZeroDivisionError, OverflowError):
        return None
    finite = second.context.isfinite(second) and second != 0
    return second if finite and abs(first - second) <= abs(second) * 2.0**-200 else None


@pytest.mark.parametrize(
    ("seeds", "depth"),
    [
        (range(80), 3),
        *(pytest.param(range(k, k + 500), 3, marks=pytest.mark.slow) for k in range(1000, 4000, 500)),
        *(pytest.param(range(k, k + 300), 4, marks=pytest.mark.slow) for k in range(7000, 8000, 300)),
    ],
    ids=lambda v: f"from {v[0]}" if isinstance(v, range) else f"depth {v}",
)
def test_a_formula_at_random_has_the_values_of_mpmath(seeds: range, depth: int) -> None:
    judged = 0
    for seed in seeds:
        e = grown(random.Random(seed), depth)
        if not symbols_of(e):
            continue
        f = Activation(name="f", title="f", expression=e)
        values = [known(e, x) for x in INPUTS]
        for fmt in ("bf16", "fp64"):
            try:
                found = certified_reference(f, "forward", {}, np.array(INPUTS), FORMATS[fmt])
            except UndecidedError:  # a comparison without a value, see `test_a_condition_without_a_value`
                continue
            for i, v in enumerate(values):
                if v is None or INPUTS[i] == 0 or expected(v, FORMATS[fmt], 300) is None:
                    continue
                judged += 1
                assert fault(found, i, v, 300) is None, f"seed {seed}, {fmt}, x={INPUTS[i]!r}: {e}"
    assert judged > 10 * len(seeds), "mostly nothing was compared"
