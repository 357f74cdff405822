"""Everything the lab knows about one input, for one screen."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np

from precision_lab import metrics
from precision_lab.exceptions import UsageError
from precision_lab.formats import FloatFormat, get_format, kernel_format, output_format
from precision_lab.functions import Activation, get_function
from precision_lab.functions.base import Term, collect, split_exponentials
from precision_lab.functions.basis import BASIS
from precision_lab.implementations.compiled import compiler_settings_kept
from precision_lab.inputs import regions
from precision_lab.oracle import TIERS, evaluate, reference
from precision_lab.oracle.evaluate import certain_ball, output_ball

if TYPE_CHECKING:
    from precision_lab.implementations.base import Implementation

DIGITS = 30
_CROWD = 4099  # copies of x in one call: full vectors and a tail
BITS = 120  # certified relative accuracy of the value shown: finer than its digits


@dataclass(frozen=True)
class Row:
    """One implementation's answer; `error_ulps` is NaN where either side is not finite."""

    implementation: str
    execution: str
    params: dict[str, float]
    value: float
    bits: str
    error_ulps: float
    note: str


@dataclass(frozen=True)
class Explanation:
    """One input of one output: exact value, conditioning, and what each implementation makes of it."""

    function: str
    output: str
    fmt: str
    output_fmt: str
    params: dict[str, float]
    x: float
    x_hex: str
    bits: str
    region: str
    exact: str
    enclosure: str
    rounded: float
    rounded_bits: str
    tail_ulps: float
    tier: str
    condition: float
    lost_as_exp_minus_1: float
    lost_as_expm1: float
    rows: tuple[Row, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@compiler_settings_kept()
def explain(
    function: str,
    *,
    fmt: str,
    x: float | None = None,
    bits: int | None = None,
    output: str = "forward",
    params: Mapping[str, float] | None = None,
    executions: Sequence[str] | None = None,
    kernel: Implementation | None = None,
    device: str = "cpu",
) -> Explanation:
    """The exact value of one output at one input, and every implementation's.

    Args:
        executions: by default all but "compiled".
        x: rounded to the format if it is not one of its values.
        bits: bit pattern in the format; instead of x.
        params: asked values; rounded to the format, as an eager kernel receives them.
        executions: which of the registered executions to run.
        kernel: a kernel of the caller's, shown first.

    Raises:
        ValueError: neither or both of x and bits, a pattern the format does not have, or an
            unknown function, format, output or parameter.
    """
    definition, target = get_function(function), kernel_format(fmt)
    definition.check_output(output)
    asked = definition.check_params(params)
    point = _point(target, x, bits)
    out = output_format(target, output)
    core = get_format("fp32") if target.bits == 8 else target  # FP8 kernels keep their parameters in it
    values = {k: float(core.round(np.array([v]))[0]) for k, v in asked.items()}
    for name, value in values.items():
        definition.check_received(name, asked[name], value, f"in {core.name}")
    exact = reference(definition, output, values, np.array([point]), out)
    names, index = regions(np.array([point]), target, definition, values)
    finite = math.isfinite(point)
    value = evaluate(definition, point, values, output=output, bits=BITS)
    return Explanation(
        function=definition.name,
        output=output,
        fmt=target.name,
        output_fmt=out.name,
        params=values,
        x=point,
        x_hex=point.hex(),
        bits=_pattern(point, target),
        region=names[int(index[0])],
        exact=str(mpmath.nstr(value, DIGITS, min_fixed=-4, max_fixed=12)),
        enclosure=_enclosure(value, point),
        rounded=float(exact.rounded[0]),
        rounded_bits=_pattern(float(exact.rounded[0]), out),
        tail_ulps=float(exact.tail[0]),
        tier="undecided" if exact.undecided[0] else TIERS[int(exact.tier[0])],
        condition=_condition(definition, output, values, point) if finite else math.nan,
        lost_as_exp_minus_1=_lost(definition, output, values, point, split_everything=True)
        if finite
        else math.nan,
        lost_as_expm1=_lost(definition, output, values, point, split_everything=False)
        if finite
        else math.nan,
        rows=tuple(_rows(definition, target, output, asked, point, executions, kernel, device)),
    )


def _point(fmt: FloatFormat, x: float | None, bits: int | None) -> float:
    if (x is None) == (bits is None):
        raise UsageError(f"give either x or bits: got x={x!r}, bits={bits!r}")
    if bits is None:
        assert x is not None
        return float(fmt.round(np.array([x]))[0])
    if not 0 <= bits < fmt.n_patterns:
        raise UsageError(f"bits={bits:#x} is no pattern of {fmt.name}, which has {fmt.bits} bits")
    return float(fmt.decode(np.array([bits], fmt.bits_dtype))[0])


def _pattern(value: float, fmt: FloatFormat) -> str:
    return f"0x{int(fmt.encode(np.array([value]))[0]):0{fmt.bits // 4}x}"


def _enclosure(value: mpmath.mpf, x: float) -> str:
    """How far the value shown may be from the exact one, beyond its last digit."""
    if not math.isfinite(x):
        return "limit" if math.isinf(x) else "undefined"
    if value == 0:
        return "exact"
    return f"± {mpmath.nstr(abs(value) * mpmath.mpf(2) ** -BITS, 2)}"


def _condition(function: Activation, output: str, params: Mapping[str, float], x: float) -> float:
    """|x·g′(x)/g(x)| of the output g, by a central difference at 240 bits with h = |x|·2^-60.

    The difference quotient is off by about h²: no digit shown depends on it.
    """
    if x == 0:
        return math.nan
    h = Fraction(abs(x)) / 2**60

    def value(at: Fraction) -> mpmath.mpf:
        ball = certain_ball(lambda m: output_ball(function, output, params, at, m), 240)
        return context.make_mpf(ball.middle)

    context = mpmath.MPContext()
    context.prec = 300
    middle = value(Fraction(x))
    if middle == 0:
        return math.inf
    slope = (value(Fraction(x) + h) - value(Fraction(x) - h)) / (2 * context.mpf(h.numerator) / h.denominator)
    return float(abs(context.mpf(x) * slope / middle))


def _lost(
    function: Activation, output: str, params: Mapping[str, float], x: float, *, split_everything: bool
) -> float:
    """Bits that summing the terms cancels: log2(Σ|term| / |Σ term|).

    As written with exp(x) − 1 (`split_everything`), or with expm1(x) and −x apart.
    """
    terms = function.terms(output, "positive" if x > 0 else "negative")
    parts = split_exponentials(terms) if split_everything else _with_expm1(terms)
    context = _numbers(400 + 2 * abs(math.frexp(x)[1]))
    values = [
        context.constant(term.coefficient.at(params))
        * BASIS[term.basis].formula(context, context.constant(Fraction(x)))
        for term in parts
    ]
    total = abs(sum(values))
    if not values or total == 0:
        return math.nan
    return float(context.mp.log(sum(abs(v) for v in values) / total, 2))


def _numbers(precision: int) -> Any:
    from precision_lab.functions.base import PlainContext

    return PlainContext(precision)


def _with_expm1(terms: Sequence[Term]) -> tuple[Term, ...]:
    parts: list[Term] = []
    for term in terms:
        if term.basis == "expm1_minus_x":
            parts += [Term(term.coefficient, "expm1"), Term(term.coefficient.scaled(-1), "x")]
        else:
            parts.append(term)
    return collect(parts)


def _rows(
    function: Activation,
    fmt: FloatFormat,
    output: str,
    params: Mapping[str, float],
    x: float,
    executions: Sequence[str] | None,
    kernel: Implementation | None,
    device: str,
) -> list[Row]:
    from precision_lab.exceptions import KernelError
    from precision_lab.implementations import EXECUTIONS, IMPLEMENTATIONS
    from precision_lab.implementations.placement import on_device
    from precision_lab.implementations.runner import effective_parameters, run
    from precision_lab.properties.calls import REFUSALS, undeclared_contract
    from precision_lab.results import Failure

    rows = []
    if executions is None:
        executions = [e for e in EXECUTIONS if e != "compiled"]
    registered = [
        on_device(i, device)
        for i in IMPLEMENTATIONS.values()
        if i.function == function.name and i.execution in executions and device.partition(":")[0] in i.devices
    ]
    for implementation in [*([on_device(kernel, device)] if kernel else []), *registered]:
        execution = implementation.execution_name
        if fmt.name not in implementation.formats or output not in implementation.measured_outputs():
            if implementation.target:  # asked for by name
                note = f"gives no {output} in {fmt.name}"
                rows.append(Row(implementation.name, execution, dict(params), math.nan, "", math.nan, note))
            continue
        out = get_format(implementation.output_format(fmt.name, output))
        try:
            effective = effective_parameters(implementation, params, fmt.name)
            got = run(implementation, np.array([x]), fmt.name, params, (output,))[output]
            if isinstance(got, Failure) and got.kind in REFUSALS and implementation.target:
                contract = undeclared_contract(implementation, fmt.name, params)
                implementation = replace(implementation, contract=contract or implementation.contract)
                got = run(implementation, np.array([x]), fmt.name, params, (output,))[output]
            crowd = run(implementation, np.full(_CROWD, x), fmt.name, params, (output,))[output]
        except KernelError as error:
            got, effective = Failure(error.kind, str(error)), dict(params)
        if isinstance(got, Failure):
            note = f"{got.kind}: {got.message}"
            rows.append(Row(implementation.name, execution, effective, math.nan, "", math.nan, note))
            continue
        exact = reference(
            function, output, effective, np.array([x]), out, saturating=implementation.saturating
        )
        notes = []
        if isinstance(crowd, Failure):
            notes.append(f"{crowd.kind} for {_CROWD} copies of x")
        else:
            others = sorted({float(v) for v in crowd if not (v == got[0] or (v != v and got[0] != got[0]))})
            if others:
                shown = np.array(others[:3])
                errors = metrics.ulp_error(shown, exact)
                said = (f"{float(v)!r} ({e:+.6g} ulps)" for v, e in zip(shown, errors, strict=True))
                notes.append(f"{', '.join(said)} among {_CROWD} copies of x")
        if metrics.wrong_sign(got, exact)[0]:
            notes.append("wrong sign")
        if metrics.nonfinite_mismatch(got, exact)[0]:
            notes.append("wrong infinity or NaN")
        ulps = float(metrics.ulp_error(got, exact)[0])
        value = float(got[0])
        rows.append(
            Row(
                implementation.name,
                execution,
                effective,
                value,
                _pattern(value, out),
                ulps,
                ", ".join(notes),
            )
        )
    return rows
