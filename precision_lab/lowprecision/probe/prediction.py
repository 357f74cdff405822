"""The predicted risk set against what training then did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import UsageError
from precision_lab.lowprecision.probe.grids import BASELINE
from precision_lab.numeric.students_t import quantile

RESAMPLES = 2000
REFERENCE = "swiglu/torch"
Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Cell:
    """One activation under one recipe and ageing.

    Attributes:
        subject, recipe, ageing: which.
        risk: predicted before training, mean over seeds.
        gap: held-out loss less that of FP32 with the same seed and ageing, nats per byte, mean over seeds;
            infinite where a run diverged or its loss was not finite and FP32's was.
        spread: largest less smallest gap of the seeds.
        distance: mean over steps of how far the training loss lay from FP32's at the same step, either way,
            mean over seeds; infinite where a run diverged.
        seeds: how many.
    """

    subject: str
    recipe: str
    ageing: str
    risk: float
    gap: float
    spread: float
    distance: float
    seeds: int


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's, with a 95 % interval from resampled cells (percentile bootstrap, 2000 resamples).

    Attributes:
        measure: what the risk is set against, "gap" or "distance".
    """

    measure: str
    value: float
    low: float
    high: float
    cells: int


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its 95 % interval (Student's t).

    Attributes:
        half: half the interval's width; NaN for a single seed.
    """

    mean: float
    half: float
    n: int


def cells(found: Mapping[str, Any]) -> list[Cell]:
    """Every cell of a probe that has both a prediction and runs; see `probe.load`."""
    risks: dict[tuple[str, str, str], list[float]] = {}
    for prediction in found["predictions"]:
        run = prediction["run"]
        for recipe, value in prediction["risk"].items():
            if value is not None:
                risks.setdefault((run["subject"], recipe, run["ageing"]), []).append(value)
    gaps, distances = gaps_to_fp32(found), distances_to_fp32(found)
    made = []
    for (subject, recipe, ageing), risk in risks.items():
        gap = gaps.get((subject, recipe, ageing, "none"))
        if gap:
            values = list(gap.values())
            spread = max(values) - min(values) if all(map(math.isfinite, values)) else math.inf
            mean = math.fsum(values) / len(values) if math.isfinite(spread) else math.inf
            away = list(distances[subject, recipe, ageing, "none"].values())
            distance = math.fsum(away) / len(away) if all(map(math.isfinite, away)) else math.inf
            made.append(
                Cell(
                    subject, recipe, ageing, math.fsum(risk) / len(risk), mean, spread, distance, len(values)
                )
            )
    return made


def _whose(run: Mapping[str, Any]) -> tuple[str, str, str, str, int]:
    return run["subject"], run["recipe"], run["ageing"], run["remedy"], run["seed"]


def _final_loss(record: Mapping[str, Any]) -> float | None:
    """The held-out loss; None for a run that diverged, or whose loss is not finite."""
    loss: float | None = record["validation_loss"]
    return None if record["diverged_at"] is not None else loss


def gaps_to_fp32(found: Mapping[str, Any]) -> dict[Key, dict[int, float]]:
    """Gap by (subject, recipe, ageing, remedy) and seed; FP32 had the same ageing, seed and remedy."""
    losses = {_whose(data["run"]): _final_loss(data["record"]) for data in found["runs"]}
    gaps: dict[Key, dict[int, float]] = {}
    for (subject, recipe, ageing, remedy, seed), loss in losses.items():
        base = losses.get((subject, BASELINE, ageing, remedy, seed))
        if recipe == BASELINE or base is None:
            continue
        gap = math.inf if loss is None else loss - base
        gaps.setdefault((subject, recipe, ageing, remedy), {})[seed] = gap
    return gaps


def distances_to_fp32(found: Mapping[str, Any]) -> dict[Key, dict[int, float]]:
    """`Cell.distance` by (subject, recipe, ageing, remedy) and seed: of the runs that have a gap."""
    curves = {_whose(data["run"]): data["record"]["losses"] for data in found["runs"]}

    def distance(key: Key, seed: int, gap: float) -> float:
        subject, _, ageing, remedy = key
        curve, base = curves[*key, seed], curves[subject, BASELINE, ageing, remedy, seed]
        away = [abs(a - b) for a, b in zip(curve, base, strict=False) if a is not None and b is not None]
        whole = len(away) == len(base) and math.isfinite(gap)
        return math.fsum(away) / len(away) if whole else math.inf

    return {
        key: {seed: distance(key, seed, gap) for seed, gap in by_seed.items()}
        for key, by_seed in gaps_to_fp32(found).items()
    }


def rank_correlation(of: Sequence[Cell], measure: str = "gap", *, seed: int = 0) -> RankCorrelation:
    """Spearman's correlation of risk and measure.

    Args:
        measure: "gap" or "distance".

    Raises:
        ValueError: fewer than three cells; another measure.
    """
    if measure not in ("gap", "distance"):
        raise UsageError(f"measure={measure!r}: expected gap or distance")
    if len(of) < 3:
        raise UsageError(f"cells={len(of)}: a rank correlation needs at least 3")
    risk, gap = (np.array([getattr(c, name) for c in of]) for name in ("risk", measure))
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES):
        chosen = rng.integers(0, risk.size, risk.size)
        drawn.append(_spearman(risk[chosen], gap[chosen]))
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return RankCorrelation(measure, _spearman(risk, gap), float(low), float(high), len(of))


def _spearman(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    x, y = ranks(a), ranks(b)
    x, y = x - x.mean(), y - y.mean()
    norm = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / norm if norm > 0 else math.nan


def ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0; ties share their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: NDArray[np.float64] = ((last - 1 + last - counts) / 2.0)[inverse]
    return found


def failures(of: Sequence[Cell], n: int = 8) -> list[tuple[Cell, float, float]]:
    """The cells whose order was foretold worst, with both ranks as shares from 0 (safest) to 1."""
    risk, gap = (ranks(np.array([getattr(c, name) for c in of])) for name in ("risk", "gap"))
    top = max(len(of) - 1, 1)
    worst = np.argsort(-np.abs(risk - gap), kind="stable")[:n]
    return [(of[i], float(risk[i] / top), float(gap[i] / top)) for i in worst]


def paired(found: Mapping[str, Any], recipe: str, reference: str) -> dict[str, Mean]:
    """Held-out loss of each subject less that of a reference with the same seed, by subject.

    Weights and batches of a seed are the same for all, as far as their shapes are, so that much of what
    differs between seeds cancels. Diverged runs are left out.
    """
    values: dict[str, dict[int, float]] = {}
    for data in found["runs"]:
        run, loss = data["run"], _final_loss(data["record"])
        if not run["ageing"] and run["recipe"] == recipe and loss is not None:
            values.setdefault(run["subject"], {})[run["seed"]] = loss
    base = values.get(reference, {})
    differences = {
        subject: [loss - base[seed] for seed, loss in by_seed.items() if seed in base]
        for subject, by_seed in values.items()
    }
    return {subject: mean(d) for subject, d in differences.items() if d}


def losses(found: Mapping[str, Any]) -> dict[tuple[str, str], Mean]:
    """Held-out loss of the runs from the beginning, by subject and recipe; diverged runs left out."""
    values: dict[tuple[str, str], list[float]] = {}
    for data in found["runs"]:
        run, loss = data["run"], _final_loss(data["record"])
        if not run["ageing"] and loss is not None:
            values.setdefault((run["subject"], run["recipe"]), []).append(loss)
    return {key: mean(v) for key, v in values.items()}


def mean(values: Sequence[float]) -> Mean:
    """Mean and 95 % interval."""
    n = len(values)
    m = math.fsum(values) / n
    if n < 2:
        return Mean(m, math.nan, n)
    deviation = math.sqrt(math.fsum((v - m) ** 2 for v in values) / (n - 1))
    return Mean(m, quantile(0.95, n - 1) * deviation / math.sqrt(n), n)


def _ablations(found: Mapping[str, Any]) -> dict[str, Any]:
    """Each variant's held-out loss less that of the grid's first subject, by recipe and subject."""
    grid = found["manifest"]["config"]["ablations"]
    if not grid["subjects"]:
        return {}
    recipes = (BASELINE, *grid["recipes"])
    differences = {r: paired(found, r, grid["subjects"][0]) for r in recipes}
    return {r: {s: asdict(by[s]) for s in grid["subjects"] if s in by} for r, by in differences.items()}


def summary(found: Mapping[str, Any]) -> dict[str, Any]:
    """Everything above, as JSON."""
    every = cells(found)
    gaps = gaps_to_fp32(found)
    finite = {
        " / ".join(key): {str(s): g if math.isfinite(g) else None for s, g in by_seed.items()}
        for key, by_seed in gaps.items()
    }
    return {
        "cells": [asdict(c) for c in every],
        "rank_correlation": [
            asdict(rank_correlation(every, m)) for m in ("gap", "distance") if len(every) > 2
        ],
        "losses": {" / ".join(key): asdict(m) for key, m in losses(found).items()},
        "failures": [
            {**asdict(c), "foretold": foretold, "measured": measured}
            for c, foretold, measured in failures(every)
        ],
        "reference": REFERENCE,
        "paired": {
            r: {s: asdict(m) for s, m in paired(found, r, REFERENCE).items()} for r in ("fp32", "bf16")
        },
        "ablations": _ablations(found),
        "gaps": finite,
    }


__all__ = [
    "REFERENCE", "Cell", "Mean", "RankCorrelation", "cells", "distances_to_fp32", "failures", "gaps_to_fp32",
    "losses", "mean", "paired", "rank_correlation", "ranks", "summary",
]  # fmt: skip
