"""Functions that nobody told the lab of, written by a stranger in one file: measured as its own are.

The exhaustive run holds every output of every one to mpmath at all 2^16 inputs of bf16 and of fp16.
"""

from __future__ import annotations

import ast
from pathlib import Path

import jets
import numpy as np
import pytest
from formula_witness import OUTSIDE, POLE, STRANGERS, at
from judged import faults, format_inputs, hard_inputs
from turns import one_in

import precision_lab as pl
from precision_lab.exceptions import KernelError
from precision_lab.formats import FORMATS
from precision_lab.functions import Activation, get_function
from precision_lab.oracle.certified import certified_reference
from precision_lab.oracle.plain_roots import edges_of, roots_of

HERE = Path(__file__).parent
FILE, KERNELS = HERE / "strangers.py", HERE / "kernels_of_strangers.py"
# At ±inf sin goes nowhere, and what torch returns there is compared with nothing.
NO_LIMIT = {("snake", "grad_x"), ("snake", "grad_alpha"), ("snake", "grad_grad_x")}
SIXTEEN = ("bf16", "fp16")
ALL = (*SIXTEEN, "fp32", "fp64")


def stranger(name: str) -> Activation:
    return get_function(f"{FILE}:{name}")


OUTPUTS = [(name, output) for name in STRANGERS for output in stranger(name).all_outputs]


END_OF_DOMAIN = {"log1p": -1.0, "rsqrt": 0.0}


def test_the_file_has_twenty_functions_or_more_and_the_witness_all_of_them() -> None:
    tree = ast.parse(FILE.read_text())
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    kernels = {node.name for node in ast.parse(KERNELS.read_text()).body if isinstance(node, ast.FunctionDef)}
    assert names == set(STRANGERS) == kernels and len(names) >= 20


def test_the_package_knows_nothing_of_them() -> None:
    """What is none of the lab's is spelt nowhere in it; the file imports what users import, and no more."""
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for node in ast.parse(FILE.read_text()).body
        if isinstance(node, (ast.Import, ast.ImportFrom))
    }
    assert imported == {"precision_lab", "precision_lab.math"}
    spelt = " ".join(path.read_text(encoding="utf-8") for path in Path(pl.__file__).parent.rglob("*.py"))
    for name in ("squareplus", "glu_of_strangers", "strangers"):
        assert name not in spelt, name


def test_outputs_are_x_and_every_parameter_that_is_not_fixed() -> None:
    assert stranger("gpt_oss_swiglu").outputs == ("forward", "grad_x", "grad_b", "grad_alpha", "grad_limit")
    assert stranger("softplus_beta").outputs == ("forward", "grad_x", "grad_beta")


def sampled(name: str, output: str, n: int) -> np.ndarray:
    """Hard inputs, the function's own edges, and every n-th number of both formats of 16 bits."""
    f = stranger(name)
    params = f.check_params()
    own = [*edges_of(f, params), *roots_of(f, output, params), *params.values()]
    listed = [format_inputs(fmt)[:: 1 if n == 1 else n] for fmt in SIXTEEN]
    return np.unique(np.concatenate([hard_inputs(own), *listed]))


@pytest.mark.parametrize(("name", "output"), one_in(4, OUTPUTS))
def test_values_are_those_of_the_witness_where_it_is_hard(name: str, output: str) -> None:
    """Breakpoints, roots, 0, powers of two, overflow, huge and subnormal, rounded to four formats."""
    x = sampled(name, output, 1 << 12)
    if name == "gelu_tanh_written" and output == "grad_grad_x":
        x = x[np.abs(x) < 2.0**300]  # beyond, `jets.CUT` times x⁶ is no small number
    x = x[:: max(1, x.size // 400)] if name not in ("hardswish", "softshrink") else x
    assert faults(stranger(name), output, stranger(name).check_params(), x, ALL) == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "output"), OUTPUTS)
def test_values_are_those_of_the_witness_at_all_hard_inputs(name: str, output: str) -> None:
    x = sampled(name, output, 1 << 7)
    if name == "gelu_tanh_written" and output == "grad_grad_x":
        x = x[np.abs(x) < 2.0**300]
    assert faults(stranger(name), output, stranger(name).check_params(), x, ALL) == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("fmt", SIXTEEN)
@pytest.mark.parametrize(("name", "output"), OUTPUTS)
def test_values_are_those_of_the_witness_at_every_input(name: str, output: str, fmt: str) -> None:
    x = format_inputs(fmt)
    assert x.size > 63_000
    assert faults(stranger(name), output, stranger(name).check_params(), x, (fmt,)) == []


