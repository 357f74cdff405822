"""What a verdict has looked at, and what nobody has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from precision_lab.system.text import make_plain
from precision_lab.system.typed import checked


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
        make_plain(self, "what", "params_name", "reason")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> NotExamined:
        return checked(cls(**data))


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
        make_plain(self, "params_name", "reason")

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Examination:
        return checked(cls(**data))
