"""Results as JSON: nothing is lost on the way, and a damaged file is named."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_costs import cost
from sample_results import measurement, sample_results, witness

import precision_lab as pl
from precision_lab.exceptions import DamagedFileError
from precision_lab.measuring.prediction_file import Key
from precision_lab.results import (
    Failure,
    Measurement,
    Results,
    Witness,
    exact_interval,
    replay_command,
    strict_json,
)
from precision_lab.results.cost import Cost


def without_binade_witnesses(m: Measurement) -> Measurement:
    """Binades are stored as columns of numbers; real ones have no witness (`_Judge.binades`)."""
    return replace(
        m, binades=tuple(replace(b, statistics=replace(b.statistics, witness=None)) for b in m.binades)
    )


SAMPLE = sample_results()
RESULTS = replace(SAMPLE, measurements=tuple(without_binade_witnesses(m) for m in SAMPLE.measurements))


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is not JSON")


def test_a_round_trip_loses_nothing() -> None:
    # As text, since NaN is not equal to itself.
    assert repr(Results.loads(RESULTS.dumps())) == repr(RESULTS)


def test_a_measurement_survives_the_round_trip_bit_for_bit() -> None:
    m = pl.measure("naive", "xielu", fmt="bf16", output="grad_x")
    again = Results.loads(replace(RESULTS, measurements=(m,)).dumps()).measurements[0]
    assert repr(again) == repr(m)
    assert m.binades and m.regions and m.witness


def test_the_text_is_strict_json_even_with_infinities_and_nan() -> None:
    bad = replace(witness(), computed=math.nan, rounded=-math.inf)
    m = replace(RESULTS.measurements[0], jump_at_zero=math.nan, nonfinite_witness=bad)
    text = replace(RESULTS, measurements=(m,)).dumps()
    json.loads(text, parse_constant=refuse)
    again = Results.loads(text).measurements[0]
    assert math.isnan(again.jump_at_zero)
    assert again.nonfinite_witness is not None
    assert math.isnan(again.nonfinite_witness.computed)
    assert again.nonfinite_witness.rounded == -math.inf


def test_the_check_for_strict_json_can_fail() -> None:
    with pytest.raises(AssertionError, match="NaN is not JSON"):
        json.loads(json.dumps([math.nan]), parse_constant=refuse)


@given(value=st.floats())
def test_every_float_comes_back_as_it_was(value: float) -> None:
    data = json.loads(strict_json({"computed": value}))
    again = float(data["computed"])
    assert again == value or (math.isnan(again) and math.isnan(value))
    assert math.copysign(1, again) == math.copysign(1, value) or math.isnan(value)


def test_a_case_has_a_key_of_its_own() -> None:
    keys = [m.case for m in RESULTS.measurements]
    assert len(set(keys)) == len(keys)


def test_a_witness_from_json_has_floats_again() -> None:
    data = json.loads(strict_json({**witness().__dict__, "computed": math.inf, "error_ulps": 2}))
    found = Witness.from_json(data)
    assert found.computed == math.inf
    assert isinstance(found.error_ulps, float)


FEW = replace(RESULTS, measurements=RESULTS.measurements[:2]).dumps()


def damaged(change: Any) -> str:
    data = json.loads(FEW)
    change(data)
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not a precision_lab results file"),
        ("{}", "schema"),
        ("[]", "not a precision_lab results file"),
        ("null", "not a precision_lab results file"),
        (RESULTS.dumps()[:-40], "JSONDecodeError"),
        (damaged(lambda d: d.update(schema=99)), r"schema=99, this version reads 1"),
        (damaged(lambda d: d.pop("timings")), "timings"),
        (damaged(lambda d: d["measurements"][0].pop("regions")), "regions"),
        (damaged(lambda d: d["measurements"][0].update(surprise=1)), "surprise"),
        (damaged(lambda d: d["measurements"][0].update(max_ulp="many")), "many"),
        (damaged(lambda d: d["measurements"].append(None)), "NoneType"),
        (damaged(lambda d: d["seconds"].update(measure=None)), "NoneType"),
        (damaged(lambda d: d["measurements"][0]["binades"]["sign"].append(1)), "zip"),
    ],
    ids=[
        "empty", "no schema", "list", "null", "cut off", "other schema", "no timings", "no regions",
        "unknown field", "word for a number", "null measurement", "null seconds", "ragged column",
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(text: str, message: str) -> None:
    with pytest.raises(DamagedFileError, match=message):
        Results.loads(text)


def first(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["measurements"][0].update(changes)


def column(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: operator.setitem(data["measurements"][0]["binades"][name], 0, value)


def region(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: next(iter(data["measurements"][0]["regions"].values())).update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (first(wrong_sign=-1), "wrong_sign=-1: expected a count"),
        (first(wrong_sign=1 << 40), "wrong_sign=1099511627776 of n_inputs="),
        (first(n_inputs=1.5), r"n_inputs=1\.5: expected int"),
        (first(n_inputs=True), "n_inputs=True: expected int"),
        (first(function=["xielu"]), r"function=\['xielu'\]: expected str"),
        (first(params={"alpha_p": "much"}), "params="),
        (first(escalated={"special": None}), "escalated="),
        (first(environment=[]), r"environment=\[\]"),
        (first(failure={"kind": 3, "message": "text"}), "kind=3"),
        (first(normal_bias=[1.0, 2.0, 3.0]), "normal_bias="),
        (region(not_correctly_rounded=-1), "not_correctly_rounded=-1"),
        (region(not_correctly_rounded=1 << 40), "not_correctly_rounded=1099511627776 of n_inputs="),
        (region(witness={"bits": 3}), "witness|Witness|'x'"),
        (column("wrong_sign", -1), "binades: wrong_sign has counts below 0"),
        (column("n_inputs", 0.5), "binades: n_inputs has other than whole numbers"),
        (column("exponent", "high"), "binades: exponent has other than whole numbers"),
        (column("max_ulp", 10**400), "OverflowError"),
        (lambda d: d.update(environment={"torch": 3}), "environment="),
        (lambda d: d.update(settings=[]), "settings="),
        (lambda d: d.update(lowprecision=[]), "lowprecision="),
        (lambda d: d["timings"][0].update(repeats=-3), "repeats=-3: expected a count"),
        (lambda d: d["timings"][0].update(fmt=None), "fmt=None: expected str"),
    ],
)
def test_what_no_measurement_comes_to_is_named(change: Callable[..., None], message: str) -> None:
    with pytest.raises(DamagedFileError, match=message):
        Results.loads(damaged(change))


def test_nesting_without_end_is_a_damaged_file() -> None:
    with pytest.raises(DamagedFileError, match="RecursionError"):
        Results.loads('{"schema": 1, "settings": ' + "[" * 100_000)


def test_reports_of_before_there_were_signed_errors_are_read() -> None:
    folder = Path(__file__).parents[2] / "reports" / "cpu"
    for path in (folder / "report.json", *sorted((folder / "exhaustive").glob("*.json"))):
        text = path.read_text(encoding="utf-8")
        data = json.loads(text)
        found = [Measurement.from_json(m) for m in data["measurements"]]
        assert found
        if "schema" in data:
            assert len(Results.loads(text).measurements) == len(found)
        old = [m for m, given in zip(found, data["measurements"], strict=True) if "lean" not in given]
        assert all(m.lean is None and m.mean_signed_ulp is None and m.normal_bias is None for m in old)
        assert all(s.lean is None for m in old for s in m.regions.values())


def test_signed_errors_survive_in_regions_and_are_left_out_of_binades() -> None:
    m = pl.measure("naive", "xielu", fmt="bf16")
    again = Measurement.from_json(json.loads(strict_json(m.to_json())))
    assert repr(again) == repr(m)
    assert m.lean is not None and m.normal_bias is not None
    assert any(s.lean is not None for s in m.regions.values())
    assert all(b.statistics.mean_signed_ulp is None for b in m.binades)


def test_results_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        RESULTS.measurements[0].max_ulp = 0.0  # type: ignore[misc]


def test_numpy_numbers_never_reach_the_file() -> None:
    m = pl.measure("stable", "xielu", fmt="bf16", inputs=np.array([-0.5, 1.0]))
    json.loads(strict_json(m.to_json()), parse_constant=refuse)
    assert Measurement.from_json(json.loads(strict_json(m.to_json()))).max_ulp == m.max_ulp


@pytest.mark.parametrize(
    ("exact", "interval"),
    [
        ("1.234", "[1.233999999999999999999999, 1.234000000000000000000001]"),
        ("-0.00125", "[-0.001250000000000000000000001, -0.001249999999999999999999999]"),
        ("9.87e+40", "[9.869999999999999999999999E+40, 9.870000000000000000000001E+40]"),
        ("0.0", "[0.0, 0.0]"),
        ("-inf", "[-inf, -inf]"),
        ("undefined", "undefined"),
    ],
)
def test_the_exact_value_lies_within_a_unit_of_the_25th_digit(exact: str, interval: str) -> None:
    assert exact_interval(replace(witness(), exact=exact)) == interval


def test_a_replay_asks_for_what_the_kernel_was_asked_for() -> None:
    """A TARGET's own parameters would go through its constraint once more; its initial ones need no words."""
    m = replace(measurement("naive"), params={"alpha_p": 0.75}, params_name="wide")
    assert replay_command(m, witness()).endswith("--output forward --param alpha_p=0.75")
    raw = replace(m, target="my kernels.py:k", asked={"alpha_p": 1.5}, options="--compiled", device="cuda:1")
    assert replay_command(raw, witness()).endswith(
        "--param alpha_p=1.5 --kernel 'my kernels.py:k' --compiled --device cuda:1"
    )
    assert "--param" not in replay_command(replace(raw, params_name="init"), witness())
    assert "--param alpha_p=0.75" in replay_command(replace(m, params_name="init"), witness())


