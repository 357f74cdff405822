"""A verdict passes only what was measured, decided and within its bound."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from sample_results import measurement, statistics, witness

from precision_lab.devices import CPU
from precision_lab.formats import BF16, FP32
from precision_lab.functions import RELU, XIELU
from precision_lab.implementations.contract import CallContract
from precision_lab.measuring.measure import measure
from precision_lab.results import Examination, Failure, Finding, Measurement, NotExamined, Statistics
from precision_lab.verifying.bounds import Bound, lean_limit, leaning
from precision_lab.verifying.collect import collect
from precision_lab.verifying.judge import judge, worse_than
from precision_lab.verifying.make_plan import Request, make_plan, random_sets
from precision_lab.verifying.plan import Bounds, Event, Examined, Measured, Plan
from precision_lab.verifying.trial import Planned
from precision_lab.verifying.verdict import Verdict
from precision_lab.verifying.verify import assert_accurate, verify

torch = pytest.importorskip("torch")


def relu(x, **_):
    return torch.relu(x)


def test_an_accurate_kernel_passes():
    verdict = verify(relu, "relu", fmts=("bf16", "fp16"), max_ulp=0.5)
    assert verdict.passed
    assert verdict.failures == ()
    assert {(m.fmt, m.output) for m in verdict.measurements} == {
        (fmt, output) for fmt in ("bf16", "fp16") for output in ("forward", "grad_x")
    }


def test_a_failure_gives_witness_and_replay():
    with pytest.raises(AssertionError) as caught:
        assert_accurate("naive", "xielu", dtype=torch.bfloat16, max_ulp=1, outputs=("grad_alpha_n",))
    message = str(caught.value)
    assert "fail: 18 faults" in message and "bound 1" in message
    assert "Replay: precision-lab explain xielu --bits 0x" in message
    assert "--format bf16 --output grad_alpha_n" in message


def test_undecided_never_passes():
    m = dataclasses.replace(measure(relu, "relu", fmt="bf16"), undecided=1)
    assert any("undecided for 1 of 65536" in fault.message for fault in judge(m, Bound(1.0)))


def test_wrong_signs_and_infinities_are_within_no_bound():
    m = measure(lambda x, **_: torch.where(x > 2, -x, torch.relu(x)), "relu", fmt="bf16")
    assert "wrong_sign" in {fault.kind for fault in judge(m, Bound(1e300))}
    m = measure(lambda x, **_: torch.where(x > 2, torch.inf, torch.relu(x)), "relu", fmt="bf16")
    assert "nonfinite" in {fault.kind for fault in judge(m, Bound(1e300))}


@pytest.mark.parametrize("value", [0.4, float("nan"), float("inf"), -1.0])
def test_a_bound_below_correct_rounding_is_refused(value):
    with pytest.raises(ValueError, match="max_ulp="):
        Bound(value)


# -- one measurement against its bound -----------------------------------------------------------


def region(ulp: float, computed: float = -0.0019, wrong: int = 20, error: float | None = None) -> Statistics:
    seen = witness(error=ulp if error is None else error, computed=computed)
    return dataclasses.replace(statistics(8, ulp), witness=seen, not_correctly_rounded=wrong)


def measured(**changes: object) -> Measurement:
    """A bf16 measurement without a fault, so changed; its largest error is that of its regions."""
    found = measurement("stable", accurate=True)
    regions = changes.setdefault("regions", {"positive": region(0.5)})
    changes.setdefault("max_ulp", max(s.max_ulp for s in regions.values()))  # type: ignore[attr-defined]
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]


def kinds(faults: tuple[Finding, ...]) -> list[str]:
    return [fault.kind for fault in faults]


@pytest.mark.parametrize(("excess", "over"), [(0.0, False), (2.0**-11, False), (2.0**-9, True)])
def test_an_error_counts_beyond_what_the_oracle_certifies(excess: float, over: bool) -> None:
    m = measured(regions={"positive": region(1.5 + excess)})
    assert kinds(judge(m, Bound(1.5))) == ["inaccurate"] * over


@pytest.mark.parametrize(("count", "over"), [(5, False), (6, True)])
def test_known_wrong_signs_and_infinities_are_forgiven_up_to_their_own_count(count: int, over: bool) -> None:
    m = measured(wrong_sign=count, sign_witness=witness())
    assert kinds(judge(m, Bound(1.0, wrong_sign=5, nonfinite=99))) == ["wrong_sign"] * over
    m = measured(nonfinite_mismatch=count, nonfinite_witness=witness())
    assert kinds(judge(m, Bound(1.0, nonfinite=5, wrong_sign=99))) == ["nonfinite"] * over
    assert all(f.count == count for f in judge(m, Bound(1.0)))


def test_the_sign_of_a_zero_counts_only_where_it_is_asked_for() -> None:
    m = measured(zero_sign_mismatch=2)
    assert judge(m, Bound(1.0)) == ()
    (fault,) = judge(m, Bound(1.0, zero_sign=True))
    assert (fault.kind, fault.count) == ("zero_sign", 2)
    assert judge(measured(), Bound(1.0, zero_sign=True)) == ()


def test_the_region_farthest_beyond_its_own_limit_is_named() -> None:
    """Three ulps where one is allowed are worse than 950 where 900 are; all regions' results are counted."""
    m = measured(regions={
        "root_forward": region(950.0, wrong=7), "positive": region(3.0, wrong=2, error=-3.0),
        "far_tail": region(0.9, wrong=30),
    })  # fmt: skip
    (fault,) = judge(m, Bound(1.0, regions={"root_forward": 900.0}))
    assert (fault.region, fault.ulps, fault.count) == ("positive", -3.0, 9)
    assert "exceeds bound 1 in positive (also root_forward 950)" in fault.message


