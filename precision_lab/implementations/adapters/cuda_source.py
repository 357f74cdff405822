"""Which kernels of a CUDA C++ or PTX file compute a function, in which format, and what they are handed."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from precision_lab.exceptions import UsageError, nearest
from precision_lab.formats import FP32, FloatFormat
from precision_lab.functions import Activation
from precision_lab.implementations.adapters.cuda_arguments import Argument, argument
from precision_lab.implementations.adapters.cuda_names import (
    C_TYPES,
    FORMATS,
    backward_names,
    entries_of,
    format_of,
    is_mangled,
    own_format,
    plain,
    stem_of,
    with_format,
)
from precision_lab.implementations.adapters.launch_description import (
    Description,
    Signature,
    arguments_of,
    example,
    read_description,
    signatures,
    stated,
)
from precision_lab.numeric.nvrtc import instantiated_ptx

SUFFIXES = (".cu", ".ptx")
# As nvcc compiles by default: multiplications and additions may be fused.
USUAL = ("--fmad=true",)


@dataclass(frozen=True)
class Call:
    """One launch: the kernel's name in the PTX, what fills its parameters, and its grid.

    Attributes:
        aligned: bytes at a multiple of which its operands must begin; others are copied first.
    """

    name: str
    arguments: tuple[Argument, ...]
    description: Description
    expressions: tuple[str, ...] = ()
    aligned: int = 1

    @property
    def meanings(self) -> tuple[str, ...]:
        return tuple(value.meaning for a in self.arguments for value in a.values)


@dataclass(frozen=True)
class Source:
    """A file of kernels.

    Attributes:
        launch: the description given by the caller; "" for what the file says.
        architecture: what the file is compiled for to look at it.
    """

    path: Path
    text: str
    function: Activation
    architecture: str
    launch: str = ""
    _compiled: dict[tuple[tuple[str, ...], tuple[str, ...]], tuple[str, dict[str, str]]] = field(
        default_factory=dict, compare=False
    )

    @property
    def is_ptx(self) -> bool:
        return self.path.suffix == ".ptx"

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(p.name for p in self.function.parameters)

    @cached_property
    def signatures(self) -> dict[str, Signature]:
        return {} if self.is_ptx else signatures(self.text)

    @cached_property
    def described(self) -> tuple[Description, ...]:
        given = (read_description(self.launch),) if self.launch else ()
        return (*given, *stated(self.text))

    def signature(self, name: str) -> Signature | None:
        """How a kernel is declared, whatever namespaces and template arguments its name has."""
        return self.signatures.get(plain(name))

    def options(self, description: Description) -> tuple[str, ...]:
        """Of the compiler."""
        return (*USUAL, *description.options, f"--include-path={self.path.resolve().parent}")

    def ptx(self, description: Description, expressions: tuple[str, ...] = ()) -> tuple[str, dict[str, str]]:
        """The PTX, and the names in it of instantiated templates."""
        if self.is_ptx:
            return self.text, {}
        key = (description.options, expressions)
        if key not in self._compiled:
            self._compiled[key] = instantiated_ptx(
                self.text, str(self.path), self.architecture, self.options(description), expressions
            )
        return self._compiled[key]

    def entries(self, description: Description, expressions: tuple[str, ...] = ()) -> dict[str, list[str]]:
        """Of each kernel of the PTX, the kinds of its parameters."""
        return dict(entries_of(self.ptx(description, expressions)[0]))

    # -- which kernels ----------------------------------------------------------------------------

    def forward(self, symbol: str) -> dict[FloatFormat, Call]:
        """The kernels that a TARGET's name means, one of a format.

        Raises:
            ValueError: there is none, or what its parameters stand for is not known.
            ImportError: no compiler.
        """
        chosen = self._description(symbol, stem_of(symbol))
        signature = self.signature(symbol)
        if signature and signature.types:
            return self._instantiated(symbol, signature, chosen)
        found: dict[FloatFormat, Call] = {}
        for fmt in FORMATS:
            name = self._entry(with_format(symbol, fmt), chosen)
            if name is not None and not own_format(symbol):
                own = self._description(with_format(symbol, fmt), symbol)
                found[fmt] = self._call(with_format(symbol, fmt), name, fmt, own, backward=False)
        name = self._entry(symbol, chosen)
        if name is not None:
            self._require_names(symbol, name, chosen, "x, y, n")
            fmt = own_format(symbol) or self._format(symbol, chosen)
            found.setdefault(fmt, self._call(symbol, name, fmt, chosen, backward=False))
        if not found:
            known = dict.fromkeys([*self.signatures, *self.entries(chosen)])
            raise UsageError(
                f"TARGET {str(self.path)!r} has no kernel {symbol!r}; it has {', '.join(known) or 'none'}"
                + (f"; did you mean {', '.join(near)}?" if (near := nearest(symbol, known)) else "")
            )
        return found

    def backward(self, symbol: str, fmt: FloatFormat, forward: Call) -> tuple[Call, ...]:
        """The kernels of the gradients that belong to a forward kernel; none where there are none."""
        stated_name = forward.description.backward
        chosen = replace(forward.description, kernel="", arguments=None, backward="")
        if stated_name:
            found = self._gradient(read_description(stated_name), symbol, fmt, chosen, stated_by_author=True)
            if found is None:
                raise UsageError(
                    f"TARGET {str(self.path)!r} has no kernel {stated_name!r}, named as backward="
                )
            return (found,)
        for name in backward_names(symbol):
            found = self._gradient(Description(name), symbol, fmt, chosen)
            if found is not None:
                return (found,)
        each = (
            self._gradient(Description(f"{stem_of(symbol)}_{output}"), symbol, fmt, chosen)
            for output in self.function.outputs[1:]
        )
        return tuple(call for call in each if call is not None)

    def _gradient(
        self,
        wanted: Description,
        symbol: str,
        fmt: FloatFormat,
        chosen: Description,
        *,
        stated_by_author: bool = False,
    ) -> Call | None:
        """A gradient's kernel for a format, called as `wanted` says; None where there is none."""
        stem = wanted.kernel or "".join(wanted.arguments or ())  # a name alone looks like an argument
        signature = self.signature(stem)
        expressions: tuple[str, ...] = ()
        asked, name = stem, None
        if signature and signature.types:
            _, bracket, instance = symbol.partition("<")
            expressions = (f"{stem}<{instance if bracket else C_TYPES[fmt][0] + '>'}",)
            name = self.ptx(chosen, expressions)[1][expressions[0]]
        else:
            # A name without a format serves the one of its parameters, or of the forward kernel's name.
            serves = own_format(stem) or self._stated_format(stem, chosen) or own_format(symbol) or FP32
            for each in (with_format(stem, fmt), *([stem] if serves == fmt else [])):
                asked, name = each, self._entry(each, chosen)
                if name is not None:
                    break
        if name is None:
            return None
        own = next((d for d in self.described if d.kernel and d.kernel in _names(asked, stem)), chosen)
        arguments = wanted.arguments if wanted.kernel and wanted.arguments else own.arguments
        own = replace(own, arguments=arguments)
        if arguments is None and self.signature(asked) is None and not stated_by_author:
            return None  # only its name looks like a gradient's, and nothing says what it is handed
        return self._call(asked, name, fmt, own, backward=True, expressions=expressions)

    def _instantiated(
        self, symbol: str, signature: Signature, chosen: Description
    ) -> dict[FloatFormat, Call]:
        if "<" in symbol:
            first = symbol.partition("<")[2].rstrip(">").split(",")[0].strip()
            fmt = next((f for f, names in C_TYPES.items() if first in names), None) or self._format(
                signature.name, chosen
            )
            name = self.ptx(chosen, (symbol,))[1][symbol]
            return {fmt: self._call(symbol, name, fmt, chosen, backward=False, expressions=(symbol,))}
        found: dict[FloatFormat, Call] = {}
        refusal: UsageError | None = None
        for fmt in FORMATS:
            expression = f"{symbol}<{C_TYPES[fmt][0]}>"
            try:
                name = self.ptx(chosen, (expression,))[1][expression]
            except UsageError as error:
                refusal = refusal or error
                continue
            found[fmt] = self._call(symbol, name, fmt, chosen, backward=False, expressions=(expression,))
        if not found:
            assert refusal is not None
            raise UsageError(
                f"TARGET {symbol!r} is a template of {', '.join(signature.types)} and compiles for none of "
                f"{', '.join(C_TYPES[fmt][0] for fmt in FORMATS)}; name an instantiation, such as "
                f"{self.path.name}:{symbol}<float, 256>: {refusal}"
            )
        return found

    def _description(self, *names: str) -> Description:
        """The one given by the caller, or that of one of the names, or the only one without a name.

        Raises:
            ValueError: the caller's names another kernel.
        """
        if self.launch:
            given = self.described[0]
            if given.kernel and given.kernel not in _names(*names):
                raise UsageError(
                    f"launch description {self.launch!r} is of {given.kernel!r}, and TARGET "
                    f"{str(self.path)!r} of its kernel {names[0]!r}"
                )
            return given
        for name in names:
            for each in self.described:
                if each.kernel and each.kernel in _names(name):
                    return each
        return next((d for d in self.described if not d.kernel), Description())

    def _entry(self, name: str, description: Description) -> str | None:
        """The kernel's name in the PTX, as it stands or as C++ mangles it."""
        entries = self.entries(description)
        if name in entries:
            return name
        mangled = [e for e in entries if is_mangled(name, e)]
        if len(mangled) > 1:
            raise UsageError(f"TARGET {str(self.path)!r} has {len(mangled)} kernels {name!r}: overloads")
        return mangled[0] if mangled else None

    def _format(self, name: str, description: Description) -> FloatFormat:
        """Of the numbers that a kernel reads, by what is said or by its parameters' types."""
        found = self._stated_format(name, description)
        if found is None:
            raise UsageError(
                f"{self.path.name}:{name}: neither its name nor its parameters say which format it computes "
                "in; write format=fp32 (or bf16, fp16, fp64) into its launch description"
            )
        return found

    def _stated_format(self, name: str, description: Description) -> FloatFormat | None:
        if description.format:
            for fmt in FORMATS:
                if fmt.name == description.format:
                    return fmt
            known = ", ".join(fmt.name for fmt in FORMATS)
            raise UsageError(f"format={description.format} in a launch description: expected one of {known}")
        signature = self.signature(name)
        pointers = [format_of(p) for p in signature.parameters if p.pointer] if signature else []
        return next((fmt for fmt in pointers if fmt is not None), None)

    # -- what fills the parameters ----------------------------------------------------------------

    def _call(
        self, asked: str, name: str, fmt: FloatFormat, description: Description, *, backward: bool,
        expressions: tuple[str, ...] = (),
    ) -> Call:  # fmt: skip
        base = asked.partition("<")[0]
        signature = self.signature(asked)
        meanings = description.arguments
        kinds = self.entries(description, expressions)[name]
        shape = str(signature or f"{base}({', '.join(kinds)})")
        if meanings is None:
            self._require_names(
                asked, name, description, "dy, x, dx, n" if backward else "x, y, n", expressions
            )
            assert signature is not None
            meanings = arguments_of(signature, self.parameters, backward=backward)
        if len(kinds) != len(meanings):
            raise UsageError(
                f"{shape} has {len(kinds)} parameters; its launch description has {len(meanings)}: "
                f"{', '.join(meanings)}"
            )
        types = [format_of(p) for p in signature.parameters] if signature else [None] * len(kinds)
        for meaning, kind in zip(meanings, types, strict=True):
            if meaning in ("x", "y", "dy", "dx") and kind not in (None, fmt):
                raise UsageError(f"{shape} was taken for {fmt.name}, and {meaning} is {kind}")
        arguments = tuple(
            argument(m, k, t or fmt, shape, description, self.parameters)
            for m, k, t in zip(meanings, kinds, types, strict=True)
        )
        wanted = [a.meaning for a in arguments]
        missing = [m for m in (("dy",) if backward else ("x", "y")) if m not in wanted]
        if missing or (backward and not any(m == "dx" or m.startswith("d_") for m in wanted)):
            raise UsageError(
                f"{shape}: nothing is {missing[0] if missing else 'dx or d_NAME'} among {', '.join(wanted)}"
            )
        return Call(name, arguments, description, expressions)

    def _require_names(
        self, asked: str, name: str, description: Description, shown: str, expressions: tuple[str, ...] = ()
    ) -> None:
        base = asked.partition("<")[0]
        if description.arguments is None and self.signature(asked) is None:
            kinds = ", ".join(self.entries(description, expressions)[name])
            raise UsageError(
                f"{self.path.name}: the parameters of {base}({kinds}) have no names that can be read; "
                f"{example(f'{base}({shown})', self.parameters)}"
            )


def _names(*names: str) -> set[str]:
    """What a launch description may call a kernel: with and without template arguments and namespaces."""
    return {*names, *(name.partition("<")[0] for name in names), *map(plain, names)}
