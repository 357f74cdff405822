"""Result types passed from measurement to verdict and report; frozen, JSON in and out."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation, localcontext
from pathlib import Path
from typing import Any

from precision_lab.formats import FORMATS, get_format
from precision_lab.functions import FUNCTIONS
from precision_lab.results.conformity import Conformity
from precision_lab.results.execution import spaced
from precision_lab.results.strict_json import _floats
from precision_lab.system.text import make_plain
from precision_lab.system.typed import checked


@dataclass(frozen=True)
class Witness:
    """The input at which an error was seen, ready to be pasted back."""

    bits: str  #: "0xb58d", bits of x in the input format
    x: float
    x_hex: str
    computed: float
    computed_hex: str
    computed_bits: str
    exact: str  #: decimal, 25 significant digits
    rounded: float  #: correct rounding of the exact value in the output format
    error_ulps: float  #: signed, computed - exact

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Witness:
        return checked(cls(**_floats(data, ("x", "computed", "rounded", "error_ulps"))))


@dataclass(frozen=True, kw_only=True)
class Signed:
    """Which way errors go: positive is away from zero, seen from the exact value.

    None is what is not known: results of earlier versions, single binades, means of nothing, and standard
    errors where an error is beyond 1024 ulps (or 1024·2^-p), at which squares are clipped.

    Attributes:
        mean_signed_ulp, mean_signed_relative: means of (y − f)·sign(f) in ulps and of (y − f)/f, the latter
            clipped to ±1, and over all inputs without those whose exact result is subnormal.
        signed_ulp_error, signed_relative_error: their standard errors, inputs taken as independent.
        nearest_signed_ulp, nearest_signed_relative: the same means of the correct rounding.
        lean: half the difference of two shares: of results that should have been rounded toward zero, those
            rounded away; of those that should have been rounded away, those rounded toward. 0 for
            rounding to nearest, −1/2 for truncation, 1/2 for rounding away from zero. Over results within
            one ulp whose exact value is no number of the format (nor within 2^-10 ulp of one), from the
            cells with 2^-8 ≤ |x| < 2^8 where correct roundings go both ways, at least one in four each.
        inexact: how many these are; both also for exact values above and below 0 alone.
    """

    mean_signed_ulp: float | None = None
    signed_ulp_error: float | None = None
    nearest_signed_ulp: float | None = None
    mean_signed_relative: float | None = None
    signed_relative_error: float | None = None
    nearest_signed_relative: float | None = None
    lean: float | None = None
    inexact: int = 0
    lean_positive: float | None = None
    inexact_positive: int = 0
    lean_negative: float | None = None
    inexact_negative: int = 0


_SIGNED = tuple(f.name for f in dataclasses.fields(Signed))
SIGNED_FLOATS = tuple(name for name in _SIGNED if not name.startswith("inexact"))


@dataclass(frozen=True)
class Statistics(Signed):
    """Errors over one set of inputs (a region, a binade, or all)."""

    n_inputs: int
    max_ulp: float
    mean_ulp: float
    not_correctly_rounded: int
    wrong_sign: int
    nonfinite_mismatch: int
    min_correct_bits: float  #: worst -log2(relative error), capped at p
    mean_correct_bits: float
    witness: Witness | None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Statistics:
        values = _floats(data, _BINADE_FLOATS)
        values |= _signed_floats(data)
        values["witness"] = Witness.from_json(data["witness"]) if data["witness"] else None
        found = checked(cls(**values))
        _check_counts(found)
        return found


@dataclass(frozen=True)
class Binade:
    """Statistics of the inputs with one sign and exponent: [2^e, 2^(e+1)) in magnitude."""

    sign: int  #: -1 or +1
    exponent: int
    statistics: Statistics


@dataclass(frozen=True)
class Failure:
    """A case that gave no figures, and why; `kind` as in `KernelError`."""

    kind: str
    message: str

    def __post_init__(self) -> None:
        make_plain(self, "message")


def _check_counts(record: Statistics | Measurement) -> None:
    for name in ("not_correctly_rounded", "wrong_sign", "nonfinite_mismatch"):
        if getattr(record, name) > record.n_inputs:
            raise ValueError(f"{name}={getattr(record, name)!r} of n_inputs={record.n_inputs!r}")


def _failure(data: Mapping[str, Any] | None) -> Failure | None:
    return checked(Failure(**data)) if data else None


@dataclass(frozen=True)
class Measurement(Signed):
    """One implementation, one format, one output, one parameter set, one input set.

    Attributes:
        time_ns_per_element: of the kernel's own calls in this very run, on its device until they are done,
            without inputs, casts around an FP8 core and scoring. The forward pass; for a gradient that and
            the backward pass, which gives all gradients that were measured with it. No benchmark: it may be
            of one call, and a sweep's wait for other threads. None where no call counted: a first one may
            still load or compile, and one of a few elements is all overhead. Two measurements that differ
            in it alone are equal.
    """

    function: str
    implementation: str
    execution: str
    fmt: str
    output_fmt: str
    output: str
    params_name: str
    params: dict[str, float]  #: effective values the kernel received
    inputs: str  #: "exhaustive", "stratified[:N]" or "array"
    n_inputs: int = 0
    max_ulp: float = 0.0
    mean_ulp: float = 0.0
    quantiles: dict[str, float] = field(default_factory=dict)  #: "0.5", …, "0.999": at most so many ulps
    normal_bias: tuple[float, float] | None = None  #: see `bias.normal_bias`
    not_correctly_rounded: int = 0
    wrong_sign: int = 0
    nonfinite_mismatch: int = 0
    zero_sign_mismatch: int = 0
    undecided: int = 0
    escalated: dict[str, int] = field(default_factory=dict)  #: inputs settled by each tier
    monotonicity_violations: int = 0
    #: spread of computed values around 0 beyond the exact one, absolute; NaN if not finite
    jump_at_zero: float = 0.0
    witness: Witness | None = None
    nonfinite_witness: Witness | None = None
    sign_witness: Witness | None = None
    regions: dict[str, Statistics] = field(default_factory=dict)
    binades: tuple[Binade, ...] = ()
    time_ns_per_element: float | None = field(default=None, compare=False)
    failure: Failure | None = None
    environment: dict[str, str] = field(default_factory=dict)
    target: str = ""  #: where a stranger's kernel was found
    definition: str = ""  #: where a user's own function was found, FILE:NAME
    device: str = "cpu"  #: where the kernel ran
    asked: dict[str, float] = field(default_factory=dict)  #: parameters, where the kernel made others of them
    options: str = ""  #: with which the command line calls the kernel as it was called
    output_precision: int = 0  #: of the output's format, in bits; 0 in results of earlier versions
    conformity: Conformity | None = None  #: where the device's instructions may return one of several results

    def __post_init__(self) -> None:
        make_plain(self, "implementation", "params_name")

    @property
    def precision_bits(self) -> int:
        """p of the output's format, whose name may be a user's own."""
        return self.output_precision or get_format(self.output_fmt).precision

    @property
    def case(self) -> str:
        """Readable key: function/implementation/execution/fmt/output/params."""
        return "/".join(
            (self.function, self.implementation, self.execution, self.fmt, self.output, self.params_name)
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data; binades as one list per column, which is a tenth of the text."""
        data = dataclasses.asdict(dataclasses.replace(self, binades=()))
        data["binades"] = _columns(self.binades)
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        values = _floats(data, ("max_ulp", "mean_ulp", "jump_at_zero"))
        values |= _signed_floats(data)
        values["execution"] = spaced(data["execution"])
        if (spent := data.get("time_ns_per_element")) is not None:
            values["time_ns_per_element"] = float(spent)
        if data.get("normal_bias") is not None:
            values["normal_bias"] = tuple(float(v) for v in data["normal_bias"])
        values["quantiles"] = {k: float(v) for k, v in data["quantiles"].items()}
        for name in ("witness", "nonfinite_witness", "sign_witness"):
            values[name] = Witness.from_json(data[name]) if data[name] else None
        values["regions"] = {k: Statistics.from_json(v) for k, v in data["regions"].items()}
        values["binades"] = _rows(data["binades"])
        values["failure"] = _failure(data["failure"])
        if data.get("conformity") is not None:
            values["conformity"] = Conformity.from_json(data["conformity"])
        found = checked(cls(**values))
        _check_counts(found)
        return found


