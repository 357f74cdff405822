"""The lab's inner functions with the names of functions and formats that a door would look up.

Behind its doors the lab hands objects on; a test reads better by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from precision_lab.devices import get_device
from precision_lab.formats import FloatFormat, get_format
from precision_lab.functions import Activation, get_function
from precision_lab.inputs import cells as _cells
from precision_lab.inputs import sets as _sets
from precision_lab.oracle.curve import Curve
from precision_lab.results.execution import Execution
from precision_lab.scoring import cuda_scorer, scorer
from precision_lab.scoring.standard import Standard

Named = str | FloatFormat
Function = str | Activation


def _formats(names: Iterable[Named]) -> tuple[FloatFormat, ...]:
    return tuple(get_format(name) for name in names)


# -- inputs and oracle ----------------------------------------------------------------------------


def exhaustive(fmt: Named) -> Any:
    return _sets.exhaustive(get_format(fmt))


def directed(fmt: Named, function: Function, *rest: Any) -> Any:
    return _sets.directed(get_format(fmt), get_function(function), *rest)


def stratified(fmt: Named, function: Function, *rest: Any, **options: Any) -> Any:
    return _sets.stratified(get_format(fmt), get_function(function), *rest, **options)


def input_set(spec: Any, fmt: Named, function: Function, params: Any) -> Any:
    return _sets.input_set(spec, get_format(fmt), get_function(function), params)


def regions(x: Any, fmt: Named, function: Function, params: Any) -> Any:
    return _sets.regions(x, get_format(fmt), get_function(function), params)


def region_thresholds(fmt: Named, function: Function, params: Any) -> Any:
    return _sets.region_thresholds(get_format(fmt), get_function(function), params)


def cells(fmt: Named, function: Function, params: Any) -> Any:
    return _cells.cells(get_format(fmt), get_function(function), params)


def output_format(fmt: Named, output: str) -> FloatFormat:
    from precision_lab import formats

    return formats.output_format(get_format(fmt), output)


def enclosures(function: Function, *rest: Any) -> Any:
    from precision_lab.oracle import enclosures as found

    return found(get_function(function), *rest)


def standards(
    found: Any, function: Function, outputs: Sequence[str], params: Any, formats: Iterable[Named],
    *, saturating: bool = False,
) -> list[Standard]:  # fmt: skip
    definition = get_function(function)
    return [
        Standard(Curve(definition, output, dict(params)), found, get_format(fmt), saturating)
        for output, fmt in zip(outputs, formats, strict=True)
    ]


def Scorer(*held_to: Any, saturating: bool = False, **options: Any) -> scorer.Scorer:
    return scorer.Scorer(standards(*held_to, saturating=saturating), **options)


def DeviceScorer(*held_to: Any, saturating: bool = False, **options: Any) -> Any:
    return cuda_scorer.DeviceScorer(standards(*held_to, saturating=saturating), **options)


# -- implementations ------------------------------------------------------------------------------


def get_implementation(function: Function, *rest: Any, **options: Any) -> Any:
    from precision_lab.implementations import get_implementation as found

    return found(get_function(function), *rest, **options)


def implementations_for(function: Function, execution: str | None = None) -> Any:
    from precision_lab.implementations import get_execution
    from precision_lab.implementations import implementations_for as found

    return found(get_function(function), None if execution is None else get_execution(execution))


def on_device(implementation: Any, device: str) -> Any:
    from precision_lab.running import placement

    return placement.on_device(implementation, get_device(device))


def resolve(kernel: Any, function: Function, fmt: Named) -> Any:
    from precision_lab.implementations import resolve as found

    return found(kernel, get_function(function), get_format(fmt))


def as_implementation(kernel: Any, function: Function, formats: Iterable[Named], **options: Any) -> Any:
    from precision_lab.implementations import as_implementation as found

    return found(kernel, get_function(function), _formats(formats), **options)


def from_library(path: Any, symbol: str, function: Function, **options: Any) -> Any:
    from precision_lab.implementations import from_library as found

    return found(path, symbol, get_function(function), **options)


def from_module(
    factory: Any, function: Function, *, formats: Iterable[Named] | None = None, **options: Any
) -> Any:
    from precision_lab.implementations import from_module as found

    if formats is not None:
        options["formats"] = _formats(formats)
    return found(factory, get_function(function), **options)


def find(target: str, function: Function, formats: Iterable[Named], **options: Any) -> Any:
    from precision_lab.implementations.adapters.target import find as found

    return found(target, get_function(function), _formats(formats), **options)


def Implementation(
    name: str,
    function: Function,
    kernel: Callable[..., Any],
    execution: str | Execution,
    formats: Iterable[Named],
    *rest: Any,
    storage: Named | None = None,
    devices: Iterable[str] = ("cpu", "cuda"),
    **options: Any,
) -> Any:
    from precision_lab.implementations import Implementation as Made
    from precision_lab.implementations import get_execution

    stored = None if storage is None else get_format(storage)
    return Made(
        name, get_function(function), kernel, get_execution(execution), _formats(formats), *rest,
        storage=stored, devices=tuple(get_device(device) for device in devices), **options,
    )  # fmt: skip


# -- cases ----------------------------------------------------------------------------------------


def case(implementation: Any, outputs: Any, fmt: Named, params: Any = None, **options: Any) -> Any:
    """A case; outputs None for all."""
    from precision_lab.running.case import case_of

    chosen = None if outputs is None else tuple(outputs)
    return case_of(implementation, get_format(fmt), params, chosen, **options)


def subject(
    implementation: Any, fmt: Named, bounds: Mapping[str, Any], *, finite: bool = False, **terms: Any
) -> Any:
    """What the properties examine, at the initial parameters."""
    from precision_lab.verifying.properties.subject import Subject, Terms

    asked = case(implementation, None, fmt, params_name="init", finite=finite)
    return Subject(asked, Terms(bounds, **terms))


def law(name: str, implementation: Any, fmt: Named, measured: Any, bound: Any) -> Any:
    """What a law says of measurements."""
    from precision_lab.verifying.laws import LAWS

    return LAWS[name](case(implementation, None, fmt), measured, bound)


def measure_all(
    implementation: Any, outputs: Sequence[str], fmt: Named, params: Any = None, *, progress: Any = None,
    **options: Any,
) -> Any:  # fmt: skip
    from precision_lab.measuring import measure

    return measure.measure_all(case(implementation, outputs, fmt, params, **options), progress=progress)


def run(implementation: Any, x: Any, fmt: Named, params: Any, outputs: Sequence[str]) -> Any:
    from precision_lab.running import runner

    return runner.run(case(implementation, outputs, fmt, params), x)


def run_tensors(implementation: Any, point: Any, fmt: Named, params: Any, outputs: Sequence[str]) -> Any:
    from precision_lab.running import runner

    return runner.run_tensors(case(implementation, outputs, fmt, params), point)


def input_tensor(implementation: Any, x: Any, fmt: Named) -> Any:
    from precision_lab.running import runner

    return runner.input_tensor(case(implementation, None, fmt), x)


def attempt(implementation: Any, shape: tuple[int, ...], fmt: Named, params: Any) -> Any:
    from precision_lab.running import runner

    return runner.attempt(case(implementation, None, fmt, params), shape)


def leaf_tensors(implementation: Any, params: Any, fmt: Named) -> Any:
    from precision_lab.running import runner

    return runner.leaf_tensors(case(implementation, None, fmt, params))


def effective_parameters(implementation: Any, params: Any, fmt: Named) -> dict[str, float]:
    return dict(case(implementation, None, fmt, params).effective)


def run_reduced(implementation: Any, x: Any, upstream: Any, fmt: Named, params: Any) -> Any:
    from precision_lab.running import reduced

    return reduced.run_reduced(case(implementation, None, fmt, params), x, upstream)


def sweep(
    implementation: Any, fmt: Named, outputs: Sequence[str], params: Any = None, *,
    params_name: str = "given", **options: Any,
) -> Any:  # fmt: skip
    from precision_lab.measuring import sweep as module

    return module.sweep(case(implementation, outputs, fmt, params, params_name=params_name), **options)


def sweep_chunks(
    implementation: Any,
    outputs: Sequence[str],
    fmt: Named,
    params: Any,
    chunks: Sequence[int],
    **options: Any,
) -> Any:
    from precision_lab.measuring import every_input

    asked = case(implementation, outputs, fmt, params, inputs="exhaustive")
    return every_input.sweep_chunks(asked, chunks, **options)


def sweep_on_device(
    implementation: Any, outputs: Sequence[str], fmt: Named, params: Any, chunks: Sequence[int]
) -> Any:
    from precision_lab.measuring import every_input

    return every_input._sweep_on_device(
        case(implementation, outputs, fmt, params, inputs="exhaustive"), chunks
    )


def explain(
    function: Function, *, fmt: Named, executions: Iterable[str] | None = None, **options: Any
) -> Any:
    from precision_lab.implementations import get_execution
    from precision_lab.measuring import explain as module

    if executions is not None:
        options["executions"] = [get_execution(name) for name in executions]
    return module.explain(get_function(function), fmt=get_format(fmt), **options)


def warm(implementation: Any, fmt: Named, **options: Any) -> float:
    from precision_lab.running import precompile as module

    return module.warm(implementation, get_format(fmt), **options)


def precompile(
    implementations: Any, formats: Iterable[Named], *, timed: Iterable[Function] = (), **options: Any
) -> Any:
    from precision_lab.running import precompile as module

    return module.precompile(
        implementations, _formats(formats), timed=[get_function(f) for f in timed], **options
    )


# -- what a report measures beside errors -----------------------------------------------------------


def measure_reductions(
    implementation: Any, fmt: Named, params: Any = None, *, params_name: str = "init"
) -> Any:
    from precision_lab.study import reduction

    return reduction.measure_reductions(case(implementation, None, fmt, params, params_name=params_name))


def exact_sum(function: Function, output: str, items: Any, fmt: Named, data: str) -> Any:
    from precision_lab.functions import Effective
    from precision_lab.study import reduction

    curve = Curve(get_function(function), output, Effective(dict(items)))
    return reduction.exact_sum(curve, get_format(fmt), data)


def tensors(fmt: Named, *rest: Any) -> Any:
    from precision_lab.study import reduction

    return reduction.tensors(get_format(fmt), *rest)


def time_implementations(implementations: Any, formats: Iterable[Named], **options: Any) -> Any:
    from precision_lab.study import timing

    if isinstance(name := options.get("device"), str):
        options["device"] = get_device(name)
    return timing.time_implementations(implementations, _formats(formats), **options)


def blocks(*, subjects: Iterable[Any] = (), fmt: Named = "bf16", **options: Any) -> Any:
    from precision_lab.study import mlp_block

    if isinstance(name := options.get("device"), str):
        options["device"] = get_device(name)
    return mlp_block.blocks(tuple(subjects), fmt=get_format(fmt), **options)


# -- casts ------------------------------------------------------------------------------------------


def fp8_codes(x: Any, fmt: Named, **options: Any) -> Any:
    from precision_lab.formats import casts

    return casts.fp8_codes(x, get_format(fmt), **options)


def values_of(codes: Any, fmt: Named) -> Any:
    from precision_lab.formats import casts

    return casts.values_of(codes, get_format(fmt))
