"""A verdict as JUnit XML, which CI systems show as tests."""

from __future__ import annotations

from xml.etree import ElementTree as xml

from precision_lab.results import Finding, ranked
from precision_lab.results.codes import ENGINEERING
from precision_lab.verifying.judge import describe
from precision_lab.verifying.verdict import Verdict


def junit_xml(verdict: Verdict) -> str:
    """One test case per measured output, and one per format for its engineering properties.

    What the caller left out is a property of the suite.
    """
    cases: dict[tuple[str, str], list[Finding]] = {}
    classes: dict[str, str] = {}
    for m in verdict.measurements:
        classes[m.fmt] = f"{m.function}.{m.implementation}.{m.fmt}"
        cases[m.fmt, f"{m.output} [{m.params_name}]"] = []
    if verdict.properties:
        for fmt in classes:
            cases[fmt, "engineering properties"] = []
    missing: dict[tuple[str, str], list[str]] = {}
    for gap in verdict.not_examined:
        if gap.asked:
            key = (gap.fmt, f"{gap.what} [{gap.params_name}]")
            key = (gap.fmt, "engineering properties") if gap.what in verdict.properties else key
            cases.setdefault(key, [])
            missing.setdefault(key, []).append(f"{gap.what}: {gap.reason}")
    for fault in verdict.undecided:
        key = (fault.fmt, f"{fault.output} [{fault.params_name}]")
        missing.setdefault(key, []).append(describe(fault))
        cases.setdefault(key, [])
    for fault in verdict.faults:
        key = (fault.fmt, f"{fault.output} [{fault.params_name}]")
        if fault.code in ENGINEERING or key not in cases:
            key = (fault.fmt, "engineering properties")
        cases.setdefault(key, []).append(fault)
    suite = xml.Element(
        "testsuite", name="precision-lab", tests=str(len(cases)),
        failures=str(sum(bool(faults) for faults in cases.values())), errors=str(len(missing)), skipped="0",
    )  # fmt: skip
    if verdict.left_out:
        properties = xml.SubElement(suite, "properties")
        for what in verdict.left_out:
            xml.SubElement(properties, "property", name="left out", value=what)
    for (fmt, name), faults in cases.items():
        case = xml.SubElement(suite, "testcase", classname=classes.get(fmt, fmt), name=name)
        if faults:
            faults = list(ranked(faults))
            codes = ", ".join(dict.fromkeys(f.code for f in faults))
            failure = xml.SubElement(case, "failure", type=faults[0].code, message=codes)
            failure.text = "\n".join(f"{describe(f)}\n{f.severity.word}: {f.next_step}" for f in faults)
        if (fmt, name) in missing:
            error = xml.SubElement(case, "error", type="inconclusive", message="not examined or undecided")
            error.text = "\n".join(missing[fmt, name])
    root = xml.Element("testsuites")
    root.append(suite)
    xml.indent(root)
    return xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
