"""The training probe: small models of many activations through many recipes, each run kept as it ends.

Results are a folder: `manifest.json`, one file for each run, one for each prediction. A probe that was cut
short goes on where it was and ends with the same bits.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import typing
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from precision_lab.devices import get_device
from precision_lab.exceptions import DamagedFileError, UsageError
from precision_lab.functions import get_function
from precision_lab.lowprecision.capture.watch import capture
from precision_lab.lowprecision.probe import checkpoint, corpus
from precision_lab.lowprecision.probe.model import AGEINGS, ModelConfig, degree
from precision_lab.lowprecision.probe.training import Record, Run, Trainer, TrainingConfig, device_name
from precision_lab.lowprecision.readiness.remedies import get_remedy
from precision_lab.lowprecision.readiness.risk import from_capture, risk
from precision_lab.lowprecision.recipes.nvfp4 import GROUP
from precision_lab.results import strict_json
from precision_lab.running.selfcheck import environment
from precision_lab.system.atomic_file import write_atomically
from precision_lab.system.children import worker_pool
from precision_lab.system.text import plain_message
from precision_lab.system.toml_file import read_toml

SCHEMA = 2
BASELINE = "fp32"
OnRun = Callable[[int, int, Run], None]


@dataclass(frozen=True)
class Grid:
    """Runs from the beginning to the end, whose losses are compared.

    Attributes:
        subjects: FUNCTION/FORMULATION.
        recipes: fp32 is always among them.
        seeds: of weights and batches; the first so many numbers.
    """

    subjects: tuple[str, ...] = (
        "xielu/naive", "xielu/eps-expm1", "xielu/expm1", "xielu/stable [operator]", "xiprelu/factored",
        "relu2/torch", "swiglu/torch", "gelu/torch",
    )  # fmt: skip
    recipes: tuple[str, ...] = ("bf16", "delayed", "mxfp8")
    seeds: int = 3


@dataclass(frozen=True)
class AblationGrid:
    """xIELU taken apart as in the paper's Table 4; runs from the beginning, beside the first subject's."""

    subjects: tuple[str, ...] = (
        "xielu/zero-expm1", "xielu_cubic/expm1", "xielu_neg_xsilu/composed", "xielu_neg_silu/composed",
        "xielu_neg_zero/composed", "xielu_trainable_beta/zero-expm1", "xielu_fixed_alpha/zero-expm1",
        "xiprelu_fixed_alpha/factored",
    )  # fmt: skip
    recipes: tuple[str, ...] = ("bf16",)
    seeds: int = 3


@dataclass(frozen=True)
class AgedGrid:
    """Runs that are aged after a warm beginning in FP32, whose risk is predicted before they go on."""

    subjects: tuple[str, ...] = (
        "xielu/zero-expm1",
        "xiprelu/factored",
        "relu2/torch",
        "swiglu/torch",
        "gelu/torch",
    )
    recipes: tuple[str, ...] = ("bf16", "delayed", "current", "block", "mxfp8", "nvfp4")
    ageings: tuple[str, ...] = ("none", "severe", "extreme", "growing")
    seeds: int = 2


@dataclass(frozen=True)
class RemedyGrid:
    """Aged runs once more, with remedies."""

    subjects: tuple[str, ...] = ("xielu/zero-expm1", "relu2/torch")
    recipes: tuple[str, ...] = ("delayed", "current")
    ageings: tuple[str, ...] = ("extreme", "growing")
    remedies: tuple[str, ...] = ("smooth", "tanh", "alpha-cap", "edges")
    seeds: int = 2


@dataclass(frozen=True)
class FormulationGrid:
    """Aged runs of several formulations: is one that is right for small x right for large x too?"""

    subjects: tuple[str, ...] = ("xielu/naive", "xielu/expm1", "xielu/eps-expm1", "xielu/zero-expm1")
    recipes: tuple[str, ...] = ("bf16",)
    ageings: tuple[str, ...] = ("severe",)
    seeds: int = 1


@dataclass(frozen=True)
class ProbeConfig:
    """Everything a probe is determined by."""

    training: TrainingConfig = field(default_factory=TrainingConfig)
    runs: Grid = field(default_factory=Grid)
    ablations: AblationGrid = field(default_factory=AblationGrid)
    aged: AgedGrid = field(default_factory=AgedGrid)
    remedies: RemedyGrid = field(default_factory=RemedyGrid)
    formulations: FormulationGrid = field(default_factory=FormulationGrid)

    def __post_init__(self) -> None:
        grids = (self.runs, self.ablations, self.aged, self.remedies, self.formulations)
        for grid in grids:
            if grid.seeds < 0:
                raise UsageError(f"seeds={grid.seeds!r}: at least 0")
        rows = self.training.batch * self.training.model.context
        if any("nvfp4" in grid.recipes for grid in grids) and rows % GROUP:
            raise UsageError(
                f"batch={self.training.batch!r}, context={self.training.model.context!r}: nvfp4 transforms "
                f"groups of {GROUP} tokens, and {rows} are no multiple"
            )

    def every_run(self) -> list[Run]:
        """All runs, each once, in an order in which early results compare with something."""
        found = [
            Run(subject, recipe, seed)
            for grid in (self.runs, self.ablations)
            for seed in range(grid.seeds)
            for subject in grid.subjects
            for recipe in (BASELINE, *grid.recipes)
        ]
        for grid in (self.aged, self.formulations):
            for seed in range(grid.seeds):
                for subject in grid.subjects:
                    for ageing in grid.ageings:
                        found += [Run(subject, r, seed, ageing) for r in (BASELINE, *grid.recipes)]
        for seed in range(self.remedies.seeds):
            for subject in self.remedies.subjects:
                for ageing in self.remedies.ageings:
                    for remedy in ("none", *self.remedies.remedies):
                        if remedy != "none" and not applies(remedy, subject):
                            continue
                        found += [
                            Run(subject, r, seed, ageing, remedy) for r in (BASELINE, *self.remedies.recipes)
                        ]
        return list(dict.fromkeys(found))

    def predictions(self) -> list[Run]:
        """The aged runs' baselines, from which risks are predicted."""
        return [
            Run(subject, BASELINE, seed, ageing)
            for seed in range(self.aged.seeds)
            for subject in self.aged.subjects
            for ageing in self.aged.ageings
        ]

    def to_json(self) -> dict[str, Any]:
        """Every number."""
        return asdict(self)


