"""Which engine runs what, what is compared, and which results are chosen; without a device of torch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from precision_lab.emulator.influence import influence
from precision_lab.emulator.launch import Launch, argument
from precision_lab.emulator.memory import Memory
from precision_lab.emulator.parser import parse
from precision_lab.emulator.ptx import Kernel
from precision_lab.exceptions import InternalError
from precision_lab.virtual_gpu import engines, launching

TEXT = """
.version 9.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 y)
{
    .reg .b64 %d<3>;
    .reg .f32 %f<9>;
    ld.param.u64 %d1, [y];
    ld.global.f32 %f1, [%d1];
    mul.f32 %f2, %f1, %f1;
    add.f32 %f3, %f2, %f1;
    ex2.approx.f32 %f4, %f3;
    st.global.f32 [%d1], %f4;
    ret;
}"""


class StandIn:
    """An engine that changes the first byte of memory that is allocated."""

    def __init__(self, name: str, change: Callable[[int], int]) -> None:
        self.name, self._change = name, change
        self.met: list[int] = []

    def run(self, launch: Launch, memory: Memory) -> None:
        at = int.from_bytes(launch.arguments[0], "little") - memory.base
        self.met.append(int(memory.data[at]))
        memory.data[at] = self._change(int(memory.data[at]))


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("engines", "compared", "influences", "choices"):
        monkeypatch.setattr(engines._State, name, {})
    monkeypatch.delenv(engines.ENGINE, raising=False)
    with engines.recording():
        yield


def kernel() -> Kernel:
    return parse(TEXT).kernels["k"]


def ran(found: Kernel, reference: StandIn, fast: StandIn) -> str:
    engines._State.engines = {"reference": reference, "fast": fast}
    memory = Memory.reserve(1 << 20)
    address = memory.put(np.full(64, 5, np.uint8))
    return engines._run(Launch(found, (1, 1, 1), (1, 1, 1), argument([address], [8])), memory, [address])


def test_both_engines_begin_with_the_same_memory() -> None:
    reference, fast = (StandIn(name, lambda byte: byte + 1) for name in ("reference", "fast"))
    found = kernel()
    assert ran(found, reference, fast) == "fast" and (reference.met, fast.met) == ([5], [5])
    # The first launch of a kernel is compared, and no other.
    assert ran(found, reference, fast) == "fast" and (len(reference.met), len(fast.met)) == (1, 2)


def test_engines_that_differ_end_the_measurement() -> None:
    with pytest.raises(
        InternalError, match=r"the two engines of the emulator differ for k: byte 0 .* 1 bytes"
    ):
        ran(kernel(), StandIn("reference", lambda byte: 6), StandIn("fast", lambda byte: 7))


def test_a_choice_is_held_to_what_the_manual_allows() -> None:
    found = kernel()
    known = influence(found)
    (index,) = known.colours
    for asked, taken in ((0, {}), (2, {index: 2}), (3, {index: 2}), (-4, {index: -4}), (-9, {index: -4})):
        with engines.recording() as record, engines.choosing({(1, 0): asked}):
            assert engines._choice(found, known, 1).moved == taken
        assert record.dimensions == {(1, 0): (-4, 2)} and record.instructions == {(1, 0): "ex2.approx.f32"}
    with engines.choosing({(0, 0): 2}):  # another launch's
        assert engines._choice(found, known, 1).moved == {}


def test_a_kernel_is_executed_as_the_assembler_contracts_it() -> None:
    opcodes = [i.opcode for i in launching._kernel(TEXT, "k").instructions]
    assert "fma" in opcodes and "add" not in opcodes
    assert launching._kernel(TEXT, "k") is launching._kernel(TEXT, "k")
