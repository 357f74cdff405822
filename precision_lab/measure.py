"""Runs one case and scores it: kernel × format × output × parameters → Measurement."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import mpmath
import numpy as np
from numpy.typing import NDArray

from precision_lab import inputs as input_sets
from precision_lab import metrics
from precision_lab.exceptions import KernelError
from precision_lab.formats import FloatFormat, get_format
from precision_lab.functions import get_function
from precision_lab.implementations import resolve
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.runner import effective_parameters, run
from precision_lab.oracle import Reference, evaluate, reference
from precision_lab.results import Binade, Failure, Measurement, Statistics, Witness
from precision_lab.selfcheck import environment, require_ieee

Float64 = NDArray[np.float64]
QUANTILES = ("0.5", "0.9", "0.99", "0.999")


@dataclass(frozen=True)
class InputSet:
    """A named set of inputs with everything that scoring needs and the kernel does not change.

    Attributes:
        order: indices of the finite inputs, ascending in x (−0 before +0).
        binade_order, binade_starts, binade_keys: inputs grouped by sign and exponent.
        region: index into `region_names` for each input.
    """

    name: str
    fmt: FloatFormat
    bits: NDArray[Any]
    x: Float64
    order: NDArray[np.intp]
    binade_order: NDArray[np.intp]
    binade_starts: NDArray[np.intp]
    binade_keys: tuple[tuple[int, int], ...]
    region_names: tuple[str, ...]
    region: NDArray[np.int8]


def input_set(
    spec: str | NDArray[Any], fmt: FloatFormat, function: str, params: Mapping[str, float]
) -> InputSet:
    """The inputs of `spec`, grouped for scoring.

    Raises:
        ValueError: an input set that the format does not have.
    """
    if isinstance(spec, str):
        return _named_input_set(spec, fmt.name, function, tuple(sorted(params.items())))
    return _group(*input_sets.input_set(spec, fmt, function, params), fmt, function, params)


@lru_cache(maxsize=256)
def _named_input_set(spec: str, fmt: str, function: str, items: tuple[tuple[str, float], ...]) -> InputSet:
    target, params = get_format(fmt), dict(items)
    return _group(*input_sets.input_set(spec, target, function, params), target, function, params)


def _group(
    name: str, bits: NDArray[Any], fmt: FloatFormat, function: str, params: Mapping[str, float]
) -> InputSet:
    x = fmt.decode(bits)
    finite = np.flatnonzero(np.isfinite(x))
    order = finite[np.lexsort((~np.signbit(x[finite]), x[finite]))]
    nonzero = order[x[order] != 0]
    # Grouped by (sign, exponent); ascending in x puts each group in one run.
    _, exponent = np.frexp(x[nonzero])
    sign = np.where(x[nonzero] < 0, -1, 1)
    change = np.flatnonzero((np.diff(exponent) != 0) | (np.diff(sign) != 0)) + 1
    starts = np.concatenate(([0], change)).astype(np.intp) if nonzero.size else np.zeros(0, np.intp)
    keys = tuple((int(sign[i]), int(exponent[i]) - 1) for i in starts)
    names, region = input_sets.regions(x, fmt, function, params)
    return InputSet(name, fmt, bits, x, order, nonzero, starts, keys, tuple(names), region)


@lru_cache(maxsize=48)
def _cached_reference(
    function: str,
    output: str,
    items: tuple[tuple[str, float], ...],
    spec: str,
    fmt: str,
    out: str,
    saturating: bool,
) -> Reference:
    inputs = _named_input_set(spec, fmt, function, items)
    return reference(function, output, dict(items), inputs.x, out, saturating=saturating)


def default_inputs(fmt: FloatFormat) -> str:
    """Every input where that is at most 2^16 of them, stratified otherwise."""
    return "exhaustive" if fmt.bits <= 16 else "stratified"


def measure(
    kernel: Any,
    function: str,
    *,
    fmt: str = "bf16",
    output: str = "forward",
    params: Mapping[str, float] | None = None,
    inputs: str | NDArray[Any] | None = None,
    device: str = "cpu",
    params_name: str = "",
) -> Measurement:
    """Error of one output of a kernel in one format, against the exact value.

    Args:
        kernel: `kernel(x, *, alpha_p, ...) -> y` on torch tensors, a `torch.nn.Module`, an
            `Implementation`, or the name of a registered one ("naive", "stable [upcast]").
        params: parameter values, rounded to the dtype the kernel receives them in; the
            reference uses the rounded ones.
        inputs: "exhaustive", "stratified", "stratified:N" or an array of float64 values;
            by default exhaustive for 8- and 16-bit formats.
        device: only "cpu" so far.

    Raises:
        ValueError: unknown function, format, output, implementation or parameter, or a device
            that is not there.
        KernelError: the kernel gave no such output (`measure_all` returns it as a finding).
        EnvironmentAltersResultsError: subnormals are flushed to zero.
    """
    if device != "cpu":
        raise ValueError(f"device={device!r}: this version measures on 'cpu'")
    definition = get_function(function)
    definition.check_output(output)
    implementation = resolve(kernel, function, fmt)
    result = measure_all(implementation, (output,), fmt, params, params_name=params_name, inputs=inputs)[0]
    if result.failure is not None:
        raise KernelError(result.failure.kind, result.failure.message)
    return result


def measure_all(
    implementation: Implementation,
    outputs: Sequence[str],
    fmt: str | FloatFormat,
    params: Mapping[str, float] | None = None,
    *,
    params_name: str = "",
    inputs: str | NDArray[Any] | None = None,
) -> list[Measurement]:
    """One `Measurement` per output; a kernel's fault is a measurement with `failure` set.

    Raises:
        ValueError, EnvironmentAltersResultsError: as `measure`.
    """
    require_ieee()
    source = get_format(fmt)
    definition = get_function(implementation.function)
    for output in outputs:
        definition.check_output(output)
    asked = definition.check_params(params)
    spec = default_inputs(source) if inputs is None else inputs
    name = params_name or ("init" if asked == definition.check_params() else "given")
    try:
        effective = effective_parameters(implementation, asked, source.name)
    except KernelError as error:
        chosen = input_set(spec, source, definition.name, asked)
        why = Failure(error.kind, str(error))
        return [
            _blank(
                implementation,
                source,
                get_format(implementation.output_format(source.name, output)),
                output,
                name,
                asked,
                chosen,
                why,
            )
            for output in outputs
        ]
    chosen = input_set(spec, source, definition.name, effective)
    computed = run(implementation, chosen.x, source.name, asked, outputs)
    require_ieee()  # a kernel's library may have switched flushing on: then its results do not count
    results = []
    for output in outputs:
        out = get_format(implementation.output_format(source.name, output))
        values = computed[output]
        if isinstance(values, Failure):
            results.append(_blank(implementation, source, out, output, name, effective, chosen, values))
            continue
        if isinstance(spec, str):
            items = tuple(sorted(effective.items()))
            exact = _cached_reference(
                definition.name, output, items, spec, source.name, out.name, implementation.saturating
            )
        else:
            exact = reference(
                definition, output, effective, chosen.x, out, saturating=implementation.saturating
            )
        blank = _blank(implementation, source, out, output, name, effective, chosen, None)
        results.append(score(blank, chosen, values, exact))
    return results


def _blank(
    implementation: Implementation,
    source: FloatFormat,
    out: FloatFormat,
    output: str,
    params_name: str,
    params: dict[str, float],
    inputs: InputSet,
    failure: Failure | None,
) -> Measurement:
    return Measurement(
        function=implementation.function,
        implementation=implementation.name,
        execution=implementation.execution_name,
        fmt=source.name,
        output_fmt=out.name,
        output=output,
        params_name=params_name,
        params=params,
        inputs=inputs.name,
        n_inputs=inputs.x.size,
        failure=failure,
        environment=environment(),
    )


def score(case: Measurement, inputs: InputSet, computed: Float64, exact: Reference) -> Measurement:
    """`case` with every statistic of `computed` filled in; undecided inputs enter none of them."""
    from dataclasses import replace

    judge = _Judge(case, inputs, computed, exact)
    overall = judge.statistics(np.arange(inputs.x.size))
    finite_errors = judge.magnitude[judge.valid]
    subnormal = judge.valid & np.isfinite(inputs.x) & (exact.exact != 0)
    subnormal &= np.abs(exact.exact) < exact.fmt.min_normal
    regions: dict[str, Statistics] = {}
    for i, region in enumerate(inputs.region_names):
        part = np.flatnonzero((inputs.region == i) & ~subnormal)
        if part.size:
            regions[region] = judge.statistics(part)
    if subnormal.any():
        regions["subnormal_result"] = judge.statistics(np.flatnonzero(subnormal))
    quantiles = np.quantile(finite_errors, [float(q) for q in QUANTILES]) if finite_errors.size else [0.0] * 4
    return replace(
        case,
        max_ulp=overall.max_ulp,
        mean_ulp=overall.mean_ulp,
        quantiles={name: float(value) for name, value in zip(QUANTILES, quantiles, strict=True)},
        not_correctly_rounded=overall.not_correctly_rounded,
        wrong_sign=overall.wrong_sign,
        nonfinite_mismatch=overall.nonfinite_mismatch,
        zero_sign_mismatch=int(
            np.count_nonzero(
                metrics.zero_sign_mismatch(computed, exact, inputs.x, case.output) & ~exact.undecided
            )
        ),
        undecided=int(np.count_nonzero(exact.undecided)),
        escalated=exact.escalated(),
        monotonicity_violations=metrics.monotonicity_violations(computed, exact, inputs.order),
        jump_at_zero=metrics.jump_at_zero(computed, exact, inputs.x),
        witness=overall.witness,
        nonfinite_witness=judge.first(judge.nonfinite),
        sign_witness=judge.first(judge.wrong),
        regions=regions,
        binades=judge.binades(),
    )


class _Judge:
    """Per-input findings of one case, summed up over any part of the inputs."""

    def __init__(self, case: Measurement, inputs: InputSet, computed: Float64, exact: Reference) -> None:
        self.case, self.inputs, self.computed, self.exact = case, inputs, computed, exact
        # What a gradient is at NaN is nobody's promise; f(NaN) must be NaN.
        asked = ~np.isnan(inputs.x) | (case.output == "forward")
        decided = ~exact.undecided & asked
        self.errors = metrics.ulp_error(computed, exact)
        self.valid = np.isfinite(self.errors) & decided
        self.magnitude = np.where(self.valid, np.abs(self.errors), 0.0)
        self.nonfinite = metrics.nonfinite_mismatch(computed, exact) & decided
        self.wrong = metrics.wrong_sign(computed, exact) & decided
        self.rounding = metrics.not_correctly_rounded(computed, exact) & decided
        self.bits = np.where(decided, metrics.correct_bits(self.errors, exact), float(exact.fmt.precision))

    def statistics(self, part: NDArray[np.intp]) -> Statistics:
        magnitude, valid = self.magnitude[part], self.valid[part]
        worst = part[int(np.argmax(magnitude))]
        count = int(np.count_nonzero(valid))
        return Statistics(
            n_inputs=int(part.size),
            max_ulp=float(self.magnitude[worst]),
            mean_ulp=float(magnitude.sum() / count) if count else 0.0,
            not_correctly_rounded=int(np.count_nonzero(self.rounding[part])),
            wrong_sign=int(np.count_nonzero(self.wrong[part])),
            nonfinite_mismatch=int(np.count_nonzero(self.nonfinite[part])),
            min_correct_bits=float(self.bits[part].min()),
            mean_correct_bits=float(self.bits[part].mean()),
            witness=self.witness(int(worst)) if self.magnitude[worst] > 0 else None,
        )

    def first(self, where: NDArray[np.bool_]) -> Witness | None:
        """The flagged input of smallest magnitude, which is the simplest to think about."""
        found = np.flatnonzero(where)
        if found.size == 0:
            return None
        size = np.abs(self.inputs.x[found])
        return self.witness(int(found[int(np.argmin(np.where(np.isnan(size), np.inf, size)))]))

    def binades(self) -> tuple[Binade, ...]:
        starts, order = self.inputs.binade_starts, self.inputs.binade_order
        if starts.size == 0:
            return ()
        counts = np.diff(np.append(starts, order.size))

        def total(values: NDArray[Any]) -> NDArray[Any]:
            return np.add.reduceat(values[order].astype(np.float64), starts)

        worst = np.maximum.reduceat(self.magnitude[order], starts)
        valid = np.maximum(total(self.valid), 1.0)
        columns = zip(
            self.inputs.binade_keys,
            counts.tolist(),
            worst.tolist(),
            (total(self.magnitude) / valid).tolist(),
            total(self.rounding).tolist(),
            total(self.wrong).tolist(),
            total(self.nonfinite).tolist(),
            np.minimum.reduceat(self.bits[order], starts).tolist(),
            (total(self.bits) / counts).tolist(),
            strict=True,
        )
        # No witness per binade: 260 exact decimals a case would dwarf the measurement.
        return tuple(
            Binade(
                sign,
                exponent,
                Statistics(n, most, mean, int(wrong), int(sign_), int(inf), least, average, None),
            )
            for (sign, exponent), n, most, mean, wrong, sign_, inf, least, average in columns
        )

    def witness(self, i: int) -> Witness:
        case, fmt = self.case, self.exact.fmt
        x, computed = float(self.inputs.x[i]), float(self.computed[i])
        return Witness(
            bits=f"0x{int(self.inputs.bits[i]):0{self.inputs.fmt.bits // 4}x}",
            x=x,
            x_hex=x.hex(),
            computed=computed,
            computed_hex=computed.hex(),
            computed_bits=f"0x{int(fmt.encode(np.array([computed]))[0]):0{fmt.bits // 4}x}",
            exact=_exact_decimal(case.function, case.output, tuple(sorted(case.params.items())), x),
            rounded=float(self.exact.rounded[i]),
            error_ulps=float(self.errors[i]),
        )


@lru_cache(maxsize=65536)
def _exact_decimal(function: str, output: str, items: tuple[tuple[str, float], ...], x: float) -> str:
    return str(
        mpmath.nstr(
            evaluate(function, x, dict(items), output=output, bits=100), 25, min_fixed=-4, max_fixed=12
        )
    )


class _CallableModule(types.ModuleType):
    """Lets `precision_lab.measure` be both this module and the function of that name."""

    def __call__(self, *args: Any, **kwargs: Any) -> Measurement:
        return measure(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
