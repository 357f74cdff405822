"""What a kernel changes in its process is put back at once, and named."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
import torch

from precision_lab.implementations.switches import changed_switches, random_state_kept, switches_kept
from precision_lab.verifying.verify import verify

CHANGES = {
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "grad": lambda: torch.set_grad_enabled(False),
    "threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "device": lambda: torch.set_default_device("meta"),
    "seed": lambda: torch.manual_seed(7),
}
WORDS = {
    "dtype": "torch's default dtype was changed from torch.float32 to torch.float64",
    "grad": "recording of gradients was changed from True to False",
    "threads": "torch's number of threads was changed",
    "deterministic": "torch's deterministic algorithms (on, only warning) was changed",
    "device": "torch's default device was changed from cpu to meta",
    "seed": "torch's random generator was seeded with 7",
}


def state() -> tuple[object, ...]:
    return (
        torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(), torch.get_default_device(), torch.initial_seed(),
        torch.get_rng_state().sum().item(), random.getstate(), np.random.get_state()[1].sum(),
        os.environ.get("TORCHINDUCTOR_CACHE_DIR"),
    )  # fmt: skip


# Around a backward, autograd itself sets recording and the default device back.
CASES = [(name, "forward") for name in CHANGES] + [
    (name, "backward") for name in CHANGES if name not in ("grad", "device")
]


@pytest.mark.parametrize(("name", "when"), CASES)
def test_a_switch_that_a_kernel_turns_is_turned_back_and_named(name: str, when: str) -> None:
    class Relu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # type: ignore[no-untyped-def]
            ctx.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, dy):  # type: ignore[no-untyped-def]
            (x,) = ctx.saved_tensors
            dx = dy * (x > 0)
            if when == "backward":
                CHANGES[name]()
            return dx

    def kernel(x):  # type: ignore[no-untyped-def]
        y = Relu.apply(x)
        if when == "forward":
            CHANGES[name]()
        return y

    before = state()
    verdict = verify(kernel, "relu", fmts=("bf16",), properties=False, isolate=False)
    assert state() == before
    assert {fault.kind for fault in verdict.faults} == {"alters_environment"}
    assert any(WORDS[name] in fault.message for fault in verdict.faults)


def test_random_numbers_may_be_drawn_and_are_put_back() -> None:
    def noisy(x):  # type: ignore[no-untyped-def]
        torch.rand(3), random.random(), np.random.rand()
        return torch.relu(x)

    before = state()
    verdict = verify(noisy, "relu", fmts=("bf16",), properties=False, isolate=False)
    assert state() == before
    assert verdict.passed, verdict.failures


def test_a_change_is_put_back_though_the_kernel_raises() -> None:
    before = state()
    with pytest.raises(ValueError), switches_kept():
        CHANGES["device"]()
        raise ValueError
    assert state() == before
    assert changed_switches() == [f"{WORDS['device']}"]
    assert changed_switches() == []


def test_random_states_are_kept_by_the_block() -> None:
    before = state()
    with random_state_kept():
        torch.manual_seed(1), random.seed(1), np.random.seed(1)
    assert state() == before
