"""The lists of mutants fit the code they change and the tests they name; `tox -e mutants` runs them."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest
from mutants.run import ROOT, mutants

from precision_lab.functions import FUNCTIONS
from precision_lab.functions.discovery import FIRST

MUTANTS = mutants()
AREAS = sorted({mutant.area for mutant in MUTANTS})
LEAST = 150
# Modules that decide and report no number, and what they do instead.
NO_NUMBER = {
    "__init__.py": "names what the package exports",
    "__main__.py": "starts a command, or says why not",
    "study/formulations.py": "records what formulations are called and where their code stands",
    "study/equations.py": "writes formulas out for the report",
    "formula/plain_values.py": "tells two formulas of one name apart, and decides nothing else",
    "math.py": "names what formulas are written with",
    "oracle/program_record.py": "names what the first tier runs",
    "numeric/sources.py": "names what compiled code is made of, by its checksum",
    "oracle/record.py": "records what is certain of exact values",
    "scoring/settled.py": "names what scoring a value takes",
    "scoring/tile_records.py": "names what the stages of scoring a tile hand on",
    "cli/function_option.py": "names the option of two commands, and what to say without it",
    "implementations/adapters/offers.py": "says what a file has, in messages",
    "system/near_files.py": "says which file may have been meant",
    "system/atomic_file.py": "writes files whole or not at all",
    "system/children.py": "ends processes",
    "system/progress.py": "names what progress is told with",
    "formats/torch_types.py": "names torch's dtypes",
    "cli/main.py": "collects the commands",
    "cli/options.py": "names what the commands share",
    "cli/catalogue.py": "lists what there is",
    "oracle/piecewise_tables.py": "keeps compiled tables, by their checksum",
    "cli/explain.py": "asks for what another module computes",
    "cli/progress.py": "draws bars",
    "cli/device_table.py": "prints what `emulator.device_table` has found",
    "cli/predict.py": "prints what `study.predictions` has found",
    "cli/output.py": "writes what others made where it was asked for",
    "exceptions.py": "names errors",
    "functions/__init__.py": "collects the definitions",
    "implementations/operators.py": "calls torch, whose results are measured",
    "implementations/__init__.py": "collects the implementations and finds them by name",
    "running/precompile.py": "has torch compile before it is needed; what comes out is measured",
    "running/torch_compile.py": "has torch compile; what comes out is measured",
    "implementations/cuda.py": "launches kernels on a GPU, which no run of the mutants has",
    "functions/parameters.py": "holds values by name, in two types",
    "implementations/adapters/c_kernel.py": "hands memory to a C function, whose results are measured",
    "implementations/adapters/jax_kernel.py": "hands arrays to JAX and back, as the adapter of MLX does",
    "running/inductor_cache.py": "keeps what torch has compiled, by its checksum",
    "implementations/triton.py": "names kernels that stand elsewhere",
    "lowprecision/capture/captured_file.py": "reads and writes what was counted, by its checksum",
    "lowprecision/probe/checkpoint.py": "reads and writes runs, by their checksum",
    "system/npz.py": "reads and writes arrays, and refuses what is none",
    "numeric/nvrtc.py": "compiles and launches on a GPU, which no run of the mutants has",
    "report/write.py": "writes files that others made the text of, and reads them back",
    "results/examination.py": "records what was looked at",
    "results/facts.py": "records what severity looks at",
    "verifying/wire.py": "writes plans and events as lines, and reads them back",
    "verifying/properties/terms.py": "records how a kernel is examined",
    "verifying/properties/views.py": "lays the same numbers otherwise in memory",
    "results/strict_json.py": "writes as text the numbers that JSON lacks",
    "study/saved_cases.py": "keeps finished cases, by their checksum",
    "system/text.py": "shows text from elsewhere",
    "system/toml_file.py": "reads a file and says what is wrong with it",
    "system/typed.py": "refuses a file whose fields are of other types",
    "emulator/faults.py": "names what can be wrong with a kernel",
    "emulator/ptx.py": "records what a program is made of",
    "emulator/sass/names.py": "shows names as their authors wrote them",
    "emulator/fast/handlers.py": "finds what writes the code of an instruction, by its name",
    "emulator/fast/machine.py": "has LLVM compile, whose code is compared with the other engine's results",
    "emulator/reference/machine.py": "names what the threads of a batch share",
    "emulator/reference/program.py": "finds what executes an instruction, by its name",
    "emulator/reference/step.py": "names what instructions are built with",
    "implementations/cuda_program.py": "launches on a GPU or an emulated one; what comes out is measured",
    "virtual_gpu/__init__.py": "says whether the device is emulated",
    "virtual_gpu/install.py": "makes the device, or says why not",
    "virtual_gpu/library.py": "compiles what torch's device is made of, and keeps it by its checksum",
    "virtual_gpu/settings.py": "names what a process is told by its environment",
    "virtual_gpu/streams.py": "waits for nothing, as everything is done at once",
    "virtual_gpu/torch_cuda.py": "answers what programs ask of torch.cuda",
    "virtual_gpu/triton_driver.py": "hands Triton's launches on, whose results are measured",
}

# Definitions in a file of their own: each has a witness in Arb (`test_every_function_has_a_witness`), and
# mutants of some show that it notices.
_LATER = {f"functions/{name}.py" for name in [*FUNCTIONS][len(FIRST) :]}
NO_NUMBER |= dict.fromkeys(
    _LATER - {m.file.removeprefix("precision_lab/") for m in MUTANTS}, "is compared with its witness"
)


@functools.cache
def functions_of(file: str) -> set[str]:
    """The names of a file's tests, those in classes as Class::test."""
    names = set()
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, ast.FunctionDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{f.name}" for f in node.body if isinstance(f, ast.FunctionDef)}
    return names


