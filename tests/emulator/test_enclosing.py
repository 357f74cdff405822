"""What the enclosing engine says a register may hold, against single values taken from the same ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from one_instruction import BLOCK, kernel, run

from precision_lab.emulator.approximate import candidates
from precision_lab.emulator.enclosing.engine import EnclosingEngine
from precision_lab.emulator.enclosing.memory import Planes
from precision_lab.emulator.enclosing.ranges import LOST, POINT, UNPROMISED
from precision_lab.emulator.faults import Unsupported
from precision_lab.emulator.launch import Choice, Launch, argument
from precision_lab.emulator.memory import Memory
from precision_lab.emulator.reference.engine import ReferenceEngine

Array = np.ndarray[Any, Any]
UNSIGNED: dict[int, Any] = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
REFERENCE = ReferenceEngine()


def place(bits: Array) -> Array:
    """Where numbers stand among all of their width: a second definition, by their real values and signs."""
    width = 8 * bits.dtype.itemsize
    ordered = np.where(bits >> (width - 1), -1.0 - (bits & ((1 << (width - 1)) - 1)), bits * 1.0)
    assert width < 64
    return ordered


def enclosed(
    lines: str, sources: Sequence[tuple[Array, Array, int]], *results: str
) -> list[tuple[Array, Array, Array]]:
    """Ends and kinds of what the lines leave in %r, %s and %t where each source is a range of that kind."""
    lows = [low for low, _, _ in sources]
    found = kernel(lines, tuple(8 * low.dtype.itemsize for low in lows), results)
    n = len(lows[0])
    padded = -(-n // BLOCK) * BLOCK
    memory = Memory.reserve(1 << 26)
    planes = Planes(memory, "low")
    dtypes = [np.dtype(np.uint16 if r == "pred" else f"u{int(r[1:]) // 8}") for r in results]
    given = []
    for low, high, kind in sources:
        address = memory.put(np.resize(low, padded))
        at, size = address - memory.base, padded * low.dtype.itemsize
        for name, values in (("low", low), ("high", high)):
            planes.data[name][at : at + size] = np.resize(values, padded).view(np.uint8)
        ranged = np.resize(low != high, padded).astype(np.uint8) * kind
        planes.data["kinds"][at : at + size] = np.repeat(ranged, low.dtype.itemsize)
        given.append(address)
    planes.touched = True
    made = [memory.allocate(padded * k.itemsize) for k in dtypes]
    values = argument([*given, *made], [8] * (len(given) + len(made)))
    EnclosingEngine(planes).run(Launch(found, (padded // BLOCK, 1, 1), (BLOCK, 1, 1), values), memory)
    ends = []
    for address, dtype in zip(made, dtypes, strict=True):
        at, size = address - memory.base, n * dtype.itemsize
        kinds = planes.data["kinds"][at : at + size].reshape(n, -1).max(1)
        low, high = (planes.data[name][at : at + size].view(dtype) for name in ("low", "high"))
        real = memory.get(address, dtype, n)
        ends.append((np.where(kinds == 0, real, low), np.where(kinds == 0, real, high), kinds))
    return ends


def ranges(width: int, n: int, random: np.random.Generator, scalar: str = "") -> tuple[Array, Array]:
    """Ends of all kinds: points, narrow and wide ranges, around zero, up to infinity, none with NaN."""
    top = {"bf16": 0x7F80, "f16": 0x7C00, "f32": 0x7F800000, "e4m3": 0x7E, "e5m2": 0x7C}[scalar]
    edges = [0, 1, 2, top >> 1, (top >> 1) + 1, top - 1, top, top // 255 * 127]
    magnitude = np.where(
        random.random(n) < 0.3, random.choice(edges, n), random.integers(0, top, n, endpoint=True)
    )
    near = np.abs(magnitude - random.integers(0, max(top // 2000, 2), n))
    other = np.where(random.random(n) < 0.5, near, random.choice([*edges, *magnitude[:50]], n))
    signs = random.integers(0, 2, (2, n))
    signs[1] = np.where(random.random(n) < 0.6, signs[0], signs[1])
    a, b = (np.clip(m, 0, top) | s << (width - 1) for m, s in zip((magnitude, other), signs, strict=True))
    a, b = a.astype(UNSIGNED[width]), b.astype(UNSIGNED[width])
    swapped = place(a) > place(b)
    return np.where(swapped, b, a), np.where(swapped, a, b)


def inside(low: Array, high: Array, random: np.random.Generator) -> Array:
    """A number of each range: an end, the neighbour of one, or any other."""
    width = 8 * low.dtype.itemsize
    a, b = place(low), place(high)
    share = random.choice([0.0, 1.0, 0.5, 1e-7, 1 - 1e-7], low.size) * random.choice(
        [1.0, random.random()], low.size
    )
    at = np.clip(np.rint(a + (b - a) * share), a, b)
    zero = (a <= 0) & (b >= -1) & (random.random(low.size) < 0.3)
    at = np.where(zero, np.clip(random.integers(-1, 1, low.size), a, b), at).astype(np.int64)
    return np.where(at < 0, (-1 - at) | 1 << (width - 1), at).astype(UNSIGNED[width])


SCALARS = {"f32": 32, "bf16": 16, "f16": 16}
LINES = [
    *(f"{op}.{mode}.{ftz}f32 %r, %a, %b;" for op in ("add", "sub", "mul") for mode in ("rn", "rz", "rm", "rp")
      for ftz in ("", "ftz.")),
    *(f"fma.{mode}.{ftz}f32 %r, %a, %b, %c;" for mode in ("rn", "rm", "rp") for ftz in ("", "ftz.")),
    "mul.rn.f32 %r, %a, %a;", "add.rn.f32 %r, %a, %a;", "fma.rn.sat.f32 %r, %a, %b, %a;",
    "div.rn.f32 %r, %a, %b;", "div.rn.ftz.f32 %r, %a, %b;", "rcp.rn.f32 %r, %a;", "rcp.rn.ftz.f32 %r, %a;",
    "sqrt.rn.f32 %r, %a;", "neg.f32 %r, %a;", "neg.ftz.f32 %r, %a;", "abs.f32 %r, %a;",
    "abs.ftz.f32 %r, %a;", "min.f32 %r, %a, %b;", "max.NaN.f32 %r, %a, %b;",
    "cvt.rn.bf16.f32 %r, %a;", "cvt.rn.f16.f32 %r, %a;", "cvt.rz.bf16.f32 %r, %a;", "cvt.rni.f32.f32 %r, %a;",
    "cvt.f32.bf16 %r, %a;", "cvt.f32.f16 %r, %a;", "fma.rn.bf16 %r, %a, %b, %c;", "add.f16 %r, %a, %b;",
    "and.b32 %r, %a, 0x7fffffff;", "xor.b32 %r, %a, 0x80000000;", "or.b32 %r, %a, 0x80000000;",
    "and.b16 %r, %a, 0x7fff;", "xor.b16 %r, %a, 0x8000;", "mov.b32 %r, {%a, %b};", "mov.b32 %r, %a;",
    "cvt.rn.bf16x2.f32 %r, %a, %b;", "cvt.rn.satfinite.e4m3x2.f32 %r, %a, %b;",
    "cvt.rn.satfinite.e5m2x2.f32 %r, %a, %b;", "cvt.rn.f16x2.e4m3x2 %r, %a;",
    "copysign.f32 %r, %a, %b;", "prmt.b32 %r, %a, %b, 0x5410;",
    "prmt.b32 %r, %a, %b, 0x7632;",
    ".reg .pred %p; setp.lt.f32 %p, %a, %b; selp.f32 %r, %c, %a, %p;",
    ".reg .pred %p; setp.eq.f32 %p, %a, 0f00000000; selp.f32 %r, %a, %b, %p;",
    ".reg .pred %p; setp.neu.ftz.f32 %p, %a, %b; selp.f32 %r, %a, %c, %p;",
    ".reg .pred %p, %q; setp.gt.f32 %p, %a, 0f3F800000; setp.le.and.f32 %q, %b, %c, %p;"
    "selp.f32 %r, %a, %b, %q;",
    ".reg .pred %p; setp.gt.f32 %p, %a, %b; mov.b32 %r, %a; @%p mov.b32 %r, %b;",
    ".reg .pred %p; setp.gt.f32 %p, %a, %b; mov.b32 %r, %a; @!%p add.f32 %r, %a, %c;",
    ".reg .pred %p; setp.lt.s32 %p, %a, 0; selp.b32 %r, %a, %b, %p;",
    ".reg .b32 %u, %v; cvt.rn.bf16x2.f32 %u, %a, %b; shl.b32 %v, %u, 16; add.rn.f32 %r, %v, %c;",
    ".reg .b32 %u, %v; cvt.rn.bf16x2.f32 %u, %a, %b; and.b32 %v, %u, 0xffff0000; mul.rn.f32 %r, %v, %c;",
    ".reg .b16 %h, %l; .reg .b32 %u; cvt.rn.bf16x2.f32 %u, %a, %b; mov.b32 {%l, %h}, %u; "
    "fma.rn.bf16 %h, %h, %l, %l; cvt.f32.bf16 %r, %h;",
    "fma.rn.bf16x2 %r, %a, %b, %c;", "neg.bf16x2 %r, %a;", "abs.f16x2 %r, %a;", "max.bf16x2 %r, %a, %b;",
]  # fmt: skip
# Bits of numbers for which no rule is known: nothing is said of what comes of them.
OPAQUE = [
    "min.xorsign.abs.f32 %r, %a, %b;", "and.b32 %r, %a, 0xfffff000;", "shl.b32 %r, %a, 3;",
    "add.u32 %r, %a, %b;", "lop3.b32 %r, %a, %b, %c, 0x96;", "popc.b32 %r, %a;",
    "prmt.b32 %r, %a, %b, 0x1234;",
    ".reg .b32 %u; and.b32 %u, %a, 0x80008000; or.b32 %r, %u, 1;", "cvt.rzi.s32.f32 %r, %a;",
]  # fmt: skip


def signature(line: str) -> tuple[str, int, int, str]:
    """The scalar type of sources, their width, that of parts and the result's type."""
    if "e4m3x2 %r, %a;" in line:
        return "e4m3", 16, 8, "b32"
    if (
        any(mark in line for mark in ("bf16x2 %r, %a, %b", "neg.bf16x2", "0x8000800", "prmt"))
        and ".f32" not in line
    ):
        return "bf16", 32, 16, "b32"
    if "abs.f16x2" in line:
        return "f16", 32, 16, "b32"
    if line.startswith("mov.b32 %r, {"):
        return "bf16", 16, 16, "b32"
    if any(line.startswith(m) for m in ("cvt.f32.bf16", "cvt.f32.f16")):
        return line.split(".")[2].split(" ")[0], 16, 16, "b32"
    if any(m in line.split(" ")[0] for m in (".bf16", ".f16", ".b16")) and ".f32" not in line:
        return ("f16" if ".f16" in line else "bf16"), 16, 16, "b16"
    narrow = any(m in line for m in (".bf16.f32", ".f16.f32", "e4m3x2.f32", "e5m2x2.f32"))
    return "f32", 32, 32, "b16" if narrow else "b32"


