"""Results must not depend on how many elements there are, and all of them are written."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from precision_lab.exceptions import KernelError
from precision_lab.numeric.certainty import CERTIFIED_ULPS
from precision_lab.verifying.properties.checks import poisoned
from precision_lab.verifying.properties.pool import POOL, Index
from precision_lab.verifying.properties.subject import Pair, Subject

LENGTHS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 255, 257, 1023, 1025, 4095, 4096, 4097)
LONG = ((1 << 16) - 1, 1 << 16, (1 << 17) + 3)
_FAILED = ("raised", "wrong_shape")


def lengths(subject: Subject) -> str | None:
    """The same input has the same result whatever the number of elements."""
    _plain_call(subject)
    dims = len(subject.shape)
    refused: list[tuple[int, KernelError]] = []
    tried = set()
    for n in (*LENGTHS, *LONG):
        shape = subject.contract.shape_for(n, dims)
        if shape is None or shape in tried or not subject.contract.accepts(shape):
            continue
        tried.add(shape)
        # Windows that move, so that other inputs stand in the last places.
        index = (np.arange(math.prod(shape)) + 37 * n) % subject.size
        where = _call_of(shape)
        try:
            pair = subject.run(subject.tensor(index, shape))
        except KernelError as error:
            if error.kind in _FAILED:
                refused.append((math.prod(shape), error))
            else:
                subject.fault(error.kind, f"{where}: {error}")
            continue
        subject.compare("depends_on_length", where, pair, index)
    if refused:
        sizes = ", ".join(str(n) for n, _ in refused)
        kind = "refuses_lengths" if refused[0][1].kind == "raised" else refused[0][1].kind
        subject.fault(kind, f"calls of {sizes} elements: {refused[0][1]}", count=len(refused))
    if len(tried) == 1:
        subject.leave_out("other lengths", f"the contract has one size: {subject.contract.words()}")
    return None


def _plain_call(subject: Subject) -> None:
    """What a plain call has wrong though a measurement in another call found nothing."""
    for output in subject.outputs:
        if output not in subject.terms.accurate:
            continue
        index = np.arange(subject.size)
        error = subject.errors(output, subject.plain[output], index)
        over = error > subject.limits(output) + CERTIFIED_ULPS
        if over.any():
            i = int(np.argmax(np.where(over, error, -1.0)))
            subject.fault(
                "depends_on_length",
                f"{_call_of(subject.shape)}: element {i}, {subject.at(i)}, is "
                f"{float(subject.plain[output][i])!r} ({error[i]:.4g} ulps off), which it was not in the "
                "call that measured the accuracy",
                output, ulps=float(error[i]), count=int(over.sum()),
            )  # fmt: skip


def _call_of(shape: tuple[int, ...]) -> str:
    """A call, for people."""
    return f"in a call of {shape[0]} elements" if len(shape) == 1 else f"for x of shape {shape}"


def unwritten(subject: Subject) -> str | None:
    """Every element of every result is written, whatever the length."""
    for n in (1, 2, 7, 8, 9, 31, 33, 1000, 1001, POOL, (1 << 16) + 5):
        shape = subject.contract.shape_for(n, len(subject.shape))
        if shape is None:
            continue
        index = (np.arange(math.prod(shape)) + 11 * n) % subject.size

        def work(shape: tuple[int, ...] = shape, index: Index = index) -> None:
            with poisoned(subject.implementation):
                pair = subject.run(subject.tensor(index, shape))
            unwritten_in(subject, _call_of(shape), pair, index)

        unless_refused(subject, shape, work)
    return None


def unless_refused(subject: Subject, shape: tuple[int, ...], work: Callable[[], None]) -> None:
    """Runs a part of a property; a shape that the kernel refuses is for `lengths` and `shapes` to report."""
    try:
        work()
    except KernelError as error:
        if error.kind not in _FAILED:
            subject.fault(error.kind, f"{_call_of(shape)}: {error}")
        else:
            subject.leave_out(_call_of(shape), f"the kernel refuses it: {error}")


def unwritten_in(subject: Subject, where: str, pair: Pair, index: Index) -> set[str]:
    """Faults for elements that still are the NaN of fresh memory; the outputs that had some."""
    found = set()
    for output, values in subject.values(pair).items():
        missing = np.flatnonzero(np.isnan(values) & ~np.isnan(subject.exact[output].rounded[index]))
        # A NaN that the plain call gives as well is a matter of accuracy.
        missing = missing[~np.isnan(subject.plain[output][index[missing]])]
        if missing.size:
            found.add(output)
            subject.fault(
                "unwritten_output",
                f"{where} with fresh memory filled with NaN, {missing.size} stay NaN, the first at "
                f"element {int(missing[0])}",
                output, count=int(missing.size),
            )  # fmt: skip
    return found