@pytest.mark.parametrize(
    ("name", "computed", "kind"),
    [
        ("subnormal_result", 0.0, "flushes_subnormals"), ("subnormal_input", 0.0, "flushes_subnormals"),
        ("subnormal_result", 1e-40, "inaccurate"), ("positive", 0.0, "inaccurate"),
    ],
)  # fmt: skip
def test_flushing_is_a_zero_for_a_subnormal(name: str, computed: float, kind: str) -> None:
    assert kinds(judge(measured(regions={name: region(60.0, computed)}), Bound(1.0))) == [kind]


def test_what_flushing_may_cost_is_what_a_zero_is_off() -> None:
    """A subnormal result is less than 2^(p−1) of its ulps; one for a subnormal input less than 2^p."""
    bound = Bound(1.0, flush_subnormals=True, regions={"subnormal_input": 4000.0, "positive": 3.0})
    assert bound.limit("subnormal_result", 8) == 128.0
    assert Bound(1.0, flush_subnormals=True).limit("subnormal_input", 8) == 256.0
    assert bound.limit("subnormal_input", 8) == 4000.0  # a wider limit of its own stays
    assert (bound.limit("positive", 8), bound.limit("far_tail", 8)) == (3.0, 1.0)
    assert Bound(2.0).limit("subnormal_result", 8) == 2.0


@pytest.mark.parametrize(("lean", "side"), [(-0.5, "toward zero"), (0.5, "away from zero")])
def test_a_lean_to_either_side_is_named(lean: float, side: str) -> None:
    (fault,) = judge(measured(lean=lean, inexact=9000), Bound(1.0))
    assert (fault.kind, fault.count) == ("biased", 9000) and f"results lean {side}: " in fault.message
    assert judge(measured(lean=lean, inexact=9000), Bound(1.0, biased=True)) == ()
    assert judge(measured(lean=lean / 5, inexact=9000), Bound(1.0)) == ()


def test_the_lean_farthest_beyond_its_limit_is_the_worst() -> None:
    """Few results have a wide limit: a larger lean of theirs may be less beyond it."""
    m = measured(
        lean=None, lean_positive=-0.49, inexact_positive=9000, lean_negative=0.5, inexact_negative=100
    )
    found = leaning(m)
    assert found is not None
    assert (found.where, found.inexact) == (" where the exact value is positive", 9000)
    # 1/4 and four standard deviations of √(1/(3·n)), of no more than the 2^7 significands there are.
    assert found.limit == lean_limit(128, 8) == pytest.approx(0.25 + 4 / 384**0.5)
    assert lean_limit(85, 24) == float("inf") > lean_limit(86, 24)


def test_without_figures_only_the_failure_is_judged() -> None:
    m = measured(failure=Failure("raised", "no"), wrong_sign=3, sign_witness=witness())
    assert kinds(judge(m, Bound(1.0))) == ["raised"]


# -- one kernel against another ------------------------------------------------------------------


def test_a_kernel_is_compared_region_by_region() -> None:
    """A large error of both at a root hides nothing elsewhere."""
    theirs = measured(implementation="torch", regions={"root_forward": region(90.0), "positive": region(0.5)})
    mine = measured(regions={"root_forward": region(80.0), "positive": region(0.9)})
    (fault,) = worse_than(mine, theirs)
    assert (fault.kind, fault.region, fault.ulps) == ("worse_than", "positive", 0.9)
    assert "error 0.9 ulps in positive, where torch has 0.5" in fault.message
    assert worse_than(theirs, theirs) == ()


