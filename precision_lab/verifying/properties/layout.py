"""Results must not depend on the shape, on the place of an element, or on how they lie in memory."""

from __future__ import annotations

import math

import numpy as np
import torch

from precision_lab.exceptions import KernelError
from precision_lab.verifying.properties.pool import Index
from precision_lab.verifying.properties.subject import Subject
from precision_lab.verifying.properties.views import View


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
