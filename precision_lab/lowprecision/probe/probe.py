"""The training probe: small models of many activations through many recipes, each run kept as it ends.

Results are a folder: `manifest.json`, one file for each run, one for each prediction. A probe that was cut
short goes on where it was and ends with the same bits.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from precision_lab.devices import CPU, Device, get_device
from precision_lab.exceptions import UsageError
from precision_lab.lowprecision.capture.watch import capture
from precision_lab.lowprecision.probe import checkpoint, corpus
from precision_lab.lowprecision.probe.ageing import AGEINGS, degree
from precision_lab.lowprecision.probe.folder import (
    SCHEMA,
    checkpoint_of,
    digest,
    file_of,
    load,
    read_json,
    read_row,
    write_json,
)
from precision_lab.lowprecision.probe.grids import BASELINE, ProbeConfig, read_config
from precision_lab.lowprecision.probe.run import Run, TrainingConfig
from precision_lab.lowprecision.probe.training import Trainer
from precision_lab.lowprecision.readiness.risk import from_capture, risk
from precision_lab.running.selfcheck import environment
from precision_lab.system.children import worker_pool

OnRun = Callable[[int, int, Run], None]


def probe(
    directory: Path,
    config: ProbeConfig | None = None,
    *,
    workers: int | None = None,
    device: str | Device = "cpu",
    resume: bool = False,
    on_run: OnRun | None = None,
) -> dict[str, Any]:
    """Trains everything that is not there yet.

    Args:
        directory: where results are kept; made if missing.
        workers: processes, one thread each; as many as cores when None, one on a GPU.
        device: the one to train on, or its name.
        resume: go on with what is there.
        on_run: told, after each run, how many are done, of how many, and which it was.

    Returns:
        what `load` returns.

    Raises:
        ValueError: the directory holds a probe and resume is False, or one of another configuration,
            text or torch; a recipe the device has no unit for is emulated there too and no error.
    """
    config = config or ProbeConfig()
    place = get_device(device)
    manifest = _manifest(config, place)
    path = directory / "manifest.json"
    if path.exists():
        if not resume:
            raise UsageError(f"--out {str(directory)!r} holds a probe already; --resume goes on with it")
        found = read_json(path) or {}
        for key in ("schema", "config", "text", "torch", "numpy", "device"):
            if found.get(key) != json.loads(json.dumps(manifest[key])):
                raise UsageError(
                    f"--out {str(directory)!r} holds a probe of another {key}; choose another folder"
                )
    directory.mkdir(parents=True, exist_ok=True)
    write_json(path, manifest)
    jobs: list[tuple[str, Run]] = [("run", run) for run in config.every_run()]
    jobs = [("predict", run) for run in config.predictions()] + jobs
    missing = [(kind, run) for kind, run in jobs if read_row(file_of(directory, kind, run), kind) is None]
    done = len(jobs) - len(missing)
    for kind, run in set(jobs) - set(missing):
        if kind == "run":  # whose process may have been killed before it did this
            checkpoint.remove(checkpoint_of(directory, run))
    if workers is None:
        workers = 1 if place.is_accelerator else os.cpu_count() or 1
    with worker_pool(workers, _prepare, place) as pool:
        futures = {
            pool.submit(_job, kind, config.training, run, place, directory, config.aged.recipes): run
            for kind, run in _in_turn(missing)
        }
        for future in as_completed(futures):
            future.result()
            done += 1
            if on_run is not None:
                on_run(done, len(jobs), futures[future])
    return load(directory)


def _in_turn(jobs: Sequence[tuple[str, Run]]) -> list[tuple[str, Run]]:
    """First the runs from the beginning, the longest kind, as they are asked for: seed by seed.

    Then what is aged: neighbours share their warm beginning, which a process keeps.
    """
    whole = [job for job in jobs if not job[1].ageing]
    aged = [job for job in jobs if job[1].ageing]
    return whole + sorted(aged, key=lambda job: (job[1].subject, job[1].seed, job[0], job[1].key))


def _prepare(device: Device) -> None:
    """A worker: one thread, and on a GPU the same bits every time."""
    torch.set_num_threads(1)
    if device.is_accelerator:
        # Read by cuBLAS when it first multiplies; without it products may differ between runs.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)


def _job(
    kind: str, config: TrainingConfig, run: Run, device: Device, directory: Path, recipes: tuple[str, ...]
) -> None:
    path = file_of(directory, kind, run)
    if kind == "predict":
        write_json(path, {"run": asdict(run), **predict(config, run, recipes, device)})
        return
    record = Trainer(config, run, device).train(checkpoint_of(directory, run))
    write_json(path, {"run": asdict(run), "record": record.to_json()})
    checkpoint.remove(checkpoint_of(directory, run))


def predict(config: TrainingConfig, run: Run, recipes: Sequence[str], device: Device = CPU) -> dict[str, Any]:
    """Risks of every recipe, from one captured step of the warm model at the end of its ageing.

    Nothing of the runs that follow is known to it: weights are those of the warm beginning in FP32.
    """
    trainer = Trainer(config, dataclasses.replace(run, recipe=BASELINE), device)
    ageing = AGEINGS[run.ageing]
    for step in (0, ageing.steps):
        trainer.model.age(ageing, step)
    with capture(trainer.model, steps=1, tokens=None, products=False) as seen:
        trainer.loss(0).backward()  # type: ignore[no-untyped-call]
    layers, _ = from_capture(seen.captured)
    growth = ageing.growth(degree(layers[0].function))
    risks = {recipe: risk(layers, recipe, growth=growth) for recipe in recipes}
    return {"growth": growth, "risk": {k: v if math.isfinite(v) else None for k, v in risks.items()}}


def _manifest(config: ProbeConfig, device: Device) -> dict[str, Any]:
    about = environment()
    return {
        "schema": SCHEMA,
        "config": config.to_json(),
        "text": corpus.digest(),
        "torch": torch.__version__,
        "numpy": about["numpy"],
        "device": device.model(),
        "environment": about,
    }


__all__ = ["BASELINE", "ProbeConfig", "digest", "load", "predict", "probe", "read_config"]
