"""What CI installs is pinned: constraints.txt follows from constraints.in and pyproject.toml."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from pinned import canonical, otherwise, pins

ROOT = Path(__file__).parents[1]
PINNED = pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
BY_HAND = pins((ROOT / "constraints.in").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# Transformer Engine and CUDA's bindings are tested only where there is a GPU, against the machine's own.
ELSEWHERE = {"cuda", "te"}


def test_what_is_pinned_by_hand_is_pinned_so() -> None:
    assert {name: PINNED.get(name) for name in BY_HAND} == BY_HAND


@pytest.mark.parametrize(
    "requirement",
    [
        *PROJECT["project"]["dependencies"],
        *PROJECT["build-system"]["requires"],
        *(r for extra, wanted in PROJECT["project"]["optional-dependencies"].items() if extra not in ELSEWHERE
          for r in wanted),
    ],
)  # fmt: skip
def test_what_the_project_needs_is_pinned_within_its_limits(requirement: str) -> None:
    wanted = Requirement(requirement)
    assert wanted.specifier.contains(PINNED[canonical(wanted.name)])


def test_the_build_of_torch_is_left_to_the_machine() -> None:
    # NVRTC and its bindings are asked for by name: CUDA C++ compiles without a GPU.
    own = {"cuda-bindings", "cuda-pathfinder", "nvidia-cuda-nvrtc"}
    assert {name for name in PINNED if name.startswith(("nvidia", "cuda"))} == own
    assert all("+" not in version for version in PINNED.values())


@pytest.mark.parametrize(
    "line",
    [
        "numpy>=2",
        "numpy",
        "--index-url https://example.org",
        "a @ file:///a.whl",
        "a==1 --hash=sha256:0",
        "-e .",
    ],
)
def test_only_names_and_versions_are_pins(line: str) -> None:
    with pytest.raises(ValueError, match="NAME==VERSION"):
        pins(f"# a comment\nmlx==1.0  # and another\n{line}\n")


def test_what_is_installed_otherwise_is_named() -> None:
    pinned = {"torch": "2.13.0", "numpy": "2.4.6"}
    assert (
        otherwise({"torch": "2.13.0+cpu", "numpy": "2.4.6", "pip": "1", "precision-lab": "0"}, pinned) == []
    )
    assert otherwise({"numpy": "2.4.7", "ruff": "1"}, pinned) == [
        "numpy 2.4.7 is installed, 2.4.6 pinned",
        "ruff 1 is not pinned",
    ]


def test_an_environment_with_something_unpinned_fails(tmp_path: Path) -> None:
    (tmp_path / "few.txt").write_text("pip==1\n")
    script = Path(__file__).parent / "helpers" / "pinned.py"
    ran = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "few.txt")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert "numpy" in ran.stderr
