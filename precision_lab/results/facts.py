"""The facts of a finding that say how bad it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from precision_lab.results.measurement import Witness
from precision_lab.system.typed import checked


@dataclass(frozen=True)
class Sighting:
    """The worst input of one more region in which the same was found."""

    region: str
    witness: Witness

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sighting:
        return checked(cls(data["region"], Witness.from_json(data["witness"])))


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What severity looks at.

    Attributes:
        code: what was found; one of `codes.CODES`, stable over versions.
        output, region: where it was seen; "" where the whole kernel, or every region, is meant.
        ulps: the worst error seen, signed; NaN where it is no matter of ulps.
        count: inputs or calls it was seen on.
        ordinary: how many of these inputs are of ordinary magnitude; None where nobody counted.
        witness: the input that the message names, as data.
        also: the worst inputs of other regions in which the same was found.
        output_precision: p of the output's format, in bits; 0 where it is not known.
    """

    code: str
    fmt: str
    output: str = ""
    region: str = ""
    ulps: float = math.nan
    count: int = 1
    ordinary: int | None = None
    witness: Witness | None = None
    also: tuple[Sighting, ...] = ()
    output_precision: int = 0