def exact_interval(witness: Witness) -> str:
    """Two decimals with the exact value between them: one unit either way of the 25 digits shown.

    The digits are rounded to nearest from a value certified to 2^-100, a millionth of that unit.
    """
    try:
        shown = Decimal(witness.exact)
    except InvalidOperation:
        return witness.exact
    if not shown.is_finite() or shown == 0:
        return f"[{witness.exact}, {witness.exact}]"
    with localcontext() as context:
        context.prec = 40
        unit = Decimal(1).scaleb(shown.adjusted() - 24)
        return f"[{shown - unit}, {shown + unit}]"


def named_function(name: str, definition: str) -> str:
    """What a command line calls a function: FILE:NAME of a user's own; "" where nothing names it."""
    if not definition:
        return name if name in FUNCTIONS else ""
    file, _, own = definition.rpartition(":")
    path = Path(file)
    here = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return shlex.quote(f"{here}:{own}")


def replay_command(m: Measurement, witness: Witness) -> str:
    """The command that shows one input of a measurement again, with the parameters the kernel used.

    A TARGET gets the values that were asked for, the initial ones by default: one with raw parameters
    inside would put the effective values through its constraint once more.

    Empty for a function or a format of the user's own that no command can name.
    """
    function = named_function(m.function, m.definition)
    if not function or m.fmt not in FORMATS:
        return ""
    params = {} if m.target and m.params_name == "init" else m.asked or m.params
    words = [
        f"precision-lab explain {function} --bits {witness.bits} --format {m.fmt} --output {m.output}",
        *(f"--param {name}={value!r}" for name, value in params.items()),
        *([f"--kernel {shlex.quote(m.target)}"] if m.target else []),
        *([m.options] if m.options else []),
        *([f"--device {m.device}"] if m.device != "cpu" else []),
    ]
    return " ".join(words)