def test_the_region_that_is_relatively_worst_is_named() -> None:
    theirs = measured(regions={"root_forward": region(90.0), "positive": region(0.5)})
    (fault,) = worse_than(measured(regions={"root_forward": region(99.0), "positive": region(2.0)}), theirs)
    assert fault.region == "positive"


@pytest.mark.parametrize(("excess", "worse"), [(2.0**-10, 0), (2.0**-8, 1)])
def test_two_errors_are_told_apart_beyond_what_is_certified_of_both(excess: float, worse: int) -> None:
    theirs = measured(regions={"positive": region(0.75)})
    assert len(worse_than(measured(regions={"positive": region(0.75 + excess)}), theirs)) == worse


def test_more_wrong_signs_or_infinities_are_worse_and_as_many_are_not() -> None:
    def flawed(signs: int, strays: int) -> Measurement:
        return measured(wrong_sign=signs, sign_witness=witness(1.0), nonfinite_mismatch=strays,
                        nonfinite_witness=witness(2.0))  # fmt: skip

    assert worse_than(flawed(4, 6), flawed(4, 6)) == ()
    assert worse_than(flawed(3, 5), flawed(4, 6)) == ()
    signs, strays = worse_than(flawed(5, 7), flawed(4, 6))
    assert (signs.count, strays.count) == (5, 7)
    assert "wrong sign for 5 inputs, stable for 4, at x=1.0" in signs.message
    assert "wrong infinity or NaN for 7 inputs, stable for 6, at x=2.0" in strays.message


# -- the whole stream ----------------------------------------------------------------------------

INIT = {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.5}


def planned(**changes: object) -> Plan:
    plan = Plan(XIELU, (BF16,), ("forward",), {"init": INIT}, max_ulp=1.0)
    return dataclasses.replace(plan, **changes)  # type: ignore[arg-type]


def judged(plan: Plan, *events: Event) -> Verdict:
    return collect(plan, [Planned(plan.outputs or (), tuple(plan.parameter_sets)), *events])


def fault(kind: str, fmt: str = "bf16") -> Finding:
    return Finding(
        code=kind, function="xielu", implementation="mine", fmt=fmt, params_name="init",
        message=f"{kind} was seen",
    )  # fmt: skip


def test_a_fault_is_a_failure_whatever_else_is_missing() -> None:
    found = judged(planned(), Examined((fault("writes_input"),)))
    assert found.outcome == "fail" and found.reasons
    assert judged(planned()).outcome == "inconclusive"


def test_without_a_promise_an_undecided_output_does_not_pass() -> None:
    plan = planned(max_ulp=None)
    assert judged(plan, Measured(measured())).outcome == "pass"
    assert judged(plan, Measured(measured(max_ulp=1e9))).outcome == "pass"
    undecided = judged(plan, Measured(measured(undecided=1)))
    assert (undecided.outcome, undecided.faults) == ("inconclusive", ())
    assert judged(plan, Measured(measured(failure=Failure("raised", "no")))).outcome == "fail"


def test_what_a_lost_device_left_is_inconclusive_and_no_fault() -> None:
    found = judged(planned(), Measured(measured(failure=Failure("device_lost", "another kernel"))))
    assert (found.outcome, found.faults) == ("inconclusive", ())


def test_a_comparison_is_with_the_same_parameters() -> None:
    plan = planned(parameter_sets={"init": INIT, "nearly-linear": INIT}, max_ulp=None, against="torch")
    events = [
        Measured(measured(params_name=name, regions={"positive": region(ulp)}), baseline)
        for name, mine, theirs in (("init", 0.5, 0.6), ("nearly-linear", 5.0, 6.0))
        for ulp, baseline in ((mine, False), (theirs, True))
    ]
    assert judged(plan, *events).outcome == "pass"


def bound_file(path: Path, text: str) -> str:
    path.write_text(
        f"version = 1\n{text}\n[xielu.bf16.forward]\nmax_ulp = 1\n[xielu.fp32.forward]\nmax_ulp = 1\n"
    )
    return str(path)


