"""The scorer of plain arrays: bit for bit what `score_many` adds, and the compiled scorer's integers."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slow_oracle
import torch
from hypothesis import given
from hypothesis import strategies as st
from turns import in_turn

from precision_lab.exceptions import EnvironmentAltersResultsError, UsageError
from precision_lab.formats import FloatFormat, get_format
from precision_lab.functions import FUNCTIONS, get_function
from precision_lab.inputs.cells import cells
from precision_lab.measuring import every_input
from precision_lab.measuring.measure import measure
from precision_lab.numeric.certainty import SMALLEST
from precision_lab.oracle import Reference, reference
from precision_lab.oracle.curve import Curve
from precision_lab.oracle.format_row import format_row
from precision_lab.scoring import columns, standard
from precision_lab.scoring import errors as metrics
from precision_lab.scoring.array_counts import count_values
from precision_lab.scoring.array_scorer import ArrayScorer
from precision_lab.scoring.choosing import scorer_for
from precision_lab.scoring.monotony import moves_against
from precision_lab.scoring.one_value import score_many
from precision_lab.scoring.patterns import Patterns
from precision_lab.scoring.scorer import Scorer
from precision_lab.scoring.settled import Counts, settled
from precision_lab.scoring.standard import Standard, is_certified
from precision_lab.scoring.statistics import _moves_between_chunks, finish
from precision_lab.scoring.tally import Tally

NARROW = ("bf16", "fp16", "e4m3", "e5m2")
CELLS = 12


@st.composite
def narrow_formats(draw: st.DrawFn) -> FloatFormat:
    """Any format of at most 16 bits: with infinities, or with numbers or a NaN in their place."""
    bits = draw(st.integers(4, 16))
    precision = draw(st.integers(max(2, bits - 8), min(bits - 2, 11)))
    width = bits - precision  # of the exponent
    has_infinity = width >= 2 and draw(st.booleans())
    emin = draw(st.integers(-140, 1))
    emax = emin + 2**width - (3 if has_infinity else 2)
    largest = 2**precision - 1
    if not has_infinity:
        largest -= draw(st.sampled_from([0, 1]) if precision > 2 else st.just(0))
    return FloatFormat(f"any{bits}", bits, precision, emin, emax, largest, has_infinity, None, "drawn")


def exact_values(fmt: FloatFormat, numbers: np.ndarray, rng: np.random.Generator, saturating: bool) -> Any:
    """A `Reference` at values all over a format: ties, next to ties, numbers, next to nothing, beyond."""
    n = numbers.size
    tail = np.where(
        rng.random(n) < 0.4, rng.choice([0, 0.5, -0.5, 2.0**-10, -(2.0**-10), 2.0**-11, 1e-200], n),
        rng.uniform(-0.5, 0.5, n),
    )  # fmt: skip
    tail[~np.isfinite(numbers)] = 0
    inside = np.where(np.isfinite(numbers), numbers, 0.0)
    ulp = np.minimum(fmt.ulp(inside), 2.0 ** (fmt.emax - fmt.fraction_bits))
    exact = inside + tail * ulp
    nothing = (inside == 0) & (rng.random(n) < 0.4)  # a stand-in, or a tail that float64 does not add
    exact[nothing] = rng.choice([0.0, SMALLEST, -SMALLEST], nothing.sum())
    tail[nothing & (exact == 0)] = 0
    beyond = rng.random(n) < 0.02
    exact[beyond] = np.copysign(1e300, exact[beyond])
    rounded = numbers.copy()
    if saturating:
        over = ~np.isfinite(rounded) & ~np.isnan(rounded)
        rounded[over] = np.copysign(fmt.max_finite, rounded[over])
    sign = np.sign(exact).astype(np.int8)
    sign[nothing & (rng.random(n) < 0.3)] = 0
    return Reference(fmt, rounded, tail, ulp, exact, sign, np.full(n, 3, np.uint8), np.zeros(n, np.bool_))


def computed_values(exact: Reference, seen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What a kernel may give: right, of the other sign, a neighbour, anything, nothing, no number."""
    n, fmt = seen.size, exact.fmt
    kind = rng.integers(0, 8, n)
    y = np.where(kind <= 2, exact.rounded, seen)
    y = np.where(kind == 3, -exact.rounded, y)
    near = (kind == 4) & np.isfinite(exact.rounded)
    steps = fmt.ordinal(exact.rounded[near]) + rng.integers(-2, 3, near.sum())
    y[near] = fmt.from_ordinal(np.clip(steps, -fmt.max_ordinal, fmt.max_ordinal))
    odd = kind == 5
    y[odd] = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e-30, 3e38], odd.sum())
    return y