def applies(remedy: str, subject: str) -> bool:
    """Whether a remedy changes anything: a cap on α_p needs one."""
    parameters = {p.name for p in get_function(subject.partition("/")[0]).parameters}
    return math.isinf(get_remedy(remedy).alpha_cap) or "alpha_p" in parameters


def read_config(path: Path) -> ProbeConfig:
    """A TOML file with any of the tables training, model, runs, ablations, aged, remedies and formulations.

    What it leaves out has its default.

    Raises:
        ValueError: no such file, table, key, name or range; names what is wrong and the file.
    """
    data = read_toml(path, "--config")
    kinds: dict[str, type] = {
        "training": TrainingConfig, "model": ModelConfig, "runs": Grid, "aged": AgedGrid,
        "ablations": AblationGrid, "remedies": RemedyGrid, "formulations": FormulationGrid,
    }  # fmt: skip
    made: dict[str, Any] = {}
    for table, values in data.items():
        if table not in kinds or not isinstance(values, dict):
            raise UsageError(f"{path}: [{table}]: expected one of the tables {', '.join(kinds)}")
        hints = typing.get_type_hints(kinds[table])
        known = {f.name for f in dataclasses.fields(kinds[table])} - {"model"}
        for key, value in values.items():
            if key not in known:
                raise UsageError(
                    f"{path}: [{table}] {key}={value!r}: expected one of {', '.join(sorted(known))}"
                )
            wanted = hints[key]
            if wanted is float and isinstance(value, int) and not isinstance(value, bool):
                values[key] = float(value)
            elif wanted in (int, float):
                if type(value) is not wanted:
                    raise UsageError(f"{path}: [{table}] {key}={value!r}: expected {wanted.__name__}")
            elif not isinstance(value, list) or not all(isinstance(v, str) for v in value):
                raise UsageError(f"{path}: [{table}] {key}={value!r}: expected a list of names")
            else:
                values[key] = tuple(value)
        try:
            made[table] = kinds[table](**values) if table != "training" else values
        except ValueError as error:
            raise UsageError(f"{path}: [{table}] {error}") from error
    try:
        model = {"model": made.pop("model")} if "model" in made else {}
        training = TrainingConfig(**made.pop("training", {}), **model)
        config = ProbeConfig(training, **made)
        config.every_run()
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    return config


