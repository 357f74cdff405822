"""The section that sets the paper's figures beside a report's."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from sample_costs import FORWARD, LAUNCH, cost
from sample_results import sample_results

from precision_lab.functions import FUNCTIONS
from precision_lab.lowprecision.probe.presets import TABLE_4
from precision_lab.report import published, ranks
from precision_lab.report.section import Section, Table
from precision_lab.report.sections.paper import (
    comparable,
    counted,
    kinds,
    orders,
    paper,
    ratios,
    said,
    trained,
)
from precision_lab.results import Block, Failure, Results

EMPTY = Results({}, {}, (), (), (), {})


# The paper's figures, written a second time.


def test_the_papers_figures_are_the_papers() -> None:
    assert {name: ms for name, (ms, _) in published.BLOCK_TIMES.items()} == {
        "xielu": 560, "swiglu": 549, "gelu": 544, "xiprelu": 542, "silu": 540, "relu2": 534,
    }  # fmt: skip
    for ms, ratio in published.BLOCK_TIMES.values():  # to a thousandth
        assert abs(ratio - ms / 540) <= 0.0005
    assert published.BLOCK_MEMORY == 87
    assert published.LOSSES == {
        "swiglu": (2.353, 0.004), "relu2": (2.337, 0.004), "xiprelu": (2.327, 0.004), "xielu": (2.323, 0.004),
    }  # fmt: skip
    assert published.LOSSES_3B == {"swiglu": (2.273, 0.003), "xielu": (2.258, 0.003)}
    names = (
        "xielu xiprelu swiglu xielu_cubic xielu_neg_xsilu xielu_trainable_beta xiprelu_fixed_alpha xsilu "
        "relu2 xielu_fixed_alpha xielu_neg_silu xielu_neg_zero silu"
    )
    figures = "17.52 17.52 17.58 17.75 17.84 17.88 17.91 17.91 18.12 18.15 18.18 18.40 18.57"
    assert dict(zip(names.split(), map(float, figures.split()), strict=True)) == published.ABLATIONS
    assert set(published.ABLATIONS) <= set(FUNCTIONS)
    assert [subject.split("/")[0] for subject in TABLE_4] == [*published.ABLATIONS]
    assert published.OPERATIONS["xielu"] == "1 exp, 4 mul, 4 add, 1 select"
    assert published.OPERATIONS["gelu_tanh"] == "2 exp, 6 mul, 4 add, 1 div"
    assert published.OPERATIONS["silu"] == "1 exp, 2 mul, 1 add, 1 div"
    assert published.OPERATIONS["xiprelu"] == "those of ReLU², 3 mul, 1 add"


def part(results: Results, anchor: str) -> Section:
    section = paper(results)
    assert section is not None
    (found,) = (p for p in section.parts if isinstance(p, Section) and p.anchor == anchor)
    return found


def rows(section: Section) -> list[list[str]]:
    (table,) = (p for p in section.parts if isinstance(p, Table))
    return [[cell.text for cell in cells] for cells, _ in table.lines()]


def test_where_there_is_nothing_of_the_kind_there_is_no_section() -> None:
    assert paper(EMPTY) is None
    assert paper(replace(EMPTY, lowprecision={"probe": None})) is None


def test_what_a_report_lacks_is_said() -> None:
    section = paper(sample_results())
    assert section is not None
    text = repr(section.parts)
    assert "holds no times of MLP blocks" in text and "holds no counts of machine instructions" in text
    assert "holds no training probe" in text and "--preset table-4" in text
    assert "Table 3" in section.parts[0]  # type: ignore[operator]


# Table 1


def block(
    function: str, ms: float, spread: float = 0.0, mib: float = 100.0, execution: str = "eager"
) -> Block:
    return Block(
        function, "torch", execution, "bf16", 1536, 9216, 256, False, 7, ms, ms - spread, ms + spread, mib,
        math.nan, math.nan,
    )  # fmt: skip


def test_a_blocks_ratios_stand_beside_table_1_with_the_spread_of_both() -> None:
    blocks = (block("silu", 10.0, 1.0), block("relu2", 8.0, 0.5, 90.0), block("xielu", 15.0, 3.0, 130.0))
    section = part(replace(EMPTY, blocks=blocks), "paper-block")
    assert rows(section) == [
        ["relu2", "torch", "0.989", "0.800", "0.682–0.944", "1", "0.900"],
        ["silu", "torch", "1.000", "1.000", "0.818–1.222", "1", "1.000"],
        ["xielu", "torch", "1.037", "1.500", "1.091–2.000", "1", "1.300"],
    ]
    assert "256 tokens" in section.parts[0] and "87 %" in section.parts[0]  # type: ignore[operator]
    assert (
        "in the paper's order beyond the quartiles: 3; in the other order: none; within" in section.parts[0]
    )  # type: ignore[operator]


def test_pairs_in_the_other_order_are_named_and_overlapping_ones_tell_nothing() -> None:
    blocks = (block("silu", 10.0, 1.0), block("relu2", 12.0, 0.5), block("xielu", 11.0, 0.2))
    text = part(replace(EMPTY, blocks=blocks), "paper-block").parts[0]
    # relu2 ≤ silu ≤ xielu in the paper. Here silu 9–11, xielu 10.8–11.2, relu2 11.5–12.5.
    assert isinstance(text, str)
    assert (
        "Of 3 pairs of activations, in the paper's order beyond the quartiles: 0; in the other order: 2 "
        "(silu before relu2, xielu before relu2); within them, which tells nothing: 1." in text
    )


def test_ratios_are_of_the_same_rounds_where_rounds_were_kept() -> None:
    """All rounds of one are 1.1 times the other's, though both of them vary fivefold."""
    times = (10.0, 50.0, 20.0, 30.0, 25.0)
    silu = replace(block("silu", 25.0, 12.0), times_ms=times)
    relu2 = replace(block("relu2", 27.5, 12.0), times_ms=tuple(1.1 * t for t in times))
    assert ratios(relu2, silu) == pytest.approx((1.1, 1.1, 1.1))
    assert ratios(replace(relu2, times_ms=(20.0, 50.0, 30.0)), silu) == pytest.approx((1.25, 1.5, 1.75))
    text = part(replace(EMPTY, blocks=(silu, relu2)), "paper-block").parts[0]
    assert isinstance(text, str) and "in the other order: 1 (silu before relu2)" in text
    before = replace(relu2, times_ms=())
    assert ratios(before, silu) == pytest.approx((15.5 / 37, 1.1, 39.5 / 13))


