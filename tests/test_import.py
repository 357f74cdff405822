"""What importing the package, and asking for help, may load."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import precision_lab

HEAVY = ("torch", "transformers", "plotly", "matplotlib", "jinja2", "jax", "mlx", "hypothesis")
PACKAGE = Path(precision_lab.__file__).parent


def loaded(code: str, modules: tuple[str, ...]) -> list[str]:
    """Which of `modules` a fresh process has imported after `code`."""
    probe = f"{code}\nimport sys\nprint('loaded:', *[m for m in {modules!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return run.stdout.splitlines()[-1].removeprefix("loaded:").split()


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded("import precision_lab", (*HEAVY, "numpy", "mpmath")) == []


@pytest.mark.parametrize(
    "module",
    [
        "formats",
        "functions",
        "oracle",
        "inputs",
        "metrics",
        "golden",
        "results",
        "report",
        "selfcheck",
        "verdict",
    ],
)
def test_only_what_runs_kernels_loads_torch(module: str) -> None:
    assert loaded(f"import precision_lab.{module}", ("torch", "transformers")) == []


def test_exact_values_need_no_torch() -> None:
    code = "import precision_lab as pl; pl.evaluate('xielu', -0.5)"
    assert loaded(code, ("torch",)) == []


def test_the_probe_sees_torch_when_it_is_loaded() -> None:
    assert loaded("import precision_lab.implementations", ("torch",)) == ["torch"]


@pytest.mark.parametrize("arguments", [["--help"], ["explain", "--help"], ["report", "--help"]])
def test_help_loads_neither_torch_nor_numpy(arguments: list[str]) -> None:
    code = (
        "from typer.testing import CliRunner\n"
        "from precision_lab.cli import app\n"
        f"result = CliRunner().invoke(app, {arguments!r})\n"
        "assert result.exit_code == 0 and 'Usage' in result.output, result.output"
    )
    assert loaded(code, (*HEAVY, "numpy", "mpmath")) == []


@pytest.mark.parametrize("name", [n for n in precision_lab.__all__ if n != "measure"])
def test_every_public_name_resolves_to_the_object_in_its_home(name: str) -> None:
    home = importlib.import_module(f"precision_lab.{precision_lab._HOMES[name]}")
    assert getattr(precision_lab, name) is getattr(home, name)


@pytest.mark.parametrize(
    "first", ["import precision_lab.measure", "from precision_lab.measure import measure_all", "pl.measure"]
)
def test_measure_is_its_module_and_can_be_called_whatever_was_used_first(first: str) -> None:
    """A submodule hides the public function of its name, so the module is callable; it is never replaced."""
    code = (
        f"import numpy as np, precision_lab as pl; {first}; "
        "assert pl.measure('torch', 'relu', inputs=np.array([1.0])).max_ulp == 0; "
        "import precision_lab.measure as module; from precision_lab import measure; "
        "assert pl.measure is module is measure and module.measure_all"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_missing_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'mesure'"):
        precision_lab.mesure  # noqa: B018


def test_the_version_is_the_distributions() -> None:
    from importlib import metadata

    try:
        installed = metadata.version("precision-lab")
    except metadata.PackageNotFoundError:
        pytest.skip("run from a checkout that is not installed")
    assert precision_lab.__version__ == installed


# The flow of the module map: a module imports only from those named beside it.
OWN = {
    "exceptions": set(),
    "ieee": {"exceptions"},
    "text": set(),
    "cache_files": {"atomic_file", "exceptions", "ieee"},
    "atomic_file": set(),
    "children": set(),
    "bounds": {"exceptions", "formats", "results"},
    "formats": {"exceptions"},
    "results": {"exceptions", "text", "typed"},
    "rounding": {"exceptions", "formats"},
    "functions": {"exceptions", "formats"},
    "kernels": {"formats"},
    "oracle": {"cache_files", "exceptions", "formats", "functions", "ieee", "rounding"},
    "inputs": {"exceptions", "formats", "functions"},
    "metrics": {"exceptions", "formats", "oracle"},
    "golden": {"children", "exceptions", "formats", "functions", "golden_inputs", "inputs", "oracle"},
    "report": {"atomic_file", "exceptions", "formats", "results", "text"},
}


def own_imports(path: Path) -> set[str]:
    """First-level modules of ours that a file imports, type-checking blocks included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
            if node.module == "precision_lab":
                names = [f"precision_lab.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("precision_lab.")}
    return found


@pytest.mark.parametrize("module", OWN)
def test_imports_follow_the_flow(module: str) -> None:
    place = PACKAGE / module
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    assert files
    for file in files:
        backwards = own_imports(file) - OWN[module] - {module}
        assert backwards == set(), f"{file.name} imports {backwards}, which lie further down the flow"


def test_the_oracle_and_the_implementations_never_import_each_other() -> None:
    for here, there in (("oracle", "implementations"), ("implementations", "oracle"), ("kernels", "oracle")):
        for file in (PACKAGE / here).glob("*.py"):
            assert there not in own_imports(file), f"{file} imports {there}: shared code is a shared bug"
