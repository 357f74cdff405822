"""Results must not depend on size: rows as wide as those of models, and calls of millions of elements."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import torch

from precision_lab.exceptions import KernelError
from precision_lab.running.tensors import to_numpy
from precision_lab.verifying.properties.checks import bits_of, poisoned
from precision_lab.verifying.properties.lengths import unless_refused, unwritten_in
from precision_lab.verifying.properties.pool import Index
from precision_lab.verifying.properties.subject import Others, Pair, Subject
from precision_lab.verifying.properties.views import View

# Rows as wide as those of models that are served, and every residue of 16 beyond a usual width.
MODEL_WIDTHS = (1408, 2880, 3420, 11008, 14336)
WIDTHS = (12, 20, 36, 100, *range(1024, 1040), *MODEL_WIDTHS)
LARGE = 1 << 22
SMALLEST_LARGE = 1 << 18  # a call of fewer elements is not called large


def sizes(subject: Subject) -> str | None:
    """Rows as wide as those of models, and calls of millions of elements in several threads."""
    for width in WIDTHS:
        shape = _rows_of(subject, width)
        if shape is None:
            subject.leave_out(f"rows of {width}", f"the contract leaves them out: {subject.contract.words()}")
            continue
        index = (np.arange(math.prod(shape)) + 13 * width) % subject.size

        def work(shape: tuple[int, ...] = shape, index: Index = index, width: int = width) -> None:
            with poisoned(subject.implementation):
                pair = subject.run(subject.tensor(index, shape))
            missing = unwritten_in(subject, f"for rows of {width}", pair, index)
            # What is unwritten differs, and is named already.
            _compare_outputs(subject, "depends_on_length", f"for rows of {width}", pair, index, missing)

        unless_refused(subject, shape, work)
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
        others = Others(values, index, some.cpu().numpy(), got.numel())
        where = f"in a call of shape {tuple(x.shape)} ({name})"
        subject.hold("depends_on_length", where, output, others, note=False)
