"""One file names every subject; a user's file takes its place, key by key, or is refused by name."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from precision_lab.cli.main import app
from precision_lab.exceptions import DamagedFileError
from precision_lab.functions import FUNCTIONS
from precision_lab.functions.discovery import FIRST
from precision_lab.implementations import IMPLEMENTATIONS
from precision_lab.report.figures import draw
from precision_lab.report.findings import derive
from precision_lab.report.section import Choice
from precision_lab.report.sections.accuracy import heat_map
from precision_lab.results import Results, profile
from precision_lab.results.profile import DEFAULT
from precision_lab.study.profile import profile_from, read_profile
from precision_lab.study.settings import StudySettings

ANOTHER = """
[study]
functions = ["silu", "relu2"]
formats = ["bf16"]

[report]
lead = ["silu"]
speed_order = ["relu2", "silu"]
speed_source = "our own guess"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_file_names_nothing_unknown() -> None:
    """`DEFAULT` is read where implementations and recipes are not known yet."""
    text = Path(profile.__file__).with_name("profile.toml").read_text(encoding="utf-8")
    assert profile_from(tomllib.loads(text), "profile.toml") == DEFAULT


# What the shipped profile leaves to those who ask for it. What was added after these is left out as well.
LEFT_OUT = ("geglu", "geglu_tanh", "reglu")


def test_by_default_every_function_but_those_left_out_is_measured_in_the_registrys_order() -> None:
    computed = {i.function for i in IMPLEMENTATIONS.values()}
    expected = tuple(FUNCTIONS[name] for name in FIRST if name not in LEFT_OUT)
    assert StudySettings().chosen_functions() == expected
    assert set(expected) < computed == set(FUNCTIONS.values())
    assert [f.name for f in StudySettings(functions=LEFT_OUT).chosen_functions()] == list(LEFT_OUT)
    every = profile_from({"study": {"functions": []}}, "f")
    assert set(StudySettings(profile=every).chosen_functions()) == computed
    quick = [f.name for f in StudySettings(quick=True).chosen_functions()]
    assert quick == ["xielu", "xiprelu", "relu2", "silu"]
    asked = StudySettings(quick=True, functions=("silu", "relu"))
    assert [f.name for f in asked.chosen_functions()] == ["relu", "silu"]


