"""What every device answers; the defaults are those of a processor that computes when it is called."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Check:
    """One thing looked at; ok None where there is nothing to be right or wrong."""

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True)
class Device:
    """Where a kernel runs.

    Attributes:
        name: as the command line has it, such as "cpu" or "cuda:1".
        kind: the name without an index.
        spelling: the names that are understood, for people.
        title: what sentences call it.
        platform: what its kernels are written for; those of one platform run on every device of it.
        is_accelerator: it has memory of its own, runs beside the host, and scores results where they are.
        chooses: what its approximate instructions return, within the manual's bound, can be chosen.
        watches: a kernel that touches memory outside of every allocation, or reads what nobody wrote, is
            stopped in whichever call it does.
        own_process: it only exists in a process that was started for it (`running.own_process`).
    """

    name: str

    kind: ClassVar[str]
    spelling: ClassVar[str]
    title: ClassVar[str]
    platform: ClassVar[str] = "cpu"
    is_accelerator: ClassVar[bool] = False
    chooses: ClassVar[bool] = False
    watches: ClassVar[bool] = False
    own_process: ClassVar[bool] = False

    @classmethod
    def understands(cls, name: str) -> bool:
        return name == cls.kind

    @property
    def torch(self) -> torch.device:
        import torch

        return torch.device(self.name)

    def require(self) -> None:
        """Makes it the process's current device of its kind.

        Raises:
            ValueError: this process has no such device.
        """

    def check(self) -> None:
        """Looks whether it can be had, without changing this process where it has one of its own.

        Raises:
            ValueError: it cannot.
        """
        if not self.own_process:
            self.require()

    def variables(self) -> dict[str, str | None]:
        """What of the environment a process of its own is started with; None for what must not be there."""
        return {}

    def options(self) -> list[str]:
        """What the command line is told of it, beside its name, to find it as it is in this process."""
        return []

    def configurations(self) -> tuple[str, ...]:
        """What autotuned kernels that have run in this process can be tuned to, in words; () where nobody can
        choose.
        """
        return ()

    def configure(self, index: int) -> None:
        """Makes autotuned kernels take the configuration of that number, or their last."""

    def objection(self, result: Tensor) -> str:
        """Why a result says nothing of this device; "" where it does."""
        return ""

    def unwritten(self, result: Tensor | None = None) -> str:
        """What was read that nobody had written, since it was last asked, or is in a result; "" for nothing
        that is known.
        """
        return ""

    def model(self) -> str:
        """What it is, for people."""
        return self.name

    def capability(self) -> tuple[int, int]:
        """Major and minor version of what it can do; (0, 0) where there is none."""
        return (0, 0)

    def synchronize(self) -> None:
        """Waits for it, so that an error is met where it was made."""

    def is_lost(self, error: BaseException) -> bool:
        """Whether an error is of those after which the process can use it no more."""
        return False

    def free_bytes(self) -> int | None:
        """Memory that is free; None where nobody says."""
        return None

    def release_memory(self) -> None:
        """Gives back what torch holds and nothing uses."""

    def peak_mebibytes(self, work: Callable[[], object]) -> float:
        """MiB that a piece of work holds at once beyond what was held before; NaN where nobody counts."""
        return math.nan

    def seconds(self, work: Callable[[], Any]) -> float:
        """Of one call of a piece of work."""
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    @classmethod
    def checks(cls) -> Sequence[Check]:
        """What `selfcheck` says of devices of this kind."""
        return ()

    @classmethod
    def environment(cls) -> dict[str, str]:
        """What a result depends on, of the device in use."""
        return {}
