"""A finding says what, how bad, where, how to see it again and what to do next, in words that stay."""

from __future__ import annotations

import ast
import json
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from sample_results import witness

import precision_lab
from precision_lab.inputs.sets import REGIONS
from precision_lab.results import Finding, Severity, Sighting, Witness, ranked, strict_json
from precision_lab.results.codes import ACCURACY, CODES, ENGINEERING, RUNNING, Code
from precision_lab.results.finding import SCHEMA
from precision_lab.results.finding_schema import PATH, finding_schema, schema_text

ROOT = Path(__file__).parents[2]
PLACES = (*REGIONS, "subnormal_result", "")
CRITICAL, MAJOR, MINOR, NOTE = Severity


def finding(code: str = "inaccurate", **facts: Any) -> Finding:
    about = {"function": "xielu", "implementation": "mine", "fmt": "bf16", "params_name": "init"}
    return Finding(**{**about, "code": code, "message": f"{code} was seen", "output_precision": 8, **facts})


def at(x: float, computed: float, exact: str, ulps: float = math.nan) -> Witness:
    return replace(
        witness(x, ulps, computed), exact=exact, rounded=float(exact) if exact != "unreadable" else 1.0
    )


# -- the table ------------------------------------------------------------------------------------


@cache
def literals() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Texts that the package's code uses otherwise than to compare with, and those given as a code."""
    used: list[str] = []
    given: list[str] = []
    for path in Path(precision_lab.__file__).parent.rglob("*.py"):
        if path.name == "codes.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        compared = {id(n) for c in ast.walk(tree) if isinstance(c, ast.Compare) for n in ast.walk(c)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in compared:
                used.append(node.value)
            if isinstance(node, ast.Call):
                given += codes_given(node)
    return tuple(used), tuple(given)


def codes_given(call: ast.Call) -> Iterator[str]:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    first = [call.args[0]] if name in ("Failure", "KernelError", "finding", "fault") and call.args else []
    for node in first + [k.value for k in call.keywords if k.arg == "code"]:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


@pytest.mark.parametrize("code", CODES)
def test_every_code_is_emitted_somewhere(code: str) -> None:
    assert code in literals()[0]


def test_every_code_that_is_emitted_is_in_the_table() -> None:
    given = literals()[1]
    assert len(given) > 40 and set(given) <= set(CODES)
    assert "crashed" in given and "writes_outside" in given and "missing_dependency" in given


def test_the_groups_of_codes_are_apart() -> None:
    assert len(CODES) == len(ACCURACY) + len(RUNNING) + len(ENGINEERING)


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_sentence_a_severity_and_a_next_step_in_every_region(code: str) -> None:
    entry: Code = CODES[code]
    assert entry.sentence and not entry.sentence.endswith(".") and entry.sentence[0].islower()
    assert set(entry.by_region) <= set(PLACES)
    for region in PLACES:
        found = finding(code, region=region, output="grad_x")
        assert isinstance(found.severity, Severity)
        assert found.next_step.endswith(".") and found.next_step[0].isupper() and "{" not in found.next_step
        assert len(found.next_step) < 300


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(ValueError, match=r"code='unheard_of': known are inaccurate, wrong_sign"):
        finding("unheard_of")


# -- severity -------------------------------------------------------------------------------------

BELOW = math.nextafter(2.0**14, math.inf)


