"""Findings of a verdict: with witnesses as data, and the worst first wherever they are read."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from sample_results import measurement, statistics, witness

from precision_lab.cli.print_verdict import print_verdict
from precision_lab.cli.printing import console_for
from precision_lab.devices import CPU
from precision_lab.results import Binade, Finding, Measurement, Severity, strict_json
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.judge import judge, worse_than
from precision_lab.verifying.junit import junit_xml
from precision_lab.verifying.make_plan import Request, make_plan
from precision_lab.verifying.replay import replayed
from precision_lab.verifying.verdict import Verdict

PLACE = witness(1.0, -256.0, -0.5)


def found(m: Measurement, code: str, bound: Bound | None = None) -> Finding:
    (finding,) = (f for f in judge(m, bound or Bound(1.0)) if f.code == code)
    return finding


def row(**changes: object) -> Measurement:
    return replace(measurement("stable", accurate=True), output_precision=8, **changes)  # type: ignore[arg-type]


def test_the_witness_of_each_region_over_its_bound_is_kept() -> None:
    regions = {
        "positive": statistics(8, 40.0), "far_tail": statistics(8, 90.0), "zero": statistics(8, 0.5),
        "rest_negative": statistics(8, 2.0),
    }  # fmt: skip
    finding = found(row(regions=regions), "inaccurate")
    assert (finding.region, finding.witness) == ("far_tail", regions["far_tail"].witness)
    assert [(s.region, s.witness) for s in finding.also] == [
        (name, regions[name].witness) for name in ("positive", "rest_negative")
    ]
    assert finding.output_precision == 8 and finding.ulps == 90.0
    bound = Bound(100.0, regions={"positive": 1.0})
    assert found(row(regions=regions), "inaccurate", bound).also == ()


@pytest.mark.parametrize("code", ["wrong_sign", "nonfinite"])
def test_results_at_inputs_of_ordinary_magnitude_are_counted(code: str) -> None:
    def binade(exponent: int, n: int) -> Binade:
        counts = {"wrong": n} if code == "wrong_sign" else {"bad": n}
        return Binade(-1, exponent, statistics(8, 1.0, **counts))

    binades = tuple(binade(e, n) for e, n in ((-15, 1), (-14, 2), (0, 4), (13, 8), (14, 16)))
    zero = {"zero": statistics(8, 1.0, wrong=32, bad=32), "special": statistics(8, 1.0, wrong=64, bad=64)}
    counts = {"wrong_sign": 63, "sign_witness": PLACE, "nonfinite_mismatch": 63, "nonfinite_witness": PLACE}
    finding = found(row(binades=binades, regions=zero, **counts), code, Bound(10.0))
    assert (finding.count, finding.ordinary, finding.witness) == (63, 2 + 4 + 8 + 32, PLACE)
    assert f"--bits {PLACE.bits} --format bf16 --output forward" in finding.replay
    assert found(row(binades=(), regions=zero, **counts), code, Bound(10.0)).ordinary is None


def test_what_is_worse_than_another_has_its_witness() -> None:
    worse, other = (row(regions={"positive": statistics(8, ulps)}) for ulps in (40.0, 2.0))
    (finding,) = worse_than(worse, other)
    assert (finding.code, finding.region, finding.ulps) == ("worse_than", "positive", 40.0)
    assert finding.witness == worse.regions["positive"].witness


def finding(code: str, **facts: object) -> Finding:
    about = {"function": "xielu", "implementation": "stable", "fmt": "bf16", "params_name": "init"}
    return Finding(code=code, message=f"{code} was seen", output="forward", **{**about, **facts})  # type: ignore[arg-type]


AT_ZERO = replace(witness(0.0, -300.0, 0.5), exact="0.9")
FAULTS = (
    finding("refuses_lengths"),
    finding("inaccurate", region="zero", ulps=-300.0, witness=AT_ZERO),
    finding("crashed", ulps=math.nan),
)
OPEN = (finding("undecided", count=3),)
VERDICT = Verdict((row(),), FAULTS, undecided=OPEN)
RANKED = ["crashed", "inaccurate", "refuses_lengths", "undecided"]


def test_a_verdicts_findings_are_ranked_and_its_faults_stay_as_they_were_met() -> None:
    assert [f.code for f in VERDICT.findings] == RANKED
    assert [f.severity for f in VERDICT.findings] == sorted(Severity)
    assert VERDICT.faults == FAULTS and all(f in (*FAULTS, *OPEN) for f in VERDICT.findings)
    assert [f.split(": ")[1] for f in VERDICT.failures] == RANKED[:3]
    assert VERDICT.next_steps == tuple(f.next_step for f in VERDICT.findings)
    twice = replace(VERDICT, faults=(*FAULTS, finding("crashed", fmt="fp32")))
    assert twice.next_steps == VERDICT.next_steps


def test_json_lists_findings_ranked_with_their_severity() -> None:
    data = json.loads(strict_json(VERDICT.to_json()))
    assert [f["code"] for f in data["findings"]] == RANKED
    assert [f["kind"] for f in data["faults"]] == RANKED[:3]
    assert [f["severity"] for f in data["findings"]] == ["critical", "major", "minor", "note"]
    assert [repr(Finding.from_json(f)) for f in data["findings"]] == [repr(f) for f in VERDICT.findings]
    known = replace(VERDICT, faults=(), known=FAULTS).to_json()
    assert [f["code"] for f in known["known"]] == RANKED[:3] and known["faults"] == []


def test_junit_names_the_worst_and_says_how_bad_each_is() -> None:
    text = junit_xml(replace(VERDICT, faults=(finding("biased"), FAULTS[1])))
    assert 'type="inaccurate" message="inaccurate, biased"' in text
    assert f"\nmajor: {FAULTS[1].next_step}\n" in text and "\nminor: Round to nearest" in text


def shown(verdict: Verdict, *, brief: bool = False) -> list[str]:
    console = console_for()
    console.file = io.StringIO()
    print_verdict(verdict, console, brief=brief)
    return console.file.getvalue().splitlines()


def test_the_next_step_of_the_worst_is_printed_before_the_outcome_and_no_other() -> None:
    lines = shown(VERDICT)
    steps = [k for k, line in enumerate(lines) if line.startswith("next: ")]
    (outcome,) = [k for k, line in enumerate(lines) if line.startswith("fail: 3 faults (1 critical, 1 major")]
    assert len(steps) == 1
    assert " ".join(lines[steps[0] : outcome]) == f"next: {VERDICT.next_steps[0]}"
    assert not any(line.startswith(("next: ", "fail")) for line in shown(VERDICT, brief=True))
    assert shown(Verdict((row(),), ()))[-1].startswith("pass: ")


def test_a_propertys_replay_calls_the_kernel_as_it_was_called() -> None:
    params = {"alpha_p": 2.0, "alpha_n": 1.5, "beta": 0.5}
    request = Request(
        function="xielu",
        fmts=("bf16",),
        outputs=("forward",),
        max_ulp=2.0,
        params={"init": params},
        finite=True,
    )
    kernel: Any = SimpleNamespace(target="my kernels.py:f", options=lambda: ["--compiled"], device=CPU)
    seen = replayed(make_plan(request), kernel, finding("depends_on_length"), "lengths")
    assert seen.replay == (
        "precision-lab verify 'my kernels.py:f' --function xielu --format bf16 --properties lengths "
        "--output forward --param alpha_p=2.0 --param alpha_n=1.5 --param beta=0.5 --max-ulp 2.0 --compiled "
        "--finite"
    )
    assert replayed(make_plan(request), kernel, seen, "sizes") == seen
    kernel.target = ""
    assert replayed(make_plan(request), kernel, finding("raised"), "sizes").replay == ""