@pytest.mark.parametrize(("name", "output"), one_in(3, OUTPUTS))
def test_nothing_is_undecided_at_any_input_of_sixteen_bits(name: str, output: str) -> None:
    """Signed zeros, infinities and NaN among them; a pole and an end of the domain too."""
    f = stranger(name)
    for fmt in SIXTEEN:
        x = FORMATS[fmt].decode(FORMATS[fmt].all_bits())
        found = certified_reference(f, output, f.check_params(), x, FORMATS[fmt])
        assert not found.undecided.any(), (fmt, x[found.undecided])
        assert found.unjudged is not None
        expected = np.isinf(x) if (name, output) in NO_LIMIT else np.zeros(x.size, np.bool_)
        if output != "forward" and name in END_OF_DOMAIN:  # a gradient where there is no function
            expected = x < END_OF_DOMAIN[name]
        assert (found.unjudged == expected).all(), (fmt, x[found.unjudged != expected])


def test_one_over_a_root_is_defined_at_both_zeros_and_nowhere_left_of_them() -> None:
    """IEEE 754 has rSqrt(±0) = ±∞ with a division by zero; −∞ is left of the domain."""
    f = stranger("rsqrt")
    found = certified_reference(f, "forward", {}, np.array([0.0, -0.0, -1.0, -np.inf]), FORMATS["bf16"])
    assert not found.undecided.any()
    assert found.rounded[0] == np.inf and np.isnan(found.rounded[2:]).all()


def test_the_logarithm_has_a_pole_at_the_end_of_its_domain() -> None:
    f = stranger("log1p")
    found = certified_reference(f, "forward", {}, np.array([-1.0, -2.0, -np.inf, np.inf]), FORMATS["bf16"])
    assert not found.undecided.any()
    assert found.rounded[0] == -np.inf and np.isnan(found.rounded[1:3]).all() and found.rounded[3] == np.inf


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_gradient_has_no_value_where_its_function_has_none(name: str) -> None:
    f = stranger(name)
    x = np.array([v for v in (-3.0, -1.5, -1.0 - 2**-7, -0.5) if OUTSIDE[name](v) and v != POLE[name]])
    for output in f.all_outputs:
        found = certified_reference(f, output, f.check_params(), x, FORMATS["bf16"])
        assert np.isnan(found.rounded).all() and not found.undecided.any(), output


def test_any_value_comes_with_as_many_bits_as_are_asked_for() -> None:
    for name, x in (
        ("snake", 1e22),
        ("softcap", 2.0**-300),
        ("hardswish", -1.5),
        ("softsign", 2.0**-1074),
    ):
        f = stranger(name)
        for output in f.outputs:
            found = pl.evaluate(f, x, output=output, bits=400)
            known = at(name, output, tuple(sorted(f.check_params().items())), 9000)(x)
            assert abs(jets.context(9000).mpf(found) - known) <= abs(known) * 2.0**-398, (name, output)
    assert pl.evaluate(stranger("hardshrink"), 0.25) == 0


def test_which_outputs_meet_at_zero() -> None:
    known = {
        "leaky_relu": ("forward", "grad_slope"), "elu_alpha": ("forward", "grad_alpha"),
        "rrelu": ("forward", "grad_lower", "grad_upper"),
        "star_relu": ("forward", "grad_x", "grad_s", "grad_b"),
        "tanhshrink": ("forward", "grad_x"),
    }  # fmt: skip
    assert {name: stranger(name).continuous for name in known} == known


# What torch's functions have a gradient for. Their numbers, such as negative_slope, are no tensors.
MEASURED = [(name, output) for name in STRANGERS for output in stranger(name).outputs]


@pytest.mark.parametrize(("name", "output"), one_in(16, MEASURED))
def test_torchs_own_function_is_measured_against_it(name: str, output: str) -> None:
    f = stranger(name)
    for fmt in SIXTEEN:
        try:
            found = pl.measure(f"{KERNELS}:{name}", f"{FILE}:{name}", fmt=fmt, output=output)
        except KernelError:
            assert output not in ("forward", "grad_x"), "torch's function has this output"
            assert not next(p for p in f.parameters if output == f"grad_{p.name}").operand
            return
        assert found.n_inputs == 1 << 16
        assert found.undecided == 0
        # Those that torch computes in float32, in one step or two, are right but for the last rounding.
        if output == "forward" and name in ("hardswish", "softshrink", "relu6", "leaky_relu", "hardtanh"):
            assert found.max_ulp <= 0.501


def test_a_wrong_kernel_is_caught_by_a_strangers_function() -> None:
    """Without its upper branch hardswish is x·(x + 3)/6 for ever."""

    def broken(x):  # type: ignore[no-untyped-def]
        return pl_where(x <= -3, 0 * x, x * (x + 3) / 6)

    from torch import where as pl_where

    found = pl.measure(broken, f"{FILE}:hardswish", fmt="bf16")
    assert found.max_ulp > 100 and found.witness is not None and found.witness.x > 3