@pytest.mark.parametrize(
    ("code", "place", "expected"),
    [
        # Signs: of a result that half the bits can tell from 0, the larger of the two deciding.
        ("wrong_sign", at(1.0, -0.5, "0.5", 256), CRITICAL),
        ("wrong_sign", at(0.0, -0.5, "0.5", 256), CRITICAL),
        ("wrong_sign", at(1.0, -0.0625, "1e-30", 1e30), CRITICAL),
        ("wrong_sign", at(1.0, 0.0624, "-1e-30", 1e30), MAJOR),
        ("wrong_sign", at(1.0, -(2.0**-15), "1e-9", 1e9), MINOR),
        ("wrong_sign", at(2.0**14, -1.0, "1.0", 256), CRITICAL),
        ("wrong_sign", at(BELOW, -1.0, "1.0", 256), MINOR),
        ("wrong_sign", at(2.0**-14, -1.0, "1.0", 256), CRITICAL),
        ("wrong_sign", at(2.0**-15, -1.0, "1.0", 256), MINOR),
        # NaN wherever x is ordinary; an infinity where the result is.
        ("nonfinite", at(-3.0, math.nan, "-1e-40"), CRITICAL),
        ("nonfinite", at(-3.0, math.nan, "+inf"), CRITICAL),
        ("nonfinite", at(3.0, math.inf, "0.0"), CRITICAL),
        ("nonfinite", at(200.0, math.inf, "60000.0"), MINOR),
        ("nonfinite", at(200.0, 1.0, "+inf"), MINOR),
        ("nonfinite", at(-math.inf, math.nan, "+inf"), MINOR),
        ("nonfinite", at(math.nan, 1.0, "nan"), MINOR),
        ("nonfinite", at(1e38, math.nan, "1e38"), MINOR),
        # Half the bits of p = 8 are 16 ulps.
        ("inaccurate", at(1.0, 1.1, "1.0", 16.0), MAJOR),
        ("inaccurate", at(1.0, 1.1, "1.0", -16.0), MAJOR),
        ("inaccurate", at(1.0, 1.1, "1.0", 15.9), MINOR),
        ("inaccurate", at(1.0, 2.0**-13, "0.0", 1e38), MAJOR),
        ("inaccurate", at(-80.0, 1e-30, "1e-35", 1e7), MINOR),
        ("inaccurate", at(1.0, 1.1, "unreadable", 16.0), MAJOR),
        ("worse_than", at(1.0, -1.0, "1.0", 256), CRITICAL),
    ],
)  # fmt: skip
def test_severity_is_that_of_the_input_and_what_came_out(
    code: str, place: Witness, expected: Severity
) -> None:
    found = finding(code, witness=place, ulps=place.error_ulps)
    assert found.severity is expected


def test_beside_a_root_small_results_are_minor_whatever_their_ulps() -> None:
    near = finding(region="root_forward", witness=at(-2.4, 0.002, "0.001", 200.0))
    assert near.severity is MINOR
    assert replace(near, region="rest_negative").severity is MAJOR
    assert replace(near, witness=at(-2.4, 0.5, "0.001", 2e4)).severity is MAJOR


def test_the_worst_region_decides_wherever_the_worst_ulps_are() -> None:
    tail = finding(region="far_tail", witness=at(-80.0, 1e-30, "1e-35", 1e7))
    calm = Sighting("rest_negative", at(-2.0, 0.5, "0.49", 2.0))
    bad = Sighting("root_gradient", at(-2.0, 0.5, "-0.5", 256.0))
    assert replace(tail, also=(calm,)).severity is MINOR
    assert replace(tail, also=(calm, bad)).severity is CRITICAL
    assert "underflows early" in replace(tail, also=(calm,)).next_step
    assert "Beside its root" in replace(tail, also=(calm, bad)).next_step


def test_ordinary_inputs_that_were_counted_outweigh_a_witness_that_is_none() -> None:
    far = at(-math.inf, math.nan, "+inf")
    for code in ("wrong_sign", "nonfinite"):
        assert finding(code, witness=far, ordinary=0).severity is MINOR
        assert finding(code, witness=far, ordinary=3).severity is CRITICAL
        # The witness is one of them: what came out there decides.
        assert finding(code, witness=at(200.0, math.inf, "6e4"), ordinary=3).severity is MINOR


def test_without_a_witness_region_and_error_decide() -> None:
    for code in ("wrong_sign", "nonfinite"):
        assert finding(code).severity is CRITICAL
        assert finding(code, ordinary=0).severity is MINOR
        assert finding(code, region="special").severity is MINOR
    assert finding(ulps=16.0).severity is MAJOR
    assert finding(ulps=15.9).severity is MINOR
    assert finding(ulps=1e9, region="far_tail").severity is MINOR


def test_a_difference_is_as_bad_as_its_largest_error() -> None:
    for code in ("depends_on_length", "misreads_strides", "reads_outside"):
        assert finding(code).severity is MAJOR
        assert finding(code, ulps=math.inf).severity is MAJOR
        assert finding(code, ulps=-16.0).severity is MAJOR
        assert finding(code, ulps=2.0).severity is MINOR
        assert finding(code, ulps=1e6, witness=at(1e38, 2.0, "1e38", 1e6)).severity is MAJOR


def test_half_the_bits_are_those_of_the_outputs_format() -> None:
    place = at(1.0, 1.1, "1.0", 16.0)
    assert finding(witness=place, output_precision=0, fmt="bf16").severity is MAJOR
    assert finding(witness=place, output_precision=0, fmt="fp32").severity is MINOR
    assert finding(witness=place, output_precision=0, fmt="a user's own").severity is MINOR
    assert finding(witness=place, output_precision=0, fmt="mine", ulps=4096.0).severity is MINOR
    assert finding(output_precision=0, fmt="mine", ulps=4096.0).severity is MAJOR


