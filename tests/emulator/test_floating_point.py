"""Each floating-point instruction of PTX against fractions, rounded once; by both engines."""

from __future__ import annotations

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest
from exact_numbers import FORMATS, NAN, Binary, exact
from one_instruction import each_engine, run

from precision_lab.emulator.faults import Unsupported
from precision_lab.emulator.launch import Engine

Array = np.ndarray[Any, Any]
UNSIGNED = {16: np.uint16, 32: np.uint32, 64: np.uint64}
COUNTS = {"add": 2, "sub": 2, "mul": 2, "div": 2, "fma": 3, "sqrt": 1, "rcp": 1}
MODES = ("rn", "rz", "rm", "rp")


def edges(fmt: Binary) -> list[int]:
    """Where something changes, of both signs."""
    one, least = fmt.emax << (fmt.digits - 1), 1 << (fmt.digits - 1)
    codes = [
        0, 1, 2, least - 1, least, least + 1, one - 1, one, one + 1, one + (1 << (fmt.digits - 2)),
        one + least, fmt.infinity - least, fmt.infinity - 1, fmt.infinity, fmt.infinity + 1, fmt.nan,
    ]  # fmt: skip
    return [c | s << (fmt.width - 1) for c in codes for s in (0, 1)]


def sources(fmt: Binary, count: int, seed: int) -> list[Array]:
    """Edges with one another, numbers of any bits, and numbers near one another, where sums cancel."""
    random = np.random.default_rng(seed)
    table = list(itertools.product(edges(fmt), repeat=min(count, 2)))
    picked = [table[k] for k in random.permutation(np.arange(max(len(table), 300)) % len(table))[:300]]
    rows = [(*row, *(int(random.choice(edges(fmt))) for _ in range(count - len(row)))) for row in picked]
    top = 1 << (fmt.width - 1)
    for _ in range(150):
        rows.append(
            tuple(
                int(random.integers(0, 2 * top, dtype=np.uint64, endpoint=False))
                if fmt.width < 64
                else int.from_bytes(random.bytes(8), "little")
                for _ in range(count)
            )
        )
    for _ in range(150):  # of a product and its negative, or of a number and its neighbours
        first = int.from_bytes(random.bytes(8), "little") % (top - 1)
        row = [first] + [(first + int(random.integers(-3, 4)) * (1 + k)) % top for k in range(1, count)]
        if count == 3:
            close = fmt.bits(exact("mul", [fmt.number(row[0]), fmt.number(row[1])], "rn"))
            row[2] = (close + int(random.integers(-2, 3))) % top
        rows.append(tuple(v | int(random.integers(0, 2)) * top for v in row))
    return [np.array(column, UNSIGNED[fmt.width]) for column in zip(*rows, strict=True)]


def wanted(operation: str, fmt: Binary, mode: str, columns: list[Array], *modifiers: str) -> Array:
    """What fractions give: flushed, rounded, flushed, clamped."""
    rows = tuple(zip(*[c.tolist() for c in columns], strict=True))
    return np.array(_wanted(operation, fmt, mode, rows, modifiers), UNSIGNED[fmt.width])


@cache
def _wanted(
    operation: str, fmt: Binary, mode: str, rows: tuple[tuple[int, ...], ...], modifiers: tuple[str, ...]
) -> list[int]:
    found = []
    for bits in rows:
        if "ftz" in modifiers:
            bits = [fmt.flushed(b) for b in bits]
        result = fmt.bits(exact(operation, [fmt.number(b) for b in bits], mode), mode)
        result = fmt.flushed(result) if "ftz" in modifiers else result
        result = fmt.saturated(result) if "sat" in modifiers else result
        if "relu" in modifiers and fmt.number(result) != NAN and result >> (fmt.width - 1):
            result = 0
        found.append(result)
    return found


def check(got: Array, expected: Array, columns: list[Array]) -> None:
    wrong = np.flatnonzero(got != expected)
    rows = [[f"{int(c[k]):#x}" for c in (*columns, got, expected)] for k in wrong[:5]]
    assert not wrong.size, f"{wrong.size} of {got.size}; sources, got, wanted: {rows}"


