"""Runs the list of mutants beside this file: every fault in the lab's own code must fail the tests it names.

python tests/mutants/run.py [NAME or AREA ...] [--jobs N] [--out reports/quality/mutants.md]

A mutant is `[[mutant]]` in AREA.toml: `name`; `file`, in which `find` occurs once; `replace`; `test`, the
tests that fail under it; `hangs = true` where it shows as a test that does not end. It is killed when a test
it names runs and fails: an error in collecting or importing is a broken mutant, not a killed one.

No mutation tool runs a given list so: mutmut and cosmic-ray derive the changes from operators of their own,
pytest-mutagen replaces whole functions and is no longer kept, and universalmutator takes ready files, but
puts them in place one after the other, each with the same command, and any non-zero exit counts as a kill.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LISTS = Path(__file__).parent
CHANGED = ("precision_lab", "tests")  # copied; the rest is only read
READ = ("reference", "reports", "docs", "pyproject.toml", "README.md", "CHANGELOG.md", "tox.ini")
MARKS = "not exhaustive and not bench"  # what is slow kills too
OUTPUT = "output"  # of pytest, in a copy
# Seconds. A mutant of the oracle compiles all loops anew; one that hangs needs no such time.
LIMIT, HANGS = 300.0, 60.0
# Forked with these already imported: without them, the better half of a mutant's time.
PRELOAD = ["torch", "numba", "numpy", "pytest", "mpmath", "flint"]
# A change that no longer runs at all says nothing of the tests' power.
NO_KILL = (ImportError, NameError, SyntaxError)

HEAD = """\
# What the tests catch

Each of these changes to the lab's own code is one plausible mistake of a programmer; those that change
nothing anyone could see are left out. A mutant is killed when a test it names runs and fails. Written by
`python tests/mutants/run.py --out reports/quality/mutants.md`; the lists are
[tests/mutants](../../tests/mutants).

"""


@dataclass(frozen=True)
class Mutant:
    """One fault: in `file`, `find` becomes `replace`, and the tests named fail."""

    area: str
    name: str
    file: str
    find: str
    replace: str
    test: Sequence[str]
    hangs: bool = False

    def applied(self, root: Path = ROOT) -> str:
        """The mutated text of the file.

        Raises:
            ValueError: `find` does not occur exactly once, or nothing changes.
        """
        text = (root / self.file).read_text()
        if text.count(self.find) != 1:
            raise ValueError(f"{self.name}: find occurs {text.count(self.find)} times in {self.file}")
        if self.find == self.replace:
            raise ValueError(f"{self.name}: replace is find")
        return text.replace(self.find, self.replace)


@dataclass
class Outcome:
    """pytest's exit code, None where it was stopped at its limit; what failed in a test, and elsewhere."""

    code: int | None
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0


def mutants() -> list[Mutant]:
    """All lists, in the order of their files' names."""
    return [
        Mutant(path.stem, **entry)
        for path in sorted(LISTS.glob("*.toml"))
        for entry in tomllib.loads(path.read_text())["mutant"]
    ]


