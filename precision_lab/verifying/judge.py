"""A measurement against what was promised: the findings."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from precision_lab.numeric.certainty import CERTIFIED_ULPS
from precision_lab.results import (
    Finding,
    Measurement,
    Sighting,
    Statistics,
    Witness,
    exact_interval,
    replay_command,
)
from precision_lab.results.conformity import CERTIFIED, DEPENDS, REFUTED, Conformity
from precision_lab.results.execution import labelled
from precision_lab.results.severity import ORDINARY
from precision_lab.verifying.bounds import Bound, Leaning, leaning


def describe(fault: Finding) -> str:
    """A fault on one line."""
    what = f"{fault.function}.{fault.output}" if fault.output else fault.function
    where = ", ".join(part for part in (fault.implementation, fault.fmt, fault.params_name) if part)
    replay = f". Replay: {fault.replay}" if fault.replay else ""
    return f"{what}[{where}]: {fault.code}: {fault.message}{replay}"


def judge(measurement: Measurement, bound: Bound) -> tuple[Finding, ...]:
    """The promises this measurement breaks; empty if it passes."""
    m = measurement
    if m.failure is not None:
        return (_finding(m, m.failure.kind, m.failure.message),)
    broken = []
    if m.undecided:
        broken.append(
            _finding(
                m, "undecided", f"undecided for {m.undecided} of {m.n_inputs} inputs; that is not a pass"
            )
        )
    if m.conformity is not None and (found := _by_device(m, bound, m.conformity)) is not None:
        return (*broken, *found)
    broken += _wrong(m, bound)
    lean = None if bound.biased else leaning(m)
    if lean is not None:
        broken.append(_biased(m, lean))
    if bound.zero_sign and m.zero_sign_mismatch:
        text = f"a zero of the wrong sign for {m.zero_sign_mismatch} inputs"
        broken.append(_finding(m, "zero_sign", text, count=m.zero_sign_mismatch))
    return tuple(broken)


def standing(m: Measurement, bound: Bound) -> str:
    """What a bound is on conforming devices: certified, refuted or dependent, as `results.conformity` has it;
    "" where that is not decided, or nothing of the result is the device's to choose.
    """
    found = m.conformity
    if found is None or found.unknown:
        return ""
    precision = m.precision_bits
    least = max((s.least - bound.limit(name, precision) for name, s in found.regions.items()), default=0.0)
    most = max((s.most - bound.limit(name, precision) for name, s in found.regions.items()), default=0.0)
    counts = [
        (sum(getattr(s, kind)[k] for s in found.regions.values()) > limit)
        for k in (0, 1)
        for kind, limit in (("wrong_sign", bound.wrong_sign), ("nonfinite", bound.nonfinite))
    ]
    if least > CERTIFIED_ULPS or any(counts[:2]):
        return REFUTED
    if most > CERTIFIED_ULPS or any(counts[2:]):
        return "" if found.is_enclosed else DEPENDS
    return CERTIFIED


def said_of_devices(m: Measurement, bound: Bound) -> str:
    """Of which devices the judgement on a measurement is; "" where it was made on one, or is not known."""
    found, place = m.conformity, standing(m, bound)
    if found is None or not place:
        return ""
    if found.tables:
        place = place.replace(
            "every conforming device", f"what {', '.join(found.tables)} was measured to return"
        )
    names = ", ".join(found.instructions)
    if not names:
        return f"{place}: nothing of the result is the device's to choose"
    how = "enclosed" if found.is_enclosed else f"{found.combinations} combinations of results tried"
    return f"{place}: {names}, {how}, at most {found.most:.4g} ulps; {found.varying} inputs depend on it"


def _by_device(m: Measurement, bound: Bound, found: Conformity) -> list[Finding] | None:
    """What is to be said where devices may differ; None where the nominal result decides."""
    names = ", ".join(found.instructions)
    if found.unknown:
        text = (
            f"what other devices return for {names} within the manual's bound is not known: {found.unknown}"
        )
        return [*_wrong(m, bound), _finding(m, "depends_on_device", text)]
    place = standing(m, bound)
    if not place and found.is_enclosed:
        text = (
            f"what the manual allows for {names} was not tried but enclosed: at most {found.most:.4g} ulps, "
            f"and {found.varying} inputs whose results may differ, which does not show that the bound is held"
        )
        open_ = _finding(m, "depends_on_device", text, count=found.varying, ulps=found.most)
        return [*_wrong(m, bound), open_]
    if place != DEPENDS:
        return None
    shown = ", ".join(
        f"x={v.x!r} (bits {v.bits}: {v.least:.4g} to {v.most:.4g} ulps)" for v in found.examples[:3]
    )
    text = (
        f"within the bound on one conforming device, not on another: at most {found.most:.4g} ulps, by what "
        f"{names} returns; results differ at {found.varying} inputs, such as {shown}"
    )
    return [_finding(m, "depends_on_device", text, count=found.varying, ulps=found.most)]


def _wrong(m: Measurement, bound: Bound) -> list[Finding]:
    """What is wrong with the results that were measured: errors, signs, NaN and infinities."""
    found = _inaccurate(m, bound)
    if m.wrong_sign > bound.wrong_sign and m.sign_witness is not None:
        found.append(_counted(m, "wrong_sign", "wrong sign", bound.wrong_sign, m.sign_witness))
    if m.nonfinite_mismatch > bound.nonfinite and m.nonfinite_witness is not None:
        found.append(_counted(m, "nonfinite", "wrong infinity or NaN", bound.nonfinite, m.nonfinite_witness))
    return found


def _inaccurate(m: Measurement, bound: Bound) -> list[Finding]:
    """At most two faults: subnormals taken for zero, and the worst of all other regions."""
    precision = m.precision_bits
    over = {
        name: s
        for name, s in m.regions.items()
        if s.witness is not None and s.max_ulp > bound.limit(name, precision) + CERTIFIED_ULPS
    }
    flushed = {
        name: s
        for name, s in over.items()
        if name in ("subnormal_result", "subnormal_input") and _is_flushed(m, s)
    }
    found = []
    for kind, group in (
        ("inaccurate", {name: s for name, s in over.items() if name not in flushed}),
        ("flushes_subnormals", flushed),
    ):
        if not group:
            continue
        region = max(group, key=lambda name: group[name].max_ulp / bound.limit(name, precision))
        worst = group[region]
        assert worst.witness is not None
        others = [f"{name} {s.max_ulp:.4g}" for name, s in group.items() if name != region]
        also = f" (also {', '.join(others)})" if others else ""
        said = "subnormals are taken for zero: " if kind == "flushes_subnormals" else ""
        text = (
            f"{said}error {worst.max_ulp:.4g} ulps exceeds bound {bound.limit(region, precision):g} "
            f"in {region}{also} {at_witness(worst.witness)}"
        )
        count = sum(s.not_correctly_rounded for s in group.values())
        elsewhere = tuple(
            Sighting(name, s.witness) for name, s in group.items() if name != region and s.witness is not None
        )
        fault = _finding(m, kind, text, worst.witness, also=elsewhere)
        found.append(replace(fault, region=region, ulps=worst.witness.error_ulps, count=count))
    return found


def _is_flushed(m: Measurement, s: Statistics) -> bool:
    """Whether the worst result is what reading the input as zero, or storing zero, gives."""
    if s.witness is None:
        return False
    return s.witness.computed == 0.0


def _counted(m: Measurement, code: str, what: str, known: int, witness: Witness) -> Finding:
    """Of results that are counted, whatever their error: wrong signs, wrong infinities and NaNs."""
    counts = {"wrong_sign": m.wrong_sign, "nonfinite": m.nonfinite_mismatch}
    more = f", {known} of them known" if known else ""
    text = f"{what} for {counts[code]} inputs{more}, {at_witness(witness)}"
    return _finding(
        m, code, text, witness, count=counts[code], ulps=witness.error_ulps, ordinary=_ordinary(m, code)
    )


def _ordinary(m: Measurement, code: str) -> int | None:
    """How many of them are at inputs of ordinary magnitude; None where binades were not kept."""
    if not m.binades:
        return None
    low, high = (round(math.log2(limit)) for limit in ORDINARY)
    places = [b.statistics for b in m.binades if low <= b.exponent < high]
    places += [s for region, s in m.regions.items() if region == "zero"]
    return sum(s.wrong_sign if code == "wrong_sign" else s.nonfinite_mismatch for s in places)


def _finding(
    m: Measurement, code: str, message: str, witness: Witness | None = None, **facts: Any
) -> Finding:
    name = labelled(m.implementation, m.execution)
    return Finding(
        code=code, function=m.function, implementation=name, fmt=m.fmt, output=m.output,
        params_name=m.params_name, message=message, witness=witness, output_precision=m.output_precision,
        replay="" if witness is None else replay_command(m, witness), **facts,
    )  # fmt: skip


def at_witness(w: Witness) -> str:
    """An input and what came of it, as the messages of findings end."""
    return (
        f"at x={w.x!r} ({w.x_hex}, bits {w.bits}): computed {w.computed!r} ({w.computed_bits}), "
        f"exact in {exact_interval(w)}"
    )


def worse_than(m: Measurement, baseline: Measurement) -> tuple[Finding, ...]:
    """Where a kernel is less accurate than another on the same inputs, both against the exact value."""
    if m.failure is not None:
        return ()
    broken = []
    for region, s in m.regions.items():
        other = baseline.regions.get(region)
        if other is not None and s.witness is not None and s.max_ulp > other.max_ulp + 2 * CERTIFIED_ULPS:
            broken.append((s.max_ulp / max(other.max_ulp, 0.5), region, s, other))
    faults = []
    if broken:
        _, region, s, other = max(broken, key=lambda entry: entry[:2])
        assert s.witness is not None
        text = (
            f"error {s.max_ulp:.4g} ulps in {region}, where {baseline.implementation} has "
            f"{other.max_ulp:.4g}, {at_witness(s.witness)}"
        )
        faults.append(_finding(m, "worse_than", text, s.witness, region=region, ulps=s.max_ulp))
    for what, mine, theirs, witness in (
        ("wrong sign", m.wrong_sign, baseline.wrong_sign, m.sign_witness),
        ("wrong infinity or NaN", m.nonfinite_mismatch, baseline.nonfinite_mismatch, m.nonfinite_witness),
    ):
        if mine > theirs and witness is not None:
            text = f"{what} for {mine} inputs, {baseline.implementation} for {theirs}, {at_witness(witness)}"
            faults.append(_finding(m, "worse_than", text, witness, count=mine))
    return tuple(faults)


def _biased(m: Measurement, lean: Leaning) -> Finding:
    side = "away from zero" if lean.lean > 0 else "toward zero"
    mean = ""
    if m.mean_signed_ulp is not None and m.nearest_signed_ulp is not None:
        mean = f"; mean error {m.mean_signed_ulp:+.2g} ulp, of correct rounding {m.nearest_signed_ulp:+.2g}"
    text = (
        f"results lean {side}{lean.where}: lean {lean.lean:+.2f} over {lean.inexact} inexact results within "
        f"one ulp, limit ±{lean.limit:.2f} (rounding to nearest has 0, truncation −0.50){mean}"
    )
    return _finding(m, "biased", text, m.witness, count=lean.inexact)