PLAIN = [
    *((o, k, m, ()) for o in COUNTS for k in ("f32", "f64") for m in MODES),
    *((o, "f32", m, ("ftz",)) for o in COUNTS for m in MODES),
    *((o, "f32", m, ("sat",)) for o in ("add", "sub", "mul", "fma") for m in ("rn", "rp")),
    *((o, "f32", "rz", ("ftz", "sat")) for o in ("add", "mul", "fma")),
    *((o, k, "rn", ()) for o in ("add", "sub", "mul", "fma") for k in ("f16", "bf16")),
    *((o, "f16", "rn", ("ftz",)) for o in ("add", "sub", "mul", "fma")),
    *((o, "f16", "rn", ("sat",)) for o in ("add", "sub", "mul", "fma")),
    *((o, "f16", "rn", ("ftz", "sat")) for o in ("add", "sub", "mul", "fma")),
    *(("fma", k, "rn", ("relu",)) for k in ("f16", "bf16")),
    ("fma", "f16", "rn", ("ftz", "relu")),
]  # fmt: skip


@each_engine
@pytest.mark.parametrize(
    ("operation", "kind", "mode", "modifiers"),
    PLAIN,
    ids=lambda v: v if isinstance(v, str) else "-".join(v) or "plain",
)
def test_arithmetic_rounds_once(
    engine: Engine, operation: str, kind: str, mode: str, modifiers: tuple[str, ...]
) -> None:
    fmt, count = FORMATS[kind], COUNTS[operation]
    columns = sources(fmt, count, seed=len(operation) + fmt.digits)
    name = ".".join([operation, mode, *modifiers, kind])
    names = ", ".join(f"%{n}" for n in "abc"[:count])
    (got,) = run(engine, f"{name} %r, {names};", columns, f"b{fmt.width}")
    check(got, wanted(operation, fmt, mode, columns, *modifiers), columns)


@each_engine
@pytest.mark.parametrize(
    ("operation", "kind"), [(o, k) for o in ("add", "sub", "mul", "fma") for k in ("f16", "bf16", "f32")]
)
def test_packed_arithmetic_is_that_of_its_halves(engine: Engine, operation: str, kind: str) -> None:
    fmt, count = FORMATS[kind], COUNTS[operation]
    columns = sources(fmt, count, seed=5)
    wide = {16: np.uint32, 32: np.uint64}[fmt.width]
    packed = [c.astype(wide) | np.roll(c, 7).astype(wide) << wide(fmt.width) for c in columns]
    names = ", ".join(f"%{n}" for n in "abc"[:count])
    (got,) = run(engine, f"{operation}.rn.{kind}x2 %r, {names};", packed, f"b{2 * fmt.width}")
    low = wanted(operation, fmt, "rn", columns)
    check(got, low.astype(wide) | np.roll(low, 7).astype(wide) << wide(fmt.width), packed)


@each_engine
@pytest.mark.parametrize("name", ["add.f32", "sub.rn.f32", "add.rz.sat.f32", "fma.rn.f32", "fma.rp.f32"])
@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_sources_of_16_bits_are_widened_first(engine: Engine, name: str, kind: str) -> None:
    operation, *rest = name.split(".")
    mode = rest[0] if rest[0] in MODES else "rn"
    fmt, single, count = FORMATS[kind], FORMATS["f32"], COUNTS[operation]
    narrow, wide = sources(fmt, count - 1, seed=6), sources(single, 1, seed=7)[0]
    exact_ = [np.array([single.bits(fmt.number(int(v))) for v in c], np.uint32) for c in narrow]
    names = ", ".join(f"%{n}" for n in "abc"[:count])
    (got,) = run(engine, f"{name}.{kind} %r, {names};", [*narrow, wide], "b32")
    check(got, wanted(operation, single, mode, [*exact_, wide], *rest), [*narrow, wide])