@pytest.mark.parametrize(
    ("severity", "codes"),
    [
        (CRITICAL, "crashed hung writes_outside writes_input overwrites_result unwritten_output"),
        (MAJOR, "raised wrong_shape wrong_dtype not_differentiable misreads_upstream training_step_differs"),
        (MINOR, "flushes_subnormals zero_sign biased refuses_lengths refuses_shapes"),
        (NOTE, "undecided device_lost missing_dependency unsupported_device"),
    ],
)
def test_what_is_as_bad_everywhere(severity: Severity, codes: str) -> None:
    for code in codes.split():
        for facts in ({}, {"witness": at(1.0, -1.0, "1.0", 256)}, {"ulps": 2.0}):
            assert finding(code, **facts).severity is severity, code


def test_the_worst_finding_comes_first() -> None:
    expected = [
        finding("crashed"),
        finding(ulps=-1e9), finding(ulps=300.0), finding("raised", count=9), finding("raised", count=2),
        finding(ulps=2.0),
        finding("undecided"),
    ]  # fmt: skip
    for seed in range(20):
        mixed = list(expected)
        random.Random(seed).shuffle(mixed)
        assert list(ranked(mixed)) == expected
    first, second = finding("raised", message="a"), finding("raised", message="b")
    assert ranked((second, first)) == (second, first)


def test_tails_subnormals_and_infinities_come_last_in_their_severity() -> None:
    inner = finding(ulps=2.0)
    outer = [
        finding(region="far_tail", ulps=9.0), finding(region="subnormal_result", ulps=8.0),
        finding("nonfinite", witness=at(-math.inf, math.nan, "+inf"), ulps=7.0),
        finding(region="positive", witness=at(1e38, 2e38, "1e38"), ulps=6.0),
        finding("wrong_sign", witness=at(-1e-40, 1e-40, "-1e-40"), ulps=5.0),
    ]  # fmt: skip
    assert [f.severity for f in (inner, *outer)] == [MINOR] * 6
    assert [f.outer for f in (inner, *outer)] == [False] + [True] * 5
    assert list(ranked([*reversed(outer), inner])) == [inner, *outer]
    # Ordinary inputs that were counted, or a worse severity, keep it among the first.
    assert not finding("wrong_sign", witness=at(-1e-40, 1e-40, "-1e-40"), ordinary=1).outer
    large = finding(region="far_tail", ulps=300.0, witness=at(-20.0, 300.0, "1.0", 300.0))
    assert (large.severity, ranked([inner, large])[0]) == (MAJOR, large)
    # Where a result that depends on the call was seen does not count.
    assert not finding("depends_on_length", witness=at(-math.inf, math.nan, "+inf"), ulps=1.0).outer


# -- JSON -----------------------------------------------------------------------------------------

FULL = finding(
    region="zero", ulps=-math.inf, count=7, ordinary=3, output="grad_x", replay="precision-lab explain …",
    witness=at(-math.inf, math.nan, "+inf"), also=(Sighting("positive", witness()),),
)  # fmt: skip
HOSTILE = (
    "{0.__class__.__init__.__globals__}", "{output!r:>99999999}", "%s%n", "\x1b[2J", "\u202e", "\ud800",
    "\n::error::", "]]>", "<script>", "x" * 5000, '"', "NaN",
)  # fmt: skip


def written(found: Finding) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(strict_json(found.to_json()))
    return data


def test_json_gives_back_what_was_written_and_what_follows_from_it() -> None:
    data = written(FULL)
    # NaN is not equal to itself.
    assert repr(Finding.from_json(data)) == repr(FULL)
    assert (data["schema"], data["kind"], data["code"]) == (SCHEMA, "inaccurate", "inaccurate")
    assert (data["severity"], data["next_step"]) == (FULL.severity.word, FULL.next_step)
    assert data["witness"]["exact"] == "+inf" and data["also"][0]["region"] == "positive"


def test_a_finding_of_an_earlier_version_is_read_and_the_rest_derived() -> None:
    old = {
        "kind": "nonfinite", "function": "xielu", "implementation": "mine", "fmt": "bf16",
        "output": "forward", "params_name": "init", "message": "seen", "region": "",
        "ulps": "nan", "count": 3, "replay": "",
    }  # fmt: skip
    found = Finding.from_json(old)
    assert (found.code, found.kind, found.count, found.witness) == ("nonfinite", "nonfinite", 3, None)
    assert found.severity is CRITICAL and math.isnan(found.ulps)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"schema": SCHEMA + 1}, "schema=2: this version reads findings of schema 1"),
        ({"code": "unheard_of"}, "code='unheard_of'"),
        ({"count": -1}, "count=-1: expected a count"),
        ({"count": 1.5}, "count=1.5"),
        ({"ordinary": "3"}, "ordinary='3'"),
        ({"message": 3}, "object of type 'int'"),
        ({"ulps": "many"}, "many"),
    ],
)
def test_a_damaged_finding_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        Finding.from_json({**written(FULL), **changes})


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_changes_no_finding(text: str) -> None:
    found = finding(
        function=text, implementation=text, fmt=text, params_name=text, message=text, output=text, replay=text
    )
    assert found.severity is finding(fmt="fp32").severity
    assert found.code == "inaccurate" and "Compute" in found.next_step
    for shown in (found.message, found.next_step, found.implementation, found.replay):
        assert "\n" not in shown and "\x1b" not in shown and len(shown) < 5000
        shown.encode()
    assert Finding.from_json(written(found)).message[:100] == found.message[:100]
    assert check(written(found)) == []


