"""What threads do together, against the manual's definitions thread by thread in plain Python."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from one_instruction import BLOCK, run
from ptx_programs import memory

from precision_lab.emulator.faults import Fault, Unsupported
from precision_lab.emulator.launch import Launch
from precision_lab.emulator.parser import parse
from precision_lab.emulator.reference.engine import ReferenceEngine

Array = np.ndarray[Any, Any]
ENGINE = ReferenceEngine()
THREADS = 2 * BLOCK
WARPS = [range(k, k + 32) for k in range(0, THREADS, 32)]
EVEN = 0x55555555


def words(seed: int, width: int = 32) -> Array:
    dtype = np.dtype(f"u{width // 8}")
    return np.frombuffer(np.random.default_rng(seed).bytes(THREADS * dtype.itemsize), dtype)


def same(got: Array, want: list[int]) -> None:
    wrong = [(k, hex(g), hex(w)) for k, (g, w) in enumerate(zip(got.tolist(), want, strict=True)) if g != w]
    assert not wrong, f"{len(wrong)} of {len(want)}; thread, got, wanted: {wrong[:5]}"


# -- shuffles and votes ------------------------------------------------------------------------------------


def shuffled(mode: str, lane: int, b: int, c: int) -> tuple[int, bool]:
    """The source's lane and the predicate, as the manual's pseudo-code has it."""
    bval, cval, segment = b & 31, c & 31, c >> 8 & 31
    most, least = (lane & segment) | (cval & ~segment), lane & segment
    if mode == "up":
        j, inside = lane - bval, lane - bval >= most
    elif mode == "down":
        j, inside = lane + bval, lane + bval <= most
    elif mode == "bfly":
        j, inside = lane ^ bval, lane ^ bval <= most
    else:
        j = least | (bval & ~segment)
        inside = j <= most
    return (j if inside else lane), inside


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize(("clamp", "segment"), [(31, 0), (0, 0), (31, 0x18), (0, 0x18), (7, 0x10), (20, 0)])
def test_shuffles_take_the_lane_that_the_manual_names(mode: str, clamp: int, segment: int) -> None:
    a, c = words(1), clamp | segment << 8
    b = np.random.default_rng(2).choice([0, 1, 2, 3, 7, 16, 31, 32, 33], THREADS).astype(np.uint32)
    got, inside = run(ENGINE, f"shfl.sync.{mode}.b32 %r|%s, %a, %b, {c}, -1;", [a, b], "b32", "pred")
    found = [shuffled(mode, k % 32, int(b[k]), c) for k in range(THREADS)]
    same(got, [int(a[k - k % 32 + lane]) for k, (lane, _) in enumerate(found)])
    assert inside.tolist() == [p for _, p in found]


@pytest.mark.parametrize("mode", ["all", "any", "uni", "ballot"])
def test_votes_are_of_the_threads_that_are_named(mode: str) -> None:
    random = np.random.default_rng(3)
    p = random.random(THREADS) < np.repeat([0, 1, 0.5, 0.03, 0.97, 0, 1, 0.5], 32)
    even = np.arange(THREADS) % 2 == 0
    kind = "b32" if mode == "ballot" else "pred"
    for sign in ("", "!"):
        lines = (
            f"@%b vote.sync.{mode}.{kind} %r, {sign}%a, {EVEN:#x};"
            f"@!%b vote.sync.{mode}.{kind} %r, {sign}%a, {EVEN << 1:#x};"
        )
        (got,) = run(ENGINE, lines, [p, even], kind)
        said = ~p if sign else p
        for k in range(THREADS):
            others = [m for m in range(k - k % 32, k - k % 32 + 32) if m % 2 == k % 2]
            votes = [bool(said[m]) for m in others]
            want = {
                "all": all(votes), "any": any(votes), "uni": len(set(votes)) == 1,
                "ballot": sum(1 << m % 32 for m in others if said[m]),
            }[mode]  # fmt: skip
            assert got[k] == want, (mode, sign, k)


def test_activemask_and_elect_name_who_is_there() -> None:
    odd = np.arange(THREADS) % 2 == 1
    lines = "mov.b32 %r, 0; mov.b32 %s, 99; @%a activemask.b32 %r; @%a elect.sync %s|%t, 0xaaaaaaaa;"
    mask, leader, chosen = run(ENGINE, f"setp.ne.u32 %t, 0, 0; {lines}", [odd], "b32", "b32", "pred")
    assert mask.tolist() == [EVEN << 1 if k % 2 else 0 for k in range(THREADS)]
    assert leader.tolist() == [1 if k % 2 else 99 for k in range(THREADS)]
    assert chosen.tolist() == [k % 32 == 1 for k in range(THREADS)]


@pytest.mark.parametrize("line", ["redux.sync.add.u32 %r, %a,", "shfl.sync.idx.b32 %r, %a, 0, 31,"])
def test_a_mask_that_names_an_absent_thread_is_a_fault(line: str) -> None:
    odd = np.arange(THREADS) % 2 == 1
    with pytest.raises(Fault, match="not there with it"):
        run(ENGINE, f"@%b {line} 0xffffffff;", [words(4), odd], "b32")


# -- reductions --------------------------------------------------------------------------------------------


def signed(value: int) -> int:
    return value - (1 << 32) if value >> 31 else value


def single(bits: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", bits))[0])


def extreme(name: str, codes: list[int]) -> int:
    """redux of f32: NaN loses, or wins with .NaN; -0 is below +0."""
    if ".abs" in name:
        codes = [c & 0x7FFFFFFF for c in codes]
    numbers = [c for c in codes if not math.isnan(single(c))]
    if not numbers or (".NaN" in name and len(numbers) < len(codes)):
        return 0x7FFFFFFF
    return (min if name.startswith("min") else max)(numbers, key=lambda c: (single(c), -(c >> 31)))


REDUCTIONS: dict[str, Callable[[list[int]], int]] = {
    "add.u32": sum, "add.s32": sum, "min.u32": min, "max.u32": max,
    "min.s32": lambda v: min(map(signed, v)), "max.s32": lambda v: max(map(signed, v)),
    "and.b32": lambda v: int(np.bitwise_and.reduce(v)), "or.b32": lambda v: int(np.bitwise_or.reduce(v)),
    "xor.b32": lambda v: int(np.bitwise_xor.reduce(v)),
    **{
        f"{op}{how}.f32": lambda v, name=f"{op}{how}": extreme(name, v)  # type: ignore[misc]
        for op in ("min", "max") for how in ("", ".abs", ".NaN", ".abs.NaN")
    },
}  # fmt: skip


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_are_of_the_threads_that_are_named(name: str) -> None:
    a = words(5).copy()
    if name == "and.b32":
        a |= np.uint32(0xFFF00FF0)
    a[32:64] = np.random.default_rng(6).choice([0, 1 << 31], 32)  # zeros of both signs
    a[64:96] = 0x7FC00001
    a[70] = 0xC0000000
    even = np.arange(THREADS) % 2 == 0
    lines = f"@%b redux.sync.{name} %r, %a, {EVEN:#x}; @!%b redux.sync.{name} %r, %a, {EVEN << 1:#x};"
    (got,) = run(ENGINE, lines, [a, even], "b32")
    want = [
        REDUCTIONS[name]([int(a[m]) for m in range(k - k % 32 + k % 2, k - k % 32 + 32, 2)]) % (1 << 32)
        for k in range(THREADS)
    ]
    same(got, want)


# -- matrices ----------------------------------------------------------------------------------------------

MATRIX = ".shared .align 16 .b8 rows[2048]; .reg .b32 %own, %row, %m<4>; mov.b32 %row, rows; {}"
OWN = "mad.lo.u32 %own, %thread, 16, %row; mad.lo.u32 %row, %c, 16, %row;"


def halves(pairs: list[tuple[int, int]]) -> Array:
    """Rows of eight 16-bit numbers, of each thread's 16 bytes."""
    return np.array(pairs, np.uint64).view(np.uint16).reshape(-1, BLOCK, 8)


