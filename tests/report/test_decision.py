"""The decision follows the numbers: safety before time, time before error; six words for each of the rest."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from sample_costs import cost
from sample_results import measurement, sample_results, statistics, timing, witness

from precision_lab.report import render_html, render_markdown
from precision_lab.report.decision import Recommendation, breakage, recommendations
from precision_lab.report.questions import picture, questions
from precision_lab.report.section import Cell, Code, Document, Fold, Section, Table
from precision_lab.report.sections.decision import decision, formulations
from precision_lab.report.sections.questions import stability
from precision_lab.results import Measurement, Results

EMPTY = Results({"cpu": "A processor"}, {}, (), (), (), {})


def good(name: str, execution: str = "eager", output: str = "forward", ulp: float = 0.5) -> Measurement:
    """A row whose every region is off by this much."""
    row = measurement(name, output, execution=execution, accurate=True)
    regions = {region: statistics(8, ulp) for region in row.regions}
    return replace(row, regions=regions, max_ulp=ulp, mean_ulp=ulp / 4)


def choice(*rows: Measurement, times: dict[tuple[str, str], float] | None = None) -> Recommendation:
    timings = tuple(
        timing("xielu", name, "bf16", direction, ns, execution)
        for (name, execution), ns in (times or {}).items()
        for direction in ("forward", "backward")
    )
    (found,) = recommendations(replace(EMPTY, measurements=rows, timings=timings))
    return found


def bad(row: Measurement, region: str = "positive", ulp: float = 40.0, **counts: int) -> Measurement:
    part = replace(row.regions[region], max_ulp=ulp, min_correct_bits=2.0, **counts)
    return replace(row, regions={**row.regions, region: part}, max_ulp=max(row.max_ulp, ulp))


def test_safety_comes_before_time_and_time_before_error() -> None:
    quick, slow, wrong = good("quick", ulp=0.9), good("slow"), bad(good("wrong"))
    times = {("quick", "eager"): 1.0, ("slow", "eager"): 2.0, ("wrong", "eager"): 0.1}
    found = choice(quick, slow, wrong, times=times)
    assert (found.implementation, found.grade, found.broken) == ("quick", "safe", "")
    assert found.others == {"slow": "as good, 2× the time", "wrong": "forward: 40 ulp for positive x"}
    assert choice(quick, slow, wrong).implementation == "slow"  # nothing timed: the most accurate
    untimed = {k: v for k, v in times.items() if k[0] != "quick"}
    assert choice(quick, slow, wrong, times=untimed).others["quick"] == "as good, not timed"


def test_of_the_unsafe_the_fastest_is_not_preferred() -> None:
    worse, closer = bad(good("worse"), ulp=90.0), bad(good("closer"), ulp=3.0)
    found = choice(worse, closer, times={("worse", "eager"): 1.0, ("closer", "eager"): 9.0})
    assert (found.label, found.grade, found.broken) == (
        "closer",
        "unsafe",
        "forward: 3.00 ulp for positive x",
    )


def test_an_execution_that_alone_is_safe_is_named() -> None:
    found = choice(bad(good("only")), good("only", "upcast"))
    assert found.label == "only [upcast]" and found.executions == ("upcast",) and not found.costs
    both = choice(good("all"), good("all", "compiled"), bad(good("other")), good("other", "upcast"),
                  times={("all", "eager"): 1.0})  # fmt: skip
    assert both.executions == ("eager", "compiled")
    assert both.others == {"other": "as good, but only upcast"}


def test_costs_are_factors_of_silu_and_of_the_naive_formulation() -> None:
    times = {("naive", "eager"): 2.0, ("stable", "eager"): 9.0, ("stable", "compiled"): 4.0}
    rows = (bad(good("naive")), good("stable"), good("stable", "compiled"))
    found = choice(*rows, times=times)
    assert found.baseline == "naive"
    eager, compiled = found.costs
    assert (eager.how, compiled.how) == ("eager", "compiled")
    assert eager.silu == (10.0, 10.0) and eager.naive == (4.5, 4.5)  # the sample's SiLU takes 0.9 ns
    assert compiled.naive == (2.0, 2.0)


def test_instructions_counted_for_a_gpu_stand_beside_the_times() -> None:
    stable = cost()
    most = replace(stable.directions[0].launches[1], most=10.0)
    naive = cost(
        implementation="naive",
        execution="triton",
        directions=(replace(stable.directions[0], launches=(most,)),),
    )
    # What a compiler makes of the same formulation is no baseline for a kernel that is written for the GPU.
    other = replace(naive, execution="compiled", directions=stable.directions)
    results = replace(EMPTY, measurements=(good("stable"), bad(good("naive"))), costs=(other, stable, naive))
    (found,) = recommendations(results)
    (counted,) = found.costs
    assert counted.how == "sm_90 code" and counted.naive[0] == pytest.approx(2.325)
    assert math.isnan(counted.naive[1])  # of naive, backward was not counted
    assert math.isnan(counted.silu[0])  # SiLU's were not counted


def test_what_breaks_is_told_worst_first() -> None:
    row = good("any")
    stray = replace(row, nonfinite_mismatch=1, nonfinite_witness=witness(math.inf, computed=math.nan))
    steps = [
        (bad(row, "root_forward", 90.0), "forward: 90 ulp around a root"),
        (replace(bad(row, "root_forward", wrong_sign=2, ulp=0.5), wrong_sign=2),
         "forward: wrong sign around a root"),
        (stray, "forward: NaN at ±inf"),
        (bad(row), "forward: 40 ulp for positive x"),
        (replace(row, undecided=12), "forward: 12 inputs undecided"),
        (replace(stray, nonfinite_witness=witness(88.0, computed=math.inf)), "forward: infinity, 1 input"),
        (replace(bad(row, wrong_sign=41), wrong_sign=41), "forward: wrong sign, 41 inputs"),
    ]  # fmt: skip
    assert breakage([row]) == ""
    for at, (flawed, words) in enumerate(steps):
        assert breakage([flawed]) == words
        assert breakage([row, *(milder for milder, _ in steps[: at + 1])]) == words


def test_no_bit_left_below_zero_is_said_so() -> None:
    row = good("any", output="grad_alpha_n")
    lost = replace(row.regions["eps_zone"], max_ulp=256.0, min_correct_bits=0.0)
    assert breakage([replace(row, regions={**row.regions, "eps_zone": lost})]) == (
        "d/dalpha_n: no bit right below 0"
    )


def test_every_word_of_a_study_is_within_six_and_every_case_has_its_row() -> None:
    for results in (sample_results(), sample_results(accurate=True)):
        found = recommendations(results)
        sound = [m for m in results.measurements if m.failure is None]
        assert [(c.function, c.fmt) for c in found] == list(dict.fromkeys((m.function, m.fmt) for m in sound))
        for c in found:
            named = {m.implementation for m in sound if (m.function, m.fmt) == (c.function, c.fmt)}
            assert named == {c.implementation, *c.others}
            assert all(0 < len(words.split()) <= 6 for words in c.others.values()), c.others
            assert len(c.broken.split()) <= 6 and (c.grade == "safe") == (not c.broken)
    assert {c.implementation for c in recommendations(sample_results()) if c.function == "xielu"} == {
        "stable"
    }


# The section


def test_the_first_section_has_a_row_for_each_case_and_the_code_to_paste() -> None:
    records = [
        {"function": "xielu", "name": "stable", "code": "from lab import XIELU",
         "described": {"ours": ["eager"]}},
        {"function": "silu", "name": "torch", "code": "import torch\ndef silu(x):\n    return x",
         "described": {"torch's": ["eager"]}},
    ]  # fmt: skip
    sample = sample_results()
    told = replace(sample, settings={**sample.settings, "formulations": records})
    section = decision(told)
    assert section is not None
    (table,) = [part for part in section.parts if hasattr(part, "lines")]
    rows = {row.anchor: cells for cells, row in table.lines()}
    _, fmt, use, held, *_ = rows["decision-xielu-bf16"]
    assert (fmt.text, use.text, held.text) == ("bf16", "stable", "yes")
    assert use.lines == [("", "ours"), ("", "`from lab import XIELU`"), ("", "also upcast")]
    (fold,) = [part for part in section.parts if isinstance(part, Fold)]
    assert fold.words == "The other 3 functions"
    assert not any("no code" in part for part in section.parts if isinstance(part, str))
    assert any("no code" in part for part in decision(sample).parts if isinstance(part, str))
    assert decision(EMPTY) is None


def test_every_formulation_is_defined_once_where_the_decision_links_to() -> None:
    records = [
        {"function": "xielu", "name": name, "code": f"{name} = 1", "described": {"in words": ["eager"]}}
        for name in ("naive", "stable")
    ]
    results = replace(EMPTY, settings={"formulations": records}, measurements=(good("stable"),))
    section, first = formulations(results), decision(results)
    assert section is not None and first is not None
    codes = [code for part in section.parts if isinstance(part, Section) for code in part.parts]
    anchors = [code.anchor for code in codes if isinstance(code, Code)]
    assert anchors == ["formulation-xielu-naive", "formulation-xielu-stable"]
    (table,) = [part for part in first.parts if hasattr(part, "lines")]
    assert [cell.link for cells, _ in table.lines() for cell in cells if cell.link] == anchors[1:]


# The paper's three questions


def test_each_question_is_answered_from_the_rows() -> None:
    naive, cure, clamp = questions(sample_results())
    assert [q.severity for q in (naive, cure, clamp)] == ["caution", "caution", "fault"]
    assert naive.answer == (
        "Only in part: in bf16 the worst input just below 0 keeps 0 of 8 bits in forward and 0 of 8 bits in "
        "d/dalpha_n; d/dx keeps its bits."
    )
    assert "5.8 of 8 bits in forward and 0 of 8 bits in d/dalpha_n" in cure.answer
    assert clamp.answer == (
        "No: in bf16 d/dx has the wrong sign at 41 of 100 inputs in (−1e-6, 0), and f(0) is off by 5e-07."
    )
    assert clamp.bits["fp32", "grad_x"] == (0.0, 24)


def test_formulations_without_fault_are_answered_yes() -> None:
    assert [q.severity for q in questions(sample_results(accurate=True))] == ["good"] * 3
    assert all(q.answer.startswith("Yes: in bf16") for q in questions(sample_results(accurate=True)))


def test_the_questions_have_their_figures_and_their_table() -> None:
    from precision_lab.report.figures import draw

    results = sample_results(formats=("fp16",))
    section = stability(results)
    assert section is not None and stability(EMPTY) is None
    drawn = draw(results)
    asked = [part for part in section.parts if isinstance(part, Section)]
    assert [part.title for part in asked] == [q.asks for q in questions(results)]
    assert {picture(q) for q in questions(results)} <= set(drawn)


def test_the_questions_take_the_worst_input_just_below_0() -> None:
    row = good("naive")
    regions = {**row.regions, "eps_zone": replace(row.regions["eps_zone"], min_correct_bits=3.0)}
    (question,) = questions(replace(EMPTY, measurements=(replace(row, regions=regions),)))
    assert question.answer == "No: in bf16 the worst input just below 0 keeps 3 of 8 bits in forward."


def cells_of(section: Section) -> list[list[str]]:
    """What the section's own table shows, lines of a cell after its text."""
    (table,) = [part for part in section.parts if isinstance(part, Table)]
    return [
        [" | ".join([c.text, *(f"{a}: {b}" for a, b in c.lines)]) for c in cells]
        for cells, _ in table.lines()
    ]


