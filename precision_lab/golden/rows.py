"""The text of a golden table: its header, and its lines with the exact values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from mpmath.libmp import to_str
from numpy.typing import NDArray

from precision_lab.exceptions import UndecidedError
from precision_lab.formats import FloatFormat, output_format
from precision_lab.formula.expression import symbols_of
from precision_lab.functions import Activation
from precision_lab.golden.inputs import EXACT_BITS, choose_inputs, exact_tail
from precision_lab.oracle import evaluate, reference
from precision_lab.oracle.certified import limit_of
from precision_lab.oracle.curve import Curve

Float64 = NDArray[np.float64]

COLUMNS = ("set", "output", "input_bits", "input", "rounded_bits", "tail_ulps", "exact", "reason")
EXACT_DIGITS = 40


def _exact_text(curve: Curve, x: float) -> str:
    """The exact value to 40 digits; at ±inf the limit, to 15."""
    if math.isnan(x):
        return "nan"
    if math.isinf(x):
        return f"{limit_of(curve.function, curve.output, curve.params, 1 if x > 0 else -1):.15g}"
    value = evaluate(curve.function, x, curve.params, output=curve.output, bits=EXACT_BITS)
    return str(to_str(value._mpf_, EXACT_DIGITS)).removesuffix(".0")


def _nearest(curve: Curve, x: float, target: FloatFormat) -> float:
    """Correct rounding where only the exact value's binade is open (elu(-1e30) is 1 or hardly less).

    Raises:
        UndecidedError: the exact value is not within a quarter ulp of a number of the format.
    """
    value = evaluate(curve.function, x, curve.params, output=curve.output, bits=EXACT_BITS)
    candidate = target.round(np.array([float(value)]))
    tail = exact_tail(curve, x, float(candidate[0]), float(target.ulp(candidate)[0]))
    if not abs(tail) < 0.25:
        raise UndecidedError(
            f"{curve.function.name} {curve.output} at x={x!r} to {target.name}, {dict(curve.params)}"
        )
    return float(candidate[0])


def lines(curve: Curve, set_name: str, fmt: FloatFormat, x: Float64, reasons: Sequence[str]) -> list[str]:
    """The table's lines for these inputs."""
    target = output_format(fmt, curve.output)
    ref = reference(curve.function, curve.output, curve.params, x, target)
    rounded = ref.rounded.copy()
    for i in np.flatnonzero(ref.undecided).tolist():
        rounded[i] = _nearest(curve, float(x[i]), target)
    # A zero's sign carries no claim, except that a negative value that rounds to zero keeps its own.
    rounded = np.where((rounded == 0) & (ref.sign >= 0), 0.0, rounded)
    rounded_bits = target.encode(rounded)
    lines = []
    for i, (value, bits) in enumerate(zip(x.tolist(), fmt.encode(x).tolist(), strict=True)):
        if not math.isfinite(rounded[i]):
            tail = "nan"
        elif math.isinf(value):
            tail = f"{ref.tail[i]:.6g}"
        else:
            tail = f"{exact_tail(curve, value, float(rounded[i]), float(ref.ulp[i])):.6g}"
        cells = (
            set_name,
            curve.output,
            f"0x{bits:0{fmt.bits // 4}x}",
            repr(value),
            f"0x{int(rounded_bits[i]):0{target.bits // 4}x}",
            tail,
            _exact_text(curve, value),
            reasons[i],
        )
        lines.append("\t".join(cells))
    return lines


def _tabled(function: Activation) -> Iterator[tuple[str, str, dict[str, float]]]:
    """(set, output, params) of a table: one set alone where the output does not depend on parameters."""
    for n, (set_name, values) in enumerate(function.parameter_sets.items()):
        for output in function.outputs + (function.raw_outputs if n == 0 else ()):
            if n == 0 or symbols_of(function.output_expression(output)) - {"x"}:
                yield set_name, output, function.check_params(values)


def header(function: Activation, fmt: FloatFormat) -> list[str]:
    gradients = output_format(fmt, "grad_x").name
    lines = [
        "# precision_lab golden table, version 1; columns are explained in README.md beside tables/",
        f"# function: {function.name}",
        f"# definition: {function.formula}",
        f"# source: {function.source}",
        f"# input format: {fmt.name}; forward rounded to {fmt.name}, gradients to {gradients}",
    ]
    for name, values in function.parameter_sets.items():
        texts = (f"{key}={value!r} ({value.hex()})" for key, value in function.check_params(values).items())
        lines.append(f"# parameters {name}: {', '.join(texts) or 'none'}")
    return [*lines, "\t".join(COLUMNS)]


def table_text(function: Activation, fmt: FloatFormat) -> str:
    """The whole file of one function and input format."""
    text = header(function, fmt)
    for set_name, output, params in _tabled(function):
        curve = Curve(function, output, params)
        x, reasons = choose_inputs(curve, fmt)
        text += lines(curve, set_name, fmt, x, reasons)
    return "\n".join(text) + "\n"


__all__ = ["COLUMNS", "header", "lines", "table_text"]
