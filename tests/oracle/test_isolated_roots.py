"""Roots, edges and monotone pieces: mpmath's signs at each root, known ones, pieces put to the test."""

from __future__ import annotations

import math
from pathlib import Path

import jets
import numpy as np
import pytest
from formula_witness import BUILT_IN, STRANGERS, at
from turns import one_in

from precision_lab.formula.expression import Expression, X
from precision_lab.formula.rewriting import simplified
from precision_lab.functions import FUNCTIONS, Activation, get_function
from precision_lab.math import absolute, clamp, cos, exp, sin, tanh, where
from precision_lab.oracle.arb_program import loop
from precision_lab.oracle.branches import pieces
from precision_lab.oracle.plain_roots import edges_of
from precision_lab.oracle.roots import FARTHEST, edges, monotone_pieces, reaches, roots

FILE = Path(__file__).parents[1] / "formula" / "strangers.py"


def named(name: str) -> Activation:
    return FUNCTIONS[name] if name in BUILT_IN else get_function(f"{FILE}:{name}")


OUTPUTS = [
    (n, o)
    for n in (*STRANGERS, "gelu", "mish", "gelu_tanh", "xielu")
    for o in (*named(n).outputs, "grad_grad_x")
]


@pytest.mark.parametrize(("name", "output"), one_in(3, OUTPUTS))
def test_every_root_is_one(name: str, output: str) -> None:
    """mpmath has another sign on each side of it, or nothing and a sign."""
    f = named(name)
    params = f.check_params()
    value = at(name, output, tuple(sorted(params.items())), 400)
    for x in roots(f.bound_expression(output, params)).roots:
        low, high = (value(math.nextafter(math.nextafter(x, s * math.inf), s * math.inf)) for s in (-1, 1))
        assert low * high < 0, (x, low, high)


# Minima of x·σ(x) and of GELU, and others, to float64: by mpmath's findroot at 40 digits.
ROOTS = {
    ("silu_written", "grad_x"): lambda m: [m.findroot(lambda x: 1 + m.exp(-x) + x * m.exp(-x), -1.3)],
    ("hardswish", "grad_x"): lambda m: [m.mpf(-3) / 2],
    ("hardswish", "forward"): lambda m: [],
    ("star_relu", "forward"): lambda m: [m.sqrt(m.mpf(0.4472) / m.mpf(0.8944))],
    ("gelu", "grad_x"): lambda m: [m.findroot(lambda x: m.ncdf(x) + x * m.npdf(x), -0.75)],
    ("gelu", "grad_grad_x"): lambda m: [-m.sqrt(2), m.sqrt(2)],
    ("swish", "grad_x"): lambda m: [m.findroot(lambda x: 1 + m.exp(-x) + x * m.exp(-x), -1.3) / m.mpf(1.702)],
}


@pytest.mark.parametrize(("name", "output"), ROOTS)
def test_known_roots_are_found(name: str, output: str) -> None:
    f = named(name)
    m = jets.context(200)
    found = roots(f.bound_expression(output, f.check_params())).roots
    known = ROOTS[name, output](m)
    assert len(found) == len(known)
    for x, y in zip(found, known, strict=True):
        assert abs(x - y) <= abs(y) * 2.0**-52


def test_edges_are_where_conditions_change() -> None:
    expected = {
        "hardswish": (-3.0, 3.0), "softshrink": (-0.5, 0.5), "hardtanh": (-1.0, 1.0), "relu6": (6.0,),
        "leaky_relu": (),
        "softplus_beta": (10.0,), "gpt_oss_swiglu": (7.0,), "threshold": (0.1,), "softsign": (), "snake": (),
    }  # fmt: skip
    for name, known in expected.items():
        assert edges_of(named(name), named(name).check_params()) == known, name


def test_edges_of_curved_conditions_are_roots() -> None:
    assert edges(where(X * X > 2, X, 0)) == pytest.approx((-math.sqrt(2), math.sqrt(2)), rel=2.0**-52)
    assert edges(where(exp(X) > 5, X, 0)) == pytest.approx((math.log(5),), rel=2.0**-52)


