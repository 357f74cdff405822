"""What a caller asks for → a checked plan."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from precision_lab.exceptions import UsageError, unknown_name
from precision_lab.formats import FloatFormat, kernel_format
from precision_lab.functions import Activation, get_function
from precision_lab.implementations.contract import CallContract
from precision_lab.implementations.inductor import Compiled
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.plan import Plan
from precision_lab.verifying.properties import DEFAULT_PROPERTIES, ENGINEERING_PROPERTIES


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a caller asks to be examined, as it was given; `verify` has the words for each.

    Attributes:
        max_ulp: None where nothing is promised, or a bound file or another implementation holds.
    """

    function: str | Activation
    fmts: Sequence[str | FloatFormat]
    outputs: Sequence[str] | None = None
    max_ulp: float | None = None
    bound: str | Path | None = None
    params: Mapping[str, float] | Mapping[str, Mapping[str, float]] | None = None
    inputs: str | None = None
    properties: Sequence[str] | bool = True
    against: str | None = None
    compiled: Compiled = False
    laws: bool = False
    multiple_of: int = 1
    shapes: Sequence[Sequence[int | None]] = ()
    finite: bool = False
    budget: float | None = None


def make_plan(request: Request) -> Plan:
    """A checked plan.

    Raises:
        ValueError: an unknown function, format, output, parameter or property; max_ulp below 0.5;
            max_ulp and a bound file together.
    """
    if request.laws:
        import precision_lab.inputs.strategies  # noqa: F401 - what it needs is missed before anything is measured
    function, max_ulp, budget = get_function(request.function), request.max_ulp, request.budget
    formats = tuple(dict.fromkeys(kernel_format(fmt) for fmt in request.fmts))
    if not formats:
        raise UsageError("fmts is empty: there is nothing to verify")
    for output in request.outputs or ():
        function.check_output(output)
    if request.outputs is not None and len(request.outputs) == 0:
        raise UsageError("outputs is empty: there is nothing to verify")
    bound = None if request.bound is None else str(request.bound)
    if max_ulp is not None and bound is not None:
        raise UsageError(f"max_ulp={max_ulp!r} and bound={bound!r} contradict each other: give one")
    if max_ulp is not None:
        Bound(max_ulp)
    if budget is not None and not (math.isfinite(budget) and budget >= 0):
        raise UsageError(f"budget={budget!r}: must be a number of seconds, 0 or more")
    sets, added = _parameter_sets(request, function)
    return Plan(
        function=function,
        fmts=formats,
        outputs=None if request.outputs is None else tuple(request.outputs),
        parameter_sets=sets,
        added_sets=added,
        inputs=request.inputs,
        max_ulp=max_ulp,
        bound_file=bound,
        properties=_properties(request),
        asked=() if isinstance(request.properties, bool) else tuple(request.properties),
        contract=CallContract(request.multiple_of, tuple(tuple(pattern) for pattern in request.shapes)),
        finite=request.finite,
        budget=budget,
        against=request.against,
        laws=request.laws,
    )


def _parameter_sets(
    request: Request, function: Activation
) -> tuple[dict[str, Mapping[str, float]], tuple[str, ...]]:
    """Values by name, and the names of those that nobody asked for."""
    params: Any = request.params
    if params is None:
        promised = request.max_ulp is not None or request.against is not None
        # What is recorded is one limit for all sets: those of extreme parameters would let anything pass.
        if request.bound is not None or not promised:
            return {"init": function.check_params()}, ()
        sets: dict[str, Mapping[str, float]] = {**function.parameter_sets, **random_sets(function)}
        return sets, tuple(sets)[1:]
    if params and all(isinstance(value, Mapping) for value in params.values()):
        return {name: function.check_params(values) for name, values in params.items()}, ()
    values = function.check_params(params)
    return {"init" if values == function.check_params() else "given": values}, ()


def _properties(request: Request) -> tuple[str, ...]:
    if request.properties is False:
        return ()
    if request.properties is True:
        return ENGINEERING_PROPERTIES if request.compiled is not False else DEFAULT_PROPERTIES
    for name in request.properties:
        if name not in ENGINEERING_PROPERTIES:
            raise unknown_name("property", name, ENGINEERING_PROPERTIES)
    return tuple(request.properties)


RANDOM_SETS = 2


def random_sets(function: Activation) -> dict[str, dict[str, float]]:
    """Parameter values that nobody chose, the same every time: what training may make of the initial ones.

    Those that are trained through a constraint are drawn, or all where none is; log-uniform in [1/16, 16],
    beyond β where they must be.
    """
    raw = [p for p in function.parameters if p.raw is not None] or list(function.parameters)
    generator = random.Random(f"precision_lab {function.name}")  # not numpy's: help and checks load none
    found = {}
    for i in range(RANDOM_SETS if raw else 0):
        values = function.check_params()
        # β first, which may be drawn too.
        for parameter in sorted(raw, key=lambda p: p.raw == "softplus+beta"):
            size = 2.0 ** generator.uniform(-4, 4)
            beta = values.get("beta", 0.0) if parameter.raw == "softplus+beta" else 0.0
            # Four digits, so that a replay is short to write.
            values[parameter.name] = float(f"{beta + size:.4g}")
        found[f"random-{i + 1}"] = values
    return found