def test_a_row_has_both_errors_and_both_costs() -> None:
    rows = (bad(good("naive")), good("stable"), good("stable", output="grad_x", ulp=0.75))
    times = {("naive", "eager"): 2.0, ("stable", "eager"): 9.0}
    timings = [
        timing("xielu", n, "bf16", d, ns) for (n, _), ns in times.items() for d in ("forward", "backward")
    ]
    section = decision(replace(EMPTY, measurements=rows, timings=tuple(timings)))
    assert section is not None
    assert cells_of(section)[0][3:] == [
        "yes", "0.50", "0.75", " | eager: 10 / 10", " | eager: 4.5 / 4.5",
        " | naive: forward: 40 ulp for positive x",
    ]  # fmt: skip


def test_the_table_has_the_bits_of_each_formulation_and_output() -> None:
    section = stability(sample_results(formats=("bf16",)))
    assert section is not None
    assert cells_of(section) == [
        ["bf16", "forward", "0.0", "5.8", "5.8", "8.0", "8"],
        ["bf16", "d/dx", "8.0", "8.0", "0.0", "8.0", "8"],
        ["bf16", "d/dalpha_n", "0.0", "0.0", "0.0", "8.0", "8"],
    ]


def test_lines_of_a_cell_stand_under_it_in_both_media() -> None:
    table = Table(["a"], [[Cell("x", lines=[("", "`f(1)` | 2"), ("name", "words")])]])
    made = Document("t", "h", [Section("s", "S", [table], opening=True)], "report.json")
    assert r"| x<br>`f(1)` \| 2<br>name: words |" in render_markdown.files(made, "report.md")["report.md"]
    source = render_html.page(made, {})
    assert '<span class="line"><code>f(1)</code> | 2</span>' in source
    assert '<span class="line"><b>name</b> words</span>' in source


def test_two_sections_of_one_anchor_are_refused() -> None:
    with pytest.raises(ValueError, match="two sections have the anchor 's'"):
        Document("t", "h", [Section("s", "S", []), Section("s", "T", [])], "report.json")
