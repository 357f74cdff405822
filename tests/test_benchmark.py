"""Timings are complete and consistent; nothing is said about how fast anything is."""

from __future__ import annotations

import pytest
import torch

from precision_lab.benchmark import time_implementations
from precision_lab.implementations import as_implementation, get_implementation


def test_every_contender_is_timed_in_both_directions():
    chosen = (get_implementation("xielu", "naive"), get_implementation("silu", "torch"))
    seen = []
    timings = time_implementations(
        chosen,
        ("fp32", "bf16"),
        n=4096,
        rounds=3,
        progress=lambda stage, done, total: seen.append((done, total)),
    )
    assert {(t.function, t.fmt, t.direction) for t in timings} == {
        (function, fmt, direction)
        for function in ("xielu", "silu")
        for fmt in ("fp32", "bf16")
        for direction in ("forward", "backward")
    }
    assert seen[-1] == (4, 4)
    for t in timings:
        assert 0 < t.time_ns_low <= t.time_ns <= t.time_ns_high
        assert t.ratio_to_silu > 0
        assert t.ratio_to_copy > 0
        assert (t.n, t.repeats) == (4096, 3)
        size = 4 if t.fmt == "fp32" else 2
        assert t.effective_gb_per_s == pytest.approx(
            (2 if t.direction == "forward" else 3) * size / t.time_ns
        )


def test_a_kernel_that_raises_is_recorded_and_the_others_go_on():
    def kernel(x, **_):
        raise RuntimeError("not today")

    broken = as_implementation(kernel, "relu", ("fp32",))
    timings = time_implementations((broken, get_implementation("relu", "torch")), ("fp32",), n=256, rounds=1)
    failures = [t for t in timings if t.failure]
    assert {(t.direction, t.failure.kind) for t in failures} == {
        ("forward", "raised"),
        ("backward", "raised"),
    }
    assert "not today" in failures[0].failure.message
    assert len(timings) == 4


def test_a_kernel_without_gradient_is_still_timed_forward():
    detached = as_implementation(lambda x, **_: torch.relu(x).detach(), "relu", ("fp32",))
    timings = {t.direction: t for t in time_implementations((detached,), ("fp32",), n=256, rounds=1)}
    assert timings["forward"].failure is None
    assert timings["backward"].failure is not None


@pytest.mark.parametrize("argument", [{"n": 0}, {"rounds": 0}])
def test_nothing_to_time_is_refused(argument):
    with pytest.raises(ValueError, match="both must be at least 1"):
        time_implementations((), ("fp32",), **argument)
