"""From numbers to a state: what rounding costs, how wide a limit is, what the probe's models say to it."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import precision_lab as pl
from precision_lab.formats import BF16, E2M1, E4M3, E5M2
from precision_lab.lowprecision.readiness.judging import (
    AT_LIMIT,
    BIAS_LIMIT,
    CLIPPED_LIMIT,
    NOISE_LIMIT,
    NOT,
    READY,
    Figure,
    noise_limit,
    reasons,
    rounding_noise,
    worst_state,
)
from precision_lab.lowprecision.readiness.passage import input_passage
from precision_lab.lowprecision.readiness.readiness import readiness
from precision_lab.lowprecision.readiness.risk import Tensors, from_distribution, numbers
from precision_lab.lowprecision.readiness.sampling import bias_of, by_group, jackknife, noise_of
from precision_lab.lowprecision.readiness.trained import LIKE, TRAINED, evidence, trained
from precision_lab.lowprecision.recipes.recipes import RECIPES, Unscaled

PROBE = Path(__file__).parents[2] / "reports" / "readiness" / "readiness.json"


def figure(value: float, error: float = 0.0, limit: float = NOISE_LIMIT) -> Figure:
    return Figure("noise of the stored activation", "act", value, error, limit)


@pytest.mark.parametrize("value", [0.0990, 0.0998, 0.1000, 0.1002, 0.1010])
def test_a_hair_on_either_side_of_the_limit_is_at_it(value: float) -> None:
    assert figure(value).state == AT_LIMIT


@pytest.mark.parametrize(("value", "state"), [(0.05, READY), (0.12, NOT), (math.nan, NOT)])
def test_what_is_far_from_the_limit_is_called(value: float, state: str) -> None:
    assert figure(value).state == state


def test_the_width_is_that_of_sampling_and_of_the_prediction() -> None:
    assert figure(0.1, 0.01).width == pytest.approx(math.hypot(3 * 0.01, 0.12 * 0.1))
    # What rounding costs every tensor does not differ between models.
    assert Figure("n", "act", 0.05, 0.0, 0.1, 0.05).width == 0
    assert Figure("n", "act", 0.05, 0.0, 0.1, 0.04).width == pytest.approx(0.12 * 0.03)
    assert figure(0.08, 0.001).state == READY
    assert figure(0.08, 0.01).state == AT_LIMIT
    assert figure(0.13, 0.001).state == NOT
    assert figure(0.13, 0.02).state == AT_LIMIT


def test_the_worst_of_all_numbers_decides_and_is_named() -> None:
    assert worst_state([]) == READY
    assert worst_state([figure(0.01), figure(0.1), figure(0.02)]) == AT_LIMIT
    assert worst_state([figure(0.1), figure(0.5), figure(0.01)]) == NOT
    assert reasons([figure(0.0998)]) == [
        "noise of the stored activation 9.98% ± 1.20% in act (1 of 1 at 10.0%)"
    ]


@pytest.mark.parametrize(("fmt", "recipe"), [(E4M3, "mxfp8"), (E5M2, "current"), (E2M1, "nvfp4-plain")])
def test_rounding_costs_what_its_bits_say(fmt, recipe: str) -> None:
    """Numbers spread evenly by their logarithm; E2M1 has few binades, so that they span two."""
    rng = np.random.default_rng(0)
    span = 2 if fmt == E2M1 else 4
    x = np.exp2(rng.uniform(0, span, (256, 256))) * rng.choice([-1, 1], (256, 256))
    role = "gradient" if fmt == E5M2 else "input"
    x = torch.from_numpy(x.astype(np.float32))
    stored = RECIPES[recipe].round_trip(x, role)
    relative = float((stored - x).norm() / x.norm())
    assert relative == pytest.approx(rounding_noise(fmt), rel=0.12)


def test_stochastic_rounding_costs_the_root_of_two_as_much() -> None:
    x = from_distribution(pl.get_function("relu2"), {}, "normal", tokens=128, channels=256).x.float()
    generator = torch.Generator().manual_seed(0)
    found = {
        role: float((RECIPES["nvfp4"].round_trip(x, role, generator=generator) - x).norm() / x.norm())
        for role in ("input", "gradient")
    }
    assert found["input"] == pytest.approx(rounding_noise(E2M1), rel=0.1)
    assert found["gradient"] == pytest.approx(rounding_noise(E2M1, stochastic=True), rel=0.1)


def test_a_limit_is_never_the_formats_own_rounding() -> None:
    for recipe in RECIPES.values():
        for role in ("input", "gradient"):
            stochastic = role == "gradient" and recipe.stochastic_gradients
            limit = noise_limit(recipe.fmt(role), stochastic=stochastic)
            assert limit >= 2 * rounding_noise(recipe.fmt(role), stochastic=stochastic), recipe.name
    assert noise_limit(E4M3) == noise_limit(E5M2) == noise_limit(BF16) == NOISE_LIMIT
    assert noise_limit(E2M1) == pytest.approx(0.1962, abs=1e-4)


def test_the_bias_of_stochastic_rounding_is_that_of_saturation_alone() -> None:
    """Without blocks' largest numbers, which E4M3 scales may leave beyond 6, its interval holds zero."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(256, 256, generator=generator) * 4  # below the largest, which is 6 exactly
    x[:, ::16] = 6.0
    stored = RECIPES["nvfp4"].round_trip(x, "gradient", generator=generator)
    inner = torch.ones(256, dtype=torch.bool)
    inner[::16] = False
    e, error = x[:, inner].double(), (stored - x)[:, inner].double()
    share = (error * e).sum(0) / (e * e).sum(0)
    assert abs(float(share.mean())) < 3 * float(share.std()) / math.sqrt(share.numel())
    found = numbers(normal(0), "nvfp4")
    assert abs(found.bias) < BIAS_LIMIT / 2
    # Numbers that vanish are lost in one direction: that is bias, and no noise that averages out.
    lost = normal(0)
    lost.upstream[:, ::16] *= 2.0**12
    assert numbers(lost, "nvfp4-plain").bias < -0.3


