"""Exact f(x) against what recipes let through, and the measures of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from precision_lab.formats import E4M3, E5M2
from precision_lab.functions import RELU2, SILU, SWIGLU, XIELU, get_function
from precision_lab.implementations.subject import implementation_of
from precision_lab.lowprecision.readiness.distributions import DISTRIBUTIONS, modelled
from precision_lab.lowprecision.readiness.passage import forward_passage, gradient_passage
from precision_lab.lowprecision.readiness.quality import quality
from precision_lab.lowprecision.readiness.values import exact_table
from precision_lab.lowprecision.recipes.recipes import RECIPES
from precision_lab.oracle import evaluate

PATHS = ("fused", "unfused", "fp8-in")


def measured(exact, stored, clipped=None, elements=None, binades=18.0):
    exact, stored = np.asarray(exact, float), np.asarray(stored, float)
    clipped = np.zeros(exact.shape, bool) if clipped is None else np.asarray(clipped)
    return quality(exact, stored, stored if elements is None else np.asarray(elements), clipped, binades)


def test_each_share_is_what_it_says() -> None:
    q = measured([1.0, -2.0, 0.5, 0.0, 8.0, np.nan], [1.0, 2.0, 0.0, 0.0, 4.0, 0.0], [0, 0, 0, 0, 1, 0])
    assert (q.n, q.not_finite, q.amax) == (5, 1, 8.0)
    assert q.underflow == 1 / 4
    assert q.signs_lost == 2 / 4
    assert q.overflow == 1 / 5
    assert q.binades == 4.0
    power, noise = 1 + 4 + 0.25 + 64, 16 + 0.25 + 16
    assert q.sqnr_db == pytest.approx(10 * math.log10(power / noise), rel=1e-15)
    assert q.mean_bias == pytest.approx((4 - 0.5 - 4) / 5 / math.sqrt(power / 5), rel=1e-15)


def test_bits_and_edges() -> None:
    x = np.linspace(-1, 1, 4097)
    # A uniform quantiser of b bits: 6.02·b dB for a full-scale uniform signal, 1.76 less than for a sine.
    b = 8
    stored = np.round(x * 2 ** (b - 1)) / 2 ** (b - 1)
    assert measured(x, stored).effective_bits == pytest.approx(b - 1.76 / 6.02, abs=0.02)
    assert measured(x, x).sqnr_db == math.inf
    assert measured([1.0], [np.inf]).sqnr_db == -math.inf
    assert measured([1.0], [np.nan]).overflow == 1.0
    assert math.isnan(measured([np.nan], [0.0]).amax)
    assert measured([0.0, 0.0], [0.0, 0.0]).underflow == 0.0
    assert measured(np.random.default_rng(1).standard_normal(1 << 18), np.ones(1 << 18)).kurtosis == (
        pytest.approx(3, abs=0.05)
    )
    # Squares of the smallest magnitudes vanish, their ratio does not.
    assert measured([1e-200, 2e-200], [1e-200, 1e-200]).sqnr_db == pytest.approx(10 * math.log10(5))


def test_kurtosis_is_about_the_mean() -> None:
    """Of 0, 0, 0 and 4, shifted by 100: Σ(x − 1)⁴/4 = 21 over (Σ(x − 1)²/4)² = 9."""
    for shift in (0.0, 100.0):
        x = np.array([0.0, 0.0, 0.0, 4.0]) + shift
        assert measured(x, x).kurtosis == pytest.approx(21 / 9)


def test_the_table_holds_the_oracles_values() -> None:
    params = tuple(sorted(get_function("xielu").check_params().items()))
    table = exact_table(XIELU, "grad_x", params)
    for x in (-1.5, -(2.0**-20), 0.0, 3.25, 1e30):
        bits = int(np.float32(x).view(np.uint32) >> 16)
        x = float(np.uint32(bits << 16).view(np.float32))
        assert table[bits] == pytest.approx(float(evaluate("xielu", x, output="grad_x")), rel=1e-15)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("path", PATHS)
def test_every_recipe_keeps_what_its_format_can(recipe: str, path: str) -> None:
    """8, 4, 3 and 2 bits of significand: at most 2^−p of each, so 6.02·p dB and more, in and out."""
    x, up = modelled(tokens=64, channels=256), modelled(tokens=64, channels=256, seed=1, scale=1e-3)
    generator = torch.Generator().manual_seed(0)
    forward = forward_passage(XIELU, None, x, recipe, path=path, generator=generator)
    gradient = gradient_passage(XIELU, None, x, up, recipe, path=path, generator=generator)
    for passage in (forward, gradient):
        q = passage.tensor()
        significand = {"fp32": 24, "bf16": 8, "e4m3": 4, "e5m2": 3, "e2m1": 2}[passage.fmt.name]
        assert q.sqnr_db > 6.02 * significand - (2 if path == "fp8-in" else 0), (passage.fmt, q)
        assert q.overflow == 0 or (recipe.startswith("nvfp4") and path == "fp8-in")
        assert 0 <= q.range_used <= 1
        assert len(passage.channels()) == 256
    if recipe in ("delayed", "current"):
        assert (forward.fmt, gradient.fmt) == (E4M3, E5M2)


def test_paths_differ_as_they_should() -> None:
    x = modelled(tokens=64, channels=256)
    fused, unfused, stored_first = (
        forward_passage(XIELU, None, x, "delayed", path=p).tensor().sqnr_db for p in PATHS
    )
    assert fused != unfused
    assert stored_first < fused - 3
    bf16 = forward_passage(
        XIELU, None, x, "bf16", path="unfused", kernel=implementation_of("xielu/naive")
    ).tensor()
    exact = forward_passage(XIELU, None, x, "bf16", path="unfused").tensor()
    assert bf16.sqnr_db < exact.sqnr_db - 3


def test_a_history_that_saw_smaller_tensors_clips() -> None:
    from precision_lab.lowprecision.recipes.recipes import get_recipe

    small, large = (modelled(tokens=64, channels=64, scale=s) for s in (1.0, 4.0))
    state = get_recipe("delayed").state("input")
    forward_passage(RELU2, None, small, "delayed", state=state)
    state.step()
    q = forward_passage(RELU2, None, large, "delayed", state=state).tensor()
    assert q.overflow > 0.001
    assert forward_passage(RELU2, None, large, "current").tensor().overflow == 0


def test_swiglu_takes_its_gate() -> None:
    x, gate = (modelled(tokens=32, channels=32, seed=s) for s in (0, 1))
    passage = forward_passage(SWIGLU, None, x, "bf16", gate=gate)
    silu = forward_passage(SILU, None, x, "bf16").exact
    np.testing.assert_allclose(passage.exact, silu * gate.double().numpy(), rtol=1e-15)
    with pytest.raises(ValueError, match="gate=None"):
        forward_passage(SWIGLU, None, x, "bf16")


def test_infinities_and_nan_of_the_input_are_counted_not_averaged() -> None:
    x = modelled(tokens=4, channels=32)
    x[0, 0], x[1, 1] = math.inf, math.nan
    for recipe in ("current", "block", "mxfp8"):
        q = forward_passage(XIELU, None, x, recipe).tensor()
        assert q.not_finite == 2
        assert q.n == 4 * 32 - 2


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_distributions_repeat_and_scale(name: str) -> None:
    x = modelled(name, 256, 256)
    assert torch.equal(x, modelled(name, 256, 256))
    assert not torch.equal(x, modelled(name, 256, 256, seed=1))
    assert torch.equal(modelled(name, 256, 256, scale=4.0), x * 4)
    if name in ("normal", "laplace"):
        assert float(x.float().std()) == pytest.approx(1, abs=0.02)


def test_distributions_are_what_they_say() -> None:
    def moments(name: str) -> np.ndarray:
        return modelled(name, 2048, 256).double().numpy()

    channels = moments("outliers").std(0)
    assert np.flatnonzero(channels > 15).tolist() == [0, 64, 128, 192]
    assert channels[::64] == pytest.approx(30, rel=0.1)
    tokens = moments("growing").std(1)
    assert (tokens[:100].mean(), tokens[-100:].mean()) == (
        pytest.approx(1.05, abs=0.05),
        pytest.approx(7.6, abs=0.4),
    )
    for name, kurtosis in (("normal", 3.0), ("laplace", 6.0)):
        x = moments(name)
        assert x.var() == pytest.approx(1, abs=0.02)
        assert (x**4).mean() / x.var() ** 2 == pytest.approx(kurtosis, rel=0.05)


def test_misuse_is_named() -> None:
    x = modelled(tokens=2, channels=32)
    with pytest.raises(ValueError, match="unfusd"):
        forward_passage(XIELU, None, x, "block", path="unfusd")
    with pytest.raises(ValueError, match=r"torch\.float32"):
        forward_passage(XIELU, None, x.float(), "block")
    with pytest.raises(ValueError, match="upstream="):
        gradient_passage(XIELU, None, x, x[:1], "block")
    with pytest.raises(ValueError, match="normall"):
        modelled("normall")
    with pytest.raises(ValueError, match="tokens=0"):
        modelled(tokens=0)
    with pytest.raises(ValueError, match="scale=-1"):
        modelled(scale=-1)
