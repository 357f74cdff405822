"""What counts become: quantiles against sorted errors and numpy's, regions and binades input by input."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from answers import tensor_of
from by_name import regions
from test_scoring import computed

from precision_lab.formats import get_format
from precision_lab.functions import get_function
from precision_lab.measuring.measure import measure
from precision_lab.oracle import Reference, reference
from precision_lab.results import Measurement, Statistics
from precision_lab.scoring import columns
from precision_lab.scoring import errors as metrics
from precision_lab.scoring.statistics import QUANTILES, _quantiles


def histogram_of(errors: np.ndarray) -> np.ndarray:
    """By the edges alone: the first bin whose upper edge is beyond the error."""
    edges = np.array([columns.bin_edge(k) for k in range(columns.BINS - 1)])
    index = np.searchsorted(edges, errors, side="right")
    return np.bincount(index, minlength=columns.BINS).astype(np.int64)


@pytest.mark.parametrize("n", [1, 2, 7, 10, 100, 999, 1000, 1001, 65536])
@pytest.mark.parametrize("spread", [0.5, 3.0, 40.0])
def test_quantiles_are_sorted_errors_rounded_up_to_a_bin(n: int, spread: float) -> None:
    rng = np.random.default_rng(n)
    errors = np.exp2(rng.normal(0, spread, n).clip(-11, 115)).astype(np.float32).astype(np.float64)
    found = _quantiles(histogram_of(errors), float(errors.max()))
    for name in QUANTILES:
        true = np.sort(errors)[math.ceil(Fraction(name) * n) - 1]
        assert true <= found[name] <= true * (1 + 2.0**-5), name


@pytest.mark.parametrize("n", [4, 10, 99, 4096])
def test_quantiles_are_numpys(n: int) -> None:
    """Of errors that are edges of bins, so that a bin's upper edge is the next power of 2^(1/32) or so."""
    errors = np.random.default_rng(n).permutation(np.ldexp(1.0, np.arange(n) % 40 - 5))
    found = _quantiles(histogram_of(errors), float(errors.max()))
    for name in ("0.5", "0.9", "0.99"):
        true = np.quantile(errors, float(name), method="inverted_cdf")
        assert true <= found[name] <= true * (1 + 2.0**-5), name


def test_the_rank_is_the_least_that_reaches_the_share() -> None:
    """Of 1000 errors, 999 are 99.9 %."""
    for n, least in ((1000, 999), (10, 10), (2000, 1998), (2001, 1999)):
        errors = np.full(n, 64.0)
        errors[:least] = 2.0**-3
        assert _quantiles(histogram_of(errors), 64.0)["0.999"] < 0.25
        errors[least - 1] = 64.0
        assert _quantiles(histogram_of(errors), 64.0)["0.999"] == 64.0


def test_a_quantile_beyond_the_histogram_is_the_maximum() -> None:
    """All errors above 2^116 ulps are in one bin, which has no upper edge."""
    errors = np.array([1.0, 2.0**117, 2.0**120, 2.0**130])
    found = _quantiles(histogram_of(errors), 2.0**130)
    assert found["0.5"] == found["0.9"] == 2.0**130
    # Where every error is that large too, and never the bin's edge.
    found = _quantiles(histogram_of(errors[1:]), 2.0**130)
    assert set(found.values()) == {2.0**130}
    assert _quantiles(np.zeros(columns.BINS, np.int64), 0.0) == dict.fromkeys(QUANTILES, 0.0)


def test_a_bin_ends_where_the_next_begins() -> None:
    for index in (0, 1, 31, 32, 1000, columns.BINS - 2):
        edge = np.float32(columns.bin_edge(index))
        below = np.nextafter(edge, np.float32(0))

        def bin_of(value: np.float32) -> int:
            return (int(value.view(np.int32)) >> columns.BIN_SHIFT) - columns.BIN_BASE

        assert (bin_of(below), bin_of(edge)) == (index, index + 1)


