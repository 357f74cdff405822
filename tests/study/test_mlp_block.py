"""The MLP block of Table 1, at a toy size on the CPU."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
from by_name import blocks

from precision_lab.devices.cpu import Cpu
from precision_lab.functions import SILU, SWIGLU, XIELU
from precision_lab.implementations.subject import implementation_of
from precision_lab.results import Block
from precision_lab.results.profile import DEFAULT
from precision_lab.results.strict_json import strict_json
from precision_lab.study.mlp_block import Shape

SUBJECTS = [implementation_of(subject) for subject in DEFAULT.timing.blocks]
SMALL = Shape(model_width=24, hidden=36, gated_hidden=24, tokens=16)


def test_every_subject_has_its_row_and_silu_is_the_measure() -> None:
    eager = [s for s in SUBJECTS if not s.execution.compiled]
    found = blocks(shape=SMALL, rounds=2, subjects=eager)
    assert [(b.function, b.implementation, b.execution) for b in found] == [
        (s.function.name, s.name, s.execution.name) for s in eager
    ]
    assert all(b.failure is None and b.time_ms > 0 for b in found), [b.failure for b in found]
    assert found[0].ratio_to_silu == 1.0
    assert {b.function: b.hidden for b in found}["swiglu"] == 24
    # 16 × 36 numbers between the products, in bf16, and as many gradients.
    assert all(2 * 16 * 24 * 2 / 2**20 < b.peak_mib < 1 for b in found)
    assert found[0].memory_to_silu == 1.0


def test_ratios_refer_to_silu_wherever_it_stands() -> None:
    silu, gelu = SUBJECTS[:2]
    last = blocks(shape=SMALL, rounds=2, subjects=[gelu, silu])[1]
    assert last.function == SILU.name and last.ratio_to_silu == 1.0
    assert math.isnan(blocks(shape=SMALL, rounds=1, subjects=[gelu])[0].ratio_to_silu)


def test_a_block_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from precision_lab.exceptions import KernelError
    from precision_lab.study import mlp_block

    usual = mlp_block.call

    def failing(implementation, *rest):  # type: ignore[no-untyped-def]
        if implementation.function.name == "gelu":
            raise KernelError("raised", "out of order")
        return usual(implementation, *rest)

    monkeypatch.setattr(mlp_block, "call", failing)
    silu, gelu = blocks(shape=SMALL, rounds=1, subjects=SUBJECTS[:2])
    assert silu.failure is None
    assert gelu.failure is not None and math.isnan(gelu.time_ms)


@pytest.mark.parametrize("context", [False, True], ids=["out of memory", "lost context"])
def test_a_block_that_fails_while_it_is_timed_leaves_the_others(
    context: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from precision_lab.study import mlp_block

    usual, calls = mlp_block.call, []

    def failing(implementation, *rest):  # type: ignore[no-untyped-def]
        if implementation.function.name == "gelu":
            calls.append(1)
            if len(calls) == 4:  # the second round; the first two are not timed
                if context:
                    raise RuntimeError("CUDA error: an illegal memory access was encountered")
                raise torch.OutOfMemoryError("CUDA out of memory")
        return usual(implementation, *rest)

    monkeypatch.setattr(mlp_block, "call", failing)
    silu, gelu, relu2 = blocks(shape=SMALL, rounds=3, subjects=SUBJECTS[:3])
    assert gelu.failure is not None and math.isnan(gelu.time_ms) and gelu.repeats == 0
    assert gelu.failure.kind == ("crashed" if context else "out_of_memory")
    assert silu.failure is None and relu2.failure is None
    assert (silu.repeats, relu2.repeats) == ((2, 1) if context else (3, 3))


def test_on_a_lost_device_nothing_is_tried() -> None:
    found = blocks(device="cuda", shape=SMALL, rounds=1, subjects=SUBJECTS[:2], lost="x destroyed it")
    assert [b.failure and (b.failure.kind, b.failure.message) for b in found] == [
        ("device_lost", "x destroyed it")
    ] * 2


def test_the_default_shape_is_the_papers() -> None:
    assert (Shape().width(XIELU), Shape().width(SWIGLU), Shape().tokens) == (9216, 6144, 4096)
    assert Shape().model_width == 1536
    with pytest.raises(ValueError, match="rounds=0"):
        blocks(rounds=0)


def test_medians_quartiles_and_ratios_are_of_each_blocks_own_rounds() -> None:
    seconds = iter([0.004, 0.010, 0.001, 0.030, 0.002, 0.020, 0.003, 0.050, 0.005, 0.040])

    peaks = iter([300.0, 450.0])

    class Told(Cpu):
        def seconds(self, work: object) -> float:
            return next(seconds)

        def peak_mebibytes(self, work: object) -> float:
            return next(peaks)

    silu, gelu = blocks(device=Told("cpu"), shape=SMALL, rounds=5, subjects=SUBJECTS[:2])
    assert (silu.time_ms_low, silu.time_ms, silu.time_ms_high) == pytest.approx((2.0, 3.0, 4.0))
    assert (gelu.time_ms_low, gelu.time_ms, gelu.time_ms_high) == pytest.approx((20.0, 30.0, 40.0))
    assert (silu.ratio_to_silu, silu.memory_to_silu) == (1.0, 1.0)
    assert silu.times_ms == pytest.approx((4.0, 1.0, 2.0, 3.0, 5.0))
    assert gelu.times_ms == pytest.approx((10.0, 30.0, 20.0, 50.0, 40.0))
    assert Block.from_json(json.loads(strict_json(asdict(gelu)))) == gelu
    earlier = {k: v for k, v in asdict(gelu).items() if k != "times_ms"}
    assert Block.from_json(earlier).times_ms == ()
    assert (gelu.ratio_to_silu, gelu.memory_to_silu) == pytest.approx((10.0, 1.5))
    assert (gelu.peak_mib, gelu.repeats, gelu.gated) == (450.0, 5, False)
