"""The training probe: held-out losses, and what was watched on the way."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from precision_lab.report.numbers import Data, number, percent, short
from precision_lab.report.section import Column, Section, Table, numeric
from precision_lab.report.sections.lowprecision import of_lowprecision
from precision_lab.results import Results


def of_probe(make: Callable[[Data], Section | None]) -> Callable[[Results], Section | None]:
    """A section that reads the results of the training probe, and None where there was none."""

    @of_lowprecision
    @functools.wraps(make)
    def section(data: Data) -> Section | None:
        return make(data["probe"]) if data.get("probe") else None

    return section


@of_probe
def losses(probe: Data) -> Section | None:
    """Held-out losses of each activation and recipe."""
    losses: dict[str, dict[str, Data]] = {}
    wanted = probe["config"]["runs"]
    for key, found in probe["losses"].items():
        subject, recipe = key.rsplit(" / ", 1)
        if subject in wanted["subjects"]:
            losses.setdefault(subject, {})[recipe] = found
    recipes = ["fp32", *wanted["recipes"]]
    first = "bf16" if "bf16" in recipes else "fp32"
    ranked = sorted(losses, key=lambda s: number(losses[s].get(first, {}).get("mean")))
    rows = [[subject, *(_mean_half(losses[subject].get(r), ".4f") for r in recipes)] for subject in ranked]
    training, model = probe["config"]["training"], probe["config"]["training"]["model"]
    text = (
        f"A Llama-style model of {model['layers']} blocks of width {model['width']} (hidden width "
        f"{model['hidden']} with a gate, {model['hidden'] * 3 // 2} without) trained for "
        f"{training['steps']} steps of {training['batch']} × {model['context']} bytes of Python's own help; "
        f"held-out loss in nats per byte, mean and 95 % interval over {_seeds(losses)} "
        f"seeds (of weights and batches), in the order of {first}. Every product of the blocks goes through "
        "the recipe."
    )
    if probe["paired"].get(first):
        differences = sorted(probe["paired"][first].items(), key=lambda item: item[1]["mean"])
        text += (
            f" Less {probe['reference'].split('/')[0]}'s with the same seed, in {first}: "
            + "; ".join(
                f"{s} {_mean_half(d, '+.4f')}"
                for s, d in differences
                if s != probe["reference"] and s in wanted["subjects"]
            )
            + "."
        )
    diverged = [r for r in probe["runs"] if r["diverged_at"] is not None]
    end = f"{len(diverged)} of {len(probe['runs'])} runs diverged" + (
        ": " + ", ".join(map(_run_name, diverged[:24])) + (", …" if len(diverged) > 24 else "")
        if diverged else ""
    ) + "."  # fmt: skip
    return Section("probe", "Trained: losses", (text, Table(["activation", *numeric(*recipes)], rows), end))


def _seeds(losses: Mapping[str, Mapping[str, Data]]) -> str:
    """How many seeds have figures, which a probe that is under way has not of all that were asked for."""
    found = sorted({by[recipe]["n"] for by in losses.values() for recipe in by})
    return f"{found[0]} to {found[-1]}" if len(found) > 1 else str(*found)


def _run_name(run: Data) -> str:
    words = [run["subject"], run["recipe"], run["ageing"] or "whole"]
    if run["remedy"] != "none":
        words.append(f"with {run['remedy']}")
    return " ".join([*words, f"(seed {run['seed']})"])


def _mean_half(found: Data | None, form: str) -> str:
    """A mean with its interval."""
    if found is None:
        return "–"
    half = number(found["half"])
    return format(found["mean"], form) + ("" if math.isnan(half) else f" ± {half:.4f}")


@of_probe
def ablations(probe: Data) -> Section | None:
    """The variants of the paper's Table 4."""
    by = probe["ablations"]
    if not by:
        return None
    recipes = list(by)
    base = probe["config"]["ablations"]["subjects"][0]
    first = "bf16" if "bf16" in by else recipes[0]
    ranked = sorted(by[first].items(), key=lambda item: item[1]["mean"])
    rows = [[s, *(_mean_half(by[r].get(s), "+.4f") for r in recipes)] for s, _ in ranked if s != base]
    apart = [s for s, d in ranked if s != base and abs(d["mean"]) > number(d["half"])]
    text = (
        f"The variants of the paper's Table 4, held-out loss less {base}'s with the same seed, nats per "
        f"byte, mean and 95 % interval over {probe['config']['ablations']['seeds']} seeds, in the order of "
        f"{first}. "
        + (
            f"Apart from {base} by more than the interval: {', '.join(apart)}."
            if apart
            else f"No variant lies apart from {base} by more than the interval."
        )
    )
    return Section("ablations", "xIELU taken apart", (text, Table(["variant", *numeric(*recipes)], rows)))


@of_probe
def watched(probe: Data) -> Section | None:
    """What was looked at while training."""
    rows = []
    shown = {"bf16", "delayed"} & {run["recipe"] for run in probe["runs"]} or {"fp32"}
    for run in probe["runs"]:
        if run["seed"] != 0 or run["remedy"] != "none" or run["recipe"] not in shown:
            continue
        rows.append(
            [
                run["subject"],
                run["recipe"],
                run["ageing"] or "whole",
                _path(run["alphas"], "alpha_p"),
                _path(run["alphas"], "alpha_n"),
                _path(run["kurtosis"], "output"),
                percent(_largest(run["clipping"].values())),
                short(run["largest_gradient_norm"]),
            ]
        )
    headings: list[str | Column] = ["activation", "recipe", "ageing"]
    headings += numeric("α_p", "α_n", "kurtosis of f(x)", "most clipped", "largest gradient norm")
    text = (
        "From the first look to the last, over the blocks: smallest to largest value. Clipped is the "
        "largest share of any operand beyond delayed scaling's range at any look."
    )
    return Section(
        "watched", "Watched while training", (text, Table(headings, rows, f"{len(rows)} runs of seed 0"))
    )


def _path(found: Mapping[str, Sequence[Any]], name: str) -> str:
    series = [v for key, v in found.items() if key.endswith(f".{name}") and v]
    if not series:
        return "–"

    def span(at: int) -> str:
        values = [n for v in series if not math.isnan(n := number(v[at]))]
        return f"{min(values):.3g} to {max(values):.3g}" if values else "not finite"

    return f"{span(0)} → {span(-1)}"


def _largest(series: Iterable[Sequence[Any]]) -> float | None:
    values = [number(v) for s in series for v in s]
    return max(values) if values else None


__all__ = ["ablations", "losses", "of_probe", "watched"]
