"""The paper's figures (arXiv 2411.13010) beside what this report holds of the same kind."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from precision_lab.report import published, ranks
from precision_lab.report.costs import per_element
from precision_lab.report.numbers import Data, number, ratio
from precision_lab.report.section import Column, Part, Section, Table, numeric
from precision_lab.results import Block, Results
from precision_lab.results.cost import Cost
from precision_lab.results.execution import labelled

INTRODUCTION = (
    "Figures of the paper that introduced xIELU and xIPReLU (arXiv 2411.13010) beside this report's, which "
    "are of other machines and another scale: compare ratios and orders, not figures. Table 3, downstream "
    "tasks of a model of 3 billion parameters, is out of reach."
)
# Kinds of machine instructions. Comparisons of integers are of addresses with the tensor's end.
SUMS = ("FFMA", "FMUL", "FADD", "HFMA2", "HMUL2", "HADD2")
CHOICES = ("FSEL", "SEL", "FSETP", "FSET", "FMNMX", "HSETP2", "HSET2", "HMNMX2")
# Formulations of a function with several in a probe, the first that is there.
_PREFERRED = ("zero-expm1", "stable [operator]", "expm1")


def paper(results: Results) -> Section | None:
    """Tables 1, 2 and 4 and section 3.5, each beside its like; None where there is nothing of the kind."""
    measured = bool({m.function for m in results.measurements} & set(published.BLOCK_TIMES))
    probe = (results.lowprecision or {}).get("probe")
    parts: list[Part] = [
        found
        for found in (
            _block(results.blocks, measured),
            _operations(results.costs, measured),
            _orders(probe) if probe else None,
        )
        if found is not None
    ]
    if not parts:
        return None
    if not probe and measured:
        parts.append(
            "Tables 2 and 4, losses after training: this report holds no training probe. `precision-lab "
            "probe --preset table-4 --out FOLDER` trains the activations of Table 4 in hours, and "
            "`precision-lab report --probe FOLDER` sets them here."
        )
    return Section("paper", "The paper beside the lab", [INTRODUCTION, *parts], nav="The paper")


# Table 1


def _block(blocks: Sequence[Block], measured: bool) -> Part | None:
    """Time and memory of an MLP block, as ratios to SiLU's."""
    title = "Table 1: time and memory of an MLP block"
    chosen = comparable(blocks)
    if "silu" not in chosen:
        words = (
            "SiLU's block, which ratios refer to, gave no figures."
            if blocks
            else "This report holds no times of MLP blocks."
        )
        return Section("paper-block", title, [words]) if measured or blocks else None
    silu = chosen["silu"]
    columns: list[str | Column] = ["activation", "run as"]
    columns += numeric("paper: time × SiLU", "here", "quartiles", "paper: memory × SiLU", "memory here")
    rows = []
    for name, b in chosen.items():
        low, median, high = ratios(b, silu)
        rows.append(
            [
                name,
                labelled(b.implementation, b.execution),
                f"{published.BLOCK_TIMES[name][1]:.3f}",
                ratio(median),
                f"{ratio(low)}–{ratio(high)}",
                "1",
                ratio(b.peak_mib / silu.peak_mib),
            ]
        )
    text = (
        f"Forward and backward of a Llama-style block ({silu.tokens} tokens, width {silu.model_width}, "
        f"{silu.fmt}); the paper's under torch.compile, each with {published.BLOCK_MEMORY} % of the GPU's "
        "memory. Ratios: median and quartiles over rounds in which blocks take turns. " + _agreement(chosen)
    )
    return Section("paper-block", title, [text, Table(columns, rows)])


def comparable(blocks: Iterable[Block]) -> dict[str, Block]:
    """A block for each activation of Table 1, fastest there first: compiled where SiLU's is, as in the paper.

    Of several the first is taken. Blocks without figures are left out.
    """
    sound = [b for b in blocks if b.failure is None and b.function in published.BLOCK_TIMES]
    compiled = any(b.function == "silu" and b.execution == "compiled" for b in sound)
    wanted = "compiled" if compiled else "eager"
    found: dict[str, Block] = {}
    for name in published.BLOCK_TIMES:
        own = [b for b in sound if b.function == name]
        own = [b for b in own if b.execution == wanted] or own
        if own:
            found[name] = own[0]
    return found


