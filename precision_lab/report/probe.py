"""The report's part on the training probe: JSON → sections."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from precision_lab.report import published
from precision_lab.report.parts import Data, Figure, Section, Table, gap_of, number, percent, short

PAPER = (
    "The paper's Table 2 (arXiv 2411.13010) has these losses after 125 billion tokens, nats per token: "
    "with 1.1 billion parameters "
    + ", ".join(f"{name} {loss:.3f} ± {half:.3f}" for name, (loss, half) in published.LOSSES.items())
    + "; with 3.0 billion "
    + ", ".join(f"{name} {loss:.3f} ± {half:.3f}" for name, (loss, half) in published.LOSSES_3B.items())
    + "."
)


def probe_sections(probe: Data) -> list[Section]:
    """Losses, ablations, prediction, ageing, formulations, remedies, and what was watched."""
    made = (_order, _ablations, _prediction, _ageing, _formulations, _remedies, _watched)
    return [section for make in made if (section := make(probe)) is not None]


def _order(probe: Data) -> Section:
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
        f"held-out loss in nats per byte, mean and 95 % interval over {wanted['seeds']} "
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
    paper = PAPER + " " + _against_paper(losses.get, first)
    bytes_seen = training["steps"] * training["batch"] * model["context"]
    paper += (
        f" With {bytes_seen:,} bytes for 125 billion tokens, an order at this scale is no evidence for or "
        "against the paper's."
    )
    diverged = [r for r in probe["runs"] if r["diverged_at"] is not None]
    end = f"{len(diverged)} of {len(probe['runs'])} runs diverged" + (
        ": " + ", ".join(map(_run_name, diverged[:24])) + (", …" if len(diverged) > 24 else "")
        if diverged else ""
    ) + "."  # fmt: skip
    return Section("probe", "Trained: losses", (text, Table(["activation", *recipes], rows), paper, end))


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


def _ablations(probe: Data) -> Section | None:
    by = probe["ablations"]
    if not by:
        return None
    recipes = list(by)
    base = probe["config"]["ablations"]["subjects"][0]
    first = "bf16" if "bf16" in by else recipes[0]
    ranked = sorted(by[first].items(), key=lambda item: item[1]["mean"])
    rows = [
        [s, *(_mean_half(by[r].get(s), "+.4f") for r in recipes), *_published(s, base)]
        for s, _ in ranked
        if s != base
    ]
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
        + " Beside them the perplexities of that table (arXiv 2411.13010: 1.1 billion parameters, 4 billion "
        f"tokens), and the logarithm of their ratio to {base.split('/')[0]}'s, nats per token. "
        + _order_kept([s for s, _ in ranked])
    )
    headings = ["variant", *recipes, "paper: perplexity", "paper: nats per token"]
    return Section("ablations", "xIELU taken apart", (text, Table(headings, rows)))


def _perplexity(subject: str) -> float | None:
    return published.ABLATIONS.get(subject.split("/")[0])


def _published(subject: str, base: str) -> tuple[str, str]:
    """The paper's perplexity of a variant, and what that is beside the base's in nats."""
    theirs, reference = _perplexity(subject), _perplexity(base)
    if theirs is None:
        return "–", "–"
    return f"{theirs:.2f}", "–" if reference is None else f"{math.log(theirs / reference):+.4f}"


def _order_kept(ranked: Sequence[str]) -> str:
    """How many pairs of variants stand in the paper's order here, best first."""
    theirs = [v for s in ranked if (v := _perplexity(s)) is not None]
    pairs = [(a, b) for a, b in itertools.combinations(theirs, 2) if a != b]
    kept = sum(a < b for a, b in pairs)
    return f"Of the {len(pairs)} pairs that differ there, {kept} stand here in the same order."


def _against_paper(losses: Callable[[str], Mapping[str, Data] | None], recipe: str) -> str:
    xielu = ((losses(s) or {}).get(recipe) for s in ("xielu/stable [operator]", "xielu/expm1"))
    mine = next((f["mean"] for f in xielu if f), None)
    said = []
    for other in ("relu2/torch", "swiglu/torch"):
        theirs = (losses(other) or {}).get(recipe)
        if mine is not None and theirs:
            said.append(f"{'below' if mine < theirs['mean'] else 'above'} {other.split('/')[0]} "
                        f"({mine:.4f} against {theirs['mean']:.4f})")  # fmt: skip
    if not said:
        return "This probe did not train them side by side."
    return f"Here xIELU ends {' and '.join(said)} in {recipe}."


def _prediction(probe: Data) -> Section:
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
    common = ["activation", "recipe", "ageing", "risk", "gap (nats)", "spread of seeds"]
    every = [_cell_row(c) for c in sorted(cells, key=lambda c: number(c["risk"]))]
    parts = (
        text,
        Figure("prediction.svg", "Predicted risk and measured loss"),
        _threshold(cells, probe["noise_limit"]),
        "Where it failed: the cells whose rank (0 safest, 100 worst) was foretold worst.",
        Table([*common, "rank foretold", "rank measured"], rows),
        Table([*common, "distance"], every, f"all {len(every)} cells"),
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


def _ageing(probe: Data) -> Section:
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
        "ageing", "Aged: which recipe survives", (text, Table(["ageing", "activation", *recipes], rows))
    )


def _formulations(probe: Data) -> Section:
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
        "formulations", "Formulations, aged", (text, Table(["formulation", "ageing", *recipes], rows))
    )


def _signed(cell: Data | None) -> str:
    if cell is None:
        return "–"
    gap = gap_of(cell["gap"])
    return f"{gap:+.4f}" if math.isfinite(gap) else "diverged"


def _remedies(probe: Data) -> Section:
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
         Table(["activation", "ageing", "recipe", "none", *remedies, "block instead"], rows),
         "What a remedy itself costs: FP32 with it, less FP32 without.",
         Table(["activation", "ageing", *remedies], costs)),
    )  # fmt: skip


def _mean_gap(by_seed: Mapping[str, Any] | None) -> str:
    if not by_seed:
        return "–"
    values = [gap_of(v) for v in by_seed.values()]
    if not all(map(math.isfinite, values)):
        return "diverged"
    return f"{math.fsum(values) / len(values):+.4f}"


def _watched(probe: Data) -> Section:
    rows = []
    for run in probe["runs"]:
        if run["seed"] != 0 or run["remedy"] != "none" or run["recipe"] not in ("bf16", "delayed"):
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
    headings = ["activation", "recipe", "ageing", "α_p", "α_n", "kurtosis of f(x)", "most clipped",
                "largest gradient norm"]  # fmt: skip
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


__all__ = ["probe_sections"]
