"""The pieces that a formula is compiled into for fp32 give what Arb gives, input by input."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from arb_witness import arithmetic
from flint import arb

from precision_lab.formats import FP32
from precision_lab.formula.expression import Expression, X, lift
from precision_lab.functions import Activation, activation
from precision_lab.inputs.cells import cells
from precision_lab.math import exp, log, log1p, relu, rsqrt, sigmoid, sin, sqrt, tanh, where
from precision_lab.oracle.certified import certified_reference
from precision_lab.oracle.curve import EDGE, FAR, NEAR, POSITIVE, Curve
from precision_lab.oracle.formula_program import formula_program
from precision_lab.oracle.formula_tables import compile_side, table, tables, without_piece
from precision_lab.scoring.patterns import Patterns
from precision_lab.scoring.scorer import Scorer
from precision_lab.scoring.standard import Standard


@activation(beta=1.702)
def gated(x, beta):  # type: ignore[no-untyped-def]
    return x * sigmoid(beta * x)


@activation
def hard(x):  # type: ignore[no-untyped-def]
    return where(x <= -3, 0, where(x >= 3, x, x * (x + 3) / 6))


@activation(at=0.3)
def step(x, at):  # type: ignore[no-untyped-def]
    return where(x < at, tanh(x), 2 - x)


@activation
def wave(x):  # type: ignore[no-untyped-def]
    return x + sin(x) ** 2


@activation
def growing(x):  # type: ignore[no-untyped-def]
    return exp(x) - relu(x)


FUNCTIONS = [gated, hard, step, wave, growing]


def inputs(more: list[int]) -> np.ndarray:
    """fp32 numbers of every binade, and all that lie next to edges, to 0, to 1 and to the ends."""
    generator = np.random.Generator(np.random.PCG64(11))
    edges = [0.3, 1.0, 3.0, 2.0**-30, 88.0]
    near = [int(FP32.encode(FP32.round(np.array([e])))[0]) + k for e in edges for k in range(-40, 41)]
    spread = [(b << 23) + int(v) for b in range(255) for v in generator.integers(0, 1 << 23, 24)]
    codes = np.array(
        sorted({*near, *more, *spread, *range(1, 30), *range((255 << 23) - 30, 255 << 23)}), np.uint64
    )
    return np.concatenate([codes, codes + np.uint64(1 << 31)])


def scored(
    function: Activation, output: str, *, fast: bool, more: list[int] | None = None
) -> dict[str, object]:
    """Counts of a kernel that is right to a few ulps, by the pieces or by Arb alone."""
    params = function.check_params()
    codes = inputs(more or [])
    x = FP32.decode(codes).astype(np.float64)
    exact = certified_reference(function, output, params, x, FP32)
    noise = np.random.Generator(np.random.PCG64(3)).integers(-2, 3, x.size)
    with np.errstate(all="ignore"):
        y = np.where(np.isfinite(exact.rounded), exact.rounded + noise * exact.ulp, exact.rounded)
        y = y.astype(np.float32)
    standard = Standard(Curve(function, output, params), cells(FP32, function, params), FP32)
    scorer = Scorer((standard,))
    scorer._fast = fast
    runs = standard.cells.runs(codes)
    scorer.score(x.astype(np.float32), [y], runs, Patterns.of(codes))
    (tally,) = scorer.finish()
    from precision_lab.scoring import columns as c

    rows = tally.rows
    return {
        "n": int(rows[:, c.N].sum()), "misrounded": int(rows[:, c.MISROUNDED].sum()),
        "wrong": int(rows[:, c.WRONG_SIGN].sum()), "nonfinite": int(rows[:, c.NONFINITE].sum()),
        "undecided": tally.undecided.size, "settled": tally.tiers.tolist(),
    }  # fmt: skip


@pytest.mark.parametrize("output", ["forward", "grad_x"])
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.name)
def test_pieces_count_what_arb_counts(function: Activation, output: str) -> None:
    pieces, alone = scored(function, output, fast=True), scored(function, output, fast=False)
    first = pieces.pop("settled")
    assert alone.pop("settled")[1] == 0 and first[1] > 1000  # type: ignore[index]
    assert pieces == alone and pieces["undecided"] == 0


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.name)
def test_a_pieces_bound_holds(function: Activation) -> None:
    """At random points of random pieces, the polynomial in exact arithmetic beside Arb at 300 bits."""
    e = function.bound_expression("forward", function.check_params())
    generator = np.random.Generator(np.random.PCG64(5))
    seen = 0
    for sign in (-1, 1):
        found = table(e, sign)
        c = int(found.layout[0])
        for _ in range(150):
            k = int(generator.integers(0, (found.layout.size - 3) // 2))
            split, first = (int(v) for v in found.layout[3 + 2 * k : 5 + 2 * k])
            row = first + int(generator.integers(0, 1 << split))
            if math.isinf(found.bounds[row]):
                continue
            half = 2.0 ** (c + k - split - 1)
            centre = 2.0 ** (c + k) + (2 * (row - first) + 1) * half
            u = Fraction(float(generator.uniform(-1, 1)))
            value = sum(
                (Fraction(float(b)) * u**j for j, b in enumerate(found.coefficients[row])), Fraction(0)
            )
            exact = witness(function.name, sign * (Fraction(centre) + Fraction(half) * u))
            with arithmetic(300):
                error = abs(exact - arb(value.numerator) / arb(value.denominator))
                assert error <= arb(float(found.bounds[row])), (function.name, sign, k, row)
            seen += 1
    assert seen > 100


def witness(name: str, x: Fraction) -> arb:
    """The functions of this file once more, written for Arb."""
    with arithmetic(300 + 2 * max(0, abs(x.numerator).bit_length() - x.denominator.bit_length())):
        v = arb(x.numerator) / arb(x.denominator)
        if name == "gated":
            return v / (1 + (-arb(1.702) * v).exp()) if v > 0 else v * (b := (arb(1.702) * v).exp()) / (1 + b)
        if name == "hard":
            return arb(0) if x <= -3 else v if x >= 3 else v * (v + 3) / 6
        if name == "step":
            return v.tanh() if x < Fraction(0.3) else 2 - v
        return v + v.sin() ** 2 if name == "wave" else v.exp() - (v if x > 0 else 0)


# Edges that no search finds: beyond where roots are looked for, too many, touching, at both ends of a piece.
CONDITIONS = {
    "far out": (lambda x: where(x * x > 1e10, 1 + x, 2 + x), [1e5]),
    "next to 0": (lambda x: where(x * x > 1e-20, x, 2 * x), [1e-10]),
    "for ever": (lambda x: where(sin(x) > 0, x, 0), [355.0, 710.0, 103993.0 / 33102 * 2**14]),
    "touching": (lambda x: where((x - 3) * (x - 3) <= 1e-16, 7, x), [3.0]),
    "touching 0": (lambda x: where(x * x <= 0, 7, x + 5), [2.0**-149, 2.0**-75]),
    "at a power of two": (lambda x: where(x * x >= 2.0**34, sigmoid(x), x), [2.0**17]),
    "of what jumps": (lambda x: where(where(x > 100, x * x, -x) > 2.0**40, 3, x), [100.0, 2.0**20]),
    "without a value": (lambda x: where(1 / (x - 4096) > 0, x, 1 - x), [4096.0]),
    "a root": (lambda x: sqrt(x) * x, [1.0]),
    "one over a root": (lambda x: rsqrt(x), [1.0]),
    "a logarithm": (lambda x: x * log(x), [1.0, 0.36787945]),
    "a logarithm from -1 on": (lambda x: log1p(x), [1.0]),
    "a circle": (lambda x: sqrt(4 - x * x), [2.0]),
    "values now and then": (lambda x: log(sin(x)), [4.0, 10.0, 40.0]),
    "0 and a high power": (lambda x: where(x < 0, 0, x**7 * sigmoid(x)), [1.0]),
}


@pytest.mark.parametrize("output", ["forward", "grad_x"])
@pytest.mark.parametrize("name", CONDITIONS)
def test_no_piece_reaches_across_an_edge(name: str, output: str) -> None:
    formula, around = CONDITIONS[name]
    function = Activation(name="f", title="f", expression=lift(formula(X)))
    near = [int(FP32.encode(FP32.round(np.array([e])))[0]) + k for e in around for k in range(-60, 61)]
    near = [code for code in near if code > 0]
    pieces, alone = (scored(function, output, fast=fast, more=near) for fast in (True, False))
    first = pieces.pop("settled")
    assert alone.pop("settled")[1] == 0 and first[1] > 500  # type: ignore[index]
    assert pieces == alone and pieces["undecided"] == 0


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize(("output", "wrong"), [("forward", 5003), ("grad_x", 0)])
def test_without_a_value_a_function_is_nan_and_a_gradient_anything(
    output: str, wrong: int, fast: bool
) -> None:
    """log(1 + x) left of −1, whole binades and the part of one."""
    f = Activation(name="f", title="f", expression=lift(log1p(X)))
    codes = np.array([*range(0xBF800001, 0xBF800004), *range(0xC0400000, 0xC0400000 + 5000)], np.uint64)
    x = FP32.decode(codes).astype(np.float32)
    standard = Standard(Curve(f, output, {}), cells(FP32, f, {}), FP32)
    scorer = Scorer((standard,))
    scorer._fast = fast
    y = [np.full(x.size, 3.5, np.float32)]
    scorer.score(x, y, standard.cells.runs(codes), Patterns.of(codes))
    (tally,) = scorer.finish()
    from precision_lab.scoring import columns as c

    assert int(tally.rows[:, c.NONFINITE].sum()) == int(tally.rows[:, c.MISROUNDED].sum()) == wrong
    first = min(tally.rows[:, c.NONFINITE_PATTERN].tolist())
    assert first == (0xBF800001 if wrong else c.NO_PATTERN)
    assert int(tally.rows[:, c.N].sum()) == x.size and tally.undecided.size == 0


def test_an_edge_is_a_cell_of_its_own_and_left_to_arb() -> None:
    found = cells(FP32, hard, {})
    x = FP32.decode(found.starts.astype(np.uint32))
    assert sorted(x[found.stretch == EDGE].tolist()) == [-3.0, 3.0]
    program = formula_program((Curve(hard, "forward", {}),))
    assert math.isinf(program.relative[EDGE, 0]) and math.isinf(program.absolute[EDGE, 0])


def test_sides_of_constants_are_derived() -> None:
    """d/dx of x·σ(βx): above 1/2 right of 0, below it left of 0; above 1 far right, below 0 far left."""
    program = formula_program((Curve(gated, "grad_x", gated.check_params()),))
    (near, far), pivots = program.windows[POSITIVE, 0], program.pivots[POSITIVE, 0]
    assert near.tolist() == [0.0, 2.0**-30] and pivots[0].tolist() == [0.5, 1.0]
    assert far[0] >= 4 and pivots[1].tolist() == [1.0, 1.0]
    assert program.pivots[NEAR, 0, 0].tolist() == [0.5, -1.0]
    assert program.pivots[FAR, 0, 1].tolist() == [0.0, -1.0]


def test_what_no_polynomial_follows_is_counted_and_left_to_arb() -> None:
    assert sum(count for _, count in without_piece(tables(wave, "grad_x", {})[1])) > 2**29
    assert list(without_piece(tables(gated, "grad_x", gated.check_params())[1])) == []
    # x + sin² x is x, and no more than 1 beside it: far out a line will do.
    found = compile_side(wave.bound_expression("forward", {}), 1)
    last = int(found.layout[-1])
    assert 0 < found.bounds[last] <= found.coefficients[last, 0] * 2.0**-36
    assert not found.coefficients[last, 2:].any()


def test_a_table_depends_on_the_formula_alone() -> None:
    def key_of(e: Expression) -> float:
        return float(table(e, 1).coefficients[0, 1])

    assert key_of(gated.bound_expression("forward", {"beta": 1.0})) != key_of(
        gated.bound_expression("forward", {"beta": 2.0})
    )
