"""The folder of a probe: a manifest, a file for each run and prediction; written, and read warily."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing
from pathlib import Path
from typing import Any

from precision_lab.exceptions import DamagedFileError, UsageError
from precision_lab.lowprecision.probe.grids import ProbeConfig
from precision_lab.lowprecision.probe.run import Record, Run
from precision_lab.results import strict_json
from precision_lab.system.atomic_file import write_atomically
from precision_lab.system.text import plain_message

SCHEMA = 2


def load(directory: Path) -> dict[str, Any]:
    """Manifest, runs and predictions of a folder, complete or not.

    Raises:
        ValueError: it holds no probe, or one of another version.
        DamagedFileError: a file is no JSON object, or not what this module writes; names it.
    """
    manifest = read_json(directory / "manifest.json")
    if manifest is None:
        raise UsageError(f"{str(directory)!r} holds no probe")
    if manifest.get("schema") != SCHEMA:
        raise UsageError(
            f"{str(directory)!r} holds a probe with schema={manifest.get('schema')!r}; this precision_lab "
            f"reads {SCHEMA}: train it again"
        )
    try:
        _check_config(manifest["config"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(directory / "manifest.json", error) from error
    found: dict[str, Any] = {"manifest": manifest}
    for name, folder in (("runs", "run"), ("predictions", "predict")):
        files = sorted((directory / folder).glob("*.json"))
        found[name] = [data for path in files if (data := read_row(path, folder)) is not None]
    return found


def digest(found: dict[str, Any]) -> str:
    """SHA-256 of everything measured, times left out: the same for a probe that was resumed."""
    runs = [{**r, "record": {k: v for k, v in r["record"].items() if k != "seconds"}} for r in found["runs"]]
    text = json.dumps([runs, found["predictions"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def file_of(directory: Path, kind: str, run: Run) -> Path:
    """Where a run, or a prediction, is kept."""
    return directory / kind / f"{run.key}.json"


def checkpoint_of(directory: Path, run: Run) -> Path:
    """Where a run is kept that is under way."""
    return file_of(directory, "run", run).with_suffix(".checkpoint")


def write_json(path: Path, data: Any) -> None:
    """Writes a file whole or not at all; makes its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (strict_json(data) + "\n").encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file; None for a file that is not there.

    Raises:
        DamagedFileError: it is there and no JSON object.
    """
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from error
    if not isinstance(found, dict):
        raise _damaged(path, "no JSON object")
    return found


def read_row(path: Path, kind: str) -> dict[str, Any] | None:
    """A run or a prediction; None for a file that is not there.

    Raises:
        DamagedFileError: it is not what this module writes.
    """
    found = read_json(path)
    if found is None:
        return None
    try:
        whose = found["run"]
        for name, wanted in _WHOSE.items():
            if type(whose[name]) is not wanted:
                raise ValueError(f"{name}={whose[name]!r}: expected {wanted.__name__}")
        if kind == "run":
            Record.from_json(found["record"])
        else:
            for name, value in {"growth": found["growth"], **found["risk"]}.items():
                if not (value is None or type(value) in (int, float)):
                    raise ValueError(f"{name}={value!r}: expected a number")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error
    return found


_WHOSE = typing.get_type_hints(Run)


def _check_config(config: dict[str, Any]) -> None:
    """That a manifest's configuration has the tables that reports show, of names and numbers."""
    training = dict(config["training"])
    tables = {"training": training, "model": training.pop("model")}
    tables |= {f.name: config[f.name] for f in dataclasses.fields(ProbeConfig) if f.name != "training"}
    for table, values in tables.items():
        for key, value in values.items():
            names = isinstance(value, list) and all(isinstance(v, str) for v in value)
            if not (names or type(value) in (int, float)):
                raise ValueError(f"[{table}] {key}={value!r}: expected a number or names")


def _damaged(path: Path, why: object) -> DamagedFileError:
    return DamagedFileError(plain_message(f"{str(path)!r} is damaged ({why}); delete it to train it again"))


__all__ = ["SCHEMA", "checkpoint_of", "digest", "file_of", "load", "read_json", "read_row", "write_json"]
