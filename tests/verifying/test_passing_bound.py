"""The bound that would pass is fed back and passes; where none does, none is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from sample_results import measurement, statistics, witness

from precision_lab.results import Failure, Finding, Measurement, NotExamined
from precision_lab.results.conformity import Conformity, Span
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.judge import judge
from precision_lab.verifying.passing_bound import at_nonfinite_inputs_alone, passing_bound
from precision_lab.verifying.summary import bound_words, next_step, outcome_sentence
from precision_lab.verifying.verdict import Verdict
from precision_lab.verifying.verify import verify

torch = pytest.importorskip("torch")

LIMITS = {"max_ulp": 1.0, "reason": "asked for", "regions": {}}
INFINITE = replace(witness(float("inf"), float("nan"), float("nan")), exact="+inf")


def row(**changes: object) -> Measurement:
    return replace(measurement("stable", accurate=True), lean=None, output_precision=8, **changes)  # type: ignore[arg-type]


def verdict_of(*rows: Measurement, **changes: object) -> Verdict:
    judged = [f for m in rows for f in judge(m, Bound(1.0))]
    open_ = tuple(f for f in judged if f.code in ("undecided", "depends_on_device"))
    faults = tuple(f for f in judged if f not in open_)
    bounds = {f"{m.fmt}.{m.output}": LIMITS for m in rows}
    return replace(Verdict(tuple(rows), faults, undecided=open_, bounds=bounds, max_ulp=1.0), **changes)  # type: ignore[arg-type]


def options(verdict: Verdict) -> str | None:
    found = passing_bound(verdict)
    return None if found is None else found.options


def test_errors_alone_need_the_largest_of_them_rounded_up() -> None:
    wide = row(regions={"positive": statistics(8, 2.40625), "zero": statistics(8, 0.5)})
    assert (
        options(verdict_of(wide, row(output="grad_x", regions={"positive": statistics(8, 1.5)})))
        == "--max-ulp 2.407"
    )
    assert judge(wide, Bound(2.407)) == () != judge(wide, Bound(2.4))
    assert passing_bound(verdict_of(row())) is None
    assert "2.407 would pass" in bound_words(verdict_of(wide)) and "anew" not in bound_words(verdict_of(wide))
    assert "properties are then examined anew" in bound_words(verdict_of(wide, properties=("lengths",)))


def test_a_bound_so_wide_that_no_digit_counts_is_said_to_be() -> None:
    assert "no digit need be right" not in bound_words(
        verdict_of(row(regions={"positive": statistics(8, 255.0)}))
    )
    assert "no digit need be right" in bound_words(
        verdict_of(row(regions={"positive": statistics(8, 256.0)}))
    )


SIGNS = {"wrong_sign": 3, "sign_witness": witness(1.0, 256.0, -0.5)}
STRAYS = {"nonfinite_mismatch": 2, "nonfinite_witness": INFINITE}
FAULT = Finding(code="writes_input", function="xielu", implementation="mine", fmt="bf16", params_name="init",
                message="it was seen")  # fmt: skip
GAP = NotExamined("lengths", "bf16", "init", "no room", True)


@pytest.mark.parametrize(
    ("verdict", "obstacle"),
    [
        (verdict_of(row(**SIGNS)), "wrong_sign (3 inputs at most)"),
        (verdict_of(row(**{**STRAYS, "nonfinite_witness": witness(1.0)})), "nonfinite (2 inputs at most)"),
        (verdict_of(replace(row(), lean=-0.5, inexact=9000)), "biased"),
        (verdict_of(row(failure=Failure("raised", "no"))), "raised"),
        (verdict_of(row(undecided=2)), "undecided (2 inputs at most)"),
        (verdict_of(row(), faults=(FAULT,)), "writes_input"),
        (verdict_of(row(), not_examined=(GAP,)), "lengths, not examined"),
        (verdict_of(row(conformity=Conformity(("ex2",), unknown="too many"))), "depends_on_device"),
    ],
)
def test_what_no_number_of_ulps_forgives_is_named_instead(verdict: Verdict, obstacle: str) -> None:
    found = passing_bound(verdict)
    assert found is not None and (found.max_ulp, found.options, found.obstacles) == (None, "", (obstacle,))
    assert f"none would pass while these stay: {obstacle}" in bound_words(verdict)


def test_only_what_a_bound_file_can_hold_is_to_be_recorded() -> None:
    assert "--write-bound" in bound_words(verdict_of(row(**SIGNS)))
    for verdict in (verdict_of(row(failure=Failure("raised", "no"))), verdict_of(row(), not_examined=(GAP,))):
        assert "--write-bound" not in bound_words(verdict)
    of_file = replace(verdict_of(row(**SIGNS)), max_ulp=None)
    assert bound_words(of_file) == "--write-bound --loosen records this kernel in the file, faults included"
    assert bound_words(replace(of_file, bounds={}, against="naive")) == ""


def special(**more: object) -> Measurement:
    regions = {
        "special": replace(statistics(8, 300.0, bad=2), witness=INFINITE),
        "positive": statistics(8, 0.5),
    }
    return row(**{"regions": regions, **STRAYS, **more})


def test_faults_at_infinite_inputs_alone_are_left_out_by_finite_which_is_the_next_step() -> None:
    verdict = verdict_of(special())
    assert options(verdict) == "--finite --max-ulp 1" and at_nonfinite_inputs_alone(verdict)
    assert "--finite, with the present bound, would pass" in bound_words(verdict)
    assert "--finite (finite=True)" in next_step(verdict)
    worse = verdict_of(special(regions={**special().regions, "positive": statistics(8, 244.5)}))
    assert options(worse) == "--finite --max-ulp 244.5" and not at_nonfinite_inputs_alone(worse)
    assert "--finite" not in next_step(worse)
    elsewhere = verdict_of(special(nonfinite_mismatch=3))
    assert options(elsewhere) == "" and not at_nonfinite_inputs_alone(elsewhere)
    gone = replace(verdict, faults=(*verdict.faults, replace(FAULT, code="loses_nonfinite")))
    assert options(gone) == "--finite --max-ulp 1"
    assert options(replace(verdict, faults=(*verdict.faults, FAULT))) == ""


def test_a_verdict_on_finite_inputs_says_so_and_is_not_told_to_leave_them_out_again() -> None:
    for verdict in (verdict_of(row(), finite=True), verdict_of(row(**SIGNS), finite=True)):
        assert outcome_sentence(verdict).endswith("; infinite and NaN inputs were left out")
        assert "--finite" not in bound_words(verdict) + next_step(verdict)


def test_on_a_device_the_bound_holds_for_every_one_that_conforms() -> None:
    found = Conformity(("ex2",), 4, 10, {"positive": Span(0.5, 3.25)})
    depends = verdict_of(row(conformity=found, regions={"positive": statistics(8, 0.5)}))
    assert depends.outcome == "inconclusive" and options(depends) == "--max-ulp 3.25"
    signs = Conformity(("ex2",), 4, 10, {"positive": Span(0.5, 3.25, wrong_sign=(0, 7))})
    assert passing_bound(verdict_of(row(conformity=signs))).obstacles == ("wrong_sign (7 inputs at most)",)  # type: ignore[union-attr]


# -- fed back ---------------------------------------------------------------------------------------


def coarse(x: torch.Tensor) -> torch.Tensor:
    return (
        torch.where(x > 0, (x * 1.03), torch.zeros_like(x))
        .clamp(max=torch.finfo(x.dtype).max)
        .where(x < 3e38, x)
    )


def adds_nothing(x: torch.Tensor) -> torch.Tensor:
    """Right but at −∞ and ∞, where 0·x is NaN."""
    return torch.relu(x) + 0 * x


def coarse_and_adds_nothing(x: torch.Tensor) -> torch.Tensor:
    return coarse(x) + 0 * x


@pytest.mark.parametrize("properties", [False, True])
@pytest.mark.parametrize(
    ("kernel", "finite"), [(coarse, False), (adds_nothing, True), (coarse_and_adds_nothing, True)]
)
def test_the_bound_that_is_named_passes_when_it_is_given(
    kernel: object, finite: bool, properties: bool
) -> None:
    asked = {"fmts": ("bf16",), "outputs": ("forward",), "properties": properties}
    first = verify(kernel, "relu", **asked)  # type: ignore[arg-type]
    found = passing_bound(first)
    assert first.outcome == "fail" and found is not None and found.max_ulp is not None
    assert found.finite == finite
    again = verify(kernel, "relu", **asked, max_ulp=found.max_ulp, finite=found.finite)  # type: ignore[arg-type]
    assert again.outcome == "pass", again.failures
    if found.max_ulp > 1:  # and it is no wider than it must be
        less = verify(kernel, "relu", **asked, max_ulp=found.max_ulp * 0.998, finite=found.finite)  # type: ignore[arg-type]
        assert less.outcome == "fail"


def test_a_state_that_is_said_to_be_recordable_is_recorded_and_passes(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from precision_lab.cli.main import app

    (tmp_path / "k.py").write_text(
        "import torch\n\ndef turned(x):\n    return torch.where(x == 1, -x, torch.relu(x))\n"
    )
    words = [
        "verify",
        f"{tmp_path}/k.py:turned",
        "--function",
        "relu",
        "--no-isolate",
        "--properties",
        "none",
    ]
    first = CliRunner().invoke(app, words)
    assert (
        "none would pass while these stay: wrong_sign (1 input at most); --write-bound records"
        in " ".join(first.output.split())
    )
    file = ["--bound", str(tmp_path / "b.toml")]
    assert CliRunner().invoke(app, [*words, *file, "--write-bound"]).exit_code == 0
    assert CliRunner().invoke(app, [*words, *file]).exit_code == 0
