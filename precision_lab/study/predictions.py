"""Predictions of every subject on an emulated device, and a real device held against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from precision_lab.devices import Device
from precision_lab.exceptions import KernelError, UsageError
from precision_lab.formats import BF16, FP16
from precision_lab.implementations import IMPLEMENTATIONS
from precision_lab.measuring.predicting import Comparison, Prediction, canonical, compared, predicted
from precision_lab.measuring.prediction_file import SIZE, Key, Predictions
from precision_lab.numeric.nvrtc import compiler_version
from precision_lab.results import Failure
from precision_lab.running.case import case_of
from precision_lab.running.own_process import on
from precision_lab.running.placement import on_device
from precision_lab.running.runner import run
from precision_lab.running.selfcheck import environment
from precision_lab.running.torch_compile import compiler_settings_kept
from precision_lab.study.settings import StudySettings
from precision_lab.system.progress import Progress

FORMATS = (BF16, FP16)
_TOLD = ("torch", "triton", "precision_lab", "emulator", "device tables")


@dataclass(frozen=True)
class Compared:
    """One prediction beside what a device returned.

    Attributes:
        comparison: None where the kernel gave nothing there, for the reason `failure`.
    """

    key: Key
    comparison: Comparison | None
    failure: str = ""

    @property
    def holds(self) -> bool:
        c = self.comparison
        return c is not None and not c.unexplained_count and not c.undecided


def predict(
    settings: StudySettings, progress: Progress | None = None, *, outputs: Sequence[str] | None = None
) -> tuple[Predictions, dict[str, str]]:
    """What every subject that the settings list returns on their emulated device, at initial parameters.

    Args:
        outputs: of those that a kernel can give; a kernel asked for others may be another one. All when None.

    Returns:
        The predictions, and why there is none, by the kernel, format and output that there is none of.

    Raises:
        ValueError: the device is not emulated.
    """
    if not settings.on.own_process:
        raise UsageError(f"device={settings.device!r}: predictions are of an emulated device, such as sm_90")
    entries, without, about = on(settings.on, _predicted, settings, outputs, progress=progress)
    return Predictions({"target": settings.device, **about}, entries), without


@compiler_settings_kept()
def _predicted(
    settings: StudySettings, outputs: Sequence[str] | None, *, progress: Progress | None = None
) -> tuple[dict[Key, Prediction], dict[str, str], dict[str, str]]:
    found: dict[Key, Prediction] = {}
    without: dict[str, str] = {}
    report = progress or (lambda stage, done, total: None)
    cases = [(i, fmt) for i in settings.implementations() for fmt in FORMATS if fmt in i.formats]
    for done, (implementation, fmt) in enumerate(cases):
        report("predict", done, len(cases))
        about = implementation.function.name, implementation.name, implementation.execution_name, fmt.name
        try:
            own = implementation.measured_outputs()
            chosen = own if outputs is None else tuple(o for o in own if o in outputs)
            given = predicted(case_of(implementation, fmt, outputs=chosen)) if chosen else {}
        except KernelError as error:
            without[str(Key(*about, "every output"))] = str(error)
            continue
        for output, got in given.items():
            key = Key(*about, output)
            if isinstance(got, Failure):
                without[str(key)] = got.message
            else:
                found[key] = got
    report("predict", len(cases), len(cases))
    known = environment()
    told = {name: known[name] for name in _TOLD if name in known}
    return found, without, told | ({"nvrtc": version} if (version := compiler_version()) else {})


@compiler_settings_kept()
def check(predictions: Predictions, device: Device, progress: Progress | None = None) -> list[Compared]:
    """What the predicted kernels return on a real device of the target, beside what was predicted.

    Raises:
        ValueError: no such device, or none of the target that the predictions are of.
    """
    device.require()
    major, minor = device.capability()
    target = predictions.about["target"]
    if f"sm_{major}{minor}" != target:
        raise UsageError(
            f"device={device.name!r} is of sm_{major}{minor}, and the predictions are of {target}"
        )
    report = progress or (lambda stage, done, total: None)
    by_case: dict[tuple[str, str], list[Key]] = {}
    for key in predictions.entries:
        by_case.setdefault((key.label, key.fmt), []).append(key)
    found: list[Compared] = []
    for done, keys in enumerate(by_case.values()):
        report("compare", done, len(by_case))
        found += _checked(predictions, keys, device)
    report("compare", len(by_case), len(by_case))
    return found


def _checked(predictions: Predictions, keys: Sequence[Key], device: Device) -> list[Compared]:
    """Of the outputs of one kernel in one format, all at once, as they were predicted."""
    implementation = IMPLEMENTATIONS.get(keys[0].label, None)
    if implementation is None:
        return [Compared(key, None, "no such implementation is registered any more") for key in keys]
    outputs = tuple(key.output for key in keys)
    case = case_of(on_device(implementation, device), keys[0].source, outputs=outputs)
    returned = run(case, np.arange(SIZE, dtype=np.uint16))
    rows = []
    for key in keys:
        values, prediction = returned[key.output], predictions.entries[key]
        if isinstance(values, Failure):
            rows.append(Compared(key, None, f"{values.kind}: {values.message}"))
        else:
            got = canonical(np.asarray(values, np.float64), prediction.fmt)
            rows.append(Compared(key, compared(prediction, got)))
    return rows


def file_for(folder: Path, target: str, triton: str) -> Path | None:
    """The file for a target, as this Triton compiles, or else as any does; None without one."""
    exact = folder / name_of(target, triton)
    if exact.is_file():
        return exact
    return next(iter(sorted(folder.glob(f"{target}-*.xz"), reverse=True)), None)


def name_of(target: str, triton: str) -> str:
    return f"{target}-triton-{'.'.join(triton.split('.')[:2])}.xz"


__all__ = ["Compared", "check", "file_for", "name_of", "predict"]
