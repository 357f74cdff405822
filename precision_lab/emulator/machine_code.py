"""Machine code that NVIDIA's assembler makes of PTX: made, read back, and its instructions counted.

The tools come with Triton (`ptxas`, `ptxas-blackwell`, `nvdisasm`) or with a CUDA toolkit, as a whole or as
the packages nvidia-cuda-nvcc and nvidia-cuda-nvdisasm. None of them needs a GPU.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from precision_lab.emulator.sass.cubin import sections
from precision_lab.exceptions import MissingPackageError, UsageError

_SECTION = re.compile(r"^\.text\.(\S+):")
_LABEL = re.compile(r"^\s*(\S+):\s*$")
_LINE = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*?)\s*;")
_LABEL_NAME = re.compile(r"\.L_x_\d+|\$[\w$]+")
# An addend or a factor that leaves a product or a sum what it was.
_NOTHING = re.compile(r"-?\|?(?:U?RZ(?:\.\w+)?|0)\|?")
_ONE = re.compile(r"-?\|?1(?:\.0*)?\|?")
_FUSED = ("FFMA", "FFMA2", "FFMA32I", "DFMA", "HFMA2", "HFMA2_32I")


@dataclass(frozen=True, slots=True)
class MachineInstruction:
    """An instruction as the disassembler writes it.

    Attributes:
        guard: "@P0" or "@!P0"; "" for always.
        opcode: up to the first dot.
        modifiers: what stands between dots behind it.
        operands: as written, without hints for the register cache; labels are numbered within the kernel.
    """

    guard: str
    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[str, ...]

    @property
    def name(self) -> str:
        """The opcode; with its function where one unit has several, as in MUFU.EX2.

        A fused one of which nothing but the addend is left, as the assembler loads numbers, is a constant.
        """
        if self.opcode in _FUSED and all(_NOTHING.fullmatch(f) for pair in self._factors()[0] for f in pair):
            return f"constant ({self.opcode})"
        return ".".join((self.opcode, *self.modifiers[:1])) if self.opcode == "MUFU" else self.opcode

    @property
    def is_fused(self) -> bool:
        """Whether it rounds a product and a sum at once.

        Not where a factor is 1, the addend is 0, or both factors are 0: the assembler writes additions,
        products and constants so, too.
        """
        if self.opcode not in _FUSED:
            return False
        factors, addend = self._factors()
        if not addend or all(_NOTHING.fullmatch(a) for a in addend):
            return False
        return not any(
            all(test.fullmatch(f) for f in factor) for factor in factors for test in (_ONE, _NOTHING)
        )

    def _factors(self) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
        """Each factor and the addend; one of a packed instruction written as two numbers is two of them."""
        sources = list(self.operands[1:])
        parts: list[tuple[str, ...]] = []
        packed = self.opcode.startswith("HFMA2")
        while sources:
            first = sources.pop(0)
            two = packed and _is_number(first) and bool(sources) and _is_number(sources[0])
            parts.append((first, sources.pop(0)) if two else (first,))
        return parts[:2], parts[2] if len(parts) > 2 else ()


def _is_number(operand: str) -> bool:
    return re.fullmatch(r"[+-]?(?:\d[\d.]*(?:e[+-]?\d+)?|INF|QNAN|NAN)", operand) is not None


def assemblers() -> tuple[Path, ...]:
    """Every one that is found, of whatever release: those of Triton, NVIDIA's package, a toolkit and PATH."""
    found = [
        *(folder / name for folder in _folders() for name in ("ptxas", "ptxas-blackwell")),
        *(Path(at) for at in [shutil.which("ptxas")] if at),
    ]
    return tuple(dict.fromkeys(p for p in found if p.is_file()))