@each_engine
def test_without_a_rounding_mode_it_is_to_nearest(engine: Engine) -> None:
    for kind in ("f32", "f64", "bf16"):
        fmt = FORMATS[kind]
        columns = sources(fmt, 2, seed=9)
        (got,) = run(engine, f"mul.{kind} %r, %a, %b;", columns, f"b{fmt.width}")
        check(got, wanted("mul", fmt, "rn", columns), columns)


@each_engine
def test_mad_with_a_rounding_is_fma(engine: Engine) -> None:
    for name, kind, mode, rest in (
        ("mad.rz.ftz.f32", "f32", "rz", ("ftz",)),
        ("mad.rm.f64", "f64", "rm", ()),
    ):
        columns = sources(FORMATS[kind], 3, seed=10)
        (got,) = run(engine, f"{name} %r, %a, %b, %c;", columns, f"b{FORMATS[kind].width}")
        check(got, wanted("fma", FORMATS[kind], mode, columns, *rest), columns)


@each_engine
def test_a_product_and_a_sum_written_apart_are_rounded_twice(engine: Engine) -> None:
    """Nothing contracts them."""
    columns = sources(FORMATS["f32"], 3, seed=11)
    (got,) = run(engine, ".reg .f32 %p; mul.f32 %p, %a, %b; add.f32 %r, %p, %c;", columns, "b32")
    products = wanted("mul", FORMATS["f32"], "rn", columns[:2])
    expected = wanted("add", FORMATS["f32"], "rn", [products, columns[2]])
    check(got, expected, columns)
    assert (expected != wanted("fma", FORMATS["f32"], "rn", columns)).sum() > 20


# -- signs, minimum, maximum ----------------------------------------------------------------------------


@each_engine
@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_neg_and_abs_change_the_sign_of_every_number(engine: Engine, kind: str) -> None:
    every = np.arange(1 << 16, dtype=np.uint16)
    negative, absolute = run(engine, f"neg.{kind} %r, %a; abs.{kind} %s, %a;", [every], "b16", "b16")
    check(negative, every ^ np.uint16(0x8000), [every])
    check(absolute, every & np.uint16(0x7FFF), [every])


@each_engine
def test_neg_and_abs_of_single_double_and_packed(engine: Engine) -> None:
    for kind in ("f32", "f64", "f16x2", "bf16x2"):
        width, mask = (64, 1 << 63) if kind == "f64" else (32, 1 << 31 if kind == "f32" else 0x80008000)
        (a,) = sources(FORMATS["f64" if width == 64 else "f32"], 1, seed=3)
        negative, absolute = run(
            engine, f"neg.{kind} %r, %a; abs.{kind} %s, %a;", [a], f"b{width}", f"b{width}"
        )
        check(negative, a ^ UNSIGNED[width](mask), [a])
        check(absolute, a & ~UNSIGNED[width](mask), [a])


@each_engine
@pytest.mark.parametrize("kind", ["f32", "f16"])
def test_neg_and_abs_flush_if_told(engine: Engine, kind: str) -> None:
    fmt = FORMATS[kind]
    (a,) = sources(fmt, 1, seed=3)
    flushed = np.array([fmt.flushed(int(v)) for v in a], a.dtype)
    lines = f"neg.ftz.{kind} %r, %a; abs.ftz.{kind} %s, %a;"
    negative, absolute = run(engine, lines, [a], f"b{fmt.width}", f"b{fmt.width}")
    top = a.dtype.type(1 << (fmt.width - 1))
    check(negative, flushed ^ top, [a])
    check(absolute, flushed & ~top, [a])


