"""A rounding that leans to one side is named, and a right one is not, however many ulps are allowed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from answers import bits_of, correctly_rounded, tensor_of
from by_name import cells, stratified

from precision_lab.formats import get_format
from precision_lab.functions import get_function
from precision_lab.measuring.measure import measure
from precision_lab.oracle import reference
from precision_lab.results import Measurement
from precision_lab.scoring import columns
from precision_lab.scoring.bias import ORDINARY, judged_rows, signed_statistics
from precision_lab.verifying.bounds import Bound, lean_limit, leaning
from precision_lab.verifying.judge import judge
from precision_lab.verifying.verify import verify

torch = pytest.importorskip("torch")

FORMATS = ("bf16", "fp16", "fp32")
# Where the exact value lies between two numbers, which of them: by the sign of exact − rounded and of exact.
DIRECTED: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "toward zero": lambda tail, sign: np.where(tail * sign < 0, -sign, 0),
    "away from zero": lambda tail, sign: np.where(tail * sign > 0, sign, 0),
    "down": lambda tail, sign: np.where(tail < 0, -1, 0),
    "up": lambda tail, sign: np.where(tail > 0, 1, 0),
}


def rounded(direction: str, function: str, fmt_name: str, output: str = "forward") -> Any:
    """A kernel that rounds the exact value in a direction."""
    fmt = get_format(fmt_name)
    params = get_function(function).check_params({})

    def kernel(x: Any, **_: Any) -> Any:
        exact = reference(function, output, params, fmt.decode(bits_of(x, fmt)), fmt)
        values, sign = exact.rounded.copy(), np.sign(exact.exact)
        moves = np.isfinite(values) & (exact.tail != 0)
        if direction == "stochastic":
            share = np.abs(exact.tail)
            steps = np.sign(exact.tail) * (np.random.default_rng(5).random(values.size) < share)
        else:
            steps = DIRECTED[direction](exact.tail, sign)
        chosen = moves & (steps != 0)
        moved = fmt.ordinal(values[chosen]) + steps[chosen].astype(np.int64)
        values[chosen] = fmt.from_ordinal(np.clip(moved, -fmt.max_ordinal, fmt.max_ordinal))
        return tensor_of(values, fmt)

    return kernel


def kinds(m: Measurement, bound: Bound) -> set[str]:
    return {fault.kind for fault in judge(m, bound)}


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("direction", DIRECTED)
@pytest.mark.parametrize("function", ["silu", "gelu", "softplus", "mish"])
def test_directed_roundings_are_named(function: str, direction: str, fmt: str) -> None:
    m = measure(rounded(direction, function, fmt), function, fmt=fmt)
    assert m.max_ulp <= 1
    assert kinds(m, Bound(1.0)) == {"biased"}
    assert kinds(m, Bound(50.0)) == {"biased"}
    assert kinds(m, Bound(1.0, biased=True)) == set()
    expected = {
        "toward zero": (-0.5, -0.5),
        "away from zero": (0.5, 0.5),
        "down": (-0.5, 0.5),
        "up": (0.5, -0.5),
    }
    seen = (m.lean_positive, m.lean_negative)
    assert all(s in (None, e) for s, e in zip(seen, expected[direction], strict=True))
    # The mean says so too, where it does not cancel.
    assert m.mean_signed_ulp is not None and m.nearest_signed_ulp is not None
    if "zero" in direction:
        off = m.mean_signed_ulp - m.nearest_signed_ulp
        assert np.sign(off) == np.sign(expected[direction][0])
        assert m.signed_ulp_error is not None and abs(off) > 4 * m.signed_ulp_error


@pytest.mark.parametrize("fmt", FORMATS)
@pytest.mark.parametrize("function", ["silu", "gelu", "relu", "relu2", "softplus"])
def test_right_kernels_are_not(function: str, fmt: str) -> None:
    for kernel in (correctly_rounded(fmt, function), rounded("stochastic", function, fmt)):
        m = measure(kernel, function, fmt=fmt)
        assert kinds(m, Bound(1.0)) == set()
        assert leaning(m) is None
    if function == "relu":  # exact: nothing is rounded
        assert (m.inexact, m.lean, m.mean_signed_ulp) == (0, None, 0.0)


def test_a_correct_rounding_has_the_nearest_rounding_s_own_bias() -> None:
    m = measure(correctly_rounded("bf16", "silu"), "silu", fmt="bf16")
    assert m.lean == 0
    assert m.mean_signed_ulp == pytest.approx(m.nearest_signed_ulp, abs=2.0**-20)
    assert m.mean_signed_relative == pytest.approx(m.nearest_signed_relative, abs=2.0**-24)
    assert m.normal_bias is not None
    assert m.normal_bias[0] == pytest.approx(m.normal_bias[1], abs=2.0**-24)


def truncating(x: Any) -> Any:
    """SiLU computed in float32 and cast to bf16 by dropping sixteen bits, as some kernels do."""
    wide = x.double()
    y = torch.where(x == -torch.inf, torch.tensor(-0.0, dtype=torch.float64), wide / (1 + torch.exp(-wide)))
    return (y.float().view(torch.int32) & -65536).view(torch.float32).to(torch.bfloat16)


def test_a_cast_that_drops_bits_fails_at_one_ulp_by_name() -> None:
    verdict = verify(truncating, "silu", fmts=("bf16",), outputs=("forward",), max_ulp=1, properties=False)
    assert [fault.kind for fault in verdict.faults] == ["biased"]
    (message,) = verdict.failures
    assert "results lean toward zero: lean -0.50 over" in message
    assert "limit ±0.45 (rounding to nearest has 0, truncation −0.50)" in message
    assert "Replay: precision-lab explain silu --bits 0x" in message


def test_the_bias_of_normal_inputs_is_that_of_every_input_weighed() -> None:
    """−0.286 % for the cast above; cells weigh a binade's inputs alike, which moves it by a few per mille."""
    from math import erf, sqrt

    fmt = get_format("bf16")
    m = measure(truncating, "silu", fmt="bf16")
    assert m.normal_bias is not None
    x = fmt.decode(fmt.all_bits())
    x = np.sort(x[np.isfinite(x) & (x != 0)])
    y = truncating(torch.from_numpy(x).to(torch.bfloat16)).double().numpy()
    exact = reference("silu", "forward", {}, x, fmt)
    # Each input stands for the numbers that round to it.
    edges = np.concatenate([[-np.inf], (x[1:] + x[:-1]) / 2, [np.inf]])
    mass = np.diff([0.5 * (1 + erf(e / sqrt(2))) for e in edges])
    relative = np.divide(y - exact.exact, exact.exact)
    nearest = np.divide(exact.rounded - exact.exact, exact.exact)
    assert (mass * relative).sum() == pytest.approx(-0.00286, abs=2e-5)
    assert m.normal_bias[0] == pytest.approx((mass * relative).sum(), abs=3e-5)
    assert m.normal_bias[1] == pytest.approx((mass * nearest).sum(), abs=3e-5)


