"""Each integer instruction of PTX against Python's integers, bit by bit where the manual says it so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from one_instruction import each_engine, run

from precision_lab.emulator.faults import Unsupported
from precision_lab.emulator.launch import Engine

Array = np.ndarray[Any, Any]
UNSIGNED = {8: np.uint8, 16: np.uint16, 32: np.uint32, 64: np.uint64}
SIZES = [f"{s}{w}" for s in "us" for w in (16, 32, 64)]


def values(width: int, seed: int, count: int = 240) -> Array:
    """Edges, small numbers and any."""
    random = np.random.default_rng(seed)
    top = 1 << (width - 1)
    edges = [
        0,
        1,
        2,
        3,
        5,
        31,
        32,
        63,
        64,
        top - 1,
        top,
        top + 1,
        2 * top - 1,
        2 * top - 2,
        0xFF,
        0x8080 % (2 * top),
    ]
    found = [edges[k] for k in random.integers(0, len(edges), count // 2)]
    found += [
        int.from_bytes(random.bytes(8), "little") % (2 * top) >> int(random.integers(0, width))
        for _ in range(count - len(found))
    ]
    return np.array(random.permutation(np.array(found, object)).tolist(), UNSIGNED[width])


def signed(value: int, kind: str) -> int:
    """A pattern read as the type's."""
    width = int(kind[1:])
    value %= 1 << width
    return value - (1 << width) if kind[0] == "s" and value >> (width - 1) else value


def check(engine: Engine, line: str, columns: list[Array], width: int, expected: Callable[..., int]) -> None:
    (got,) = run(engine, line, columns, f"b{width}")
    rows = list(zip(*[c.tolist() for c in columns], strict=True))
    want = np.array([expected(*row) % (1 << width) for row in rows], UNSIGNED[width])
    wrong = np.flatnonzero(got != want)
    shown = [(*(hex(v) for v in rows[k]), hex(got[k]), hex(want[k])) for k in wrong[:5]]
    assert not wrong.size, f"{line} {wrong.size} of {got.size}; sources, got, wanted: {shown}"


def clamped(value: int, kind: str) -> int:
    width = int(kind[1:])
    least, most = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if kind[0] == "s" else (0, (1 << width) - 1)
    return min(max(value, least), most)


@each_engine
@pytest.mark.parametrize("kind", SIZES)
def test_sums_products_and_distances_wrap_around(engine: Engine, kind: str) -> None:
    width = int(kind[1:])
    a, b, c = (values(width, seed) for seed in (1, 2, 3))

    def s(value: int) -> int:
        return signed(value, kind)

    check(engine, f"add.{kind} %r, %a, %b;", [a, b], width, lambda x, y: x + y)
    check(engine, f"sub.{kind} %r, %a, %b;", [a, b], width, lambda x, y: x - y)
    check(engine, f"mul.lo.{kind} %r, %a, %b;", [a, b], width, lambda x, y: x * y)
    check(engine, f"mul.hi.{kind} %r, %a, %b;", [a, b], width, lambda x, y: s(x) * s(y) >> width)
    check(engine, f"mad.lo.{kind} %r, %a, %b, %c;", [a, b, c], width, lambda x, y, z: x * y + z)
    check(
        engine, f"mad.hi.{kind} %r, %a, %b, %c;", [a, b, c], width, lambda x, y, z: (s(x) * s(y) >> width) + z
    )
    check(engine, f"sad.{kind} %r, %a, %b, %c;", [a, b, c], width, lambda x, y, z: z + abs(s(x) - s(y)))
    check(engine, f"min.{kind} %r, %a, %b;", [a, b], width, lambda x, y: min(s(x), s(y)))
    check(engine, f"max.{kind} %r, %a, %b;", [a, b], width, lambda x, y: max(s(x), s(y)))
    if width < 64:
        wide = values(2 * width, 4)
        check(engine, f"mul.wide.{kind} %r, %a, %b;", [a, b], 2 * width, lambda x, y: s(x) * s(y))
        check(
            engine,
            f"mad.wide.{kind} %r, %a, %b, %c;",
            [a, b, wide],
            2 * width,
            lambda x, y, z: s(x) * s(y) + z,
        )
    if kind[0] == "s":
        check(engine, f"neg.{kind} %r, %a;", [a], width, lambda x: -x)
        check(engine, f"abs.{kind} %r, %a;", [a], width, lambda x: abs(s(x)))