def chosen(operation: str, fmt: Binary, a: int, b: int, nan: bool, xorsign: bool) -> int:
    top = 1 << (fmt.width - 1)
    sign = (a ^ b) & top if xorsign else 0
    if xorsign:
        a, b = a & ~top, b & ~top
    is_nan = [(v & ~top) > fmt.infinity for v in (a, b)]
    if all(is_nan) or (nan and any(is_nan)):
        return fmt.nan
    if any(is_nan):
        found = b if is_nan[0] else a
    else:  # codes in order: of what is negative the complement, so that -0 is below +0
        order = {v: (v if v < top else top - 1 - v) for v in (a, b)}
        found = (min if operation == "min" else max)((a, b), key=order.__getitem__)
    return found | sign if xorsign else found


@each_engine
@pytest.mark.parametrize("operation", ["min", "max"])
@pytest.mark.parametrize(
    "name",
    ["f32", "NaN.f32", "ftz.f32", "xorsign.abs.f32", "NaN.xorsign.abs.f32", "f64", "f16", "NaN.f16",
     "ftz.f16", "xorsign.abs.f16", "bf16", "NaN.bf16", "NaN.xorsign.abs.bf16"],
)  # fmt: skip
def test_min_and_max_order_zeros_and_pass_over_nan_unless_told(
    engine: Engine, operation: str, name: str
) -> None:
    *modifiers, kind = name.split(".")
    fmt = FORMATS[kind]
    columns = sources(fmt, 2, seed=21)
    used = [[fmt.flushed(int(v)) if "ftz" in modifiers else int(v) for v in c] for c in columns]
    pairs = zip(*used, strict=True)
    expected = [chosen(operation, fmt, a, b, "NaN" in modifiers, "xorsign" in modifiers) for a, b in pairs]
    (got,) = run(engine, f"{operation}.{name} %r, %a, %b;", columns, f"b{fmt.width}")
    check(got, np.array(expected, got.dtype), columns)


@each_engine
@pytest.mark.parametrize("operation", ["min", "max"])
def test_the_sign_of_a_nan_that_arithmetic_made_is_plus(engine: Engine, operation: str) -> None:
    """−inf·0 is 0x7fffffff, whatever NaN the machine makes of it: .xorsign takes the other operand's sign."""
    a = np.array([0xFF800000, 0x7F800000, 0xFF800000, 0x7F800000], np.uint32)
    b = np.array([0x43E00000, 0x43E00000, 0xC3E00000, 0xC3E00000], np.uint32)
    lines = f".reg .f32 %m; mul.rn.f32 %m, %a, 0f00000000; {operation}.xorsign.abs.f32 %r, %m, %b;"
    (got,) = run(engine, lines, [a, b], "b32")
    check(got, b, [a, b])


@each_engine
def test_packed_minimum_is_that_of_its_halves(engine: Engine) -> None:
    for kind in ("f16", "bf16"):
        a, b = sources(FORMATS[kind], 2, seed=22)
        low = np.array(
            [chosen("min", FORMATS[kind], int(x), int(y), False, False) for x, y in zip(a, b, strict=True)]
        )
        pack = [v.astype(np.uint32) | np.roll(v, 3).astype(np.uint32) << np.uint32(16) for v in (a, b)]
        (got,) = run(engine, f"min.{kind}x2 %r, %a, %b;", pack, "b32")
        check(got, (low | np.roll(low, 3) << 16).astype(np.uint32), pack)


@each_engine
def test_copysign_takes_the_first_sources_sign(engine: Engine) -> None:
    for kind in ("f32", "f64"):
        fmt = FORMATS[kind]
        a, b = sources(fmt, 2, seed=4)
        top = a.dtype.type(1 << (fmt.width - 1))
        (got,) = run(engine, f"copysign.{kind} %r, %a, %b;", [a, b], f"b{fmt.width}")
        check(got, a & top | b & ~top, [a, b])


# -- comparisons ------------------------------------------------------------------------------------------

ORDER = {"eq": "__eq__", "ne": "__ne__", "lt": "__lt__", "le": "__le__", "gt": "__gt__", "ge": "__ge__"}
COMPARISONS = [*ORDER, *(name + "u" for name in ORDER), "num", "nan"]


