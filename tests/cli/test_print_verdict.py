"""A verdict on a terminal of 80 columns: what matters is at the end, whole, and fits one screen."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console
from sample_results import measurement
from wrong_results import wrong

from precision_lab.cli.print_verdict import print_verdict
from precision_lab.results import Finding, Measurement, NotExamined
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.judge import judge
from precision_lab.verifying.verdict import Verdict

OUTPUTS = ("forward", "grad_x", "grad_alpha_p", "grad_alpha_n", "grad_beta")
NAMES = ("init", "nearly-linear", "first-layer", "rootless", "random-1", "random-2")
LIMITS = {"max_ulp": 1.0, "reason": "asked for", "regions": {}}


def verdict_of(rows: list[Measurement], **changes: object) -> Verdict:
    faults = tuple(f for m in rows for f in judge(m, Bound(1.0)))
    bounds = {f"{m.fmt}.{m.output}": LIMITS for m in rows}
    whole = Verdict(tuple(rows), faults, bounds=bounds, max_ulp=1.0)
    return replace(whole, **changes)  # type: ignore[arg-type]


WRONG = verdict_of([wrong(o, fmt, n) for fmt in ("bf16", "fp16") for n in NAMES for o in OUTPUTS])
RIGHT = verdict_of(
    [
        replace(measurement("stable", o, accurate=True), params_name=n, lean=None)
        for n in NAMES
        for o in OUTPUTS
    ],
    properties=("lengths", "strides"),
)


def shown(verdict: Verdict, width: int = 80, **options: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, highlight=False, markup=False, force_terminal=False)
    print_verdict(verdict, console, **options)
    return file.getvalue()


def test_a_hundred_and_eighty_faults_and_ten_outputs_fit_one_screen() -> None:
    assert len(WRONG.faults) == 180
    lines = shown(WRONG).splitlines()
    assert len(lines) <= 50
    # A command may be wrapped by the terminal, so that it can be copied whole.
    assert max(len(line) for line in lines if "precision-lab explain" not in line) <= 80


@pytest.mark.parametrize("everything", [False, True])
def test_at_eighty_columns_no_number_and_no_region_is_cut(everything: bool) -> None:
    out = shown(WRONG, everything=everything)
    assert "…" not in out
    for text in ("2.361e+21", "near_zero_negative", "-0.001968"):
        assert text in out
    if everything:
        assert "4.072e-05" in out and "nearly-linear" in out
        table = out.partition("\n\n")[0].splitlines()
        assert any(line.split()[:3] == ["special", "100", "4.072e-05"] for line in table)
        assert max(len(line) for line in out.splitlines() if line.startswith(("region", "near_"))) <= 80


def test_the_end_has_a_line_per_output_with_its_worst_and_where() -> None:
    end = shown(WRONG).rpartition("\n\n")[2]
    rows = [line.split() for line in end.splitlines() if line.startswith(OUTPUTS)]
    assert len(rows) == 10 and {row[0] for row in rows} == set(OUTPUTS)
    for row in rows:
        assert row[1:7] == ["fails", "2.361e+21", "near_zero_negative", "-0.001968", "1403", "2"]
    assert "\nbf16\n" in end and "\nfp16\n" in end
    assert "xielu  naive  bf16, fp16" in end and "6 parameter sets" in end


def test_the_worst_set_of_parameters_is_named_and_numbered_where_there_is_no_room() -> None:
    rows = [wrong("forward", "bf16", n) for n in NAMES]
    worse = replace(rows[2].regions["root_forward"], max_ulp=9e21)
    rows[2] = replace(rows[2], regions={**rows[2].regions, "root_forward": worse})
    (line,) = (n for n in shown(verdict_of(rows), 100).splitlines() if n.startswith("forward"))
    assert line.split()[2:4] == ["9e+21", "root_forward"] and line.endswith("first-layer")
    narrow = shown(verdict_of([replace(m, output="grad_raw_alpha_n") for m in rows]), 72)
    (line,) = (n for n in narrow.splitlines() if re.match("grad_raw_alpha_n +fails", n))
    assert line.split()[-1] == "3"
    assert "sets: 1 init, 2 nearly-linear, 3 first-layer" in " ".join(narrow.split())


def test_one_cause_is_one_finding_with_a_count_and_the_worst_comes_first() -> None:
    out = shown(WRONG)
    told = [line for line in out.splitlines() if re.match(r"(critical|major|minor) ", line)]
    assert [line.split(":")[0] for line in told] == ["critical wrong_sign", "critical inaccurate"]
    spread = f"60 faults alike: {', '.join(OUTPUTS)}; bf16, fp16; 6 parameter sets"
    assert " ".join(out.split()).count(spread) == 2
    assert "fail: 180 faults (120 critical, 60 minor), the worst: wrong sign for 1403" in out


def test_tails_subnormals_and_infinities_are_folded_where_there_is_worse() -> None:
    assert "and 60 more: at ±inf and NaN: --all shows them" in shown(WRONG)
    everything = shown(WRONG, everything=True)
    assert "more: at" not in everything and everything.count(": nonfinite: ") == 60
    rows = [replace(wrong("forward", "bf16", "init"), wrong_sign=0, regions={
        "special": wrong("forward", "bf16", "init").regions["special"],
        "far_tail": wrong("forward", "bf16", "init").regions["far_tail"],
    })]  # fmt: skip
    alone = shown(verdict_of(rows))
    assert "minor nonfinite: " in alone and "minor inaccurate: " in alone and " more" not in alone


def test_a_finding_has_its_input_in_three_notations_and_its_command_on_lines_of_their_own() -> None:
    lines = shown(WRONG).splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("critical"))
    at = next(k for k in range(start, len(lines)) if "x = " in lines[k])
    assert lines[at] == "  near_zero_negative: x = -0.0019683837890625  -0x1.02p-9  bits 0xbb80"
    assert lines[at + 1] == "  computed 0.07 (0xbaf9), exact -0.001947124481201171875000"
    assert lines[at + 2].startswith(
        "  precision-lab explain xielu --bits 0xbb80 --format bf16 --output forward"
    )


def test_the_regions_that_appear_are_explained_and_no_others() -> None:
    out = " ".join(shown(WRONG).split())
    assert "near_zero_negative: just below 0 (−1/16 ≤ x ≤ −1e-6); root_forward: within 2 % of a root" in out
    assert "eps_zone: " not in out and "subnormal_result: " not in out
    assert shown(RIGHT).splitlines()[-2] == "zero: at ±0"


def test_a_kernel_that_passes_takes_fifteen_lines_and_no_table_of_regions() -> None:
    lines = shown(RIGHT).splitlines()
    assert len(lines) <= 15
    assert lines[-1] == "pass: all outputs within 1 ulp"
    assert not any(line.startswith(("region ", "next: ", "bound: ")) for line in lines)
    assert sum(line.split()[:2] == [o, "holds"] for line in lines for o in OUTPUTS) == 5


def test_the_outcome_is_a_sentence_and_never_a_bare_word() -> None:
    gap = NotExamined("lengths", "bf16", "init", "it does not fit the budget of 1 s", True)
    for verdict, words in (
        (RIGHT, "pass: all outputs"), (WRONG, "fail: 180 faults"),
        (replace(RIGHT, not_examined=(gap,)), "inconclusive: lengths [bf16, init]: it does not fit"),
    ):  # fmt: skip
        out = shown(verdict)
        assert "\n" + words in out
        assert not re.search(r"^(failed|fail|pass|inconclusive)$", out, re.MULTILINE)
        assert out.count("\nnext: ") == (verdict is not RIGHT)


def test_not_everything_is_red() -> None:
    file = io.StringIO()
    console = Console(
        file=file, width=80, highlight=False, markup=False, force_terminal=True, color_system="standard"
    )
    print_verdict(WRONG, console)
    painted = file.getvalue()
    assert "\x1b[1;31mcritical \x1b[0mwrong_sign" in painted
    assert "\x1b[1;31mfail\x1b[0m: 180 faults" in painted
    assert re.search(r"\n\x1b\[2m {2}precision-lab explain", painted)


def test_an_output_that_was_not_measured_has_a_line_that_says_so() -> None:
    gap = NotExamined("grad_beta", "bf16", "init", "no measurement of it arrived", True)
    rows = [m for m in RIGHT.measurements if m.output != "grad_beta"]
    out = shown(replace(RIGHT, measurements=tuple(rows), not_examined=(gap,)))
    (line,) = (n for n in out.splitlines() if n.startswith("grad_beta "))
    assert line.split()[1:4] == ["open", "not", "examined"]


def test_a_property_is_a_finding_beside_the_outputs_that_hold() -> None:
    fault = Finding(code="depends_on_length", function="xielu", implementation="mine", fmt="bf16",
                    params_name="init", output="forward", message="element 256 of 257 is 0.0")  # fmt: skip
    out = shown(replace(RIGHT, faults=(fault,)))
    assert "major depends_on_length: forward [bf16, init]: element 256 of 257 is 0.0" in out
    assert [line.split()[1] for line in out.splitlines() if re.match("forward  +", line)] == ["holds"]
    assert (
        "fail: one major fault: a result that depends on how many elements there are, in forward (bf16)"
        in " ".join(out.split())
    )
    assert "bound: none would pass while these stay: depends_on_length" in out
