"""Result types passed from measurement to verdict and report; frozen, JSON in and out."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation, localcontext
from typing import Any

from precision_lab.text import plain_data, plain_message

SCHEMA = 1


def _make_plain(record: Any, *names: str) -> None:
    """For texts that a kernel or a user may have written: they reach terminals, XML, Markdown and HTML."""
    for name in names:
        object.__setattr__(record, name, plain_message(getattr(record, name)))


@dataclass(frozen=True)
class Witness:
    """The input at which an error was seen, ready to be pasted back."""

    bits: str  # "0xb58d", bits of x in the input format
    x: float
    x_hex: str
    computed: float
    computed_hex: str
    computed_bits: str
    exact: str  # decimal, 25 significant digits
    rounded: float  # correct rounding of the exact value in the output format
    error_ulps: float  # signed, computed - exact

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Witness:
        return cls(**_floats(data, ("x", "computed", "rounded", "error_ulps")))


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
    min_correct_bits: float  # worst -log2(relative error), capped at p
    mean_correct_bits: float
    witness: Witness | None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Statistics:
        values = _floats(data, ("max_ulp", "mean_ulp", "min_correct_bits", "mean_correct_bits"))
        values |= _signed_floats(data)
        values["witness"] = Witness.from_json(data["witness"]) if data["witness"] else None
        return cls(**values)


@dataclass(frozen=True)
class Binade:
    """Statistics of the inputs with one sign and exponent: [2^e, 2^(e+1)) in magnitude."""

    sign: int  # -1 or +1
    exponent: int
    statistics: Statistics


@dataclass(frozen=True)
class Failure:
    """A case that gave no figures, and why; `kind` as in `KernelError`."""

    kind: str
    message: str

    def __post_init__(self) -> None:
        _make_plain(self, "message")


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a kernel; `kind` is one of `faults.KINDS`.

    Attributes:
        output, region: where it was seen; "" where the whole kernel, or every region, is meant.
        ulps: the worst error seen, signed; NaN where it is no matter of ulps.
        count: inputs or calls it was seen on.
        message: one or two sentences with what was expected and what came.
        replay: a command that shows it again; "" where there is none.
    """

    kind: str
    function: str
    implementation: str
    fmt: str
    output: str
    params_name: str
    message: str
    region: str = ""
    ulps: float = math.nan
    count: int = 1
    replay: str = ""

    def __post_init__(self) -> None:
        _make_plain(self, "implementation", "params_name", "message", "replay")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Fault:
        return cls(**_floats(data, ("ulps",)))


@dataclass(frozen=True)
class NotExamined:
    """Something that nobody looked at, so that nothing is known of it.

    Attributes:
        what: a property, an output, or words for a part of one.
        asked: the caller asked for it, by default or by name; without it the verdict is inconclusive.
    """

    what: str
    fmt: str
    params_name: str
    reason: str
    asked: bool

    def __post_init__(self) -> None:
        _make_plain(self, "what", "params_name", "reason")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NotExamined:
        return cls(**data)


@dataclass(frozen=True)
class Examination:
    """That a property was examined, and how it ended.

    Attributes:
        state: "holds", "broken", "does not apply", or "not examined" where nothing was looked at.
        reason: why it does not apply or was not examined.
    """

    property: str
    fmt: str
    params_name: str
    state: str
    reason: str = ""

    def __post_init__(self) -> None:
        _make_plain(self, "params_name", "reason")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Examination:
        return cls(**data)


@dataclass(frozen=True)
class Measurement(Signed):
    """One implementation, one format, one output, one parameter set, one input set."""

    function: str
    implementation: str
    execution: str
    fmt: str
    output_fmt: str
    output: str
    params_name: str
    params: dict[str, float]  # effective values the kernel received
    inputs: str  # "exhaustive", "stratified[:N]" or "array"
    n_inputs: int = 0
    max_ulp: float = 0.0
    mean_ulp: float = 0.0
    quantiles: dict[str, float] = field(default_factory=dict)  # "0.5", …, "0.999": at most so many ulps
    normal_bias: tuple[float, float] | None = None  # see `bias.normal_bias`
    not_correctly_rounded: int = 0
    wrong_sign: int = 0
    nonfinite_mismatch: int = 0
    zero_sign_mismatch: int = 0
    undecided: int = 0
    escalated: dict[str, int] = field(default_factory=dict)  # inputs settled by each tier
    monotonicity_violations: int = 0
    jump_at_zero: float = (
        0.0  # spread of computed values around 0 beyond the exact one, absolute; NaN if not finite
    )
    witness: Witness | None = None
    nonfinite_witness: Witness | None = None
    sign_witness: Witness | None = None
    regions: dict[str, Statistics] = field(default_factory=dict)
    binades: tuple[Binade, ...] = ()
    time_ns_per_element: float | None = None
    failure: Failure | None = None
    environment: dict[str, str] = field(default_factory=dict)
    target: str = ""  # where a stranger's kernel was found
    device: str = "cpu"  # where the kernel ran
    asked: dict[str, float] = field(default_factory=dict)  # parameters, where the kernel made others of them
    options: str = ""  # with which the command line calls the kernel as it was called

    def __post_init__(self) -> None:
        _make_plain(self, "implementation", "params_name")

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
        if data.get("normal_bias") is not None:
            values["normal_bias"] = tuple(float(v) for v in data["normal_bias"])
        values["quantiles"] = {k: float(v) for k, v in data["quantiles"].items()}
        for name in ("witness", "nonfinite_witness", "sign_witness"):
            values[name] = Witness.from_json(data[name]) if data[name] else None
        values["regions"] = {k: Statistics.from_json(v) for k, v in data["regions"].items()}
        values["binades"] = _rows(data["binades"])
        values["failure"] = Failure(**data["failure"]) if data["failure"] else None
        return cls(**values)