def ratios(block: Block, other: Block) -> tuple[float, float, float]:
    """First quartile, median and third quartile of the ratio of two blocks' times, round by round.

    Reports of before rounds were kept have their ends: one's first quartile over the other's third.
    """
    pairs = [a / b for a, b in zip(block.times_ms, other.times_ms, strict=False)]
    if len(pairs) > 1:
        low, median, high = statistics.quantiles(pairs, n=4, method="inclusive")
        return low, median, high
    return (
        block.time_ms_low / other.time_ms_high,
        block.time_ms / other.time_ms,
        block.time_ms_high / other.time_ms_low,
    )


def _agreement(chosen: Mapping[str, Block]) -> str:
    """Which pairs stand in the paper's order of time, in the other, or too near to tell."""
    same, other, near = 0, [], 0
    for a, b in itertools.combinations(chosen, 2):  # a is faster in the paper
        low, _, high = ratios(chosen[a], chosen[b])
        if high < 1:
            same += 1
        elif low > 1:
            other.append(f"{b} before {a}")
        else:
            near += 1
    pairs = same + len(other) + near
    if not pairs:
        return "There is no second activation to compare."
    turned = f"{len(other)} ({', '.join(other)})" if other else "none"
    return (
        f"Of {pairs} pairs of activations, in the paper's order beyond the quartiles: {same}; in the other "
        f"order: {turned}; within them, which tells nothing: {near}."
    )


# Section 3.5


def _operations(costs: Sequence[Cost], measured: bool) -> Part | None:
    """Operations as the paper counts them, beside the instructions of machine code."""
    title = "Section 3.5: operations and machine instructions"
    chosen = counted(costs)
    if not chosen:
        words = (
            "This report counts instructions, but was made before they were kept by name: measure it anew."
            if any(d.launches for c in costs for d in c.directions)
            else "This report holds no counts of machine instructions."
        )
        return Section("paper-operations", title, [words]) if measured or costs else None
    columns: list[str | Column] = ["function", "kernel", "the paper counts", "special functions (MUFU)"]
    columns += numeric("multiply, add", "compare, select", "all other", "all")
    rows = []
    for cost in chosen:
        opcodes = cost.direction("forward").opcodes  # type: ignore[union-attr]
        special, sums, choices, rest = kinds(opcodes)
        rows.append(
            [
                cost.function,
                labelled(cost.implementation, cost.execution),
                published.OPERATIONS.get(cost.function, "not counted alone"),
                special or "–",
                *map(per_element, (sums, choices, rest, sum(opcodes.values()))),
            ]
        )
    first = chosen[0]
    text = (
        f"Forward, per element, in {first.fmt} for {first.device}: instructions of the machine code, counted "
        "and not timed. An exponential is one MUFU.EX2, a product and a sum are often one FFMA, expm1 is a "
        "polynomial. *All other* is loads, stores, conversions and addresses, which the paper does not count."
        + _beside_silu(chosen)
    )
    return Section("paper-operations", title, [text, Table(columns, rows)])


def _beside_silu(chosen: Sequence[Cost]) -> str:
    """All instructions of each, as multiples of SiLU's."""
    every = [(c, sum(c.direction("forward").opcodes.values())) for c in chosen]  # type: ignore[union-attr]
    silu = next((n for c, n in every if c.function == "silu"), None)
    if silu is None:
        return ""
    listed = ", ".join(
        f"{c.function} ({c.implementation}) {n / silu:.2f}" for c, n in every if c.function != "silu"
    )
    return f" All, as multiples of SiLU's: {listed}." if listed else ""


