"""Findings for people: those with one cause together, the worst first, with the input that shows it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from precision_lab.results import Finding, Measurement, Severity, Witness, replay_command
from precision_lab.results.codes import ACCURACY, RUNNING
from precision_lab.results.severity import (
    OUTER,
    deciding_region,
    deciding_witness,
    exact_value,
    is_ordinary,
)
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.judge import at_witness
from precision_lab.verifying.verdict import Verdict

SHOWN = 5  # causes that fit one screen with the lines of a dozen outputs
TOLD = 4  # regions of one finding
# Regions in which an error has the same cause, and the same remedy (`codes.CODES`).
_FAMILIES = {
    "zero": "near 0", "eps_zone": "near 0", "near_zero_negative": "near 0",
    "root_forward": "root", "root_gradient": "root",
    "subnormal_input": "subnormal", "subnormal_result": "subnormal",
    "rest_negative": "", "positive": "",
}  # fmt: skip
_OF_ULPS = ("inaccurate", "worse_than")
_COUNTED = {"wrong_sign": "wrong_sign", "nonfinite": "nonfinite_mismatch"}


@dataclass(frozen=True)
class Sight:
    """A finding as it is shown.

    Attributes:
        region: where the witness lies; "" where that is not known.
        witness: the input that the finding is as bad for as it is; of ordinary magnitude if one was kept.
        counts: by region, of results that are counted.
        errors: by region, the largest of those beyond the bound, in ulps.
        limit: the bound in the region of the witness; None where there is none.
    """

    finding: Finding
    region: str
    witness: Witness | None
    replay: str
    counts: Mapping[str, int]
    errors: Mapping[str, float]
    limit: float | None

    @property
    def family(self) -> str:
        """Words for where it is, the same wherever the cause is."""
        f = self.finding
        if f.code not in ACCURACY:
            return f.message if f.code in RUNNING else ""
        region = self.region
        if self.counts:
            inner = [name for name in self.counts if name not in OUTER]
            region = inner[0] if f.ordinary and inner else next(iter(self.counts))
        return _FAMILIES.get(region, region)

    def headline(self) -> str:
        """What was found and the worst of it, without the input at which it is shown."""
        f = self.finding
        if f.code == "inaccurate" and self.limit is not None and self.witness is not None:
            return f"{abs(self.witness.error_ulps):.4g} ulps in {self.region}, bound {self.limit:g}"
        return f.message if f.witness is None else f.message.removesuffix(at_witness(f.witness)).rstrip(" ,")

    def said(self) -> str:
        """The same, with the other regions it was found in."""
        others = [f"{name} {ulps:.4g}" for name, ulps in self.errors.items() if name != self.region]
        if self.counts:
            others = [f"{name} {count}" for name, count in self.counts.items()]
        elif self.finding.code != "inaccurate" or self.limit is None:
            others = []  # its message has them
        if len(others) > TOLD:
            others[TOLD - 1 :] = [f"{len(others) - TOLD + 1} more regions"]
        return f"{self.headline()} ({', '.join(others)})" if others else self.headline()

    @property
    def regions(self) -> tuple[str, ...]:
        """Those that its lines name."""
        named = [*self.counts] if self.finding.code != "inaccurate" else [*self.errors]
        named = [name for name in named if name != self.region or not self.errors]
        named = named if len(named) <= TOLD else named[: TOLD - 1]
        return tuple(dict.fromkeys(name for name in (self.region, *named) if name))


@dataclass(frozen=True)
class Cause:
    """Findings of one code and place, whatever the format, output and parameters: the first is shown."""

    sights: tuple[Sight, ...]

    @property
    def lead(self) -> Sight:
        return self.sights[0]

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(sight.finding for sight in self.sights)

    @property
    def severity(self) -> Severity:
        return self.lead.finding.severity

    @property
    def outer(self) -> bool:
        """Whether it is read last: minor, and in tails, at subnormals or infinities alone."""
        return self.severity >= Severity.MINOR and all(f.outer for f in self.findings)

    @property
    def place(self) -> str:
        """A word or two for where it is."""
        region = self.lead.region or next(iter(self.lead.counts), "")
        return "at ±inf and NaN" if region == "special" else region

    def sentence(self) -> str:
        """What was found, where, and the worst of it."""
        f = self.lead.finding
        where = ", ".join(part for part in (f.fmt, f.params_name) if part)
        subject = " ".join(part for part in (f.output, f"[{where}]" if where else "") if part)
        return ": ".join(part for part in (f.code, subject, self.lead.said()) if part)

    def spread(self) -> str:
        """How often it was found, and of what; "" where once."""
        if len(self.sights) == 1:
            return ""
        outputs, formats, sets = (
            list(dict.fromkeys(getattr(f, name) for f in self.findings if getattr(f, name)))
            for name in ("output", "fmt", "params_name")
        )
        of = [", ".join(outputs), ", ".join(formats) if len(formats) > 1 else ""]
        of += [f"{len(sets)} parameter sets" if len(sets) > 1 else ""]
        return f"{len(self.sights)} faults alike: {'; '.join(filter(None, of))}"

    def input_lines(self) -> tuple[str, ...]:
        """The input in decimal, as hex float and as bits, and what came of it; none where none was kept."""
        w = self.lead.witness
        if w is None:
            return ()
        place = f"{self.lead.region}: " if self.lead.region else ""
        hexadecimal = re.sub(r"\.?0+(?=p)", "", w.x_hex) if math.isfinite(w.x) else ""
        return (
            place + "  ".join(part for part in (f"x = {w.x!r}", hexadecimal, f"bits {w.bits}") if part),
            f"computed {w.computed!r} ({w.computed_bits}), exact {w.exact}",
        )

    def lines(self) -> list[str]:
        """All of it: the sentence, how often, the input and the command that shows it again."""
        replay = self.lead.replay and f"Replay: {self.lead.replay}"
        rest = [self.spread(), *self.input_lines(), replay]
        return [f"{self.severity.word} {self.sentence()}", *(f"  {line}" for line in rest if line)]


def causes(verdict: Verdict) -> tuple[Cause, ...]:
    """Everything that keeps a kernel from passing, by cause: the worst first, tails and infinities last."""
    rows = {(m.fmt, m.output, m.params_name): m for m in verdict.measurements}
    groups: dict[tuple[str, str], list[Sight]] = {}
    for finding in verdict.findings:
        sight = _sight(verdict, finding, rows.get((finding.fmt, finding.output, finding.params_name)))
        groups.setdefault((finding.code, sight.family), []).append(sight)
    found = [Cause(tuple(sorted(group, key=_telling))) for group in groups.values()]
    order = {id(f): place for place, f in enumerate(verdict.findings)}

    def place(cause: Cause) -> tuple[Severity, bool, bool, int]:
        # A wrong sign or a NaN says more of what is wrong than the ulps it is off by.
        by_ulps = cause.lead.finding.code in _OF_ULPS
        return cause.severity, cause.outer, by_ulps, min(order[id(f)] for f in cause.findings)

    return tuple(sorted(found, key=place))


def shown_and_folded(found: Sequence[Cause]) -> tuple[tuple[Cause, ...], tuple[Cause, ...]]:
    """Those that are told, and those that are only counted: tails and infinities, where there is worse, and
    what is more than a screen holds.
    """
    inner = [c for c in found if not c.outer]
    shown = tuple((inner or list(found))[:SHOWN])
    return shown, tuple(c for c in found if c not in shown)


def folded_words(folded: Sequence[Cause]) -> str:
    """How many findings are not told, and where they are; "" for none."""
    if not folded:
        return ""
    count = sum(len(c.sights) for c in folded)
    places = dict.fromkeys(
        c.place if c.outer else f"{c.lead.finding.code} {c.place}".rstrip() for c in folded
    )
    return f"and {count} more: {', '.join(filter(None, places))}"


def _telling(sight: Sight) -> tuple[Severity, bool]:
    """An input that training meets says more than one that it does not."""
    return sight.finding.severity, sight.witness is None or not is_ordinary(sight.witness.x)


def _sight(verdict: Verdict, finding: Finding, m: Measurement | None) -> Sight:
    if finding.code not in ACCURACY:
        return Sight(finding, finding.region, finding.witness, finding.replay, {}, {}, None)
    region, witness, counts = deciding_region(finding), deciding_witness(finding), {}
    if m is not None and finding.code in _COUNTED:
        per_region = {name: getattr(s, _COUNTED[finding.code]) for name, s in m.regions.items()}
        counts = {n: c for n, c in sorted(per_region.items(), key=lambda item: -item[1]) if c}
        region, witness = _example(finding, m, counts)
    errors = {s.region: abs(s.witness.error_ulps) for s in finding.also}
    if finding.witness is not None and finding.region:
        errors[finding.region] = abs(finding.witness.error_ulps)
    replay = finding.replay
    if witness is not None and witness != finding.witness:
        replay = "" if m is None else replay_command(m, witness)
    limits = verdict.bounds.get(f"{finding.fmt}.{finding.output}")
    limit = Bound(**limits).limit(region, m.precision_bits) if limits and m is not None else None
    by_size = dict(sorted(errors.items(), key=lambda item: -item[1]))
    return Sight(finding, region, witness, replay, counts, by_size, limit)


def _example(
    finding: Finding, m: Measurement, counts: Mapping[str, int]
) -> tuple[str, Witness | None]:  # fmt: skip
    """Where, and at which input, a counted result is best seen: the first that was met may be a subnormal."""
    witness = finding.witness
    if witness is None or is_ordinary(witness.x) or not math.isfinite(witness.x):
        region = "" if witness is None or math.isfinite(witness.x) else "special"
        region = "zero" if witness is not None and witness.x == 0 else region
        return region or (next(iter(counts)) if len(counts) == 1 else ""), witness
    found = [
        (name, w) for name in counts if (w := m.regions[name].witness) is not None and _turned(finding, w)
    ]
    inner = [(name, w) for name, w in found if name not in OUTER]
    for name, w in (*((n, w) for n, w in inner if is_ordinary(w.x)), *inner[-1:]):
        return name, w
    return next(iter(counts)) if len(counts) == 1 else "", witness


def _turned(finding: Finding, w: Witness) -> bool:
    """Whether a region's worst input is one of those with a wrong sign."""
    exact = exact_value(w)
    return finding.code == "wrong_sign" and (w.computed < 0 < exact or exact < 0 < w.computed)