@dataclass(frozen=True)
class Reduction:
    """A parameter gradient summed over a tensor, against the exactly rounded sum."""

    function: str
    implementation: str
    execution: str
    fmt: str
    output: str
    params_name: str
    n: int
    data: str  # what the tensor and the upstream gradient were, in words
    condition: float  # sum |terms| / |sum of terms|
    computed: float
    exact: float
    error_ulps: float  # in ulps of the parameter's dtype at the exact sum
    relative_error: float
    failure: Failure | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Reduction:
        values = _floats(data, ("condition", "computed", "exact", "error_ulps", "relative_error"))
        values["failure"] = Failure(**data["failure"]) if data["failure"] else None
        return cls(**values)


@dataclass(frozen=True)
class Timing:
    """Median time per element of one implementation, with its spread, and ratios in the same run."""

    function: str
    implementation: str
    execution: str
    fmt: str
    direction: str  # "forward", "backward" or "forward+backward"
    n: int
    repeats: int
    time_ns: float  # median, per element
    time_ns_low: float  # first quartile
    time_ns_high: float  # third quartile
    effective_gb_per_s: float  # bytes that must move (read x, write y; backward: read x and dy, write dx)
    ratio_to_silu: float
    ratio_to_copy: float
    compile_seconds: float | None = None
    failure: Failure | None = None
    bandwidth_share: float | None = None  # effective_gb_per_s over that of a copy in the same run

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Timing:
        names = (
            "time_ns",
            "time_ns_low",
            "time_ns_high",
            "effective_gb_per_s",
            "ratio_to_silu",
            "ratio_to_copy",
        )
        values = _floats(data, names)
        values["failure"] = Failure(**data["failure"]) if data["failure"] else None
        return cls(**values)


@dataclass(frozen=True)
class Conversion:
    """A cast of every number of a format to a narrower one, against the exact rounding.

    Attributes:
        misrounded: inputs within the target's range whose result is not the nearest number, ties to
            even, with the input's sign.
        overflow, infinity, nan: what comes of finite numbers beyond the range, of ±inf and of NaN:
            "saturates", "infinity", "NaN", or several with their counts.
    """

    name: str
    device: str
    source: str
    target: str
    n_inputs: int = 0
    misrounded: int = 0
    witness: str = ""
    overflow: str = ""
    infinity: str = ""
    nan: str = ""
    failure: Failure | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Conversion:
        return cls(**{**data, "failure": Failure(**data["failure"]) if data["failure"] else None})


@dataclass(frozen=True)
class Block:
    """One activation in a Llama-style MLP block: time of a forward and backward pass, and memory.

    Attributes:
        hidden: width between the two matrix products; `gated` blocks have a third product.
        time_ms: median per iteration, with its quartiles.
        peak_mib: most memory held at once beyond what was held before the iteration.
        ratio_to_silu, memory_to_silu: against SiLU in the same run.
    """

    function: str
    implementation: str
    execution: str
    fmt: str
    model_width: int
    hidden: int
    tokens: int
    gated: bool
    repeats: int
    time_ms: float
    time_ms_low: float
    time_ms_high: float
    peak_mib: float
    ratio_to_silu: float
    memory_to_silu: float
    failure: Failure | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Block:
        names = ("time_ms", "time_ms_low", "time_ms_high", "peak_mib", "ratio_to_silu", "memory_to_silu")
        values = _floats(data, names)
        values["failure"] = Failure(**data["failure"]) if data["failure"] else None
        return cls(**values)