def counted(costs: Iterable[Cost]) -> list[Cost]:
    """Costs whose forward pass is known by instruction, in the order in which the paper counts operations.

    Compiled kernels where there are any, as in the paper's Table 1; the first device and format alone.
    """
    named = (*published.OPERATIONS, "relu2")
    known = [
        c
        for c in costs
        if c.function in named and (d := c.direction("forward")) is not None and d.opcodes and not d.failure
    ]
    compiled = [c for c in known if c.execution == "compiled"] or known
    same = [c for c in compiled if (c.device, c.fmt) == (compiled[0].device, compiled[0].fmt)]
    return sorted(same, key=lambda c: named.index(c.function))


def kinds(opcodes: Mapping[str, float]) -> tuple[str, float, float, float]:
    """MUFU by function in words; products and sums; comparisons and selections; everything else."""
    special = {name: n for name, n in opcodes.items() if name.startswith("MUFU") and n >= 0.005}
    words = ", ".join(f"{name.removeprefix('MUFU.')} {per_element(n)}" for name, n in sorted(special.items()))
    sums = sum(n for name, n in opcodes.items() if name.startswith(SUMS))
    choices = sum(n for name, n in opcodes.items() if name in CHOICES)
    every = sum(n for name, n in opcodes.items() if name.startswith("MUFU"))
    return words, sums, choices, sum(opcodes.values()) - sums - choices - every


# Tables 2 and 4


@dataclass(frozen=True)
class Trained:
    """Held-out losses of a probe's activations in one recipe.

    Attributes:
        losses: by activation and seed, nats per byte, of runs from the beginning.
        subjects: which formulation stands for each activation.
        diverged: activations one of whose runs gave no loss; they are not among the others.
    """

    recipe: str
    losses: Mapping[str, Mapping[int, float]]
    subjects: Mapping[str, str]
    diverged: tuple[str, ...] = ()


def trained(runs: Iterable[Data], recipe: str) -> Trained:
    """The losses of a probe's runs, as `probe_json` has them."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    broken: set[str] = set()
    for run in runs:
        if run["ageing"] or run["remedy"] != "none" or run["recipe"] != recipe:
            continue
        name, _, formulation = run["subject"].partition("/")
        loss = math.nan if run["diverged_at"] is not None else number(run["validation_loss"])
        found.setdefault(name, {}).setdefault(formulation, {})[int(run["seed"])] = loss
    losses, subjects = {}, {}
    for name, by in found.items():
        chosen = min(by, key=lambda f: _PREFERRED.index(f) if f in _PREFERRED else len(_PREFERRED))
        if not all(map(math.isfinite, by[chosen].values())):
            broken.add(name)
            continue
        losses[name], subjects[name] = by[chosen], f"{name}/{chosen}"
    return Trained(recipe, losses, subjects, tuple(sorted(broken)))


def orders(runs: Sequence[Data]) -> tuple[Trained, dict[str, ranks.Order | None]]:
    """The probe's losses, in BF16 if any were trained in it, and their order beside Tables 2 and 4."""
    recipe = "bf16" if any(r["recipe"] == "bf16" and not r["ageing"] for r in runs) else "fp32"
    found = trained(runs, recipe)
    losses = {name: loss for name, (loss, _) in published.LOSSES.items()}
    spread = max(half for _, half in published.LOSSES.values())
    return found, {
        "Table 2": ranks.order(found.losses, losses, normal=spread),
        "Table 4": ranks.order(found.losses, published.ABLATIONS, rounded=0.005),
    }


