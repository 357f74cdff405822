"""What a formula may be written with, in every spelling, and what it may not, named."""

from __future__ import annotations

import math
import operator
import pickle
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import precision_lab.math as lab
from precision_lab.exceptions import UsageError
from precision_lab.formula.expression import FUNCTIONS, Expression, X, lift, node, number, symbol, symbols_of
from precision_lab.functions import activation

ONE_ARGUMENT = {
    "exp": "exp", "expm1": "expm1", "exp2": "exp2", "log": "log", "log1p": "log1p", "sqrt": "sqrt",
    "sin": "sin",
    "cos": "cos", "tan": "tan", "tanh": "tanh", "sinh": "sinh", "cosh": "cosh", "atan": "arctan",
}  # fmt: skip


@pytest.mark.parametrize(
    "operate",
    [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow],
    ids=lambda o: o.__name__,
)
def test_operators_take_numbers_on_either_side(operate: Callable[[Any, Any], Any]) -> None:
    kind = {"truediv": "div", "pow": "power"}.get(operate.__name__, operate.__name__)
    for other in (2, 0.5, Fraction(1, 3), Decimal("0.1"), np.float32(0.25), np.int64(3), symbol("alpha")):
        assert operate(X, other) is node(kind, X, lift(other))
        if kind == "power" and isinstance(other, Fraction):
            continue  # Python's Fraction makes a float of itself before x is asked (until 3.12)
        assert operate(other, X) is node(kind, lift(other), X)
    assert lab.power(Fraction(1, 3), X) is node("power", number(Fraction(1, 3)), X)


def test_signs_and_sizes_are_traced() -> None:
    assert -X is node("neg", X) and +X is X
    assert abs(X) is lab.where(X < 0, -X, X) is lab.absolute(X)


def test_a_float_is_the_number_that_it_is() -> None:
    assert lift(0.1).args[0] == Fraction(0.1) != Fraction(1, 10)
    assert lift(np.float32(0.1)).args[0] == Fraction(float(np.float32(0.1)))


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_every_function_has_one_name_for_all_who_write_it(kind: str) -> None:
    function = getattr(lab, kind)
    assert function(X) is node(kind, X) is getattr(X, kind)()
    assert function(2) is node(kind, number(2))


@pytest.mark.parametrize("kind", ONE_ARGUMENT)
def test_numpy_functions_are_the_labs(kind: str) -> None:
    assert getattr(np, ONE_ARGUMENT[kind])(X) is node(kind, X)


def test_numpy_functions_of_two() -> None:
    assert np.maximum(X, 2) is lab.maximum(X, 2) and np.minimum(2.0, X) is lab.minimum(2, X)
    assert np.add(X, 2) is X + 2 and np.multiply(2, X) is 2 * X and np.power(X, 3) is X**3
    assert np.negative(X) is -X and np.abs(X) is abs(X) and np.square(X) is X**2
    assert np.float64(2) * X is 2 * X and np.float64(2) - X is 2 - X


def test_torch_functions_are_the_labs() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for kind in (*ONE_ARGUMENT, "sigmoid", "erf", "erfc", "rsqrt"):
        assert getattr(torch, kind)(X) is node(kind, X), kind
    assert torch.nn.functional.softplus(X, beta=2, threshold=20) is lab.softplus(X, 2, 20)
    assert torch.nn.functional.relu(X) is lab.relu(X) and torch.square(X) is X**2
    assert torch.clamp(X, min=-1, max=2) is lab.clamp(X, -1, 2) is X.clamp(max=2, min=-1)
    assert torch.where(X > 0, X, 0) is lab.where(X > 0, X, 0)
    assert torch.maximum(X, symbol("b")) is lab.maximum(X, symbol("b"))


def test_what_is_made_of_others() -> None:
    assert lab.clamp(X, -1, 2) is lab.minimum(lab.maximum(X, -1), 2)
    assert lab.clamp(X, max=2) is lab.minimum(X, 2) and lab.clamp(X) is X
    assert lab.square(X) is X**2 is lab.power(X, 2)
    assert lab.relu(X) is lab.where(X > 0, X, 0)
    assert lab.sign(X) is lab.where(X > 0, 1, lab.where(X < 0, -1, 0))
    assert lab.softplus(X) is node("softplus", X)


def test_a_limit_of_a_clamp_is_taken_from_x() -> None:
    """Where both are equal, the first counts, and with it its slope."""
    assert lab.maximum(X, 3) is lab.where(X >= 3, X, 3) and lab.minimum(X, 3) is lab.where(X <= 3, X, 3)


def test_conditions_are_joined_as_numpys_are() -> None:
    inside = lab.where((X > 0) & (X < 1), X, 2)
    assert inside is lab.where(X > 0, lab.where(X < 1, X, 2), 2)
    assert lab.where((X > 0) | (X < -1), X, 2) is lab.where(X > 0, X, lab.where(X < -1, X, 2))
    assert lab.where(~(X > 0), X, 2) is lab.where(X <= 0, X, 2)
    assert lab.where(~((X > 0) & (X < 1)), 1, 0) is lab.where((X <= 0) | (X >= 1), 1, 0)


def test_symbols_are_x_parameters_and_operands() -> None:
    f = activation(operands=("b",), alpha=1.0)(lambda x, b, alpha: lab.where(x > alpha, b, 0))
    assert symbols_of(f.expression) == {"x", "b", "alpha"}


