"""What to do: the recipe to begin with, what takes its place on other GPUs, what stays in BF16."""

from __future__ import annotations

import math
from collections.abc import Sequence

from precision_lab.lowprecision.readiness.judging import AT_LIMIT, READY
from precision_lab.lowprecision.readiness.remedies import get_remedy
from precision_lab.lowprecision.readiness.trained import LIKE, evidence
from precision_lab.lowprecision.readiness.verdicts import RecipeVerdict

UNSCALED = ("fp32", "bf16")
LATE = "outliers develop late in training"


def recommended(verdicts: Sequence[RecipeVerdict]) -> list[RecipeVerdict]:
    """Recipes below BF16 to begin with: the best of all, then that of each older kind of GPU, if as ready.

    Ready ones before those that need a remedy, these before those at the limit; then those by which fewer of
    the probe's models with extreme outlier channels diverged, and lost less; then a recipe before its like
    that needs an environment variable. None where none is at least at its limit.
    """
    usable = [v for v in verdicts if v.recipe not in UNSCALED and v.state in (READY, AT_LIMIT)]
    usable.sort(key=_order)
    chosen: list[RecipeVerdict] = []
    for v in usable:
        if not chosen or (v.hardware < chosen[-1].hardware and _grade(v) == _grade(chosen[0])):
            chosen.append(v)
    return chosen


def _grade(v: RecipeVerdict) -> tuple[bool, bool]:
    return v.state != READY, bool(v.remedy)


def _order(v: RecipeVerdict) -> tuple[tuple[bool, bool], float, float, bool]:
    seen = evidence(v.recipe)
    lost = (math.inf, math.inf) if seen is None else (seen.diverged, seen.extreme)
    return _grade(v), *lost, v.recipe in LIKE


def advice(verdicts: Sequence[RecipeVerdict], *, captured: bool) -> list[str]:
    """Sentences and lines of code that end a report: what to use, on which GPU, and what to keep in BF16.

    A line of code begins with four spaces.
    """
    found = recommended(verdicts)
    if not found:
        below = [v for v in verdicts if v.recipe not in UNSCALED]
        if any(v.state == "not examined" for v in below):
            return ["Capture again with this version, which counts the inputs of linear layers too."]
        return ["Stay in BF16: no recipe that was asked for holds.", *_kept(below, captured)]
    first, *others = found
    said = [f"Use {first.recipe} ({first.verdict}). It needs {first.needs}."]
    said += [f"    {line}" for line in first.recipe_code.splitlines()]
    if first.remedy:
        said.append(f"With {first.remedy}: {get_remedy(first.remedy).description}. As code:")
        said += [f"    {line}" for line in get_remedy(first.remedy).code.splitlines()]
    for v in others:
        said.append(f"Without such a GPU: {v.recipe} ({v.verdict}), on {v.needs}.")
        said += [f"    {line}" for line in v.recipe_code.splitlines()]
    return [*said, *_kept([first], captured)]


def _kept(verdicts: Sequence[RecipeVerdict], captured: bool) -> list[str]:
    """What to keep in BF16: of the recipe that is used, or of each where none is."""
    if not captured:
        return [
            "Keep in BF16: no layers are known of a modelled distribution; capture your model to name them."
        ]
    said = []
    for v in verdicts:
        if v.keep_bf16:
            rest = f"; without them the rest is {v.without_them}" if v.without_them else ""
            said.append(f"Keep in BF16 under {v.recipe}: {', '.join(v.keep_bf16)}{rest}.")
    return said or ["Keep in BF16: no layer that was captured asks for it."]


__all__ = ["LATE", "advice", "recommended"]
