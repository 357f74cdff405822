"""What functions and their gradients are, as text and as LaTeX, for a report."""

from __future__ import annotations

from typing import Any

from precision_lab.formula.expression import symbol
from precision_lab.formula.writing import latex, text
from precision_lab.functions import Activation


def equations(function: Activation) -> dict[str, Any]:
    """Name, title, source, and the equation of each output."""
    found = []
    for output in function.outputs:
        e = function.expression if output == "forward" else function.output_expression(output)
        by = "x" if output == "grad_x" else output.removeprefix("grad_")
        shown, tex = ("y", "y") if output == "forward" else _slope(by)
        found.append({"text": f"{shown} = {text(e)}", "latex": f"{tex} = {latex(e)}"})
    return {"name": function.name, "title": function.title, "source": function.source, "equations": found}


def _slope(by: str) -> tuple[str, str]:
    """∂y/∂ a symbol."""
    variable = symbol(by)
    return f"∂y/∂{text(variable)}", rf"\frac{{\partial y}}{{\partial {latex(variable)}}}"


__all__ = ["equations"]