def test_where_too_little_of_the_normal_distribution_is_measured_there_is_no_bias() -> None:
    m = measure("torch", "silu", fmt="bf16", inputs=np.array([1.0, 1.5]))
    assert m.normal_bias is None


def test_a_grossly_wrong_kernel_is_named_for_that_and_not_for_bias() -> None:
    m = measure(lambda x, **_: torch.nn.functional.silu(x) * 1.5, "silu", fmt="bf16")
    assert "inaccurate" in kinds(m, Bound(1.0)) or "flushes_subnormals" in kinds(m, Bound(1.0))
    assert "biased" not in kinds(m, Bound(1.0))


def test_formats_and_samples_too_small_to_tell_are_not_judged() -> None:
    assert lean_limit(10**9, get_format("e4m3").precision) == np.inf
    assert lean_limit(85, 24) == np.inf
    assert lean_limit(0, 24) == np.inf
    assert lean_limit(86, 24) < 0.5
    # More inputs than a binade has significands are no more evidence.
    assert lean_limit(10**9, 8) == lean_limit(128, 8) < 0.5


def test_the_lean_is_half_the_difference_of_two_shares() -> None:
    """From the definition, input by input, on a kernel that is one step too large for some inputs."""
    fmt = get_format("fp16")
    x = fmt.decode(fmt.all_bits())
    exact = reference("silu", "forward", {}, x, fmt)

    def kernel(x: Any, **_: Any) -> Any:
        values = exact.rounded.copy()
        chosen = np.isfinite(values) & (np.arange(values.size) % 3 == 0)
        values[chosen] = fmt.from_ordinal(
            np.clip(fmt.ordinal(values[chosen]) + 1, -fmt.max_ordinal, fmt.max_ordinal)
        )
        return tensor_of(values, fmt)

    m = measure(kernel, "silu", fmt="fp16")
    y = fmt.decode(bits_of(kernel(None), fmt))
    with np.errstate(invalid="ignore"):
        error = (y - exact.rounded) / exact.ulp - exact.tail
    low, high = ORDINARY
    counts = (np.abs(x) >= 2.0**low) & (np.abs(x) < 2.0**high) & (np.abs(exact.tail) > 2.0**-10)
    counts &= np.abs(error) < 1 - 2.0**-11
    away = -exact.tail * exact.sign > 0
    shares = []
    for due, sign in ((~away, 1), (away, -1)):
        wrong = counts & due & (y != exact.rounded) & (np.sign(error * exact.sign) == sign)
        shares.append(np.count_nonzero(wrong) / np.count_nonzero(counts & due))
    # Binades where correct roundings go one way only are left out of the measurement's.
    assert m.lean == pytest.approx((shares[0] - shares[1]) / 2, abs=0.02)
    assert 0 < m.inexact <= np.count_nonzero(counts)


