"""Everything the lab knows about one input, for one screen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np

from precision_lab.devices import CPU, Device
from precision_lab.exceptions import KernelError, UsageError
from precision_lab.formats import FP32, FloatFormat, output_format
from precision_lab.functions import Activation
from precision_lab.functions.basis import BASIS
from precision_lab.functions.terms import Term, collect, split_exponentials
from precision_lab.implementations import IMPLEMENTATIONS
from precision_lab.implementations.adapters.target import Called
from precision_lab.implementations.as_written import as_written
from precision_lab.implementations.base import Implementation
from precision_lab.inputs.sets import regions
from precision_lab.oracle import TIERS, Reference, evaluate, reference
from precision_lab.oracle.evaluate import certain_ball, output_ball
from precision_lab.oracle.plain_roots import PlainContext
from precision_lab.results import Failure
from precision_lab.results.execution import EXECUTIONS, Execution
from precision_lab.running.accepted_calls import REFUSALS, undeclared_contract
from precision_lab.running.case import Case, case_of
from precision_lab.running.placement import on_device
from precision_lab.running.runner import run
from precision_lab.running.torch_compile import compiler_settings_kept
from precision_lab.scoring import errors

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
    function: Activation,
    *,
    fmt: FloatFormat,
    x: float | None = None,
    bits: int | None = None,
    output: str = "forward",
    params: Mapping[str, float] | None = None,
    executions: Sequence[Execution] | None = None,
    kernel: Implementation | Called | None = None,
    device: Device = CPU,
) -> Explanation:
    """The exact value of one output at one input, and every implementation's.

    Args:
        x: rounded to the format if it is not one of its values.
        bits: bit pattern in the format; instead of x.
        params: asked values; rounded to the format, as an eager kernel receives them.
        executions: which of the registered executions to run, by default all that are not compiled.
        kernel: a kernel of the caller's, shown first.
        device: where they run; for one with a process of its own this is called there.

    Raises:
        ValueError: neither or both of x and bits, a pattern the format does not have, or an
            unknown function, format, output or parameter.
    """
    function.check_output(output)
    asked = function.check_params(params)
    point = _point(fmt, x, bits)
    out = output_format(fmt, output)
    core = FP32 if fmt.bits == 8 else fmt  # FP8 kernels keep their parameters in it
    values = {k: float(core.round(np.array([v]))[0]) for k, v in asked.items()}
    for name, value in values.items():
        function.check_received(name, asked[name], value, f"in {core.name}")
    exact = reference(function, output, values, np.array([point]), out)
    names, index = regions(np.array([point]), fmt, function, values)
    value = evaluate(function, point, values, output=output, bits=BITS)
    finite = math.isfinite(point) and mpmath.isfinite(value)
    own = kernel.load(function, (fmt,)) if isinstance(kernel, Called) else kernel
    shown = _implementations(function, executions, own, device)
    return Explanation(
        function=function.name,
        output=output,
        fmt=fmt.name,
        output_fmt=out.name,
        params=values,
        x=point,
        x_hex=point.hex(),
        bits=_pattern(point, fmt),
        region=names[int(index[0])],
        exact=str(mpmath.nstr(value, DIGITS, min_fixed=-4, max_fixed=12)),
        enclosure=_enclosure(value, point),
        rounded=float(exact.rounded[0]),
        rounded_bits=_pattern(float(exact.rounded[0]), out),
        tail_ulps=float(exact.tail[0]),
        tier="undecided" if exact.undecided[0] else TIERS[int(exact.tier[0])],
        condition=_condition(function, output, values, point) if finite else math.nan,
        lost_as_exp_minus_1=_lost(function, output, values, point, split_everything=True)
        if finite
        else math.nan,
        lost_as_expm1=_lost(function, output, values, point, split_everything=False) if finite else math.nan,
        rows=tuple(_rows([case_of(i, fmt, asked, (output,)) for i in shown], point)),
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
    if not (math.isfinite(x) and mpmath.isfinite(value)):
        return "undefined" if mpmath.isnan(value) else "limit"
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

    As written with exp(x) − 1 (`split_everything`), or with expm1(x) and −x apart. NaN for formulas that are
    no sum of known basis functions.
    """
    if not function.has_terms(output):
        return math.nan
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
    return PlainContext(precision)


def _with_expm1(terms: Sequence[Term]) -> tuple[Term, ...]:
    parts: list[Term] = []
    for term in terms:
        if term.basis == "expm1_minus_x":
            parts += [Term(term.coefficient, "expm1"), Term(term.coefficient.scaled(-1), "x")]
        else:
            parts.append(term)
    return collect(parts)


def _implementations(
    function: Activation,
    executions: Sequence[Execution] | None,
    kernel: Implementation | None,
    device: Device,
) -> list[Implementation]:
    """The caller's kernel, then the registered ones."""
    if executions is None:
        executions = [e for e in EXECUTIONS.values() if not e.compiled]
    registered = [
        on_device(i, device)
        for i in (*IMPLEMENTATIONS.values(), *(as_written(function) if function.home else ()))
        if i.function == function and i.execution in executions and i.runs_on(device)
    ]
    return [*([on_device(kernel, device)] if kernel else []), *registered]


def _rows(cases: Sequence[Case], x: float) -> Iterator[Row]:
    for case in cases:
        implementation, (output,) = case.implementation, case.outputs
        row = Row(
            implementation.name, implementation.execution_name, dict(case.asked), math.nan, "", math.nan, ""
        )
        if case.fmt in implementation.formats and output in implementation.measured_outputs():
            yield _computed(case, x, row)
        elif implementation.target:  # asked for by name
            yield replace(row, note=f"gives no {output} in {case.fmt.name}")


def _computed(case: Case, x: float, row: Row) -> Row:
    """The row with what the kernel gives, alone and among many."""
    (output,) = case.outputs
    try:
        row = replace(row, params=dict(case.effective))
        got = run(case, np.array([x]))[output]
        if isinstance(got, Failure) and got.kind in REFUSALS and case.implementation.target:
            case = case.called_as(undeclared_contract(case) or case.implementation.contract)
            got = run(case, np.array([x]))[output]
        crowd = run(case, np.full(_CROWD, x))[output]
    except KernelError as error:
        got = Failure(error.kind, str(error))
    if isinstance(got, Failure):
        return replace(row, note=f"{got.kind}: {got.message}")
    out = case.output_format(output)
    exact = reference(
        case.function, output, case.effective, np.array([x]), out, saturating=case.implementation.saturating
    )
    notes = [*_said_of_crowd(crowd, got, exact)]
    if errors.wrong_sign(got, exact)[0]:
        notes.append("wrong sign")
    if errors.nonfinite_mismatch(got, exact)[0]:
        notes.append("wrong infinity or NaN")
    value = float(got[0])
    ulps = float(errors.ulp_error(got, exact)[0])
    return replace(row, value=value, bits=_pattern(value, out), error_ulps=ulps, note=", ".join(notes))


def _said_of_crowd(crowd: Any, got: Any, exact: Reference) -> Iterator[str]:
    """What copies of one input give that it alone does not."""
    if isinstance(crowd, Failure):
        yield f"{crowd.kind} for {_CROWD} copies of x"
        return
    others = sorted({float(v) for v in crowd if not (v == got[0] or (v != v and got[0] != got[0]))})
    if others:
        shown = np.array(others[:3])
        said = (
            f"{float(v)!r} ({e:+.6g} ulps)"
            for v, e in zip(shown, errors.ulp_error(shown, exact), strict=True)
        )
        yield f"{', '.join(said)} among {_CROWD} copies of x"
