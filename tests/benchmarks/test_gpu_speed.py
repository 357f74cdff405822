"""The lab's own times on a GPU, printed and not asserted: `tox -e gpu -- tests/benchmarks -m bench -s`."""

from __future__ import annotations

import time

import pytest
import torch
from by_name import get_implementation, measure_all, on_device, sweep, time_implementations

from precision_lab.devices import CUDA
from precision_lab.formats import get_format
from precision_lab.implementations import IMPLEMENTATIONS
from precision_lab.study.timing import BOTH

pytestmark = [pytest.mark.gpu, pytest.mark.bench]


def _seconds(work: object) -> float:
    torch.cuda.synchronize()
    start = time.perf_counter()
    work()  # type: ignore[operator]
    torch.cuda.synchronize()
    return time.perf_counter() - start


def test_all_fp32_inputs() -> None:
    """Certifying 2^32 inputs: the forward alone, and all four outputs that the paper trains with."""
    for name, execution in (("expm1", "eager"), ("stable", "operator"), ("naive", "triton")):
        subject = on_device(get_implementation("xielu", name, execution), "cuda")
        for outputs in (("forward",), ("forward", "grad_x", "grad_alpha_p", "grad_alpha_n")):
            sweep(subject, "bf16", outputs)  # compiles
            spent = _seconds(lambda s=subject, o=outputs: sweep(s, "fp32", o, shards=1))
            print(f"{subject.label}: all fp32 inputs, {len(outputs)} outputs: {spent:.2f} s")


def test_all_16_bit_inputs_of_all_subjects() -> None:
    subjects = [on_device(i, "cuda") for i in IMPLEMENTATIONS.values() if i.runs_on(CUDA)]
    subjects = [i for i in subjects if not i.execution.compiled]

    def everything() -> None:
        for subject in subjects:
            for fmt in ("bf16", "fp16"):
                if get_format(fmt) in subject.formats:
                    measure_all(subject, subject.measured_outputs(), fmt)

    everything()  # compiles
    print(f"{len(subjects)} subjects, bf16 and fp16, every output: {_seconds(everything):.2f} s")


def test_stable_against_bandwidth_silu_and_the_paper() -> None:
    chosen = [("stable", "operator"), ("eps-expm1", "eager"), ("eps-expm1", "compiled"), ("naive", "triton")]
    subjects = [on_device(get_implementation("xielu", n, e), "cuda") for n, e in chosen]
    rows = {(t.implementation, t.execution, t.direction): t for t in
            time_implementations(subjects, ("bf16",), rounds=25, device="cuda")}  # fmt: skip
    for (name, execution, direction), t in rows.items():
        eager = rows["eps-expm1", "eager", direction]
        share = t.bandwidth_share if t.bandwidth_share is not None else float("nan")
        print(
            f"{name} [{execution}] {direction}: {share:.1%} of copy bandwidth, {t.ratio_to_silu:.2f} × SiLU, "
            f"{eager.time_ns / t.time_ns:.2f} times as fast as the eager listing"
        )
    assert (("stable", "operator", BOTH)) in rows
