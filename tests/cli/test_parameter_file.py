"""Parameter sets from a file: every one is legal, or the error names the file, the set and the value."""

from __future__ import annotations

from pathlib import Path

import pytest

from precision_lab.cli.parameter_file import read_parameter_sets


def read(folder: Path, text: str, function: str = "xielu") -> dict[str, dict[str, float]]:
    path = folder / "layers.toml"
    path.write_text(text, encoding="utf-8")
    return read_parameter_sets(path, function)


def test_what_a_set_leaves_out_is_as_at_first(tmp_path: Path) -> None:
    found = read(tmp_path, "[layer-0]\nalpha_p = 170\n[layer-1]\nalpha_n = 0.75\n[init]\nalpha_p = 0.8\n")
    assert found == {
        "layer-0": {"alpha_p": 170.0, "alpha_n": 0.8, "beta": 0.5},
        "layer-1": {"alpha_p": 0.8, "alpha_n": 0.75, "beta": 0.5},
        "init": {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.5},
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[layer-0]\nalpha_p = true\n", r"layer-0=\{'alpha_p': True\} must be a table of numbers"),
        ("[layer-0]\nalpha_p = '2'\n", "layer-0=.* must be a table of numbers"),
        ("alpha_p = 2\n", "alpha_p=2 must be a table of numbers"),
        ("[layer-0]\nalpha_q = 2\n", r"\[layer-0\]: .*did you mean alpha_p"),
        ("[layer-0]\nalpha_p = -2\n", r"\[layer-0\]: .*alpha_p=-2"),
        ("[init]\nalpha_p = 2\n", r"\[init\] is what xielu starts with"),
    ],
)
def test_a_wrong_value_is_named_with_its_set(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"layers.toml: {words}"):
        read(tmp_path, text)


def test_a_file_of_no_sets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"layers\.toml. names no parameter set"):
        read(tmp_path, "# nothing yet\n")
