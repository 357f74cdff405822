"""Which kernels of a file of machine code compute a function, in which format, and what they are handed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from precision_lab.emulator.sass.code import SassKernel
from precision_lab.emulator.sass.fat_binary import KernelFile, kernel_file
from precision_lab.emulator.sass.names import demangled
from precision_lab.emulator.sass.text import kernel_of
from precision_lab.exceptions import UsageError
from precision_lab.formats import BF16, FP16, FP32, FP64, FloatFormat
from precision_lab.functions import Activation
from precision_lab.implementations.adapters import torch_kernels
from precision_lab.implementations.adapters.cuda_arguments import placed
from precision_lab.implementations.adapters.cuda_names import FORMATS, own_format
from precision_lab.implementations.adapters.cuda_source import Call
from precision_lab.implementations.adapters.launch_description import Description, example, read_description
from precision_lab.implementations.adapters.torch_kernels import Vectorised, vectorised

# The narrowest that a name mentions counts: others are of what it computes in.
_TYPES = (
    (BF16, r"__nv_bfloat162?|(?:c10::)?BFloat16"), (FP16, r"__half2?|(?:c10::)?Half"), (FP32, "float"),
    (FP64, "double"),
)  # fmt: skip
_LISTED = 6


@dataclass(frozen=True)
class ShippedCode:
    """The kernels of a file of machine code.

    Attributes:
        target: the device that they are for, such as "sm_90".
        launch: the description given by the caller; "" for what names say.
    """

    path: Path
    function: Activation
    target: str
    launch: str = ""
    _kernels: dict[str, SassKernel] = field(default_factory=dict, compare=False)

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.function.parameters)

    @cached_property
    def file(self) -> KernelFile:
        return kernel_file(self.path, self.target)

    @cached_property
    def described(self) -> Description:
        return read_description(self.launch) if self.launch else Description()

    def kernel(self, name: str) -> SassKernel:
        """
        Raises:
            ImportError: there is no disassembler.
            Unsupported: its text is not understood.
        """
        if name not in self._kernels:
            self._kernels[name] = kernel_of(self.file.cubin(name), name, self.target)
        return self._kernels[name]

    # -- which kernels ----------------------------------------------------------------------------

    def forward(self, symbol: str) -> dict[FloatFormat, Call]:
        """The kernels that a TARGET's name means, one of a format.

        Raises:
            ValueError: there is none, or several of one format, or how it is launched is not known.
            ImportError: NVIDIA's programs are not here.
        """
        found = self._one_of_each_format(symbol, self._named(symbol, backward=False), symbol)
        return {fmt: self._call(name, fmt, self.described, self.launch, False) for fmt, name in found.items()}

    def backward(self, symbol: str, fmt: FloatFormat, forward: Call) -> tuple[Call, ...]:
        """The kernel of the gradient that belongs to a forward kernel; none where there is none.

        Raises:
            ValueError: as `forward`, of the one named as backward=.
        """
        given = forward.description.backward
        if given:
            wanted = read_description(given)
            stem = wanted.kernel or "".join(wanted.arguments or ())
            inherited = replace(forward.description, kernel="", backward="")
            wanted = replace(inherited, arguments=wanted.arguments if wanted.kernel else None)
            found = self._one_of_each_format(stem, self._named(stem, backward=True), stem)
            if fmt not in found:
                raise UsageError(f"{self._shown(stem)} has no kernel for {fmt.name}, named as backward=")
            return (self._call(found[fmt], fmt, wanted, self.launch, True),)
        own = vectorised(demangled(forward.name))
        for operation in own.backward_operations() if own else ():
            names = [
                name for name, each in self._vectorised.items()
                if each.operation == operation and each.variant == own.variant  # type: ignore[union-attr]
            ]  # fmt: skip
            chosen = self._one_of_each_format(operation, names, operation) if names else {}
            if fmt in chosen and self._is_stateless(chosen[fmt]):
                return (self._call(chosen[fmt], fmt, Description(), "", True),)
        return ()

    @cached_property
    def _vectorised(self) -> dict[str, Vectorised]:
        each = ((name, vectorised(demangled(name))) for name in self.file.parts)
        return {name: found for name, found in each if found is not None}

    def _named(self, text: str, *, backward: bool) -> list[str]:
        """The kernels whose names, mangled or not, are or contain a text, as a whole word where one does."""
        names = list(self.file.parts)
        exact = [name for name in names if text in (name, demangled(name))]
        if exact:
            return exact
        found = [name for name in names if text in name or text in demangled(name)]
        begins = re.compile(rf"(?<!\w){re.escape(text)}")
        whole = [name for name in found if begins.search(demangled(name))]
        # Of torch's kernels the vectorised ones: the others are of tensors that do not lie in one piece.
        chosen = whole or found
        of_torch = [name for name in chosen if (v := self._vectorised.get(name)) and v.types]
        inputs = 3 if backward else 2
        fitting = [name for name in of_torch if self._vectorised[name].pointers == inputs]
        return fitting or of_torch or chosen

    def _one_of_each_format(self, text: str, names: Sequence[str], asked: str) -> dict[FloatFormat, str]:
        if not names:
            near = [demangled(n) for n in self.file.parts if text.lower() in demangled(n).lower()]
            raise UsageError(
                f"{self._shown(asked)}: no kernel of {len(self.file.parts)} for {self.target} has that name"
                + (f"; it has {_some(near)}" if near else "")
            )
        by_format: dict[FloatFormat | None, list[str]] = {}
        for name in names:
            by_format.setdefault(self._format(name), []).append(name)
        no_format = by_format.pop(None, [])
        if not by_format:
            raise UsageError(
                f"{self._shown(asked)}: the name {demangled(no_format[0])[:200]!r} does not say which format "
                "it computes in; write format=bf16 (or fp16, fp32, fp64) into --launch"
            )
        return {fmt: self._only(text, found) for fmt, found in by_format.items() if fmt is not None}

    def _only(self, text: str, names: Sequence[str]) -> str:
        """Of torch's kernels of several widths the widest that stores anything; else the only one."""
        if len(names) > 1:
            functors = {
                (v.operation, v.variant, v.types) if (v := self._vectorised.get(name)) else name
                for name in names
            }
            if len(functors) == 1:
                working = [name for name in names if _stores(self.kernel(name))]
                widths = {name: self._vectorised[name].width for name in working}
                widest = [name for name in working if widths[name] == max(widths.values())]
                if len(widest) == 1:
                    return widest[0]
        if len(names) != 1:
            raise UsageError(
                f"{self._shown(text)}: {len(names)} kernels have that in their names, say more of it: "
                f"{_some(list(names))}"
            )
        return names[0]

    def _format(self, name: str) -> FloatFormat | None:
        said = self.described.format
        if said:
            for fmt in FORMATS:
                if fmt.name == said:
                    return fmt
            known = ", ".join(fmt.name for fmt in FORMATS)
            raise UsageError(f"format={said} in a launch description: expected one of {known}")
        torchs = self._vectorised.get(name)
        if torchs is not None:
            return next(
                (fmt for fmt, types in _TYPES if all(re.fullmatch(types, t) for t in torchs.types)), None
            )
        shown = demangled(name)
        found = (fmt for fmt, types in _TYPES if re.search(rf"(?<!\w)(?:{types})(?!\w)", shown))
        return own_format(name) or next(found, None)

    def _is_stateless(self, name: str) -> bool:
        return len(self.kernel(name).parameters) == 3 and self.kernel(name).parameters[1].size == 1

    def _shown(self, symbol: str) -> str:
        return f"TARGET {self.path.name}:{symbol}"

    # -- what fills the parameters ----------------------------------------------------------------

    def _call(self, name: str, fmt: FloatFormat, description: Description, text: str, backward: bool) -> Call:
        kernel = self.kernel(name)
        torchs = self._vectorised.get(name)
        sizes = [p.size for p in kernel.parameters]
        base = torchs.operation if torchs else demangled(name).partition("(")[0]
        shape = f"{base}({', '.join(f'{size} bytes' for size in sizes)})"
        if torchs is not None:
            if "block=" not in text:
                description = replace(description, block=torch_kernels.BLOCK)
            if "per_thread=" not in text and "grid=" not in text:
                per = torch_kernels.elements_of_a_block(kernel) // description.block
                description = replace(description, per_thread=per)
        elif "block=" not in text and kernel.block is not None:
            x, y, z = kernel.block
            description = replace(description, block=x * y * z)
        meanings = description.arguments
        if meanings is None:
            if torchs is None or len(sizes) != 3:
                own = f"{base.rpartition('::')[2]}({'dy, x, dx, n' if backward else 'x, y, n'})"
                raise UsageError(f"{shape}: {example(own, self.parameters)}")
            meanings = torch_kernels.arguments_of(torchs, sizes[1], sizes[1] == 1)
        if len(meanings) != len(sizes):
            raise UsageError(
                f"{shape} has {len(sizes)} parameters; its launch description has {len(meanings)}: "
                f"{', '.join(meanings)}"
            )
        arguments = tuple(
            placed(m, size, fmt, shape, description, self.parameters)
            for m, size in zip(meanings, sizes, strict=True)
        )
        # torch launches a narrower kernel for operands that do not begin at a multiple of its width.
        aligned = torchs.width * fmt.bits // 8 if torchs is not None else 1
        call = Call(name, arguments, description, aligned=min(aligned, 16))
        wanted = call.meanings
        missing = [m for m in (("dy",) if backward else ("x", "y")) if m not in wanted]
        if missing or (backward and not any(m == "dx" or m.startswith("d_") for m in wanted)):
            raise UsageError(
                f"{shape}: nothing is {missing[0] if missing else 'dx or d_NAME'} among {', '.join(meanings)}"
            )
        return call


def _stores(kernel: SassKernel) -> bool:
    return any(i.opcode == "STG" for i in kernel.code)


def _some(names: Iterable[str]) -> str:
    every = list(dict.fromkeys(names))
    more = f" and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return ", ".join(name[:160] for name in every[:_LISTED]) + more
