"""A kernel reads and writes the elements it is given and no others."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from precision_lab.formats.torch_types import torch_dtype
from precision_lab.verifying.properties.checks import bits_of, differ
from precision_lab.verifying.properties.pool import Index
from precision_lab.verifying.properties.products import Float64
from precision_lab.verifying.properties.subject import Pair, Subject

MARGIN = 64  # elements watched on either side
_ALLOCATIONS = (
    torch.ops.aten.empty.memory_format, torch.ops.aten.empty_like.default,
    torch.ops.aten.empty_strided.default,
    torch.ops.aten.new_empty.default, torch.ops.aten.new_empty_strided.default,
)  # fmt: skip


def memory(subject: Subject) -> str | None:
    """What lies before and behind x, the upstream gradient and the result is neither used nor written."""
    n = subject.size
    # Once from an aligned address on, once from an odd one.
    for offset in (MARGIN, MARGIN + 1):
        found: dict[str, Pair] = {}
        for name, value in (("NaN", float("nan")), ("1000", 1000.0)):
            where = f"for a view with {name} before and behind it, from element {offset} of its memory on"

            def work(
                found: dict[str, Pair] = found, offset: int = offset, value: float = value, where: str = where
            ) -> None:
                found[where] = _surrounded(subject, offset, value, where)

            subject.tried(where, work)
        # The same with either around it, and not what it is elsewhere: the place matters, not what is there.
        alike = len(found) == 2 and _same(*(subject.values(pair) for pair in found.values()))
        for where, pair in found.items():
            subject.compare("depends_on_position" if alike else "reads_outside", where, pair, np.arange(n))
    if subject.implementation.device.watches:
        return None  # every call of every property is such a one, and its memory is no host's to protect
    if subject.implementation.device.is_accelerator:
        subject.leave_out(
            "guarded memory",
            f"on {subject.implementation.device.title} only the elements next to a view are watched",
        )
        return None
    if not subject.implementation.execution.compiled:
        subject.tried("with its allocations watched", lambda: _allocations(subject))
    if subject.terms.isolated:
        # From here on a kernel that reads too far ends the process, which is the finding.
        for behind in (True, False):
            side = "ends where" if behind else "begins right behind where"
            where = f"for x that {side} no memory can be read"
            subject.terms.announce(where)
            subject.tried(where, lambda behind=behind, where=where: _paged(subject, behind, where))  # type: ignore[misc]
        for elements in sorted({_few(subject, k) for k in (1, 3, 5, 8, 13, 31)}):
            where = f"for {elements} elements that end where no memory can be read"
            subject.terms.announce(where)
            subject.tried(where, lambda k=elements, where=where: _paged(subject, True, where, k))  # type: ignore[misc]
    else:
        subject.leave_out(
            "memory that cannot be read", "reading it would end this process; a TARGET has one of its own "
            f"(the {MARGIN} elements on either side of {n} were watched)",
        )  # fmt: skip
    return None


def _few(subject: Subject, k: int) -> int:
    shape = subject.contract.shape_for(k, len(subject.shape))
    return int(np.prod(shape)) if shape else subject.size


def _same(values: Mapping[str, Float64], others: Mapping[str, Float64]) -> bool:
    """Whether two calls gave the same results, by output."""
    return not any(differ(values[o], others[o]).any() for o in values)


def _surrounded(subject: Subject, offset: int, value: float, where: str) -> Pair:
    dtype, device = torch_dtype(subject.fmt), subject.implementation.device.torch
    n = subject.size

    def framed(values: Tensor) -> tuple[Tensor, Tensor]:
        """A view with the values, and the memory that it is cut from."""
        base = torch.full((offset + n + MARGIN,), value, device=device).to(dtype)
        base[offset : offset + n] = values.reshape(-1)
        return base, base[offset : offset + n].reshape(subject.shape)

    base, x = framed(subject.tensor())
    ups, upstream = framed(torch.ones(n, device=device).to(dtype))
    outer = torch.ones(base.numel(), dtype=torch.bool, device=device)
    outer[offset : offset + n] = False
    before = bits_of(base)[outer]
    pair = subject.run(x, upstream=lambda y: upstream)
    for name, tensor in (("x", base), ("the upstream gradient", ups)):
        changed = int((bits_of(tensor)[outer] != before).sum())
        if changed:
            subject.fault(
                "writes_outside", f"{where}: {changed} elements beside {name} were overwritten", count=changed
            )
    return pair


class _Guard(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Gives every tensor that the kernel allocates a margin on both sides, and remembers them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.given: list[tuple[Tensor, int]] = []  # the whole memory, and how many elements were asked for

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func not in _ALLOCATIONS or not isinstance(result, Tensor) or result.device.type != "cpu":
            return result
        n = result.untyped_storage().nbytes() // max(result.element_size(), 1)
        if n == 0 or result.layout is not torch.strided or result.element_size() > 8:
            return result
        integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[result.element_size()]
        whole = torch.full((n + 2 * MARGIN,), 0x5A, dtype=integer)
        self.given.append((whole, n))
        typed = whole if result.dtype == integer else whole.view(result.dtype)
        return typed.as_strided(result.size(), result.stride(), MARGIN)

    def overwritten(self) -> int:
        """Elements beside what was asked for that are no longer what they were."""
        return sum(
            int((whole[:MARGIN] != 0x5A).sum()) + int((whole[MARGIN + n :] != 0x5A).sum())
            for whole, n in self.given
        )


def _allocations(subject: Subject) -> None:
    for shape in (subject.shape, subject.contract.shape_for(1000, len(subject.shape))):
        if shape is None:
            continue
        index = np.arange(int(np.prod(shape))) % subject.size
        guard = _Guard()
        x = subject.tensor(index, shape)
        with guard:
            subject.run(x)
        changed = guard.overwritten()
        if changed:
            subject.fault(
                "writes_outside",
                f"for x of shape {shape}, {changed} elements before or behind what the kernel allocated were "
                "overwritten",
                count=changed,
            )


def _paged(subject: Subject, behind: bool, where: str, elements: int | None = None) -> None:
    n = subject.size if elements is None else elements
    index: Index = np.arange(n)
    size = n * subject.fmt.bits // 8
    page = mmap.PAGESIZE
    room = -(-size // page) * page
    memory = mmap.mmap(-1, room + 2 * page)
    view = np.frombuffer(memory, np.uint8)
    address = view.ctypes.data
    protect: Callable[..., int] = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]  # type: ignore[attr-defined]
    first = page + room - size if behind else page
    view[first : first + size] = subject.bits[:n].astype(subject.fmt.bits_dtype).view(np.uint8)
    for edge in (address, address + page + room):
        if protect(edge, page, 0):
            subject.leave_out("memory that cannot be read", "the system does not allow it")
            return
    try:
        flat = torch.from_numpy(view[first : first + size]).view(torch_dtype(subject.fmt))
        shape = (
            subject.shape if elements is None else subject.contract.shape_for(n, len(subject.shape)) or (n,)
        )
        pair = subject.run(flat.reshape(shape))
        pair = (pair[0].clone(), None if pair[1] is None else pair[1].clone())
    finally:
        for edge in (address, address + page + room):
            protect(edge, page, mmap.PROT_READ | mmap.PROT_WRITE)
    values = subject.values(pair)
    if _same(values, {output: subject.plain[output][index] for output in values}):
        return
    # What was read was inside, or the process would have ended: this is another fault.
    own = subject.values(subject.run(subject.tensor(index, shape)))
    subject.compare("depends_on_length" if _same(values, own) else "depends_on_position", where, pair, index)