def test_a_file_takes_the_place_of_what_it_names_alone(tmp_path: Path) -> None:
    found = read_profile(written(tmp_path, ANOTHER + '[lowprecision.parameter_sets]\nxiprelu = ["init"]'))
    assert found.study.functions == found.study.quick_functions == ("silu", "relu2")
    assert found.study.formats == found.study.quick_formats == ("bf16",)
    assert found.timing == DEFAULT.timing and found.eager == DEFAULT.eager
    assert found.lowprecision.parameter_sets == {
        **DEFAULT.lowprecision.parameter_sets, "xiprelu": ("init",)
    }  # fmt: skip
    other = profile_from({"study": {"functions": ["mish"], "quick_functions": ["selu"]}}, "f")
    assert (other.study.functions, other.study.quick_functions) == (("mish",), ("selu",))
    assert other.study.quick_formats == DEFAULT.study.quick_formats


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[studie]", "[studie]: expected one of the tables study, timing"),
        ("study = 1", "[study]: expected one of the tables"),
        ("[study]\nfunction = []", "[study] function=[]: expected one of functions, formats"),
        ("[study]\nfunctions = 'xielu'", "[study] functions='xielu': expected a list of names"),
        ("[study]\nfunctions = [1]", "[study] functions=[1]: expected a list of names"),
        ("[study]\nfunctions = ['relu', 'relu']", "['relu', 'relu']: a name stands there twice"),
        (
            "[study]\nfunctions = ['xielo']",
            "functions=['xielo']: unknown function 'xielo'; did you mean xielu",
        ),
        ("[study]\nformats = ['bf61']", "formats=['bf61']: unknown format 'bf61'; did you mean bf16"),
        ("[timing]\nexecutions = ['eagr']", "unknown execution 'eagr'; did you mean eager"),
        ("[timing]\nblocks = ['silu']", "subject='silu': expected FUNCTION/FORMULATION"),
        ("[timing]\nblocks = ['silu/torhc']", "unknown eager implementation of silu 'torhc'"),
        ("[lowprecision]\nblock_recipes = ['mxfp']", "unknown recipe 'mxfp'; did you mean mxfp8"),
        ("[lowprecision]\nblock_formulations = ['naif']", "unknown formulation 'naif'; did you mean naive"),
        ("[lowprecision]\nparameter_sets = ['init']", "parameter_sets=['init']: expected a table"),
        ("[lowprecision.parameter_sets]\nxielu = ['int']", "unknown parameter set of xielu 'int'"),
        ("[report]\nspeed_source = 3", "[report] speed_source=3: expected words"),
        ("[eager]\nxielu = 'naive'", "[eager]: a report needs no baseline"),
        ("[study", "is no TOML file"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        read_profile(path)
    assert str(path) in str(caught.value)


def test_baselines_are_registered_formulations() -> None:
    with pytest.raises(ValueError, match="unknown eager implementation of xielu 'naif'; did you mean naive"):
        profile_from({"eager": {"xielu": "naif"}}, "f")


def test_a_profile_decides_what_is_measured_and_what_is_read_first(tmp_path: Path) -> None:
    out, path = tmp_path / "out", written(tmp_path, ANOTHER)
    result = CliRunner().invoke(
        app, ["report", "--quick", "--no-timing", "--profile", str(path), "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    data = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert data["settings"]["functions"] == ["silu", "relu2"]
    assert data["settings"]["profile"]["lead"] == ["silu"]
    assert list(dict.fromkeys(m["function"] for m in data["measurements"])) == ["silu", "relu2"]
    assert {m["fmt"] for m in data["measurements"]} == {"bf16"}
    text = (out / "report.md").read_text(encoding="utf-8")
    assert "silu" in text and "relu2" in text and "xielu" not in text.split("## ", 1)[-1].split("|", 1)[-1]
    assert (out / "figures" / "bits-silu-bf16.svg").exists()
    # Rebuilt without the profile, the report is the same.
    again = tmp_path / "again"
    rebuilt = CliRunner().invoke(app, ["report", "--from", str(out), "--out", str(again)])
    assert rebuilt.exit_code == 0, rebuilt.output
    assert (again / "report.md").read_text(encoding="utf-8") == text


def test_an_unfinished_report_goes_on_under_its_own_profile_alone(tmp_path: Path) -> None:
    from precision_lab.study.saved_cases import Cases

    mine = StudySettings(quick=True, profile=profile_from({"report": {"lead": ["silu"]}}, "f"))
    Cases(tmp_path, mine)
    Cases(tmp_path, mine, resume=True)
    with pytest.raises(ValueError, match="of other settings"):
        Cases(tmp_path, StudySettings(quick=True), resume=True)


def with_profile(results: Results, shown: dict[str, Any]) -> Results:
    return dataclasses.replace(results, settings={**results.settings, "profile": shown})


def groups_of_the_map(results: Results) -> list[str]:
    section = heat_map(results)
    assert section is not None
    (choice,) = (part for part in section.parts if isinstance(part, Choice))
    return [words for _, words in choice.controls[0].options]


def test_a_report_shows_the_profile_that_its_results_keep() -> None:
    from sample_results import sample_results

    results = sample_results()
    assert "profile" not in results.settings and results.profile == DEFAULT.report
    shown = {"lead": ["relu2"], "speed_order": ["gelu", "relu2"], "speed_source": "a guess"}
    other = with_profile(results, shown)
    assert Results.loads(other.dumps()).profile.to_json() == shown
    assert groups_of_the_map(results) == ["xIELU, xIPReLU", "other functions"]
    assert groups_of_the_map(other) == ["ReLU²", "other functions"]
    assert any("the paper's Table 1" in f.sentence for f in derive(results) if f.topic == "timings")
    speeds = [f.sentence for f in derive(other) if f.topic == "timings"]
    assert speeds and all("a guess (gelu ≤ relu2)" in sentence for sentence in speeds)
    drawn = {name for name in draw(other) if name.startswith("bits-")}
    assert drawn and all(name.startswith("bits-relu2-") for name in drawn)


@pytest.mark.parametrize(
    "kept", [{}, [], {"lead": "relu2", "speed_order": [], "speed_source": ""},
             {"lead": [1], "speed_order": [], "speed_source": ""}]
)  # fmt: skip
def test_results_with_a_damaged_profile_are_refused(kept: Any) -> None:
    from sample_results import sample_results

    with pytest.raises(DamagedFileError, match=r"profile|attribute"):
        Results.loads(with_profile(sample_results(), kept).dumps())
