"""Models of the training probe that were aged and trained on: predicted, measured, remedied."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from precision_lab.report.numbers import Data, gap_of, number, short
from precision_lab.report.section import Column, Figure, Section, Table, numeric
from precision_lab.report.sections.probe import of_probe


@of_probe
def prediction(probe: Data) -> Section | None:
    """The risk computed before training, and the gap measured after it."""
    if not any(run["ageing"] for run in probe["runs"]):
        return None
    if not probe["rank_correlation"]:
        return Section("prediction", "Predicted, then trained", ("Too few cells to compare.",))
    cells = probe["cells"]
    r, d = probe["rank_correlation"]
    unresolved = [c for c in cells if math.isfinite(gap_of(c["gap"])) and abs(c["gap"]) <= c["spread"]]
    text = (
        "The risk (root mean square over layers of forward and gradient noise) was computed before "
        "training went on, from one step captured in the warm FP32 model at the end of its ageing. Over "
        f"{r['cells']} cells of activation, recipe and ageing its rank correlation with the measured loss "
        f"gap to FP32 is {r['value']:.3f} (95 % interval {r['low']:.3f} to {r['high']:.3f}; wanted: at least "
        f"0.8). The held-out gap of {len(unresolved)} of these cells is no larger than the spread of their "
        "seeds: two trainings that differ by a rounding drift apart, and end above or below each other by "
        "chance. How far the loss curve lay from FP32's, either way, mean over steps, does not cancel: with "
        f"that distance the rank correlation is {d['value']:.3f} ({d['low']:.3f} to {d['high']:.3f})."
    )
    rows = [
        [*_cell_row(c)[:-1], f"{100 * c['foretold']:.0f}", f"{100 * c['measured']:.0f}"]
        for c in probe["failures"]
    ]
    common: list[str | Column] = [
        "activation",
        "recipe",
        "ageing",
        *numeric("risk"),
        *numeric("gap", unit="nats"),
        *numeric("spread of seeds"),
    ]
    every = [_cell_row(c) for c in sorted(cells, key=lambda c: number(c["risk"]))]
    parts = (
        text,
        Figure("prediction.svg", "Predicted risk and measured loss"),
        _threshold(cells, probe["noise_limit"]),
        "Where it failed: the cells whose rank (0 safest, 100 worst) was foretold worst.",
        Table([*common, *numeric("rank foretold", "rank measured")], rows),
        Table([*common, *numeric("distance")], every, f"all {len(every)} cells"),
    )
    return Section("prediction", "Predicted, then trained", parts)


def _cell_row(c: Data) -> list[str]:
    return [
        c["subject"],
        c["recipe"],
        c["ageing"],
        f"{number(c['risk']):.4f}",
        _signed(c),
        short(c["spread"], ".4f"),
        short(c["distance"], ".4f"),
    ]


def _threshold(cells: Sequence[Data], noise_limit: float) -> str:
    """What the limits of the verdict would have let through."""
    limit = noise_limit * math.sqrt(2)
    within = [gap_of(c["gap"]) for c in cells if number(c["risk"]) <= limit]
    beyond = [gap_of(c["gap"]) for c in cells if number(c["risk"]) > limit]
    if not within or not beyond:
        return ""
    most = max(within)
    lost, diverged = sum(g > most for g in beyond), sum(math.isinf(g) for g in beyond)
    said = f"{most:+.4f} nats" if math.isfinite(most) else "a divergence"
    return (
        f"Both noises at their limit are a risk of {limit:.2f}. Of the {len(within)} cells up to there "
        f"the one that lost most lost {said}; of the {len(beyond)} beyond, {lost} lost more than that, "
        f"{diverged} of them by diverging, at this size and length of training."
    )


@of_probe
def ageing(probe: Data) -> Section | None:
    """Losses of aged models."""
    by: dict[tuple[str, str], dict[str, Data]] = {}
    for c in probe["cells"]:
        by.setdefault((c["ageing"], c["subject"]), {})[c["recipe"]] = c
    recipes = list(dict.fromkeys(c["recipe"] for c in probe["cells"]))
    rows = [
        [ageing, subject, *(_signed(found.get(r)) for r in recipes)]
        for (ageing, subject), found in by.items()
    ]
    used = dict.fromkeys(c["ageing"] for c in probe["cells"])
    words = "; ".join(f"{name}: {probe['ageings'][name]}" for name in used)
    text = (
        "Each model is warmed in FP32, then aged and trained on by each recipe. Ageing changes what the "
        "casts see and hardly what the model computes: a channel's weights grow and the next weight's "
        f"column shrinks by as much. {words}. Gap of the held-out loss to FP32 of the same age, nats per "
        "byte, mean over seeds."
    )
    return Section(
        "ageing",
        "Aged: which recipe survives",
        (text, Table(["ageing", "activation", *numeric(*recipes)], rows)),
    )


@of_probe
def formulations(probe: Data) -> Section | None:
    """Losses of aged models by formulation."""
    wanted = probe["config"]["formulations"]
    recipes = ["fp32", *wanted["recipes"]]
    found: dict[tuple[str, str], dict[str, str]] = {}
    for run in probe["runs"]:
        asked = run["subject"] in wanted["subjects"] and run["ageing"] in wanted["ageings"]
        if asked and run["remedy"] == "none" and run["seed"] == 0:
            at, loss = run["diverged_at"], run["validation_loss"]
            said = f"diverged at step {at}" if at is not None else short(loss, ".4f")
            found.setdefault((run["subject"], run["ageing"]), {})[run["recipe"]] = said
    rows = [[*key, *(by.get(r, "–") for r in recipes)] for key, by in sorted(found.items())]
    text = (
        "Formulations differ for large x too: one that does not clamp the exponential back-propagates 0 · ∞ "
        "= NaN from the branch that torch.where discards, as soon as exp(x) overflows, near x = 89 in FP32 "
        "and BF16. Held-out loss of aged runs, seed 0."
    )
    return Section(
        "formulations",
        "Formulations, aged",
        (text, Table(["formulation", "ageing", *numeric(*recipes)], rows)),
    )


def _signed(cell: Data | None) -> str:
    if cell is None:
        return "–"
    gap = gap_of(cell["gap"])
    return f"{gap:+.4f}" if math.isfinite(gap) else "diverged"


@of_probe
def remedies(probe: Data) -> Section | None:
    """What remedies gain, and what they cost."""
    remedies = [*probe["config"]["remedies"]["remedies"]]
    gaps: dict[tuple[str, ...], Mapping[str, Any]] = {
        tuple(key.split(" / ")): by_seed for key, by_seed in probe["gaps"].items()
    }
    base: dict[tuple[str, str, str, int], float] = {}
    for run in probe["runs"]:
        if run["recipe"] == "fp32" and run["validation_loss"] is not None:
            base[run["subject"], run["ageing"], run["remedy"], run["seed"]] = run["validation_loss"]
    wanted = probe["config"]["remedies"]
    rows = []
    for subject in wanted["subjects"]:
        for ageing in wanted["ageings"]:
            for recipe in wanted["recipes"]:
                cells = [subject, ageing, recipe]
                cells += [_mean_gap(gaps.get((subject, recipe, ageing, m))) for m in ("none", *remedies)]
                rows.append([*cells, _mean_gap(gaps.get((subject, "block", ageing, "none")))])
    costs = []
    for subject in wanted["subjects"]:
        for ageing in wanted["ageings"]:
            cells = [subject, ageing]
            for remedy in remedies:
                found = [
                    loss - base[s, a, "none", seed]
                    for (s, a, m, seed), loss in base.items()
                    if (s, a, m) == (subject, ageing, remedy) and (s, a, "none", seed) in base
                ]
                cells.append(f"{math.fsum(found) / len(found):+.4f}" if found else "–")
            costs.append(cells)
    words = "; ".join(f"{name}: {probe['remedies'][name]}" for name in remedies)
    return Section(
        "remedies", "Remedies, tried",
        (f"Gap to FP32 of the same age and with the same remedy, nats per byte. {words}; the last column is "
         "block scaling in place of one scale per tensor.",
         Table(["activation", "ageing", "recipe", *numeric("none", *remedies, "block instead")], rows),
         "What a remedy itself costs: FP32 with it, less FP32 without.",
         Table(["activation", "ageing", *numeric(*remedies)], costs)),
    )  # fmt: skip


def _mean_gap(by_seed: Mapping[str, Any] | None) -> str:
    if not by_seed:
        return "–"
    values = [gap_of(v) for v in by_seed.values()]
    if not all(map(math.isfinite, values)):
        return "diverged"
    return f"{math.fsum(values) / len(values):+.4f}"


__all__ = ["ageing", "formulations", "prediction", "remedies"]