def test_stored_rows_of_the_field_are_findings() -> None:
    """Written by an earlier version, with words of their own where the severity stands now."""
    stored = json.loads((ROOT / "reports/field/cpu.json").read_text(encoding="utf-8"))
    rows = [row for entry in stored for row in entry["defects"]]
    found = [Finding.from_json(row) for row in rows]
    assert len(found) > 100 and [f.code for f in found] == [row["kind"] for row in rows]
    assert {f.severity for f in found} >= {CRITICAL, MAJOR, MINOR}
    for f, row in zip(found, rows, strict=True):
        if row["kind"] == "inaccurate" and row["region"] in ("far_tail", "subnormal_result"):
            assert f.severity is MINOR


# -- the schema -----------------------------------------------------------------------------------


def check(value: Any, schema: Any = None, root: Any = None, place: str = "") -> list[str]:
    """Where a value does not keep a JSON Schema, by the few words that ours uses."""
    root = finding_schema() if root is None else root
    schema = root if schema is None else schema
    unknown = set(schema) - {
        "$schema", "$id", "$defs", "$ref", "title", "description", "type", "properties", "required", "items",
        "minimum", "const", "enum", "anyOf", "oneOf",
    }  # fmt: skip
    assert not unknown, unknown
    found: list[str] = []
    if "$ref" in schema:
        target = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        found += check(value, target, root, place)
    for word, wanted in (("anyOf", range(1, 99)), ("oneOf", (1,))):
        if word in schema and sum(not check(value, s, root, place) for s in schema[word]) not in wanted:
            found.append(f"{place}: {word}")
    if "const" in schema and value != schema["const"]:
        found.append(f"{place}: const")
    if "enum" in schema and value not in schema["enum"]:
        found.append(f"{place}: enum")
    types = {"object": dict, "array": list, "string": str, "null": type(None), "number": (int, float)}
    if "type" in schema:
        right = (
            type(value) is int if schema["type"] == "integer" else isinstance(value, types[schema["type"]])
        )
        if not right or isinstance(value, bool):
            return [*found, f"{place}: {schema['type']}"]
    if "minimum" in schema and value < schema["minimum"]:
        found.append(f"{place}: minimum")
    found += [f"{place}: {name} is missing" for name in schema.get("required", ()) if name not in value]
    for name, part in schema.get("properties", {}).items():
        if name in value:
            found += check(value[name], part, root, f"{place}/{name}")
    for i, item in enumerate(value if "items" in schema else ()):
        found += check(item, schema["items"], root, f"{place}/{i}")
    return found


def test_the_schema_in_docs_is_the_records() -> None:
    assert (ROOT / PATH).read_text(encoding="utf-8") == schema_text()
    assert finding_schema()["$id"].endswith(f":{SCHEMA}")


@pytest.mark.parametrize("code", CODES)
def test_findings_keep_the_schema(code: str) -> None:
    assert check(written(finding(code))) == []
    assert check(written(replace(FULL, code=code))) == []


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"schema": 2}, "/schema"),
        ({"code": "unheard_of"}, "/code"),
        ({"severity": "awful"}, "/severity"),
        ({"ulps": "many"}, "/ulps"),
        ({"ulps": None}, "/ulps"),
        ({"count": -1}, "/count"),
        ({"count": True}, "/count"),
        ({"witness": {"x": 1.0}}, "/witness"),
        ({"also": [{"region": "zero"}]}, "/also/0: witness"),
        ({"message": None}, "/message"),
    ],
)
def test_what_is_no_finding_breaks_the_schema(changes: dict[str, Any], place: str) -> None:
    found = check({**written(FULL), **changes})
    assert found and all(words.startswith(place) for words in found), found


def test_every_property_is_required_of_a_writer() -> None:
    data = written(FULL)
    for name in data:
        less = {key: value for key, value in data.items() if key != name}
        assert check(less) == [f": {name} is missing"]
