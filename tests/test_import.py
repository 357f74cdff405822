"""What importing the package, and asking for help, may load."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import house
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
        "scoring.errors",
        "golden",
        "results",
        "report",
        "running.selfcheck",
        "verifying.judge",
        "verifying.pytest_plugin",
    ],
)
def test_only_what_runs_kernels_loads_torch(module: str) -> None:
    assert loaded(f"import precision_lab.{module}", ("torch", "transformers")) == []


COMPILERS = ("numba", "llvmlite")


@pytest.mark.parametrize(
    "module",
    [
        "oracle",
        "inputs",
        "scoring.statistics",
        "scoring.array_scorer",
        "scoring.choosing",
        "measuring.measure",
        "measuring.sweep",
        "verifying.verify",
        "verifying.trial",
        "verifying.kernel_process",
        "cli.verify",
        "cli.printing",
    ],
)
def test_naming_what_measures_loads_no_compiler(module: str) -> None:
    """The first exact value of a compiled tier does, and narrow formats may ask for none."""
    assert loaded(f"import precision_lab.{module}", COMPILERS) == []


def test_the_probe_sees_a_compiler_when_it_is_loaded() -> None:
    code = "import precision_lab as pl; pl.reference('relu', 'forward', None, [1.0], 'bf16')"
    assert loaded(code, COMPILERS) == list(COMPILERS)


def test_exact_values_need_no_torch() -> None:
    code = "import precision_lab as pl; pl.evaluate('xielu', -0.5)"
    assert loaded(code, ("torch",)) == []


def test_the_probe_sees_torch_when_it_is_loaded() -> None:
    assert loaded("import precision_lab.implementations", ("torch",)) == ["torch"]


@pytest.mark.parametrize("arguments", [["--help"], ["explain", "--help"], ["report", "--help"]])
def test_help_loads_neither_torch_nor_numpy(arguments: list[str]) -> None:
    code = (
        "from typer.testing import CliRunner\n"
        "from precision_lab.cli.main import app\n"
        f"result = CliRunner().invoke(app, {arguments!r})\n"
        "assert result.exit_code == 0 and 'Usage' in result.output, result.output"
    )
    assert loaded(code, (*HEAVY, "numpy", "mpmath")) == []


@pytest.mark.parametrize("name", precision_lab.__all__)
def test_every_public_name_resolves_to_the_object_in_its_home(name: str) -> None:
    home = importlib.import_module(f"precision_lab.{precision_lab._HOMES[name]}")
    assert getattr(precision_lab, name) is getattr(home, name)


@pytest.mark.parametrize(("name", "home"), precision_lab._MODULES.items())
def test_modules_that_users_name_are_attributes(name: str, home: str) -> None:
    assert getattr(precision_lab, name) is importlib.import_module(f"precision_lab.{home}")


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


# From the ground up: a room imports from those before it in the list, and from itself.
ROOMS = (
    "exceptions",
    "registry",
    "system",
    "numeric",
    "formats",
    "emulator",
    "virtual_gpu",
    "devices",
    "formula",
    "math",
    "functions",
    "results",
    "kernels",
    "oracle",
    "inputs",
    "implementations",
    "running",
    "scoring",
    "measuring",
    "verifying",
    "golden",
    "lowprecision",
    "study",
    "report",
    "cli",
)
# What a room must not know although it stands before it, and why.
APART = {
    "oracle": ("kernels", "shared code is a shared bug"),
    "kernels": ("formats", "users copy kernels out of the lab"),
    "implementations": ("oracle", "shared code is a shared bug"),
    "running": ("oracle", "what is measured must not know what is right"),
    "report": ("oracle", "a report shows what was measured, and measures nothing"),
}


MODULES = house.modules(PACKAGE)


def backward(module: str, imports: set[str]) -> set[str]:
    """Those of a module's imports that stand after it, or that it must not know."""
    here = house.room(module)
    if here not in ROOMS:  # the package's face and its entry point
        return set()
    known = {*ROOMS[: ROOMS.index(here) + 1], ""} - {name for name, _ in [APART.get(here, ("", ""))] if name}
    return {name for name in imports if house.room(name) not in known}


def test_every_room_has_its_place() -> None:
    assert {house.room(name) for name in MODULES} == {*ROOMS, "", "__main__"}


@pytest.mark.parametrize("here", ROOMS)
def test_imports_follow_the_flow(here: str) -> None:
    for name, path in MODULES.items():
        if house.room(name) == here:
            wrong = backward(name, house.own_imports(path, MODULES))
            assert not wrong, f"{name} imports {wrong}: it stands before them, or must not know them"


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert house.circles(house.graph_of(PACKAGE)) == []


def test_what_runs_backward_is_seen() -> None:
    assert backward("precision_lab.oracle.program", {"precision_lab.running.runner"})
    assert backward("precision_lab.running.runner", {"precision_lab.oracle.program"})
    assert not backward("precision_lab.scoring.tile", {"precision_lab.oracle.program"})
    assert [sorted(set(c)) for c in house.circles({"a": {"b"}, "b": {"c"}, "c": {"b"}})] == [["b", "c"]]


# Where what a user says, or what a file holds, becomes the lab's objects; behind these nothing is looked up.
DOORS = {
    "cli": "the command line",
    "devices/kinds.py": "a name that this process can use",
    "verifying/verify.py": "pl.verify and pl.assert_accurate",
    "verifying/make_plan.py": "what pl.verify and the command are asked for",
    "verifying/pytest_plugin.py": "an option of pytest",
    "verifying/search.py": "pl.search",
    "verifying/laws.py": "pl.search.check_laws",
    "verifying/bound_file.py": "a bound file",
    "measuring/measure.py": "pl.measure",
    "measuring/prediction_file.py": "a file of predictions",
    "oracle/evaluate.py": "pl.evaluate",
    "oracle/reference.py": "pl.reference",
    "inputs/strategies.py": "pl.strategies",
    "results/measurement.py": "a stored result",
    "implementations/__init__.py": "TARGETs and registered names",
    "implementations/subject.py": "FUNCTION/FORMULATION, as profiles and recipes have it",
    "running/precompile.py": "the command line of another process",
    "verifying/kernel_process.py": "the job of another process",
    "running/own_process.py": "the process of a device that has its own",
    "golden/tables.py": "a table's file",
    "lowprecision/capture/recognised.py": "a capture's file",
    "lowprecision/probe/probe.py": "the probe",
    "lowprecision/readiness/readiness.py": "the readiness check",
    "study/profile.py": "a study profile's file",
    "study/settings.py": "what a study is asked for",
}
LOOKUPS = ("get_format", "kernel_format", "get_function", "get_implementation", "get_device", "usable_device")


def looked_up(path: Path) -> set[str]:
    """Names of the look-ups that a file calls."""
    calls = (n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call))
    return {c.func.id for c in calls if isinstance(c.func, ast.Name)} & set(LOOKUPS)


def test_names_are_looked_up_at_the_doors_alone() -> None:
    behind = {}
    for path in MODULES.values():
        place = str(path.relative_to(PACKAGE))
        if place not in DOORS and place.partition("/")[0] not in DOORS and (found := looked_up(path)):
            behind[place] = found
    assert behind == {}


def test_every_door_is_one() -> None:
    for place in DOORS:
        files = PACKAGE.rglob(f"{place}/*.py") if (PACKAGE / place).is_dir() else [PACKAGE / place]
        assert set().union(*map(looked_up, files)), f"{place} looks nothing up"
