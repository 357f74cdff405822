"""The time beside an error is that of the kernel's own calls, and changes nothing else."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from by_name import as_implementation, get_implementation, measure_all, sweep
from report_page import unfolded
from sample_results import measurement, sample_results

import precision_lab as pl
from precision_lab.devices import get_device
from precision_lab.implementations.base import Implementation
from precision_lab.report.document import html, markdown
from precision_lab.results import Measurement, strict_json
from precision_lab.results.execution import COMPILED
from precision_lab.running.clock import Clock, first_call, is_plain

RELU = get_implementation("relu", "torch", "eager")
SLEEP = 0.02  # seconds, and in the backward pass ten times as long
INPUTS = np.arange(-2048, 2048) / 1024


class Slow(torch.autograd.Function):
    """ReLU that waits for as long as it is told in the forward and the backward pass."""

    @staticmethod
    def forward(ctx, x):  # type: ignore[no-untyped-def]
        time.sleep(SLEEP)
        ctx.save_for_backward(x)
        return torch.relu(x)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        time.sleep(10 * SLEEP)
        return grad * (ctx.saved_tensors[0] > 0)


def slow() -> Implementation:
    return as_implementation(lambda x: Slow.apply(x), "relu", ("fp32", "bf16"))


def test_a_kernels_own_time_is_measured_and_its_first_call_left_out() -> None:
    kernel = slow()
    first = measure_all(kernel, ("forward", "grad_x"), "fp32", inputs=INPUTS)
    assert [m.time_ns_per_element for m in first] == [None, None]
    forward, gradient = measure_all(kernel, ("forward", "grad_x"), "fp32", inputs=INPUTS)
    n = forward.n_inputs
    assert forward.time_ns_per_element is not None and gradient.time_ns_per_element is not None
    # As long as it slept: on a busy machine longer, and never for less.
    assert 1e9 * SLEEP <= forward.time_ns_per_element * n < 1e9 * 8 * SLEEP
    assert gradient.time_ns_per_element * n >= 1e9 * 11 * SLEEP
    assert first == [forward, gradient]


def test_what_only_the_lab_does_is_not_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scoring, and switches that are put back after a call, take their time without being counted."""
    from precision_lab.implementations import switches
    from precision_lab.running import runner

    kept, real = [], switches._SWITCHES
    monkeypatch.setattr(
        switches, "_SWITCHES",
        (*real, ("slow to read", lambda: kept.append(time.sleep(5 * SLEEP)), lambda _: None)),
    )  # fmt: skip
    monkeypatch.setattr(runner, "to_numpy", lambda *a, f=runner.to_numpy: (time.sleep(5 * SLEEP), f(*a))[1])
    (m,) = measure_all(RELU, ("forward",), "fp32", inputs=INPUTS)
    assert kept and m.time_ns_per_element is not None
    assert 0 < m.time_ns_per_element * m.n_inputs < 1e9 * 5 * SLEEP


def test_a_kernel_of_the_labs_own_list_has_a_time_at_once() -> None:
    m = pl.measure("torch", "relu", fmt="bf16")
    assert is_plain(RELU) and m.time_ns_per_element is not None and m.time_ns_per_element > 0
    assert not is_plain(slow()) and not is_plain(replace(RELU, execution=COMPILED))


def test_a_call_of_a_few_elements_is_not_timed() -> None:
    few, enough = (measure_all(RELU, ("forward",), "fp32", inputs=INPUTS[k:])[0] for k in (1, 0))
    assert few.time_ns_per_element is None and enough.time_ns_per_element is not None


def test_what_may_be_compiled_anew_is_a_first_call() -> None:
    kernel, x = slow(), frozenset({"x"})
    kinds = [((8,), torch.float32, x), ((9,), torch.float32, x), ((8,), torch.bfloat16, x),
             ((8,), torch.float32, frozenset())]  # fmt: skip
    for shape, dtype, sources in kinds:
        assert first_call(kernel, shape, dtype, sources)
        assert not first_call(kernel, shape, dtype, sources)
        assert not first_call(replace(kernel, name="renamed"), shape, dtype, sources)
    assert first_call(slow(), (8,), torch.float32, x)
    assert first_call(replace(kernel, execution=COMPILED), (8,), torch.float32, x)
    assert not first_call(replace(kernel, execution=COMPILED), (7,), torch.float32, x)  # serves every length