def test_one_accepted_kind_accepts_no_other_kind_and_no_other_format(tmp_path: Path) -> None:
    file = bound_file(tmp_path / "b.toml", '[xielu.bf16]\naccepted = ["depends_on_length"]')
    plan = planned(fmts=(BF16, FP32), max_ulp=None, bound_file=file)
    rows = [Measured(measured(fmt=fmt, output_fmt=fmt)) for fmt in ("bf16", "fp32")]
    known = judged(plan, *rows, Examined((fault("depends_on_length"),)))
    assert (known.outcome, kinds(known.known)) == ("pass", ["depends_on_length"])
    other = judged(plan, *rows, Examined((fault("depends_on_length"), fault("writes_input"))))
    assert (kinds(other.faults), kinds(other.known)) == (["writes_input"], ["depends_on_length"])
    elsewhere = judged(plan, *rows, Examined((fault("depends_on_length", "fp32"),)))
    assert (kinds(elsewhere.faults), elsewhere.known) == (["depends_on_length"], ())


def test_a_property_that_was_not_examined_is_missing_and_one_that_does_not_apply_is_not() -> None:
    plan = planned(properties=("strides",))
    row = Measured(measured())

    def ended(state: str) -> str:
        about = Examination("strides", "bf16", "init", state, "so it is")
        return judged(plan, row, Examined(examination=about)).outcome

    states = ("holds", "does not apply", "not examined")
    assert [ended(state) for state in states] == ["pass", "pass", "inconclusive"]


def test_only_a_gap_that_was_asked_for_is_a_reason() -> None:
    def gap(asked: bool) -> Verdict:
        return judged(planned(), Measured(measured()), Examined(not_examined=(
            NotExamined("rows of 12", "bf16", "init", "no room", asked),)))  # fmt: skip

    assert [gap(asked).outcome for asked in (False, True)] == ["pass", "inconclusive"]
    assert gap(True).reasons == ("rows of 12 [bf16, init]: no room",)


def test_properties_are_held_to_what_was_measured_in_each_region_where_nothing_is_promised() -> None:
    regions = {"root_forward": region(90.0), "positive": region(0.3)}
    bounds = Bounds(planned(max_ulp=None))
    bounds.note(measured(regions=regions))
    assert bounds.bound("bf16", "forward") is None
    held = bounds.working("bf16", "forward")
    assert held is not None and (held.max_ulp, held.regions) == (
        90.0,
        {"root_forward": 90.0, "positive": 0.5},
    )
    promised = Bounds(planned(max_ulp=1.0))
    promised.note(measured(regions=regions))
    assert promised.working("bf16", "forward") == Bound(1.0)


