"""The record of one thing that was found about a kernel; `docs/finding.schema.json` describes its JSON."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from precision_lab.results.codes import ACCURACY, CODES
from precision_lab.results.facts import Facts, Sighting
from precision_lab.results.hints import hint
from precision_lab.results.measurement import Witness
from precision_lab.results.severity import Severity, deciding_region, is_outer
from precision_lab.results.strict_json import _floats
from precision_lab.system.text import make_plain, plain_message
from precision_lab.system.typed import checked

SCHEMA = 1  # of a finding's JSON; it rises when a reader of the old one would misunderstand the new one


@dataclass(frozen=True, kw_only=True)
class Finding(Facts):
    """One thing that was found about a kernel.

    What is not a field follows from those that are: severity and next step, by the table `codes.CODES`.

    Attributes:
        message: one or two sentences with what was expected and what came.
        replay: a command that shows it again; "" where there is none.

    Raises:
        ValueError: an unknown code.
    """

    function: str
    implementation: str
    params_name: str
    message: str
    replay: str = ""

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise ValueError(f"code={self.code!r}: known are {', '.join(CODES)}")
        make_plain(
            self, "function", "implementation", "fmt", "params_name", "message", "output", "region", "replay"
        )

    @property
    def kind(self) -> str:
        """The code, by the name that it had in earlier versions."""
        return self.code

    @property
    def severity(self) -> Severity:
        rule = CODES[self.code].severity
        return rule if isinstance(rule, Severity) else rule(self)

    @property
    def outer(self) -> bool:
        """Whether it is of errors in tails, at subnormals, infinities and NaN alone."""
        return self.code in ACCURACY and is_outer(self)

    @property
    def next_step(self) -> str:
        """What the kernel's author should do next, in a sentence or two."""
        return self.step_in(deciding_region(self))

    def step_in(self, region: str) -> str:
        """The same for one region in which it was seen."""
        if known_better := hint(self.code, self.message):
            return plain_message(known_better)
        code = CODES[self.code]
        template = code.by_region.get(region, code.next_step)
        return plain_message(template.format(output=self.output or "the result", fmt=self.fmt, region=region))

    def to_json(self) -> dict[str, Any]:
        """Plain data, with what follows from the fields and the names that earlier versions had."""
        data = dataclasses.asdict(self)
        derived = {"severity": self.severity.word, "next_step": self.next_step}
        return {"schema": SCHEMA, "kind": self.code, **data, **derived}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Finding:
        """Inverse of `to_json`; what earlier versions did not write is derived or left open.

        Raises:
            ValueError: a later schema, an unknown code, or a field of another type.
        """
        if data.get("schema", SCHEMA) != SCHEMA:
            raise ValueError(f"schema={data['schema']!r}: this version reads findings of schema {SCHEMA}")
        values = _floats({"ulps": math.nan, **data}, ("ulps",))
        values.setdefault("code", data.get("kind"))
        values = {name: value for name, value in values.items() if name in _FIELDS}
        if values.get("witness") is not None:
            values["witness"] = Witness.from_json(values["witness"])
        values["also"] = tuple(map(Sighting.from_json, values.get("also", ())))
        return checked(cls(**values))


_FIELDS = frozenset(f.name for f in dataclasses.fields(Finding))


def ranked(findings: Iterable[Finding], *, outer_last: bool = True) -> tuple[Finding, ...]:
    """The worst first: by severity, with tails, subnormals and infinities last in each, then by the bits that
    are lost, then by how often it was seen.

    Args:
        outer_last: False has tails and the like among the others of their severity.
    """
    return tuple(sorted(findings, key=lambda f: (f.severity, outer_last and f.outer, -_lost(f), -f.count)))


def _lost(finding: Finding) -> float:
    """Bits lost to the worst error; 0 where it is no matter of ulps."""
    return 0.0 if math.isnan(finding.ulps) else math.log2(1 + abs(finding.ulps))