def whole(low: Array, high: Array, width: int) -> tuple[Array, Array]:
    """Parts as registers."""
    return low.view(UNSIGNED[width]), high.view(UNSIGNED[width])


@pytest.mark.parametrize("line", LINES)
def test_no_number_of_the_operands_leads_out_of_the_range(line: str) -> None:
    random = np.random.default_rng(sum(map(ord, line)))
    scalar, width, part, result = signature(line)
    n = 1536
    count = 3 if "%c" in line else 2 if "%b" in line else 1
    operands = [ranges(part, n * width // part, random, scalar) for _ in range(count)]
    ((low, high, kind),) = enclosed(line, [(*whole(*o, width), part) for o in operands], result)
    known = (kind != LOST) & (kind != UNPROMISED)
    unit = int(max([k for k in np.unique(kind[known]) if k] or [8]))
    assert set(np.unique(kind[known])) <= {POINT, unit}
    a, b = (place(end[known].view(UNSIGNED[unit])) for end in (low, high))
    met = 0
    for _ in range(24):
        given = [inside(*o, random) for o in operands]
        (y,) = run(REFERENCE, line, [g.view(UNSIGNED[width]) for g in given], result)
        at = place(y[known].view(UNSIGNED[unit]))
        wrong = np.flatnonzero((at < a) | (at > b))
        assert not wrong.size, (line, [hex(int(g[wrong[0]])) for g in given])
        met += int(((at == a) | (at == b)).sum())
    assert met and known.mean() > 0.4


@pytest.mark.parametrize("line", OPAQUE)
def test_where_no_rule_is_known_nothing_is_said(line: str) -> None:
    random = np.random.default_rng(7)
    operands = [
        ranges(32, 512, random, "f32") for _ in range(3 if "%c" in line else 2 if "%b" in line else 1)
    ]
    ((low, _, kind),) = enclosed(line, [(*o, 32) for o in operands], "b32")
    points = np.logical_and.reduce([a == b for a, b in operands])
    known = kind == POINT
    assert (known >= points).all() and (kind[~known] == LOST).all() and (~known).mean() > 0.5
    for _ in range(8):  # what is said to be one value is one
        given = [inside(*o, random) for o in operands]
        (y,) = run(REFERENCE, line, given, "b32")
        assert (y[known] == low[known]).all()


APPROXIMATE = [
    *(f"{op}.approx.{ftz}f32 %r, %a;" for op in ("ex2", "lg2", "rcp", "rsqrt", "sqrt")
      for ftz in ("", "ftz.")),
    "tanh.approx.f32 %r, %a;", "sin.approx.f32 %r, %a;", "cos.approx.ftz.f32 %r, %a;",
    "div.approx.f32 %r, %a, %b;", "div.full.ftz.f32 %r, %a, %b;", "ex2.approx.ftz.bf16 %r, %a;",
    "tanh.approx.bf16 %r, %a;", "tanh.approx.f16 %r, %a;", "ex2.approx.f16 %r, %a;",
]  # fmt: skip


@pytest.mark.parametrize("line", APPROXIMATE)
@pytest.mark.parametrize("points", [True, False], ids=["numbers", "ranges"])
def test_every_result_that_conforms_is_in_the_range(line: str, points: bool) -> None:
    random = np.random.default_rng(sum(map(ord, line)))
    scalar = next(k for k in ("bf16", "f16", "f32") if f".{k} " in line)
    width = 32 if scalar == "f32" else 16
    operands = [ranges(width, 2048, random, scalar) for _ in range(2 if "%b" in line else 1)]
    if points:
        operands = [(low, low) for low, _ in operands]
    ((low, high, kind),) = enclosed(line, [(*o, width) for o in operands], f"b{width}")
    known = (kind != LOST) & (kind != UNPROMISED)
    assert known.any() or (not points and line[:3] in ("sin", "cos"))
    op = line.split(" ")[0].replace(".ftz", "")
    index = next(
        k for k, i in enumerate(kernel(line, (width,) * len(operands), (f"b{width}",)).instructions)
        if i.opcode == op.split(".")[0]
    )  # fmt: skip
    allowed = candidates(op)
    picks = [
        allowed.start,
        allowed.stop - 1,
        0,
        *random.integers(max(allowed.start, -99), min(allowed.stop, 99), 9),
    ]
    a, b = place(low[known]), place(high[known])
    met = np.zeros(a.size, bool)
    for pick in picks:
        given = [inside(*o, random) for o in operands]
        (y,) = run(REFERENCE, line, given, f"b{width}", choice=Choice({index: int(pick)}))
        at = place(y[known])
        wrong = np.flatnonzero((at < a) | (at > b))
        assert not wrong.size, [hex(int(g[known][wrong[0]])) for g in given]
        met |= at == a
    if points:  # and the range is no wider than that
        assert met.all()


def test_of_what_nothing_is_promised_nothing_is_said() -> None:
    one, tiny = np.full(128, 0x3F800000, np.uint32), np.full(128, 1, np.uint32)
    ((*_, kind),) = enclosed("div.approx.f32 %r, %a, %b;", [(one, one, 0), (tiny, tiny, 0)], "b32")
    assert (kind == UNPROMISED).all()
    line = "sin.approx.f32 %r, %a; mul.rn.f32 %r, %r, 0f00000000;"
    far = np.full(128, 0x4479C000, np.uint32)  # 999
    ((*_, kind),) = enclosed(line, [(far, far, 0)], "b32")
    assert (kind == UNPROMISED).all()
    # What a selection leaves out is nobody's.
    line = (
        ".reg .pred %p; .reg .b32 %u; setp.gt.f32 %p, %a, 0f42C80000; sin.approx.f32 %u, %a;"
        "selp.f32 %r, %a, %u, %p;"
    )
    ((low, _, kind),) = enclosed(line, [(far, far, 0)], "b32")
    assert (kind == POINT).all() and (low == far).all()


def test_ways_and_places_that_depend_on_a_range_are_refused() -> None:
    a, b = np.full(128, 0x3F800000, np.uint32), np.full(128, 0x40000000, np.uint32)
    for line, words in (
        (
            ".reg .pred %p; setp.gt.f32 %p, %a, 0f3FC00000; @%p bra end; mov.b32 %r, 1; end:",
            "the way through",
        ),
        (
            ".reg .pred %p; setp.gt.f32 %p, %a, 0f3FC00000; @%p st.global.b32 [%at], %a;",
            "whether it is executed",
        ),
        (".reg .b64 %u; cvt.u64.u32 %u, %a; ld.global.b32 %r, [%u];", "the address"),
        ("red.global.add.f32 [%at], %a;", "an atomic operation"),
    ):
        with pytest.raises(Unsupported, match=words):
            enclosed(line, [(a, b, 32)], "b32")
    # The same where it is decided.
    line = ".reg .pred %p; setp.gt.f32 %p, %a, 0f40400000; mov.b32 %r, 7; @%p bra end; mov.b32 %r, 1; end:"
    ((low, _, kind),) = enclosed(line, [(a, b, 32)], "b32")
    assert (low == 1).all() and (kind == POINT).all()


def test_ranges_go_through_shared_memory_and_between_threads() -> None:
    """A store, a barrier, a load by another thread, a shuffle; and a pair that is taken apart."""
    random = np.random.default_rng(3)
    low, high = ranges(32, 256, random, "f32")
    line = (
        ".shared .b32 pool[128]; .reg .b32 %s0, %u; mov.u32 %s0, pool; mad.lo.u32 %u, %thread, 4, %s0;"
        "st.shared.b32 [%u], %a; bar.sync 0; xor.b32 %u, %thread, 96; mad.lo.u32 %u, %u, 4, %s0;"
        "ld.shared.b32 %r, [%u]; shfl.sync.bfly.b32 %r, %r, 5, 31, -1;"
    )
    ((a, b, kind),) = enclosed(line, [(low, high, 32)], "b32")
    n = np.arange(256)
    other = n ^ 96 ^ 5
    assert (a == low[other]).all() and (b == high[other]).all()
    assert ((kind == POINT) == (low == high)[other]).all() and set(kind) == {POINT, 32}
    halves, uppers = ranges(16, 256, random, "bf16")
    line = (
        ".shared .b32 pool[128]; .reg .b32 %s0, %u; mov.u32 %s0, pool; mad.lo.u32 %u, %thread, 4, %s0;"
        "mov.b32 %r, {%a, %a}; st.shared.b32 [%u], %r; ld.shared.b16 %s, [%u+2];"
    )
    (_, (a, b, kind)) = enclosed(line, [(halves, uppers, 16)], "b32", "b16")
    assert (a == halves).all() and (b == uppers).all() and set(kind) == {POINT, 16}
    line = "st.global.b32 [%at], %a; ld.global.b16 %r, [%at];"
    ((_, _, kind),) = enclosed(line, [(low, high, 32)], "b16")
    assert ((kind == LOST) == (low != high)).all()


def test_a_pair_of_numbers_is_no_number() -> None:
    """Taken as one of FP32, a pair is ordered by its upper half only where the lower one is one value."""
    random = np.random.default_rng(5)
    halves, uppers = ranges(16, 256, random, "bf16")
    upper, top = ranges(16, 256, random, "bf16")
    line = ".reg .b32 %u; mov.b32 %u, {%a, %b}; mul.rn.f32 %r, %u, 0f3F800000;"
    ((_, _, kind),) = enclosed(line, [(halves, uppers, 16), (upper, top, 16)], "b32")
    assert (kind[halves != uppers] == LOST).all()
    known = (halves == uppers) & (upper != top) & ((top & 0x7F80) != 0x7F80) & ((upper & 0x7F80) != 0x7F80)
    assert (kind[known] == 32).all() and known.any()


def test_the_limit_falls_at_a_power_of_two() -> None:
    """Just below 2, ulps are half as large as at 2, so that 2 may come out as less than what is below it."""
    low = np.full(128, np.float32(1 - 2.0**-24).view(np.uint32))
    one, high = (np.full(128, np.float32(x).view(np.uint32)) for x in (1, 1.5))
    line = "ex2.approx.f32 %r, %a;"
    ((below, _, _),) = enclosed(line, [(low, high, 32)], "b32")
    index = next(k for k, i in enumerate(kernel(line, (32,), ("b32",)).instructions) if i.opcode == "ex2")
    (farthest,) = run(REFERENCE, line, [one], "b32", choice=Choice({index: -4}))
    (nearest,) = run(REFERENCE, line, [low], "b32", choice=Choice({index: -4}))
    assert (place(farthest) < place(nearest)).all() and (place(below) <= place(farthest)).all()


def test_what_somebody_else_has_stored_over_a_range_is_not_taken_for_it() -> None:
    memory = Memory.reserve(1 << 26)
    planes = Planes(memory, "low")
    planes.touched = True
    given = memory.put(np.full(BLOCK, 9, np.uint32))
    at = given - memory.base
    planes.data["low"][at : at + 4 * BLOCK] = np.full(BLOCK, 5, np.uint32).view(np.uint8)
    planes.data["high"][at : at + 4 * BLOCK] = np.full(BLOCK, 7, np.uint32).view(np.uint8)
    planes.data["kinds"][at : at + 4 * BLOCK] = 32
    made = memory.allocate(4 * BLOCK)
    launch = Launch(
        kernel("mov.b32 %r, %a;", (32,), ("b32",)), (1, 1, 1), (BLOCK, 1, 1), argument([given, made], [8, 8])
    )
    EnclosingEngine(planes).run(launch, memory)
    assert planes.worst(made - memory.base, 4 * BLOCK) == LOST