def picked(row: int, lane: int, transposed: bool) -> list[tuple[int, int]]:
    """Row and column of the two numbers that a lane holds of the matrix whose first row has that number."""
    r, c = lane // 4, 2 * (lane % 4)
    return [(row + c + k, r) if transposed else (row + r, c + k) for k in (0, 1)]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_matrices_are_loaded_by_rows_and_held_by_columns(count: int, transposed: bool) -> None:
    a, b = words(7, 64), words(8, 64)
    random = np.random.default_rng(9)
    order = np.concatenate([random.permutation(BLOCK) for _ in range(2)]).astype(np.uint32)
    lines = (
        MATRIX.format(OWN) + "st.shared.v2.b64 [%own], {%a, %b}; bar.sync 0;"
        "mov.b32 %m0, 0; mov.b32 %m1, 0; mov.b32 %m2, 0; mov.b32 %m3, 0;"
        f"ldmatrix.sync.aligned.m8n8.x{count}{'.trans' * transposed}.shared.b16 "
        f"{{{', '.join(f'%m{m}' for m in range(count))}}}, [%row];"
        "mov.b64 %r, {%m0, %m1}; mov.b64 %s, {%m2, %m3};"
    )
    got = run(ENGINE, lines, [a, b, order], "b64", "b64")
    held = np.stack(got, 1).view(np.uint16).reshape(THREADS, 4, 2)
    data = halves([*zip(a.tolist(), b.tolist(), strict=True)])
    for k in range(THREADS):
        block, warp, lane = k // BLOCK, k - k % 32, k % 32
        for m in range(4):
            places = picked(8 * m, lane, transposed) if m < count else []
            want = [int(data[block, order[warp + row], column]) for row, column in places] or [0, 0]
            assert held[k, m].tolist() == want, (k, m)


