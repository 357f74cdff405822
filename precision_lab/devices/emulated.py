"""NVIDIA's GPUs by the machine code's own text: kernels compiled for one, executed on the CPU.

Such a device only exists in a process of its own, in which torch's `cuda:0` lies in the host's memory and
Triton's launches execute their PTX (`virtual_gpu`). Results are scored as any on the CPU are.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from precision_lab.devices.base import Check, Device
from precision_lab.exceptions import UsageError, unknown_name
from precision_lab.system.extras import install_line
from precision_lab.virtual_gpu.settings import DEVICE, ENGINE, ENGINES, TABLES, paths_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_NAME = re.compile(r"sm_(\d{2,3})")
OLDEST, NEWEST = 75, 121  # what the compilers at hand know


class Emulated(Device):
    kind = "emulated"
    spelling = "'sm_80', 'sm_90', 'sm_100' and the like (emulated)"
    title = "an emulated GPU"
    platform = "cuda"
    chooses = True
    watches = True
    own_process = True

    @classmethod
    def understands(cls, name: str) -> bool:
        return _NAME.fullmatch(name) is not None

    @property
    def torch(self) -> torch.device:
        import torch

        return torch.device("cuda:0")

    def capability(self) -> tuple[int, int]:
        number = int(self.name.removeprefix("sm_"))
        return divmod(number, 10)

    def check(self) -> None:
        number = int(self.name.removeprefix("sm_"))
        if not OLDEST <= number <= NEWEST:
            raise UsageError(
                f"device={self.name!r}: no compiler at hand knows it; sm_{OLDEST} to sm_{NEWEST} are "
                "emulated, such as sm_80, sm_90 and sm_100"
            )
        if not sys.platform.startswith("linux"):
            raise UsageError(f"device={self.name!r}: GPUs are emulated on Linux only")
        engine = os.environ.get(ENGINE, ENGINES[0])
        if engine not in ENGINES:
            raise unknown_name("emulator", engine, ENGINES)
        if setting := os.environ.get(TABLES):
            from precision_lab.virtual_gpu.tabulated import held

            held(setting, self.capability())

    def require(self) -> None:
        """
        Raises:
            ValueError: this process was not started for it.
        """
        self.check()
        if os.environ.get(DEVICE) != self.name:
            raise UsageError(
                f"device={self.name!r}: an emulated GPU has a process of its own, and this one is not it; "
                "hand the kernel over by its name or TARGET"
            )
        from precision_lab.virtual_gpu.install import install

        install(self.name)

    def variables(self) -> dict[str, str | None]:
        # Triton would interpret kernels instead of compiling them.
        return {DEVICE: self.name, "TRITON_INTERPRET": None}

    def options(self) -> list[str]:
        return [f"--device-table {shlex.quote(path)}" for path in paths_of(os.environ.get(TABLES, ""))]

    def configurations(self) -> tuple[str, ...]:
        driver = sys.modules.get("precision_lab.virtual_gpu.triton_driver")
        if driver is None:
            return ()
        met = {name: differences(words) for name, words in driver.configurations().items()}
        most = max((len(words) for words in met.values()), default=0)
        return tuple(
            "; ".join(
                f"{name}: {words[min(k, len(words) - 1)]}" for name, words in met.items() if len(words) > 1
            )
            for k in range(most)
        )

    def configure(self, index: int) -> None:
        driver = sys.modules.get("precision_lab.virtual_gpu.triton_driver")
        if driver is not None:
            driver.choose(index)

    def objection(self, result: Tensor) -> str:
        from precision_lab.virtual_gpu.tensors import operators_of

        operators = operators_of(result)
        if not operators:
            return ""
        many = "operators" if len(operators) > 1 else "operator"
        have = "have" if len(operators) > 1 else "has"
        return f"torch's {many} {', '.join(operators)} {have} no code for it here and ran on the CPU"

    def unwritten(self, result: Tensor | None = None) -> str:
        from precision_lab.virtual_gpu.tensors import unwritten_elements, unwritten_reads

        words = "; ".join(unwritten_reads())
        if result is not None and (missing := unwritten_elements(result)).size:
            count, first = f"{missing.size} of {result.numel()}", missing[0]
            words = f"nobody has written {count} elements, the first is number {first}"
        return words

    def model(self) -> str:
        return f"emulated {self.name}"

    @classmethod
    def checks(cls) -> Sequence[Check]:
        missing = [name for name in ("triton", "cuda.bindings") if not is_installed(name)]
        detail = f"sm_{OLDEST} to sm_{NEWEST}"
        if missing:
            detail += f"; kernels that need {' and '.join(missing)} do not run; {install_line('emulated')}"
        return [Check("emulated GPUs", None, detail)]

    @classmethod
    def environment(cls) -> dict[str, str]:
        name = os.environ.get(DEVICE)
        if name is None:
            return {}
        found = {"emulated device": name, "emulator": os.environ.get(ENGINE, ENGINES[0])}
        return found | ({"device tables": os.environ[TABLES]} if os.environ.get(TABLES) else {})


def differences(configurations: Sequence[str]) -> tuple[str, ...]:
    """Of each configuration, "NAME: VALUE, …", what not all of them have."""
    parts = [words.split(", ") for words in configurations]
    return tuple(
        ", ".join(part for part in own if not all(part in others for others in parts)) for own in parts
    )


def is_installed(module: str) -> bool:
    """Whether a module could be imported, without doing so."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def engine_in_use(engine: str | None) -> None:
    """Chooses the engine of every emulated device that is used from now on.

    Raises:
        ValueError: there is none of that name.
    """
    if engine is None:
        return
    if engine not in ENGINES:
        raise unknown_name("emulator", engine, ENGINES)
    os.environ[ENGINE] = engine


def tables_in_use(paths: Sequence[Path]) -> None:
    """Gives emulated devices that are used from now on what a real one was measured to return.

    Args:
        paths: tables, or folders of tables.

    Raises:
        ValueError: a folder without any.
    """
    if paths:
        files = [
            file for path in paths for file in (sorted(path.glob("*.table")) if path.is_dir() else [path])
        ]
        if not files:
            raise UsageError(f"--device-table {paths[0]}: the folder holds no *.table")
        os.environ[TABLES] = os.pathsep.join(str(file.resolve()) for file in files)
