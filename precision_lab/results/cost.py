"""What a kernel costs, as counted in its machine code: no time, and nothing that was measured on a GPU."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from precision_lab.results.execution import spaced
from precision_lab.results.strict_json import _floats
from precision_lab.system.text import make_plain
from precision_lab.system.typed import checked

MOST = 0.9  # of what any unit can do while memory is full: the rest is the margin
BY_MEMORY, BY_INSTRUCTIONS, OPEN = "memory", "instructions", "open"


@dataclass(frozen=True)
class Share:
    """What the units of one GPU have to do while a plain copy moves the bytes that a kernel moves.

    Attributes:
        gpu: its name.
        units: by unit, the share of what it can do in that while; with more than 1 it holds the copy up.
        least_issued: the share of issue slots on the way with the fewest instructions.
        copy_is_measured: what a copy reaches of the peak bandwidth was measured on such a GPU, not assumed.
    """

    gpu: str
    units: dict[str, float] = field(hash=False)
    least_issued: float
    copy_is_measured: bool

    @property
    def unit(self) -> str:
        """The one with the largest share."""
        return max(self.units, key=lambda unit: self.units[unit])

    @property
    def largest(self) -> float:
        return self.units[self.unit]

    @property
    def bound(self) -> str:
        """What holds the kernel up, by this count: memory with a margin of a tenth, or instructions."""
        if self.largest <= MOST:
            return BY_MEMORY
        is_range = self.least_issued < self.units.get("issue slots", 0.0)
        return OPEN if is_range and self.least_issued <= MOST else BY_INSTRUCTIONS

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Share:
        values = _floats({name: data[name] for name in data if name != "bound"}, ("least_issued",))
        values["units"] = {unit: float(share) for unit, share in data["units"].items()}
        return checked(cls(**values))


@dataclass(frozen=True)
class LaunchCost:
    """One launch of a kernel; figures per element are what one more element of a large tensor adds.

    Attributes:
        grid, block: blocks, and threads of a block, in x, y and z, for the larger of the two tensors.
        registers, stack_bytes: of a thread. shared_bytes: of a block.
        warps, most_warps: resident on a multiprocessor, and those it has room for; 0 where that is not known.
        limit: what there is not enough of for more warps.
        least, most: instructions that threads execute, per element, for standard normal inputs.
        longest: the most of any inputs, with loops as often as for those.
        once: instructions of a thread that do not grow with the tensor.
        units: instructions that take a unit of its own, per element, at most.
        spilled: loads and stores of registers that had no room, per element, at most.
        loaded, stored: bytes that accesses to global memory name, per element, at most.
        read, written: bytes of global memory that are touched, each once, per element.
        unused: evidence that did not fit the machine code and was left out.
        assembled: by the lab, not by the kernel's own compiler.
        opcodes: instructions by name, MUFU with its function ("MUFU.EX2"), per element, on the way with the
            most of them; empty in reports of before they were kept.
    """

    kernel: str
    grid: tuple[int, ...]
    block: tuple[int, ...]
    registers: int
    stack_bytes: int
    shared_bytes: int
    warps: int
    most_warps: int
    limit: str
    least: float
    most: float
    longest: float
    once: float
    units: dict[str, float] = field(hash=False)
    spilled: float
    loaded: float
    stored: float
    read: float
    written: float
    unused: tuple[str, ...] = ()
    assembled: bool = False
    opcodes: dict[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        make_plain(self, "kernel")

    @property
    def occupancy(self) -> float | None:
        return self.warps / self.most_warps if self.most_warps else None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LaunchCost:
        values = _floats(
            data, ("least", "most", "longest", "once", "spilled", "loaded", "stored", "read", "written")
        )
        for name, counts in (("units", data["units"]), ("opcodes", data.get("opcodes", {}))):
            values[name] = {key: float(count) for key, count in counts.items()}
        for name in ("grid", "block", "unused"):
            values[name] = tuple(data[name])
        return checked(cls(**values))


def _added(every: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Counts of the same name, summed."""
    found: dict[str, float] = {}
    for counts in every:
        for name, count in counts.items():
            found[name] = found.get(name, 0.0) + count
    return found


@dataclass(frozen=True)
class DirectionCost:
    """All launches of one pass.

    Attributes:
        direction: "forward" or "backward".
        due: bytes per element that must move: x and y, or dy, x and dx.
        failure: why nothing is known; "" where something is.
        note: what is not counted.
    """

    direction: str
    due: float
    launches: tuple[LaunchCost, ...] = ()
    shares: tuple[Share, ...] = ()
    failure: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        make_plain(self, "failure", "note")

    @property
    def least(self) -> float:
        return sum(launch.least for launch in self.launches)

    @property
    def most(self) -> float:
        return sum(launch.most for launch in self.launches)

    @property
    def longest(self) -> float:
        return sum(launch.longest for launch in self.launches)

    @property
    def moved(self) -> float:
        """Bytes per element that the launches move, each sector of a launch once."""
        return sum(launch.read + launch.written for launch in self.launches)

    @property
    def units(self) -> dict[str, float]:
        return _added(launch.units for launch in self.launches)

    @property
    def opcodes(self) -> dict[str, float]:
        """Instructions by name; empty where a launch was recorded without."""
        every = all(launch.opcodes for launch in self.launches)
        return _added(launch.opcodes for launch in self.launches) if every else {}

    @property
    def main(self) -> LaunchCost | None:
        """The launch with the most instructions per element."""
        return max(self.launches, key=lambda launch: launch.most, default=None)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DirectionCost:
        values = _floats(data, ("due",))
        values["launches"] = tuple(LaunchCost.from_json(each) for each in data["launches"])
        values["shares"] = tuple(Share.from_json(each) for each in data["shares"])
        return checked(cls(**values))


@dataclass(frozen=True)
class Cost:
    """A kernel's cost on one device, in one format.

    Attributes:
        device: such as "sm_90".
        elements: of the two tensors whose difference is counted.
        target: of a kernel of the user's.
    """

    function: str
    implementation: str
    execution: str
    fmt: str
    device: str
    elements: tuple[int, ...]
    directions: tuple[DirectionCost, ...]
    target: str = ""
    environment: dict[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        make_plain(self, "implementation", "target")

    @property
    def failure(self) -> None:
        """None: what could not be counted is said of its direction."""

    def direction(self, name: str) -> DirectionCost | None:
        return next((each for each in self.directions if each.direction == name), None)

    def to_json(self) -> dict[str, Any]:
        data = dataclasses.asdict(self)
        for kept, direction in zip(data["directions"], self.directions, strict=True):
            bound = {share.gpu: share.bound for share in direction.shares}
            for share in kept["shares"]:
                share["bound"] = bound[share["gpu"]]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Cost:
        values = dict(data)
        values["execution"] = spaced(data["execution"])
        values["elements"] = tuple(data["elements"])
        values["directions"] = tuple(DirectionCost.from_json(each) for each in data["directions"])
        return checked(cls(**values))
