"""Which engine runs what, what is compared, and which results are chosen; without a device of torch's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from precision_lab.emulator import nominal
from precision_lab.emulator.contraction import contracted, usual
from precision_lab.emulator.contraction_verdict import Contraction
from precision_lab.emulator.device_table import Header, write
from precision_lab.emulator.faults import Unsupported
from precision_lab.emulator.influence import influence
from precision_lab.emulator.launch import Choice, Launch, argument
from precision_lab.emulator.machine_code import assemble
from precision_lab.emulator.memory import Memory
from precision_lab.emulator.parser import parse
from precision_lab.emulator.ptx import Kernel
from precision_lab.exceptions import DamagedFileError, InternalError, MissingPackageError, UsageError
from precision_lab.virtual_gpu import contracting, engines, executing, launching, tabulated, tensors
from precision_lab.virtual_gpu.settings import DEVICE, ENGINE, TABLES

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
    for name in ("influences", "choices"):
        monkeypatch.setattr(engines._State, name, {})
    for name in ("_ENGINES", "_KNOWN"):
        monkeypatch.setattr(executing, name, {})
    for name in (ENGINE, TABLES):
        monkeypatch.delenv(name, raising=False)
    tabulated.held.cache_clear()
    with engines.recording():
        yield


def kernel() -> Kernel:
    return parse(TEXT).kernels["k"]


def ran(found: Kernel, *given: StandIn, blocks: int = 1) -> str:
    executing._ENGINES.update({engine.name: engine for engine in given})
    memory = Memory.reserve(1 << 20)
    address = memory.put(np.full(64, 5, np.uint8))
    launch = Launch(found, (blocks, 1, 1), (1, 1, 1), argument([address], [8]))
    return executing.execute(launch, memory, [address])


def test_both_engines_begin_with_the_same_memory() -> None:
    reference, quick = (StandIn(name, lambda byte: byte + 1) for name in ("reference", "quick"))
    found = kernel()
    assert ran(found, reference, quick) == "fast" and (reference.met, quick.met) == ([5], [5])
    # The first launch of a kernel is compared, and no other.
    assert ran(found, reference, quick) == "fast" and (len(reference.met), len(quick.met)) == (1, 2)


def test_engines_that_differ_end_the_measurement() -> None:
    with pytest.raises(
        InternalError, match=r"the emulator's engines quick and reference differ for k: byte 0 .* 1 bytes"
    ):
        ran(kernel(), StandIn("reference", lambda byte: 6), StandIn("quick", lambda byte: 7))


def test_code_is_optimised_once_a_kernel_has_run_for_many_threads() -> None:
    """Its first launch is compared with what has been compared with the reference engine."""
    engines_ = [StandIn(name, lambda byte: byte + 1) for name in ("reference", "quick", "fast")]
    found = kernel()
    for _ in range(3):
        assert ran(found, *engines_, blocks=executing.QUICK_THREADS // 4) == "fast"
    reference, quick, fast = (engine.met for engine in engines_)
    assert (len(reference), len(quick), len(fast)) == (1, 3, 0)
    for _ in range(3):
        assert ran(found, *engines_, blocks=executing.QUICK_THREADS // 2) == "fast"
    assert (len(reference), len(quick), len(fast)) == (1, 4, 3) and quick[-1] == fast[0] == 5
    executing._KNOWN.clear()
    engines_[2] = StandIn("fast", lambda byte: 7)
    with pytest.raises(InternalError, match="engines fast and quick differ for k"):
        ran(kernel(), *engines_, blocks=executing.QUICK_THREADS + 1)


def test_a_kernel_that_the_fast_engine_does_not_run_is_tried_and_not_copied_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Without:
        name = "quick"

        def run(self, launch: Launch, memory: Memory) -> None:
            raise Unsupported("threads communicate")

    made: list[int] = []
    plain = executing._Copy

    def copied(memory: Memory, address: int) -> executing._Copy:
        made.append(address)
        return plain(memory, address)

    monkeypatch.setattr(executing, "_Copy", copied)
    executing._ENGINES["quick"] = Without()
    found, reference = kernel(), StandIn("reference", lambda byte: byte + 1)
    assert [ran(found, reference) for _ in range(2)] == ["reference"] * 2
    assert len(made) == 1 and len(reference.met) == 2


def test_a_choice_is_held_to_what_the_manual_allows() -> None:
    found = kernel()
    known = influence(found)
    (index,) = known.colours
    for asked, taken in ((0, {}), (2, {index: 2}), (3, {index: 2}), (-4, {index: -4}), (-9, {index: -4})):
        with engines.recording() as record, engines.choosing({(1, 0): asked}):
            assert engines._choice(found, known, 1).moved == taken
        assert record.dimensions == {(1, 0): (-4, 2)} and record.instructions == {"ex2.approx.f32"}
    with engines.choosing({(0, 0): 2}):  # another launch's
        assert engines._choice(found, known, 1).moved == {}


def test_a_kernel_is_executed_as_its_machine_code_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRECISION_LAB_CACHE", "/dev/null/none")  # nothing is kept
    kernels, why = launching._ways(TEXT, "k")
    assert len(kernels) == 1 and why == ""
    opcodes = [i.opcode for i in kernels[0].instructions]
    assert "fma" in opcodes and "add" not in opcodes
    assert launching._ways(TEXT, "k") is launching._ways(TEXT, "k")
    # The same text, assembled without.
    apart = assemble(TEXT, "sm_90", options=("--fmad=false",))
    monkeypatch.setattr(contracting, "machine_code_of", lambda ptx: apart)
    ((found,), why) = contracting.ways(kernel(), TEXT)
    assert "fma" not in [i.opcode for i in found.instructions] and why == ""


def test_without_an_assembler_a_kernel_is_two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PRECISION_LAB_CACHE", str(tmp_path))

    def missing(*given: object) -> None:
        raise MissingPackageError("no ptxas here")

    monkeypatch.setattr(contracting, "verdict", missing)
    (usual, apart), why = contracting.ways(kernel(), TEXT)
    assert [any(i.opcode == "fma" for i in k.instructions) for k in (usual, apart)] == [True, False]
    assert why == "no ptxas here" and not list(tmp_path.rglob("*"))


def test_what_machine_code_says_is_kept_and_believed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PRECISION_LAB_CACHE", str(tmp_path))
    asked = []

    def found(*given: object) -> Contraction:
        asked.append(given)
        return Contraction("unknown", usual(kernel()), "two ways")

    monkeypatch.setattr(contracting, "verdict", found)
    first, second = contracting.ways(kernel(), TEXT), contracting.ways(kernel(), TEXT)
    assert len(asked) == 1 and first == second and len(first[0]) == 2
    contracting.ways(kernel(), TEXT.replace("%f3, %f2, %f1", "%f3, %f1, %f2"))
    assert len(asked) == 2


def test_both_ways_of_a_kernel_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = kernel()
    fused = contracted(plain, usual(plain))
    met = []
    monkeypatch.setattr(engines, "execute", lambda launch, *rest: met.append(launch.kernel) or "fast")
    monkeypatch.setattr(tensors, "marks_of", lambda allocation: ())
    monkeypatch.setattr(tensors, "mark", lambda allocation, words: None)
    launch = Launch(fused, (1, 1, 1), (1, 1, 1), argument([512], [8]))
    memory = Memory.reserve(1 << 20)
    for way, expected in ((0, fused), (1, plain)):
        with engines.recording() as record, engines.choosing({(0, engines.CONTRACTION): way}):
            engines.run(launch, memory, {"k_param_0": 512}, engines.Other(plain, "nobody knows"))
        assert record.dimensions[0, engines.CONTRACTION] == (0, 1) and met.pop() is expected
        assert "contraction in k" in record.instructions


BRANCHES = """
.version 9.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 x, .param .u64 y)
{
    .reg .pred %p;
    .reg .b64 %d<3>;
    .reg .f32 %f<9>;
    ld.param.u64 %d1, [x];
    ld.param.u64 %d2, [y];
    ld.global.f32 %f1, [%d1];
    setp.lt.f32 %p, %f1, 0f00000000;
    @%p bra LESS;
    ex2.approx.f32 %f2, %f1;
    st.global.f32 [%d2], %f2;
    ret;
LESS:
    div.full.f32 %f3, %f1, 0f40400000;
    add.f32 %f4, %f3, %f1;
    st.global.f32 [%d2], %f4;
    ret;
}"""


def test_a_choice_for_two_instructions_has_the_names_and_the_results_of_both() -> None:
    """No number depends on both: what one may return is tried while what the other may is."""
    found = parse(BRANCHES).kernels["k"]
    known = influence(found)
    assert sorted(known.colours.values()) == [0, 0]
    with engines.recording() as record:
        engines._choice(found, known, 0)
    assert record.dimensions == {(0, 0): (-4, 4)}
    assert record.instructions == {"ex2.approx.f32", "div.full.f32"}


def test_the_way_that_is_not_launched_has_its_choices_tried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fused with its sum a quotient is a reciprocal, of which there are fewer results."""
    plain = parse(BRANCHES).kernels["k"]
    fused, took = contracted(plain, usual(plain)), []
    assert "rcp" in [i.opcode for i in fused.instructions]
    monkeypatch.setattr(engines, "execute", lambda launch, *rest: took.append(launch.choice.moved) or "fast")
    monkeypatch.setattr(tensors, "marks_of", lambda allocation: ())
    monkeypatch.setattr(tensors, "mark", lambda allocation, words: None)
    launch = Launch(fused, (1, 1, 1), (1, 1, 1), argument([512, 1024], [8, 8]))
    memory = Memory.reserve(1 << 20)
    for way in (0, 1):
        with engines.recording() as record, engines.choosing({(0, engines.CONTRACTION): way, (0, 0): 4}):
            engines.run(launch, memory, {"x": 512, "y": 1024}, engines.Other(plain, "nobody knows"))
        assert record.dimensions == {(0, engines.CONTRACTION): (0, 1), (0, 0): (-4, 4)}
        assert {"rcp.approx.ftz.f32", "div.full.f32", "contraction in k"} < record.instructions
    of = [
        {k.instructions[i].opcode: by for i, by in m.items()}
        for k, m in zip((fused, plain), took, strict=True)
    ]
    assert of == [{"ex2": 2, "rcp": 2}, {"ex2": 2, "div": 4}]


