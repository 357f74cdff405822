"""A kernel → LLVM's assembly language: a function that runs all threads of some blocks, one by one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from precision_lab.emulator.fast import accesses, barriers
from precision_lab.emulator.fast.code import Code, Library
from precision_lab.emulator.fast.handlers import HANDLERS
from precision_lab.emulator.fast.thread import Inputs, Modifiers, Thread, operands
from precision_lab.emulator.faults import Unsupported, unsupported
from precision_lab.emulator.memory import ALLOCATED
from precision_lab.emulator.ptx import Instruction, Kernel, Symbol

# What is the same for all threads: an array of 64-bit integers, in this order.
LAUNCH = (
    "base", "states", "size", "nctaid.x", "nctaid.y", "nctaid.z", "ntid.x", "ntid.y", "ntid.z", "limit",
    "local", "kept.array", "places.array",
)  # fmt: skip
_FUNCTION = (
    "define i32 @run(ptr noalias readonly %launch, ptr noalias readonly %parameters, "
    "ptr noalias readonly %functions, ptr noalias readonly %choice, ptr noalias readonly %variables, "
    "ptr noalias %result, i64 %first, i64 %last) {"
)
_FAIL = """define internal void @fail(ptr %r, i64 %a, i64 %b, i64 %c, i64 %d, i64 %e, i64 %f) noinline cold {
  store i64 %a, ptr %r
  %1 = getelementptr i64, ptr %r, i64 1
  store i64 %b, ptr %1
  %2 = getelementptr i64, ptr %r, i64 2
  store i64 %c, ptr %2
  %3 = getelementptr i64, ptr %r, i64 3
  store i64 %d, ptr %3
  %4 = getelementptr i64, ptr %r, i64 4
  store i64 %e, ptr %4
  %5 = getelementptr i64, ptr %r, i64 5
  store i64 %f, ptr %5
  ret void
}"""

_METADATA = (
    "!0 = !{}",
    '!1 = !{!"branch_weights", i32 100000, i32 1}',  # what follows holds, as good as always
    '!2 = !{!"branch_weights", i32 1, i32 100000}',
)


@dataclass(frozen=True)
class Program:
    """
    Attributes:
        text: in LLVM's assembly language.
        variables: names of those in global and constant memory whose addresses it is given, in order.
        functions: approximate operations, with whether they flush, whose functions it is given, in order.
        local_bytes: of each thread.
        kept_bytes: of each thread, while it waits at a barrier; 0 where there is none.
    """

    text: str
    variables: tuple[str, ...]
    functions: tuple[tuple[str, bool], ...]
    local_bytes: int
    kept_bytes: int


def translated(kernel: Kernel) -> Program:
    """The kernel's code.

    Raises:
        Unsupported: it has something that this engine does not execute.
    """
    library, inputs = Library(), Inputs()
    code = Code(library)
    thread = Thread(code, kernel, inputs)
    local_bytes = _name_variables(thread)
    kept = barriers.Kept(kernel)
    if kept.registers and local_bytes:
        raise unsupported(kernel.instructions[min(kept.registers)], "in a kernel with local memory")
    targets = _targets(kernel)
    _before_thread(thread, local_bytes, kept)
    for index, instruction in enumerate(kernel.instructions):
        thread.index = index
        if index in targets:
            code.place(f"at{index}")
        _instruction(thread, instruction, kept)
    if len(kernel.instructions) in targets:
        code.place(f"at{len(kernel.instructions)}")
    code.place("finish")
    barriers.finish(thread)
    code.place("next")
    _after_thread(thread)
    # Known only now: the places of all registers, and what the arrays hold.
    entry = Code(library)
    _entry(entry, thread, inputs)
    text = "\n".join(
        [
            library.text(),
            barriers.functions(kernel),
            _FAIL,
            _FUNCTION,
            *entry.lines,
            *code.lines,
            "}",
            *_METADATA,
        ]
    )
    return Program(text, tuple(inputs.variables), tuple(inputs.functions), local_bytes, kept.bytes)


def _targets(kernel: Kernel) -> set[int]:
    """Instructions that something branches to."""
    return {
        kernel.labels[o.name]
        for i in kernel.instructions
        if i.opcode == "bra"
        for o in i.operands
        if isinstance(o, Symbol) and o.name in kernel.labels
    }


def _name_variables(t: Thread) -> int:
    """Says how each variable's address is found, and returns the size of local memory, where they lie side
    by side."""
    at = 0
    for variable in t.kernel.variables.values():
        if variable.space == "local":
            align = max(variable.align, 1)
            at = -(-at // align) * align
            t.variables[variable.name] = partial(_local, t, at)
            at += variable.size
        elif variable.space in ("global", "const"):
            t.variables[variable.name] = partial(_variable, t, variable.name)
    return at


def _local(t: Thread, place: int) -> str:
    return t.code.value(f"add i64 %local, {place}")


def _variable(t: Thread, name: str) -> str:
    number = t.inputs.variables.setdefault(name, len(t.inputs.variables))
    return f"%variable{number}"


def _entry(c: Code, t: Thread, inputs: Inputs) -> None:
    """What is found once: the launch, functions, variables; and room for what a thread changes."""
    c.lines.append("entry:")
    for number, name in enumerate(LAUNCH):
        c.do(f"%{name}.at = getelementptr i64, ptr %launch, i64 {number}")
        c.do(f"%{name} = load i64, ptr %{name}.at, !invariant.load !0")
        if name.startswith(("n", "size")):
            c.do(f"%{name}.32 = trunc i64 %{name} to i32")
    c.do("%states.p = inttoptr i64 %states to ptr")
    for number in range(len(inputs.functions)):
        c.do(f"%function{number}.at = getelementptr ptr, ptr %functions, i64 {number}")
        c.do(f"%function{number} = load ptr, ptr %function{number}.at, !invariant.load !0")
    for number in range(len(inputs.variables)):
        c.do(f"%variable{number}.at = getelementptr i64, ptr %variables, i64 {number}")
        c.do(f"%variable{number} = load i64, ptr %variable{number}.at, !invariant.load !0")
    c.do("%threads.32 = mul i32 %ntid.x.32, %ntid.y.32")
    c.do("%threads.all = mul i32 %threads.32, %ntid.z.32")
    c.do("%threads = zext i32 %threads.all to i64")
    c.do("%steps = alloca i64")
    t.code, body = c, t.code
    t.allocate()
    t.code = body
    c.do("br label %blocks")


def _before_thread(t: Thread, local_bytes: int, kept: barriers.Kept) -> None:
    """The heads of the loops over blocks and threads."""
    c = t.code
    c.lines.append("blocks:")
    c.do("%block = phi i64 [ %first, %entry ], [ %block.next, %block.done ]")
    c.do("%block.left = icmp slt i64 %block, %last")
    c.do("br i1 %block.left, label %block.begin, label %done")
    c.place("block.begin")
    c.do("%row = udiv i64 %block, %nctaid.x")
    c.do("%plane = udiv i64 %row, %nctaid.y")
    for name, of, by in (("x", "block", "nctaid.x"), ("y", "row", "nctaid.y")):
        c.do(f"%ctaid.{name}.64 = urem i64 %{of}, %{by}")
        c.do(f"%ctaid.{name} = trunc i64 %ctaid.{name}.64 to i32")
    c.do("%ctaid.z = trunc i64 %plane to i32")
    barriers.block_begins(t)
    c.do("br label %threads.begin")
    c.place("threads.begin")
    again = ", [ 0, %block.again ]" if kept.registers else ""
    for name in ("tid.x", "tid.y", "tid.z"):
        c.do(f"%{name} = phi i32 [ 0, %block.begin ], [ %{name}.next, %next ]{again}")
    c.do(f"%thread = phi i64 [ 0, %block.begin ], [ %thread.next, %next ]{again}")
    if local_bytes:
        offset = c.value("sub i64 %local, %base")
        place = c.value(f"getelementptr i8, ptr %states.p, i64 {offset}")
        t.code.library.declare("llvm.memset.p0.i64", "void", ["ptr", "i8", "i64", "i1 immarg"])
        c.do(f"call void @llvm.memset.p0.i64(ptr {place}, i8 {ALLOCATED}, i64 {local_bytes}, i1 false)")
    _places_of_thread(t)
    barriers.begin(t, kept)
    c.do("store i64 0, ptr %steps")
    t.clear()


def _places_of_thread(t: Thread) -> None:
    """What the special registers hold."""
    c = t.code
    c.do("%linear = trunc i64 %thread to i32")
    c.do("%laneid = and i32 %linear, 31")
    c.do("%warpid = lshr i32 %linear, 5")
    c.do("%threads.up = add i32 %threads.all, 31")
    c.do("%nwarpid = lshr i32 %threads.up, 5")
    c.do("%lanemask_eq = shl i32 1, %laneid")
    c.do("%lanemask_lt = sub i32 %lanemask_eq, 1")
    c.do("%lanemask_le = or i32 %lanemask_eq, %lanemask_lt")
    c.do("%lanemask_ge = xor i32 %lanemask_lt, -1")
    c.do("%lanemask_gt = xor i32 %lanemask_le, -1")
    for name in ("laneid", "warpid", "nwarpid", *(f"lanemask_{k}" for k in ("eq", "lt", "le", "ge", "gt"))):
        t.specials[f"%{name}"] = f"%{name}"
    for axis in "xyz":
        t.specials |= {f"%tid.{axis}": f"%tid.{axis}", f"%ctaid.{axis}": f"%ctaid.{axis}"}
        t.specials |= {f"%ntid.{axis}": f"%ntid.{axis}.32", f"%nctaid.{axis}": f"%nctaid.{axis}.32"}


def _after_thread(t: Thread) -> None:
    c = t.code
    c.do("%thread.next = add i64 %thread, 1")
    c.do("%tid.x.up = add i32 %tid.x, 1")
    c.do("%row.ends = icmp eq i32 %tid.x.up, %ntid.x.32")
    c.do("%tid.x.next = select i1 %row.ends, i32 0, i32 %tid.x.up")
    c.do("%row.ends.32 = zext i1 %row.ends to i32")
    c.do("%tid.y.up = add i32 %tid.y, %row.ends.32")
    c.do("%plane.ends = icmp eq i32 %tid.y.up, %ntid.y.32")
    c.do("%tid.y.next = select i1 %plane.ends, i32 0, i32 %tid.y.up")
    c.do("%plane.ends.32 = zext i1 %plane.ends to i32")
    c.do("%tid.z.next = add i32 %tid.z, %plane.ends.32")
    c.do("%thread.left = icmp ult i64 %thread.next, %threads")
    c.do("br i1 %thread.left, label %threads.begin, label %block.end")
    c.place("block.end")
    barriers.block_ends(t)
    c.place("block.done")
    c.do("%block.next = add i64 %block, 1")
    c.do("br label %blocks")
    c.place("done")
    c.do("ret i32 0")
    c.place("stop")
    c.do("ret i32 1")


def _instruction(t: Thread, i: Instruction, kept: barriers.Kept) -> None:
    """One instruction, passed over where its guard does not hold."""
    c = t.code
    if c.ended:  # behind a branch, and nothing leads here
        c.place(c.label("dead"))
    past = ""
    if i.guard is not None:
        inside, past = c.label("do"), c.label("past")
        c.do(f"br i1 {t.read_predicate(i, i.guard)}, label %{inside}, label %{past}")
        c.place(inside)
    if i.opcode in ("ret", "exit"):
        m = Modifiers(i)
        m.flag("uni")
        m.done()
        operands(i, 0)
        c.do("br label %finish")
    elif i.opcode == "bra":
        _branch(t, i)
    elif t.index in kept.registers:
        barriers.wait(t, i, kept)
    elif i.opcode in HANDLERS:
        HANDLERS[i.opcode](t, i)
    else:
        raise unsupported(i)
    if past:
        c.place(past)


def _branch(t: Thread, i: Instruction) -> None:
    """bra; one that leads backward counts the instructions between, so that no loop is endless."""
    c = t.code
    m = Modifiers(i)
    m.flag("uni")
    m.done()
    (label,) = operands(i, 1)
    if not isinstance(label, Symbol) or label.name not in t.kernel.labels:
        raise Unsupported(f"{i.text}: no such label")
    to = t.kernel.labels[label.name]
    if to <= t.index:
        steps = c.value(f"add i64 {c.value('load i64, ptr %steps')}, {t.index - to + 1}")
        c.do(f"store i64 {steps}, ptr %steps")
        endless, go_on = c.label("endless"), c.label("on")
        c.do(f"br i1 {c.value(f'icmp ugt i64 {steps}, %limit')}, label %{endless}, label %{go_on}, !prof !2")
        c.place(endless)
        accesses.fail(t, accesses.STEPS, "0", 0)
        c.place(go_on)
    c.do(f"br label %at{to}")