@functools.cache
def statements_of(file: str) -> tuple[str, list[tuple[int, int]]]:
    """A file's text, and first and last line of its outermost statements."""
    text = (ROOT / file).read_text()
    nodes = [(node, getattr(node, "decorator_list", [])) for node in ast.parse(text).body]
    return text, [
        (min([node.lineno, *(d.lineno for d in before)]), node.end_lineno) for node, before in nodes
    ]


@pytest.mark.parametrize("area", AREAS)
def test_a_mutant_changes_one_place_and_still_compiles(area: str) -> None:
    """The statements around the change alone: whole files, six hundred times, take ten seconds."""
    for mutant in (m for m in MUTANTS if m.area == area):
        text, statements = statements_of(mutant.file)
        assert text.count(mutant.find) == 1 and mutant.find != mutant.replace, mutant.name
        first = text.count("\n", 0, text.index(mutant.find)) + 1
        last = first + mutant.find.count("\n")
        touched = [s for s in statements if s[0] <= last and first <= s[1]] or [(first, last)]
        start, end = min(first, touched[0][0]), max(last, touched[-1][1])
        part = "\n".join(text.split("\n")[start - 1 : end])
        compile(part.replace(mutant.find, mutant.replace), mutant.name, "exec")


@pytest.mark.parametrize("area", AREAS)
def test_a_mutant_names_tests_that_there_are(area: str) -> None:
    for mutant in (m for m in MUTANTS if m.area == area):
        assert mutant.test, mutant.name
        for test in mutant.test:
            file, _, function = test.partition("::")
            assert function.partition("[")[0] in functions_of(file), (mutant.name, test)


def test_every_mutant_has_a_name_of_its_own() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(names) == len(set(names)) and not set(AREAS) & set(names)


def is_face(path: Path) -> bool:
    """Whether a package's file only hands names on."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    defines = (ast.FunctionDef, ast.ClassDef)
    return path.name == "__init__.py" and not any(isinstance(node, defines) for node in body)


def test_every_module_that_decides_or_reports_a_number_is_mutated() -> None:
    package = ROOT / "precision_lab"
    modules = {str(path.relative_to(package)) for path in package.rglob("*.py") if not is_face(path)}
    mutated = {mutant.file.removeprefix("precision_lab/") for mutant in MUTANTS}
    new, named = modules - mutated - set(NO_NUMBER), set(NO_NUMBER) - (modules - mutated)
    assert not new, f"write a mutant of each in tests/mutants, or say in NO_NUMBER why not: {sorted(new)}"
    assert not named, f"take out of NO_NUMBER what has a mutant or is gone: {sorted(named)}"
    assert len(MUTANTS) >= LEAST
