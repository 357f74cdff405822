"""Timings are complete and consistent; nothing is said about how fast anything is."""

from __future__ import annotations

import dataclasses
import weakref

import pytest
import torch
from by_name import as_implementation, get_implementation, time_implementations

from precision_lab.devices import CUDA
from precision_lab.devices.cpu import Cpu
from precision_lab.formats import BF16, FP32
from precision_lab.study import timing
from precision_lab.study.timing import BOTH


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


def test_the_host_gets_ahead_before_a_gpus_clock_starts(monkeypatch):
    """Otherwise an empty stream waits for each launch, and the clock runs meanwhile."""
    done = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            done.append("record")

        def synchronize(self):
            done.append("synchronize")

        def elapsed_time(self, end):
            return 2.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda cycles: done.append("sleep"), raising=False)
    assert CUDA.seconds(lambda: done.append("work")) == 2e-3
    assert done == ["sleep", "record", "work", "record", "synchronize"]


class LikeAGPU(Cpu):
    """Takes each implementation alone, and times both directions together, on the CPU."""

    is_accelerator = True

    def seconds(self, work):
        work()
        return 1e-3


GPU = LikeAGPU("cpu")


@dataclasses.dataclass(frozen=True)
class Scripted(Cpu):
    """Takes the seconds that are given for what a piece of work returns, one after the other."""

    is_accelerator: bool = False
    script: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    def seconds(self, work):
        return self.script[work()].pop(0)


