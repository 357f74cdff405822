"""The report's part on recipes below BF16: JSON → sections that both templates print."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PAPER = (
    "The paper finds xIELU better than ReLU² and SwiGLU with 1.1 and 3 billion parameters (arXiv 2411.13010, "
    "abstract); the figures of its Table 2 were not at hand."
)
AMPLIFIED = ("kurtosis_in", "kurtosis_out", "amax_in", "amax_out", "crest_in", "crest_out")
Data = Mapping[str, Any]
Row = Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows under headings; folded away under its title unless that is empty."""

    headings: Row
    rows: Sequence[Row]
    folded: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure's file name and what it shows."""

    name: str
    caption: str


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    anchor: str
    title: str
    parts: tuple[str | Table | Figure, ...]


def number(value: Any) -> float:
    """A number as JSON holds it; NaN for null."""
    return math.nan if value is None else float(value)


def _percent(value: Any, digits: int = 2) -> str:
    v = 100 * number(value)
    if math.isnan(v):
        return "–"
    small = 0 < abs(v) < 0.5 * 10.0**-digits  # would read as zero
    return f"{v:.1e} %" if small else f"{v:.{digits}f} %"


def _short(value: Any, form: str = ".3g") -> str:
    v = number(value)
    return "–" if math.isnan(v) else format(v, form)


def sections(data: Data | None) -> list[Section]:
    """Everything there is to say, in the order it is read."""
    if not data:
        return []
    made = [_verdicts, _kernels, _evidence, _paths, _amplification, _maps, _blocks]
    found = [section for make in made if (section := make(data)) is not None]
    if data.get("probe"):
        found += [
            section
            for make in (_order, _ablations, _prediction, _ageing, _formulations, _remedies, _watched)
            if (section := make(data["probe"])) is not None
        ]
    return found


def _subject(row: Data) -> str:
    return f"{row['function']} ({row['params_name']})"


def _verdicts(data: Data) -> Section | None:
    if not data["readiness"]:
        return None
    by: dict[tuple[str, str], dict[str, Data]] = {}
    for row in data["readiness"]:
        for verdict in row["verdicts"]:
            by.setdefault((_subject(row), verdict["recipe"]), {})[row["inputs"]] = verdict
    rows = []
    for (subject, recipe), found in by.items():
        cells = [subject, recipe]
        for v in found.values():
            cells += [
                v["verdict"], _percent(v["forward_noise"], 1), _percent(v["gradient_noise"], 1),
                _percent(v["clipped"]),
            ]  # fmt: skip
        rows.append(cells)
    kinds, limits = list(next(iter(by.values()))), data["readiness"][0]["limits"]
    titles = {"steady": "normal and Student-t inputs", "outliers": "with outlier channels"}
    headings = ["activation", "recipe"]
    for kind in kinds:
        headings += [titles.get(kind, kind), "forward", "gradient", "clipped"]
    text = (
        "Three numbers decide, each of the layer where it is worst: the noise of the stored activation and "
        "that of the gradient that goes back through it (root mean square over channels, each relative to "
        f"its own size; at most {limits['noise']:.0%}), and the share of values beyond the format's range "
        f"(at most {limits['clipped']:.1%}). "
    )
    if any(row["params_name"] == "captured" for row in data["readiness"]):
        text += "Inputs and parameters are those that were captured."
    else:
        text += (
            "Inputs are modelled; `precision-lab readiness --captured FILE` judges by those of your own "
            "model."
        )
    warnings = dict.fromkeys(w for row in data["readiness"] for w in row["warnings"])
    said = [f"Warning: {w}." for w in warnings]
    why = list(dict.fromkeys(
        (_subject(row), v["recipe"], sentence)
        for row in data["readiness"] for v in row["verdicts"] for sentence in v["why"]
    ))  # fmt: skip
    reasons = Table(["activation", "recipe", "because"], why, f"{len(why)} reasons against") if why else ""
    return Section(
        "readiness", "May it be trained below BF16?", (text, Table(headings, rows), reasons, *said)
    )


