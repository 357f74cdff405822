"""Recipes below BF16: verdicts, and the numbers behind them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from precision_lab.report.numbers import Data, number, percent, short
from precision_lab.report.section import Code, Column, Figure, Fold, Part, Section, Table, numeric
from precision_lab.results import Results

AMPLIFIED = ("kurtosis_in", "kurtosis_out", "amax_in", "amax_out", "crest_in", "crest_out")


def of_lowprecision(make: Callable[[Data], Section | None]) -> Callable[[Results], Section | None]:
    """A section that reads the results' part on low precision, and None where there is no such part."""

    @functools.wraps(make)
    def section(results: Results) -> Section | None:
        return make(results.lowprecision) if results.lowprecision else None

    return section


def _subject(row: Data) -> str:
    return f"{row['function']} ({row['params_name']})"


@of_lowprecision
def verdicts(data: Data) -> Section | None:
    """May it be trained so, and what to do."""
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
                v["verdict"], percent(v["forward_noise"], 1), percent(v["gradient_noise"], 1),
                percent(v["clipped"]),
            ]  # fmt: skip
        rows.append(cells)
    kinds = list(next(iter(by.values())))
    titles = {"steady": "normal and Student-t inputs", "outliers": "with outlier channels"}
    headings: list[str | Column] = ["activation", "recipe"]
    for kind in kinds:
        headings += [titles.get(kind, kind), *numeric("forward", "gradient", "clipped")]
    warnings = dict.fromkeys(w for row in data["readiness"] for w in row["warnings"])
    said = [f"Warning: {w}." for w in warnings]
    seen = dict.fromkeys(row["seen"] for row in data["readiness"] if row.get("seen"))
    why = list(dict.fromkeys(
        (_subject(row), v["recipe"], sentence)
        for row in data["readiness"] for v in row["verdicts"] for sentence in v["why"]
    ))  # fmt: skip
    reasons = Table(["activation", "recipe", "because"], why, f"{len(why)} reasons against") if why else ""
    return Section(
        "readiness",
        "May it be trained below BF16?",
        (
            *_what_to_do(data["readiness"]), Table(headings, rows), *seen, *said, reasons,
            _how_judged(data["readiness"]), *_to_paste(data["readiness"]),
        ),
    )  # fmt: skip


def _how_judged(rows: Sequence[Data]) -> str:
    """What the numbers are, and how large they may be."""
    limits = rows[0]["limits"]
    text = (
        "Four numbers decide, each of the layer where it is worst: the noise of the stored activation and "
        "that of the gradient that goes back through it (root mean square over channels, each relative to "
        f"its own size; at most {limits['noise']:.0%}, or twice what rounding costs every tensor of a "
        "coarser format: 19.6 % in E2M1, 27.8 % where it is rounded stochastically), the bias of it"
        + (f" (at most {limits['bias']:.0%})" if "bias" in limits else " (not examined)")
        + f", and the share of values beyond the format's range (at most {limits['clipped']:.1%}). A number "
        "that is nearer to its limit than its uncertainty is at the limit, and not called either way. "
    )
    if any(row["params_name"] == "captured" for row in rows):
        return text + "Inputs and parameters are those that were captured."
    return (
        text + "Inputs are modelled; `precision-lab readiness --captured FILE` judges by those of your own "
        "model."
    )


def _what_to_do(rows: Sequence[Data]) -> list[Part]:
    """The recipe to begin with and its code, of each subject; a subject that was judged before has none."""
    told = [row for row in rows if row.get("advice")]
    if len(told) == 1:
        return _advised(told[0]["advice"])
    return [
        Table(
            ["activation", "inputs", "what to do"],
            [[_subject(row), row["inputs"], row["advice"][0]] for row in told],
        )
    ] if told else []  # fmt: skip


def _advised(lines: Sequence[str]) -> list[Part]:
    """Sentences, and listings of the lines that begin with four spaces."""
    parts: list[Part] = []
    code: list[str] = []
    for line in [*lines, ""]:
        if line.startswith("    "):
            code.append(line.removeprefix("    "))
            continue
        if code:
            parts.append(Code("\n".join(code), "python"))
            code = []
        if line:
            parts.append(line if parts else f"**{line}**")
    return parts


