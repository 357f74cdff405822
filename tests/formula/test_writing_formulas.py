"""Formulas as text, LaTeX, keys and lists of operations."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from typing import Any

import pytest

from precision_lab.formula.expression import Expression, X, symbol
from precision_lab.formula.writing import key, latex, operations, text
from precision_lab.functions import FUNCTIONS
from precision_lab.math import atan, erf, exp, minimum, pi, sigmoid, sqrt, tanh, where

A = symbol("alpha")
WRITTEN: list[tuple[Expression, str, str]] = [
    (X * sigmoid(1.702 * X), "x·σ(1.702·x)", r"x \, \sigma\left(1.702 \, x\right)"),
    (X - (X - 1), "x − (x − 1)", r"x - \left(x - 1\right)"),
    ((X - X) - 1, "x − x − 1", r"x - x - 1"),
    (X / (X / 2), "x/(x/2)", r"\frac{x}{\frac{x}{2}}"),
    (X / (X * 2), "x/(x·2)", r"\frac{x}{x \, 2}"),
    ((X + 1) * A, "(x + 1)·α", r"\left(x + 1\right) \, \alpha"),
    (-(X + 1), "−(x + 1)", r"-\left(x + 1\right)"),
    ((-X) ** 2, "(−x)²", r"\left(-x\right)^{2}"),
    (-(X**2), "−x²", r"-x^{2}"),
    ((X**2) ** 3, "(x²)³", r"\left(x^{2}\right)^{3}"),
    (X ** (A + 1), "x^(α + 1)", r"x^{\alpha + 1}"),
    (X ** Fraction(1, 3), "x^(1/3)", r"x^{\frac{1}{3}}"),
    (X * Fraction(1, 3), "x·1/3", r"x \, \frac{1}{3}"),
    (X / Fraction(1, 3), "x/(1/3)", r"\frac{x}{\frac{1}{3}}"),
    (X - (-2), "x − (−2)", r"x - \left(-2\right)"),
    (2.5e-8 * X, "2.5e-08·x", r"2.5e-08 \, x"),
    (atan(X) / pi, "arctan(x)/π", r"\frac{\arctan\left(x\right)}{\pi}"),
    (sqrt(X), "sqrt(x)", r"\sqrt{x}"),
    (symbol("alpha_n") * X, "α_n·x", r"\alpha_{n} \, x"),
    (where(X > 0, X, 1), "{x if x > 0; else 1}",
     r"\begin{cases} x & x > 0 \\ 1 & \text{else} \end{cases}"),
    (where(X > 0, X, 0), "max(x, 0)", r"\max\left(x, 0\right)"),
    (minimum(X, A), "min(x, α)", r"\min\left(x, \alpha\right)"),
    (abs(X - 1), "|x − 1|", r"\left|x - 1\right|"),
    (where(X <= -3, 0, where(X >= 3, X, 2)), "{0 if x ≤ −3; x if x ≥ 3; else 2}",
     r"\begin{cases} 0 & x \le -3 \\ x & x \ge 3 \\ 2 & \text{else} \end{cases}"),
    (where(X <= A, 1, exp(X)), "{1 if x ≤ α; else exp(x)}",
     r"\begin{cases} 1 & x \le \alpha \\ \exp\left(x\right) & \text{else} \end{cases}"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("e", "words", "mathematics"), WRITTEN, ids=lambda v: v if isinstance(v, str) else ""
)
def test_formulas_read_as_they_were_written(e: Expression, words: str, mathematics: str) -> None:
    assert text(e) == words == repr(e)
    assert latex(e) == mathematics


def _read(words: str, x: float) -> float:
    """Text as Python reads it, which has the same rules for brackets."""
    names: dict[str, Any] = {"x": Fraction(x), "α": Fraction(3, 7)}
    for k, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹"):
        words = words.replace(digit, f"**{k}")
    return float(eval(words.replace("·", "*").replace("−", "-").replace("^", "**"), {}, names))


def test_text_has_all_the_brackets_that_it_needs() -> None:
    """Every pair of operations, one inside the other on either side, read back by Python."""
    from precision_lab.formula.rewriting import bound

    two = [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: a / b]
    one = [lambda a: -a, lambda a: a**2, lambda a: a - 5, lambda a: 3 / a]
    inner = [f(X, A) for f in two] + [f(X) for f in one]
    outer = (
        [f(e, A) for f in two for e in inner]
        + [f(X, e) for f in two for e in inner]
        + [f(e) for f in one for e in inner]
    )
    for e in outer:
        value = bound(e, {"x": Fraction(11, 4), "alpha": Fraction(3, 7)})
        assert _read(text(e), 2.75) == pytest.approx(float(value.args[0]), rel=2.0**-50), text(e)


def _expressions() -> list[Expression]:
    different = [e for e, _, _ in WRITTEN] + [
        f.output_expression(o) for f in FUNCTIONS.values() for o in f.all_outputs
    ]
    return [
        *dict.fromkeys(different),
        X + A,
        A + X,
        X * sigmoid(X),
        X / (1 + exp(-X)),
        where(X < 0, 1, 0),
        where(X <= 0, 1, 0),
    ]


def test_keys_are_equal_where_expressions_are() -> None:
    different = list(dict.fromkeys(_expressions()))
    keys = [key(e) for e in different]
    assert len(set(keys)) == len(keys) > 100
    assert key(X * tanh(X)) == key(symbol("x") * tanh(symbol("x")))


def test_keys_tell_numbers_from_symbols_and_conditions_from_values() -> None:
    assert key(X + 1) != key(X + symbol("1"))
    assert key(where(X < 0, A, X)) != key(where(X < A, 0, X)) != key(where(A < 0, X, X))


PROGRAM = """
from precision_lab.formula.writing import key
from precision_lab.functions import FUNCTIONS
print([key(f.output_expression(o)) for f in FUNCTIONS.values() for o in f.all_outputs])
"""


@pytest.mark.slow
def test_keys_are_the_same_in_every_process() -> None:
    """A cache outlives the process: Python's own hashes of text do not."""
    said = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM], env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    here = [key(f.output_expression(o)) for f in FUNCTIONS.values() for o in f.all_outputs]
    assert said[0] == said[1] == f"{here}\n"


def test_operations_come_after_what_they_are_of() -> None:
    e = where(X > 0, (X + 1) * exp(X + 1), erf(X))
    found = operations(e)
    assert [o.kind for o in found] == ["add", "exp", "mul", "erf", "where"]
    assert found[-1] is e and len(set(found)) == len(found)
    assert operations(X) == () == operations(pi)