def _evidence(data: Data) -> Section | None:
    rows = []
    for row in data["readiness"]:
        for e in row["evidence"]:
            f, g = e["numbers"]["forward"], e["numbers"]["gradient"]
            rows.append(
                [
                    _subject(row) if e["function"] == row["function"] else e["function"],
                    e["layer"],
                    e["recipe"],
                    _short(f["sqnr_db"], ".1f"),
                    _short(f["effective_bits"], ".1f"),
                    _percent(f["underflow"]),
                    _percent(f["overflow"]),
                    _percent(f["range_used"], 0),
                    _short(f["mean_bias"], ".1e"),
                    _short(e["numbers"]["worst_channel_db"], ".1f"),
                    _percent(e["numbers"]["channels_lost"], 1),
                    _short(g["sqnr_db"], ".1f"),
                    _percent(g["underflow"]),
                    _percent(g["signs_lost"]),
                ]
            )
    if not rows:
        return None
    headings = [
        "activation", "inputs", "recipe", "SQNR (dB)", "effective bits", "underflow", "overflow",
        "range used", "bias of the mean", "worst channel's SQNR", "channels lost",
        "gradient's SQNR", "its underflow", "signs lost",
    ]  # fmt: skip
    text = (
        "What storage does to the activation and to its gradient, against the oracle's exact values. A "
        "channel is lost where at least half of its energy is noise."
    )
    return Section("stored", "What is stored", (text, Table(headings, rows, f"{len(rows)} tensors")))


def _kernels(data: Data) -> Section | None:
    found: dict[str, dict[str, list[Data]]] = {}
    for row in data["readiness"]:
        for k in row.get("kernels", ()):
            found.setdefault(k["implementation"], {}).setdefault(k["output"], []).append(k)
    if not found:
        return None
    outputs = list(dict.fromkeys(o.replace("raw_", "") for by in found.values() for o in by))
    short, rows = [], []
    for implementation, by in found.items():
        cells = dict.fromkeys(outputs, "–")
        for output, layers in by.items():
            shares = {k: _weighed(layers, k) for k in ("beyond_one_ulp", "wrong_sign", "nonfinite_mismatch")}
            wrong = f", wrong sign {_percent(shares['wrong_sign'])}" if shares["wrong_sign"] else ""
            cells[output.replace("raw_", "")] = _percent(shares["beyond_one_ulp"]) + wrong
            worst = max(layers, key=lambda k: (number(k["max_ulp"]), k["beyond_one_ulp"]))
            bits = worst["worst_bits"]
            rows.append(
                [
                    implementation, output, *(_percent(v) for v in shares.values()),
                    _short(max(number(k["p99_ulp"]) for k in layers)), _short(worst["max_ulp"]),
                    worst["layer"], f"{bits:#06x}" if bits >= 0 else "–",
                ]
            )  # fmt: skip
        short.append([implementation, *cells.values()])
    within = [
        name for name, by in found.items()
        if not any(k["beyond_one_ulp"] for layers in by.values() for k in layers)
    ]  # fmt: skip
    count = len({k["layer"] for by in found.values() for layers in by.values() for k in layers})
    text = (
        f"Every finite input that was counted in {count} layers, as often as it was, in BF16: the share "
        "whose result is off by more than one ulp, certified, with the parameters of its layer. Within one "
        f"ulp for every input and output: {', '.join(within) or 'none'}."
    )
    if any("raw_" in o for by in found.values() for o in by):
        text += " A module that is trained by raw parameters has their gradients here."
    headings = [
        "implementation", "output", "beyond 1 ulp", "wrong sign", "NaN or infinity misplaced",
        "99 % within (ulp)", "largest (ulp)", "in layer", "input",
    ]  # fmt: skip
    replay = (
        "The 99 % quantile and the largest error are of the layer where they are worst; its input is shown "
        "again by `precision-lab explain FUNCTION --bits BITS --format bf16`."
    )
    parts = (
        text,
        Table(["implementation", *outputs], short),
        Table(headings, rows, f"{len(rows)} outputs"),
        replay,
    )
    return Section("kernels", "What your inputs meet in each kernel", parts)


def _weighed(layers: Sequence[Data], name: str) -> float:
    """A share of all layers' inputs."""
    return float(sum(k["n"] * k[name] for k in layers) / sum(k["n"] for k in layers))


def _paths(data: Data) -> Section | None:
    if not data.get("paths"):
        return None
    by: dict[tuple[str, str], dict[str, Data]] = {}
    for p in data["paths"]:
        by.setdefault((p["function"], p["recipe"]), {})[p["path"]] = p
    paths = list(next(iter(by.values())))
    rows = [
        [*key, *(_percent(found[p][k]) for k in ("forward_noise", "gradient_noise") for p in paths)]
        for key, found in by.items()
    ]
    text = (
        "The same normal pre-activations on three ways into the next product: fused, from FP32 into the "
        "stored format as Transformer Engine's kernels go, with BF16 between where the recipe's kernels "
        "are two; unfused, with BF16 between; fp8-in, from pre-activations that were stored by the recipe "
        "themselves. Noise of the stored activation, and of its gradient."
    )
    headings = ["activation", "recipe", *(f"{w}, {p}" for w in ("forward", "gradient") for p in paths)]
    return Section("paths", "What lies between activation and cast", (text, Table(headings, rows)))


