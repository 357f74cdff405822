"""Which products were contracted in given machine code, found by assembling the PTX again.

Counting fused instructions decides little: the assembler unrolls loops, writes divisions out and drops what
nobody uses. But it does the same whenever it gets the same. So the PTX is assembled with single sums not
allowed to be fused (`add.rn`, which the manual exempts): where as many instructions are fused as before, it
was not one of them. At last all that was found is written as explicit fma, and every other product and sum
with `.rn`: each instruction's meaning is fixed then, and machine code with the same arithmetic is the proof.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from precision_lab.emulator.contraction import chosen_sums, usual
from precision_lab.emulator.contraction_text import edited, places_of
from precision_lab.emulator.machine_code import (
    MachineInstruction,
    assemble,
    assemblers,
    assemblers_of,
    kernel_code,
)
from precision_lab.emulator.operands import results_of, sources_of, written
from precision_lab.emulator.parser import parse
from precision_lab.emulator.products import Candidate, IndexPair, candidates
from precision_lab.emulator.ptx import Float, Instruction, Integer, Kernel, Operand, Register
from precision_lab.exceptions import UsageError

# A product and a sum of pairs, each of which must be rounded.
_PAIRS = """.version 8.6
.target sm_100
.address_size 64
.visible .entry pairs(.param .u64 at) {
    .reg .b64 %rd<6>;
    ld.param.u64 %rd1, [at];
    ld.global.b64 %rd2, [%rd1];
    ld.global.b64 %rd3, [%rd1+8];
    mul.rn.f32x2 %rd4, %rd2, %rd3;
    add.rn.f32x2 %rd5, %rd4, %rd3;
    st.global.b64 [%rd1], %rd5;
    ret;
}
"""
_ROUNDING = (
    "FADD", "FMUL", "FFMA", "FADD2", "FMUL2", "FFMA2", "FADD32I", "FMUL32I", "FFMA32I", "DADD", "DMUL",
    "DFMA", "HFMA2",
)  # fmt: skip
# What an assembler says of PTX, or of a target, that it does not know yet.
_TOO_OLD = re.compile(r"Unsupported \.version|is not defined for option 'gpu-name'")
MOST_ASSEMBLIES = 200  # of one kernel; beyond, the search is given up
Code = tuple[MachineInstruction, ...]
Kind = Literal["none", "all", "some", "unknown"]


# What compilers tell the assembler of how registers are given out: Triton 3.9 does, NVRTC nothing.
_SETTINGS = (("--regAllocOptLevel=2",), ())


@dataclass(frozen=True)
class Contraction:
    """What the assembler did with the products that it may fuse.

    Attributes:
        kind: "none" of them fused; "all" that `contraction.usual` names; "some", which are `pairs`; or
            "unknown": then the kernel must be judged with none and with the usual ones.
        pairs: indices of products and sums that were fused; if unknown, the usual ones.
        reason: how it is known, or why not; one sentence.
    """

    kind: Kind
    pairs: tuple[IndexPair, ...]
    reason: str

    @property
    def choices(self) -> tuple[tuple[IndexPair, ...], ...]:
        """What `contraction.contracted` is to be asked for: one choice where it is known, else both."""
        return ((), self.pairs) if self.kind == "unknown" else (self.pairs,)


def verdict(ptx: str, name: str, cubin: bytes | None = None) -> Contraction:
    """Which products of the kernel `name` were fused in `cubin`, which was made from this PTX.

    Without `cubin`, in what the first assembler that takes the PTX makes of it; "unknown" where all are older
    than the PTX or its target.

    Raises:
        ImportError: there is no disassembler.
        Unsupported: the PTX is not understood.
        ValueError: there is no kernel of that name, or an assembler refuses the PTX.
    """
    module = parse(ptx)
    if name not in module.kernels:
        raise UsageError(
            f"the PTX has no kernel {name!r}; it has {', '.join(sorted(module.kernels)) or 'none'}"
        )
    kernel = module.kernels[name]
    if not candidates(kernel):
        return Contraction("none", (), "no sum uses a product that may be fused")
    if cubin is None:
        try:
            cubin = assemble(ptx, module.target)
        except UsageError as error:
            if _TOO_OLD.search(str(error)) is None:
                raise
            reason = f"no assembler here is new enough: {str(error).splitlines()[0]}"
            return Contraction("unknown", usual(kernel), reason)
    given = kernel_code(cubin, name)
    if not any(i.is_fused for i in given):
        return Contraction("none", (), "the machine code has no fused instruction")
    for assembler in assemblers_of(module.target):
        for options in _SETTINGS:
            found = _Search(ptx, kernel, module.target, given, assembler, options).run()
            if found is not None:
                return found
    return Contraction(
        "unknown",
        usual(kernel),
        f"none of {len(assemblers())} assemblers here makes this machine code of the PTX; that of the "
        "compiler's release is in the package nvidia-cuda-nvcc",
    )


class _Search:
    def __init__(
        self, ptx: str, kernel: Kernel, target: str, given: Code, assembler: Path, options: tuple[str, ...]
    ) -> None:
        self._text, self._kernel, self._target, self._given = (
            _readable(ptx, target, assembler),
            kernel,
            target,
            given,
        )
        self._assembler, self._options = assembler, options
        self._left = MOST_ASSEMBLIES
        self._places = places_of(self._text, kernel)

    def run(self) -> Contraction | None:
        """None where this assembler does not make the given machine code."""
        try:
            return self._found()
        except _GivenUpError:
            reason = f"not decided in {MOST_ASSEMBLIES} assemblies"
            return Contraction("unknown", usual(self._kernel), reason)

    def _found(self) -> Contraction | None:
        if self._code(None) is None:
            return None
        expected = usual(self._kernel)
        quotients = {c.indices for c in candidates(self._kernel) if c.quotient}
        # A quotient cannot be written out as fma: whether its sum is fused shows without it only.
        if expected and not quotients & set(expected) and self._proves(expected):
            return Contraction("all", expected, "the same arithmetic comes of the PTX with fma written out")
        rounded = (self._code(frozenset()), self._code(None, options=("--fmad=false",)))
        if self._given in rounded:
            if self._fuses_pairs():
                return Contraction("unknown", expected, "this assembler fuses f32x2 whatever the PTX says")
            return Contraction("none", (), "the same machine code comes of the PTX with all products rounded")
        if self._code(None) != self._given:
            return None
        for whole in (True, False):
            sums = self._fused_sums(whole=whole)
            for pairs in itertools.islice(self._choices(sums, expected), 1 if whole else None):
                if self._proves(pairs):
                    kind: Kind = "all" if set(pairs) == set(expected) else "some"
                    return Contraction(
                        kind, pairs, "the same arithmetic comes of the PTX with fma written out"
                    )
        return Contraction(
            "unknown",
            expected,
            f"with fma written out for {len(sums)} sums, other machine code results",
        )

    def _fuses_pairs(self) -> bool:
        """Whether there are fused pairs of numbers, and `.rn` means nothing to the assembler for them."""
        packed = any(self._kernel.instructions[c.sum].type == "f32x2" for c in candidates(self._kernel))
        if not packed or not any(i.opcode == "FFMA2" and i.is_fused for i in self._given):
            return False
        code = kernel_code(assemble(_PAIRS, self._target, assembler=self._assembler), "pairs")
        return any(i.is_fused for i in code)

    # -- which sums -------------------------------------------------------------------------------

    def _fused_sums(self, *, whole: bool = False) -> tuple[int, ...]:
        """Those without which the machine code has fewer fused instructions.

        Args:
            whole: of a group without which there are as many fewer as it has sums, all are taken to be fused.
                Another one's fate may have changed instead, so that this must be proved; it nearly always
                can be, and an unrolled kernel needs a tenth of the assemblies.
        """
        open_sums = [at for at in self._places if self._kernel.instructions[at].opcode != "mul"]
        if whole:  # what is alike, in different elements, side by side
            made = {r.name: i for i in self._kernel.instructions for to in results_of(i) for r in written(to)}
            open_sums.sort(key=lambda at: (_form(self._kernel.instructions[at], made, 3), at))
        fused: list[int] = []
        waiting = [open_sums]
        while waiting:
            group = waiting.pop()
            if not group:
                continue
            # Without them the order of instructions may change, too; what counts is how many are fused.
            without = self._code(frozenset(self._places) - frozenset(group))
            fewer = _fused(self._given) - _fused(without)
            if not fewer:
                continue
            if len(group) == 1 or (whole and fewer == len(group)):
                fused += group
            else:
                half = len(group) // 2
                waiting += [group[half:], group[:half]]
        return tuple(sorted(fused))

    def _choices(self, sums: Sequence[int], expected: Sequence[IndexPair]) -> Iterator[tuple[IndexPair, ...]]:
        """The products that may be those of the sums: the usual one first, then the others, sum by sum."""
        options: list[list[IndexPair]] = []
        for at in sums:
            own = [c.indices for c in candidates(self._kernel) if c.sum == at]
            if not own:
                return  # fused with something that is not known here
            options.append(sorted(dict.fromkeys(own), key=lambda pair: pair not in expected))
        first = tuple(each[0] for each in options)
        yield first
        for k, each in enumerate(options):
            for other in each[1:]:
                yield (*first[:k], other, *first[k + 1 :])

    # -- assembling -------------------------------------------------------------------------------

    def _proves(self, pairs: Collection[IndexPair]) -> bool:
        """Whether explicit fma in these places, and rounding in all others, give the given machine code.

        The order of instructions and the registers' numbers may differ; no arithmetic may.
        """
        try:
            fused = chosen_sums(self._kernel, pairs)
        except UsageError:
            return False
        code = self._code(frozenset(), fused=fused)
        return code is not None and _arithmetic(code) == _arithmetic(self._given)

    def _code(
        self,
        open_: Collection[int] | None,
        *,
        fused: Mapping[int, Candidate] | None = None,
        options: tuple[str, ...] = (),
    ) -> Code | None:
        """Machine code of the PTX where only the sums and products `open_` may be contracted; None for all.

        None where the assembler refuses the PTX.
        """
        self._left -= 1
        if self._left < 0:
            raise _GivenUpError
        text = self._text
        if open_ is not None:
            text = edited(text, self._kernel, self._places, open_, fused or {})
        try:
            every = (*self._options, *options)
            cubin = assemble(text, self._target, assembler=self._assembler, options=every)
        except UsageError:
            return None
        return kernel_code(cubin, self._kernel.name)


class _GivenUpError(Exception):
    """It takes too many assemblies."""


def _arithmetic(code: Code) -> Counter[tuple[object, ...]]:
    """How often each instruction that rounds is there, with constants, signs and kinds of operands.

    Not those that scale by a power of two: the assembler drops some where it knows the range of a number,
    and knows less of what has `.rn`. Nor products and sums of 16 bits by themselves: they have two forms.
    """
    return Counter(
        (i.opcode, i.modifiers, tuple(map(_kind, i.operands)))
        for i in code
        if i.opcode in _ROUNDING and (i.is_fused or i.opcode[0] != "H") and not _scales(i)
    )


def _scales(i: MachineInstruction) -> bool:
    """Whether it multiplies by a constant that is a power of two."""
    constants = [o for o in i.operands[1:] if re.fullmatch(r"-?[\d.]+(?:e[+-]?\d+)?", o)]
    return i.opcode in ("FMUL", "DMUL") and any(abs(math.frexp(float(c))[0]) == 0.5 for c in constants)


def _fused(code: Code | None) -> int:
    return -1 if code is None else sum(i.is_fused for i in code)


def _form(i: Instruction, made: Mapping[str, Instruction], depth: int) -> str:
    """An instruction with those that its operands come from, without the names of registers."""

    def source(operand: Operand) -> str:
        if not isinstance(operand, Register):
            return repr(operand) if isinstance(operand, Float | Integer) else type(operand).__name__
        return _form(made[operand.name], made, depth - 1) if depth and operand.name in made else "register"

    return f"{i.name}({', '.join(map(source, sources_of(i)))})"


def _kind(operand: str) -> str:
    """An operand without the number of its register."""
    return re.sub(r"\b(U?[RP])\d+", r"\1", operand)


def _readable(ptx: str, target: str, assembler: Path) -> str:
    """The PTX, with the assembler's own version of the instruction set where it is of a later one.

    What it does not know it refuses all the same, and what comes of the rest is compared.
    """
    try:
        assemble(ptx, target, assembler=assembler)
    except UsageError as error:
        if known := re.search(r"Unsupported \.version [\d.]+; current version is '([\d.]+)'", str(error)):
            return re.sub(r"(?m)^(\s*\.version\s+)[\d.]+", rf"\g<1>{known.group(1)}", ptx, count=1)
    return ptx