def _to_paste(rows: Sequence[Data]) -> list[Part]:
    """For each recipe what makes it in Transformer Engine, and which GPU it needs; each remedy as code."""
    found = {v["recipe"]: v for row in rows for v in row["verdicts"] if v.get("recipe_code")}
    if not found:
        return []
    listed = [[name, v["needs"], v["trained"]] for name, v in found.items()]
    parts: list[Part] = [
        Table(["recipe", "needs", "what the probe's models lost by it"], listed),
        f"Which GPU has what: {rows[0]['hardware_source']}.",
    ]
    for name, v in found.items():
        parts += [f"`{name}`:", Code(v["recipe_code"], "python")]
    kept = [
        [v["recipe"], ", ".join(v["keep_bf16"]), v["without_them"]]
        for row in rows for v in row["verdicts"] if v.get("keep_bf16")
    ]  # fmt: skip
    if kept:
        first = next(v for row in rows for v in row["verdicts"] if v.get("keep_bf16") and v["training_code"])
        parts = [
            Table(["recipe", "keep in BF16", "the rest is"], kept),
            f"The training step under {first['recipe']}, with these in BF16:",
            Code(first["training_code"], "python"),
            *parts,
        ]
    remedies = [
        part
        for name, r in rows[0]["remedies"].items()
        if r["code"]
        for part in (f"**{name}**: {r['description']}.", Code(r["code"], "python"))
    ]
    return [Fold("Transformer Engine's recipes, and the GPUs they need", parts),
            Fold("The remedies, as code", remedies)]  # fmt: skip


@of_lowprecision
def inputs(data: Data) -> Section | None:
    """The inputs of linear layers under each recipe."""
    rows, recipes = [], []
    missing = False
    for row in data["readiness"]:
        found = row.get("linear_inputs")
        missing |= found is None and row["params_name"] == "captured"
        by: dict[str, dict[str, Data]] = {}
        for n in found or ():
            by.setdefault(n["name"], {})[n["recipe"]] = n
        recipes = [v["recipe"] for v in row["verdicts"]]
        for name, of in by.items():
            n = next(iter(of.values()))
            also = f" (also {', '.join(n['also'])})" if n["also"] else ""
            rows.append([name + also, short(n["amax"]), short(n["outlier"]),
                         *(percent(of[r]["noise"], 1) for r in recipes)])  # fmt: skip
    title = "The inputs of linear layers"
    if not rows:
        text = "Not examined: the capture holds no inputs of linear layers. Capture again."
        return Section("inputs", title, (text,)) if missing else None
    text = (
        "What the products of attention and of the MLP are given, under each recipe: noise as that of the "
        "stored activation. Outlier: the largest channel's largest magnitude over the median channel's."
    )
    headings: list[str | Column] = ["layer", *numeric("largest", "outlier", *recipes)]
    return Section("inputs", title, (text, Table(headings, rows, f"{len(rows)} inputs")))


@of_lowprecision
def stored(data: Data) -> Section | None:
    """What storage does to the activation and its gradient."""
    rows = []
    for row in data["readiness"]:
        for e in row["evidence"]:
            f, g = e["numbers"]["forward"], e["numbers"]["gradient"]
            rows.append(
                [
                    _subject(row) if e["function"] == row["function"] else e["function"],
                    e["layer"],
                    e["recipe"],
                    short(f["sqnr_db"], ".1f"),
                    short(f["effective_bits"], ".1f"),
                    percent(f["underflow"]),
                    percent(f["overflow"]),
                    percent(f["range_used"], 0),
                    short(f["mean_bias"], ".1e"),
                    short(e["numbers"]["worst_channel_db"], ".1f"),
                    percent(e["numbers"]["channels_lost"], 1),
                    short(g["sqnr_db"], ".1f"),
                    percent(g["underflow"]),
                    percent(g["signs_lost"]),
                ]
            )
    if not rows:
        return None
    headings: list[str | Column] = [
        "activation", "inputs", "recipe", *numeric("SQNR", unit="dB"),
        *numeric("effective bits", "underflow", "overflow", "range used", "bias of the mean",
                 "worst channel's SQNR", "channels lost", "gradient's SQNR", "its underflow", "signs lost"),
    ]  # fmt: skip
    text = (
        "What storage does to the activation and to its gradient, against the oracle's exact values. A "
        "channel is lost where at least half of its energy is noise."
    )
    return Section("stored", "What is stored", (text, Table(headings, rows, f"{len(rows)} tensors")))