def test_one_expression_is_one_object_even_out_of_a_pickle() -> None:
    e = lab.where(
        (X > 0.1) & (symbol("a") >= X), lab.gelu(X) if hasattr(lab, "gelu") else lab.erf(X / 2), lab.pi**-2
    )
    assert pickle.loads(pickle.dumps(e)) is e
    assert pickle.loads(pickle.dumps(X < 3)) is (X < 3)


def _if(x: Any) -> Any:
    return x if x > 0 else 0 * x


def _torch(name: str) -> Callable[[Any], Any]:
    def formula(x: Any) -> Any:
        torch = pytest.importorskip("torch", reason="torch is not installed")
        return getattr(torch, name)(x)

    return formula


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "%": (lambda x: x % 2, "%"),
    "number % x": (lambda x: 2 % x, "%"),
    "//": (lambda x: x // 2, "//"),
    "round": (lambda x: round(x), "round"),
    "round to digits": (lambda x: round(x, 2), "round"),
    "@": (lambda x: x @ x, "@"),
    "math.exp": (lambda x: math.exp(x), "precision_lab.math"),
    "float": (lambda x: float(x), "precision_lab.math"),
    "int": (lambda x: int(x), "precision_lab.math"),
    "math.floor": (lambda x: math.floor(x), "precision_lab.math"),
    "np.floor": (lambda x: np.floor(x), "numpy.floor"),
    "np.sign": (lambda x: np.rint(x), "numpy.rint"),
    "np.cbrt": (lambda x: np.cbrt(x), "numpy.cbrt"),
    "torch.floor": (_torch("floor"), "torch's floor"),
    "torch.lgamma": (_torch("lgamma"), "torch's lgamma"),
    "method": (lambda x: x.erfinv(), ".erfinv"),
    "if": (_if, "where(condition, value, otherwise)"),
    "and": (lambda x: (x > 0) and x, "where(condition, value, otherwise)"),
    "chain": (lambda x: lab.where(0 < x < 1, x, 0), "(a < x) & (x < b)"),
    "max()": (lambda x: max(x, 0), "maximum"),
    "min()": (lambda x: min(0, x), "minimum"),
    "truth": (lambda x: x or 1, "where"),
    "==": (lambda x: lab.where(x == 0, 1, x), "(x <= 0) & (x >= 0)"),
    "& of numbers": (lambda x: x & 1, "brackets"),
    "comparison as number": (lambda x: x * (x > 0), "where(condition, 1, 0)"),
    "index": (lambda x: x[0], "one number"),
    "iteration": (lambda x: sum(x), "one number"),
    "infinity": (lambda x: lab.minimum(x, math.inf), "finite"),
    "nan": (lambda x: x + math.nan, "finite"),
    "text": (lambda x: x + "1", "'1'"),
    "none": (lambda x: None, "None"),
    "True": (lambda x: x + True, "True"),
    "array": (lambda x: x + np.ones(3), "number"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_certified_evaluation_is_refused_by_its_name(name: str) -> None:
    formula, word = REFUSED[name]
    with pytest.raises(UsageError) as caught:
        activation(name="mine")(formula)
    message = str(caught.value)
    assert word in message and message.startswith("mine: ")
    assert "\n" not in message and len(message) < 600


def test_refusals_are_what_python_expects_of_them() -> None:
    """hasattr, float() and numpy probe objects and expect AttributeError and TypeError."""
    assert not hasattr(X, "erfinv") and not hasattr(X, "__len__")
    with pytest.raises(TypeError):
        float(X)


BAD_DEFINITIONS: dict[str, tuple[Callable[[], Any], str]] = {
    "no x": (lambda: activation(lambda y: y), "the first argument of a formula is x"),
    "nothing": (lambda: activation(lambda: 1), "the first argument of a formula is x"),
    "no default": (lambda: activation(lambda x, alpha: x * alpha), "alpha has no default"),
    "stars": (lambda: activation(lambda x, *rest: x), "no * and **"),
    "unknown parameter": (lambda: activation(beta=1.0)(lambda x, betas=1.0: x * betas), "betas"),
    "no number": (lambda: activation(beta="one")(lambda x, beta: x * beta), "beta='one'"),
    "operand": (lambda: activation(operands=("c",))(lambda x, b=1.0: x * b), "operands"),
    "raw": (lambda: activation(a=1.0, raw={"a": "exp"})(lambda x, a: x * a), "softplus"),
    "limits": (lambda: activation(limits={"grad_y": (0.0, 1.0)})(lambda x: x), "grad_y"),
    "positional": (lambda: activation(1.0), "keywords"),
    "raises": (lambda: activation(lambda x: x + {}["a"]), "KeyError"),
}


@pytest.mark.parametrize("name", BAD_DEFINITIONS)
def test_a_definition_that_is_none_says_what_is_missing(name: str) -> None:
    define, words = BAD_DEFINITIONS[name]
    with pytest.raises(UsageError) as caught:
        define()
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_pythons_own_defaults_count() -> None:
    f = activation(lambda x, beta=2.0, *, gamma=3.0: x * beta + gamma)
    assert {p.name: p.default for p in f.parameters} == {"beta": 2.0, "gamma": 3.0}
    assert f.outputs == ("forward", "grad_x", "grad_beta", "grad_gamma")
    assert isinstance(f.expression, Expression)
