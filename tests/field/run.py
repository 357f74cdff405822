"""Measures published kernels on an emulated GPU, each package in an environment of its own: `tox -e field`.

python tests/field/run.py [--out FOLDER] [PACKAGE …]        measures all, or these, and writes the page anew
python tests/field/run.py page                              the page alone
python tests/field/run.py --in PACKAGE COMMAND …            a command in a package's environment: a replay
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

from environments import NotInstalled, environment
from package import PUBLISHED, Package, packages
from published_page import page

from precision_lab.results import strict_json

ROOT = Path(__file__).parents[2]
WORKERS = 2
KEPT = "published.json"


def of(package: Package, environments: Path, folder: Path) -> dict[str, Any]:
    """What was found of a package, or why nothing was."""
    start = time.perf_counter()
    about = {"package": _about(package)}
    try:
        python = environment(package, environments)
    except NotInstalled as error:
        return {**about, "error": f"it cannot be installed: {error}"}
    out = folder / f"{package.name}.measured.json"
    out.unlink(missing_ok=True)
    command = [str(python), str(ROOT / "tests" / "field" / "measure.py"), package.name, str(out)]
    done = subprocess.run(command, cwd=ROOT, env=variables(package), stdout=sys.stderr, check=False)
    if not out.is_file():
        return {**about, "error": f"its measurement ended with {done.returncode}"}
    found = json.loads(out.read_text(encoding="utf-8"))
    out.unlink()
    if done.returncode:
        found["error"] = f"its measurement ended with {done.returncode} before all was measured"
    return {**about, **found, "seconds_in_all": round(time.perf_counter() - start, 1)}


def _about(package: Package) -> dict[str, Any]:
    names = ("name", "package", "version", "needs", "dependencies", "unpacked")
    return {name: asdict(package)[name] for name in names}


def in_environment(command: list[str], python: Path) -> list[str]:
    """The command with the environment's own interpreter and `precision-lab`."""
    own = {"precision-lab": [str(python), "-m", "precision_lab"], "python": [str(python)]}
    return [*own.get(command[0], command[:1]), *command[1:]]


# What every engineering property and torch.compile import, for three seconds; with one thread to compile, as
# emulated devices have it, it starts none.
PRELOADED = ("torch._dynamo", "torch._inductor.compile_fx")


def variables(package: Package) -> dict[str, str]:
    """An environment's variables: at import no package looks for models or for a telemetry server, and none
    leaves files where it runs.
    """
    quiet = {
        "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore",
        "GEMS_VENDOR": "nvidia", "PRECISION_LAB_PRELOAD": ",".join((*PRELOADED, *package.imports)),
        "UNSLOTH_COMPILE_LOCATION": str(Path(tempfile.gettempdir()) / "unsloth_compiled_cache"),
    }  # fmt: skip
    return {**os.environ, **quiet}


def measure(chosen: list[Package], environments: Path, folder: Path) -> None:
    kept = folder / KEPT
    entries: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    entries = {name: entry for name, entry in entries.items() if (PUBLISHED / f"{name}.toml").exists()}
    # The longest first, so that the last one does not keep a worker alone.
    order = sorted(chosen, key=lambda p: -entries.get(p.name, {}).get("seconds", len(p.kernels)))
    with ThreadPoolExecutor(WORKERS) as pool:
        running = {pool.submit(of, package, environments, folder): package.name for package in order}
        for done in as_completed(running):
            entries[running[done]] = done.result()
            kept.write_text(strict_json(dict(sorted(entries.items()))) + "\n", encoding="utf-8")


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "field")
    parser.add_argument("--environments", type=Path, default=Path(sys.prefix) / "field")
    parser.add_argument("--in", dest="inside", metavar="PACKAGE", help="run a command in its environment")
    parser.add_argument("words", nargs=argparse.REMAINDER)
    asked = parser.parse_args(words)
    if asked.inside is not None:
        (package,) = packages([asked.inside])
        python = environment(package, asked.environments)
        command = in_environment(asked.words, python)
        sys.exit(subprocess.run(command, cwd=ROOT, env=variables(package), check=False).returncode)
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.words != ["page"]:
        measure(packages(asked.words or None), asked.environments, asked.out)
    entries = json.loads((asked.out / KEPT).read_text(encoding="utf-8"))
    (asked.out / "README.md").write_text(page(entries), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