@of_lowprecision
def kernels(data: Data) -> Section | None:
    """Kernels' errors, weighed by what a model's inputs were."""
    found: dict[str, dict[str, list[Data]]] = {}
    for row in data["readiness"]:
        for k in row.get("kernels", ()):
            name = f"{k['function']}/{k['implementation']}"
            found.setdefault(name, {}).setdefault(k["output"], []).append(k)
    if not found:
        return None
    outputs = list(dict.fromkeys(o.replace("raw_", "") for by in found.values() for o in by))
    overview, rows = [], []
    for implementation, by in found.items():
        cells = dict.fromkeys(outputs, "–")
        for output, layers in by.items():
            shares = {k: _weighed(layers, k) for k in ("beyond_one_ulp", "wrong_sign", "nonfinite_mismatch")}
            wrong = f", wrong sign {percent(shares['wrong_sign'])}" if shares["wrong_sign"] else ""
            cells[output.replace("raw_", "")] = percent(shares["beyond_one_ulp"]) + wrong
            worst = max(layers, key=lambda k: (number(k["max_ulp"]), k["beyond_one_ulp"]))
            bits = worst["worst_bits"]
            rows.append(
                [
                    implementation, output, *(percent(v) for v in shares.values()),
                    short(max(number(k["p99_ulp"]) for k in layers)), short(worst["max_ulp"]),
                    worst["layer"], f"{bits:#06x}" if bits >= 0 else "–",
                ]
            )  # fmt: skip
        overview.append([implementation, *cells.values()])
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
    headings: list[str | Column] = [
        "implementation", "output", *numeric("beyond 1 ulp", "wrong sign", "NaN or infinity misplaced"),
        *numeric("99 % within", "largest", unit="ulp"), "in layer", "input",
    ]  # fmt: skip
    replay = (
        "The 99 % quantile and the largest error are of the layer where they are worst; its input is shown "
        "again by `precision-lab explain FUNCTION --bits BITS --format bf16`."
    )
    parts = (
        text,
        Table(["implementation", *numeric(*outputs)], overview),
        Table(headings, rows, f"{len(rows)} outputs"),
        replay,
    )
    return Section("kernels", "What your inputs meet in each kernel", parts)


def _weighed(layers: Sequence[Data], name: str) -> float:
    """A share of all layers' inputs."""
    return float(sum(k["n"] * k[name] for k in layers) / sum(k["n"] for k in layers))


@of_lowprecision
def paths(data: Data) -> Section | None:
    """What lies between activation and cast."""
    if not data.get("paths"):
        return None
    by: dict[tuple[str, str], dict[str, Data]] = {}
    for p in data["paths"]:
        by.setdefault((p["function"], p["recipe"]), {})[p["path"]] = p
    paths = list(next(iter(by.values())))
    rows = [
        [*key, *(percent(found[p][k]) for k in ("forward_noise", "gradient_noise") for p in paths)]
        for key, found in by.items()
    ]
    text = (
        "The same normal pre-activations on three ways into the next product: fused, from FP32 into the "
        "stored format as Transformer Engine's kernels go, with BF16 between where the recipe's kernels "
        "are two; unfused, with BF16 between; fp8-in, from pre-activations that were stored by the recipe "
        "themselves. Noise of the stored activation, and of its gradient."
    )
    headings = [f"{w}, {p}" for w in ("forward", "gradient") for p in paths]
    table = Table(["activation", "recipe", *numeric(*headings)], rows)
    return Section("paths", "What lies between activation and cast", (text, table))


@of_lowprecision
def amplification(data: Data) -> Section | None:
    """What becomes of outliers."""
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
                        *(short(a[k]) for k in AMPLIFIED),
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
    columns = numeric(*(k.replace("_", " ") for k in AMPLIFIED))
    table = Table(["inputs", "activation", *columns], rows)
    return Section("amplification", "What becomes of outliers", (text, table))


@of_lowprecision
def maps(data: Data) -> Section | None:
    """Where formats fail over the range of α."""
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


@of_lowprecision
def block_errors(data: Data) -> Section | None:
    """What a whole MLP block loses."""
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
            cells.append(f"{percent(b['relative'])} ({percent(b['of_formulation'])} · "
                         f"{percent(b['of_recipe'])})")  # fmt: skip
        rows.append([*cells, short(min(number(found[o]["cosine"]) for o in ("y", "dx")), ".5f")])
    text = (
        "Relative error of each result of x → GEMM → f → GEMM, forward and backward, against float64 with "
        "the oracle's f; in brackets what the formulation brings alone, and what the recipe brings alone. "
        "Below FP32 activations are stored in BF16 and the gradients of parameters are reduced in it; the "
        "cosine is the smaller of y's and dx's. A parameter's gradient is one sum whose terms cancel, so "
        "its relative error may be large."
    )
    headings: list[str | Column] = ["activation", "recipe", "formulation", *numeric(*outputs, "cosine")]
    return Section("block-error", "What an MLP block loses", (text, Table(headings, rows)))


__all__ = [
    "amplification",
    "block_errors",
    "inputs",
    "kernels",
    "maps",
    "of_lowprecision",
    "paths",
    "stored",
    "verdicts",
]
