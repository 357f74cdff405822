"""What a process of a device's has said is told, raised or given here; one that died is a crash."""

from __future__ import annotations

import io
import pickle
from types import SimpleNamespace
from typing import Any

import pytest

from precision_lab.devices import get_device
from precision_lab.exceptions import InternalError, KernelError, UsageError
from precision_lab.running import own_process

DEVICE = get_device("sm_90")


def heard(*said: tuple[str, Any], cut: int = 0, code: int = 0, noise: str = "", progress: Any = None) -> Any:
    content = b""
    for each in said:
        job = pickle.dumps(each)
        content += len(job).to_bytes(8, "little") + job
    ended = SimpleNamespace(wait=lambda timeout: code)
    answers = io.BytesIO(content[: len(content) - cut])
    return own_process._heard(DEVICE, answers, progress, ended, io.BytesIO(noise.encode()))


def test_what_the_function_gives_there_it_gives_here_and_progress_is_told() -> None:
    told: list[tuple[Any, ...]] = []
    answer = heard(
        ("progress", ("running", 1, 2)), ("progress", ("running", 2, 2)), ("done", {"a": 1}),
        progress=lambda *words: told.append(words),
    )  # fmt: skip
    assert answer == {"a": 1} and told == [("running", 1, 2), ("running", 2, 2)]
    assert heard(("progress", ("running", 1, 2)), ("done", None)) is None


def test_what_the_function_raises_there_is_raised_here() -> None:
    with pytest.raises(UsageError, match="no such"):
        heard(("raised", UsageError("no such")))
    with pytest.raises(InternalError, match="engines differ"):
        heard(("internal", ("engines differ", "a trace")))


def test_an_answer_cut_short_is_a_crash_in_the_processes_own_words() -> None:
    with pytest.raises(
        KernelError, match=r"sm_90 ended with signal 11; the last it said: out of luck"
    ) as caught:
        heard(("done", 1), cut=1, code=-11, noise="first\nout of luck\n")
    assert caught.value.kind == "crashed"
    with pytest.raises(KernelError, match="ended with code 3; the last it said: nothing"):
        heard(code=3)


def test_a_device_of_this_process_is_called_here() -> None:
    assert own_process.on(get_device("cpu"), divmod, 7, 2) == (3, 1)
    with pytest.raises(UsageError, match="cannot be handed over"):
        own_process.on(DEVICE, lambda: None)