@pytest.mark.parametrize("transposed", [False, True])
def test_matrices_are_stored_where_they_would_be_loaded(transposed: bool) -> None:
    a, b = words(10, 64), words(11, 64)
    random = np.random.default_rng(12)
    order = np.concatenate([random.permutation(BLOCK) for _ in range(2)]).astype(np.uint32)
    lines = (
        MATRIX.format(OWN) + "mov.b64 {%m0, %m1}, %a; mov.b64 {%m2, %m3}, %b;"
        f"stmatrix.sync.aligned.m8n8.x4{'.trans' * transposed}.shared.b16 [%row], {{%m0, %m1, %m2, %m3}};"
        "bar.sync 0; ld.shared.v2.b64 {%r, %s}, [%own];"
    )
    got = run(ENGINE, lines, [a, b, order], "b64", "b64")
    stored = halves([*zip(got[0].tolist(), got[1].tolist(), strict=True)])
    held = np.stack([a, b], 1).view(np.uint16).reshape(THREADS, 4, 2)
    for k in range(THREADS):
        for m in range(4):
            for number, (row, column) in zip(held[k, m], picked(8 * m, k % 32, transposed), strict=True):
                assert stored[k // BLOCK, order[k - k % 32 + row], column] == number, (k, m)


# -- atomics -----------------------------------------------------------------------------------------------

ATOMICS: dict[str, Callable[[int, int], int]] = {
    "add.u32": lambda old, b: old + b, "add.s32": lambda old, b: old + b, "min.u32": min, "max.u32": max,
    "min.s32": lambda old, b: min(signed(old), signed(b)),
    "max.s32": lambda old, b: max(signed(old), signed(b)),
    "and.b32": int.__and__, "or.b32": int.__or__, "xor.b32": int.__xor__, "exch.b32": lambda old, b: b,
    "inc.u32": lambda old, b: 0 if old >= b else old + 1,
    "dec.u32": lambda old, b: b if old == 0 or old > b else old - 1,
}  # fmt: skip
COUNTERS = (
    ".shared .align 4 .b8 counters[32]; .reg .b32 %place, %own, %eight; .reg .pred %few;"
    "mov.b32 %place, counters;"
    "and.b32 %eight, %thread, 7; mad.lo.u32 %own, %eight, 4, %place; mad.lo.u32 %place, %b, 4, %place;"
    "setp.lt.u32 %few, %thread, 8; @%few st.shared.b32 [%own], %c; bar.sync 0; {} bar.sync 0;"
    "ld.shared.b32 %s, [%own];"
)


def in_order(update: Callable[[int, int], int], a: Array, b: Array, c: Array) -> tuple[list[int], list[int]]:
    """What each thread finds, and what is left in the counter whose number is its own modulo 8."""
    found, left = [], []
    for block in range(0, THREADS, BLOCK):
        counters = [int(v) for v in c[block : block + 8]]
        for k in range(block, block + BLOCK):
            found.append(counters[b[k]])
            counters[b[k]] = update(counters[b[k]], int(a[k])) % (1 << 32)
        left += [counters[k % 8] for k in range(BLOCK)]
    return found, left


@pytest.mark.parametrize("name", ATOMICS)
def test_atomics_go_one_behind_another(name: str) -> None:
    b = np.random.default_rng(13).integers(0, 8, THREADS).astype(np.uint32)
    a, c = words(14), words(15)
    if name[:3] in ("inc", "dec"):
        a, c = a % np.uint32(9), c % np.uint32(12)
    found, left = in_order(ATOMICS[name], a, b, c)
    got, rest = run(ENGINE, COUNTERS.format(f"atom.shared.{name} %r, [%place], %a;"), [a, b, c], "b32", "b32")
    same(got, found)
    same(rest, left)
    lines = COUNTERS.format(f"mov.b32 %r, 0; red.shared.{name} [%place], %a;")
    if not name.startswith("exch"):
        same(run(ENGINE, lines, [a, b, c], "b32", "b32")[1], left)


def test_compare_and_swap_stores_for_one() -> None:
    b = np.arange(THREADS, dtype=np.uint32) % np.uint32(8)
    a = np.random.default_rng(16).integers(0, 3, THREADS).astype(np.uint32)
    c = np.zeros(THREADS, np.uint32)
    lines = ".reg .b32 %next; add.u32 %next, %a, 1; atom.shared.cas.b32 %r, [%place], %a, %next;"
    got, rest = run(ENGINE, COUNTERS.format(lines), [a, b, c], "b32", "b32")
    found, left = in_order(lambda old, wanted: wanted + 1 if old == wanted else old, a, b, c)
    same(got, found)
    same(rest, left)


def test_sums_of_floats_are_rounded_one_by_one() -> None:
    a = words(17).view(np.float32) % np.float32(1)
    a = np.where(np.isfinite(a), a, np.float32(0.1))
    b, c = np.zeros(THREADS, np.uint32), np.zeros(THREADS, np.uint32)
    lines = COUNTERS.format("atom.shared.add.f32 %r, [%place], %a;")
    got, _ = run(ENGINE, lines, [a.view(np.uint32), b, c], "b32", "b32")
    want: list[np.float32] = []
    for k in range(THREADS):
        want.append(want[-1] + a[k - 1] if k % BLOCK else np.float32(0))
    assert got.view(np.float32).tolist() == [float(w) for w in want]
    assert len(set(got.tolist())) > 100


@pytest.mark.parametrize(
    "name",
    ["add.b32", "inc.s32", "min.f32", "sub.u32", "and.u32", "cas.u32", "exch.u32", "dec.u64", "add.s64"],
)
def test_atomics_that_do_not_exist_are_refused(name: str) -> None:
    """By the manual's table of operations and types; ptxas refuses the same."""
    operands = "%a, %a" if name.startswith("cas") else "%a"
    a = words(18, int(name[-2:]))
    with pytest.raises(Unsupported, match=rf"atom\.global\.{name}"):
        run(
            ENGINE, f"mov.b{name[-2:]} %r, 0; atom.global.{name} %r, [%at], {operands};", [a], f"b{name[-2:]}"
        )


def test_sums_of_floats_flush_subnormals_in_global_memory_alone() -> None:
    tiny = np.full(32, 3, np.uint32)
    lines = (
        ".reg .b64 %q; ld.param.u64 %q, [x1]; mad.wide.u32 %q, %n, 4, %q;"
        "atom.global.add.f32 %r, [%q], %a; ld.global.b32 %s, [%q];"
    )
    old, new = run(ENGINE, lines, [tiny, np.full(32, 0x80000005, np.uint32)], "b32", "b32")
    assert set(old.tolist()) == {0x80000005} and set(new.tolist()) == {0}  # +0 and -0 are +0
    zeros = np.zeros(32, np.uint32)
    shared = COUNTERS.format("atom.shared.add.f32 %r, [%place], %a;")
    _, new = run(ENGINE, shared, [tiny, np.arange(32, dtype=np.uint32) % np.uint32(8), zeros], "b32", "b32")
    assert set(new.tolist()) == {3 * BLOCK // 8}


# -- variables of a module ---------------------------------------------------------------------------------


def test_a_modules_variable_is_one_for_all_its_kernels_and_one_in_each_memory() -> None:
    """What the first launch adds the second finds; another memory has its own."""
    entry = """
.visible .entry {}(.param .u64 y)
{{
    .reg .b32 %r<3>; .reg .b64 %d<3>;
    ld.param.u64 %d1, [y]; mov.u64 %d2, total;
    atom.global.add.u32 %r1, [%d2], {}; st.global.u32 [%d1], %r1;
    ret;
}}"""
    text = ".version 8.6\n.target sm_90\n.address_size 64\n.global .align 4 .u32 total = 40;\n"
    kernels = parse(text + entry.format("one", 1) + entry.format("two", 2)).kernels
    for room in (memory(), memory()):
        y = room.allocate(4)
        found = []
        for name in ("one", "two", "one"):
            given = (y.to_bytes(8, "little"),)
            ENGINE.run(Launch(kernels[name], (1, 1, 1), (1, 1, 1), given), room)
            found.append(int(room.get(y, np.uint32, 1)[0]))
        assert found == [40, 41, 43]
