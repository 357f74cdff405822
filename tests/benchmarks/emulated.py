"""How fast kernels are executed on an emulated GPU, with torch's exponential in the same run: prints a table.

    python tests/benchmarks/emulated.py [--subjects]

Each line is a kernel by its PTX over 2^24 inputs, all patterns of the format repeated, forward, compiled
before; the plain engine has 2^20. `--subjects` also measures every Triton and CUDA kernel of the lab, all
outputs, both 16-bit formats, with every result that conforming devices may give.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

TARGET = "sm_90"
os.environ["PRECISION_LAB_DEVICE"] = TARGET

import numpy as np
import torch

from precision_lab.devices import get_device
from precision_lab.formats import get_format
from precision_lab.functions import get_function
from precision_lab.implementations import get_implementation
from precision_lab.measuring.measure import measure_all
from precision_lab.running.case import case_of
from precision_lab.running.placement import on_device
from precision_lab.running.runner import call, input_tensor, leaf_tensors
from precision_lab.study.settings import StudySettings

ROUNDS = 3
KERNELS = (
    ("naive", "triton"), ("expm1", "triton"), ("fast-exp", "triton"), ("libdevice-exp", "triton"),
    ("stable", "operator"),
)  # fmt: skip


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest round, after one that compiles."""
    work()
    spent = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return min(spent)


def rate(name: str, execution: str, fmt_name: str, bits: int) -> float:
    """Inputs a second."""
    device, fmt = get_device(TARGET), get_format(fmt_name)
    subject = on_device(get_implementation(get_function("xielu"), name, execution), device)
    case = case_of(subject, fmt, None, ("forward",))
    step = 1 << max(fmt.bits - bits, 0)
    patterns = (np.arange(1 << bits, dtype=np.uint64) * step % (1 << fmt.bits)).astype(fmt.bits_dtype)
    x, leaves = input_tensor(case, patterns), leaf_tensors(case)
    return (1 << bits) / best(lambda: call(subject, x, leaves))


def subjects() -> None:
    every = 0.0
    for name in ("bf16", "fp16"):
        functions = ("xielu", "elu", "xiprelu")
        settings = StudySettings(functions, formats=(name,), device=TARGET, timing=False, compiled=False)
        start, open_ = time.perf_counter(), []
        chosen = settings.implementations()
        for subject in chosen:
            for m in measure_all(case_of(subject, get_format(name), None)):
                if m.failure is not None or (m.conformity is not None and m.conformity.unknown):
                    open_.append(f"{subject.function.name} {subject.label} {m.output}")
        spent = time.perf_counter() - start
        every += spent
        print(f"{name}: {len(chosen)} subjects, every output: {spent:.1f} s; not examined: {open_ or 'none'}")
    print(f"both: {every:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--subjects", action="store_true")
    arguments = parser.parse_args()
    get_device(TARGET).require()
    threads, x = torch.get_num_threads(), torch.randn(1 << 24)
    print(
        f"{TARGET}, {os.cpu_count()} cores, torch with {threads} threads; million inputs a second, "
        f"best of {ROUNDS}"
    )
    exp = (1 << 24) / best(lambda: torch.exp(x)) / 1e6
    print(f"torch.exp, fp32, CPU: {exp:.1f}")
    for engine, bits in (("fast", 24), ("reference", 20)):
        os.environ["PRECISION_LAB_EMULATOR"] = engine
        for name, execution in KERNELS:
            for fmt in ("bf16", "fp16", "fp32"):
                found = rate(name, execution, fmt, bits) / 1e6
                print(
                    f"{engine}: {name} [{execution}], {fmt}: {found:.1f} ({found / exp:.2f} of torch.exp)",
                    flush=True,
                )
    os.environ["PRECISION_LAB_EMULATOR"] = "fast"
    if arguments.subjects:
        subjects()


if __name__ == "__main__":
    main()