def compares(how: str, fmt: Binary, a: int, b: int) -> bool:
    x, y = fmt.number(a), fmt.number(b)
    unordered = "nan" in (x.kind, y.kind)
    if how in ("num", "nan"):
        return unordered == (how == "nan")
    if unordered:
        return how.endswith("u") and how not in ORDER
    values = [(float("inf") if n.kind == "inf" else n.magnitude) * (-1 if n.sign else 1) for n in (x, y)]
    p, q = values
    return {"eq": p == q, "ne": p != q, "lt": p < q, "le": p <= q, "gt": p > q, "ge": p >= q}[how[:2]]


@each_engine
@pytest.mark.parametrize("kind", ["f32", "ftz.f32", "f64", "f16", "ftz.f16", "bf16"])
def test_setp_compares_floats_ordered_and_unordered(engine: Engine, kind: str) -> None:
    fmt = FORMATS[kind.split(".")[-1]]
    a, b = (c[:200] for c in sources(fmt, 2, seed=31))
    rows = [(int(x), int(y)) for x, y in zip(a, b, strict=True)]
    if "ftz" in kind:
        rows = [(fmt.flushed(x), fmt.flushed(y)) for x, y in rows]
    for how in COMPARISONS:
        (got,) = run(engine, f"setp.{how}.{kind} %r, %a, %b;", [a, b], "pred")
        check(got, np.array([compares(how, fmt, x, y) for x, y in rows]), [a, b])


@each_engine
def test_setp_combines_and_gives_the_contrary(engine: Engine) -> None:
    a, b = (c[:200] for c in sources(FORMATS["f32"], 2, seed=32))
    third = np.arange(200) % 3 == 0
    base = np.array([compares("lt", FORMATS["f32"], int(x), int(y)) for x, y in zip(a, b, strict=True)])
    for name, combine in (("and", np.logical_and), ("or", np.logical_or), ("xor", np.logical_xor)):
        p, q = run(engine, f"setp.lt.{name}.f32 %r|%s, %a, %b, %c;", [a, b, third], "pred", "pred")
        check(p, combine(base, third), [a, b])
        check(q, combine(~base, third), [a, b])
        (p,) = run(engine, f"setp.lt.{name}.f32 %r, %a, %b, !%c;", [a, b, third], "pred")
        check(p, combine(base, ~third), [a, b])


@each_engine
def test_setp_of_a_pair_gives_two_predicates(engine: Engine) -> None:
    for kind in ("f16", "bf16"):
        fmt = FORMATS[kind]
        a, b = (c[:200] for c in sources(fmt, 2, seed=33))
        low = np.array([compares("ge", fmt, int(x), int(y)) for x, y in zip(a, b, strict=True)])
        pack = [v.astype(np.uint32) | np.roll(v, 3).astype(np.uint32) << np.uint32(16) for v in (a, b)]
        p, q = run(engine, f"setp.ge.{kind}x2 %r|%s, %a, %b;", pack, "pred", "pred")
        check(p, low, pack)
        check(q, np.roll(low, 3), pack)


@each_engine
def test_set_gives_all_ones_or_the_number_one(engine: Engine) -> None:
    a, b = (c[:200] for c in sources(FORMATS["f32"], 2, seed=34))
    less = np.array([compares("ltu", FORMATS["f32"], int(x), int(y)) for x, y in zip(a, b, strict=True)])
    for kind, one in (("u32", 0xFFFFFFFF), ("s32", 0xFFFFFFFF), ("f32", 0x3F800000)):
        (got,) = run(engine, f"set.ltu.{kind}.f32 %r, %a, %b;", [a, b], "b32")
        check(got, np.where(less, np.uint32(one), np.uint32(0)), [a, b])
    h, g = (c[:200] for c in sources(FORMATS["bf16"], 2, seed=35))
    less = np.array([compares("lt", FORMATS["bf16"], int(x), int(y)) for x, y in zip(h, g, strict=True)])
    (got,) = run(engine, "set.lt.bf16.bf16 %r, %a, %b;", [h, g], "b16")
    check(got, np.where(less, np.uint16(0x3F80), np.uint16(0)), [h, g])


