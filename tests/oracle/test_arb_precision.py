"""Arb's precision is one number for all threads: whoever sets it has it alone."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import flint
import numpy as np
import pytest

import precision_lab
from precision_lab.formats import BF16
from precision_lab.functions import Activation, get_function
from precision_lab.oracle.arb_precision import working_precision
from precision_lab.oracle.certified import certified_reference


def test_one_thread_at_a_time() -> None:
    inside, leave, entered = threading.Event(), threading.Event(), threading.Event()
    seen: list[tuple[int, int]] = []

    def first() -> None:
        with working_precision(64, 3):
            inside.set()
            assert leave.wait(60)
            seen.append((flint.ctx.prec, flint.ctx.cap))

    def second() -> None:
        assert inside.wait(60)
        with working_precision(200, 9):
            entered.set()
            seen.append((flint.ctx.prec, flint.ctx.cap))

    before = flint.ctx.prec, flint.ctx.cap
    threads = [threading.Thread(target=work) for work in (first, second)]
    for thread in threads:
        thread.start()
    assert inside.wait(60)
    too_early = entered.wait(0.2)
    leave.set()
    for thread in threads:
        thread.join()
    assert not too_early and seen == [(64, 3), (200, 9)]
    assert (flint.ctx.prec, flint.ctx.cap) == before


def test_blocks_within_blocks_and_errors_leave_what_was() -> None:
    before = flint.ctx.prec, flint.ctx.cap
    with working_precision(100, 5):
        with pytest.raises(ZeroDivisionError), working_precision(300):
            assert (flint.ctx.prec, flint.ctx.cap) == (300, 5)
            raise ZeroDivisionError
        assert (flint.ctx.prec, flint.ctx.cap) == (100, 5)
    assert (flint.ctx.prec, flint.ctx.cap) == before


@pytest.fixture
def hasty_switches() -> Iterator[None]:
    kept = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(kept)


@pytest.mark.usefixtures("hasty_switches")
def test_threads_settle_what_one_alone_does() -> None:
    """Values, bounds and counts of four threads at once, each with other outputs and inputs."""
    x = BF16.decode(BF16.all_bits()[::97]).astype(np.float64)
    x = x[np.isfinite(x)]
    outputs = [(f, o) for f in map(get_function, ("swish", "snake")) for o in f.outputs]
    work = [(f, o, part) for f, o in outputs for part in np.array_split(x, 3)]

    def settled(function: Activation, output: str, part: np.ndarray) -> list[bytes]:
        found = certified_reference(function, output, function.check_params(), part, BF16)
        return [v.tobytes() for v in vars(found).values() if isinstance(v, np.ndarray)]

    alone = [settled(*one) for one in work]
    before = flint.ctx.prec, flint.ctx.cap
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda one: settled(*one), work))
    assert together == alone
    assert (flint.ctx.prec, flint.ctx.cap) == before


def test_precision_is_set_in_one_place() -> None:
    package = Path(precision_lab.__file__).parent
    setting = re.compile(r"\bctx\.(prec|dps|cap|unicode|threads)\b[^=\n]*=[^=]")
    found = {p.name for p in package.rglob("*.py") if setting.search(p.read_text(encoding="utf-8"))}
    assert found == {"arb_precision.py"}
