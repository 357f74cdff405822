"""What devices may return that keep to the manual, where a kernel's results depend on that."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from precision_lab.results.strict_json import _floats
from precision_lab.system.text import make_plain
from precision_lab.system.typed import checked

CERTIFIED = "certified for every conforming device"
REFUTED = "refuted on every conforming device"
DEPENDS = "depends on the device"


@dataclass(frozen=True)
class Span:
    """The largest error over some inputs, on the best conforming device and on the worst.

    Attributes:
        least: no conforming device has a smaller one: the largest over inputs of what the nearest of the
            allowed results is off by, in ulps; the same of how often a sign, or a NaN or infinity, is wrong.
        most: no conforming device has a larger one.
    """

    least: float
    most: float
    wrong_sign: tuple[int, int] = (0, 0)
    nonfinite: tuple[int, int] = (0, 0)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Span:
        values = _floats(data, ("least", "most"))
        for name in ("wrong_sign", "nonfinite"):
            least, most = data[name]
            values[name] = (int(least), int(most))
        return checked(cls(**values))


@dataclass(frozen=True)
class Varying:
    """An input at which conforming devices differ.

    Attributes:
        bits: of the input.
        least, most: the smallest and the largest error of an allowed result, in ulps; NaN where one is not
            finite.
    """

    bits: str
    x: float
    least: float
    most: float

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Varying:
        return checked(cls(**_floats(data, ("x", "least", "most"))))


@dataclass(frozen=True)
class Conformity:
    """One output over all inputs of a measurement, on every device that keeps to the manual.

    Attributes:
        instructions: whose results are the device's to choose.
        combinations: of results that were tried, each for every input; 0 where they are enclosed.
        varying: inputs at which two of them differ, or the ends of what encloses them.
        regions: by region of inputs.
        examples: inputs at which results differ, the largest difference first.
        unknown: why nothing is known of other devices; then nothing is certified or refuted.
        tables: devices from whose tables results were taken: all else is said of these alone.
    """

    instructions: tuple[str, ...] = ()
    combinations: int = 1
    varying: int = 0
    regions: dict[str, Span] = field(default_factory=dict, hash=False)
    examples: tuple[Varying, ...] = ()
    unknown: str = ""
    tables: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        make_plain(self, "unknown")

    @property
    def is_enclosed(self) -> bool:
        """Whether ranges hold the results, and perhaps more than those: an error in them need not occur."""
        return self.combinations == 0

    @property
    def most(self) -> float:
        """The largest error that a conforming device may show, in ulps."""
        return max((span.most for span in self.regions.values()), default=0.0)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Conformity:
        return checked(
            cls(
                tuple(data["instructions"]), data["combinations"], data["varying"],
                {name: Span.from_json(span) for name, span in data["regions"].items()},
                tuple(Varying.from_json(v) for v in data["examples"]), data["unknown"],
                tuple(data.get("tables", ())),
            )
        )  # fmt: skip
