"""The bound under which a kernel that fails would pass, or why there is none."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from precision_lab.results import Measurement
from precision_lab.results.codes import ENGINEERING
from precision_lab.verifying.bound_file import rounded_up
from precision_lab.verifying.bounds import leaning
from precision_lab.verifying.verdict import Verdict

_OF_ULPS = ("inaccurate", "flushes_subnormals")
_MEASURED = (*_OF_ULPS, "wrong_sign", "nonfinite", "biased", "depends_on_device")  # told by the measurements
_OF_NONFINITE_INPUTS = "loses_nonfinite"  # which `finite` leaves out too


@dataclass(frozen=True)
class PassingBound:
    """What the same call passes with.

    Attributes:
        max_ulp: in place of the present one; None where no number of ulps does.
        finite: only with infinite and NaN inputs left out.
        obstacles: what no number of ulps forgives; for finite inputs alone, where these are less.
        recordable: whether a bound file can hold the present state, faults included.
        of_file: a bound file holds, whose limits are each output's own.
    """

    max_ulp: float | None
    finite: bool = False
    obstacles: tuple[str, ...] = ()
    recordable: bool = False
    of_file: bool = False

    @property
    def options(self) -> str:
        """As the command line has it; "" where there is none."""
        if self.max_ulp is None:
            return ""
        return f"{'--finite ' if self.finite else ''}--max-ulp {self.max_ulp:.12g}"


def passing_bound(verdict: Verdict) -> PassingBound | None:
    """By what was measured; engineering properties are examined anew under another bound.

    None where the verdict is a pass, or no bound holds.
    """
    if verdict.outcome == "pass" or not verdict.bounds:
        return None
    recordable = verdict.outcome == "fail" and all(
        f.code in (*_MEASURED, *ENGINEERING) for f in verdict.faults
    )
    if verdict.max_ulp is None:
        return PassingBound(None, recordable=recordable, of_file=True)
    every, finite = (tuple(_obstacles(verdict, finite=choice)) for choice in (False, True))
    if not every:
        return PassingBound(_least(verdict, finite=False))
    if not finite and not verdict.finite:
        return PassingBound(_least(verdict, finite=True), finite=True, obstacles=every)
    return PassingBound(None, False, every, recordable)


def at_nonfinite_inputs_alone(verdict: Verdict) -> bool:
    """Whether a kernel that fails would pass within its present bound but for infinite and NaN inputs."""
    if verdict.finite or verdict.max_ulp is None or verdict.outcome == "pass":
        return False
    return not any(_obstacles(verdict, finite=True)) and _least(verdict, finite=True) <= verdict.max_ulp


def _least(verdict: Verdict, *, finite: bool) -> float:
    """The present limit, or as many ulps as were measured, on every conforming device."""
    assert verdict.max_ulp is not None
    return max([verdict.max_ulp, *(rounded_up(_ulps(m, finite)) for m in verdict.measurements)])


def _ulps(m: Measurement, finite: bool) -> float:
    seen = [s.max_ulp for name, s in m.regions.items() if not (finite and name == "special")]
    if m.conformity is not None:
        spans = m.conformity.regions.items()
        seen += [s.most for name, s in spans if not (finite and name == "special")]
    return max(seen, default=0.0 if finite else m.max_ulp)


def _obstacles(verdict: Verdict, *, finite: bool) -> Iterator[str]:
    """What more ulps do not forgive, each in a few words."""
    if missing := [g.what for g in verdict.not_examined if g.asked]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        yield f"{missing[0]}{more}, not examined"
    rows = verdict.measurements
    for failure, count in Counter(m.failure.kind for m in rows if m.failure is not None).items():
        yield f"{failure} ({count} results)" if count > 1 else failure
    whole = [m for m in rows if m.failure is None]
    for words, counts in (
        ("undecided", [m.undecided for m in whole]),
        ("wrong_sign", [_count(m, "wrong_sign", finite) for m in whole]),
        ("nonfinite", [_count(m, "nonfinite", finite) for m in whole]),
    ):
        if any(counts):
            most = max(counts)
            yield f"{words} ({most} input{'' if most == 1 else 's'} at most)"
    if not all(math.isfinite(_ulps(m, finite)) for m in whole):
        yield "errors of no finite number of ulps"
    if any(leaning(m) is not None for m in whole):
        yield "biased"
    if any(m.conformity is not None and m.conformity.unknown for m in whole):
        yield "depends_on_device"
    failed = {m.failure.kind for m in rows if m.failure is not None}
    others = [
        f.code for f in (*verdict.faults, *verdict.undecided) if f.code not in (*_MEASURED, "undecided")
    ]
    for code in dict.fromkeys(others):
        if code not in failed and not (finite and code == _OF_NONFINITE_INPUTS):
            yield code


def _count(m: Measurement, kind: str, finite: bool) -> int:
    """Wrong signs, or wrong infinities and NaNs, on any conforming device."""
    name = {"wrong_sign": "wrong_sign", "nonfinite": "nonfinite_mismatch"}[kind]
    count: int = getattr(m, name)
    spans = {} if m.conformity is None else m.conformity.regions
    if finite and "special" in m.regions:
        count -= getattr(m.regions["special"], name)
    most: int = sum(
        getattr(s, kind)[1] for region, s in spans.items() if not (finite and region == "special")
    )
    return count if count > most else most
