"""JUnit XML counts what a CI system shows: failures by fault, errors by what has no evidence."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

from sample_results import measurement

from precision_lab.results import Finding, NotExamined
from precision_lab.verifying.junit import junit_xml
from precision_lab.verifying.verdict import Verdict


def fault(kind: str, output: str = "forward", params_name: str = "init") -> Finding:
    return Finding(
        code=kind, function="xielu", implementation="stable", fmt="bf16", output=output,
        params_name=params_name, message=f"{kind} was seen",
    )  # fmt: skip


def suite(**changes: object) -> tuple[ElementTree.Element, dict[str, list[str]]]:
    """The suite, and by name of its case the tags and texts in it."""
    rows = tuple(
        replace(measurement("stable", output, accurate=True), params_name=name)
        for output in ("forward", "grad_x")
        for name in ("init", "wide")
    )
    verdict = replace(Verdict(rows, (), properties=("strides", "lengths")), **changes)  # type: ignore[arg-type]
    (found,) = ElementTree.fromstring(junit_xml(verdict))
    return found, {str(case.get("name")): [f"{e.tag}: {e.text}" for e in case] for case in found}


def test_a_fault_stands_at_its_output_and_parameters() -> None:
    found, cases = suite(faults=(fault("inaccurate", "grad_x", "wide"), fault("biased", "grad_x", "wide")))
    assert (found.get("tests"), found.get("failures"), found.get("errors")) == ("5", "1", "0")
    assert list(cases) == [
        "forward [init]", "forward [wide]", "grad_x [init]", "grad_x [wide]", "engineering properties",
    ]  # fmt: skip
    assert [name for name, inside in cases.items() if inside] == ["grad_x [wide]"]
    (text,) = cases["grad_x [wide]"]
    assert text.startswith("failure: ") and "inaccurate was seen" in text and "biased was seen" in text


def test_an_engineering_fault_is_not_the_outputs() -> None:
    found, cases = suite(faults=(fault("misreads_strides"), fault("crashed", "", "")))
    assert (found.get("tests"), found.get("failures")) == ("5", "1")
    assert cases["forward [init]"] == [] and len(cases["engineering properties"]) == 1


def test_what_has_no_evidence_is_an_error_where_it_was_asked_for() -> None:
    gaps = tuple(
        NotExamined(what, "bf16", "init", "no room", asked)
        for what, asked in (("strides", True), ("grad_x", True), ("rows of 12", False))
    )
    found, cases = suite(not_examined=gaps, undecided=(fault("undecided"),))
    assert (found.get("tests"), found.get("failures"), found.get("errors")) == ("5", "0", "3")
    assert cases["engineering properties"] == ["error: strides: no room"]
    assert cases["grad_x [init]"] == ["error: grad_x: no room"]
    assert cases["forward [init]"][0].startswith("error: xielu.forward[stable, bf16, init]: undecided")


def test_a_fault_and_a_gap_of_one_case_are_both_counted() -> None:
    found, cases = suite(faults=(fault("inaccurate"),), undecided=(fault("undecided"),))
    assert (found.get("failures"), found.get("errors")) == ("1", "1")
    assert [text.partition(":")[0] for text in cases["forward [init]"]] == ["failure", "error"]


def test_what_was_left_out_is_a_property_of_the_suite() -> None:
    verdict = Verdict((measurement("stable"),), (), left_out=("finite: infinite and NaN inputs",))
    (found,) = ElementTree.fromstring(junit_xml(verdict))
    told = [(p.get("name"), p.get("value")) for p in found.findall("properties/property")]
    assert told == [("left out", "finite: infinite and NaN inputs")]
    assert found.find("properties") is not None and suite()[0].find("properties") is None