def test_a_kernel_that_cannot_be_known_again_is_never_timed() -> None:
    class Bare:
        __slots__ = ()

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x)

        def __eq__(self, other: object) -> bool:
            raise AssertionError("nobody asked")

        __hash__ = None  # type: ignore[assignment]

    kernel = replace(slow(), kernel=Bare())
    assert all(first_call(kernel, (8,), torch.float32, frozenset()) for _ in range(3))


def test_a_call_that_raises_is_not_counted_and_elements_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter((0, 100, 1100, 2000, 5000, 6000, 13000))  # one that raises, then 1000, 3000 and 7000 ns
    monkeypatch.setattr(time, "perf_counter_ns", lambda: next(ticks))
    clock = Clock(RELU)
    with pytest.raises(ZeroDivisionError), clock.running("forward", 1):
        raise ZeroDivisionError
    assert clock.per_element("forward") is None
    for elements in (100, 300):
        with clock.running("forward", elements):
            pass
    assert (clock.per_element("forward"), clock.per_element("grad_x")) == (10.0, None)
    with clock.running("backward", 1000):
        pass
    assert (clock.per_element("forward"), clock.per_element("grad_x")) == (10.0, 17.0)


def test_a_devices_work_is_waited_for_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(torch.cuda, "synchronize", seen.append)
    with Clock(replace(RELU, device=get_device("cuda:1"))).running("forward", 1):
        seen.append("work")
    with Clock(RELU).running("forward", 1):
        pass
    assert seen == [torch.device("cuda:1"), "work", torch.device("cuda:1")]


def test_a_sweep_has_a_time_that_neither_its_digest_nor_its_files_have(tmp_path: Path) -> None:
    # All 2^16 patterns are one call, and what has not been called so before in this process is not timed.
    first = sweep(RELU, "bf16", ("forward", "grad_x"))
    swept = sweep(RELU, "bf16", ("forward", "grad_x"), directory=tmp_path)
    assert (first.digest, first.measurements) == (swept.digest, swept.measurements)
    assert all(m.time_ns_per_element for m in swept.measurements)
    kept = json.loads((tmp_path / "measurements.json").read_text(encoding="utf-8"))["measurements"]
    assert [m["time_ns_per_element"] for m in kept] == [None, None]
    resumed = sweep(RELU, "bf16", ("forward", "grad_x"), directory=tmp_path, resume=True)
    assert [m.time_ns_per_element for m in resumed.measurements] == [None, None]  # nothing was run


def test_measurements_that_differ_in_time_alone_are_equal_and_keep_it_in_json() -> None:
    m = replace(measurement(), time_ns_per_element=1.25)
    assert m == replace(m, time_ns_per_element=None)
    again = Measurement.from_json(json.loads(strict_json(m.to_json())))
    assert again.time_ns_per_element == 1.25
    whole = json.loads(strict_json(replace(m, time_ns_per_element=2.0).to_json()))
    whole["time_ns_per_element"] = 2
    assert isinstance(Measurement.from_json(whole).time_ns_per_element, float)


def test_the_report_has_times_beside_errors_where_there_are_any() -> None:
    results = sample_results()
    assert "ns per element)" not in unfolded(html(results))
    assert "ns per element)" not in "".join(markdown(results, []).values())
    rows = [replace(m, time_ns_per_element=12.345) if m.fmt == "bf16" else m for m in results.measurements]
    timed = replace(results, measurements=tuple(rows))
    text = "\n".join(text for name, text in markdown(timed, []).items() if "regions-" in name)
    tables = dict(part.split("\n", 1) for part in text.split("## ")[1:])
    assert "time (ns per element) |" in tables["xielu in bf16"] and "| 12.3 |\n" in tables["xielu in bf16"]
    assert "ns per element" not in tables["xielu in fp16"]
    assert unfolded(html(timed)).count("time (ns per element)</th>") == len(
        {m.function for m in rows if m.fmt == "bf16"}
    )