def probe(
    directory: Path,
    config: ProbeConfig | None = None,
    *,
    workers: int | None = None,
    device: str = "cpu",
    resume: bool = False,
    on_run: OnRun | None = None,
) -> dict[str, Any]:
    """Trains everything that is not there yet.

    Args:
        directory: where results are kept; made if missing.
        workers: processes, one thread each; as many as cores when None, one on a GPU.
        device: name of the one to train on.
        resume: go on with what is there.
        on_run: told, after each run, how many are done, of how many, and which it was.

    Returns:
        what `load` returns.

    Raises:
        ValueError: the directory holds a probe and resume is False, or one of another configuration,
            text or torch; a recipe the device has no unit for is emulated there too and no error.
    """
    config = config or ProbeConfig()
    manifest = _manifest(config, device)
    path = directory / "manifest.json"
    if path.exists():
        if not resume:
            raise UsageError(f"--out {str(directory)!r} holds a probe already; --resume goes on with it")
        found = _read(path) or {}
        for key in ("schema", "config", "text", "torch", "numpy", "device"):
            if found.get(key) != json.loads(json.dumps(manifest[key])):
                raise UsageError(
                    f"--out {str(directory)!r} holds a probe of another {key}; choose another folder"
                )
    directory.mkdir(parents=True, exist_ok=True)
    _write(path, manifest)
    jobs: list[tuple[str, Run]] = [("run", run) for run in config.every_run()]
    jobs = [("predict", run) for run in config.predictions()] + jobs
    missing = [(kind, run) for kind, run in jobs if _kept(_path(directory, kind, run), kind) is None]
    done = len(jobs) - len(missing)
    for kind, run in set(jobs) - set(missing):
        if kind == "run":  # whose process may have been killed before it did this
            checkpoint.remove(_checkpoint(directory, run))
    if workers is None:
        workers = 1 if get_device(device).is_accelerator else os.cpu_count() or 1
    with worker_pool(workers, _prepare, device) as pool:
        futures = {
            pool.submit(_job, kind, config.training, run, device, directory, config.aged.recipes): run
            for kind, run in _by_warmth(missing)
        }
        for future in as_completed(futures):
            future.result()
            done += 1
            if on_run is not None:
                on_run(done, len(jobs), futures[future])
    return load(directory)


def _by_warmth(jobs: Sequence[tuple[str, Run]]) -> list[tuple[str, Run]]:
    """Neighbours share their warm beginning, which a process keeps; the longest kinds come first."""
    return sorted(
        jobs, key=lambda job: (bool(job[1].ageing), job[1].subject, job[1].seed, job[0], job[1].key)
    )


def _prepare(device: str) -> None:
    """A worker: one thread, and on a GPU the same bits every time."""
    torch.set_num_threads(1)
    if get_device(device).is_accelerator:
        # Read by cuBLAS when it first multiplies; without it products may differ between runs.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def _job(
    kind: str, config: TrainingConfig, run: Run, device: str, directory: Path, recipes: tuple[str, ...]
) -> None:
    path = _path(directory, kind, run)
    if kind == "predict":
        _write(path, {"run": asdict(run), **predict(config, run, recipes, device)})
        return
    record = Trainer(config, run, device).train(_checkpoint(directory, run))
    _write(path, {"run": asdict(run), "record": record.to_json()})
    checkpoint.remove(_checkpoint(directory, run))


def predict(config: TrainingConfig, run: Run, recipes: Sequence[str], device: str = "cpu") -> dict[str, Any]:
    """Risks of every recipe, from one captured step of the warm model at the end of its ageing.

    Nothing of the runs that follow is known to it: weights are those of the warm beginning in FP32.
    """
    trainer = Trainer(config, dataclasses.replace(run, recipe=BASELINE), device)
    ageing = AGEINGS[run.ageing]
    for step in (0, ageing.steps):
        trainer.model.age(ageing, step)
    with capture(trainer.model, steps=1, tokens=None) as seen:
        trainer.loss(0).backward()  # type: ignore[no-untyped-call]
    layers, _ = from_capture(seen.captured)
    growth = ageing.growth(degree(layers[0].function))
    risks = {recipe: risk(layers, recipe, growth=growth) for recipe in recipes}
    return {"growth": growth, "risk": {k: v if math.isfinite(v) else None for k, v in risks.items()}}


def load(directory: Path) -> dict[str, Any]:
    """Manifest, runs and predictions of a folder, complete or not.

    Raises:
        ValueError: it holds no probe, or one of another version.
        DamagedFileError: a file is no JSON object, or not what this module writes; names it.
    """
    manifest = _read(directory / "manifest.json")
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
        found[name] = [data for path in files if (data := _kept(path, folder)) is not None]
    return found


def digest(found: dict[str, Any]) -> str:
    """SHA-256 of everything measured, times left out: the same for a probe that was resumed."""
    runs = [{**r, "record": {k: v for k, v in r["record"].items() if k != "seconds"}} for r in found["runs"]]
    text = json.dumps([runs, found["predictions"]], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _manifest(config: ProbeConfig, device: str) -> dict[str, Any]:
    about = environment()
    return {
        "schema": SCHEMA,
        "config": config.to_json(),
        "text": corpus.digest(),
        "torch": torch.__version__,
        "numpy": about["numpy"],
        "device": device_name(device),
        "environment": about,
    }


def _path(directory: Path, kind: str, run: Run) -> Path:
    return directory / kind / f"{run.key}.json"


def _checkpoint(directory: Path, run: Run) -> Path:
    return _path(directory, "run", run).with_suffix(".checkpoint")


def _write(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (strict_json(data) + "\n").encode())


def _read(path: Path) -> dict[str, Any] | None:
    """None for a file that is not there.

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


def _kept(path: Path, kind: str) -> dict[str, Any] | None:
    """A run or a prediction; None for a file that is not there.

    Raises:
        DamagedFileError: it is not what this module writes.
    """
    found = _read(path)
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


__all__ = ["BASELINE", "ProbeConfig", "digest", "load", "predict", "probe", "read_config"]
