"""Results must not depend on how many elements there are, on their place, or on how they lie in memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from precision_lab.exceptions import KernelError
from precision_lab.formats.ball_rounding import CERTIFIED_ULPS
from precision_lab.running.tensors import to_numpy
from precision_lab.verifying.properties.subject import POOL, Index, Pair, Subject, bits_of, poisoned

LENGTHS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 255, 257, 1023, 1025, 4095, 4096, 4097)
LONG = ((1 << 16) - 1, 1 << 16, (1 << 17) + 3)
# Rows as wide as those of models that are served, and every residue of 16 beyond a usual width.
MODEL_WIDTHS = (1408, 2880, 3420, 11008, 14336)
WIDTHS = (12, 20, 36, 100, *range(1024, 1040), *MODEL_WIDTHS)
LARGE = 1 << 22
SMALLEST_LARGE = 1 << 18  # a call of fewer elements is not called large
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
            with poisoned(subject):
                pair = subject.run(subject.tensor(index, shape))
            _unwritten_in(subject, _call_of(shape), pair, index)

        _unless_refused(subject, shape, work)
    return None


def _unless_refused(subject: Subject, shape: tuple[int, ...], work: Callable[[], None]) -> None:
    """Runs a part of a property; a shape that the kernel refuses is for `lengths` and `shapes` to report."""
    try:
        work()
    except KernelError as error:
        if error.kind not in _FAILED:
            subject.fault(error.kind, f"{_call_of(shape)}: {error}")
        else:
            subject.leave_out(_call_of(shape), f"the kernel refuses it: {error}")


def _unwritten_in(subject: Subject, where: str, pair: Pair, index: Index) -> set[str]:
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


def shapes(subject: Subject) -> str | None:
    """Every shape is taken and given back: empty, 0-d, two, three and four dimensions."""
    refused: list[tuple[tuple[int, ...], KernelError]] = []
    tried: list[tuple[int, ...]] = []
    usual = ((0,), (0, 3), (3, 0, 2), (), (1,), (1, 1), (7, 9), (64, 63), (3, 5, 17), (2, 3, 5, 8))
    for wanted in usual:
        shape = _fitted(subject, wanted)
        if shape is None or shape in tried:
            continue
        tried.append(shape)
        index = (np.arange(math.prod(shape)) + 101) % subject.size
        try:
            pair = subject.run(subject.tensor(index, shape))
        except KernelError as error:
            if error.kind == "raised":
                refused.append((shape, error))
            else:
                subject.fault(error.kind, f"for x of shape {shape}: {error}")
            continue
        subject.compare("depends_on_position", f"for x of shape {shape}", pair, index)
    if refused:
        said = ", ".join(str(shape) for shape, _ in refused)
        subject.fault("refuses_shapes", f"x of shape {said}: {refused[0][1]}", count=len(refused))
    left = [shape for shape in usual if _fitted(subject, shape) is None]
    if left:
        subject.leave_out("other shapes", f"the contract leaves them out: {subject.contract.words()}")
    return None


def _fitted(subject: Subject, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """A shape with its last size made one that the contract accepts; None where there is none."""
    if subject.contract.accepts(shape):
        return shape
    if not shape or 0 in shape:
        return None
    m = subject.contract.multiple_of
    wider = (*shape[:-1], -(-shape[-1] // m) * m)
    return wider if subject.contract.accepts(wider) else None


def positions(subject: Subject) -> str | None:
    """The result depends neither on the place in the tensor nor on where in memory it begins."""
    size = subject.size
    for shift in (1, 3, 8, 1000):
        index = np.roll(np.arange(size), shift)

        def moved(shift: int = shift, index: Index = index) -> None:
            pair = subject.run(subject.tensor(index, subject.shape))
            subject.compare("depends_on_position", f"with the elements moved by {shift}", pair, index)

        subject.tried(f"with the elements moved by {shift}", moved)
    shape = subject.contract.shape_for(960, len(subject.shape))
    if shape is None:
        return None
    n = math.prod(shape)
    for offset in (1, 2, 3, 5, 8):
        index = (np.arange(offset, offset + n)) % size
        where = f"for a view of shape {shape} that begins at element {offset} of its memory"

        def sliced(offset: int = offset, index: Index = index, where: str = where) -> None:
            base = subject.tensor(np.arange(offset + n) % size)
            subject.compare("depends_on_position", where, subject.run(base[offset:].reshape(shape)), index)

        subject.tried(where, sliced)
    return None


View = Callable[[Tensor], Tensor]


def _views(subject: Subject) -> dict[str, tuple[tuple[int, ...], View]]:
    """Views that are not contiguous, by what a user writes: the shape of what they are cut from, and how.

    What they give has a shape that the contract accepts.
    """
    found: dict[str, tuple[tuple[int, ...], View]] = {}
    one = subject.contract.shape_for(1365, 1)
    if one is not None:
        n = one[0]
        found |= {
            "x[::2]": ((2 * n,), lambda x: x[::2]),
            "x[1::3]": ((3 * n + 1,), lambda x: x[1::3][:n]),
            "x[:, 5]": ((n, 7), lambda x: x[:, 5]),
        }
    two = subject.contract.shape_for(4096, 2)
    if two is not None:
        r, c = two
        found |= {
            "x.t()": ((c, r), lambda x: x.t()),
            "x[:, 1:-1]": ((r, c + 2), lambda x: x[:, 1:-1]),
            "x[:, ::2]": ((r, 2 * c), lambda x: x[:, ::2]),
            "one row expanded": ((1, c), lambda x: x.expand(r, c)),
            "one column expanded": ((r, 1), lambda x: x.expand(r, c)),
        }
    four = subject.contract.shape_for(4096, 4)
    if four is not None:
        a, b, c4, d = four
        found |= {
            "x.permute(2, 0, 3, 1)": ((b, d, a, c4), lambda x: x.permute(2, 0, 3, 1)),
            "x in channels_last": (
                four, lambda x: x.contiguous(memory_format=torch.channels_last)
            ),
        }  # fmt: skip
    return found


def strides(subject: Subject) -> str | None:
    """Views that are not contiguous are read element by element."""
    views = _views(subject)
    for name, (base, view) in views.items():
        flat = np.arange(math.prod(base)) % subject.size
        index = view(torch.from_numpy(flat).reshape(base)).reshape(-1).numpy()

        def work(
            name: str = name, base: tuple[int, ...] = base, view: View = view, flat: Index = flat,
            index: Index = index,
        ) -> None:  # fmt: skip
            pair = subject.run(view(subject.tensor(flat, base)))
            subject.compare("misreads_strides", f"for {name}, of shape {base} before", pair, index)

        subject.tried(f"for {name}, of shape {base} before", work)
    if not views:
        subject.leave_out("views", f"the contract leaves no room for them: {subject.contract.words()}")
    return None


# -- sizes ----------------------------------------------------------------------------------------


def sizes(subject: Subject) -> str | None:
    """Rows as wide as those of models, and calls of millions of elements in several threads."""
    for width in WIDTHS:
        shape = _rows_of(subject, width)
        if shape is None:
            subject.leave_out(f"rows of {width}", f"the contract leaves them out: {subject.contract.words()}")
            continue
        index = (np.arange(math.prod(shape)) + 13 * width) % subject.size

        def work(shape: tuple[int, ...] = shape, index: Index = index, width: int = width) -> None:
            with poisoned(subject):
                pair = subject.run(subject.tensor(index, shape))
            missing = _unwritten_in(subject, f"for rows of {width}", pair, index)
            # What is unwritten differs, and is named already.
            _compare_outputs(subject, "depends_on_length", f"for rows of {width}", pair, index, missing)

        _unless_refused(subject, shape, work)
    _large(subject)
    return None


def _compare_outputs(
    subject: Subject, kind: str, where: str, pair: Pair, index: Index, without: set[str]
) -> None:
    kept = tuple(None if o in without else t for o, t in zip(("forward", "grad_x"), pair, strict=True))
    if kept[0] is None and kept[1] is None:
        return
    subject.compare(kind, where, kept, index)  # type: ignore[arg-type]


def _rows_of(subject: Subject, width: int) -> tuple[int, ...] | None:
    """Three rows of that width, or the nearest accepted one above it."""
    m = subject.contract.multiple_of
    width = -(-width // m) * m
    for dims in (2, 3, 4):
        shape = (3,) + (1,) * (dims - 2) + (width,)
        if subject.contract.accepts(shape):
            return shape
    return None


def _large(subject: Subject) -> None:
    """One call each of about 2^22 elements, in one, two and three dimensions and with strides.

    Sized by the kernel's measured speed, so that all of them fit the budget.
    """
    implementation = subject.implementation
    m = subject.contract.multiple_of
    layouts: dict[str, Callable[[int], tuple[tuple[int, ...], View]]] = {
        "one dimension": lambda n: ((n + 3 * m if m > 1 else n + 3,), lambda x: x),
        "two dimensions": lambda n: ((n // 2880 + 1, _up(2880, m)), lambda x: x),
        "three dimensions": lambda n: ((3, n // (3 * 1408) + 1, _up(1408, m)), lambda x: x),
        "two dimensions, every row a part of a wider one": lambda n: (
            (n // 1408 + 1, _up(1408, m) + 8), lambda x: x[:, : _up(1408, m)]
        ),
    }  # fmt: skip
    left = subject.terms.budget
    seconds = _seconds_per_element(subject)
    threads = torch.get_num_threads()
    for position, (name, layout) in enumerate(layouts.items()):
        share = left / (len(layouts) - position)
        fits = LARGE if implementation.device.is_accelerator else min(LARGE, int(share / max(seconds, 1e-12)))
        n = 1 << max(fits.bit_length() - 1, 0)
        base, view = layout(n)
        shape = tuple(view(torch.empty(base, device="meta")).shape)
        what = f"a call of {LARGE} elements in {name}"
        if not subject.contract.accepts(shape):
            subject.leave_out(what, f"the contract leaves it out: {subject.contract.words()}")
            continue
        if n < LARGE:
            speed = f"the budget of {subject.terms.budget:g} s at {seconds * 1e9:.3g} ns an element"
            tried = f"{n} elements were tried, as many as fit" if n >= SMALLEST_LARGE else "it does not fit"
            subject.leave_out(what, f"{tried} {speed}", asked=subject.terms.budget_asked)
        if n < SMALLEST_LARGE:
            continue
        start = time.perf_counter()

        def work(base: tuple[int, ...] = base, view: View = view, name: str = name) -> None:
            if not implementation.execution.compiled:
                torch.set_num_threads(max(2, threads))
            try:
                _run_large(subject, base, view, name)
            finally:
                torch.set_num_threads(threads)

        subject.tried(f"in a call of shape {shape}", work)
        spent = time.perf_counter() - start
        left -= spent
        seconds = max(seconds, spent / max(math.prod(shape), 1)) if spent > share else seconds


def _up(n: int, m: int) -> int:
    return -(-n // m) * m


def _seconds_per_element(subject: Subject) -> float:
    """Of a call with its gradient and the comparison.

    From one of 2^14 elements, and where the budget has room for it of one of 2^18, whose temporaries are
    fresh pages of memory as a large call's are.
    """
    took = 0.0
    for n in (1 << 14, SMALLEST_LARGE):
        if took * n > subject.terms.budget / 8:
            break
        shape = subject.contract.shape_for(n, len(subject.shape)) or subject.shape
        x = subject.tensor(np.arange(math.prod(shape)) % subject.size, shape)
        start = time.perf_counter()
        try:
            subject.run(x)
        except KernelError:
            return 1e-7  # what it refuses is said elsewhere
        took = (time.perf_counter() - start) / math.prod(shape)
    return 1.5 * took + 2e-9  # the comparison takes a few nanoseconds itself


def _run_large(subject: Subject, base: tuple[int, ...], view: View, name: str) -> None:
    """One large call, held against the plain one bit for bit, and where bits differ against the bounds."""
    # The pool over and over: its odd length puts every input into every kind of place.
    size = math.prod(base)
    pool = subject.tensor().reshape(-1)
    x = view(pool.repeat(-(-size // subject.size))[:size].reshape(base))
    pair = subject.run(x)
    places = view(torch.arange(size, device=x.device).reshape(base)).reshape(-1)
    for position, output in enumerate(("forward", "grad_x")):
        got = pair[position]
        if got is None or output not in subject.outputs:
            continue
        plain = subject.put(subject.plain[output])
        expected = bits_of(plain)[places % subject.size]
        differs = torch.nonzero(bits_of(got).reshape(-1) != expected).reshape(-1)
        if differs.numel() == 0:
            continue
        some = differs[: 1 << 16]  # a wrong half of a large call shows in its first elements
        values = np.asarray(to_numpy(got.reshape(-1)[some], subject.fmt), np.float64)
        index = (places[some] % subject.size).cpu().numpy()
        subject.hold(
            "depends_on_length", f"in a call of shape {tuple(x.shape)} ({name})", output, values, index,
            some.cpu().numpy(), got.numel(), note=False,
        )  # fmt: skip
