"""Compiled polynomials against Arb's balls, and against mpmath: every piece, both tiers, and their cache.

The exhaustive run adds the second tier of one more function of a user's own.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import basis_witness
import numpy as np
import pytest
from arb_witness import arithmetic
from basis_witness import BASES, basis_inputs, containment
from by_name import enclosures
from flint import arb
from mpmath.libmp import to_rational

from precision_lab.functions import basis as basis_module
from precision_lab.functions.basis import BASIS, BasisFunction
from precision_lab.oracle import arb_series as arb_module
from precision_lab.oracle import piecewise_compiler, piecewise_tables
from precision_lab.oracle import piecewise_values as pieces
from precision_lab.oracle.arb_precision import working_precision
from precision_lab.oracle.evaluate import certain_ball
from precision_lab.oracle.piecewise_compiler import (
    CENTRAL,
    FLOOR,
    FLOOR_DD,
    MAX_SPLIT,
    TARGET,
    TARGET_DD,
    Table,
)
from precision_lab.oracle.piecewise_tables import table
from precision_lab.oracle.piecewise_values import Packed, enclose, pack, table_tile

NAMES = (
    "sigmoid", "sigmoid'", "sigmoid_of_minus_x", "tanh", "tanh'", "softplus", "logsigmoid", "silu", "silu'",
    "mish", "mish'", "gelu", "gelu'",
    "gelu_tanh", "gelu_tanh'", "atlu", "atlu'",
)  # fmt: skip
SIDES = (-1, 1)
# Where silu', gelu', gelu_tanh' and mish' vanish: a bound relative to f would be wrong there.
ROOTS = (-1.2784645427610738, -0.7517916243494656, -0.7524614, -1.1924312145154955)
# What `second` and `enclosures` charge where a nudge cannot stand for itself; to be changed with them.
NUDGED = 2.0**-1000
FP32_SMALLEST, FP32_BEYOND = 2.0**-149, 2.0**128
HEAVY = 1_000_000

every_basis = pytest.mark.parametrize("name", NAMES)
every_side = pytest.mark.parametrize("side", SIDES, ids=["negative", "positive"])


# -- inputs -------------------------------------------------------------------------------------


def around(points: np.ndarray) -> np.ndarray:
    """The points and their float64 neighbours."""
    return (points[:, None] + np.array([-1, 0, 1]) * np.spacing(points)[:, None]).ravel()


def neighbours(points: np.ndarray) -> np.ndarray:
    """The points and their neighbours, in float64 and, where fp32 has such numbers, in fp32."""
    narrow = points[(points >= FP32_SMALLEST) & (points < FP32_BEYOND / 2)].astype(np.float32)
    single = np.concatenate([np.nextafter(narrow, np.float32(0)), np.nextafter(narrow, np.float32(np.inf))])
    return np.concatenate([around(points), single.astype(np.float64)])


def edges_and_centres(found: Table) -> tuple[np.ndarray, np.ndarray]:
    """Left edges and centres of all pieces of one side, in the order of the table's rows from 1 on."""
    edges, centres = [], []
    for e, split in enumerate(found.layout[3::2].tolist(), start=CENTRAL):
        fraction = np.arange(1 << split) / (1 << split)
        edges.append(np.ldexp(1 + fraction, e))
        centres.append(np.ldexp(1 + fraction + 0.5 / (1 << split), e))
    return np.concatenate(edges), np.concatenate(centres)


