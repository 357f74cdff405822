"""Streams and events of an emulated GPU, which has done everything by the time a call returns."""

from __future__ import annotations

import time
from typing import Any, Self

import torch


class Stream(torch.Stream):
    """As `torch.cuda.Stream`; all are the same queue, which is always empty."""

    cuda_stream = 0
    priority = 0

    def __new__(cls, device: Any = None, priority: int = 0, **_: Any) -> Self:
        # What torch's C++ code takes for a stream of the device.
        return super().__new__(cls, device="cuda")

    @classmethod
    def priority_range(cls) -> tuple[int, int]:
        return 0, -5

    def wait_event(self, event: Any) -> None:
        pass

    def wait_stream(self, stream: Any) -> None:
        pass

    def record_event(self, event: Any = None) -> Any:
        event = Event() if event is None else event
        event.record(self)
        return event

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream)

    def __hash__(self) -> int:
        return hash(self.cuda_stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.cuda_stream

    def __repr__(self) -> str:
        return f"<torch.cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"


class ExternalStream(Stream):
    """As `torch.cuda.ExternalStream`."""

    def __new__(cls, stream_ptr: int, device: Any = None, **_: Any) -> Self:
        return super().__new__(cls)


class StreamContext:
    """As `torch.cuda.stream(…)`; with no stream, nothing."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class Event:
    """As `torch.cuda.Event`; its times are the emulation's, and say nothing of a GPU's."""

    cuda_event = 0

    def __init__(
        self,
        enable_timing: bool = False,
        blocking: bool = False,
        interprocess: bool = False,
        external: bool = False,
    ) -> None:
        self.device = torch.device("cuda", 0)
        self._timed = enable_timing
        self._at: float | None = None

    def record(self, stream: Any = None) -> None:
        self._at = time.perf_counter()

    def wait(self, stream: Any = None) -> None:
        pass

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from here to there.

        Raises:
            RuntimeError: one of them does not keep time or was not recorded, as torch has it.
        """
        if not (self._timed and end_event._timed):
            raise RuntimeError("Both events must be created with argument 'enable_timing=True'.")
        if self._at is None or end_event._at is None:
            raise RuntimeError("Both events must be recorded before calculating elapsed time.")
        return (end_event._at - self._at) * 1e3

    def __repr__(self) -> str:
        return "<torch.cuda.Event (emulated)>"