def table_of(path: Path, capability: str = "9.0", device: str = "Mine", by: int = 1) -> Path:
    """Of ex2.approx.f32 near 1: the largest conforming result, or one `by` floats from the rounded one."""
    start, stop = 0x3F800000, 0x3F800400
    header = Header(device, capability, "13.0", "ex2.approx.f32", False, start, stop)
    inputs = header.inputs(start, stop - start)
    rounded = nominal.evaluate("ex2.approx.f32", False, 0, inputs)
    write(path, header, [nominal.evaluate("ex2.approx.f32", False, by, inputs) if by <= 2 else rounded + by])
    return path


def test_a_table_is_what_the_instruction_returns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(TABLES, str(table_of(tmp_path / "t")))
    monkeypatch.setenv(DEVICE, "sm_90")
    found = contracted(kernel(), usual(kernel()))
    known = engines._influence(found, frozenset(p.name for p in found.parameters))
    choice = engines._choice(found, known, 0)
    assert choice.moved == {} and list(choice.tables) == [("ex2.approx.f32", False)]
    assert engines._State.record.dimensions == {} and engines._State.record.tables == {"Mine"}
    x = np.float32(0.618034)  # x² + x is just above 1
    results = {}
    for given in (choice, Choice({k: 1 for k, i in enumerate(found.instructions) if i.opcode == "ex2"})):
        memory = Memory.reserve(1 << 20)
        address = memory.put(np.array([x], np.float32))
        launch = Launch(found, (1, 1, 1), (1, 1, 1), argument([address], [8]), choice=given)
        executing.execute(launch, memory, [address])
        results[bool(given.tables)] = memory.get(address, np.uint32, 1)[0]
    assert (
        results[True]
        == results[False]
        != nominal.evaluate("ex2.approx.f32", False, 0, np.float32([1]).view(np.uint32))[0]
    )


