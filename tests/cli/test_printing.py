"""What the commands print: each number in its own column, and "all hold" only where nothing is left."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sample_results import measurement, statistics

from precision_lab.cli.print_verdict import print_verdict
from precision_lab.cli.printing import console_for
from precision_lab.results import Examination, Finding, Measurement, NotExamined
from precision_lab.verifying.trial import LAWS
from precision_lab.verifying.verdict import Verdict

KNOWN = Finding(
    code="writes_input", function="xielu", implementation="stable", fmt="bf16", params_name="init",
    message="known",
)  # fmt: skip


def row(**changes: object) -> Measurement:
    region = replace(
        statistics(8, 3.0, 5.25, n=700), mean_ulp=0.375, mean_signed_ulp=-0.125, not_correctly_rounded=41,
        wrong_sign=17, nonfinite_mismatch=19,
    )  # fmt: skip
    plain = replace(measurement("stable", accurate=True), regions={"positive": region}, max_ulp=3.0)
    return replace(plain, **changes)  # type: ignore[arg-type]


def printed(capsys: pytest.CaptureFixture[str], *, everything: bool = True, **changes: object) -> str:
    capsys.readouterr()
    verdict = replace(Verdict((row(),), ()), **changes)  # type: ignore[arg-type]
    print_verdict(verdict, console_for(), everything=everything)
    return capsys.readouterr().out


def test_each_number_of_a_region_has_its_column(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [line.split() for line in printed(capsys).splitlines()]
    assert ["positive", "700", "3", "0.375", "-0.12", "41", "17", "19", "5.2"] in lines
    heading = next(k for k, line in enumerate(lines) if line[:1] == ["region"])
    assert " ".join(lines[heading - 1]) == "not wrong inf/ least"
    assert " ".join(lines[heading]) == "region inputs max ulp mean ulp bias rounded sign nan bits"


def test_signed_means_stand_beside_those_of_correct_rounding(capsys: pytest.CaptureFixture[str]) -> None:
    m = row(
        mean_signed_ulp=-0.25, nearest_signed_ulp=0.0625, mean_signed_relative=-0.002,
        nearest_signed_relative=0.0001, normal_bias=(0.03, 0.004), lean=-0.5,
    )  # fmt: skip
    assert (
        "bias -0.25 ulp (nearest +0.062), relative -0.2 % (nearest +0.01 %), for standard normal inputs +3 % "
        "(nearest +0.4 %), lean -0.50"
    ) in printed(capsys, measurements=(m,))


def test_other_parameters_have_a_line_of_their_own_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    other = row(params_name="wide", n_inputs=900, max_ulp=8.0, mean_ulp=0.5, not_correctly_rounded=51,
                wrong_sign=27, nonfinite_mismatch=29)  # fmt: skip
    out = printed(capsys, measurements=(row(), other))
    tables = out.partition("\nother parameters\n")[0]
    assert tables.count("positive") == 1  # the first parameters' table alone has regions
    assert ["wide", "bf16", "forward", "900", "8", "0.5", "51", "27", "29"] in [
        line.split() for line in out.splitlines()
    ]


def ended(state: str, name: str = "strides") -> Examination:
    return Examination(name, "bf16", "init", state, "so it is")


@pytest.mark.parametrize(
    ("changes", "whole"),
    [
        ({}, True),
        ({"examinations": (ended("holds"), ended("does not apply", "lengths"))}, True),
        ({"examinations": (ended("holds"), ended("broken", "lengths"))}, False),
        ({"examinations": (ended("does not apply"),)}, False),
        ({"known": (KNOWN,)}, False),
        ({"not_examined": (NotExamined("rows", "bf16", "init", "no room", False),)}, False),
        ({"left_out": ("properties: lengths",)}, False),
    ],
)
def test_all_hold_only_where_nothing_is_broken_known_left_out_or_unexamined(
    changes: dict[str, object], whole: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"properties": ("strides",), "examinations": (ended("holds"),), **changes}
    assert ("all hold" in printed(capsys, **given)) == whole


def test_a_law_is_no_property(capsys: pytest.CaptureFixture[str]) -> None:
    out = printed(capsys, properties=("strides",), examinations=(ended("holds"), ended("broken", LAWS)))
    assert "engineering properties: all hold" in out
    assert "laws (bf16): broken" in out


@pytest.mark.parametrize("asked", [True, False])
def test_a_gap_is_said_once_and_by_what_it_means(asked: bool, capsys: pytest.CaptureFixture[str]) -> None:
    gap = NotExamined("rows of 12", "bf16", "init", "no room", asked)
    out = printed(capsys, properties=("strides",), examinations=(ended("holds"),), not_examined=(gap,))
    told, _, outcome = out.rpartition("\ninconclusive: " if asked else "\npass: ")
    assert told.count("rows of 12 [bf16, init]: no room") == 1
    assert outcome.startswith("rows of 12 [bf16, init]: no room" if asked else "nothing was promised")