# -- regions, binades and witnesses ----------------------------------------------------------------


class Planted:
    """Faults of every kind in xIELU of bf16: what was measured, and what it was measured from."""

    def __init__(self) -> None:
        fmt = get_format("bf16")
        self.x = fmt.decode(fmt.all_bits())
        self.params = {
            k: float(fmt.round(np.array([v]))[0]) for k, v in get_function("xielu").check_params().items()
        }
        self.exact: Reference = reference("xielu", "forward", self.params, self.x, fmt)
        self.y = computed(self.exact, 11)
        self.measured: Measurement = measure(lambda x, **_: tensor_of(self.y, fmt), "xielu", fmt="bf16")
        self.error = metrics.ulp_error(self.y, self.exact)
        self.small = (self.exact.exact != 0) & (np.abs(self.exact.exact) < fmt.min_normal)


@pytest.fixture(scope="module")
def planted() -> Planted:
    return Planted()


def check(found: Statistics, p: Planted, chosen: np.ndarray) -> None:
    """Each figure from the definitions in `metrics`, over the inputs chosen."""
    error = p.error[chosen & ~np.isnan(p.error)]
    bits = metrics.correct_bits(p.error, p.exact)[chosen]
    assert found.n_inputs == np.count_nonzero(chosen)
    assert found.max_ulp == pytest.approx(np.abs(error).max(initial=0.0), abs=2.0**-10, rel=2.0**-40)
    mean = np.abs(error).mean() if error.size else 0.0
    assert found.mean_ulp == pytest.approx(mean, abs=2.0**-10, rel=2.0**-40)
    for name in ("not_correctly_rounded", "wrong_sign"):
        assert getattr(found, name) == np.count_nonzero(getattr(metrics, name)(p.y, p.exact)[chosen]), name
    wrong = metrics.nonfinite_mismatch(p.y, p.exact)[chosen]
    assert found.nonfinite_mismatch == np.count_nonzero(wrong)
    assert found.min_correct_bits == pytest.approx(bits.min(), abs=2.0**-10)
    assert found.mean_correct_bits == pytest.approx(bits.mean(), abs=2.0**-10)


def test_every_region_has_the_figures_of_its_inputs_and_no_input_is_in_two(planted: Planted) -> None:
    p, found = planted, planted.measured.regions
    names, index = regions(p.x, "bf16", "xielu", p.params)
    masks = {name: (index == i) & ~p.small for i, name in enumerate(names)}
    masks["subnormal_result"] = p.small
    assert set(found) == {name for name, mask in masks.items() if mask.any()}
    for name, statistics in found.items():
        check(statistics, p, masks[name])
    assert sum(statistics.n_inputs for statistics in found.values()) == 65536


def test_every_binade_has_the_figures_of_its_inputs(planted: Planted) -> None:
    p = planted
    finite = np.isfinite(p.x) & (p.x != 0)
    exponent = np.frexp(np.where(finite, p.x, 1.0))[1] - 1
    for binade in p.measured.binades:
        check(binade.statistics, p, finite & (np.sign(p.x) == binade.sign) & (exponent == binade.exponent))
    assert sum(b.statistics.n_inputs for b in p.measured.binades) == np.count_nonzero(finite)
    places = [(b.sign, b.sign * b.exponent) for b in p.measured.binades]
    assert places == sorted(set(places))


def test_the_whole_has_the_figures_of_all_inputs(planted: Planted) -> None:
    p, m = planted, planted.measured
    whole = Statistics(
        m.n_inputs, m.max_ulp, m.mean_ulp, m.not_correctly_rounded, m.wrong_sign, m.nonfinite_mismatch,
        min(r.min_correct_bits for r in m.regions.values()),
        float(metrics.correct_bits(p.error, p.exact).mean()), None,
    )  # fmt: skip
    check(whole, p, np.ones(65536, bool))
    assert m.zero_sign_mismatch == np.count_nonzero(metrics.zero_sign_mismatch(p.y, p.exact, p.x, "forward"))