@each_engine
def test_saturation_and_relu_are_of_signed_numbers(engine: Engine) -> None:
    a, b, c = (values(32, seed) for seed in (5, 6, 7))

    def s(value: int) -> int:
        return signed(value, "s32")

    check(engine, "add.sat.s32 %r, %a, %b;", [a, b], 32, lambda x, y: clamped(s(x) + s(y), "s32"))
    check(engine, "sub.sat.s32 %r, %a, %b;", [a, b], 32, lambda x, y: clamped(s(x) - s(y), "s32"))
    check(
        engine,
        "mad.hi.sat.s32 %r, %a, %b, %c;",
        [a, b, c],
        32,
        lambda x, y, z: clamped((s(x) * s(y) >> 32) + s(z), "s32"),
    )
    check(engine, "max.relu.s32 %r, %a, %b;", [a, b], 32, lambda x, y: max(s(x), s(y), 0))
    check(engine, "min.relu.s32 %r, %a, %b;", [a, b], 32, lambda x, y: max(min(s(x), s(y)), 0))


@each_engine
def test_packed_integers_are_two(engine: Engine) -> None:
    a, b = values(32, 8), values(32, 9)

    def both(operation: Callable[[int, int], int], kind: str) -> Callable[[int, int], int]:
        def packed(x: int, y: int) -> int:
            halves = [operation(signed(x >> k, kind), signed(y >> k, kind)) % (1 << 16) for k in (0, 16)]
            return halves[0] | halves[1] << 16

        return packed

    for kind in ("s16", "u16"):
        check(engine, f"add.{kind}x2 %r, %a, %b;", [a, b], 32, both(lambda x, y: x + y, kind))
        check(engine, f"min.{kind}x2 %r, %a, %b;", [a, b], 32, both(min, kind))
        check(engine, f"max.{kind}x2 %r, %a, %b;", [a, b], 32, both(max, kind))
    check(engine, "max.relu.s16x2 %r, %a, %b;", [a, b], 32, both(lambda x, y: max(x, y, 0), "s16"))