def rows_of(*counts: tuple[tuple[int, int, int, int], tuple[int, int, int, int]]) -> np.ndarray:
    """A row per cell: inexact, nearest away, away and toward, of positive and of negative exact values."""
    rows = np.zeros((len(counts), columns.COLUMNS), np.int64)
    rows[:, columns.INEXACT :] = np.array(counts).reshape(len(counts), -1)
    return rows


def test_the_lean_is_of_the_shares_that_the_definition_names() -> None:
    """Of 70 due toward zero 35 went away, of 30 due away 6 went toward: (1/2 − 1/5)/2."""
    rows = rows_of(
        ((100, 30, 35, 6), (40, 20, 0, 10)),
        ((100, 24, 76, 0), (100, 76, 0, 24)),  # fewer than one in four one way: not counted
    )
    found = signed_statistics(rows, rows, rows, 8)
    assert (found["inexact"], found["inexact_positive"], found["inexact_negative"]) == (140, 100, 40)
    assert found["lean_positive"] == pytest.approx(0.15)
    assert found["lean_negative"] == pytest.approx(-0.25)
    assert found["lean"] == pytest.approx((35 / 90 - 16 / 50) / 2)


def test_means_and_standard_errors_are_those_of_the_errors_summed() -> None:
    """Four results 1, 1, 1 and −1 ulp away from zero, of values of 2^7 ulps, as 1 has in bf16."""
    unit, share = 2**columns.SUM_BITS, 2 ** int(columns.relative_bits(8)) >> 7
    rows = np.zeros((1, columns.COLUMNS), np.int64)
    rows[0, [columns.N, columns.VALID]] = 4
    rows[0, columns.SUMS], rows[0, columns.AWAY_SUMS] = 4 * unit, 3 * unit
    rows[0, columns.SQUARES], rows[0, columns.NEAREST] = 4 * unit, unit
    rows[0, columns.RELATIVE], rows[0, columns.NEAREST_RELATIVE] = 2 * share, share
    rows[0, columns.RELATIVE_SQUARES] = 4 * 4 * unit  # each 2^-7, that is 2 units of 2^-8
    found = signed_statistics(rows, rows, rows, 8)
    assert (found["mean_signed_ulp"], found["nearest_signed_ulp"]) == (0.5, 0.25)
    assert found["signed_ulp_error"] == pytest.approx((3 / 4 / 4) ** 0.5)
    assert (found["mean_signed_relative"], found["nearest_signed_relative"]) == (2.0**-8, 2.0**-9)
    assert found["signed_relative_error"] == pytest.approx((3 / 4 / 4) ** 0.5 * 2.0**-7)


def test_roundings_count_for_inputs_of_ordinary_size_alone() -> None:
    found = cells("bf16", "silu", {})
    judged = judged_rows(found).reshape(-1, 2)
    ordinary = (found.sign != 0) & (found.exponent >= -8) & (found.exponent <= 7)
    assert np.array_equal(judged, np.stack([ordinary, ordinary], axis=1))
    assert 0 < ordinary.sum() < ordinary.size


def test_stratified_inputs_of_fp32_suffice() -> None:
    bits = stratified("fp32", "silu", {})
    m = measure(rounded("toward zero", "silu", "fp32"), "silu", fmt="fp32")
    assert m.n_inputs == bits.size
    assert m.inexact > 500


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_mean_beyond_float64_is_infinite(sign: int) -> None:
    """Sums are integers of any size: where all errors count as float64's largest, the mean may pass it."""
    huge = 1.7e308
    m = measure(lambda x: torch.full_like(x, huge).copysign(sign * x), "silu", fmt="fp64")
    assert sign * np.inf in {s.mean_signed_ulp for s in m.regions.values()}
    assert Measurement.from_json(m.to_json()) == m
    assert "inaccurate" in kinds(m, Bound(1.0))