def test_a_witness_is_the_flagged_input_of_smallest_magnitude(planted: Planted) -> None:
    """Not that of the smallest pattern, which every positive number has before any negative one."""
    p, m = planted, planted.measured
    for witness, flagged in (
        (m.sign_witness, metrics.wrong_sign(p.y, p.exact)),
        (m.nonfinite_witness, metrics.nonfinite_mismatch(p.y, p.exact) & ~np.isnan(p.x)),
    ):
        assert witness is not None
        assert abs(witness.x) == np.abs(p.x[flagged]).min()
        assert flagged[int(witness.bits, 16)]


def test_of_equal_errors_the_witness_is_that_of_the_smallest_pattern() -> None:
    """One ulp too much at 2, 4 and 8."""
    import torch

    def kernel(x: torch.Tensor) -> torch.Tensor:
        off = (x == 2) | (x == 4) | (x == 8)
        return torch.where(off, x * (1 + 2.0**-7), torch.relu(x))

    m = measure(kernel, "relu", fmt="bf16")
    assert m.witness is not None and (m.witness.x, m.max_ulp) == (2.0, 1.0)


@pytest.mark.parametrize("backwards", [False, True])
def test_of_equal_errors_in_one_binade_it_is_so_too(backwards: bool) -> None:
    """Farther apart than what is scored at once."""
    import torch

    x = 1 + np.arange(4096) / 4096

    def kernel(x: torch.Tensor) -> torch.Tensor:
        return torch.where((x == 1.25) | (x == 1.75), x + 2.0**-23, x)

    m = measure(kernel, "relu", fmt="fp32", inputs=x[::-1] if backwards else x)
    assert m.witness is not None and (m.witness.x, m.max_ulp) == (1.25, 1.0)


def test_results_on_either_side_of_the_smallest_normal_number_are_told_apart() -> None:
    """3x/4 is below it for some x of a binade, and above for the others."""
    import torch

    fmt = get_format("bf16")
    x = fmt.decode(fmt.all_bits())
    small = (np.abs(np.where(x < 0, 0.75 * x, x)) < fmt.min_normal) & (x != 0)

    def kernel(x: torch.Tensor, *, alpha: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x, (0.75 * x.double()).bfloat16())

    m = measure(kernel, "prelu", fmt="bf16", params={"alpha": 0.75})
    assert m.regions["subnormal_result"].n_inputs == np.count_nonzero(small)


def test_the_smallest_normal_number_is_no_subnormal_result() -> None:
    """Of fp64, whose results are scored one by one, and of the others."""
    import torch

    for name in ("fp64", "fp32", "bf16"):
        smallest = get_format(name).min_normal
        m = measure(torch.relu, "relu", fmt=name, inputs=np.array([smallest, smallest / 2, smallest / 4]))
        assert m.regions["subnormal_result"].n_inputs == 2


def test_the_witness_of_a_sign_is_nearer_to_0_than_one_of_a_smaller_pattern() -> None:
    import torch

    def kernel(x: torch.Tensor) -> torch.Tensor:
        y = torch.where((x == 4) | (x == -1) | (x == -8), -x, x)
        return torch.where((x == 16) | (x == -2), torch.nan, y)

    def identity(x: torch.Tensor, *, alpha: torch.Tensor) -> torch.Tensor:
        return kernel(x)

    m = measure(identity, "prelu", fmt="bf16", params={"alpha": 1.0})
    assert m.sign_witness is not None and m.nonfinite_witness is not None
    assert (m.wrong_sign, m.sign_witness.x, m.sign_witness.bits) == (3, -1.0, "0xbf80")
    assert (m.nonfinite_mismatch, m.nonfinite_witness.x) == (2, -2.0)