def counted_both_ways(
    exact: Reference, y: np.ndarray, cell: np.ndarray, *, saturating: bool = False
) -> tuple[Counts, Counts]:
    found = [Counts(columns.empty(CELLS), np.zeros(columns.BINS, np.int64)) for _ in range(2)]
    patterns, kept = np.arange(y.size), ~exact.undecided
    score_many(
        found[0], cell, format_row(exact.fmt, saturating), patterns, y, settled(exact), exact.undecided
    )
    chosen = settled(exact)
    count_values(
        found[1], cell[kept], exact.fmt, patterns[kept], y[kept],
        type(chosen)(*(field[kept] for field in chosen)),
    )  # fmt: skip
    return found[0], found[1]


def assert_same(one: Counts, other: Counts) -> None:
    assert np.argwhere(one.rows != other.rows).tolist() == []
    assert np.flatnonzero(one.histogram != other.histogram).tolist() == []


@given(
    fmt=st.one_of(st.sampled_from([get_format(name) for name in NARROW]), narrow_formats()),
    size=st.sampled_from([1, 2, 37, 1000, 9000]),
    saturating=st.booleans(),
    ordered=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_arrays_are_counted_bit_for_bit_as_value_by_value(
    fmt: FloatFormat, size: int, saturating: bool, ordered: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    numbers = np.asarray(fmt.from_ordinal(np.arange(-fmt.max_ordinal, fmt.max_ordinal + 1)))
    drawn = rng.choice(np.concatenate([numbers, np.repeat([0.0, -0.0, np.inf, -np.inf, np.nan], 3)]), size)
    exact = exact_values(fmt, drawn, rng, saturating)
    y = computed_values(exact, rng.choice(numbers, size), rng)
    exact = dataclasses.replace(exact, undecided=rng.random(size) < 0.05)
    cell = rng.integers(0, CELLS, size)
    assert_same(*counted_both_ways(exact, y, np.sort(cell) if ordered else cell, saturating=saturating))


def test_errors_of_any_size_are_summed_bit_for_bit() -> None:
    """From next to nothing to float64's largest number of ulps, in every limb."""
    fmt, n = get_format("e5m2"), 2000
    rng = np.random.default_rng(4)
    y = np.ldexp(rng.uniform(1, 2, n), rng.integers(-60, 1023, n)) * rng.choice([-1, 1], n)
    exact = exact_values(fmt, rng.choice([1.0, -1.0, 2.0**-16, 0.0, 57344.0], n), rng, False)
    one, other = counted_both_ways(exact, y, np.sort(rng.integers(0, CELLS, n)))
    assert_same(one, other)
    assert one.rows[:, columns.SUMS + 33].any() and one.rows[:, columns.AWAY_SUMS + 33].any()


def test_of_equal_errors_the_smallest_pattern_is_kept_whatever_came_before() -> None:
    fmt = get_format("bf16")
    exact = Reference(
        fmt, np.ones(4), np.full(4, 0.25), np.full(4, fmt.ulp(np.ones(1))[0]), np.full(4, 1.001953125),
        np.ones(4, np.int8), np.zeros(4, np.uint8), np.zeros(4, np.bool_),
    )  # fmt: skip
    counts = Counts(columns.empty(1), np.zeros(columns.BINS, np.int64))
    one = np.array([1.0, -1.0, 1.0, -1.0])
    for patterns in ([5, 6, 7, 8], [1, 2, 3, 4], [9, 10, 11, 12]):
        count_values(counts, np.zeros(4, np.int64), fmt, np.array(patterns), one, settled(exact))
    row = counts.rows[0]
    assert row[[columns.MAX_PATTERN, columns.SIGN_PATTERN, columns.WRONG_SIGN]].tolist() == [2, 2, 6]
    assert row[columns.MAX_VALUE : columns.MAX_VALUE + 1].view(np.float64)[0] == -1.0


# -- beside the compiled scorer -------------------------------------------------------------------


def held_to(function: str, output: str, name: str, **options: Any) -> Standard:
    fmt, definition = get_format(name), get_function(function)
    params = definition.check_params({})
    target = every_output_format(fmt, output)
    return Standard(Curve(definition, output, params), cells(fmt, definition, params), target, **options)


def every_output_format(fmt: FloatFormat, output: str) -> FloatFormat:
    from precision_lab.formats import output_format

    return output_format(fmt, output)


def scored(scorer: Any, standard: Standard, bits: np.ndarray, y: np.ndarray) -> Tally:
    x = standard.cells.fmt.decode(bits).astype(np.float32)
    patterns = bits.astype(np.uint64)
    scorer.score(x, [y.astype(np.float32)], standard.cells.runs(patterns), Patterns.of(patterns))
    return scorer.finish()[0]


def moved(exact: Reference, seed: int) -> np.ndarray:
    """Correctly rounded values, a third of them moved, and a few of no use at all."""
    rng = np.random.default_rng(seed)
    y = exact.rounded.copy()
    near = np.isfinite(y) & (rng.random(y.size) < 0.3)
    steps = exact.fmt.ordinal(y[near]) + rng.integers(-3, 4, near.sum())
    y[near] = exact.fmt.from_ordinal(np.clip(steps, -exact.fmt.max_ordinal, exact.fmt.max_ordinal))
    odd = rng.random(y.size) < 0.02
    y[odd] = rng.choice([0.0, -0.0, np.inf, np.nan, -1.0, 1.0], odd.sum())
    return y


def largest(tally: Tally) -> np.ndarray:
    return np.ascontiguousarray(tally.rows[:, columns.MAX_ERROR]).view(np.float64)


INTEGERS = (
    columns.N, columns.VALID, columns.MISROUNDED, columns.WRONG_SIGN, columns.NONFINITE, columns.MONOTONE,
    int(columns.SIGN_PATTERN), int(columns.SIGN_PATTERN) + 1, int(columns.NONFINITE_PATTERN),
    int(columns.NONFINITE_PATTERN) + 1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("function", "output", "name"),
    in_turn([(f.name, output) for f in FUNCTIONS.values() if f.sides for output in f.outputs[:2]], NARROW),
)
def test_the_compiled_scorer_counts_the_same(function: str, output: str, name: str) -> None:
    standard = held_to(function, output, name)
    bits = standard.cells.fmt.all_bits()
    x = standard.cells.fmt.decode(bits)
    exact = standard.reference(x)
    y = moved(exact, 7)
    fast, arrays = (
        scored(Scorer([standard]), standard, bits, y),
        scored(ArrayScorer([standard]), standard, bits, y),
    )
    for column in INTEGERS:
        differ = np.flatnonzero(fast.rows[:, column] != arrays.rows[:, column])
        assert differ.tolist() == [], (column, differ)
    assert np.all(np.abs(largest(fast) - largest(arrays)) <= 2.0**-10 + 2.0**-40 * largest(fast))
    # An error at the edge of a bin may lie on either side of it, as certain as it is.
    errors = np.abs(metrics.ulp_error(y, exact)[~np.isnan(x)])
    errors = np.sort(errors[np.isfinite(errors)])
    edge = np.array([columns.bin_edge(i) for i in range(columns.BINS - 1)])
    slack = 2.0**-10 + 2.0**-22 * edge
    near = np.searchsorted(errors, edge + slack) - np.searchsorted(errors, edge - slack)
    apart = np.abs(np.cumsum(fast.histogram - arrays.histogram)[:-1])
    assert np.all(apart <= near) and fast.histogram.sum() == arrays.histogram.sum()
    assert (fast.near == arrays.near).all() and fast.undecided.size == arrays.undecided.size == 0
    assert arrays.tiers.sum() == bits.size and arrays.tiers[0] == fast.tiers[0]


@pytest.mark.parametrize(
    ("function", "output", "name"), [("xielu", "forward", "bf16"), ("elu", "grad_x", "fp16")]
)
def test_the_scorer_adds_what_value_by_value_is_added(function: str, output: str, name: str) -> None:
    """Every column of every row but the count of moves, which no single value has."""
    standard = held_to(function, output, name)
    bits = standard.cells.fmt.all_bits()
    x = standard.cells.fmt.decode(bits)
    exact = standard.reference(x)
    y = moved(exact, 3)
    y[x == 0] = -0.0
    y[np.isnan(x)] = np.nan
    tally = scored(ArrayScorer([standard]), standard, bits, y)
    number = ~np.isnan(x)
    runs = standard.cells.runs(bits.astype(np.uint64))
    cell = np.repeat(runs[:, 2], runs[:, 1] - runs[:, 0])
    of_nan, cell = 2 * cell[~number], cell[number]
    sign = exact.sign.copy()
    if output == "forward":
        sign[x == 0] = np.where(np.signbit(x[x == 0]), -1, 1)
    true = settled(dataclasses.replace(exact, sign=sign))
    chosen = type(true)(*(field[number] for field in true))
    counts = Counts(columns.empty(standard.cells.starts.size), np.zeros(columns.BINS, np.int64))
    score_many(
        counts, cell, format_row(standard.fmt, False), bits[number].astype(np.int64), y[number], chosen,
        exact.undecided[number],
    )  # fmt: skip
    # NaN of NaN is as right as can be.
    np.add.at(counts.rows[:, columns.N], of_nan, 1)
    np.add.at(counts.rows[:, columns.BITS], of_nan, int(standard.fmt.precision * columns.BITS_SCALE))
    tally.rows[:, columns.MONOTONE] = 0
    assert np.argwhere(counts.rows != tally.rows).tolist() == []
    assert (counts.histogram == tally.histogram).all()
    assert tally.rows[:, columns.ZERO_SIGN].sum() >= (output == "forward")


def test_what_comes_of_nan_is_a_mismatch_of_forward_alone() -> None:
    for output, wrong in (("forward", 3), ("grad_x", 0)):
        standard = held_to("silu", output, "bf16")
        bits = np.array([0x7F81, 0x7FC0, 0x7FC1, 0x7FC2], np.uint16)
        tally = scored(ArrayScorer([standard]), standard, bits, np.array([1.0, np.inf, np.nan, 0.0]))
        total = tally.rows.sum(axis=0)
        assert total[[columns.N, columns.MISROUNDED, columns.NONFINITE, columns.VALID]].tolist() == [
            4, wrong, wrong, 0,
        ]  # fmt: skip
        first = tally.rows[:, columns.NONFINITE_PATTERN].min()
        assert first == (0x7F81 if wrong else columns.NO_PATTERN)
        assert total[columns.BITS] == 4 * 8 * columns.BITS_SCALE and tally.tiers.tolist() == [4, 0, 0, 0]


class Doubtful(Standard):
    """Of some inputs nothing is certain."""

    def reference(self, x: Any) -> Reference:
        exact = super().reference(x)
        undecided = np.abs(x) == 2.0
        exact.exact[undecided] = 0.0  # as an oracle leaves it that found nothing
        return dataclasses.replace(exact, undecided=undecided)


def test_undecided_inputs_are_listed_and_in_no_count() -> None:
    given = held_to("silu", "forward", "bf16")
    standard = Doubtful(given.curve, given.cells, given.fmt)
    bits = given.cells.fmt.all_bits()
    x = given.cells.fmt.decode(bits)
    y = reference("silu", "forward", None, x, "bf16").rounded
    tally = scored(ArrayScorer([standard]), standard, bits, y)
    assert sorted(tally.undecided.tolist()) == bits[np.abs(x) == 2.0].tolist() == [0x4000, 0xC000]
    assert tally.rows[:, columns.N].sum() == 65534 and tally.rows[:, columns.MONOTONE].sum() == 0


def test_a_step_from_one_sign_of_x_to_the_other_is_no_move() -> None:
    """1 and −1 are neighbours in a chunk of these two; SiLU falls from one to the other and y rises."""
    standard = held_to("silu", "forward", "bf16")
    for bits, moves in (([0x3F80, 0xBF80], 0), ([0xBF80, 0xBFC0], 1), ([0x3F80, 0x4000], 1)):
        y = np.array([0.0, 1.0]) if bits[1] >= 0x8000 else np.array([1.0, 0.0])
        tally = scored(ArrayScorer([standard]), standard, np.array(bits, np.uint16), y)
        assert tally.rows[:, columns.MONOTONE].sum() == moves, bits


def test_chunks_and_their_edges_make_up_the_whole() -> None:
    standard = held_to("gelu", "forward", "fp16")
    bits = standard.cells.fmt.all_bits()
    y = moved(standard.reference(standard.cells.fmt.decode(bits)), 5)
    blank = measure("torch", "gelu", fmt="bf16")
    whole = scored(ArrayScorer([standard]), standard, bits, y)
    parts = Tally.empty(standard.cells.starts.size)
    for start in range(0, bits.size, 1 << 12):
        here = slice(start, start + (1 << 12))
        parts.merge(scored(ArrayScorer([standard], edges=True), standard, bits[here], y[here]))
    between = finish(blank, standard, parts).monotonicity_violations
    assert between == finish(blank, standard, whole).monotonicity_violations > 1000
    assert between > parts.rows[:, columns.MONOTONE].sum()  # some lie between chunks
    parts.rows[:, columns.MONOTONE] = whole.rows[:, columns.MONOTONE]
    assert (parts.rows == whole.rows).all() and (parts.near == whole.near).all()


@given(
    values=st.lists(
        st.tuples(*[st.floats(width=32), st.floats(-1e30, 1e30), st.sampled_from([0.0, 1e-9, 1e-3, 1.0])]),
        min_size=2,
        max_size=30,
    ),
    name=st.sampled_from(["bf16", "fp16", "fp32", "e4m3"]),
)
def test_moves_between_chunks_are_judged_as_inside(values: list[Any], name: str) -> None:
    fmt = get_format(name)
    y, s, b = (np.array(v) for v in zip(*values, strict=True))
    edges = np.column_stack([np.arange(y.size), *(columns.values_bits(v) for v in (y, s, b))])
    row = format_row(fmt, False)
    one_by_one = [
        moves_against(y[i], s[i], b[i], y[i + 1], s[i + 1], b[i + 1], row) for i in range(y.size - 1)
    ]
    assert _moves_between_chunks(edges, fmt, 1 << 20) == sum(one_by_one)
    assert _moves_between_chunks(edges[::-1], fmt, 1) == 0  # every pattern begins a sign of its own


def test_wider_formats_are_refused() -> None:
    with pytest.raises(UsageError, match="format 'fp32' has 32 bits: at most 16"):
        ArrayScorer([held_to("silu", "forward", "fp32")])


def test_a_thread_that_flushes_is_refused() -> None:
    standard = held_to("silu", "forward", "e4m3")
    bits = standard.cells.fmt.all_bits()
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormals")
    try:
        with pytest.raises(EnvironmentAltersResultsError, match="flushes subnormal outputs and inputs"):
            scored(ArrayScorer([standard]), standard, bits, np.zeros(bits.size))
    finally:
        torch.set_flush_denormal(False)


# -- which scorer, and what it loads --------------------------------------------------------------


@pytest.mark.usefixtures("certified")
def test_what_is_certified_input_by_input_is_scored_by_arrays() -> None:
    plain, certified = (held_to("silu", "forward", "bf16", certified=c) for c in (False, True))
    assert isinstance(scorer_for([plain]), Scorer) and isinstance(scorer_for([certified]), ArrayScorer)
    assert isinstance(scorer_for([certified, plain]), Scorer)


def test_functions_of_users_files_are_certified_in_narrow_formats() -> None:
    own, bf16 = get_function("silu"), get_format("bf16")
    assert not is_certified(own, bf16, bf16)
    assert not is_certified(replace(own, name="mine"), bf16, bf16)
    mine = replace(own, home="mine.py:silu")
    answers = {name: is_certified(mine, get_format(name), bf16) for name in ("fp16", "fp32")}
    assert answers == {"fp16": True, "fp32": False}
    assert not is_certified(mine, bf16, get_format("fp32"))


@pytest.fixture
def certified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standard, "certified_reference", slow_oracle.certified_reference)
    monkeypatch.setattr(every_input, "is_certified", lambda *_: True)


@pytest.mark.parametrize(
    ("function", "kernel", "output", "fmt"),
    [
        ("xielu", "naive", "forward", "bf16"),
        ("xielu", "naive [upcast]", "grad_alpha_p", "e5m2"),
        ("gelu", "torch [upcast]", "grad_x", "e4m3"),
        ("silu", "torch", "grad_x", "fp16"),
    ],
)
def test_a_measurement_is_the_same_either_way(
    function: str, kernel: str, output: str, fmt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the ladder's own exact values: those of another oracle may round otherwise in the last bit."""
    compiled = measure(kernel, function, fmt=fmt, output=output)
    monkeypatch.setattr(standard, "certified_reference", reference)
    monkeypatch.setattr(every_input, "is_certified", lambda *_: True)
    arrays = measure(kernel, function, fmt=fmt, output=output)
    assert arrays.escalated["float64"] == 0 < compiled.escalated["float64"]
    for name in (
        "not_correctly_rounded", "wrong_sign", "nonfinite_mismatch", "undecided", "jump_at_zero",
        "monotonicity_violations", "n_inputs", "inexact",
    ):  # fmt: skip
        assert getattr(arrays, name) == getattr(compiled, name), name
    assert arrays.max_ulp == pytest.approx(compiled.max_ulp, abs=2.0**-10)
    assert arrays.mean_ulp == pytest.approx(compiled.mean_ulp, abs=2.0**-10)
    assert arrays.witness.bits == compiled.witness.bits
    assert {r: s.n_inputs for r, s in arrays.regions.items()} == {
        r: s.n_inputs for r, s in compiled.regions.items()
    }


FRESH = """
import sys
import slow_oracle
import torch
from precision_lab.measuring import every_input
from precision_lab.scoring import standard
import precision_lab as pl

standard.certified_reference = slow_oracle.certified_reference
every_input.is_certified = lambda *_: {certified}
found = pl.measure(torch.nn.functional.silu, "silu", fmt="bf16", output="forward", inputs="{inputs}")
assert found.n_inputs > 500 and found.undecided == 0, found
print("loaded:", *sorted({{"numba", "llvmlite"}} & set(sys.modules)))
"""


def loaded(certified: bool) -> list[str]:
    code = FRESH.format(certified=certified, inputs="exhaustive" if certified else "stratified:1")
    helpers = Path(slow_oracle.__file__).parent
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(helpers)!r})\n{code}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()[-1].removeprefix("loaded:").split()


def test_a_narrow_formats_measurement_loads_no_compiler() -> None:
    assert loaded(certified=True) == []


def test_the_compiled_scorers_compiler_is_seen() -> None:
    assert {"numba", "llvmlite"} <= set(loaded(certified=False))