@each_engine
def test_slct_takes_the_first_for_what_is_not_negative(engine: Engine) -> None:
    (c,) = sources(FORMATS["f32"], 1, seed=36)
    a, b = np.arange(c.size, dtype=np.uint32), np.arange(c.size, dtype=np.uint32) + np.uint32(1 << 20)
    number = [FORMATS["f32"].number(int(v)) for v in c]
    first = np.array(
        [n.kind != "nan" and (not n.sign or (n.kind == "finite" and not n.magnitude)) for n in number]
    )
    (got,) = run(engine, "slct.b32.f32 %r, %a, %b, %c;", [a, b, c], "b32")
    check(got, np.where(first, a, b), [c])
    (got,) = run(engine, "slct.u32.s32 %r, %a, %b, %c;", [a, b, c], "b32")
    check(got, np.where(c.view(np.int32) >= 0, a, b), [c])


@each_engine
def test_testp_tells_classes_apart(engine: Engine) -> None:
    for kind, dtype in (("f32", np.float32), ("f64", np.float64)):
        fmt = FORMATS[kind]
        (a,) = sources(fmt, 1, seed=37)
        x = np.abs(a.view(dtype))
        small = (x < np.finfo(dtype).tiny) & (x > 0)
        for name, expected in (
            ("finite", np.isfinite(x)), ("infinite", np.isinf(x)), ("number", ~np.isnan(x)),
            ("notanumber", np.isnan(x)), ("subnormal", small), ("normal", np.isfinite(x) & ~small),
        ):  # fmt: skip
            (got,) = run(engine, f"testp.{name}.{kind} %r, %a;", [a], "pred")
            check(got, expected, [a])


# -- what is not emulated -----------------------------------------------------------------------------------


@each_engine
@pytest.mark.parametrize(
    ("line", "width"),
    [
        ("add.rz.f16 %r, %a, %b;", 16),
        ("add.ftz.bf16 %r, %a, %b;", 16),
        ("add.sat.f64 %r, %a, %b;", 64),
        ("fma.f32 %r, %a, %b, %a;", 32),
        ("fma.rn.relu.f32 %r, %a, %b, %a;", 32),
        ("fma.rn.oob.f16 %r, %a, %b, %a;", 16),
        ("div.f32 %r, %a, %b;", 32),
        ("add.rn.rz.f32 %r, %a, %b;", 32),
        ("mul.rn.wrong.f32 %r, %a, %b;", 32),
        ("min.xorsign.f32 %r, %a, %b;", 32),
        ("min.abs.f32 %r, %a, %b;", 32),
        ("min.ftz.bf16 %r, %a, %b;", 16),
        ("max.NaN.f64 %r, %a, %b;", 64),
        ("neg.f32x2 %r, %a;", 64),
        ("neg.ftz.bf16 %r, %a;", 16),
        ("abs.ftz.f64 %r, %a;", 64),
        ("add.sat.f32x2 %r, %a, %b;", 64),
        ("fma.rn.sat.bf16 %r, %a, %b, %a;", 16),
        ("fma.rn.sat.relu.f16 %r, %a, %b, %a;", 16),
        ("ex2.approx.bf16 %r, %a;", 16),
        ("ex2.approx.ftz.f16 %r, %a;", 16),
        ("mad.f32 %r, %a, %b, %a;", 32),
        ("add.f32 %r, %a, %b;", 64),
        ("add.f64 %r, %a, %b;", 32),
        ("setp.lo.f32 %p, %a, %b;", 32),
        ("ex3.approx.f32 %r, %a;", 32),
    ],
)
def test_what_the_manual_does_not_have_is_refused_by_name(engine: Engine, line: str, width: int) -> None:
    a = np.zeros(4, UNSIGNED[width])
    with pytest.raises(Unsupported, match=line.split()[0].replace(".", r"\.")):
        run(engine, f".reg .pred %p; {line}", [a, a], f"b{width}")