def test_tables_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    first = table_of(tmp_path / "first")
    for paths, words in (
        ([tmp_path / "none"], "No such file"),
        ([table_of(tmp_path / "old", "8.0")], "of capability 8.0, and sm_90 is emulated"),
        ([first, table_of(tmp_path / "b", device="Other")], "it is of Other, another of Mine"),
        ([first, first], "there is another one of ex2.approx.f32"),
    ):
        with pytest.raises(UsageError, match=words):
            tabulated.load(map(str, paths), (9, 0))
    damaged = tmp_path / "damaged"
    damaged.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(DamagedFileError):
        tabulated.load([str(damaged)], (9, 0))
    wild = tabulated.load([str(table_of(tmp_path / "wild", by=9))], (9, 0))["ex2.approx.f32", False]
    with pytest.raises(Unsupported, match=r"is 0x.*, which the manual does not allow: 0x.* to 0x"):
        wild.evaluate(np.array([0x3F800001], np.uint32))
    with pytest.raises(
        Unsupported, match="the table has inputs from 0x3f800000 to 0x3f8003ff only; bits=0x0"
    ):
        wild.evaluate(np.array([0], np.uint32))


def test_a_table_gives_a_zero_the_sign_that_the_manual_gives(tmp_path: Path) -> None:
    """2^-inf is +0 on every device."""
    header = Header("Mine", "9.0", "13.0", "ex2.approx.bf16", True, 0, 1 << 16)
    returned = nominal.evaluate("ex2.approx.bf16", True, 0, header.inputs(0, 1 << 16))
    assert returned[0xFF80] == 0
    returned[0xFF80] = 0x8000
    write(tmp_path / "t", header, [returned])
    loaded = tabulated.load([str(tmp_path / "t")], (9, 0))["ex2.approx.bf16", True]
    assert loaded.evaluate(np.array([0xC000], np.uint16)) == returned[0xC000]
    with pytest.raises(Unsupported, match="of 0xff80 is 0x8000, which the manual does not allow"):
        loaded.evaluate(np.array([0xFF80], np.uint16))