# Neither witnesses nor signed errors: 500 binades a case would dwarf the measurement.
_BINADE_COLUMNS = tuple(f.name for f in dataclasses.fields(Statistics) if f.name not in (*_SIGNED, "witness"))

_BINADE_FLOATS = ("max_ulp", "mean_ulp", "min_correct_bits", "mean_correct_bits")
_BINADE_COUNTS = tuple(name for name in _BINADE_COLUMNS if name not in _BINADE_FLOATS)


def _columns(binades: tuple[Binade, ...]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        "sign": [b.sign for b in binades],
        "exponent": [b.exponent for b in binades],
    }
    for name in _BINADE_COLUMNS:
        columns[name] = [getattr(b.statistics, name) for b in binades]
    return columns


def _rows(columns: Mapping[str, list[Any]]) -> tuple[Binade, ...]:
    """Each column is checked as a whole: there are as many rows as in all the rest together."""
    columns = dict(columns)
    for name in _BINADE_FLOATS:
        columns[name] = [float(value) for value in columns[name]]
    for name in ("sign", "exponent", *_BINADE_COLUMNS):
        if name in _BINADE_FLOATS:
            continue
        if not {type(value) for value in columns[name]} <= {int}:
            raise ValueError(f"binades: {name} has other than whole numbers")
        if name in _BINADE_COUNTS and min(columns[name], default=0) < 0:
            raise ValueError(f"binades: {name} has counts below 0")
    lists = [columns[name] for name in ("sign", "exponent", *_BINADE_COLUMNS)]
    return tuple(
        Binade(sign, exponent, Statistics(**dict(zip(_BINADE_COLUMNS, values, strict=True)), witness=None))
        for sign, exponent, *values in zip(*lists, strict=True)
    )


def _signed_floats(data: Mapping[str, Any]) -> dict[str, float]:
    """The fields of `Signed` that are known."""
    return {name: float(data[name]) for name in SIGNED_FLOATS if data.get(name) is not None}
