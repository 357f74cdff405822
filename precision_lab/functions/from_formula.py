"""Activations from a user's few lines: `pl.activation` traces a Python function once.

And that is the definition.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from precision_lab.exceptions import UsageError, first_line, unknown_name
from precision_lab.formula.claims import Claim, claims
from precision_lab.formula.expression import Expression, lift, symbol
from precision_lab.functions.base import Activation, Monotone, Parameter

OPERAND = 1.5  # what an operand is where one number stands for it
_RAW = ("softplus", "softplus+beta", "identity")
Formula = Callable[..., Any]


@overload
def activation(formula: Formula, /) -> Activation: ...
@overload
def activation(
    *,
    operands: Sequence[str] = ...,
    name: str = ...,
    title: str = ...,
    source: str = ...,
    formula: str = ...,
    raw: Mapping[str, str] = ...,
    positive: Sequence[str] = ...,
    fixed: Sequence[str] = ...,
    limits: Mapping[str, tuple[float | None, float | None]] = ...,
    laws: Sequence[Monotone] = ...,
    parameter_sets: Mapping[str, Mapping[str, float]] = ...,
    domain: str = ...,
    **defaults: float,
) -> Callable[[Formula], Activation]: ...


def activation(*given: Any, **options: Any) -> Any:
    """A function of its formula: plain Python over x and parameters, in the words of `precision_lab.math`.

    >>> from precision_lab.math import sigmoid
    >>> @activation(beta=1.702)
    ... def quick_gelu(x, beta):
    ...     return x * sigmoid(beta * x)
    >>> quick_gelu.outputs
    ('forward', 'grad_x', 'grad_beta')

    The gradients for x, every parameter and every operand follow from it. A float in a formula is the float64
    number that it is; `fractions.Fraction` says others exactly.

    Args:
        operands: parameters that are inputs of their own, one number for every x, as the gate of SwiGLU.
        name, title: the Python function's name where they are left out.
        source: where it is defined.
        formula: as people write it; written out from the code where it is left out.
        raw: constraint of a trained parameter: {"alpha": "softplus"}, "softplus+beta" or "identity".
        positive: parameters of which only values > 0 make sense.
        fixed: parameters without a gradient.
        limits: limits at −∞ and +∞ by output where none can be derived, {"forward": (0.0, None)}.
        laws, parameter_sets, domain: as `Activation` has them.
        defaults: of the parameters; those of the Python function count as well.

    Raises:
        ValueError: the function does not begin with x, a parameter has no default, or the formula uses what
            cannot be evaluated with proof.
    """
    if len(given) == 1 and callable(given[0]) and not options:
        return _made(given[0], {})
    if given:
        raise UsageError("activation takes keywords: @activation(beta=1.702) before a function of x and beta")
    return lambda function: _made(function, options)


_OPTIONS = (
    "operands", "name", "title", "source", "formula", "raw", "positive", "fixed", "limits", "laws",
    "parameter_sets", "domain",
)  # fmt: skip


def _made(function: Formula, options: Mapping[str, Any]) -> Activation:
    name = options.get("name", getattr(function, "__name__", "formula"))
    said = {key: value for key, value in options.items() if key in _OPTIONS}
    defaults = {key: value for key, value in options.items() if key not in _OPTIONS}
    names, own = _signature(function, name)
    for key in defaults:
        if key not in names:
            raise unknown_name(f"parameter of {name}", key, names)
    operands = tuple(said.get("operands", ()))
    values = {**dict.fromkeys(operands, OPERAND), **own, **defaults}
    groups = {key: tuple(said.get(key, ())) for key in ("positive", "fixed")} | {"operands": operands}
    for group, members in [*groups.items(), ("raw", tuple(said.get("raw", {})))]:
        for member in members:
            if member not in names:
                raise unknown_name(f"name in {group} of {name}", member, names)
    raw = dict(said.get("raw", {}))
    if wrong := {key: how for key, how in raw.items() if how not in _RAW}:
        raise UsageError(f"raw={wrong!r} of {name}: a constraint is one of {', '.join(_RAW)}")
    if missing := [key for key in names if key not in values]:
        raise UsageError(
            f"{name}: {', '.join(missing)} has no default; write @activation({missing[0]}=1.0), or "
            "name it an operand: "
            f"operands=({missing[0]!r},)"
        )
    parameters = tuple(
        Parameter(
            key,
            _number(name, key, values[key]),
            trainable=key not in groups["fixed"],
            positive=key in groups["positive"],
            raw=raw.get(key),
            operand=key in operands,
        )
        for key in names
    )
    expression, told = _traced(function, name, names)
    found = Activation(
        name=name,
        title=said.get("title", name),
        expression=expression,
        source=said.get("source", ""),
        parameters=parameters,
        formula=said.get("formula", ""),
        laws=tuple(said.get("laws", ())),
        domain=said.get("domain", "all real x"),
        parameter_sets=dict(said.get("parameter_sets", {})),
        limits=dict(said.get("limits", {})),
        claims=told,
        home=_home(function),
    )
    found.check_params()
    for output in found.limits:
        found.check_output(output)
    return found


_PACKAGE = Path(__file__).parents[1]


def _home(function: Formula) -> str:
    """FILE:NAME of a function at the top of a user's file; "" where no other process could find it so."""
    file = inspect.getsourcefile(function) if inspect.isfunction(function) else None
    if not file or "<" in function.__qualname__ or "." in function.__qualname__:
        return ""
    path = Path(file).resolve()
    return f"{path}:{function.__name__}" if path.is_file() and _PACKAGE not in path.parents else ""


def _signature(function: Formula, name: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Names of the parameters beside x, and the defaults that Python knows."""
    parameters = list(inspect.signature(function).parameters.values())
    if not parameters or parameters[0].name != "x":
        raise UsageError(f"{name}: the first argument of a formula is x; got {inspect.signature(function)}")
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    if any(p.kind not in kinds for p in parameters):
        raise UsageError(f"{name}: a formula takes x and named parameters, no * and **")
    rest = parameters[1:]
    return tuple(p.name for p in rest), {p.name: p.default for p in rest if p.default is not p.empty}


def _number(name: str, key: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{key}={value!r} of {name}: a default is one number") from error


def _traced(function: Formula, name: str, names: tuple[str, ...]) -> tuple[Expression, tuple[Claim, ...]]:
    with claims() as told:
        try:
            result = lift(function(symbol("x"), **{key: symbol(key) for key in names}))
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from error
        except Exception as error:
            raise UsageError(
                f"{name}: its formula raised {type(error).__name__}: {first_line(error)}"
            ) from error
    return result, tuple(told)


__all__ = ["activation"]