@dataclass(frozen=True)
class Results:
    """Everything one run of the study measured; a report is rebuilt from this alone."""

    environment: dict[str, str]
    settings: dict[str, Any]
    measurements: tuple[Measurement, ...]
    reductions: tuple[Reduction, ...]
    timings: tuple[Timing, ...]
    seconds: dict[str, float]  # wall time per stage: "oracle", "eager", "compiled", "compile", "timing"
    conversions: tuple[Conversion, ...] = ()
    blocks: tuple[Block, ...] = ()
    lowprecision: dict[str, Any] | None = None  # as `lowprecision.study.examine` gives it
    schema: int = SCHEMA

    @property
    def lost(self) -> str:
        """What destroyed the GPU's context, in a sentence, so that not everything was measured; or ""."""
        rows: tuple[Any, ...] = (
            *self.measurements, *self.reductions, *self.timings, *self.conversions, *self.blocks
        )  # fmt: skip
        failures = (row.failure for row in rows if row.failure is not None)
        return next((f.message for f in failures if f.kind in ("crashed", "device_lost")), "")

    def dumps(self) -> str:
        """JSON text; non-finite floats become the strings "inf", "-inf", "nan"."""
        data = dataclasses.asdict(dataclasses.replace(self, measurements=()))
        data["measurements"] = [m.to_json() for m in self.measurements]
        return strict_json(data)

    @classmethod
    def loads(cls, text: str) -> Results:
        """Inverse of `dumps`.

        Raises:
            DamagedFileError: not JSON, another schema, or missing fields.
        """
        from precision_lab.exceptions import DamagedFileError

        try:
            data = plain_data(json.loads(text))
            if data["schema"] != SCHEMA:
                raise DamagedFileError(f"results have schema={data['schema']!r}, this version reads {SCHEMA}")
            return cls(
                environment=data["environment"],
                settings=data["settings"],
                measurements=tuple(Measurement.from_json(m) for m in data["measurements"]),
                reductions=tuple(Reduction.from_json(r) for r in data["reductions"]),
                timings=tuple(Timing.from_json(t) for t in data["timings"]),
                seconds={k: float(v) for k, v in data["seconds"].items()},
                # Reports of earlier versions have none of these.
                conversions=tuple(Conversion.from_json(c) for c in data.get("conversions", ())),
                blocks=tuple(Block.from_json(b) for b in data.get("blocks", ())),
                lowprecision=data.get("lowprecision"),
            )
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise DamagedFileError(f"not a precision_lab results file: {error!r}") from error


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


def replay_command(m: Measurement, witness: Witness) -> str:
    """The command that shows one input of a measurement again, with the parameters the kernel used.

    A TARGET gets the values that were asked for, the initial ones by default: one with raw parameters
    inside would put the effective values through its constraint once more.
    """
    params = {} if m.target and m.params_name == "init" else m.asked or m.params
    words = [
        f"precision-lab explain {m.function} --bits {witness.bits} --format {m.fmt} --output {m.output}",
        *(f"--param {name}={value!r}" for name, value in params.items()),
        *([f"--kernel {shlex.quote(m.target)}"] if m.target else []),
        *([m.options] if m.options else []),
        *([f"--device {m.device}"] if m.device != "cpu" else []),
    ]
    return " ".join(words)


# Neither witnesses nor signed errors: 500 binades a case would dwarf the measurement.
_BINADE_COLUMNS = tuple(f.name for f in dataclasses.fields(Statistics) if f.name not in (*_SIGNED, "witness"))


def _columns(binades: tuple[Binade, ...]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        "sign": [b.sign for b in binades],
        "exponent": [b.exponent for b in binades],
    }
    for name in _BINADE_COLUMNS:
        columns[name] = [getattr(b.statistics, name) for b in binades]
    return columns


def _rows(columns: Mapping[str, list[Any]]) -> tuple[Binade, ...]:
    lists = [columns[name] for name in ("sign", "exponent", *_BINADE_COLUMNS)]
    return tuple(
        Binade(
            sign,
            exponent,
            Statistics.from_json({**dict(zip(_BINADE_COLUMNS, values, strict=True)), "witness": None}),
        )
        for sign, exponent, *values in zip(*lists, strict=True)
    )


def _floats(data: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """A copy of `data` with the named fields as floats ("inf", "-inf", "nan" are strings in JSON)."""
    values = dict(data)
    for name in names:
        values[name] = float(values[name])
    return values


def _signed_floats(data: Mapping[str, Any]) -> dict[str, float]:
    """The fields of `Signed` that are known."""
    return {name: float(data[name]) for name in SIGNED_FLOATS if data.get(name) is not None}


def strict_json(data: Any) -> str:
    """Compact JSON that every reader takes: non-finite floats as "inf", "-inf", "nan"."""
    return json.dumps(_strict(data), allow_nan=False, separators=(",", ":"))


def _strict(value: Any) -> Any:
    """`value` with non-finite floats spelt as strings, so that the file is JSON for every reader."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return repr(value)
    if isinstance(value, dict):
        return {k: _strict(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(v) for v in value]
    return value