def test_results_are_incomplete_where_a_device_was_lost_and_for_no_other_failure() -> None:
    def of(*kinds: str) -> Results:
        rows = tuple(replace(measurement(), failure=Failure(kind, f"{kind} it was")) for kind in kinds)
        return replace(SAMPLE, measurements=rows, reductions=(), timings=())

    assert of("raised", "missing_dependency").lost == ""
    assert of("raised", "crashed", "device_lost").lost == "crashed it was"
    timings = tuple(replace(t, failure=Failure("device_lost", "lost it was")) for t in SAMPLE.timings)
    assert replace(SAMPLE, timings=timings).lost == "lost it was"


def test_a_binades_numbers_come_back_under_their_own_names() -> None:
    (first, second), *_ = (m.binades[:2] for m in RESULTS.measurements if m.binades)
    numbers = {
        "n_inputs": 3, "max_ulp": 4.5, "mean_ulp": 0.25, "not_correctly_rounded": 5, "wrong_sign": 6,
        "nonfinite_mismatch": 7, "min_correct_bits": 1.5, "mean_correct_bits": 2.5,
    }  # fmt: skip
    one = replace(first, sign=1, exponent=-7, statistics=replace(first.statistics, **numbers))
    m = replace(measurement(), binades=(one, second))
    assert Measurement.from_json(json.loads(strict_json(m.to_json()))).binades == (one, second)


def test_executions_that_earlier_versions_wrote_with_commas_are_read_without() -> None:
    old = RESULTS.dumps().replace("fp8-fp32 saturating", "fp8-fp32, saturating")
    assert "fp8-fp32, saturating" in old and Results.loads(old).dumps() == RESULTS.dumps()
    key = Key.of("silu|torch|compiled, emulate_precision_casts|bf16|forward")
    assert key.label == "silu torch [compiled emulate_precision_casts]"
    data = json.loads(strict_json(cost().to_json()))
    assert Cost.from_json(data | {"execution": "compiled, a=1"}).execution == "compiled a=1"