SUM = """
.version 9.0
.target sm_90
.address_size 64
.visible .entry total(.param .u64 y, .param .u64 z)
{
    .reg .b64 %d<3>;
    .reg .f32 %f<4>;
    ld.param.u64 %d1, [y];
    ld.param.u64 %d2, [z];
    ld.global.f32 %f1, [%d1];
    ld.global.f32 %f2, [%d2];
    add.f32 %f3, %f1, %f2;
    st.global.f32 [%d1], %f3;
    ret;
}"""


def test_results_of_two_launches_that_meet_are_not_all_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Choices are by level: those of two launches of one level would be the same, and need not be."""
    marks: dict[int, set[str]] = {}
    monkeypatch.setattr(engines, "execute", lambda *given: "fast")
    monkeypatch.setattr(tensors, "marks_of", lambda allocation: tuple(marks.get(allocation, ())))
    monkeypatch.setattr(
        tensors, "mark", lambda allocation, words: marks.setdefault(allocation, set()).add(words)
    )
    memory = Memory.reserve(1 << 20)
    one = parse(SUM.replace("add.f32 %f3, %f1, %f2", "ex2.approx.f32 %f3, %f2")).kernels["total"]
    total = parse(SUM).kernels["total"]

    def launched(found: Kernel, y: int, z: int) -> None:
        pointers = {"y": y, "z": z}
        values = argument(list(pointers.values()), [8, 8])
        engines.run(Launch(found, (1, 1, 1), (1, 1, 1), values), memory, pointers)

    with engines.recording() as record:
        for at in (512, 1024):
            launched(one, at, 8192)
        assert record.obstacle(512) == record.obstacle(1024) == ""
        launched(total, 512, 1024)
        assert "several kernels are combined" in record.obstacle(512) and record.obstacle(1024) == ""
        launched(one, 2048, 8192)
        launched(total, 2048, 4096)  # what nobody chose anything for
        launched(one, 4096, 2048)  # one after the other: a level of its own
        assert record.obstacle(2048) == record.obstacle(4096) == ""
        assert set(record.dimensions) == {(0, 0), (2, 0)}


def test_the_usual_way_is_launched_and_the_other_one_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = kernel()
    fused, got = contracted(plain, usual(plain)), []
    monkeypatch.setattr(launching, "_ways", lambda ptx, name: ((fused, plain), "nobody knows"))
    monkeypatch.setattr(engines, "run", lambda *given: got.append(given))
    monkeypatch.setattr(tensors, "memory", lambda: None)
    launching.execute(TEXT, "k", (1, 1, 1), (1, 1, 1), [512])
    ((launch, _, _, other),) = got
    assert launch.kernel is fused and other == engines.Other(plain, "nobody knows")