def test_roots_are_complete_only_where_none_can_be_missed() -> None:
    assert roots(simplified(X**3 - X)).roots == (-1.0, 1.0) and roots(simplified(X**3 - X)).complete
    assert roots(simplified(X * X + 1)).complete
    assert not roots(simplified((X - 1) ** 2)).complete, "a root without a change of sign"
    found = roots(simplified(sin(X)))
    assert not found.complete and len(found.roots) == 32
    assert all(abs(x / math.pi - round(x / math.pi)) < 1e-12 for x in found.roots)


def test_a_condition_inside_of_a_condition_has_its_edge() -> None:
    """The upper end of a clamp compares what the lower end gave."""
    assert edges(clamp(X, -1, 2)) == (-1.0, 2.0)
    found = roots(clamp(X, -1, 2) - 0.5)
    assert found.roots == (0.5,)
    assert roots(clamp(X, -1, 2) - 3).roots == ()


def test_a_jump_across_zero_is_a_root() -> None:
    assert roots(where(X > 1, X, X - 5)).roots == (1.0,)
    assert roots(where(X > 1, X - 3, -1)).roots == (3.0,)


def test_an_overflow_is_found_where_it_is() -> None:
    (x,) = reaches(simplified(exp(X)), 65504.0)
    assert x == pytest.approx(math.log(65504.0), rel=2.0**-40)
    low, high = reaches(simplified(X**2), 65504.0)
    assert (low, high) == pytest.approx((-math.sqrt(65504.0), math.sqrt(65504.0)), rel=2.0**-40)
    assert reaches(simplified(tanh(X)), 65504.0) == ()


def _value(e: Expression, x: float) -> object:
    ((piece, _),) = pieces(e, np.array([x]))
    return loop(piece)([x], 400)[0]


PIECES: dict[str, Expression] = {
    "|x|": absolute(X),
    "jump at 0": where(X > 0, X - 1, X),
    "jump at 1": where(X > 1, X - 5, X),
    "tanh": tanh(X),
    "cubic": X**3 - 3 * X,
    "square": X**2,
    "x + 2": where(X > 0, X * X, X),
    "far turn": (X - 8192) ** 2,
    "near turn": (X - 2.0**-30) ** 2,
    "exp": exp(X),
    "wave": X + 2 * sin(X),
    "flat": where(X > 2, X, 2),
    "pole": 1 / (X - 3),
    "cos": cos(X),
    **{
        name: named(name).bound_expression("forward", named(name).check_params())
        for name in ("hardswish", "softsign", "leaky_relu", "softcap", "softshrink")
    },
}


@pytest.mark.parametrize("name", PIECES)
def test_a_monotone_piece_is_monotone(name: str) -> None:
    """Pairs of neighbours and of points far apart, from both sides of whatever may be a turn."""
    e = simplified(PIECES[name])
    draw = np.random.default_rng(7)
    sizes = 2.0 ** draw.uniform(-40, 20, 300)
    near = [
        c + s * d
        for c in (0.0, 1.0, 2.0, 3.0, 8192.0, 2.0**-30, -1.0, -1.5)
        for s in (-1, 1)
        for d in (2.0**-35, 2.0**-20, 0.25, 3.0)
    ]
    points = sorted({*sizes.tolist(), *(-sizes).tolist(), *near})
    for low, high, side in monotone_pieces(e):
        inside = [x for x in points if low < x < high]
        values = [_value(e, x) for x in inside]
        for x, y, a, b in zip(inside, inside[1:], values, values[1:], strict=False):
            assert not side * (b - a) < 0, f"from {low} to {high}: f({x}) = {a}, f({y}) = {b}"  # type: ignore[operator]


def test_pieces_of_a_cubic_are_the_three() -> None:
    cuts = [(low, high, side) for low, high, side in monotone_pieces(simplified(X**3 - 3 * X))]
    assert cuts[0] == (-FARTHEST, -1.0, 1) and cuts[-1] == (1.0, FARTHEST, 1)
    assert all(side == -1 for low, high, side in cuts if low >= -1 and high <= 1) and len(cuts) in (3, 4)
