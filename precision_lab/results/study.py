"""What a report is made of besides measurements: reductions, timings, conversions, blocks; and the whole."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from precision_lab.results.cost import Cost
from precision_lab.results.execution import spaced
from precision_lab.results.measurement import Failure, Measurement, _failure
from precision_lab.results.profile import DEFAULT, Shown
from precision_lab.results.strict_json import _floats, strict_json
from precision_lab.system.text import plain_data
from precision_lab.system.typed import checked

SCHEMA = 1


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
        values["execution"] = spaced(data["execution"])
        values["failure"] = _failure(data["failure"])
        return checked(cls(**values))


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
        values["execution"] = spaced(data["execution"])
        values["failure"] = _failure(data["failure"])
        return checked(cls(**values))


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
        return checked(cls(**{**data, "failure": _failure(data["failure"])}))


@dataclass(frozen=True)
class Block:
    """One activation in a Llama-style MLP block: time of a forward and backward pass, and memory.

    Attributes:
        hidden: width between the two matrix products; `gated` blocks have a third product.
        time_ms: median per iteration, with its quartiles.
        peak_mib: most memory held at once beyond what was held before the iteration.
        ratio_to_silu, memory_to_silu: against SiLU in the same run.
        times_ms: of each iteration, in turns with the other blocks, so that those of one place are of one
            time; empty in reports of before they were kept.
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
    times_ms: tuple[float, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Block:
        names = ("time_ms", "time_ms_low", "time_ms_high", "peak_mib", "ratio_to_silu", "memory_to_silu")
        values = _floats(data, names)
        values["execution"] = spaced(data["execution"])
        values["failure"] = _failure(data["failure"])
        values["times_ms"] = tuple(map(float, data.get("times_ms", ())))
        return checked(cls(**values))


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
    emulated: tuple[Measurement, ...] = ()  # on emulated devices, by a study of the processor
    costs: tuple[Cost, ...] = ()  # of those, counted in their machine code
    lowprecision: dict[str, Any] | None = None  # as `study.lowprecision.examine` gives it
    schema: int = SCHEMA

    @property
    def profile(self) -> Shown:
        """What the report shows first, as the study was told; the default where it does not say."""
        kept = self.settings.get("profile")
        return DEFAULT.report if kept is None else Shown.from_json(kept)

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
        data = dataclasses.asdict(dataclasses.replace(self, measurements=(), emulated=(), costs=()))
        for name in ("measurements", "emulated", "costs"):
            data[name] = [m.to_json() for m in getattr(self, name)]
        return strict_json(data)

    @classmethod
    def loads(cls, text: str) -> Results:
        """Inverse of `dumps`.

        Raises:
            DamagedFileError: not JSON, another schema, fields that are missing or of another type, or counts
                that are negative or of more than all inputs.
        """
        from precision_lab.exceptions import DamagedFileError

        try:
            data = plain_data(json.loads(text))
            if data["schema"] != SCHEMA:
                raise DamagedFileError(f"results have schema={data['schema']!r}, this version reads {SCHEMA}")
            found = cls(
                environment=data["environment"],
                settings=data["settings"],
                measurements=tuple(Measurement.from_json(m) for m in data["measurements"]),
                reductions=tuple(Reduction.from_json(r) for r in data["reductions"]),
                timings=tuple(Timing.from_json(t) for t in data["timings"]),
                seconds={k: float(v) for k, v in data["seconds"].items()},
                # Reports of earlier versions have none of these.
                conversions=tuple(Conversion.from_json(c) for c in data.get("conversions", ())),
                blocks=tuple(Block.from_json(b) for b in data.get("blocks", ())),
                emulated=tuple(Measurement.from_json(m) for m in data.get("emulated", ())),
                costs=tuple(Cost.from_json(c) for c in data.get("costs", ())),
                lowprecision=data.get("lowprecision"),
            )
            checked(found)
            _ = found.profile  # raises where it cannot be read
            return found
        except (
            ArithmeticError, AttributeError, KeyError, MemoryError, RecursionError, TypeError, ValueError
        ) as error:  # fmt: skip
            raise DamagedFileError(f"not a precision_lab results file: {error!r}") from error