def test_compiled_blocks_are_compared_with_a_compiled_silu() -> None:
    failed = replace(block("gelu", math.nan), failure=Failure("raised", "no"))
    blocks = [block("silu", 10.0), block("xielu", 30.0), block("xielu", 12.0, execution="compiled"), failed]
    assert {name: b.time_ms for name, b in comparable(blocks).items()} == {"silu": 10.0, "xielu": 30.0}
    blocks.append(block("silu", 11.0, execution="compiled"))
    assert {name: b.time_ms for name, b in comparable(blocks).items()} == {"silu": 11.0, "xielu": 12.0}
    assert [*comparable(blocks)] == ["silu", "xielu"]
    without = part(replace(EMPTY, blocks=(block("xielu", 1.0),)), "paper-block")
    assert without.parts == ["SiLU's block, which ratios refer to, gave no figures."]


# Section 3.5

CODE = {"MUFU.EX2": 1.0, "MUFU.RCP": 0.5, "FFMA": 3.0, "FMUL": 2.0, "FADD": 1.25, "FSEL": 1.0, "FSETP": 0.5,
        "LDG": 0.25, "F2FP": 0.5}  # fmt: skip


def test_instructions_are_counted_by_kind() -> None:
    assert kinds(CODE) == ("EX2 1, RCP 0.5", 6.25, 1.5, 0.75)
    assert kinds({"MUFU.EX2": 0.001, "MOV": 2.0}) == ("", 0.0, 0.0, 2.0)


def with_opcodes(**changes: Any) -> Any:
    return cost(
        directions=(replace(FORWARD, launches=(replace(LAUNCH, opcodes=CODE),)),), **changes
    )  # fmt: skip


def test_the_papers_operations_stand_beside_the_machines_instructions() -> None:
    costs = (with_opcodes(), with_opcodes(function="relu2", implementation="torch"))
    section = part(replace(EMPTY, costs=costs), "paper-operations")
    assert rows(section) == [
        ["xielu", "stable [operator]", "1 exp, 4 mul, 4 add, 1 select", "EX2 1, RCP 0.5", "6.25", "1.5",
         "0.75", "10"],
        ["relu2", "torch [operator]", "not counted alone", "EX2 1, RCP 0.5", "6.25", "1.5", "0.75", "10"],
    ]  # fmt: skip
    assert "counted and not timed" in section.parts[0]  # type: ignore[operator]
    silu = with_opcodes(function="silu", implementation="torch")
    half = replace(LAUNCH, opcodes={"FMUL": 5.0})
    relu2 = cost(function="relu2", directions=(replace(FORWARD, launches=(half,)),))
    text = part(replace(EMPTY, costs=(silu, relu2)), "paper-operations").parts[0]
    assert isinstance(text, str) and text.endswith(" All, as multiples of SiLU's: relu2 (stable) 0.50.")


def test_compiled_kernels_of_one_device_and_format_are_compared_where_there_are_any() -> None:
    made = [with_opcodes(execution="triton"), with_opcodes(function="silu", execution="compiled"),
            with_opcodes(execution="compiled"), with_opcodes(execution="compiled", fmt="fp16"),
            with_opcodes(function="mish", execution="compiled")]  # fmt: skip
    assert [(c.function, c.execution, c.fmt) for c in counted(made)] == [
        ("xielu", "compiled", "bf16"), ("silu", "compiled", "bf16")
    ]  # fmt: skip
    assert counted(made[:1]) == made[:1]


