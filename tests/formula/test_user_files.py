"""Functions out of a user's file, and what is said of those that are none: one clear sentence each."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

import precision_lab as pl
from precision_lab.exceptions import UsageError
from precision_lab.functions import FUNCTIONS, activation, get_function
from precision_lab.functions.loading import from_file
from precision_lab.math import exp, minimum, piecewise, sigmoid, sin, tanh, where

HEAD = "import precision_lab as pl\nfrom precision_lab.math import *\n"


def written(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(HEAD + text)
    return path


def sentence(caught: pytest.ExceptionInfo[UsageError]) -> str:
    message = str(caught.value)
    assert "\n" not in message and "Traceback" not in message and len(message) < 500
    return message


# -- piecewise ----------------------------------------------------------------------------


def test_pieces_that_agree_are_one_function() -> None:
    f = activation(lambda x: piecewise((x <= 0, 0 * x), (x >= 0, x)))
    assert f.expression is where(f.expression.args[0], f.expression.args[1], f.expression.args[2])


def test_pieces_that_disagree_are_refused_with_the_place_and_both_values() -> None:
    with pytest.raises(UsageError) as caught:
        activation(name="step")(lambda x: piecewise((x <= 1, 0), (x >= 1, x)))
    message = sentence(caught)
    assert message.startswith("step: ") and "x=1.0" in message and "0 and 1" in message


def test_pieces_that_overlap_with_other_values_are_refused() -> None:
    with pytest.raises(UsageError, match="disagrees with itself at x="):
        activation(name="f")(lambda x: piecewise((x < 2, x), (x > 1, x * x)))


def test_pieces_that_disagree_between_edges_alone_are_refused() -> None:
    with pytest.raises(UsageError, match="disagrees with itself"):
        activation(name="f")(lambda x: piecewise((x < 2, x), ((x > 1) & (x < 1.5), 3 * x), (x >= 2, x)))


def test_a_gap_is_refused_with_its_place() -> None:
    with pytest.raises(UsageError) as caught:
        activation(name="f")(lambda x: piecewise((x < -1, 0), (x > -1, x)))
    message = sentence(caught)
    assert "no value at x=-1.0" in message and "no condition holds there" in message


def test_a_gap_far_out_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no value at x=1\.0"):
        activation(name="f")(lambda x: piecewise((x < 0, 0), ((x >= 0) & (x < 1), x)))


def test_irrational_pieces_that_disagree_are_refused() -> None:
    """e¹ and 3 are two values at 1, which Arb tells apart."""
    with pytest.raises(UsageError, match="disagrees with itself at x=1"):
        activation(name="f")(lambda x: piecewise((x <= 1, exp(x)), (x >= 1, 3)))


def test_otherwise_fills_gaps() -> None:
    f = activation(lambda x: piecewise((x < -1, 0), (x > 1, x), otherwise=3))
    assert f.expression.args[2].args[2].args == (3,)


def test_a_gap_at_an_edge_that_no_float_is_shows() -> None:
    """x < 1/3 and x > 1/3 leave out a number that no format has, which is a gap all the same."""
    from fractions import Fraction

    third = Fraction(1, 3)
    with pytest.raises(UsageError, match=r"no value at x=0\.333"):
        activation(lambda x: piecewise((x < third, 0), (x > third, x)))


def test_edges_that_parameters_move_are_checked_where_they_are() -> None:
    @activation(low=-1.0, high=1.0)
    def clipped(x, low, high):  # type: ignore[no-untyped-def]
        return piecewise((x <= low, low), ((x > low) & (x < high), x), (x >= high, high))

    assert pl.evaluate(clipped, 0.25) == 0.25 and pl.evaluate(clipped, 3.0, params={"high": 2.0}) == 2.0
    with pytest.raises(ValueError, match=r"disagrees .* x=-2\.0, low=1\.5, high=-2\.0: .* 1\.5 and −2"):
        pl.evaluate(clipped, 3.0, params={"low": 1.5, "high": -2.0})
    with pytest.raises(ValueError, match=r"no value at x=1\.0, t=1\.0: no condition"):
        activation(t=1.0, name="gap")(lambda x, t: piecewise((x < t, 0), (x > t, x)))


def test_conditions_that_are_not_rational_are_checked() -> None:
    waves = activation(lambda x: piecewise((sin(x) > 0, x), (sin(x) <= 0, 0)))
    assert pl.evaluate(waves, 2.0) == 2.0
    with pytest.raises(ValueError, match="no value at x="):
        activation(name="gap")(lambda x: piecewise((exp(x) > 2, x), (exp(x) <= 1, 0)))
    with pytest.raises(ValueError, match="disagrees with itself at x="):
        activation(name="both")(lambda x: piecewise((exp(x) > 1, x), (x < 2, 3)))


def test_no_pieces_and_no_comparisons_are_refused() -> None:
    with pytest.raises(UsageError, match="at least one"):
        activation(lambda x: piecewise())
    with pytest.raises(UsageError, match="no pair of a comparison and a value"):
        activation(lambda x: piecewise((x, 0)))
    with pytest.raises(UsageError, match="no pair of a comparison and a value"):
        activation(lambda x: piecewise(x > 0, 0))


# -- files -------------------------------------------------------------------------------------


def test_a_function_of_a_file_knows_where_it_is_from(tmp_path: Path) -> None:
    path = written(tmp_path, "@pl.activation(beta=1.5)\ndef f(x, beta):\n    return x * sigmoid(beta * x)\n")
    f = get_function(f"{path}:f")
    assert f.name == "f" and f.home == f"{path}:f" and f.check_params() == {"beta": 1.5}


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    import os

    path = written(tmp_path, "@pl.activation\ndef f(x):\n    return 2 * x\n")
    before = from_file(f"{path}:f")
    path.write_text(HEAD + "@pl.activation\ndef f(x):\n    return 3 * x\n")
    os.utime(path, (1, 1))
    assert from_file(f"{path}:f").expression is not before.expression


def test_a_file_may_import_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "constants_of_mine.py").write_text("BETA = 3.0\n")
    text = "from constants_of_mine import BETA\n"
    text += "@pl.activation(beta=BETA)\ndef f(x, beta):\n    return beta * x\n"
    assert get_function(f"{written(tmp_path, text)}:f").check_params() == {"beta": 3.0}


FILES = {
    "syntax": ("def f(x:\n", "f", ("mine.py cannot be imported: SyntaxError", "line 3")),
    "raises": ("1 / 0\n", "f", ("mine.py cannot be imported: ZeroDivisionError", "line 3")),
    "no such import": (
        "import there_is_no_such_module\n",
        "f",
        ("mine.py cannot be imported: ModuleNotFoundError",),
    ),
    "refused": ("@pl.activation\ndef f(x):\n    return x % 2\n", "f", ("f: a formula cannot use %",)),
    "no default": (
        "@pl.activation\ndef f(x, a):\n    return x * a\n",
        "f",
        ("a has no default", "operands=('a',)"),
    ),
    "no activation": ("def f(x):\n    return x\n", "f", ("f is a function", "@pl.activation")),
    "unknown": ("@pl.activation\ndef quick(x):\n    return x\n", "quik", ("quik", "quick")),
    "empty": ("", "f", ("f",)),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_has_no_such_function_says_why(name: str, tmp_path: Path) -> None:
    text, wanted, words = FILES[name]
    with pytest.raises(UsageError) as caught:
        get_function(f"{written(tmp_path, text)}:{wanted}")
    message = sentence(caught)
    assert all(word in message for word in words), message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"the file .*none\.py.* does not exist"):
        get_function(f"{tmp_path / 'none.py'}:f")
    with pytest.raises(UsageError):
        get_function(f"{tmp_path}:f")


# -- namesakes -----------------------------------------------------------------------------------


def test_a_namesake_that_is_the_same_function_is_taken(tmp_path: Path) -> None:
    path = written(tmp_path, "@pl.activation\ndef silu(x):\n    return x / (1 + exp(-x))\n")
    assert get_function(f"{path}:silu").home
    # A parameter that only one has is at its default the same function; results name its value.
    formula = "@pl.activation(beta=1.0)\ndef silu(x, beta):\n    return x * sigmoid(beta * x)\n"
    assert get_function(f"{written(tmp_path, formula)}:silu").parameters[0].default == 1.0


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("@pl.activation\ndef silu(x):\n    return x * sigmoid(1.702 * x)\n", "silu:another"),
        ("@pl.activation\ndef relu(x):\n    return where(x > 0, x, 0.001 * x)\n", "relu:another"),
        (
            "@pl.activation\ndef gelu(x):\n    return 0.5*x*(1+tanh(0.7978845608028654*(x+0.044715*x**3)))\n",
            "gelu:another",
        ),
    ],
    ids=["quick gelu", "leaky relu", "tanh gelu"],
)
def test_a_namesake_that_is_another_function_is_refused(formula: str, words: str, tmp_path: Path) -> None:
    name, _, kind = words.partition(":")
    with pytest.raises(UsageError) as caught:
        get_function(f"{written(tmp_path, formula)}:{name}")
    message = sentence(caught)
    assert f"the lab has a function '{name}' of its own" in message and "another name" in message
    assert ("other parameters" if kind == "parameters" else " at x=") in message


def test_a_formula_written_otherwise_keeps_the_fast_tiers_where_it_is_recognised() -> None:
    """And the same values where it is not: that is `test_certified_values`."""
    again = activation(lambda x: x / (1 + exp(-x)))
    assert again.sides == FUNCTIONS["silu"].sides is not None
    assert activation(lambda x: minimum(x, 3) * tanh(x)).sides is None
    assert activation(lambda x: x * sigmoid(1.702 * x)).sides is None


def test_a_sum_that_cancels_next_to_0_has_pieces_of_its_own() -> None:
    """x − tanh x by its terms would leave most inputs to the slow tiers; x − 2·tanh x does not."""
    assert activation(lambda x: x - tanh(x)).sides is None
    assert activation(lambda x: x - 2 * tanh(x)).sides is not None
    assert activation(lambda x: sigmoid(x) - Fraction(1, 2) - x / 4).sides is None


def test_a_file_may_hold_dataclasses(tmp_path: Path) -> None:
    text = (
        "from dataclasses import dataclass\n@dataclass\nclass Gate:\n    slope: 'float' = 2.0\n"
        "@pl.activation\ndef gated(x):\n    return x * sigmoid(Gate().slope * x)\n"
    )
    path = tmp_path / "mine.py"
    path.write_text("from __future__ import annotations\n" + HEAD + text)
    assert from_file(f"{path}:gated").formula == "x·σ(2·x)"
