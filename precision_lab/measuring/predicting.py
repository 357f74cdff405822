"""The bits that a kernel returns at every input on an emulated device, and which a real one may change.

A real device of the same target is to return the same bits wherever no approximate instruction decides. Of
each input it is kept whether another result that the manual allows would change what is stored, and which
instruction alone can do so.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from precision_lab.formats import FloatFormat
from precision_lab.measuring.conforming import (
    MOST_COMBINATIONS,
    combinations_of,
    ends,
    obstacles_of,
    ways_of,
)
from precision_lab.results import Failure
from precision_lab.running.case import Case
from precision_lab.running.runner import input_tensor, run, run_tensors
from precision_lab.running.tensors import to_numpy
from precision_lab.system.progress import Progress

Bits = NDArray[np.uint16]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Prediction:
    """Of one output, at all 2^16 inputs in the order of their codes.

    Attributes:
        fmt: of the results.
        bits: codes with every approximate instruction correctly rounded; a NaN is the format's canonical one.
        open: inputs at which another allowed result of approximate instructions gives, or may give, others.
        by: of each instruction, the inputs that it changes alone; the others of `open` take several.
        unknown: why nobody knows which inputs are open; "" where it is known.
    """

    fmt: FloatFormat
    bits: Bits
    open: Mask
    by: Mapping[str, Mask]
    unknown: str = ""


@dataclass(frozen=True)
class Comparison:
    """What a real device returned, beside a prediction.

    Attributes:
        differing: inputs at which it returned something else.
        explained: of these, those that each instruction alone explains; "several instructions" explain
            the others that are open.
        unexplained: the codes of the first inputs at which nothing explains it.
        unexplained_count: of all of them.
        undecided: inputs at which it returned something else, where nobody knows which are open.
    """

    differing: int
    explained: Mapping[str, int]
    unexplained: tuple[int, ...]
    unexplained_count: int
    undecided: int = 0


SEVERAL = "several instructions"
SHOWN = 8  # unexplained inputs that are kept


def compared(prediction: Prediction, returned: Bits) -> Comparison:
    """
    Args:
        returned: codes for the same inputs.
    """
    of = prediction.fmt.decode
    differs = returned != prediction.bits
    differs[differs] = ~(np.isnan(of(returned[differs])) & np.isnan(of(prediction.bits[differs])))
    left = differs & prediction.open
    explained: dict[str, int] = {}
    for name, changes in prediction.by.items():
        if count := int((differs & changes).sum()):
            explained[name] = count
        left &= ~changes
    if count := int(left.sum()):
        explained[SEVERAL] = count
    wrong = np.flatnonzero(differs & ~prediction.open)
    if prediction.unknown:
        return Comparison(int(differs.sum()), explained, (), 0, int(wrong.size))
    return Comparison(int(differs.sum()), explained, tuple(map(int, wrong[:SHOWN])), int(wrong.size))


def canonical(values: NDArray[np.float64], fmt: FloatFormat) -> Bits:
    """Codes of values of a 16-bit format; every NaN has the same, whatever its sign."""
    values = np.asarray(values, np.float64)
    return fmt.encode(np.where(np.isnan(values), np.nan, values)).astype(np.uint16)


def predicted(case: Case, progress: Progress | None = None) -> dict[str, Prediction | Failure]:
    """Every output of a case on the emulated device of this process.

    Raises:
        ValueError: its inputs are not all of a 16-bit format.
    """
    bits = case.points.bits
    assert bits is not None and bits.size == 2**16
    from precision_lab.virtual_gpu.engines import recording

    with recording() as record:
        tensors = run_tensors(case, input_tensor(case, bits))
        obstacles = obstacles_of(record, tensors)
    found: dict[str, Prediction | Failure] = {o: t for o, t in tensors.items() if isinstance(t, Failure)}
    nominal = {
        o: canonical(np.asarray(to_numpy(t, case.output_format(o)), np.float64), case.output_format(o))
        for o, t in tensors.items() if not isinstance(t, Failure)
    }  # fmt: skip
    tried = {o for o in nominal if not obstacles[o]}
    masks = {o: np.zeros(bits.size, np.bool_) for o in nominal}
    by: dict[str, dict[str, Mask]] = {o: {} for o in nominal}
    if combinations_of(record) > MOST_COMBINATIONS:
        tried = set()
    dimensions = list(record.dimensions)
    for choice in itertools.islice(itertools.product(*ways_of(record)), 1, None) if tried else ():
        moved = {d: by_ for d, by_ in zip(dimensions, choice, strict=True) if by_}
        names = sorted(set[str]().union(*(record.named[d] for d in moved)))
        for output, changed in _changed(case.giving(*tried), moved, nominal).items():
            masks[output] |= changed
            if len(names) == 1:
                by[output][names[0]] = by[output].get(names[0], np.zeros(bits.size, np.bool_)) | changed
    rest = [o for o in nominal if o not in tried]
    enclosed = ends(case.giving(*rest), progress) if rest else {}
    for output, codes in nominal.items():
        unknown = ""
        if output in enclosed:
            within = enclosed[output]
            if isinstance(within, str):
                unknown = within
            else:
                fmt = case.output_format(output)
                masks[output] = canonical(within[0], fmt) != canonical(within[1], fmt)
        found[output] = Prediction(case.output_format(output), codes, masks[output], by[output], unknown)
    return found


def _changed(
    case: Case, moved: Mapping[tuple[int, int], int], nominal: Mapping[str, Bits]
) -> dict[str, Mask]:
    """The inputs at which a choice gives another result, of each output that the kernel then gives."""
    from precision_lab.virtual_gpu.engines import choosing

    assert case.points.bits is not None
    with choosing(moved):
        values = run(case, case.points.bits)
    return {
        o: canonical(np.asarray(v, np.float64), case.output_format(o)) != nominal[o]
        for o, v in values.items() if not isinstance(v, Failure)
    }  # fmt: skip