def test_counts_of_before_instructions_were_kept_by_name_say_so() -> None:
    section = part(replace(EMPTY, costs=(cost(),)), "paper-operations")
    assert "made before they were kept by name" in section.parts[0]  # type: ignore[operator]


# Tables 2 and 4


def run(subject: str, seed: int, loss: float | None, recipe: str = "fp32", **changes: Any) -> dict[str, Any]:
    return {"subject": subject, "recipe": recipe, "seed": seed, "ageing": "", "remedy": "none",
            "validation_loss": loss, "diverged_at": None, **changes}  # fmt: skip


FOUR = ("xielu/zero-expm1", "xiprelu/factored", "relu2/torch", "swiglu/torch")


def probe(runs: list[dict[str, Any]], recipe: str = "fp32") -> dict[str, Any]:
    subjects = dict.fromkeys(r["subject"] for r in runs)
    return {
        "runs": runs,
        "losses": {f"{s} / {recipe}": {"mean": 1.5, "half": 0.01, "n": 2} for s in subjects},
        "config": {"training": {"steps": 1000, "batch": 8,
                                "model": {"layers": 4, "width": 64, "hidden": 256, "context": 128}}},
    }  # fmt: skip


def test_the_most_accurate_formulation_stands_for_an_activation() -> None:
    runs = [run("xielu/naive", 0, 9.0), run("xielu/expm1", 0, 8.0), run("xielu/zero-expm1", 0, 7.0),
            run("xielu/zero-expm1", 0, 6.0, ageing="severe"), run("xielu/zero-expm1", 0, 5.0, remedy="tanh"),
            run("xielu/zero-expm1", 0, 4.0, "bf16")]  # fmt: skip
    found = trained(runs, "fp32")
    assert (found.losses, found.subjects) == ({"xielu": {0: 7.0}}, {"xielu": "xielu/zero-expm1"})
    assert orders(runs)[0].recipe == "bf16" and orders(runs[:3])[0].recipe == "fp32"


def test_an_activation_that_diverged_is_left_out_and_named() -> None:
    runs = [run(s, k, 1.0 + 0.1 * n) for n, s in enumerate(FOUR) for k in range(2)]
    runs += [run("silu/torch", 0, 1.0, diverged_at=7), run("xsilu/composed", 0, None)]
    section = part(replace(EMPTY, lowprecision={"probe": probe(runs)}), "paper-order")
    assert [row[0] for row in rows(section)] == ["xielu", "xiprelu", "swiglu", "relu2"]
    assert rows(section)[0] == ["xielu", "2.323 ± 0.004", "17.52", "1.5000 ± 0.0100"]
    words = section.parts[-1]
    assert isinstance(words, str)
    assert words.startswith("Not trained here: xielu_cubic") and words.endswith("left out: xsilu, silu.")


def test_the_orders_words_say_what_can_be_known() -> None:
    runs = [run(s, k, 1.0 + 0.1 * n) for n, s in enumerate(FOUR) for k in range(2)]
    section = part(replace(EMPTY, lowprecision={"probe": probe(runs)}), "paper-order")
    second, fourth = section.parts[2:4]
    assert isinstance(second, str) and isinstance(fourth, str)
    assert second.startswith("**Table 2**, 4 activations: Kendall's τ-b 1.00 (95 % interval 0.33 to 1.00")
    assert "6 of the 6 pairs" in second and "8.3 % agree or disagree as much" in second
    assert "4 activations could not tell in any case" in second
    assert section.parts[4] == (
        "With 3.0 billion parameters Table 2 has two, xielu before swiglu: so it is here in 2 of 2 seeds."
    )
    # swiglu is before relu2 in Table 4, and xielu and xiprelu are equal there.
    assert "4 of the 5 pairs" in fourth and "1,024,000 bytes in 1000 steps, 2 seeds" in str(section.parts[0])


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (None, "fewer than three"),
        (ranks.Order(("a",) * 13, 0.6, 0.4, 0.7, 60, 76, 70, 78, 1e-5, 3), "more agreement than chance"),
        (ranks.Order(("a",) * 13, 0.6, 0.4, 0.7, 60, 76, 70, 78, 1e-5, 3), "under 0.01 %"),
        (ranks.Order(("a",) * 13, -0.6, -0.7, -0.4, 16, 76, 70, 78, 0.01, 3), "The orders are opposed."),
        (ranks.Order(("a",) * 13, 0.2, 0.1, 0.3, 45, 76, 70, 78, 0.4, 3), "cannot be told"),
        (ranks.Order(("a",) * 13, 0.6, -0.1, 0.7, 60, 76, 70, 78, 0.01, 3), "cannot be told"),
        (ranks.Order(("a",) * 13, 0.6, math.nan, math.nan, 60, 76, 0, 78, 0.01, 1), "one seed"),
    ],
)
def test_an_order_is_said_with_its_doubt(order: ranks.Order | None, words: str) -> None:
    text = said("Table 4", order)
    assert words in text and "nan" not in text
    assert ("the seeds tell 70 apart" in text) == (order is not None and order.seeds > 1)