@functools.lru_cache(maxsize=64)
def attacks(name: str, side: int, double: bool, n: int = 2000, seed: int = 1) -> np.ndarray:
    """x of one side: all edges and centres with neighbours, roots, the ends of the table, about n others."""
    rng = np.random.default_rng([seed, side + 1, double])
    found = table(name, side, double)
    edges, centres = edges_and_centres(found)
    smallest, last = 2.0**-1074 if double else FP32_SMALLEST, int(found.layout[1])
    binades = np.arange(int(math.log2(smallest)), last + 1)
    ends = [2.0**CENTRAL, 2.0**last, 1.0, *found.beyond[np.isfinite(found.beyond)]]
    size = np.concatenate(
        [
            neighbours(np.array([*ends, *(abs(r) for r in ROOTS if r * side > 0)])),
            around(edges),
            centres,
            around(rng.choice(centres, min(centres.size, 200), False)),
            neighbours(rng.choice(edges, min(edges.size, 400), False)),
            around(np.ldexp(1.0, binades)),
            smallest * np.arange(1, 40),
            smallest * rng.integers(1, 1 << 23, 100),
            np.ldexp(rng.uniform(1, 2, n // 4), rng.choice(binades, n // 4)),
            np.ldexp(rng.uniform(1, 2, n // 4), rng.integers(CENTRAL - 3, last, n // 4)),
            rng.uniform(0, min(2.0**last, 24), n // 4),
            np.abs([x for x in basis_inputs(name, n // 2, seed).tolist() if x * side > 0]),
        ]
    )
    return side * np.unique(size[(size >= smallest) & (size < (math.inf if double else FP32_BEYOND))])


# -- the two tiers ------------------------------------------------------------------------------


def tiles(x: np.ndarray) -> Iterator[np.ndarray]:
    """Indices of x by sign and binade, ordered by |x|, as `table_tile` wants them."""
    cells = np.frexp(x)[1] * 2 + (x > 0)
    for cell in np.unique(cells):
        tile = np.flatnonzero(cells == cell)
        yield tile[np.argsort(np.abs(x[tile]))]


def first_tier(packed: Packed, x: np.ndarray, blocks: Any = tiles) -> tuple[np.ndarray, np.ndarray]:
    """value and bound of the first of the packed functions."""
    value, bound = np.full(x.size, np.nan), np.full(x.size, np.nan)
    for tile in blocks(x):
        side = int(x[tile[0]] > 0)
        v, b = np.empty(tile.size), np.empty(tile.size)
        table_tile(
            x[tile], tile.size, packed.layout[side], packed.coefficients, packed.bounds,
            packed.asymptotes[side], v, b,
        )  # fmt: skip
        value[tile], bound[tile] = v, b
    return value, bound


def first_ratio(name: str, packed: Packed, x: np.ndarray) -> tuple[float, float]:
    """Largest error in units of the first tier's bound, and its x. No bound may be NaN."""
    value, bound = first_tier(packed, x)
    assert not np.isnan(bound).any()
    return containment(name, x, value, np.zeros(x.size), bound)


def second_ratio(name: str, x: np.ndarray) -> tuple[float, float]:
    """Likewise of the second tier, where it is not an asymptote with a nudge."""
    high, low, radius, nudge = enclose(name, x)
    assert not np.isnan(radius).any()
    plain = nudge == 0
    return containment(name, x[plain], high[plain], low[plain], radius[plain])


def tier_ratio(name: str, double: bool, x: np.ndarray) -> tuple[float, float]:
    return second_ratio(name, x) if double else first_ratio(name, pack((name,)), x)


every_tier = pytest.mark.parametrize("double", [False, True], ids=["float64", "double-double"])


# -- claims against Arb ---------------------------------------------------------------------------


@every_tier
@every_side
@every_basis
def test_bounds_hold_against_arb_on_every_piece(name: str, side: int, double: bool) -> None:
    ratio, where = tier_ratio(name, double, attacks(name, side, double))
    assert ratio <= 1, f"{name}: error {ratio} of its bound at x={where!r} ({where.hex()})"


@pytest.mark.exhaustive
@every_tier
@every_basis
def test_bounds_hold_against_arb_on_a_million_inputs(name: str, double: bool) -> None:
    for side in SIDES:
        ratio, where = tier_ratio(name, double, attacks(name, side, double, HEAVY // 2, seed=2))
        assert ratio <= 1, f"{name}: error {ratio} of its bound at x={where!r} ({where.hex()})"


@every_side
@every_basis
def test_the_second_tier_knows_every_input_below_the_end_of_its_table(name: str, side: int) -> None:
    x = attacks(name, side, True)
    _, _, radius, _ = enclose(name, x)
    end = 2.0 ** int(table(name, side, True).layout[1])
    assert np.isfinite(radius[np.abs(x) < end]).all()
    if BASIS[name].approach[max(side, 0)] is not None and math.isfinite(BASIS[name].beyond):
        assert np.isfinite(radius).all()


@every_side
@every_basis
def test_every_piece_reaches_its_target(name: str, side: int) -> None:
    """A bound is finite, at least the sum of its parts, and small unless a piece is the narrowest allowed."""
    for double, target, floor in ((False, TARGET, FLOOR), (True, TARGET_DD, FLOOR_DD)):
        found = table(name, side, double)
        assert np.isfinite(found.coefficients).all() and np.isfinite(found.bounds).all()
        assert (found.proof >= 0).all()
        assert (found.bounds >= found.proof.sum(axis=1)).all()
        size = np.abs(found.coefficients[1:, :2]).max(axis=1)
        wide = np.repeat(found.layout[3::2], 1 << found.layout[3::2]) < MAX_SPLIT
        assert (found.bounds[1:][wide] <= np.maximum(target * size * (1 + 2.0**-40), floor)[wide]).all()
        assert found.layout[4::2].tolist() == [
            1 + int((1 << found.layout[3::2][:k]).sum()) for k in range(found.layout[3::2].size)
        ]


@every_side
@every_basis
def test_a_tile_of_one_piece_equals_one_of_many(name: str, side: int) -> None:
    """table_tile has a loop of its own where one piece serves all inputs: bit for bit the same."""
    packed = pack((name,))
    x = attacks(name, side, False)
    value, bound = first_tier(packed, x)
    alone, alone_bound = first_tier(packed, x, lambda x: np.arange(x.size)[:, None])
    assert (value.view(np.int64) == alone.view(np.int64)).all()
    assert (bound.view(np.int64) == alone_bound.view(np.int64)).all()
    edges, _ = edges_and_centres(table(name, side, False))
    rows = np.searchsorted(edges, np.abs(x), side="right")

    def by_piece(x: np.ndarray) -> Iterator[np.ndarray]:
        for tile in tiles(x):
            for row in np.unique(rows[tile]):
                yield tile[rows[tile] == row]

    pieced, pieced_bound = first_tier(packed, x, by_piece)
    assert (value.view(np.int64) == pieced.view(np.int64)).all()
    assert (bound.view(np.int64) == pieced_bound.view(np.int64)).all()


def test_functions_packed_together_keep_their_tables() -> None:
    together = pack(NAMES)
    for k, name in enumerate(NAMES):
        for side in SIDES:
            row = 2 * k + max(side, 0)
            x = attacks(name, side, False)[::7]
            mine = together._replace(
                layout=together.layout[[row, row]],
                asymptotes=together.asymptotes[[row, row]],
            )
            for ours, theirs in zip(first_tier(mine, x), first_tier(pack((name,)), x), strict=True):
                assert ours.tobytes() == theirs.tobytes(), (name, side)


# -- next to 0 and next to an asymptote -------------------------------------------------------------


@pytest.mark.parametrize("name", [n for n in NAMES if BASIS[n].at_zero is not None])
def test_near_ties_at_zero_are_decided(name: str) -> None:
    """c0·x^v with c0 = 1/2 is a tie or a format's number: which side f lies on is certain down to 2^-400."""
    order = int(table(name, 1, True).layout[2])
    x = np.ldexp(1.0, -np.arange(10, 401))
    x = np.concatenate([x, -x, 1.5 * x, -1.25 * x, np.float64(np.float32(np.pi)) * x])
    high, low, radius, _ = enclose(name, x)
    for point, h, s, r in zip(x.tolist(), high.tolist(), low.tolist(), radius.tolist(), strict=True):
        rest = Fraction(h) + Fraction(s) - Fraction(point) ** order / 2
        assert abs(rest) > Fraction(r), f"{name} at x={point!r}: {float(rest)} ± {r}"
        with arithmetic(2048):
            true = BASES[name](arb(point)) - arb(point) ** order / 2
            assert true > 0 if rest > 0 else true < 0, f"{name}: wrong side at x={point!r}"


@functools.lru_cache(maxsize=32)
def nudged(name: str, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x where there is a nudge, log2 of what f has there beyond high + low, and its sign times the nudge."""
    found = table(name, side, True)
    end = min(float(found.beyond[0]), 2.0 ** int(found.layout[1]))
    reach = end * np.random.default_rng(3).uniform(0.7, 1.25, 100)  # f − asymptote is 2^-960 at 0.86
    x = side * np.unique(np.concatenate([reach, neighbours(np.array([end]))]))
    high, low, radius, nudge = enclose(name, x)
    chosen = np.flatnonzero(nudge != 0)
    assert (radius[chosen] == 0).all()
    sizes, signs = np.empty(chosen.size), np.empty(chosen.size)
    with arithmetic(4096):
        for k, i in enumerate(chosen):
            rest = BASES[name](arb(float(x[i]))) - arb(float(high[i])) - arb(float(low[i]))
            signs[k] = nudge[i] * ((1 if rest > 0 else 0) - (1 if rest < 0 else 0))
            sizes[k] = float((abs(rest).upper().log() / arb(2).log()).upper())
    return x[chosen], sizes, signs


NUDGING = [(name, side) for name in NAMES for side in SIDES if math.isfinite(BASIS[name].beyond)
           and BASIS[name].approach[max(side, 0)] is not None and BASIS[name].beyond > 0]  # fmt: skip


@pytest.mark.parametrize(("name", "side"), NUDGING)
def test_nudges_have_the_sign_of_what_they_stand_for(name: str, side: int) -> None:
    x, _, signs = nudged(name, side)
    assert x.size and (signs == 1).all(), f"{name}: wrong nudge at x={x[signs != 1][:3]!r}"


@pytest.mark.parametrize(("name", "side"), NUDGING)
def test_nudges_stand_for_no_more_than_is_charged_for_them(name: str, side: int) -> None:
    x, sizes, _ = nudged(name, side)
    worst = int(np.argmax(sizes))
    where = float(x[worst])
    assert sizes[worst] <= math.log2(NUDGED), (
        f"{name}: a nudge stands for 2^{sizes[worst]:.1f} at x={where!r} ({where.hex()}), "
        f"but `second` and `enclosures` charge 2^{math.log2(NUDGED):.0f}"
    )


@pytest.mark.parametrize(("name", "x"), [("silu", 672.006191552867), ("gelu", 36.460933685302734)])
def test_public_enclosures_hold_f_just_before_it_vanishes_into_its_asymptote(name: str, x: float) -> None:
    """Counterexamples of the test above, seen through the public function."""
    point = np.array([x])
    ratio, _ = containment(name, point, *enclosures(name, "forward", {}, point))
    assert ratio <= 1, f"{name} at x={x!r}: error 2^{math.log2(ratio):.1f} times the radius"


# -- mpmath, a second witness -----------------------------------------------------------------------


def holds_by_mpmath(name: str, x: float, high: float, low: float, radius: float) -> bool:
    """Whether |f(x) − high − low| ≤ radius, from the definition over mpmath's balls, compared exactly.

    A radius may be what an addition dropped and hardly more, so the ball is made 2^-64 as wide as that.
    """
    bits = 256
    while True:
        ball = certain_ball(lambda m: BASIS[name].formula(m, m.constant(x)), bits)
        middle, width = Fraction(*to_rational(ball.middle)), Fraction(*to_rational(ball.radius))
        if width * 2**64 <= Fraction(radius):
            return abs(middle - Fraction(high) - Fraction(low)) + width <= Fraction(radius)
        bits *= 2


@every_tier
@every_basis
def test_bounds_hold_against_mpmath(name: str, double: bool) -> None:
    x = np.concatenate([attacks(name, side, double) for side in SIDES])
    x = x[(np.abs(x) < 1100) & (np.abs(x) > 2.0**-200)]
    if double:
        high, low, radius, nudge = enclose(name, x)
    else:
        (high, radius), low, nudge = first_tier(pack((name,)), x), np.zeros(x.size), np.zeros(x.size)
    judged = np.flatnonzero((nudge == 0) & np.isfinite(radius))
    for i in np.random.default_rng(4).choice(judged, 200, False):
        assert holds_by_mpmath(name, *(float(v[i]) for v in (x, high, low, radius))), float(x[i]).hex()


# -- the attack itself ------------------------------------------------------------------------------


def corrupted(found: Table, field: str, row: Any, order: int, times: float) -> Table:
    """The table with one number moved by a multiple of its row's bound."""
    array = getattr(found, field).copy()
    array[row, order] += times * found.bounds[row]
    return dataclasses.replace(found, **{field: array})


def served_by(found: Table, row: int, x: np.ndarray) -> np.ndarray:
    """The inputs among x that one row of the table serves."""
    return x[np.searchsorted(edges_and_centres(found)[0], np.abs(x), side="right") == row]


def ratio_with(
    monkeypatch: pytest.MonkeyPatch, name: str, double: bool, wrong: Table, side: int, row: int | None = None
) -> float:
    """The largest ratio that a wrong table would give, on the inputs of one row or on a third of all."""
    x = attacks(name, side, double)
    x = x[::3] if row is None else served_by(wrong, row, x)
    true = table

    def replaced(n: str, s: int, d: bool) -> Table:
        return wrong if (n, s, d) == (name, side, double) else true(n, s, d)

    with monkeypatch.context() as patch:
        patch.setattr(pieces, "table", replaced)
        return tier_ratio(name, double, x)[0]


def rows_to_corrupt(found: Table) -> list[int]:
    """The central row, one of [1, 2), one of [4, 8) where f has not yet met an asymptote."""
    return [0, int(found.layout[4 + 2 * (0 - CENTRAL)]), int(found.layout[4 + 2 * (2 - CENTRAL)])]


@pytest.mark.parametrize("order", [0, 1, 2, 7, 11])
@pytest.mark.parametrize("name", ["silu'", "gelu", "atlu"])
def test_a_wrong_coefficient_of_the_first_tier_is_caught(
    name: str, order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in SIDES:
        found = table(name, side, False)
        for row in rows_to_corrupt(found):
            for times in (-2.5, 2.5):
                wrong = corrupted(found, "coefficients", row, order, times)
                assert ratio_with(monkeypatch, name, False, wrong, side, row) > 1, (side, row)


@pytest.mark.parametrize(("field", "order"), [("lows", 0), ("lows", 5), ("coefficients", 16)])
@pytest.mark.parametrize("name", ["silu'", "gelu", "atlu"])
def test_a_wrong_coefficient_of_the_second_tier_is_caught(
    name: str, field: str, order: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in SIDES:
        found = table(name, side, True)
        for row in rows_to_corrupt(found)[1:]:
            for times in (-2.5, 2.5):
                wrong = corrupted(found, field, row, order, times)
                assert ratio_with(monkeypatch, name, True, wrong, side, row) > 1, (side, row)
        wrong = corrupted(found, field, 0, order, 2.0**12)  # the central piece: times x, beside c0
        assert ratio_with(monkeypatch, name, True, wrong, side, 0) > 1, side


@pytest.mark.parametrize("name", ["silu", "gelu'", "softplus"])
def test_a_wrong_leading_coefficient_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = table(name, 1, True)
    wrong = dataclasses.replace(found, central=found.central + np.array([0.0, 2.0**-104, 0.0]))
    assert ratio_with(monkeypatch, name, True, wrong, 1, 0) > 1


@every_tier
@every_basis
def test_bounds_an_eighth_as_large_are_caught(
    name: str, double: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for side in SIDES:
        found = table(name, side, double)
        wrong = dataclasses.replace(found, bounds=found.bounds / 8)
        assert ratio_with(monkeypatch, name, double, wrong, side) > 1, side


# -- what a bound is made of --------------------------------------------------------------------------


@every_tier
@pytest.mark.parametrize("name", ["silu", "gelu"])
def test_a_pieces_remainder_holds_for_all_of_it(name: str, double: bool) -> None:
    """Lagrange's: the Taylor coefficient that the polynomial leaves out, at any point of the piece."""
    degree = piecewise_compiler.DEGREE_DD if double else piecewise_compiler.DEGREE
    basis, half = BASIS[name], 0.25
    found = piecewise_compiler._piece(basis, 1, 0.5, half, double, None, piecewise_compiler.PRECISION)
    sizes = []
    for point in np.linspace(0.25, 0.75, 9).tolist():
        with working_precision(256, degree + 2):
            coefficient = piecewise_compiler._series(basis, 1, point, degree + 2, None)[degree + 1]
            sizes.append(float(abs(coefficient).lower()) * half ** (degree + 1))
    assert max(sizes) <= found.proof[0]
    assert max(sizes) > 1.02 * sizes[4]  # at its centre alone it would be too small


@every_tier
@pytest.mark.parametrize("side", [-1, 1])
def test_a_pieces_bound_is_all_of_its_parts(side: int, double: bool) -> None:
    """What is left out, the coefficients' distance from Arb's, and the roundings of Horner's rule."""
    basis = BASIS["sigmoid"]
    pieces = [
        piecewise_compiler._piece(basis, side, 1.25, 2.0**-4, double, None, piecewise_compiler.PRECISION)
    ]
    pieces.append(piecewise_compiler._central(basis, side, double)[1])
    for piece in pieces:
        assert all(part > 0 for part in piece.proof)
        assert sum(piece.proof) <= piece.bound <= sum(piece.proof) * 1.001 + 2.0**-1070


# -- cache ------------------------------------------------------------------------------------------


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("PRECISION_LAB_CACHE", str(tmp_path / "cache"))
    piecewise_tables._table.cache_clear()
    attacks.cache_clear()
    yield tmp_path / "cache"
    piecewise_tables._table.cache_clear()
    attacks.cache_clear()


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names compiled during the test."""
    seen: list[str] = []
    true = piecewise_compiler.compile_table

    def counted(basis: BasisFunction, side: int, double: bool) -> Table:
        seen.append(basis.name)
        return true(basis, side, double)

    monkeypatch.setattr(piecewise_compiler, "compile_table", counted)
    return seen


def again() -> Table:
    """sigmoid's positive side, as the next process would get it."""
    piecewise_tables._table.cache_clear()
    return table("sigmoid", 1, False)


def identical(a: Table, b: Table) -> bool:
    fields = [f.name for f in dataclasses.fields(Table)]
    return all(
        getattr(a, f).tobytes() == getattr(b, f).tobytes() and getattr(a, f).shape == getattr(b, f).shape
        for f in fields
    )


def test_a_stored_table_is_the_compiled_one(empty_cache: Path, compilations: list[str]) -> None:
    compiled = again()
    stored = again()
    assert compilations == ["sigmoid"] and identical(compiled, stored)
    assert [path.suffix for path in empty_cache.iterdir()] == [".table"]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "one bit in a coefficient": lambda data: data[:1000] + bytes([data[1000] ^ 1]) + data[1001:],
    "one bit in the checksum": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "something appended": lambda data: data + b"\0",
    "another file": lambda data: b"\x93NUMPY" + bytes(200),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_table_is_compiled_again(damage: str, empty_cache: Path, compilations: list[str]) -> None:
    first = again()
    (path,) = empty_cache.iterdir()
    data = path.read_bytes()
    path.write_bytes(DAMAGE[damage](data))
    assert identical(again(), first) and len(compilations) == 2
    assert identical(again(), first) and len(compilations) == 2, "the file was not mended"


def test_a_folder_that_cannot_be_written_does_no_harm(
    tmp_path: Path, empty_cache: Path, compilations: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A file in the folder's place stops even root, unlike a folder's permissions.
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PRECISION_LAB_CACHE", str(tmp_path / "file" / "cache"))
    first = again()
    assert identical(again(), first) and len(compilations) == 2


def test_a_table_that_cannot_be_replaced_leaves_no_litter(empty_cache: Path, compilations: list[str]) -> None:
    first = again()
    (path,) = empty_cache.iterdir()
    path.unlink()
    (path / "in the way").mkdir(parents=True)
    assert identical(again(), first) and len(compilations) == 2
    assert list(empty_cache.iterdir()) == [path]


def test_changed_settings_get_a_new_key(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {piecewise_tables._key(name, side, d) for name in NAMES for side in SIDES for d in (False, True)}
    assert len(keys) == 4 * len(NAMES)
    keys.clear()
    keys.add(piecewise_tables._key("silu", 1, False))
    true = inspect.getsource
    for changed in (basis_module, arb_module, piecewise_compiler):
        with monkeypatch.context() as patch:
            patch.setattr(
                piecewise_tables.inspect,
                "getsource",
                lambda m, c=changed: true(m) + ("\n" if m is c else ""),
            )
            keys.add(piecewise_tables._key("silu", 1, False))
    with monkeypatch.context() as patch:
        patch.setattr("flint.__version__", "another")
        keys.add(piecewise_tables._key("silu", 1, False))
    with monkeypatch.context() as patch:
        patch.setattr(piecewise_compiler, "VERSION", piecewise_compiler.VERSION + 1)
        keys.add(piecewise_tables._key("silu", 1, False))
    assert len(keys) == 6


# -- functions of a user's own ----------------------------------------------------------------------


def own(name: str, formula: Any, **fields: Any) -> BasisFunction:
    return BasisFunction(name, name, formula, None, *fields.pop("limits", (None, None)), **fields)


def constant(value: int) -> tuple[Fraction, ...]:
    return Fraction(value), Fraction(0), Fraction(0), Fraction(0)


OWN: dict[str, tuple[BasisFunction, Callable[[arb], arb]]] = {
    # tanh − (±1) = ∓2σ(∓2x), below 2^-1060 from 369 on
    "own_tanh": (
        own(
            "own_tanh",
            lambda m, x: 2 * m.sigmoid(2 * x) - 1,
            limits=(constant(-1), constant(1)),
            approach=(1, -1),
            beyond=384.0,
        ),
        lambda x: x.tanh(),
    ),
    "arctan": (own("arctan", lambda m, x: m.atan_over_pi(x) * m.pi), lambda x: x.atan()),
    "normal_cdf": (
        own(
            "normal_cdf",
            lambda m, x: m.erfc(-x / m.sqrt(m.constant(2))) / 2,
            limits=(constant(0), constant(1)),
            approach=(1, -1),
            beyond=40.0,
        ),
        lambda x: (-x / arb(2).sqrt()).erfc() / 2,
    ),
}


@pytest.fixture
def with_own(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (basis, witness) in OWN.items():
        monkeypatch.setitem(BASIS, name, basis)
        monkeypatch.setitem(basis_witness.BASES, name, witness)


@pytest.mark.parametrize(
    ("name", "double"),
    [
        pytest.param(
            name, double, id=f"{name}-{'double-double' if double else 'float64'}",
            # Seven seconds; own_tanh has limits in both tiers as well.
            marks=[pytest.mark.slow] * (name == "normal_cdf" and double),
        )
        for name in OWN
        for double in (False, True)
    ],
)  # fmt: skip
def test_a_function_of_ones_own_needs_only_its_definition(name: str, double: bool, with_own: None) -> None:
    for side in SIDES:
        ratio, where = tier_ratio(name, double, attacks(name, side, double))
        assert ratio <= 1, f"{name}: error {ratio} of its bound at x={where!r} ({where.hex()})"


def test_a_changed_formula_gets_a_new_table(with_own: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever mends a formula of their own must not be served the polynomials of the old one."""
    before = table("own_tanh", 1, False)
    twice = dataclasses.replace(
        OWN["own_tanh"][0], formula=lambda m, x: 2 * m.sigmoid(3 * x) - 1, text="tanh(3x/2)"
    )
    monkeypatch.setitem(BASIS, "own_tanh", twice)
    piecewise_tables._table.cache_clear()  # as in the next process
    assert not identical(before, table("own_tanh", 1, False))
