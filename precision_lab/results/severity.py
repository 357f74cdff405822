"""How bad a finding is, on one scale, by rules that look at nothing but the finding's own facts."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import IntEnum

from precision_lab.formats import FORMATS
from precision_lab.results.facts import Facts
from precision_lab.results.measurement import Witness


class Severity(IntEnum):
    """How bad a finding is; the smaller, the worse.

    Says how much harm a finding does, not whether a kernel passes: bounds decide that.
    """

    CRITICAL = 1
    MAJOR = 2
    MINOR = 3
    NOTE = 4

    @property
    def word(self) -> str:
        return self.name.lower()

    @property
    def sentence(self) -> str:
        return _SENTENCES[self]


_SENTENCES = {
    Severity.CRITICAL: "wrong sign, NaN or infinity at ordinary magnitudes; crash, hang, memory overwritten",
    Severity.MAJOR: "a large error at ordinary magnitudes; wrong shapes, strides, gradients; does not run",
    Severity.MINOR: "tails, subnormals, infinities, signs of zeros, roundings, refusals; small errors",
    Severity.NOTE: "nothing against the kernel: nobody knows, or something around it is missing",
}

# Normal numbers of FP16 up to a quarter of its largest: what training keeps its activations and gradients in.
ORDINARY = (2.0**-14, 2.0**14)
ROOTS = ("root_forward", "root_gradient")
# Where x or the exact result is what tails, subnormals and infinities are.
OUTER = ("special", "subnormal_input", "subnormal_result", "far_tail")

Rule = Severity | Callable[[Facts], Severity]


def is_ordinary(x: float) -> bool:
    """Whether an input is one that training meets: 0, as of padding, and all of ordinary magnitude."""
    return x == 0 or ORDINARY[0] <= abs(x) <= ORDINARY[1]


def by_inputs(finding: Facts) -> Severity:
    """Of errors at inputs that were kept: by the worst of them.

    A count of ordinary inputs tells more than a witness that is none: the first one found is what is kept.
    """
    if finding.witness is None:
        return _without_witness(finding)
    if finding.ordinary and not is_ordinary(finding.witness.x):
        return Severity.CRITICAL
    return _worst_place(finding, finding.witness)[0]


def deciding_region(finding: Facts) -> str:
    """The region that a finding is as bad for as it is; its own where that is one of them."""
    return finding.region if finding.witness is None else _worst_place(finding, finding.witness)[1]


def deciding_witness(finding: Facts) -> Witness | None:
    """The input that the finding is as bad for as it is; None where none was kept."""
    if finding.witness is None:
        return None
    region = _worst_place(finding, finding.witness)[1]
    return next((s.witness for s in finding.also if s.region == region), finding.witness)


def is_outer(finding: Facts) -> bool:
    """Whether all that it says is of tails, subnormals, infinities and NaN: what is read last."""
    if finding.ordinary:
        return False
    witness = deciding_witness(finding)
    if witness is None:
        return finding.region in OUTER or finding.ordinary == 0
    if deciding_region(finding) in OUTER or not abs(witness.x) <= ORDINARY[1]:
        return True
    known = FORMATS.get(finding.fmt, None)
    return known is not None and 0 < abs(witness.x) < known.min_normal


def _worst_place(finding: Facts, witness: Witness) -> tuple[Severity, str]:
    places = [(finding.region, witness), *((s.region, s.witness) for s in finding.also)]
    found = [(_at(finding, region, witness), region) for region, witness in places]
    return min(found, key=lambda place: place[0])


def by_difference(finding: Facts) -> Severity:
    """Of results that differ with how the kernel is called: by the largest error that comes of it.

    Minor if that is small, as where vector lanes and their rest compute differently. Which input it was
    seen at does not count: what reads another element is wrong at all of them.
    """
    known = not math.isnan(finding.ulps)
    return Severity.MINOR if known and not _is_large(finding, finding.ulps) else Severity.MAJOR


def _at(finding: Facts, region: str, witness: Witness) -> Severity:
    """Of one input."""
    computed, exact = witness.computed, exact_value(witness)
    if not is_ordinary(witness.x):
        return Severity.MINOR
    if math.isnan(computed) and not math.isnan(exact):
        return Severity.CRITICAL  # a NaN spreads, whatever number it stands for
    size = max(abs(computed), abs(exact)) if math.isfinite(computed) else abs(exact)
    if math.isinf(computed) and not size > ORDINARY[1]:
        return Severity.CRITICAL
    if not ORDINARY[0] <= size <= ORDINARY[1]:
        return Severity.MINOR
    # What is smaller is lost with half the bits when terms about 1 cancel, and its sign with it.
    telling = size >= max(ORDINARY[0], 2.0 ** (-_precision(finding) / 2))
    if telling and (computed < 0 < exact or exact < 0 < computed):
        return Severity.CRITICAL
    if region in ROOTS and not telling:
        return Severity.MINOR  # many ulps of next to nothing
    return Severity.MAJOR if _is_large(finding, witness.error_ulps) else Severity.MINOR


def exact_value(witness: Witness) -> float:
    """The exact value to 53 bits; its correct rounding where the text of a file is no number."""
    try:
        return float(witness.exact)
    except ValueError:
        return witness.rounded


def _without_witness(finding: Facts) -> Severity:
    """What results of earlier versions, and findings at drawn values, can tell: a region and an error."""
    if finding.region in OUTER or finding.ordinary == 0:
        return Severity.MINOR
    if finding.code in ("wrong_sign", "nonfinite"):
        return Severity.CRITICAL
    return by_difference(finding)


def _is_large(finding: Facts, ulps: float) -> bool:
    """Half of the significant bits are lost, or more."""
    return not abs(ulps) < 2.0 ** (_precision(finding) / 2)


def _precision(finding: Facts) -> int:
    """p of the output's format; where nobody has said it, of the input's, and FP32's for a user's own."""
    known = FORMATS.get(finding.fmt, None)
    return finding.output_precision or (24 if known is None else known.precision)