class _Witness:
    """What failed while a test ran, and what went wrong elsewhere."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self.errors: list[str] = []

    def pytest_exception_interact(self, node: Any, call: Any, report: Any) -> None:
        kill = getattr(report, "when", None) == "call" and not call.excinfo.errisinstance(NO_KILL)
        (self.failed if kill else self.errors).append(f"{node.nodeid}: {call.excinfo.exconly()[:400]}")


def _pytest(folder: Path, arguments: list[str], results: Any) -> None:
    """Runs the tests of a copy, and of nothing else, in this process."""
    os.setsid()  # so that what hangs is stopped with all it started
    os.chdir(folder)
    output = os.open(OUTPUT, os.O_RDWR | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(output, stream)
    # Compiled loops are kept beside the code, whose copies share them; a mutant's own are thrown away.
    for name in ("NUMBA_CACHE_DIR", "PYTEST_ADDOPTS"):
        os.environ.pop(name, None)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path.insert(0, str(folder))
    import numba.core.config
    import pytest

    numba.core.config.reload_config()
    assert "precision_lab" not in sys.modules
    witness = _Witness()
    code = int(pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", ".", *arguments], [witness]))
    results.send((code, witness.failed, witness.errors))


def run(folder: Path, arguments: Sequence[str], limit: float) -> Outcome:
    """pytest in a fork of a process that has the large libraries imported, and never the lab."""
    context = multiprocessing.get_context("forkserver")
    mine, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_pytest, args=(folder, list(arguments), theirs))
    start = time.monotonic()
    child.start()
    theirs.close()
    outcome = Outcome(None)
    try:
        if mine.poll(limit):
            outcome = Outcome(*mine.recv())
    except EOFError:  # it died
        child.join()
        outcome = Outcome(child.exitcode)
    if outcome.code not in (None, 0, 1) and not outcome.errors:  # such as a test that there is not
        outcome.errors = [(folder / OUTPUT).read_text(errors="replace")[-2000:]]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.join()
    outcome.seconds = time.monotonic() - start
    return outcome


def copied(source: Path, target: Path) -> Path:
    """The checkout as tests need it, with modification times: what is compiled stays valid."""
    for name in CHANGED:
        shutil.copytree(source / name, target / name)
    for name in READ:
        (target / name).symlink_to(ROOT / name)
    return target


def tried(mutant: Mutant, template: Path) -> tuple[str, Outcome]:
    """What became of a mutant: "killed", "survived" or "broken"."""
    with tempfile.TemporaryDirectory(dir=template.parent, ignore_cleanup_errors=True) as name:
        folder = copied(template, Path(name))
        path = folder / mutant.file
        path.write_text(mutant.applied(folder))
        # Else what Python compiled of the unchanged file would do, where size and second are the same.
        for stale in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            stale.unlink()
        outcome = run(folder, ["-x", "-m", MARKS, *mutant.test], HANGS if mutant.hangs else LIMIT)
    if outcome.code == 0:
        return "survived", outcome
    killed = mutant.hangs if outcome.code is None else outcome.code == 1 and outcome.failed
    return ("killed" if killed else "broken"), outcome


def unmutated(chosen: Iterable[Mutant], template: Path, jobs: int) -> list[str]:
    """Runs all tests named once, which also fills the copies' caches; what does not pass."""
    tests = sorted({test for mutant in chosen for test in mutant.test})
    files = [list(group) for _, group in groupby(tests, lambda test: test.partition("::")[0])]
    with ThreadPoolExecutor(jobs) as pool:
        outcomes = list(pool.map(lambda group: run(template, ["-m", MARKS, *group], 4 * LIMIT), files))
    wrong = []
    for group, outcome in zip(files, outcomes, strict=True):
        if outcome.code != 0:
            wrong += outcome.failed + outcome.errors or [f"{group[0]} ...: pytest's exit code {outcome.code}"]
    return wrong


def page(results: Sequence[tuple[Mutant, str]], before: float, seconds: float) -> str:
    killed = sum(state == "killed" for _, state in results)
    versions = f"torch {metadata.version('torch').split('+')[0]}, Python {platform.python_version()}, CPU"
    lines = [
        HEAD,
        f"**{killed} of {len(results)} killed**, in {seconds / 60:.0f} minutes, of which the unmutated tests "
        f"took {before / 60:.0f} ({versions}). Before these lists were made, the tests killed 61 of 96 such "
        "faults.\n",
    ]
    if killed < len(results):
        lines.append("\n| not killed | file | change |  |\n|---|---|---|---|\n")
    for mutant, state in (result for result in results if result[1] != "killed"):
        change = " → ".join(f"`{' '.join(text.split())}`" for text in (mutant.find, mutant.replace))
        lines.append(f"| {mutant.name} | {mutant.file} | {change.replace('|', chr(92) + '|')} | {state} |\n")
    lines.append("\n| module | mutants | killed |\n|---|--:|--:|\n")
    for module in sorted({mutant.file for mutant, _ in results}):
        states = [state for mutant, state in results if mutant.file == module]
        lines.append(f"| {module} | {len(states)} | {states.count('killed')} |\n")
    return "".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("only", nargs="*", metavar="NAME or AREA", help="of these alone")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="the page to write")
    options = parser.parse_args()
    everything = mutants()
    known = {word for mutant in everything for word in (mutant.name, mutant.area)}
    if unknown := set(options.only) - known:
        parser.error(f"no mutant and no area is named {', '.join(sorted(unknown))}")
    chosen = [m for m in everything if not options.only or {m.name, m.area} & set(options.only)]
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOAD)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-", ignore_cleanup_errors=True) as name:
        template = copied(ROOT, Path(name) / "template")
        if wrong := unmutated(chosen, template, options.jobs):
            print("these do not pass unmutated:", *wrong, sep="\n  ")
            return 1
        before = time.monotonic() - start
        print(f"unmutated: all pass ({before:.0f} s)", flush=True)
        results = []
        with ThreadPoolExecutor(options.jobs) as pool:
            for mutant, result in zip(chosen, pool.map(lambda m: tried(m, template), chosen), strict=True):
                state, outcome = result
                results.append((mutant, state))
                why = f" {outcome.errors or outcome.code}" if state == "broken" else ""
                print(f"{state:8} {mutant.name} ({outcome.seconds:.1f} s){why}", flush=True)
    killed = sum(state == "killed" for _, state in results)
    seconds = time.monotonic() - start
    print(f"{killed} of {len(results)} killed in {seconds:.0f} s")
    if options.out:
        options.out.write_text(page(results, before, seconds))
    return 0 if killed == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
