"""Each figure of the report is read from the row it is about: no two rows here have the same figures."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from sample_results import measurement, reduction, statistics, timing, witness

from precision_lab.cli.printing import console_for
from precision_lab.report import derive, print_summary
from precision_lab.report.figures import UNITS, bits, draw, timed, times
from precision_lab.report.rows import anchor, reduction_case
from precision_lab.report.section import Table
from precision_lab.report.sections.accuracy import _map
from precision_lab.report.series import HeatCell, heat, lines
from precision_lab.report.tables import (
    figure,
    level,
    parameter_sets,
    region_tables,
    tiers,
    timings,
    witnesses,
)
from precision_lab.report.tables import reductions as reduction_rows
from precision_lab.report.wording import Finding
from precision_lab.results import (
    Binade,
    Failure,
    Measurement,
    Reduction,
    Results,
    Statistics,
    Witness,
)

EMPTY = Results({"cpu": "A processor"}, {}, (), (), (), {})


def of(*measurements: Measurement, **more: object) -> Results:
    return replace(EMPTY, measurements=measurements, **more)  # type: ignore[arg-type]


def findings(topic: str, *measurements: Measurement, **more: object) -> list[Finding]:
    return [f for f in derive(of(*measurements, **more)) if f.topic == topic]


def finding(topic: str, *measurements: Measurement, **more: object) -> Finding:
    (found,) = findings(topic, *measurements, **more)
    return found


def at(bits: int, x: float, computed: float = 0.5, error: float = 3.0) -> Witness:
    """A witness that is told from all others by its bits."""
    return replace(witness(x, error, computed), bits=f"{bits:#06x}")


def errors(ulp: float, seen: Witness | None = None, bits: float | None = None, p: int = 8) -> Statistics:
    return replace(statistics(p, ulp, bits), witness=seen)


def row(name: str = "stable", output: str = "forward", fmt: str = "bf16", **changes: object) -> Measurement:
    """A measurement correctly rounded everywhere; the largest error is that of the regions given."""
    execution = str(changes.pop("execution", "eager"))
    regions = changes.get("regions") or {"positive": errors(0.5)}
    plain = measurement(name, output, fmt, execution=execution, accurate=True)
    changes.setdefault("max_ulp", max(s.max_ulp for s in regions.values()))  # type: ignore[attr-defined]
    return replace(plain, binades=(), **{"regions": regions, **changes})  # type: ignore[arg-type]


# Is it safe


def test_a_strays_row_at_finite_x_makes_the_format_unsafe_whatever_the_other_rows_are() -> None:
    infinite = row(nonfinite_mismatch=1, nonfinite_witness=at(0x7F80, math.inf))
    finite = row(output="grad_x", nonfinite_mismatch=1, nonfinite_witness=at(0x42B2, 89.0))
    assert "for finite x, but not at ±inf" in finding("safety", infinite).sentence
    for rows in ((infinite, finite), (finite, infinite)):
        assert "nothing is safe" in finding("safety", *rows).sentence


def test_an_error_beside_a_wrong_infinity_is_not_safe_for_finite_x() -> None:
    infinite = row(nonfinite_mismatch=1, nonfinite_witness=at(0x7F80, math.inf))
    wrong = row(output="grad_x", regions={"positive": errors(3.0)})
    assert "nothing is safe" in finding("safety", infinite, wrong).sentence


def test_one_ulp_is_kept_within_what_the_oracle_certifies() -> None:
    within, beyond = ({"positive": errors(1 + excess)} for excess in (2.0**-11, 2.0**-9))
    assert "stable stays within 1 ulp on every output." in finding("safety", row(regions=within)).sentence
    assert "nothing is safe" in finding("safety", row(regions=beyond)).sentence
    root = {"root_forward": errors(90.0), **within}
    assert "except around the roots" in finding("safety", row(regions=root)).sentence


def test_only_what_is_safe_in_every_format_is_named_for_all_of_them() -> None:
    rows = (
        row("stable"), row("stable", fmt="fp16"), row("expm1", fmt="fp16"),
        row("expm1", regions={"positive": errors(7.0)}), row("naive"),
        row("naive", fmt="fp16", regions={"positive": errors(7.0)}),
    )  # fmt: skip
    found = finding("safety", *rows)
    assert found.sentence == "xielu: in bf16 and fp16 stable stays within 1 ulp on every output."
    assert "fp16: safe: stable and expm1; most accurate: stable" in found.details[1]


def test_the_safety_finding_shows_the_worst_formats_worst_input() -> None:
    mild = row(regions={"positive": errors(0.6, at(0x1111, 1.0))}, witness=at(0x1111, 1.0))
    worst = row(fmt="fp16", regions={"positive": errors(0.9, at(0x2222, 2.0))}, witness=at(0x2222, 2.0))
    for rows in ((mild, worst), (worst, mild)):
        assert "--bits 0x2222 --format fp16" in finding("safety", *rows).replay


def test_the_closest_formulation_is_a_sound_one_and_its_worst_row_is_given() -> None:
    """One that turns a sign is not closest, however small its largest error."""
    rows = (
        row("naive", regions={"positive": errors(2.0)}, wrong_sign=1),
        row("expm1", regions={"positive": errors(3.0)}),
        row("expm1", "grad_x", regions={"positive": errors(4.5)}),
        row("eps-expm1", regions={"positive": errors(5.0)}),
    )
    for order in (rows, rows[::-1]):
        assert finding("safety", *order).details == ("bf16: closest is expm1, worst 4.5 ulp (d/dx, init)",)


def test_flaws_are_added_up_over_outputs() -> None:
    rows = (
        row("naive", wrong_sign=3, nonfinite_mismatch=1, nonfinite_witness=at(0x7F80, math.inf)),
        row("naive", "grad_x", nonfinite_mismatch=4, nonfinite_witness=at(0xFF80, -math.inf)),
    )
    assert finding("safety", *rows).details[0].endswith("; 3 wrong signs and 5 stray NaN or infinities")
    only = (
        replace(rows[0], wrong_sign=0, undecided=1, nonfinite_mismatch=0, nonfinite_witness=None),
        rows[1],
    )
    assert finding("safety", *only).details[0].endswith("4 stray NaN or infinities and 1 undecided result")
    mixed = (replace(rows[0], wrong_sign=0, max_ulp=9.0), rows[1])
    assert finding("safety", *mixed).details[0].endswith("5 stray NaN or infinities (only at infinite x)")


# Is expm1 enough


@pytest.mark.parametrize(
    ("naive", "expm1", "words"),
    [
        (3.0, 6.5, "expm1 is enough"),  # a bit and a half of the last is rounding
        (3.0, 6.25, "expm1 helps but is not enough"),
        (3.0, 4.0, "expm1 helps but is not enough"),
        (3.0, 3.75, "expm1 is not enough"),
        (6.5, 8.0, "exp(x) − 1 loses nothing"),
        (6.25, 8.0, "expm1 is enough"),
    ],
)
def test_bits_decide_about_expm1_to_the_half(naive: float, expm1: float, words: str) -> None:
    rows = (
        row(name, "grad_alpha_n", regions={"near_zero_negative": errors(9.0, None, bits)})
        for name, bits in (("naive", naive), ("zero-expm1", expm1))
    )
    assert f": {words}" in finding("expm1", *rows).sentence


def near(name: str, eps: float, rest: float, **changes: object) -> Measurement:
    regions = {
        "eps_zone": errors(9.0, at(0xB3D7, -1e-7), eps),
        "near_zero_negative": errors(9.0, at(0xBC00, -0.0078125), rest),
    }
    return row(name, regions=regions, **changes)


@pytest.mark.parametrize(("eps", "rest", "bits"), [(2.0, 5.0, "0xb3d7"), (5.0, 2.0, "0xbc00")])
def test_the_worse_region_below_zero_speaks_for_expm1(eps: float, rest: float, bits: str) -> None:
    found = finding("expm1", near("naive", 1.0, 1.0), near("zero-expm1", eps, rest))
    assert found.details == ("bf16: of 8 bits the worst input keeps naive 1.0, zero-expm1 2.0",)
    assert f"--bits {bits}" in found.replay


def test_the_format_that_loses_most_is_shown_for_expm1() -> None:
    rows = (
        near("naive", 1.0, 1.0), near("zero-expm1", 2.0, 8.0),
        near("naive", 1.0, 1.0, fmt="fp16"), near("zero-expm1", 8.0, 7.0, fmt="fp16"),
    )  # fmt: skip
    for order in (rows, rows[2:] + rows[:2]):
        assert "--bits 0xb3d7 --format bf16" in finding("expm1", *order).replay  # 6 of 8 bits, not 4 of 11


def test_expm1_is_judged_at_the_initial_parameters_and_run_eagerly() -> None:
    rows = (near("naive", 1.0, 1.0), near("zero-expm1", 8.0, 8.0))
    others = (near("zero-expm1", 0.0, 0.0, params_name="nearly-linear"),
              near("zero-expm1", 0.0, 0.0, execution="upcast"))  # fmt: skip
    assert "expm1 is enough" in finding("expm1", *rows, *others).sentence
    assert "expm1 is enough" in finding("expm1", *others, *rows).sentence


# What the clamp does


def test_a_sign_turned_elsewhere_is_not_the_clamps() -> None:
    zone = {"eps_zone": errors(0.5), "rest_negative": replace(errors(9.0), wrong_sign=2)}
    found = finding("eps", row("eps-expm1", "grad_x", regions=zone, wrong_sign=2))
    assert "turns no sign" in found.sentence


def test_turned_signs_are_given_as_a_range_over_formulations() -> None:
    rows = [
        row(name, "grad_x", wrong_sign=wrong, regions={"eps_zone": replace(
            errors(256.0, at(0xB3D7, -1e-7)), wrong_sign=wrong, n_inputs=n)})
        for name, wrong, n in (("eps-naive", 41, 700), ("eps-expm1", 30, 900))
    ]  # fmt: skip
    assert finding("eps", *rows).details == ("bf16, init: 30 to 41 of 700 to 900 inputs",)


def test_the_largest_jump_at_zero_is_given() -> None:
    rows = [row("eps-naive", jump_at_zero=5e-7), row("eps-expm1", jump_at_zero=3e-6)]
    assert finding("eps", *rows).details == ("bf16: by up to 3e-06",)


# NaN and infinities


def test_the_nearest_nan_is_shown_of_all_and_of_each_format() -> None:
    far, near_, fp16 = (
        row(output=output, fmt=fmt, nonfinite_mismatch=n, nonfinite_witness=at(bits, x, math.nan))
        for output, fmt, n, bits, x in (
            ("forward", "bf16", 7, 0x4396, -300.0), ("grad_x", "bf16", 9, 0xC2B2, -89.0),
            ("forward", "fp16", 5, 0x5640, 100.0),
        )
    )  # fmt: skip
    for rows in ((far, near_, fp16), (fp16, near_, far)):
        found = finding("nonfinite", *rows)
        assert "--bits 0xc2b2" in found.replay
        details = dict(line.split(": ", 1) for line in found.details)
        assert details["bf16"] == "stable, 7 to 9 inputs (nearest to 0: x = -89, d/dx, init)"
        assert details["fp16"] == "stable, 5 inputs (nearest to 0: x = 100, forward, init)"


def test_a_nan_input_is_not_nearest_to_zero() -> None:
    rows = [
        row(nonfinite_mismatch=1, nonfinite_witness=at(b, x, 5.0))
        for b, x in ((0x7FC0, math.nan), (0x7F00, 1e38))
    ]
    assert "--bits 0x7f00" in finding("nonfinite", rows[0], replace(rows[1], output="grad_x")).replay


def test_fp8_has_its_own_finding_of_wrong_infinities() -> None:
    stray = row(
        "naive", fmt="e4m3", execution="fp8-fp32", nonfinite_mismatch=2, nonfinite_witness=at(0x7E, 448.0)
    )
    assert findings("nonfinite", stray) == []
    assert "appear in the wrong place with fp8-fp32" in finding("fp8", stray).sentence


# Where a formulation breaks


def test_the_worst_break_is_read_off_outside_the_roots() -> None:
    rows = (
        row("expm1", regions={
            "positive": errors(2.0, at(1, 1.0)), "root_forward": errors(900.0, at(2, -1.5)),
        }),
        row("expm1", "grad_x", regions={
            "positive": errors(3.0, at(3, 3.0), 6.0), "far_tail": errors(5.0, at(4, -17.0), 4.0),
        }),
        row("expm1", fmt="fp16", regions={"positive": errors(12.0, at(5, 5.0), 9.5, p=11)}),
    )  # fmt: skip
    for order in (rows, rows[::-1]):
        found = finding("breaks", *order)
        assert found.sentence.startswith("xielu, expm1: up to 12 ulp outside the root regions")
        assert "--bits 0x0005 --format fp16" in found.replay
        assert found.severity == "caution"
        details = dict(line.split(": ", 1) for line in found.details)
        assert details["bf16"] == "5 ulp in d/dx for x < −16, at x = -17; 4 of 8 bits lost there at worst"
        assert details["fp16"] == "12 ulp in forward for x > 0, at x = 5; 2 of 11 bits lost there at worst"


@pytest.mark.parametrize(("ulp", "severity"), [(15.0, "caution"), (16.0, "fault")])
def test_sixteen_ulps_outside_the_roots_are_a_fault(ulp: float, severity: str) -> None:
    assert finding("breaks", row(regions={"positive": errors(ulp, at(1, 1.0))})).severity == severity


# Modules, FP8, executions


def module(output: str, regions: dict[str, Statistics], **changes: object) -> Measurement:
    return row("transformers", output, execution="module", regions=regions, **changes)


def test_a_module_is_held_to_its_worst_output_outside_the_roots() -> None:
    at_root = module("forward", {"positive": errors(0.6), "root_forward": errors(90.0)}, witness=at(1, -1.5))
    worst = module("grad_x", {"positive": errors(0.9)}, witness=at(2, 2.0))
    for rows in ((at_root, worst), (worst, at_root)):
        found = finding("module", *rows)
        assert "stays within 1 ulp outside the roots" in found.sentence
        assert found.details == (
            "bf16: worst 0.9 ulp outside the roots (d/dx, init); no wrong sign, no stray NaN",
        )
        assert "--bits 0x0002" in found.replay


def test_a_modules_flaws_are_counted_under_their_own_names() -> None:
    found = finding(
        "module",
        module("forward", {"positive": errors(0.9)}),
        module("grad_x", {"positive": errors(0.6)}, wrong_sign=3, nonfinite_mismatch=5),
    )
    assert "keeps 1 ulp outside the roots, but has wrong signs, NaN or infinities" in found.sentence
    assert found.severity == "caution"
    assert found.details[0].endswith("3 wrong signs and 5 stray NaN or infinities")


def test_fp8_names_the_best_formulation_and_the_worst_error() -> None:
    rows = [
        row(name, output, "e4m3", execution="fp8-fp32", regions={"positive": errors(ulp)})
        for name, output, ulp in (
            ("expm1", "forward", 0.7), ("expm1", "grad_x", 0.8),
            ("naive", "forward", 0.6), ("naive", "grad_x", 6.0),
        )
    ]  # fmt: skip
    for order in (rows, rows[::-1]):
        assert finding("fp8", *order).details == (
            "fp8-fp32: 0.8 ulp with expm1, 6 ulp with the worst; NaN or infinities in the wrong place: none",
        )


def test_executions_say_where_most_was_gained_and_lost() -> None:
    def pair(output: str, before: float, after: float, bits: int) -> list[Measurement]:
        return [
            row("naive", output, execution=how, regions={"positive": errors(ulp)}, witness=at(bits, 1.0))
            for how, ulp in (("eager", before), ("upcast", after))
        ]

    rows = [
        *pair("forward", 4.0, 3.0, 1), *pair("grad_x", 64.0, 1.0, 2), *pair("grad_alpha_p", 1.0, 8.0, 3),
        *pair("grad_alpha_n", 1.0, 2.0, 4), *pair("grad_beta", 1.0, 1.05, 5),
    ]  # fmt: skip
    found = finding("executions", *rows)
    assert "lowers the worst error outside the roots by more than a tenth in 2 of 5 cases" in found.sentence
    assert "raises it in 2" in found.sentence
    assert "most gained: xielu naive, d/dx, init, from 64 ulp to 1 ulp" in found.details[0]
    assert "most lost: xielu naive, d/dalpha_p, init, from 1 ulp to 8 ulp" in found.details[0]
    assert "--bits 0x0003" in found.replay


# Sums and times


def summed(name: str, relative: float, **changes: object) -> Reduction:
    return replace(
        reduction(name, "bf16", "grad_alpha_n", 1.0, "aligned: …"), relative_error=relative, **changes
    )  # type: ignore[arg-type]


def test_the_worst_sum_leads_beside_the_best_on_the_same_data() -> None:
    rows = (
        summed("naive", 0.03, condition=7.0), summed("expm1", 0.01), summed("stable", 0.001),
        summed("zero-expm1", 0.0, data="random: …"),
    )  # fmt: skip
    for order in (rows, rows[::-1]):
        found = finding("reductions", reductions=order)
        assert "off by up to 3 % (d/dalpha_n in bf16, naive)" in found.sentence
        assert found.details == ("d/dalpha_n: bf16 3 % (naive; stable 0.1 %; condition of the sum 7)",)


def test_sums_of_two_data_sets_have_anchors_of_their_own() -> None:
    words = ("aligned: x ~ N(0,1)", "random: x ~ N(0,1)")
    assert len({anchor(reduction_case(summed("naive", 0.1, data=data))) for data in words}) == 2


def test_a_gradient_by_a_fixed_beta_does_not_lead() -> None:
    rows = (summed("naive", 0.5, output="grad_beta"), summed("naive", 0.001))
    found = finding("reductions", reductions=rows)
    assert "off by up to 0.1 % (d/dalpha_n" in found.sentence
    assert found.severity == "good"  # up to 2^-8
    assert finding("reductions", reductions=(summed("naive", 0.004),)).severity == "caution"


def test_a_sum_that_is_not_finite_is_a_fault_of_its_own() -> None:
    rows = (summed("naive", math.nan, computed=math.inf), summed("stable", 0.001))
    lost, rest = findings("reductions", reductions=rows)
    assert (
        lost.severity == "fault"
        and "naive gives a summed parameter gradient that is not finite" in lost.sentence
    )
    assert "stable" in rest.sentence and "naive" not in rest.sentence


def test_each_functions_fastest_formulation_is_compared_beyond_the_quartiles() -> None:
    rows = [
        timing(function, name, "bf16", "forward", ns)
        for function, name, ns in (
            ("xiprelu", "as-printed", 9.0), ("xiprelu", "factored", 2.0),
            ("gelu", "torch", 3.0), ("gelu", "tanh", 5.0),
        )
    ]  # fmt: skip
    for order in (rows, rows[::-1]):
        found = finding("timings", timings=tuple(order))
        assert "agrees" in found.sentence
        assert found.details == ("bf16: xiprelu 2.00 < gelu 3.00 ns per element",)
    # The medians differ, and the quartiles touch.
    close = (
        timing("xiprelu", "factored", "bf16", "forward", 2.1),
        timing("gelu", "torch", "bf16", "forward", 1.9),
    )
    assert "agrees" in finding("timings", timings=close).sentence


@pytest.mark.parametrize(
    ("kind", "severity"),
    [("raised", "fault"), ("crashed", "fault"), ("device_lost", "note"), ("not_finite_parameters", "note")],
)
def test_what_is_no_fault_of_the_kernels_arithmetic_is_a_note(kind: str, severity: str) -> None:
    assert finding("failures", row(failure=Failure(kind, "it said so"))).severity == severity


# Tables


@pytest.mark.parametrize(
    ("ulp", "text", "colour"),
    [
        (0.5078125, "0.51", 0), (0.6, "0.60", 1), (1.001, "1.00", 1), (1.01, "1.01", 2), (4.0, "4.00", 2),
        (9.99, "9.99", 3), (10.0, "10", 3), (64.0, "64", 3), (64.1, "64", 4), (9999.0, "9999", 4),
        (16384.0, "2^14", 4), (math.inf, "–", 4),
    ],
)  # fmt: skip
def test_a_cells_text_and_colour_follow_its_error(ulp: float, text: str, colour: int) -> None:
    assert (figure(ulp), level(ulp)) == (text, colour)


def test_a_table_row_has_its_own_figures_in_the_regions_columns() -> None:
    regions = {
        "eps_zone": replace(errors(7.0), n_inputs=70, wrong_sign=2),
        "positive": replace(errors(3.0), n_inputs=30, nonfinite_mismatch=4),
    }
    m = row(regions=regions, wrong_sign=2, n_inputs=100, not_correctly_rounded=11, mean_ulp=0.25,
            monotonicity_violations=6)  # fmt: skip
    other = row(output="grad_x", n_inputs=90, inputs="stratified")
    (table,) = region_tables(of(other, m))
    assert table.inputs == "exhaustive, stratified, 100 inputs per row"
    assert table.regions == ("positive", "eps_zone")
    first, second = table.rows
    assert (first.output, first.cells[1]) == ("d/dx", None)
    assert (second.worst.text, second.worst.level, second.worst.flags) == ("7.00", 3, "±")
    assert second.worst.title == (
        "11 of 100 not correctly rounded; mean 0.25 ulp; 6 steps against the function"
    )
    positive, zone = second.cells
    assert positive is not None and zone is not None
    assert (positive.text, positive.flags, positive.title) == (
        "3.00",
        "∞",
        "30 inputs; 4 wrong NaN or infinities",
    )
    assert (zone.text, zone.flags, zone.title) == ("7.00", "±", "70 inputs; 2 wrong signs")


def test_initial_parameters_come_first_in_a_table() -> None:
    rows = [row(output=o, params_name=p) for o in ("forward", "grad_x") for p in ("nearly-linear", "init")]
    (table,) = region_tables(of(*rows))
    assert [(r.output, r.params) for r in table.rows] == [
        ("forward", "init"), ("forward", "nearly-linear"), ("d/dx", "init"), ("d/dx", "nearly-linear"),
    ]  # fmt: skip


def test_witnesses_are_the_worst_the_worst_apart_from_roots_and_the_first_of_each_flaw() -> None:
    at_root = row(
        regions={"root_forward": errors(90.0, at(1, -1.5)), "positive": errors(2.0, at(2, 2.0)),
                 "far_tail": errors(1.5, at(8, -17.0))},
        witness=at(1, -1.5), sign_witness=at(3, 3.0), wrong_sign=1,
    )  # fmt: skip
    worse = row(
        output="grad_x", regions={"positive": errors(5.0, at(4, 4.0)), "far_tail": errors(6.0, at(5, -20.0))},
        witness=at(5, -20.0), sign_witness=at(6, 6.0), nonfinite_witness=at(7, 7.0), nonfinite_mismatch=1,
    )  # fmt: skip
    found = {w.kind: (w.witness.bits, w.output) for w in witnesses(of(at_root, worse))}
    assert found == {
        "largest error": ("0x0001", "forward"), "largest error, roots apart": ("0x0005", "d/dx"),
        "wrong sign": ("0x0003", "forward"), "NaN or infinity": ("0x0007", "d/dx"),
    }  # fmt: skip


def test_the_least_accurate_sum_comes_first_and_is_coloured_by_its_size() -> None:
    rows = (summed("stable", 0.001, error_ulps=0.25), summed("naive", 0.03, error_ulps=-70.0),
            summed("expm1", math.nan, error_ulps=math.nan))  # fmt: skip
    found = reduction_rows(of(reductions=rows))
    assert [(r.name, r.relative, r.level) for r in found] == [
        ("expm1", "–", 0),
        ("naive", "0.03", 4),
        ("stable", "0.001", 0),
    ]


def test_timings_are_ordered_by_format_direction_and_time() -> None:
    rows = [
        timing("xielu", name, fmt, direction, ns)
        for fmt in ("fp32", "bf16")
        for name, direction, ns in (
            ("a", "backward", 1.0), ("b", "forward", math.nan), ("c", "forward", 3.0), ("d", "forward", 2.0),
        )
    ]  # fmt: skip
    assert [f"{r.t.fmt} {r.name}" for r in timings(of(timings=tuple(rows)))] == [
        f"{fmt} {name}" for fmt in ("fp32", "bf16") for name in "dcba"
    ]


def test_tiers_are_added_up_and_parameters_are_the_first_rows() -> None:
    first = row(escalated={"float64": 100, "mpmath": 3}, params={"alpha_p": 0.8})
    second = row(fmt="fp16", escalated={"float64": 50, "double_double": 7}, params={"alpha_p": 0.79})
    assert tiers(of(first, second)) == {"float64": 150, "mpmath": 3, "double_double": 7}
    assert parameter_sets(of(first, second)) == {"xielu": {"init": {"alpha_p": 0.8}}}


def test_a_case_that_failed_has_no_figures_to_find_anything_in() -> None:
    failed = row(regions={"positive": errors(900.0)}, undecided=3, failure=Failure("raised", "no"))
    assert {f.topic for f in derive(of(failed))} == {"failures"}


def test_markdown_marks_a_finding_by_its_severity() -> None:
    from precision_lab.report.document import markdown

    made = markdown(of(row(), row("naive", regions={"positive": errors(900.0)})), ())
    text = made["details/findings.md"]
    assert "- ✅ All 131,072 results were compared" in text
    assert "- ❌ xielu, naive: up to 900 ulp outside the root regions" in text


# What the plots show


def test_a_line_is_the_worst_input_of_each_binade_below_zero_nearest_to_it_last() -> None:
    def binade(sign: int, exponent: int, worst: float) -> Binade:
        return Binade(sign, exponent, replace(errors(2.0, None, worst), mean_correct_bits=worst + 0.5))

    m = replace(
        row(), binades=(binade(-1, 3, 5.0), binade(-1, -9, 2.25), binade(1, 0, 8.0), binade(-1, -2, 7.0))
    )
    (line,) = lines(of(m))
    assert (line.exponents, line.bits, line.precision) == ((-9, -2, 3), (2.25, 7.0, 5.0), 8)
    assert lines(of(replace(m, params_name="nearly-linear"))) == ()
    assert lines(of(replace(m, output="grad_beta"))) == ()


def test_the_map_takes_the_worst_parameters_and_the_flags_of_all() -> None:
    rows = [
        row(params_name="init", regions={"positive": errors(2.0), "root_forward": errors(50.0)},
            witness=at(1, -1.5), wrong_sign=2),
        row(params_name="nearly-linear", regions={"positive": errors(9.0)}, witness=at(2, 2.0),
            wrong_sign=3, nonfinite_mismatch=4),
    ]  # fmt: skip
    for order in (rows, rows[::-1]):
        (cell,) = heat(of(*order))
        assert (cell.everywhere, cell.outside_roots, cell.flags) == (50.0, 9.0, "±∞")
        assert cell.text == (
            "forward, init; at x = -1.5 (0x0001); 5 wrong signs; 4 NaN or infinities in the wrong place"
        )


def cell(outside: float, flags: str = "", output: str = "forward", **changes: str) -> HeatCell:
    key = {"function": "xielu", "implementation": "naive", "fmt": "bf16", "execution": "eager", **changes}
    return HeatCell(output=output, everywhere=900.0, outside_roots=outside, flags=flags, text="", **key)


def in_row(table: Table, number: int) -> list[tuple[str, int, str]]:
    cells = [*table.lines()][number][0]
    return [(cell.text, cell.level, cell.note) for cell in cells[1:]]


def test_the_map_has_the_worst_output_in_numbers_and_every_flag_in_words() -> None:
    cells = [
        cell(2.0, "±"), cell(8.0, "∞", "grad_x"), cell(4.0, "", "grad_beta"), cell(1.0, execution="upcast"),
        cell(math.inf, implementation="stable"), cell(0.25, implementation="stable", execution="upcast"),
    ]  # fmt: skip
    table = _map(cells, "outside")
    assert [column.title for column in table.heads] == ["implementation", "bf16 eager", "bf16 upcast"]
    assert in_row(table, 0) == [("8.00", 3, "sign, NaN"), ("1.00", 1, "")]
    assert in_row(table, 1) == [("–", 4, ""), ("0.25", 0, "")]
    assert in_row(_map(cells, "everywhere"), 0) == [("900", 4, "sign, NaN"), ("900", 4, "")]


def test_a_way_of_running_that_is_a_kernels_own_stands_beside_its_name_in_the_map() -> None:
    cells = [
        cell(2.0), cell(3.0, execution="module"), cell(4.0, execution="fp8-fp32 saturating", fmt="e4m3"),
        cell(5.0, fmt="e4m3", execution="fp8-fp32"), cell(1.0, implementation="stable", execution="operator"),
        cell(1.0, implementation="stable", execution="upcast"),
    ]  # fmt: skip
    table = _map(cells, "outside")
    assert [column.title for column in table.heads] == [
        "implementation", "bf16 eager", "bf16 upcast", "e4m3 fp8-fp32 saturating", "e4m3 fp8-fp32",
    ]  # fmt: skip
    assert [row[0].text for row, _ in table.lines()] == [
        "xielu naive", "xielu naive [module]", "xielu stable", "xielu stable [operator]",
    ]  # fmt: skip
    assert in_row(table, 1) == [("3.00", 2, ""), ("", 0, ""), ("", 0, ""), ("", 0, "")]


def test_drawn_times_have_the_fastest_on_top_and_the_quartiles_beside_it() -> None:
    rows = [replace(timing("xielu", name, "bf16", "forward", ns), time_ns_low=ns - 0.5, time_ns_high=ns + 2)
            for name, ns in (("naive", 4.0), ("stable", 9.0), ("expm1", 2.5))]  # fmt: skip
    drawing = times(rows, UNITS[0], ("xielu", "xiprelu"))
    assert drawing is not None and drawing.told == "From xielu · expm1, 2.5, to xielu · stable, 9."
    names = re.findall(r">(xielu · \w+)<", drawing.body)
    assert names == ["xielu · expm1", "xielu · naive", "xielu · stable"]
    assert drawing.body.count('class="bar lead"') == 3
    whiskers = re.findall(r'"axis" d="M([\d.]+) [\d.]+H([\d.]+)"', drawing.body)
    ends = [(float(low), float(high)) for low, high in whiskers]
    middles = [float(x) for x in re.findall(r'cx="([\d.]+)"', drawing.body)]
    scale = (ends[2][1] - ends[0][0]) / math.log(11.0 / 2.0)  # from the least to the most, logarithmic
    for (low, high), middle, t in zip(ends, middles, sorted(rows, key=lambda t: t.time_ns), strict=True):
        for x, ns in ((low, t.time_ns_low), (middle, t.time_ns), (high, t.time_ns_high)):
            assert x == pytest.approx(ends[0][0] + scale * math.log(ns / 2.0), abs=0.2)
    names_end = re.search(r'x="([\d.]+)" y="\d+" text-anchor="end"', drawing.body)
    assert names_end is not None and ends[0][0] == pytest.approx(float(names_end[1]) + 6 + 8, abs=0.2)
    upcast = times([replace(rows[0], execution="upcast")], UNITS[0], ())
    assert upcast is not None and ">xielu · naive [upcast]<" in upcast.body
    unlike = [replace(t, ratio_to_silu=math.nan) for t in rows]
    assert times(unlike, "ratio to SiLU", ()) is None
    doubled = times([replace(t, ratio_to_silu=2 * t.time_ns) for t in rows], "ratio to SiLU", ())
    assert (
        doubled is not None and re.findall(r'"axis" d="M([\d.]+) [\d.]+H([\d.]+)"', doubled.body) == whiskers
    )
    assert "18" in doubled.told and 'class="bar"' in doubled.body
    failed = [replace(rows[0], failure=Failure("raised", "no"), fmt="fp32"), replace(rows[1], fmt="fp32")]
    assert timed([*failed, rows[2]], "forward") == [failed[1], rows[2]]
    assert b"forward in bf16" in draw(of(timings=(*failed, rows[2])))["time-forward.svg"]


def test_drawn_bits_go_towards_zero_and_say_where_they_are_fewest() -> None:
    steps = tuple(Binade(-1, e, errors(1.0, bits=float(8 + e))) for e in (-8, -4, 0))
    drawn = bits(lines(of(replace(row("naive"), binades=steps))))
    (drawing,) = drawn.drawings
    assert drawing.told == "Fewest correct bits of 8: naive 0.0 (x near −2^-8)."
    (path,) = re.findall(r'd="M([^"]+)" fill="none"', drawing.body)
    points = [tuple(map(float, point.split())) for point in path.split("L")]
    assert points[0][0] < points[-1][0] and points[0][1] < points[-1][1]
    assert [stroke.name for stroke in drawn.legend] == ["naive"]


def test_the_terminal_says_what_breaks_where_nothing_holds(capsys: pytest.CaptureFixture[str]) -> None:
    rows = (
        row("naive", regions={"positive": errors(2.0), "root_forward": errors(90.0)}),
        row("naive", "grad_x", regions={"positive": errors(7.0)}),
    )
    print_summary(of(*rows), console_for())
    said = " ".join(capsys.readouterr().out.split())
    assert "xielu bf16 naive 90 7.00 d/dx: 7.00 ulp for positive x" in said
