"""Work that goes on elsewhere while this process does its own."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from precision_lab.study.elsewhere import Elsewhere


def test_it_begins_at_once_and_tells_how_far_it_is_only_when_it_is_waited_for() -> None:
    begun, told = threading.Event(), []

    def work(progress: Any) -> str:
        progress("there", 1, 3)
        begun.set()
        time.sleep(0.5)
        progress("there", 3, 3)
        return "done"

    with Elsewhere(work) as elsewhere:
        assert begun.wait(10)
        assert told == []
        assert elsewhere.result(lambda *words: told.append(words)) == "done"
    assert told[0] == ("there", 1, 3) and told[-1] == ("there", 3, 3)


def test_what_it_raises_is_raised_where_it_is_waited_for() -> None:
    def work(progress: Any) -> None:
        raise ValueError("there")

    with Elsewhere(work) as elsewhere, pytest.raises(ValueError, match="there"):
        elsewhere.result(lambda *words: None)


def test_an_error_here_ends_it() -> None:
    ended = []

    def work(progress: Any) -> None:
        try:
            for k in range(10_000):
                progress("there", k, 10_000)
                time.sleep(0.01)
        except BaseException:
            ended.append(True)
            raise

    with pytest.raises(KeyError), Elsewhere(work):
        time.sleep(0.05)
        raise KeyError("here")
    assert ended == [True]
