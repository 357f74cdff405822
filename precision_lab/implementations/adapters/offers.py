"""What a file or a module has that a TARGET can name, for who has named the file alone or misspelt a name."""

from __future__ import annotations

import inspect
import re
import shlex
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import torch

from precision_lab.emulator.sass.cubin import kernel_names, sections
from precision_lab.emulator.sass.fat_binary import holds_kernels, kernel_file
from precision_lab.exceptions import MissingPackageError, UsageError, nearest
from precision_lab.functions import Activation
from precision_lab.implementations.adapters.cuda_names import entries_of
from precision_lab.implementations.adapters.launch_description import signatures

_LONGEST = 60  # characters of a signature that is shown
_MOST = 20  # that are listed; of a package with hundreds, the nearest
_DEFINED_FUNCTION = 2  # STT_FUNC, of ELF symbols
_TRITON = re.compile(r"^triton\.")


@dataclass(frozen=True)
class Offer:
    """One thing that could be meant.

    Attributes:
        name: as a TARGET has it behind the colon.
        about: what it is, in a few words: its signature or its kind.
    """

    name: str
    about: str = ""


def probable_function(kernel: str, functions: Sequence[str]) -> str:
    """The function whose name a kernel's name holds, or is like; "" where there is none."""
    held = [name for name in functions if name in kernel.casefold()]
    return max(held, key=len) if held else next(iter(nearest(kernel, functions, cutoff=0.7)), "")


def unnamed(place: str, offers: Sequence[Offer], function: str, functions: Sequence[str]) -> UsageError:
    """A TARGET that is a file or a module alone: what it could name, with the line to type.

    Args:
        function: the one that was asked for; "" where the lines are to name the probable ones.
        functions: the names of those there are.
    """
    if not offers:
        return UsageError(
            f"TARGET {place!r} names no kernel, and nothing in it can be called; write {place}:NAME"
        )
    best = nearest(function, [offer.name for offer in offers])
    likely = sorted(offers, key=lambda offer: offer.name not in best)[:_MOST]
    commands = {
        offer: f"precision-lab verify {shlex.quote(f'{place}:{offer.name}')} --function "
        + (function or probable_function(offer.name, functions) or "FUNCTION")
        for offer in offers
        if offer in likely
    }
    width = max(map(len, commands.values()))
    lines = [f"  {command:<{width}}  # {offer.about}" for offer, command in commands.items()]
    more = [f"  and {len(offers) - len(lines)} more"] if len(offers) > len(lines) else []
    return UsageError("\n".join([f"TARGET {place!r} names no kernel; it has:", *lines, *more]))


def misspelt(place: str, name: str, offers: Sequence[Offer]) -> str:
    """What a message about a name that is not there ends with."""
    known = [offer.name for offer in offers]
    by_last: dict[str, list[str]] = {}
    for each in known:
        by_last.setdefault(each.rpartition(".")[2], []).append(each)
    last = name.rpartition(".")[2]
    # First those of that very name in another class; last those of a like name in any.
    near = [*by_last.get(last, ()), *nearest(name, known)]
    near = near or [full for each in nearest(last, by_last) for full in by_last[each]]
    if near:
        likely = list(dict.fromkeys(near))[:3]
        return f"did you mean {', '.join(f'{place}:{each}' for each in likely)}?"
    more = f" and {len(known) - _MOST} more" if len(known) > _MOST else ""
    return f"it has {', '.join(known[:_MOST]) or 'nothing that can be called'}{more}"


def in_module(module: ModuleType) -> list[Offer]:
    """What a Python module defines that a TARGET can name, in the order of its lines."""
    return [
        offer
        for name, value in vars(module).items()
        if not name.startswith("_")
        for offer in _of_value(name, value, module)
    ]


def _of_value(name: str, value: Any, module: ModuleType) -> Iterator[Offer]:
    if isinstance(value, type):
        if value.__module__ == module.__name__:
            yield from _of_class(name, value)
    elif isinstance(value, FunctionType):
        if value.__module__ == module.__name__:
            yield Offer(name, f"{name}{_signature(value)}")
    elif _is_own_object(value, module):
        yield Offer(name, _kind(name, value))


def _of_class(name: str, kind: type) -> Iterator[Offer]:
    """A module's class as it is; of an autograd.Function its `apply`; of another what needs no instance."""
    if issubclass(kind, torch.nn.Module):
        yield Offer(name, "a torch.nn.Module")
    elif issubclass(kind, torch.autograd.Function):
        yield Offer(f"{name}.apply", "a torch.autograd.Function")
    elif not issubclass(kind, BaseException):
        for own, value in vars(kind).items():
            if isinstance(value, staticmethod | classmethod) and not own.startswith("_"):
                yield Offer(f"{name}.{own}", f"{own}{_signature(getattr(kind, own))}")
            elif isinstance(value, type) and not own.startswith("_"):
                yield from _of_class(f"{name}.{own}", value)


def _is_own_object(value: Any, module: ModuleType) -> bool:
    """Whether an object that can be called was made here: a module's instance, a wrapped function."""
    if not callable(value) or isinstance(value, BuiltinFunctionType | ModuleType | Activation):
        return False
    root = type(value).__module__.partition(".")[0]
    if root in ("typing", "collections", "types", "builtins"):
        return False
    own = getattr(value, "__module__", None)
    if own and own not in (module.__name__, type(value).__module__) and own in sys.modules:
        return False  # imported, such as a jitted function of another file
    library = sys.modules.get(root)
    return getattr(library, str(getattr(value, "__name__", "")), None) is not value  # numpy's own ufuncs


def _kind(name: str, value: Any) -> str:
    kind = type(value)
    if _TRITON.match(kind.__module__):
        return "a Triton kernel: name the function that launches it instead"
    if isinstance(value, torch.nn.Module):
        return "a torch.nn.Module"
    shown = _signature(value)
    return f"{name}{shown}" if shown else f"a {kind.__name__}"


def _signature(value: Any) -> str:
    try:
        whole = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in whole.parameters.values()]
    text = str(whole.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…)"


def in_library(path: Path) -> list[Offer]:
    """The functions that a shared library exports; none where it is no ELF file, or lacks them."""
    try:
        found = sections.__wrapped__(path.read_bytes())
    except (OSError, UsageError):
        return []
    symbols = next((section for section in found if section.name == ".dynsym"), None)
    if symbols is None:
        return []
    text = found[symbols.link].data
    names = []
    for name, info, _, home, _, _ in struct.iter_unpack("<IBBHQQ", symbols.data):
        if info & 0xF == _DEFINED_FUNCTION and home:
            names.append(text[name : text.index(b"\0", name)].decode(errors="replace"))
    return [Offer(name, "a C function") for name in sorted(names) if not name.startswith("_")]


def in_cuda_file(path: Path) -> list[Offer]:
    """The kernels of CUDA C++, PTX or machine code, as far as they are found without compiling."""
    if holds_kernels(path):
        try:
            names: Any = kernel_file(path, "sm_90").parts if path.suffix != ".cubin" else None
            if names is None:
                names = kernel_names(path.read_bytes())
        except (MissingPackageError, UsageError, OSError):
            return []
        return [Offer(name, "a kernel") for name in names]
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".ptx":
        return [Offer(name, "a kernel") for name, _ in entries_of(text)]
    return [Offer(name, "a kernel") for name in signatures(text)]