def _orders(probe: Data) -> Part | None:
    """The order of the probe's activations, and how far it is the paper's."""
    found, by_table = orders(probe["runs"])
    known = [name for name in found.losses if name in published.ABLATIONS]
    if not known:
        return None
    training = probe["config"]["training"]
    model = training["model"]
    seen = training["steps"] * training["batch"] * model["context"]
    order = by_table["Table 4"]
    seeds = max(len(found.losses[name]) for name in known) if order is None else order.seeds
    text = (
        f"The training probe: a model of {model['layers']} blocks of width {model['width']}, {seen:,} bytes "
        f"in {training['steps']} steps, {seeds} {'seed' if seeds == 1 else 'seeds'}, in {found.recipe}; loss "
        "on held-out text. The paper: 1.1 billion parameters, 4 (Table 4) and 125 billion tokens (Table 2). "
        "An order at this scale is no evidence for or against the paper's, which saw xIELU start behind "
        "SwiGLU and draw level after 20 billion tokens."
    )
    columns: list[str | Column] = ["activation"]
    columns += numeric("Table 2: loss", "Table 4: perplexity", "here: nats per byte")
    rows = []
    for name in sorted(known, key=lambda name: (published.ABLATIONS[name], name)):
        loss = published.LOSSES.get(name)
        mine = probe["losses"].get(f"{found.subjects[name]} / {found.recipe}", {})
        half = number(mine.get("half"))
        rows.append(
            [
                name,
                "–" if loss is None else f"{loss[0]:.3f} ± {loss[1]:.3f}",
                f"{published.ABLATIONS[name]:.2f}",
                f"{number(mine.get('mean')):.4f}" + ("" if math.isnan(half) else f" ± {half:.4f}"),
            ]
        )
    parts: list[Part] = [text, Table(columns, rows)]
    parts += [said(table, each) for table, each in by_table.items()]
    parts += _two(found)
    without = [name for name in published.ABLATIONS if name not in found.losses]
    if without:
        broken = [name for name in without if name in found.diverged]
        words = f"Not trained here: {', '.join(n for n in without if n not in broken) or 'none'}."
        parts.append(words + (f" Diverged, and left out: {', '.join(broken)}." if broken else ""))
    return Section("paper-order", "Tables 2 and 4: the order after training", parts)


def _two(found: Trained) -> list[Part]:
    """The pair of Table 2 with 3.0 billion parameters, seed by seed; nothing where it was not trained."""
    (better, _), (worse, _) = sorted(published.LOSSES_3B.items(), key=lambda item: item[1])
    pair = [found.losses.get(name, {}) for name in (better, worse)]
    seeds = sorted(set(pair[0]) & set(pair[1]))
    if not seeds:
        return []
    same = sum(pair[0][k] < pair[1][k] for k in seeds)
    return [
        f"With 3.0 billion parameters Table 2 has two, {better} before {worse}: so it is here in {same} of "
        f"{len(seeds)} {'seed' if len(seeds) == 1 else 'seeds'}."
    ]


def said(table: str, order: ranks.Order | None) -> str:
    """An order beside the paper's, in words."""
    if order is None:
        return f"{table}: fewer than three of its activations were trained with a common seed; no order."
    n = len(order.names)
    noise = "its ±, taken as a standard deviation" if table == "Table 2" else "the rounding of its figures"
    interval = (
        "one seed, so that no interval is known"
        if math.isnan(order.low)
        else f"95 % interval {order.low:.2f} to {order.high:.2f}, by {order.seeds} seeds and {noise}"
    )
    odds = f"{100 * order.chance:.2g} %" if order.chance >= 1e-4 else "under 0.01 %"
    words = (
        f"**{table}**, {n} activations: Kendall's τ-b {order.tau:.2f} ({interval}). {order.same} of the "
        f"{order.pairs} pairs that differ there stand in the same order here; of orders drawn at random "
        f"{odds} agree or disagree as much. "
    )
    if order.is_known:
        words += "That is more agreement than chance has." if order.tau > 0 else "The orders are opposed."
    elif ranks.chance([*range(n)], math.comb(n, 2)) > 0.05:
        words += f"{n} activations could not tell in any case: full agreement, too, may be chance."
    else:
        words += "Whether the orders agree cannot be told from this."
    if not math.isnan(order.low):
        words += f" Of the {order.every} pairs here, the seeds tell {order.apart} apart."
    return words


__all__ = ["Trained", "comparable", "counted", "kinds", "orders", "paper", "said", "trained"]