def test_laws_are_held_to_the_widest_limit_of_any_output_and_region(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At other parameters any output may be as wrong as the worst one here."""
    from precision_lab.verifying import laws, loading, trial

    file = tmp_path / "b.toml"
    file.write_text(
        "version = 1\n[relu.bf16.grad_x]\nmax_ulp = 2\n"
        "[relu.bf16.forward]\nmax_ulp = 5\nregions = { positive = 7 }\n"
    )
    plan = dataclasses.replace(
        planned(), function=RELU, outputs=None, parameter_sets={"init": {}}, max_ulp=None,
        bound_file=str(file), laws=True,
    )  # fmt: skip
    asked = []
    monkeypatch.setattr(laws, "broken_laws", lambda case, bound, **_: asked.append(bound.max_ulp) or [])
    loaded = loading.load(relu, plan, framework=None, compiled=False, device=CPU)
    found = collect(plan, trial.events(plan, loaded))
    assert asked == [7.0]
    assert found.outcome == "pass"


def test_laws_are_of_the_outputs_and_inputs_asked_for_and_say_what_they_measure(tmp_path: Path) -> None:
    """What is said before each call keeps a kernel from counting as hung, however many there are."""
    from precision_lab.verifying import loading, trial

    @torch.no_grad()
    def forward_alone(x: torch.Tensor) -> torch.Tensor:
        return torch.where(torch.isfinite(x), torch.relu(x), torch.zeros_like(x))

    plan = dataclasses.replace(
        planned(), function=RELU, outputs=("forward",), parameter_sets={"init": {}}, laws=True, properties=(),
        finite=True,
    )  # fmt: skip
    loaded = loading.load(forward_alone, plan, framework=None, compiled=False, device=CPU)
    said: list[str] = []
    found = collect(plan, trial.events(plan, loaded, announce=said.append))
    assert found.outcome == "pass", found.failures or found.reasons
    assert said.count("the inputs of a law, no parameters") == 1
    everything = dataclasses.replace(plan, finite=False)
    broken = {
        f.message.split(" with ")[0] for f in collect(everything, trial.events(everything, loaded)).faults
    }
    assert "special_values" in broken and "runs" not in broken


def test_laws_that_nobody_can_tell_are_not_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    from precision_lab.results import Finding
    from precision_lab.verifying import laws, loading, trial

    plan = dataclasses.replace(
        planned(), function=RELU, outputs=("forward",), parameter_sets={"init": {}}, laws=True, properties=()
    )

    def with_laws(*broken: laws.Broken) -> Verdict:
        monkeypatch.setattr(laws, "broken_laws", lambda *_, **__: list(broken))
        loaded = loading.load(relu, plan, framework=None, compiled=False, device=CPU)
        return collect(plan, trial.events(plan, loaded))

    fault = Finding(
        code="depends_on_device", function="relu", fmt="bf16", implementation="relu", params_name="",
        message="by what ex2 returns",
    )  # fmt: skip
    unknown = laws.Broken("accuracy", {}, "accuracy with no parameters: by what ex2 returns", fault)
    verdict = with_laws(unknown)
    assert verdict.outcome == "inconclusive" and verdict.faults == ()
    assert [e.state for e in verdict.examinations] == ["not examined"]
    assert "accuracy with no parameters: by what ex2 returns" in verdict.reasons[0]
    verdict = with_laws(unknown, laws.Broken("runs", {}, "runs with no parameters: forward: raised: no"))
    assert [fault.code for fault in verdict.faults] == ["breaks_law"]
    assert [e.state for e in verdict.examinations] == ["broken"]


def test_added_parameter_sets_differ_in_what_a_kernel_is_given() -> None:
    from precision_lab.verifying.trial import _sets

    class OnlyAlphaP:
        parameters = ("alpha_p",)

    sets = {
        "init": INIT,
        "a": {**INIT, "alpha_p": 2.0},
        "b": {**INIT, "alpha_n": 9.0},
        "c": {**INIT, "beta": 3.0},
    }
    plan = planned(parameter_sets=sets, added_sets=("a", "b"))
    # "b" is "init" for this kernel; "c" was asked for.
    assert _sets(plan, OnlyAlphaP()) == {"init": INIT, "a": sets["a"], "c": sets["c"]}  # type: ignore[arg-type]


def test_a_contract_accepts_its_patterns_alone() -> None:
    rows = CallContract(8, ((None, 16), (2, None, None)))
    assert [rows.accepts(shape) for shape in ((3, 16), (2, 5, 8))] == [True, True]
    for refused in ((16,), (3, 24), (3, 5, 8), (2, 8, 5), (16, 3), (1, 3, 16), ()):
        assert not rows.accepts(refused), refused
    assert not CallContract(8).accepts((8, 3)) and CallContract(8).accepts((3, 8))


# -- plans ---------------------------------------------------------------------------------------


def made(**options: object) -> Plan:
    given = {
        "fmts": ("bf16",), "outputs": None, "params": None, "inputs": None, "max_ulp": 1.0, "bound": None,
        "properties": False, "against": None, "compiled": False, "laws": False, **options,
    }  # fmt: skip
    return make_plan(Request(function="xielu", **given))  # type: ignore[arg-type]


def test_parameter_sets_that_nobody_asked_for_are_added_only_where_one_limit_is_promised() -> None:
    everything = [*made().parameter_sets]
    assert len(everything) > 3 and made().added_sets == tuple(everything[1:])
    assert [*made(max_ulp=None, against="naive").parameter_sets] == everything
    for options in ({"max_ulp": None}, {"max_ulp": None, "bound": "b.toml"},
                    {"max_ulp": None, "bound": "b.toml", "against": "naive"}):  # fmt: skip
        plan = made(**options)
        assert ([*plan.parameter_sets], plan.added_sets) == (["init"], ())
    assert [*made(params={}).parameter_sets] == [*made(params=INIT).parameter_sets] == ["init"]
    assert [*made(params={"alpha_p": 2.0}).parameter_sets] == ["given"]


def test_random_parameters_are_the_trained_ones_and_beyond_beta() -> None:
    from precision_lab.functions import FUNCTIONS

    found = random_sets(FUNCTIONS["xielu"])
    assert found == random_sets(FUNCTIONS["xielu"])
    assert {name: values["beta"] for name, values in found.items()} == {"random-1": 0.5, "random-2": 0.5}
    for values in found.values():
        assert 0.0625 <= values["alpha_p"] <= 16 and 0.5625 <= values["alpha_n"] <= 16.5
    assert found["random-1"]["alpha_p"] != found["random-2"]["alpha_p"]
    trained_beta = random_sets(FUNCTIONS["xielu_trainable_beta"])
    assert all(values["alpha_n"] > values["beta"] for values in trained_beta.values())
    assert random_sets(FUNCTIONS["relu"]) == {}
