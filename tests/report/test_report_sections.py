"""The sections on low precision and the page's own figures: which number stands in which column."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from sample_results import measurement, sample_results

from precision_lab.report.document import document
from precision_lab.report.figures_lowprecision import _prediction as draw_prediction
from precision_lab.report.figures_lowprecision import _regime
from precision_lab.report.numbers import gap_of, number, percent, ratio, short
from precision_lab.report.section import Table
from precision_lab.report.sections.aged import _mean_gap, _threshold, ageing, remedies
from precision_lab.report.sections.lowprecision import block_errors, kernels, paths, verdicts
from precision_lab.report.sections.method import method
from precision_lab.report.sections.probe import _mean_half, _path, ablations, losses
from precision_lab.report.sections.use import _block_words
from precision_lab.report.tables import tiers
from precision_lab.results import Block, Failure, Results


def low(**data: Any) -> Results:
    """Results of nothing but the part on low precision."""
    return Results({}, {}, (), (), (), {}, lowprecision=data)


def table(section: Any, place: int = 0) -> Table:
    found = [part for part in section.parts if isinstance(part, Table)]
    return found[place]


# Numbers


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.03, "3.00 %"), (1.0, "100.00 %"), (0.0, "0.00 %"), (None, "–"), (-0.5, "-50.00 %"),
        (0.00005, "0.01 %"), (0.000049, "4.9e-03 %"),
    ],
)  # fmt: skip
def test_a_share_is_in_percent_and_never_reads_as_zero(value: float | None, said: str) -> None:
    assert percent(value) == said


def test_no_number_is_a_dash_and_a_divergence_infinite() -> None:
    assert (short(None), short(1234.5), short(0.00012345, ".1e")) == ("–", "1.23e+03", "1.2e-04")
    assert math.isnan(number(None)) and number("inf") == math.inf
    assert (gap_of(None), gap_of("inf"), gap_of(-0.5)) == (math.inf, math.inf, -0.5)
    assert (ratio(math.nan), ratio(1.0366), ratio(1.0366, 0)) == ("–", "1.037", "1")


# The page


def test_the_pages_facts_count_what_has_figures() -> None:
    right = replace(measurement("stable"), n_inputs=100, escalated={"float64": 90, "mpmath": 10})
    undecided = replace(right, implementation="naive", n_inputs=40, undecided=3, escalated={"float64": 40})
    failed = replace(right, implementation="transformers", n_inputs=7, failure=Failure("raised", "no"),
                     undecided=9, escalated={})  # fmt: skip
    results = replace(sample_results(), measurements=(right, undecided, failed))
    facts = dict(document(results).facts)
    assert (facts["Results checked"], facts["Undecided"], facts["Cases"]) == ("140", "3", "3")
    assert tiers(results) == {"float64": 130, "mpmath": 10}
    section = method(results)
    assert section is not None and "3 results stayed undecided" in section.parts[0]
    assert list(table(section).rows) == [["float64", "130", "92.86 %"], ["mpmath", "10", "7.143 %"]]


def test_the_words_on_blocks_are_of_the_block_that_was_run() -> None:
    block = Block("silu", "torch", "eager", "bf16", 2304, 9216, 512, False, 5, 1.0, 1.0, 1.0, 2.0, 1.0, 1.0)
    results = replace(sample_results(), blocks=(block,))
    words = _block_words(results)
    assert "in bf16: 512 tokens, model width 2304" in words and "ratios of time and of peak memory" in words
    failed = replace(results, blocks=(replace(block, failure=Failure("raised", "no")),))
    assert "SiLU's block, which ratios refer to, gave no figures" in _block_words(failed)


# Readiness


def verdict(recipe: str, word: str, forward: float, gradient: float, clipped: float) -> dict[str, Any]:
    return {"recipe": recipe, "verdict": word, "forward_noise": forward, "gradient_noise": gradient,
            "clipped": clipped, "why": [f"{recipe} is {word}"] if word != "ready" else []}  # fmt: skip


def test_each_recipes_numbers_stand_under_their_inputs() -> None:
    rows = [
        {"function": "xielu", "params_name": "init", "inputs": inputs, "verdicts": verdicts, "warnings": [],
         "limits": {"noise": 0.07, "clipped": 0.001}}
        for inputs, verdicts in (
            ("steady", [
                verdict("bf16", "ready", 0.001, 0.002, 0.0), verdict("current", "ready", 0.01, 0.02, 0.0003),
            ]),
            ("outliers", [
                verdict("bf16", "ready", 0.003, 0.004, 0.0), verdict("current", "not ready", 0.3, 0.4, 0.05),
            ]),
        )
    ]  # fmt: skip
    section = verdicts(low(readiness=rows))
    assert list(table(section).rows) == [
        ["xielu (init)", "bf16", "ready", "0.1 %", "0.2 %", "0.00 %", "ready", "0.3 %", "0.4 %", "0.00 %"],
        [
            "xielu (init)",
            "current",
            "ready",
            "1.0 %",
            "2.0 %",
            "0.03 %",
            "not ready",
            "30.0 %",
            "40.0 %",
            "5.00 %",
        ],
    ]
    assert list(table(section, 1).rows) == [("xielu (init)", "current", "current is not ready")]
    assert section is not None
    (words,) = [p for p in section.parts if isinstance(p, str) and "decide" in p]
    assert "at most 7%" in words and "(at most 0.1%)" in words and "bias of it (not examined)" in words


def test_a_kernels_shares_are_weighed_by_inputs_and_its_worst_layer_is_named() -> None:
    def layer(name: str, n: int, beyond: float, wrong: float, worst: float, p99: float, bits: int) -> Any:
        return {"function": "xielu", "implementation": "naive", "output": "grad_x", "layer": name, "n": n,
                "beyond_one_ulp": beyond, "wrong_sign": wrong, "nonfinite_mismatch": 0.0,
                "max_ulp": worst, "p99_ulp": p99, "worst_bits": bits}  # fmt: skip

    found = [layer("a", 900, 0.0, 0.0, 9.0, 0.5, 0x3F80), layer("b", 100, 0.5, 0.2, 3.0, 2.5, 0xB3D7)]
    section = kernels(low(readiness=[{"kernels": found}]))
    assert section is not None
    assert list(table(section).rows) == [["xielu/naive", "5.00 %, wrong sign 2.00 %"]]
    assert list(table(section, 1).rows) == [
        ["xielu/naive", "grad_x", "5.00 %", "2.00 %", "0.00 %", "2.5", "9", "a", "0x3f80"]
    ]
    assert "counted in 2 layers" in section.parts[0] and "every input and output: none." in section.parts[0]


def test_noise_of_each_path_stands_forward_first() -> None:
    found = [
        {"function": "xielu", "recipe": "current", "path": p, "forward_noise": f, "gradient_noise": g}
        for p, f, g in (("fused", 0.01, 0.02), ("unfused", 0.03, 0.04))
    ]
    shown = table(paths(low(paths=found)))
    assert list(shown.headings)[2:] == [
        "forward, fused", "forward, unfused", "gradient, fused", "gradient, unfused",
    ]  # fmt: skip
    assert list(shown.rows) == [["xielu", "current", "1.00 %", "3.00 %", "2.00 %", "4.00 %"]]


def test_a_blocks_error_is_split_into_formulation_and_recipe() -> None:
    blocks = [
        {"function": "xielu", "recipe": "current", "formulation": "naive", "output": output, "relative": r,
         "of_formulation": 0.001, "of_recipe": 0.02, "cosine": cosine}
        for output, r, cosine in (("y", 0.03, 0.9), ("dx", 0.04, 0.8), ("dw", 0.05, 0.1))
    ]  # fmt: skip
    (row,) = table(block_errors(low(blocks=blocks))).rows
    assert list(row) == [
        "xielu", "current", "naive", "3.00 % (0.10 % · 2.00 %)", "4.00 % (0.10 % · 2.00 %)",
        "5.00 % (0.10 % · 2.00 %)", "0.80000",
    ]  # fmt: skip


# The probe


def test_losses_stand_in_the_order_of_bf16_and_beside_the_reference() -> None:
    def loss(mean: float, half: float | None = 0.01, n: int = 2) -> dict[str, Any]:
        return {"mean": mean, "half": half, "n": n}

    probe = {
        "losses": {
            "silu/torch / fp32": loss(1.0), "silu/torch / bf16": loss(1.4),
            "xielu/expm1 / fp32": loss(1.2), "xielu/expm1 / bf16": loss(1.3, None), "other / bf16": loss(0.1),
        },
        "config": {
            "runs": {"subjects": ["silu/torch", "xielu/expm1"], "recipes": ["bf16"], "seeds": 2},
            "training": {"steps": 10, "batch": 4,
                         "model": {"layers": 2, "width": 16, "hidden": 32, "context": 8}},
        },
        "paired": {"bf16": {"xielu/expm1": loss(-0.1), "silu/torch": loss(0.0)}}, "reference": "silu/torch",
        "runs": [
            {"subject": "xielu/expm1", "recipe": "current", "ageing": "", "remedy": "none", "seed": 1,
             "diverged_at": 7},
            {"subject": "silu/torch", "recipe": "current", "ageing": "", "remedy": "none", "seed": 0,
             "diverged_at": None},
        ],
    }  # fmt: skip
    section = losses(low(probe=probe))
    assert section is not None
    assert list(table(section).rows) == [
        ["xielu/expm1", "1.2000 ± 0.0100", "1.3000"], ["silu/torch", "1.0000 ± 0.0100", "1.4000 ± 0.0100"],
    ]  # fmt: skip
    text, _, end = section.parts
    assert "Less silu's with the same seed, in bf16: xielu/expm1 -0.1000 ± 0.0100." in text
    assert "(hidden width 32 with a gate, 48 without)" in text and "over 2 seeds" in text
    assert end == "1 of 2 runs diverged: xielu/expm1 current whole (seed 1)."


def test_variants_are_apart_beyond_their_own_interval() -> None:
    means = {"xielu/a": (0.0, 0.0), "xsilu/a": (-0.2, 0.1), "relu2/a": (0.05, 0.1), "silu/a": (0.3, None)}
    by = {"bf16": {name: {"mean": mean, "half": half} for name, (mean, half) in means.items()}}
    asked = {"ablations": {"subjects": ["xielu/a"], "seeds": 3}}
    section = ablations(low(probe={"ablations": by, "config": asked}))
    assert section is not None
    assert [row[:2] for row in table(section).rows] == [
        ["xsilu/a", "-0.2000 ± 0.1000"], ["relu2/a", "+0.0500 ± 0.1000"], ["silu/a", "+0.3000"],
    ]  # fmt: skip
    assert "Apart from xielu/a by more than the interval: xsilu/a." in section.parts[0]


def test_the_limit_of_the_verdict_is_held_against_what_was_lost() -> None:
    """Both noises at 0.05 are a risk of 0.0707: two cells up to there, three beyond."""
    cells = [{"risk": risk, "gap": gap} for risk, gap in (
        (0.01, -0.02), (0.0707, 0.03), (0.08, 0.01), (0.2, 0.5), (0.3, "inf"))]  # fmt: skip
    said = _threshold(cells, 0.05)
    assert "a risk of 0.07. Of the 2 cells up to there the one that lost most lost +0.0300 nats" in said
    assert "of the 3 beyond, 2 lost more than that, 1 of them by diverging" in said
    assert _threshold(cells[:2], 0.05) == ""


def test_gaps_are_means_over_seeds_and_a_divergence_of_one_is_one_of_all() -> None:
    assert (_mean_gap({"0": 0.1, "1": 0.3}), _mean_gap({"0": 0.1, "1": "inf"}), _mean_gap({})) == (
        "+0.2000", "diverged", "–",
    )  # fmt: skip
    assert _mean_half({"mean": 1.5, "half": 0.25}, ".2f") == "1.50 ± 0.2500"
    cells = [
        {"ageing": a, "subject": "s", "recipe": r, "gap": g}
        for a, r, g in (("none", "bf16", 0.1), ("none", "current", "inf"), ("extreme", "bf16", -0.2))
    ]
    probe = {"cells": cells, "ageings": {"none": "as it is", "extreme": "aged"}}
    rows = table(ageing(low(probe=probe))).rows
    assert list(rows) == [["none", "s", "+0.1000", "diverged"], ["extreme", "s", "-0.2000", "–"]]


def test_a_remedy_is_charged_what_it_costs_without_the_recipe() -> None:
    def run(remedy: str, seed: int, loss: float) -> dict[str, Any]:
        return {"subject": "s", "recipe": "fp32", "ageing": "extreme", "remedy": remedy, "seed": seed,
                "validation_loss": loss}  # fmt: skip

    probe = {
        "config": {"remedies": {"subjects": ["s"], "ageings": ["extreme"], "recipes": ["current"],
                                "remedies": ["smooth"]}},
        "remedies": {"smooth": "it is smoothed"},
        "gaps": {"s / current / extreme / none": {"0": 0.5},
                 "s / current / extreme / smooth": {"0": 0.1, "1": 0.2},
                 "s / block / extreme / none": {"0": 0.05}},
        "runs": [run("none", 0, 1.0), run("smooth", 0, 1.2), run("none", 1, 2.0), run("smooth", 1, 2.4),
                 run("smooth", 2, 9.0)],
    }  # fmt: skip
    section = remedies(low(probe=probe))
    assert list(table(section).rows) == [["s", "extreme", "current", "+0.5000", "+0.1500", "+0.0500"]]
    assert list(table(section, 1).rows) == [["s", "extreme", "+0.3000"]]


def test_a_path_goes_from_the_first_look_to_the_last_over_all_blocks() -> None:
    found = {"0.alpha_p": [0.8, 9.0, 1.5], "1.alpha_p": [0.7, 9.0, None], "0.alpha_n": [5.0]}
    assert _path(found, "alpha_p") == "0.7 to 0.8 → 1.5 to 1.5"
    assert _path(found, "beta") == "–"
    assert _path({"0.beta": [None, 2.0]}, "beta") == "not finite → 2 to 2"


def test_drawn_predictions_put_a_divergence_above_all_finite_gaps() -> None:
    cells = [
        {"ageing": "none", "recipe": "bf16", "risk": risk, "gap": gap, "distance": 0.5}
        for risk, gap in ((0.01, 0.1), (0.02, -0.4), (0.3, "inf"))
    ]
    correlation = [{"measure": m, "cells": 3, "value": v, "low": 0.1, "high": 0.9}
                   for m, v in (("gap", 0.75), ("distance", 0.5))]  # fmt: skip
    gap, distance = draw_prediction({"cells": cells, "rank_correlation": correlation}).axes
    drawn = [(line.get_xdata()[0], line.get_ydata()[0]) for line in gap.lines if line.get_marker() == "o"]
    assert drawn == [(0.01, 0.1), (0.02, -0.4), (0.3, pytest.approx(0.15))]
    assert "rank correlation 0.75 (0.10 to 0.90)" in gap.get_title() and "0.50" in distance.get_title()


def test_the_drawn_map_of_shares_has_alpha_upwards() -> None:
    found = {"shares": [[0.0, 0.25], [0.5, 1.0]], "scales": [1.0, 2.0], "alphas": [0.5, 8.0],
             "parameter": "alpha_n", "description": "what is lost"}  # fmt: skip
    image = _regime([found], "xielu").axes[0].images[0]
    assert image.get_array().tolist() == found["shares"] and image.origin == "lower"
    assert image.get_clim() == (0.0, 1.0)
