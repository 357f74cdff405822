"""Recipes in elements per second, and what a capture adds to a training step: `pytest … -m bench`.

Each capture round trains with and without it in turn, so that the ratio is of one run.
"""

from __future__ import annotations

import time
from statistics import median

import pytest
import torch

from precision_lab import capture
from precision_lab.lowprecision.probe.training import Run, Trainer, TrainingConfig
from precision_lab.lowprecision.recipes.recipes import RECIPES, get_recipe

pytestmark = pytest.mark.bench

SIZE = 4096


@pytest.mark.parametrize("method", ["quantize", "round_trip"])
@pytest.mark.parametrize("name", [n for n in RECIPES if n not in ("fp32", "bf16")])
def test_elements_stored_per_second(name: str, method: str, benchmark) -> None:
    recipe = get_recipe(name)
    x = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(0)).bfloat16()
    state = recipe.state("input")
    benchmark(getattr(recipe, method), x, "input", state=state)
    benchmark.extra_info["million elements per second"] = round(x.numel() / benchmark.stats["median"] / 1e6)


@pytest.mark.parametrize("library", ["torch", "ml_dtypes", "gfloat"])
def test_elements_cast_by_others_per_second(library: str, benchmark) -> None:
    """What a user would otherwise use for `current`: amax, a product, and the library's cast to E4M3."""
    import gfloat.formats
    import ml_dtypes
    import numpy as np

    size = 256 if library == "gfloat" else SIZE
    x = torch.randn(size, size, generator=torch.Generator().manual_seed(0)).bfloat16()
    to = gfloat.formats.format_info_ocp_e4m3

    def cast() -> object:
        scaled = x.float() * (448 / x.abs().amax().float())
        if library == "torch":
            return scaled.to(torch.float8_e4m3fn)
        if library == "ml_dtypes":
            return scaled.numpy().astype(ml_dtypes.float8_e4m3fn)
        return gfloat.round_ndarray(to, scaled.numpy().astype(np.float64), sat=True)

    benchmark(cast)
    benchmark.extra_info["million elements per second"] = round(
        x.numel() / benchmark.stats["median"] / 1e6, 1
    )


@pytest.mark.parametrize("tokens", [128, None])
@pytest.mark.parametrize("recipe", ["fp32", "bf16", "mxfp8"])
def test_a_capture_adds_little_to_a_training_step(recipe: str, tokens: int | None, benchmark) -> None:
    trainer = Trainer(TrainingConfig(steps=1000), Run("xielu/expm1", recipe, 0))
    times: dict[bool, list[float]] = {True: [], False: []}

    def steps(watched: bool) -> None:
        start = time.perf_counter()
        for _ in range(10):  # as many as a capture counts by default
            trainer._one_step()
        times[watched].append(time.perf_counter() - start)

    def both() -> None:
        steps(False)
        with capture(trainer.model, tokens=tokens):
            steps(True)

    benchmark.pedantic(both, rounds=25, warmup_rounds=2)
    ratio = median(a / b for a, b in zip(times[True], times[False], strict=True))
    benchmark.extra_info["ratio to a step without"] = round(ratio, 3)