def _amplification(data: Data) -> Section | None:
    rows, seen = [], set()
    for row in data["readiness"]:
        for a in row["amplification"]:
            name = _subject(row) if a["function"] == row["function"] else a["function"]
            if (name, a["layer"]) not in seen:
                seen.add((name, a["layer"]))
                rows.append(
                    [
                        a["layer"],
                        name,
                        *(_short(a[k]) for k in AMPLIFIED),
                    ]
                )
    if not rows:
        return None
    rows.sort(key=lambda r: r[0])
    text = (
        "Kurtosis (3 for a normal distribution) and crest (largest magnitude over the root mean square) of "
        "the same pre-activations before and after each activation. SwiGLU's gate is captured, or else "
        "another token's input."
    )
    headings = ["inputs", "activation", *(k.replace("_", " ") for k in AMPLIFIED)]
    return Section("amplification", "What becomes of outliers", (text, Table(headings, rows)))


def _maps(data: Data) -> Section | None:
    functions = list(dict.fromkeys(m["function"] for m in data["maps"]))
    if not functions:
        return None
    text = (
        "Share of values lost, for normal pre-activations of the given scale, over the range of α that "
        "training is known to reach. FP16 and unscaled E4M3 overflow as α grows. Scaled formats do not, for "
        "a scale takes α away; but the positive side sets it, and beside that the negative one becomes 0."
    )
    figures = [Figure(f"regime-{f}.svg", f"Where formats fail for {f}") for f in functions]
    return Section("regime", "Where formats fail as α grows", (text, *figures))


def _blocks(data: Data) -> Section | None:
    if not data["blocks"]:
        return None
    outputs = list(dict.fromkeys(b["output"] for b in data["blocks"]))
    by: dict[tuple[str, str, str], dict[str, Data]] = {}
    for b in data["blocks"]:
        by.setdefault((b["function"], b["recipe"], b["formulation"]), {})[b["output"]] = b
    rows = []
    for key, found in by.items():
        cells = list(key)
        for output in outputs:
            b = found[output]
            cells.append(f"{_percent(b['relative'])} ({_percent(b['of_formulation'])} · "
                         f"{_percent(b['of_recipe'])})")  # fmt: skip
        rows.append([*cells, _short(min(number(found[o]["cosine"]) for o in ("y", "dx")), ".5f")])
    text = (
        "Relative error of each result of x → GEMM → f → GEMM, forward and backward, against float64 with "
        "the oracle's f; in brackets what the formulation brings alone, and what the recipe brings alone. "
        "Below FP32 activations are stored in BF16 and the gradients of parameters are reduced in it; the "
        "cosine is the smaller of y's and dx's. A parameter's gradient is one sum whose terms cancel, so "
        "its relative error may be large."
    )
    headings = ["activation", "recipe", "formulation", *outputs, "cosine"]
    return Section("block-error", "What an MLP block loses", (text, Table(headings, rows)))


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
        + " The table's own figures were not at hand, so nothing is set beside them."
    )
    return Section("ablations", "xIELU taken apart", (text, Table(["variant", *recipes], rows)))


def _against_paper(losses: Callable[[str], Mapping[str, Data] | None], recipe: str) -> str:
    xielu = [
        f["mean"] for s in ("xielu/stable [operator]", "xielu/expm1") if (f := (losses(s) or {}).get(recipe))
    ]
    said = []
    for other in ("relu2/torch", "swiglu/torch"):
        theirs = (losses(other) or {}).get(recipe)
        if xielu and theirs:
            mine = xielu[0]
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
    unresolved = [c for c in cells if math.isfinite(_gap(c["gap"])) and abs(c["gap"]) <= c["spread"]]
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
        _short(c["spread"], ".4f"),
        _short(c["distance"], ".4f"),
    ]


def _threshold(cells: Sequence[Data], noise_limit: float) -> str:
    """What the limits of the verdict would have let through."""
    limit = noise_limit * math.sqrt(2)
    within = [_gap(c["gap"]) for c in cells if number(c["risk"]) <= limit]
    beyond = [_gap(c["gap"]) for c in cells if number(c["risk"]) > limit]
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


def _gap(value: Any) -> float:
    return math.inf if value in (None, "inf") else float(value)


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
            said = f"diverged at step {at}" if at is not None else _short(loss, ".4f")
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
    gap = _gap(cell["gap"])
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
    values = [_gap(v) for v in by_seed.values()]
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
                _percent(_largest(run["clipping"].values())),
                _short(run["largest_gradient_norm"]),
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


__all__ = ["Figure", "Section", "Table", "number", "sections"]