def test_on_a_gpu_no_implementations_tensors_outlive_its_turn():
    alive = weakref.WeakSet()
    seen = []

    def kernel(x, **_):
        seen.append(len(alive))
        y = torch.relu(x)
        alive.add(y)
        return y

    subjects = [
        dataclasses.replace(as_implementation(kernel, "relu", ("fp32",)), name=str(k)) for k in range(5)
    ]
    timings = time_implementations(subjects, ("fp32",), n=256, rounds=2, device=GPU)
    assert {(t.implementation, t.direction) for t in timings if not t.failure} == {
        (str(k), direction) for k in range(5) for direction in ("forward", "backward", BOTH)
    }
    assert max(seen) == max(seen[: len(seen) // 5])


def test_memory_that_runs_out_while_timing_means_fewer_elements(monkeypatch):
    monkeypatch.setattr(timing, "DEVICE_BYTES", 1024)
    limit = 1000
    usual = torch.nn.functional.silu
    calls = []

    def kernel(x, **_):
        calls.append(x.numel())
        if x.numel() > limit and len(calls) > 5:  # prepared, and then timed
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore")
        return usual(x)

    hungry = as_implementation(kernel, "silu", ("fp32",))
    others = get_implementation("relu", "torch")
    found = time_implementations((hungry, others), ("fp32",), n=4096, rounds=2, device=GPU)
    assert {(t.function, t.n, t.failure) for t in found} == {("silu", 512, None), ("relu", 4096, None)}
    limit = 0
    found = time_implementations((hungry, others), ("fp32",), n=4096, rounds=2, device=GPU)
    failed = [t for t in found if t.failure]
    assert {(t.function, t.n, t.failure.kind, t.failure.message) for t in failed} == {
        ("silu", 256, "out_of_memory", "256 elements: CUDA out of memory. Tried to allocate")
    }
    assert {t.direction for t in failed} == {"forward", "backward", BOTH}
    assert len(found) == 6


def test_on_the_cpu_a_failure_while_timing_is_a_row_and_the_others_go_on():
    calls = []

    def kernel(x, **_):
        calls.append(x)
        if len(calls) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return torch.relu(x)

    tired = as_implementation(kernel, "relu", ("fp32",))
    found = time_implementations((tired, get_implementation("silu", "torch")), ("fp32",), n=64, rounds=3)
    failed = {(t.function, t.direction) for t in found if t.failure}
    assert failed == {("relu", "forward")} and len(found) == 4


def test_a_kernel_that_destroys_the_gpus_context_keeps_what_was_timed():
    def kernel(x, **_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    lost = as_implementation(kernel, "relu", ("fp32", "bf16"))
    first, last = get_implementation("silu", "torch"), get_implementation("relu2", "torch")
    found = time_implementations((first, lost, last), ("fp32", "bf16"), n=64, rounds=2, device=GPU)
    kinds = {(t.function, t.fmt): t.failure.kind if t.failure else "" for t in found}
    assert kinds == {
        ("silu", "fp32"): "", ("relu", "fp32"): "crashed", ("relu2", "fp32"): "device_lost",
        ("silu", "bf16"): "device_lost", ("relu", "bf16"): "device_lost", ("relu2", "bf16"): "device_lost",
    }  # fmt: skip
    assert len(found) == 18
    assert all("relu kernel [eager] destroyed" in t.failure.message for t in found if t.failure)


def test_bytes_are_those_of_the_stored_formats():
    te = get_implementation("silu", "transformer-engine to e4m3", "te")
    silu = get_implementation("silu", "torch")
    assert timing._bytes_moved(te, BF16, "forward") == 3
    assert [timing._bytes_moved(silu, BF16, d) for d in ("forward", "backward", BOTH)] == [4, 6, 10]
    assert timing._bytes_moved(silu, FP32, "forward") == 8


def test_figures_are_medians_and_quartiles_of_each_contenders_rounds():
    """A copy of 2 ms, SiLU of 4 ms, and a kernel whose rounds are 5 to 9 ms, on 1000 elements of bf16."""
    rounds = {"copy": [2e-3] * 5, "forward": [4e-3] * 5, "kernel": [9e-3, 5e-3, 7e-3, 6e-3, 8e-3]}
    device = Scripted("cpu", script=rounds)
    kernel = get_implementation("xielu", "naive")
    contenders = [
        timing.Contender(implementation, direction, lambda name=name: name, 3.25)
        for implementation, direction, name in (
            (None, "copy", "copy"), (None, "forward", "forward"), (kernel, "forward", "kernel"),
        )
    ]  # fmt: skip
    (t,) = timing._measure(contenders, timing.Turns(BF16, 1000, 5, device))
    assert (t.time_ns_low, t.time_ns, t.time_ns_high) == pytest.approx((6000.0, 7000.0, 8000.0))
    assert (t.ratio_to_silu, t.ratio_to_copy) == pytest.approx((7 / 4, 7 / 2))
    assert t.effective_gb_per_s == pytest.approx(4 / 7000)  # two bytes read and two written
    assert (t.n, t.repeats, t.compile_seconds, t.bandwidth_share) == (1000, 5, None, None)


def test_on_a_gpu_the_share_of_bandwidth_is_a_copys():
    times = {"copy": [2e-3], "forward+backward": [4e-3], "kernel": [10e-3]}
    device = Scripted("cpu", is_accelerator=True, script=times)
    kernel = get_implementation("xielu", "naive")
    contenders = [
        timing.Contender(None, "copy", lambda: "copy", 0.0),
        timing.Contender(None, BOTH, lambda: BOTH, 0.0),
        timing.Contender(kernel, BOTH, lambda: "kernel", 0.0),
    ]
    (t,) = timing._measure(contenders, timing.Turns(BF16, 1000, 1, device))
    # Ten bytes an element in 10 ms, where the copy moves four in 2 ms.
    assert t.bandwidth_share == pytest.approx((10 / 10) / (4 / 2))


def test_as_many_elements_as_memory_has_room_for(monkeypatch):
    each = 4 * (12 + 4 * timing.DEVICE_SETS)
    for free, n in ((each * 2**27, 2**27), (each * 2**27 - 1, 2**26), (each * 2**20, 2**20), (0, 2**16)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 0))
        assert timing._that_fit(CUDA) == n
