"""What kernels cost as compiled for a GPU that is not there: known kernels, and the lab's own."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from emulation import require

from precision_lab.devices import CPU, get_device
from precision_lab.emulator.units import FP32, FP64, GPUS, ISSUE, RATES, SPECIAL, gpus_of
from precision_lab.exceptions import UsageError
from precision_lab.formats import get_format
from precision_lab.functions import get_function
from precision_lab.implementations.adapters.target import Called
from precision_lab.measuring.cost import cost_of_target, require_emulated
from precision_lab.results.cost import BY_INSTRUCTIONS, BY_MEMORY, Cost, DirectionCost
from precision_lab.running.own_process import on

require("triton", "cuda.bindings")
HELPERS = Path(__file__).parents[1] / "helpers"


@functools.cache
def counted(target: str, function: str, fmt: str, device: str = "sm_90") -> Cost:
    place = get_device(device)
    called = Called(f"{HELPERS}/{target}" if ":" in target else target)
    return on(place, cost_of_target, called, get_function(function), get_format(fmt), {}, place)


def passes(found: Cost) -> tuple[DirectionCost, DirectionCost]:
    forward, backward = (found.direction(name) for name in ("forward", "backward"))
    assert forward is not None and backward is not None
    return forward, backward


def test_a_kernel_of_one_thread_an_element_costs_what_its_listing_has() -> None:
    forward, backward = passes(counted("cost_kernels.cu:silu", "silu", "fp32"))
    (launch,) = forward.launches
    assert (launch.kernel, launch.block, launch.grid) == ("silu", (256, 1, 1), (2**15, 1, 1))
    # One exp2 and one reciprocal; a quotient's rare operands are not among normal numbers.
    assert forward.units[SPECIAL] == 2 and forward.least == forward.most < forward.longest
    assert (forward.due, launch.loaded, launch.stored) == (8, 4, 4) and forward.moved == pytest.approx(8)
    assert (backward.due, backward.moved) == (12, pytest.approx(12))
    assert launch.spilled == 0 and launch.stack_bytes == 0 and launch.occupancy == 1
    assert (forward.opcodes["MUFU.EX2"], forward.opcodes["MUFU.RCP"]) == (1, 1)
    assert (forward.opcodes["LDG"], forward.opcodes["STG"]) == (1, 1)
    assert sum(forward.opcodes.values()) == pytest.approx(forward.most)
    assert not forward.failure and not backward.failure


def test_what_walks_over_the_tensor_costs_what_one_more_element_adds() -> None:
    found = counted("cost_kernels.cu:strided", "relu2", "fp32")
    forward, backward = passes(found)
    (launch,) = forward.launches
    assert launch.grid == (1024, 1, 1) and found.elements[1] == 2 * found.elements[0]
    # x is read once, squared once and written once; the rest is the loop's.
    assert (launch.loaded, launch.stored) == (pytest.approx(4), pytest.approx(4))
    assert forward.units["FP32"] == pytest.approx(1) and 4 <= forward.most <= 12
    assert forward.opcodes["FMUL"] == pytest.approx(1) and forward.opcodes["LDG"] == pytest.approx(1)
    assert launch.once > 0
    assert backward.failure.startswith("not_differentiable")


@pytest.mark.slow
def test_sums_into_a_parameter_are_counted_and_what_ran_on_the_cpu_is_named() -> None:
    forward, backward = passes(counted("naive [cuda]", "xielu", "bf16"))
    assert not forward.note and "sum" in backward.note
    assert (
        backward.moved == pytest.approx(12) and backward.due == 6
    )  # gradients of parameters, an element each


def test_the_stable_kernels_are_bound_by_memory_on_an_h200_with_a_margin_of_a_tenth() -> None:
    """By this count, which is no time: `reports/h200` has what was measured."""
    for direction in passes(counted("stable [operator]", "xielu", "bf16")):
        (share,) = (s for s in direction.shares if s.gpu == "H200")
        assert share.bound == BY_MEMORY and share.largest <= 0.9, direction
        assert direction.moved == pytest.approx(direction.due, rel=1e-3)
        assert all(launch.spilled == 0 for launch in direction.launches)
        assert direction.least == direction.most


@pytest.mark.slow
@pytest.mark.parametrize("device", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("function", ["xielu", "xiprelu"])
@pytest.mark.parametrize("fmt", ["bf16", "fp16", "fp32"])
def test_every_stable_kernel_is_counted(device: str, function: str, fmt: str) -> None:
    for direction in passes(counted("stable [operator]", function, fmt, device)):
        assert not direction.failure and 0 < direction.least <= direction.most <= direction.longest
        assert direction.moved == pytest.approx(direction.due, rel=1e-3)


@pytest.mark.slow
def test_expm1_is_not_bound_by_memory_on_an_h200() -> None:
    for direction in passes(counted("expm1 [triton]", "xielu", "bf16")):
        (share,) = (s for s in direction.shares if s.gpu == "H200")
        assert share.bound == BY_INSTRUCTIONS and share.unit == ISSUE


def test_what_only_calls_operators_of_torchs_is_not_counted() -> None:
    forward, backward = passes(counted("naive", "xielu", "bf16"))
    for direction in (forward, backward):
        assert direction.failure.startswith("no kernel was launched") and "mul" in direction.failure


def test_only_an_emulated_gpu_is_counted_for() -> None:
    with pytest.raises(UsageError, match="--device sm_90"):
        require_emulated(CPU)


@pytest.mark.parametrize(
    ("name", "fp32", "fp64"),
    [("A100 80GB SXM", 19.5, 9.7), ("H100 SXM", 67.0, 34.0), ("H200", 67.0, 34.0), ("B200", 75.0, 37.0)],
)
def test_rates_multiply_to_the_peaks_of_data_sheets(name: str, fp32: float, fp64: float) -> None:
    """In 10¹² operations a second, of which a multiplication with an addition is two."""
    (gpu,) = (gpu for gpu in GPUS if gpu.name == name)
    for unit, peak in ((FP32, fp32), (FP64, fp64)):
        found = 2 * gpu.multiprocessors * RATES[gpu.capability][unit] * gpu.clock / 1e12
        assert found == pytest.approx(peak, rel=0.02)


def test_a_gpu_has_so_many_slots() -> None:
    (h200,) = (gpu for gpu in GPUS if gpu.name == "H200")
    # 132 multiprocessors of 128 slots at 1.98 GHz, while 4.192 TB/s are copied: 31.9 for 4 bytes.
    assert h200.share(ISSUE, 31.92 / 4) == pytest.approx(1.0, rel=1e-3)
    assert h200.share(SPECIAL, 1.0) == pytest.approx(8 * h200.share(ISSUE, 1.0))
    assert {gpu.name for gpu in gpus_of("sm_90")} == {"H100 SXM", "H200"} and gpus_of("sm_75") == ()
    assert {gpu.capability for gpu in GPUS} == set(RATES)
    assert [gpu.name for gpu in GPUS if gpu.copy_is_measured] == ["H200"]