def normal(seed: int, scale: float = 1.0) -> Tensors:
    return from_distribution(pl.get_function("relu2"), {}, "normal", tokens=64, channels=128, seed=seed,
                             scale=scale)  # fmt: skip


def near_the_limit(seed: int) -> Tensors:
    """Two channels so much larger than the rest that one scale for the tensor costs these 10 %."""
    found = normal(seed)
    found.x[:, ::64] *= 2.0**7.3
    return found


def test_seeds_of_what_was_sampled_do_not_flip_a_verdict() -> None:
    """One distribution, drawn again and again: it is not ready in one draw and not ready in another."""
    drawn = [numbers(near_the_limit(10 * seed), "current") for seed in range(12)]
    values = np.array([n.forward_noise for n in drawn])
    assert values.min() < NOISE_LIMIT * 1.03 and values.max() > NOISE_LIMIT * 0.97, values
    states = {Figure("n", "act", n.forward_noise, n.forward_error, NOISE_LIMIT).state for n in drawn}
    assert not states >= {READY, NOT}
    # And the estimate of the error is neither far too small nor so large that nothing is ever called.
    estimated = np.mean([n.forward_error for n in drawn])
    assert 0.5 < estimated / values.std(ddof=1) < 4


def test_what_delayed_scaling_clips_is_as_uncertain_as_the_largest_number() -> None:
    """Heavy tails, eight times as large as was seen: what is clipped depends on the draw."""
    function = pl.get_function("xielu")
    drawn = [
        numbers(
            from_distribution(function, function.check_params(None), "student-t", tokens=128, channels=128,
                              seed=10 * seed),
            "delayed", growth=8.0,
        )
        for seed in range(6)
    ]  # fmt: skip
    states = {Figure("c", "act", n.clipped, n.clipped_error, CLIPPED_LIMIT).state for n in drawn}
    assert not states >= {READY, NOT}
    clipped = np.array([n.clipped for n in drawn])
    assert np.mean([n.clipped_error for n in drawn]) > 0.5 * clipped.std(ddof=1)


def test_a_jackknife_of_a_mean_is_its_standard_error() -> None:
    groups = np.random.default_rng(0).standard_normal((8, 1)) + 3
    count = np.ones((8, 1))
    found = jackknife(lambda total, n: float(total.sum() / n.sum()), groups, count)
    assert found == pytest.approx(float(groups.std(ddof=1)) / math.sqrt(8))
    assert jackknife(lambda total: float(total.sum()), np.ones((1, 3))) == 0.0


def test_groups_of_rows_add_up_to_the_tensor() -> None:
    x = normal(3).x
    passage = input_passage(x, "mxfp8")
    noise, power, product, _ = by_group(passage)
    e, s = passage.exact, passage.stored
    assert noise.shape == (8, 128)
    by_hand = np.sqrt(np.mean(((s - e) ** 2).sum(0) / (e**2).sum(0)))
    assert noise_of(noise.sum(0), power.sum(0)) == pytest.approx(by_hand, rel=1e-12)
    bias = np.mean(((s - e) * e).sum(0) / (e**2).sum(0))
    assert bias_of(product.sum(0), power.sum(0)) == pytest.approx(bias, rel=1e-9)


# What was trained


def test_the_evidence_is_that_of_the_committed_probe() -> None:
    cells = json.loads(PROBE.read_text())["probe"]["cells"]
    assert set(TRAINED) == {c["recipe"] for c in cells}
    for recipe, seen in TRAINED.items():
        assert trained(cells, recipe) == seen, recipe
    with pytest.raises(ValueError, match="recipe='fp5'"):
        trained(cells, "fp5")


def test_a_price_counts_where_it_is_more_than_another_seed_makes() -> None:
    cells = [
        {"recipe": "r", "ageing": "none", "gap": gap, "spread": 0.002} for gap in (0.001, 0.004)
    ]  # fmt: skip
    assert trained(cells, "r").costs
    assert not trained([{**c, "spread": 0.003} for c in cells], "r").costs
    assert {name for name, t in TRAINED.items() if t.costs} == {"nvfp4"}
    diverged = trained([*cells, {"recipe": "r", "ageing": "extreme", "gap": "inf", "spread": 0}], "r")
    assert (diverged.diverged, math.isnan(diverged.extreme)) == (1, True)
    assert "1 of 2 diverged" in diverged.words


def test_a_recipe_that_nobody_trained_is_not_ready() -> None:
    found = readiness([normal(0)], source="t", recipes=tuple(RECIPES))
    for v in found.verdicts:
        recipe = RECIPES[v.recipe]
        seen = evidence(v.recipe)
        expected = READY if isinstance(recipe, Unscaled) or (seen and not seen.costs) else AT_LIMIT
        assert v.verdict == expected, v
        assert bool(v.trained) == (not isinstance(recipe, Unscaled))
    assert any("has its price" in w for w in found.verdict("nvfp4").why)
    assert any("has trained no model" in w for w in found.verdict("nvfp4-plain").why)
    assert set(LIKE) <= set(RECIPES) and set(LIKE.values()) <= set(TRAINED)


def test_a_recipe_of_another_name_has_no_evidence() -> None:
    mine = dataclasses.replace(RECIPES["mxfp8"], name="mine")
    (verdict,) = readiness([normal(0)], source="t", recipes=(mine,)).verdicts
    assert verdict.verdict == AT_LIMIT
