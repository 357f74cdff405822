"""Barriers, where one thread runs after the other: one that waits is put aside, and goes on with the others.

At a barrier a thread's registers are kept in memory, and the next thread runs. When all threads of the block
have come there, each goes on behind it, from the first. Threads that do not come to a barrier pay nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from precision_lab.emulator.fast import accesses
from precision_lab.emulator.fast.liveness import live_behind
from precision_lab.emulator.fast.thread import Modifiers, Thread, operands
from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction, Integer, Kernel, Register

WORD = 16  # bytes kept of each register: enough for the widest
FINISHED = -1  # in the array of places, where 0 is the beginning and 1 + an index behind that barrier

_MEETING = """define internal i64 @meeting(ptr %places, i64 %count) nounwind {
entry:
  %first = load i32, ptr %places
  br label %look
look:
  %k = phi i64 [ 0, %entry ], [ %k.next, %more ]
  %at = getelementptr i32, ptr %places, i64 %k
  %place = load i32, ptr %at
  %same = icmp eq i32 %place, %first
  br i1 %same, label %more, label %apart
more:
  %k.next = add i64 %k, 1
  %left = icmp ult i64 %k.next, %count
  br i1 %left, label %look, label %together
together:
  %first.64 = sext i32 %first to i64
  ret i64 %first.64
apart:
  ret i64 0
}
define internal i64 @waiting(ptr %places) nounwind {
entry:
  br label %look
look:
  %k = phi i64 [ 0, %entry ], [ %k.next, %look ]
  %at = getelementptr i32, ptr %places, i64 %k
  %place = load i32, ptr %at
  %k.next = add i64 %k, 1
  %waits = icmp sgt i32 %place, 0
  br i1 %waits, label %found, label %look
found:
  ret i64 %k
}"""


def barriers(kernel: Kernel) -> list[int]:
    """Indices of the barriers of a block."""
    return [
        k
        for k, i in enumerate(kernel.instructions)
        if i.opcode in ("bar", "barrier") and "sync" in i.modifiers
    ]


def functions(kernel: Kernel) -> str:
    return _MEETING if barriers(kernel) else ""


class Kept:
    """What of a thread is kept in memory while it waits: at each barrier, the registers read behind it."""

    def __init__(self, kernel: Kernel) -> None:
        live = live_behind(kernel, barriers(kernel))
        self.registers = {k: sorted(found, key=lambda r: r.name) for k, found in live.items()}
        most = max((len(found) for found in self.registers.values()), default=-1)
        self.bytes = WORD * (most + 1)  # and the count of steps


def wait(t: Thread, i: Instruction, kept: Kept) -> None:
    """bar.sync and barrier.sync of all threads of the block."""
    m = Modifiers(i)
    m.drop(("sync", "cta", "aligned"))
    m.done()
    (number,) = operands(i, 1)
    if not isinstance(number, Integer):
        raise unsupported(i, "a barrier whose number is no constant")
    c = t.code
    for kind, place, offset in _places(t, kept.registers[t.index]):
        value = c.value(f"load {kind}, ptr {place}")
        c.do(f"store {kind} {value}, ptr {c.value(f'getelementptr i8, ptr %kept, i64 {offset}')}")
    c.do(f"store i32 {t.index + 1}, ptr %place.at")
    c.do("br label %next")
    c.place(f"behind{t.index}")


def begin(t: Thread, kept: Kept) -> None:
    """Where a thread goes on: at the beginning, or behind the barrier that it waited at."""
    found = kept.registers
    if not found:
        return
    c = t.code
    c.do(f"%kept.offset = mul i64 %thread, {kept.bytes}")
    c.do("%kept.all = inttoptr i64 %kept.array to ptr")
    c.do("%kept = getelementptr i8, ptr %kept.all, i64 %kept.offset")
    c.do("%place.at = getelementptr i32, ptr %places, i64 %thread")
    place = c.value("load i32, ptr %place.at")
    cases = " ".join(f"i32 {k + 1}, label %resume{k}" for k in found)
    c.do(f"switch i32 {place}, label %fresh [ {cases} ]")
    for k in found:
        c.lines.append(f"resume{k}:")
        _restore(t, found[k])
        c.do(f"br label %behind{k}")
    c.lines.append("fresh:")


def _places(t: Thread, kept: Sequence[Register]) -> list[tuple[str, str, int]]:
    """Of each register, and of the count of steps, the type, the place and where it is kept."""
    found = [(f"i{r.bits}", t.places[r]) for r in kept]
    return [(kind, place, WORD * k) for k, (kind, place) in enumerate([*found, ("i64", "%steps")])]


def _restore(t: Thread, kept: Sequence[Register]) -> None:
    for register, (kind, place, offset) in zip([*kept, None], _places(t, kept), strict=True):
        at = t.code.value(f"getelementptr i8, ptr %kept, i64 {offset}")
        value = t.code.value(f"load {kind}, ptr {at}")
        if register is None:
            t.code.do(f"store {kind} {value}, ptr {place}")
        else:
            t.store(register, value)


def finish(t: Thread) -> None:
    """Where a thread ends."""
    if barriers(t.kernel):
        t.code.do(f"store i32 {FINISHED}, ptr %place.at")


def block_begins(t: Thread) -> None:
    """All threads are at the beginning."""
    if not barriers(t.kernel):
        return
    t.code.library.declare("llvm.memset.p0.i64", "void", ["ptr", "i8", "i64", "i1 immarg"])
    t.code.do("%places = inttoptr i64 %places.array to ptr")
    t.code.do("%places.size = mul i64 %threads, 4")
    t.code.do("call void @llvm.memset.p0.i64(ptr %places, i8 0, i64 %places.size, i1 false)")


def block_ends(t: Thread) -> None:
    """Every thread has ended or waits: none is left, all go on from one barrier, or some wait in vain."""
    c = t.code
    if not barriers(t.kernel):
        c.do("br label %block.done")
        return
    c.do("%met = call i64 @meeting(ptr %places, i64 %threads)")
    c.do("%all.ended = icmp eq i64 %met, -1")
    c.do("br i1 %all.ended, label %block.done, label %block.waits")
    c.place("block.waits")
    c.do("%all.wait = icmp ne i64 %met, 0")
    c.do("br i1 %all.wait, label %block.again, label %block.stuck")
    c.place("block.again")
    c.do("br label %threads.begin")
    c.place("block.stuck")
    c.do("%stuck = call i64 @waiting(ptr %places)")
    c.do("%stuck.at = getelementptr i32, ptr %places, i64 %stuck")
    c.do("%stuck.32 = load i32, ptr %stuck.at")
    c.do("%stuck.64 = sext i32 %stuck.32 to i64")
    c.do("%stuck.index = sub i64 %stuck.64, 1")
    c.do(
        f"call void @fail(ptr %result, i64 {accesses.WAIT}, i64 %stuck.index, i64 0, i64 0, i64 %block, "
        "i64 %stuck)"
    )
    c.do("br label %stop")
