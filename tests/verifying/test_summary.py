"""What a failed test of a kernel says: the sentence first, then causes, and what to do."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from sample_results import measurement, statistics, witness

from precision_lab.results import Finding, NotExamined, strict_json
from precision_lab.results.codes import CODES
from precision_lab.results.regions import REGION_WORDS, legend
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.causes import causes, folded_words, shown_and_folded
from precision_lab.verifying.judge import judge
from precision_lab.verifying.summary import explanation, output_lines, verdict_json
from precision_lab.verifying.verdict import Verdict

NAMES = ("init", "nearly-linear", "rootless")


PLACES = {
    "positive": replace(statistics(8, 40.0), witness=replace(witness(1.0, 40.0, 1.4), exact="1.25")),
    "far_tail": replace(statistics(8, 90.0), witness=replace(witness(-80.0, 90.0, 1e-30), exact="1e-32")),
}


def failing() -> Verdict:
    rows = []
    for output in ("forward", "grad_x"):
        m = replace(
            measurement("naive", output), wrong_sign=0, nonfinite_mismatch=0, lean=None, regions=PLACES
        )
        rows += [replace(m, params_name=name, output_precision=8) for name in NAMES]
    tails = [replace(m, output="grad_beta", regions={"far_tail": m.regions["far_tail"]}) for m in rows[:3]]
    rows += tails
    faults = tuple(f for m in rows for f in judge(m, Bound(1.0)))
    bounds = {f"bf16.{o}": {"max_ulp": 1.0} for o in ("forward", "grad_x", "grad_beta")}
    return Verdict(tuple(rows), faults, bounds=bounds, max_ulp=1.0, left_out=("outputs: grad_alpha_p",))


def test_the_first_line_of_an_explanation_is_the_whole_of_it_in_a_sentence() -> None:
    lines = explanation(failing()).splitlines()
    assert lines[0] == (
        "xielu  naive  bf16  exhaustive (65536)  3 parameter sets: fail: 9 faults (6 major, 3 minor), "
        "the worst: 40 ulps in positive, bound 1, in forward (bf16)"
    )
    assert lines[1] == "major inaccurate: forward [bf16, init]: 40 ulps in positive, bound 1 (far_tail 90)"
    assert lines[2] == "  6 faults alike: forward, grad_x; 3 parameter sets"
    assert lines[5].startswith(
        "  Replay: precision-lab explain xielu --bits 0xbb80 --format bf16 --output forward"
    )
    assert lines[6] == "and 3 more: far_tail; `verdict.failures` has all"
    assert lines[7:9] == ["left out: outputs: grad_alpha_p", "bound: --max-ulp 90 would pass"]
    assert lines[9].startswith("next: Compute forward in wider arithmetic") and len(lines) == 10


def test_a_cause_is_shown_at_the_region_that_makes_it_bad_and_at_an_ordinary_input() -> None:
    """The worst ulps are in the tail, where nobody is hurt by them."""
    lead = causes(failing())[0].lead
    assert lead.finding.region == "far_tail" and lead.region == "positive"
    assert lead.witness is not None and lead.witness.x == 1.0
    assert f"--bits {lead.witness.bits}" in lead.replay


def test_no_finding_is_lost_between_what_is_shown_and_what_is_folded() -> None:
    verdict = failing()
    codes = [c for c in CODES if c not in ("inaccurate", "undecided")]
    more = tuple(
        Finding(code=code, function="xielu", implementation="naive", fmt="bf16", params_name=name,
                output="forward", message=f"{code} was seen")
        for code in codes for name in NAMES
    )  # fmt: skip
    verdict = replace(verdict, faults=(*verdict.faults, *more))
    found = causes(verdict)
    shown, folded = shown_and_folded(found)
    assert sorted(map(id, verdict.findings)) == sorted(id(f) for c in (*shown, *folded) for f in c.findings)
    assert len(shown) == 5 and all(a.severity <= b.severity for a, b in pairwise(found))
    assert folded_words(folded).startswith(
        f"and {len(verdict.findings) - sum(len(c.sights) for c in shown)} more: "
    )
    assert folded_words(()) == ""


def test_a_wrong_sign_is_told_before_the_ulps_it_is_off_by_and_at_0_by_the_name_of_its_region() -> None:
    at_zero = replace(witness(0.0, -205.0, -0.3), exact="0.5")
    zone = replace(statistics(8, 410.0, wrong=90), witness=replace(at_zero, x=-1e-30))
    places = {"zero": replace(statistics(8, 205.0, n=2, wrong=2), witness=at_zero), "eps_zone": zone}
    m = replace(measurement("naive", "grad_x"), regions=places, wrong_sign=92, sign_witness=at_zero)
    m = replace(m, nonfinite_mismatch=0, output_precision=8, lean=None)
    sign, error = causes(Verdict((m,), judge(m, Bound(1.0)), bounds={"bf16.grad_x": {"max_ulp": 1.0}}))
    assert [c.lead.finding.code for c in (sign, error)] == ["wrong_sign", "inaccurate"]
    assert (
        sign.sentence() == "wrong_sign: grad_x [bf16, init]: wrong sign for 92 inputs (eps_zone 90, zero 2)"
    )
    assert sign.input_lines()[0] == "zero: x = 0.0  0x0p+0  bits 0xbb80"


def test_an_exception_with_another_message_is_another_cause() -> None:
    def raised(message: str, name: str) -> Finding:
        return Finding(code="raised", function="xielu", implementation="naive", fmt="bf16", params_name=name,
                       output="forward", message=message)  # fmt: skip

    verdict = Verdict((), (raised("a", "init"), raised("b", "init"), raised("a", "wide")))
    assert [[f.message for f in c.findings] for c in causes(verdict)] == [["a", "a"], ["b"]]
    bare = Finding(
        code="crashed", function="xielu", implementation="naive", fmt="", params_name="", message="signal 11"
    )
    assert causes(Verdict((), (bare,)))[0].lines() == ["critical crashed: signal 11"]
    assert "one critical fault: the process died, or its GPU context\n" in explanation(Verdict((), (bare,)))


@pytest.mark.parametrize("limits", [{"max_ulp": 1.0}, {"max_ulp": 1.0, "regions": {"far_tail": 1000.0}}])
def test_the_worst_of_an_output_is_worst_against_what_its_region_may_have(limits: dict[str, object]) -> None:
    verdict = replace(failing(), bounds={"bf16.forward": limits})
    line = next(n for n in output_lines(verdict) if n.output == "forward")
    expected = ("far_tail", 90.0) if "regions" not in limits else ("positive", 40.0)
    assert (line.region, line.max_ulp, line.state) == (*expected, "fails")


def test_counts_of_an_output_are_those_of_the_set_that_has_most() -> None:
    right = measurement("stable", accurate=True)
    rows = [
        replace(right, params_name=n, wrong_sign=k, nonfinite_mismatch=9 - k) for k, n in enumerate(NAMES)
    ]
    (line,) = output_lines(Verdict(tuple(rows), ()))
    assert (line.wrong_sign, line.nonfinite, line.state) == (2, 9, "")


def test_json_has_the_summary_beside_everything_there_was() -> None:
    verdict = failing()
    data = json.loads(strict_json(verdict_json(verdict)))
    assert {k: v for k, v in data.items() if k != "summary"} == json.loads(strict_json(verdict.to_json()))
    summary = data["summary"]
    assert summary["faults"] == {"critical": 0, "major": 6, "minor": 3, "note": 0}
    assert summary["passing_bound"] == {"max_ulp": 90.0, "finite": False, "obstacles": []}
    assert [(n["output"], n["state"]) for n in summary["outputs"]] == [
        ("forward", "fails"), ("grad_x", "fails"), ("grad_beta", "fails"),
    ]  # fmt: skip
    assert data["finite"] is False


def test_what_is_missing_is_said_once_for_each_reason() -> None:
    gaps = tuple(
        NotExamined(what, "bf16", "init", "a plain call fails", True) for what in ("lengths", "strides")
    )
    text = explanation(Verdict((), (), properties=("lengths", "strides"), not_examined=gaps))
    assert "inconclusive: lengths, strides [bf16, init]: a plain call fails" in text
    assert "next: Mend what keeps lengths from being examined" in text


def test_every_region_has_its_words() -> None:
    from precision_lab.inputs.sets import REGIONS

    assert set(REGION_WORDS) == {*REGIONS, "subnormal_result"}
    assert (
        legend(["positive", "zero", "unheard of"]) == "zero: at ±0; positive: for x > 0" and legend([]) == ""
    )