def assemblers_of(target: str) -> tuple[Path, ...]:
    """As `assemblers`, first those of the kind that Triton takes for the target."""
    recent = int("".join(c for c in target if c.isdigit()) or 0) >= 90  # ptxas-blackwell, else ptxas
    return tuple(sorted(assemblers(), key=lambda each: (each.name == "ptxas-blackwell") != recent))


def assemble(ptx: str, target: str, *, assembler: Path | None = None, options: Sequence[str] = ()) -> bytes:
    """Machine code (cubin) of PTX for a target such as "sm_90a".

    Args:
        assembler: one of `assemblers()`; None for the first that takes the PTX, beginning with the one that
            Triton takes for the target.
        options: of ptxas, such as "--fmad=false".

    Raises:
        ImportError: there is no assembler.
        ValueError: it refuses the PTX, in its words.
    """
    chosen = (assembler,) if assembler else assemblers_of(target)
    if not chosen:
        raise MissingPackageError(
            "assembling PTX needs NVIDIA's ptxas, which comes with Triton; `pip install triton` or "
            "`pip install nvidia-cuda-nvcc`"
        )
    refusal: UsageError | None = None
    for each in chosen:
        try:
            return _assembled(ptx, target, each, tuple(options))
        except UsageError as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


@lru_cache(maxsize=256)
def _assembled(ptx: str, target: str, assembler: Path, options: tuple[str, ...]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / "kernel.ptx", Path(folder) / "kernel.cubin"
        source.write_text(ptx.rstrip("\0"), encoding="utf-8")
        command = [str(assembler), f"--gpu-name={target}", str(source), "-o", str(result), *options]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            words = (ran.stderr or ran.stdout).strip().replace(str(source), "the PTX")
            raise UsageError(f"{assembler.name} does not assemble the PTX for {target}: {words}")
        return result.read_bytes()


@dataclass(frozen=True)
class Listing:
    """The text of one kernel, with the functions that it calls.

    Attributes:
        instructions: all that stand there, NOP included, in order.
        labels: index of the instruction that each stands before.
        names: of labels, as the disassembler writes them.
    """

    instructions: tuple[MachineInstruction, ...]
    labels: Mapping[str, int]
    names: Mapping[str, str]


def disassembled(cubin: bytes) -> Mapping[str, tuple[MachineInstruction, ...]]:
    """The instructions of each kernel, without what only fills the last cache line.

    Raises:
        ImportError: there is no disassembler.
        ValueError: it does not read this.
    """
    return {
        name: tuple(i for i in listing.instructions if i.opcode != "NOP")
        for name, listing in listings(cubin).items()
    }


def listings(cubin: bytes) -> Mapping[str, Listing]:
    """The text of each kernel.

    Raises:
        ImportError, ValueError: as `disassembled`.
    """
    program("nvdisasm")
    told = (s for s in sections(cubin) if not s.name.startswith((".note", ".debug", ".nv_debug")))
    return _listings(_Cubin(tuple((s.name, s.data) for s in told), cubin))


@dataclass(frozen=True)
class _Cubin:
    """Machine code as a key: two are the same that differ in what is said for debuggers alone."""

    told: tuple[tuple[str, bytes], ...]
    whole: bytes = field(compare=False)


@lru_cache(maxsize=256)
def _listings(cubin: _Cubin) -> Mapping[str, Listing]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin.whole)
        # What the analysis of data flow would find is in no line that is read here.
        command = [str(program("nvdisasm")), "--print-code", "--no-dataflow", str(file)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise UsageError(f"nvdisasm does not read this machine code: {(ran.stderr or ran.stdout).strip()}")
    return {name: listing_of(lines) for name, lines in _sections(ran.stdout)}


@lru_cache(maxsize=256)
def resources(cubin: bytes) -> Mapping[str, Mapping[str, int]]:
    """What each kernel takes of a multiprocessor: "REG" a thread, "STACK" bytes a thread, "SHARED" bytes …

    Raises:
        ImportError: there is no cuobjdump.
        ValueError: it does not read this.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        command = [str(program("cuobjdump")), "-res-usage", str(file)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise UsageError(f"cuobjdump does not read this machine code: {(ran.stderr or ran.stdout).strip()}")
    pairs = re.findall(r"^ *Function (\S+):\n(.*)$", ran.stdout, re.MULTILINE)
    return {
        name: {k: int(n) for k, n in re.findall(r"(\w+)(?:\[\d+\])?:(\d+)", line)} for name, line in pairs
    }


def kernel_code(cubin: bytes, name: str) -> tuple[MachineInstruction, ...]:
    """The instructions of one kernel.

    Raises:
        ValueError: there is no such kernel.
    """
    found = disassembled(cubin)
    if name not in found:
        raise UsageError(
            f"the machine code has no kernel {name!r}; it has {', '.join(sorted(found)) or 'none'}"
        )
    return found[name]


def counts(cubin: bytes, name: str) -> Counter[str]:
    """How often each opcode, such as FFMA, stands in a kernel."""
    return Counter(i.opcode for i in kernel_code(cubin, name))


def program(name: str) -> Path:
    """One of NVIDIA's that read machine code: nvdisasm, cuobjdump.

    Raises:
        ImportError: it is not there.
    """
    beside = [folder / name for folder in _folders()]
    on_path = [Path(at) for at in [shutil.which(name)] if at]
    for each in (*beside, *on_path):
        if each.is_file():
            return each
    raise MissingPackageError(
        f"reading machine code needs NVIDIA's {name}, which comes with Triton; `pip install triton` or "
        f"`pip install nvidia-cuda-{name}`"
    )


def _folders() -> list[Path]:
    """Where programs of NVIDIA's may lie."""
    places = []
    for package, inside in (
        ("triton", "backends/nvidia/bin"), ("nvidia", "cu13/bin"), ("nvidia", "cuda_nvcc/bin"),
        ("nvidia", "cuda_nvdisasm/bin"), ("nvidia", "cuda_cuobjdump/bin"),
    ):  # fmt: skip
        spec = find_spec(package)
        places += [Path(at) / inside for at in (spec.submodule_search_locations or ())] if spec else []
    return [*places, Path(os.environ.get("CUDA_HOME", "/usr/local/cuda")) / "bin"]


def _sections(text: str) -> Iterator[tuple[str, list[str]]]:
    name: str = ""
    lines: list[str] = []
    for line in text.splitlines():
        begins = _SECTION.match(line)
        if begins or line.startswith("//----"):
            if name:
                yield name, lines
            name, lines = begins.group(1) if begins else "", []
        elif name:
            lines.append(line)
    if name:
        yield name, lines


def listing_of(lines: Sequence[str]) -> Listing:
    """
    Args:
        lines: as nvdisasm writes a kernel's section.

    Raises:
        ValueError: one of them is not understood.
    """
    numbers: dict[str, str] = {}
    labels: dict[str, int] = {}
    found: list[MachineInstruction] = []

    def numbered(match: re.Match[str]) -> str:
        return numbers.setdefault(match.group(), f".L{len(numbers)}")

    for line in lines:
        read = _LINE.match(line)
        if read is None:
            if label := _LABEL.match(line):
                labels[_LABEL_NAME.sub(numbered, label.group(1))] = len(found)
            elif re.match(r"^\s*/\*[0-9a-f]{4,}\*/", line):
                raise UsageError(f"nvdisasm wrote {line.strip()!r}, which is not understood")
            continue
        guard, name, rest = read.groups()
        opcode, *modifiers = name.split(".")
        rest = _LABEL_NAME.sub(numbered, rest).replace(".reuse", "")
        operands = tuple(re.split(r"\s*,\s*", rest)) if rest else ()
        found.append(MachineInstruction(guard or "", opcode, tuple(modifiers), operands))
    return Listing(tuple(found), labels, {number: name for name, number in numbers.items()})