@each_engine
@pytest.mark.parametrize("kind", SIZES)
def test_quotients_are_cut_and_division_by_zero_gives_all_ones(engine: Engine, kind: str) -> None:
    width = int(kind[1:])
    a, b = values(width, 11), values(width, 12)

    def quotient(x: int, y: int) -> int:
        p, q = signed(x, kind), signed(y, kind)
        return -1 if q == 0 else (abs(p) // abs(q)) * (1 if (p < 0) == (q < 0) else -1)

    def rest(x: int, y: int) -> int:
        p, q = signed(x, kind), signed(y, kind)
        return p if q == 0 else p - quotient(x, y) * q

    check(engine, f"div.{kind} %r, %a, %b;", [a, b], width, quotient)
    check(engine, f"rem.{kind} %r, %a, %b;", [a, b], width, rest)


@each_engine
@pytest.mark.parametrize("width", [16, 32, 64])
def test_logic_and_shifts_whose_amounts_are_clamped(engine: Engine, width: int) -> None:
    a, b = values(width, 13), values(width, 14)
    amount = (
        np.random.default_rng(15)
        .choice([0, 1, 2, 7, width - 1, width, width + 1, 256, 2**32 - 1], a.size)
        .astype(np.uint32)
    )
    for name, operation in (("and", int.__and__), ("or", int.__or__), ("xor", int.__xor__)):
        check(engine, f"{name}.b{width} %r, %a, %b;", [a, b], width, operation)
    check(engine, f"not.b{width} %r, %a;", [a], width, lambda x: ~x)
    check(engine, f"cnot.b{width} %r, %a;", [a], width, lambda x: int(x == 0))
    check(engine, f"shl.b{width} %r, %a, %b;", [a, amount], width, lambda x, n: x << min(n, width))
    check(engine, f"shr.u{width} %r, %a, %b;", [a, amount], width, lambda x, n: x >> min(n, width))
    check(engine, f"shr.b{width} %r, %a, %b;", [a, amount], width, lambda x, n: x >> min(n, width))
    check(
        engine,
        f"shr.s{width} %r, %a, %b;",
        [a, amount],
        width,
        lambda x, n: signed(x, f"s{width}") >> min(n, width),
    )


def bit_field(x: int, b: int, c: int, kind: str) -> int:
    """bfe, as the manual's text has it."""
    last = int(kind[1:]) - 1
    position, length = b & 0xFF, c & 0xFF
    sign = 0 if kind[0] == "u" or length == 0 else x >> min(position + length - 1, last) & 1
    return sum(
        (x >> (position + k) & 1 if k < length and position + k <= last else sign) << k
        for k in range(last + 1)
    )


def bits_inserted(x: int, y: int, c: int, d: int, width: int) -> int:
    """bfi, as the manual's text has it."""
    position, length = c & 0xFF, d & 0xFF
    for k in range(length):
        if position + k < width:
            y = y & ~(1 << (position + k)) | (x >> k & 1) << (position + k)
    return y


@each_engine
def test_fields_of_bits(engine: Engine) -> None:
    random = np.random.default_rng(16)
    pick = [0, 1, 5, 8, 31, 32, 33, 63, 64, 65, 200, 255, 256, 257]
    b, c = (random.choice(pick, 240).astype(np.uint32) for _ in range(2))
    for kind in ("u32", "s32", "u64", "s64"):
        width = int(kind[1:])
        a, y = values(width, 17), values(width, 18)
        check(
            engine,
            f"bfe.{kind} %r, %a, %b, %c;",
            [a, b, c],
            width,
            lambda x, p, q, k=kind: bit_field(x, p, q, k),
        )
        if kind[0] == "u":
            check(
                engine, f"bfi.b{width} %r, %a, %b, %c, %d;", [a, y, b, c], width,
                lambda x, z, p, q, w=width: bits_inserted(x, z, p, q, w),
            )  # fmt: skip


@each_engine
def test_counting_of_bits(engine: Engine) -> None:
    for width in (32, 64):
        a = values(width, 19)
        check(engine, f"brev.b{width} %r, %a;", [a], width, lambda x, w=width: int(f"{x:0{w}b}"[::-1], 2))
        check(engine, f"popc.b{width} %r, %a;", [a], 32, lambda x: x.bit_count())
        check(engine, f"clz.b{width} %r, %a;", [a], 32, lambda x, w=width: w - x.bit_length())
        for kind in (f"u{width}", f"s{width}"):

            def found(x: int, k: str = kind) -> int:
                value = signed(x, k)
                return (~value if value < 0 else value).bit_length() - 1

            check(engine, f"bfind.{kind} %r, %a;", [a], 32, found)
            check(
                engine, f"bfind.shiftamt.{kind} %r, %a;", [a], 32,
                lambda x, f=found, w=width: f(x) if f(x) < 0 else w - 1 - f(x),
            )  # fmt: skip


# The manual's table of modes: bytes d.b3 d.b2 d.b1 d.b0 for selector 0 to 3.
PRMT = {
    "f4e": ["3210", "4321", "5432", "6543"], "b4e": ["5670", "6701", "7012", "0123"],
    "rc8": ["0000", "1111", "2222", "3333"], "ecl": ["3210", "3211", "3222", "3333"],
    "ecr": ["0000", "1110", "2210", "3210"], "rc16": ["1010", "3232", "1010", "3232"],
}  # fmt: skip


@each_engine
def test_permuted_bytes(engine: Engine) -> None:
    a, b, c = values(32, 21), values(32, 22), values(32, 23)

    def byte(x: int, y: int, k: int) -> int:
        return (x | y << 32) >> (8 * k) & 0xFF

    def general(x: int, y: int, s: int) -> int:
        found = 0
        for k in range(4):
            nibble = s >> (4 * k) & 15
            one = byte(x, y, nibble & 7)
            found |= (0xFF * (one >> 7) if nibble & 8 else one) << (8 * k)
        return found

    check(engine, "prmt.b32 %r, %a, %b, %c;", [a, b, c], 32, general)
    check(engine, "prmt.b32 %r, %a, %b, 0x7410;", [a, b], 32, lambda x, y: general(x, y, 0x7410))
    for mode, table in PRMT.items():
        check(
            engine, f"prmt.b32.{mode} %r, %a, %b, %c;", [a, b, c], 32,
            lambda x, y, s, t=table: sum(byte(x, y, int(d)) << (8 * (3 - k)) for k, d in enumerate(t[s & 3])),
        )  # fmt: skip


@each_engine
def test_any_function_of_three_bits(engine: Engine) -> None:
    a, b, c = values(32, 24, 64), values(32, 25, 64), values(32, 26, 64)
    for table in (0x00, 0x01, 0x3C, 0x80, 0x96, 0xCA, 0xE8, 0xF8, 0xFF):

        def bitwise(x: int, y: int, z: int, t: int = table) -> int:
            rows = ((x >> k & 1) << 2 | (y >> k & 1) << 1 | z >> k & 1 for k in range(32))
            return sum((t >> row & 1) << k for k, row in enumerate(rows))

        check(engine, f"lop3.b32 %r, %a, %b, %c, {table};", [a, b, c], 32, bitwise)


@each_engine
def test_funnel_shifts(engine: Engine) -> None:
    a, b, c = values(32, 27), values(32, 28), values(32, 29)
    for how, amount in (("clamp", lambda n: min(n, 32)), ("wrap", lambda n: n & 31)):
        check(
            engine,
            f"shf.l.{how}.b32 %r, %a, %b, %c;",
            [a, b, c],
            32,
            lambda x, y, n, f=amount: (y << 32 | x) << f(n) >> 32,
        )
        check(
            engine,
            f"shf.r.{how}.b32 %r, %a, %b, %c;",
            [a, b, c],
            32,
            lambda x, y, n, f=amount: (y << 32 | x) >> f(n),
        )


@each_engine
@pytest.mark.parametrize("kind", [*SIZES, "b16", "b32", "b64"])
def test_comparisons_of_integers(engine: Engine, kind: str) -> None:
    width = int(kind[1:])
    a, b = values(width, 31), values(width, 32)
    names = {"eq": "==", "ne": "!="}
    if kind[0] != "b":
        names |= {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}
    if kind[0] == "u":
        names |= {"lo": "<", "ls": "<=", "hi": ">", "hs": ">="}
    order = {
        "==": int.__eq__, "!=": int.__ne__, "<": int.__lt__, "<=": int.__le__, ">": int.__gt__,
        ">=": int.__ge__,
    }  # fmt: skip
    for name, operation in names.items():
        (got,) = run(engine, f"setp.{name}.{kind} %r, %a, %b;", [a, b], "pred")
        pairs = zip(a.tolist(), b.tolist(), strict=True)
        expected = [
            order[operation](signed(x, kind.replace("b", "u")), signed(y, kind.replace("b", "u")))
            for x, y in pairs
        ]
        assert got.tolist() == expected, name


@each_engine
def test_selection_and_predicates(engine: Engine) -> None:
    p, q = np.arange(64) % 2 == 0, np.arange(64) % 3 == 0
    for width in (16, 32, 64):
        a, b = values(width, 33, 64), values(width, 34, 64)
        (got,) = run(engine, f"selp.b{width} %r, %a, %b, %c;", [a, b, p], f"b{width}")
        assert got.tolist() == np.where(p, a, b).tolist()
    for name, operation in (("and", np.logical_and), ("or", np.logical_or), ("xor", np.logical_xor)):
        (got,) = run(engine, f"{name}.pred %r, %a, %b;", [p, q], "pred")
        assert got.tolist() == operation(p, q).tolist()
    (got,) = run(engine, "not.pred %r, %a;", [p], "pred")
    assert got.tolist() == (~p).tolist()


@each_engine
def test_packing_and_unpacking(engine: Engine) -> None:
    a, b = values(32, 35), values(32, 36)
    (got,) = run(engine, "mov.b64 %r, {%a, %b};", [a, b], "b64")
    assert got.tolist() == [x | y << 32 for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    low, high = run(engine, "mov.b32 {%r, %s}, %a;", [a], "b16", "b16")
    assert low.tolist() == [x & 0xFFFF for x in a.tolist()] and high.tolist() == [x >> 16 for x in a.tolist()]
    (high,) = run(engine, "mov.b32 {_, %r}, %a;", [a], "b16")
    assert high.tolist() == [x >> 16 for x in a.tolist()]
    lines = ".reg .b8 %k<4>; mov.b32 {%k0, %k1, %k2, %k3}, %a; mov.b32 %r, {%k3, %k2, %k1, %k0};"
    check(engine, lines, [a], 32, lambda x: int.from_bytes(x.to_bytes(4, "little"), "big"))
    (got,) = run(
        engine, ".reg .b128 %q; mov.b128 %q, {%a, %a}; mov.b128 {_, %r}, %q;", [a.astype(np.uint64)], "b64"
    )
    assert got.tolist() == a.tolist()


@each_engine
@pytest.mark.parametrize("to", [f"{s}{w}" for s in "us" for w in (8, 16, 32, 64)])
@pytest.mark.parametrize("of", [f"{s}{w}" for s in "us" for w in (8, 16, 32, 64)])
def test_integers_are_cut_extended_or_clamped(engine: Engine, to: str, of: str) -> None:
    """Into a register that may be wider, and is then filled as the type says; 8 bits are in one of 16."""
    source, result = max(int(of[1:]), 16), max(int(to[1:]), 16)
    a = values(source, 37)
    check(engine, f"cvt.{to}.{of} %r, %a;", [a], result, lambda x: signed(signed(x, of), to))
    if clamped(signed(1 << (int(of[1:]) - 1), of), to) != signed(1 << (int(of[1:]) - 1), of):
        check(engine, f"cvt.sat.{to}.{of} %r, %a;", [a], result, lambda x: clamped(signed(x, of), to))


@each_engine
@pytest.mark.parametrize(
    "line",
    ["add.sat.u32 %r, %a, %b;", "mul.u32 %r, %a, %b;", "mad.lo.cc.u32 %r, %a, %b, %a;",
     "add.cc.u32 %r, %a, %b;",
     "lop3.or.b32 %r|%p, %a, %b, %a, 1, %p;", "shf.l.b32 %r, %a, %b, %a;", "min.relu.u32 %r, %a, %b;",
     "setp.lt.b32 %p, %a, %b;", "setp.lo.s32 %p, %a, %b;", "add.u64 %r, %a, %b;", "add.u16 %r, %a, %b;",
     "shl.b64 %r, %a, %b;", "popc.b64 %r, %a;", "mul.wide.u32 %r, %a, %b;", "selp.b64 %r, %a, %b, %p;",
     "mad.hi.sat.u32 %r, %a, %b, %a;", "mad.lo.sat.s32 %r, %a, %b, %a;", "mov.b64 {%r, %r}, %a;",
     "fns.b32 %r, %a, %b, %a;"],
)  # fmt: skip
def test_what_the_manual_does_not_have_or_the_engine_is_refused(engine: Engine, line: str) -> None:
    a = values(32, 38, 4)
    with pytest.raises(Unsupported, match=line.split()[0].replace(".", r"\.")):
        run(engine, f".reg .pred %p; {line}", [a, a], "b32")
