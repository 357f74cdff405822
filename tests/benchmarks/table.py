"""Writes the benchmark table: `python tests/benchmarks/table.py BENCHMARK.json OUT.md` (see `tox -e bench`).

Beside pytest-benchmark's figures it measures what needs processes of their own: scaling over
the number of inputs up to all 2^32, first use with and without a cache, peak memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

SCALING = """
import resource, sys, time
from precision_lab.measuring.every_input import CHUNK, sweep_chunks
from precision_lab.formats import FP32
from precision_lab.functions import XIELU
from precision_lab.implementations import get_implementation
from precision_lab.running.case import case_of
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
name, threads, bits = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
case = case_of(get_implementation(XIELU, name), FP32, None, ("forward",), inputs="exhaustive")
count = (1 << bits) // CHUNK
total = (1 << 32) // CHUNK
chunks = [i * total // count for i in range(count)]  # spread over all of the format
sweep_chunks(case, chunks[:4], workers=threads)
start = time.perf_counter()
sweep_chunks(case, chunks, workers=threads)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(seconds, before / 1024, peak / 1024)
"""

FIRST_USE = """
import time
import numpy as np, torch
start = time.perf_counter()
import numba
from precision_lab.scoring.patterns import Patterns
from precision_lab.scoring.scorer import Scorer
from precision_lab.scoring.standard import Standard
from precision_lab.inputs.cells import cells
from precision_lab.formats import BF16
from precision_lab.functions import XIELU
from precision_lab.oracle.curve import Curve
imported = time.perf_counter()
source = BF16
bits = source.all_bits()
params = {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.5}
found = cells(source, XIELU, params)
scorer = Scorer((Standard(Curve(XIELU, "forward", params), found, source),))
patterns = bits.astype(np.uint64)
x = source.decode(bits).astype(np.float32)
scorer.score(x, [x], found.runs(patterns), Patterns.of(patterns))
scorer.finish()
print(imported - start, time.perf_counter() - imported)
"""

FILES = {
    "my_functions.py": """import precision_lab as pl
from precision_lab.math import sigmoid

@pl.activation(beta=1.702)
def sloped(x, beta):
    return x * sigmoid(beta * x)
""",
    "kernels.py": """import torch

def sloped(x, beta):
    return x * torch.sigmoid(beta * x)
""",
}
# What a function costs that nobody registered, for all inputs of fp32: the pieces and the compiled scorer.
FORMULA = (
    FILES["my_functions.py"]
    + """
import time
import numpy as np
from precision_lab.scoring.patterns import Patterns
from precision_lab.scoring.scorer import Scorer
from precision_lab.scoring.standard import Standard
from precision_lab.inputs.cells import cells
from precision_lab.formats import FP32
from precision_lab.oracle.curve import Curve

start = time.perf_counter()
params = sloped.check_params()
found = cells(FP32, sloped, params)
scorer = Scorer(tuple(Standard(Curve(sloped, o, params), found, FP32) for o in ("forward", "grad_x")))
for first in (0x3F800000, 0xBF800000):
    bits = np.arange(first, first + 4096, dtype=np.uint32)
    x = bits.view(np.float32)
    scorer.score(x, [x, x], found.runs_between(first, first + 4096), Patterns(first))
scorer.finish()
print(time.perf_counter() - start)
"""
)
VERIFY = (
    "-m", "precision_lab", "verify", "kernels.py:sloped", "--function", "my_functions.py:sloped",
    "--format", "bf16", "--output", "forward", "--output", "grad_x",
)  # fmt: skip
TORCH_ALONE = """
import torch
x = torch.arange(-32768, 32768, dtype=torch.int16).view(torch.bfloat16).requires_grad_()
y = x * torch.sigmoid(1.702 * x)
y.sum().backward()
"""


def verify_seconds() -> tuple[float, float, float]:
    """From starting a process to its end, nothing cached: torch with the kernel; verify without properties,
    and with all."""
    commands: list[tuple[str, ...]] = [("-c", TORCH_ALONE), (*VERIFY, "--properties", "none"), VERIFY]
    found: list[list[float]] = [[], [], []]
    with tempfile.TemporaryDirectory() as folder:
        for name, text in FILES.items():
            (Path(folder) / name).write_text(text)
        for attempt in range(5):
            for times, command in zip(found, commands, strict=True):
                cache = Path(folder) / f"cache-{attempt}-{len(command)}"
                start = time.perf_counter()
                done = subprocess.run(
                    [sys.executable, *command],
                    cwd=folder,
                    env={**os.environ, "XDG_CACHE_HOME": str(cache)},
                    capture_output=True,
                )
                times.append(time.perf_counter() - start)
                if done.returncode not in (0, 1):  # the kernel need not be accurate
                    raise RuntimeError(done.stderr.decode())
    alone, without, all_of_them = (median(times) for times in found)
    return alone, without, all_of_them


def python(code: str, *arguments: str, **environment: str) -> list[float]:
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [float(word) for word in result.stdout.split()]


class Rates:
    """Inputs per second of each benchmark, in millions, from its median."""

    def __init__(self, path: Path) -> None:
        self.found: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        for b in json.loads(path.read_text())["benchmarks"]:
            inputs = b.get("extra_info", {}).get("inputs")
            if inputs:
                self.seconds[b["name"]] = b["stats"]["median"]
                self.found[b["name"]] = inputs / b["stats"]["median"] / 1e6

    def mean(self, *names: str) -> float:
        """Rate over equal shares of several places."""
        return len(names) / sum(1 / self.found[name] for name in names)


PLACES = ("near", "negative", "positive")


def first_tier(r: Rates, test: str, first: str, threads: int) -> float:
    return r.mean(*(f"{test}[{first}-{place}-{threads}]" for place in PLACES))


def main(source: Path, target: Path) -> None:
    r = Rates(source)
    outputs = ("forward", "grad_x", "grad_alpha_p", "grad_alpha_n")
    together = "+".join(outputs)
    lines = ["# How fast the oracle is", ""]
    lines += [
        machine(),
        "",
        "Millions of inputs per second, medians of one run; fp32, α = 0.8, β = 0.5; `tox -e bench` writes",
    ]
    lines += ["this page. A certified input is scored: value, bound, ulp error and every statistic.", ""]
    lines += ["| certified and scored, first tier | 1 thread | 2 threads |", "|---|---:|---:|"]
    for output in (*outputs, together):
        one, two = (first_tier(r, "test_first_tier_xielu", output, t) for t in (1, 2))
        label = "all four in one pass" if output == together else output
        lines.append(f"| xIELU {label} | {one:.0f} | {two:.0f} |")
    for function in ("gelu", "silu", "gelu_tanh", "atlu"):
        one, two = (first_tier(r, "test_first_tier_compiled", function, t) for t in (1, 2))
        lines.append(f"| {function} forward, compiled from its definition | {one:.0f} | {two:.0f} |")
    for function in ("swish", "hardswish", "softcap"):
        for output in ("forward", "grad_x"):
            one, two = (first_tier(r, "test_pieces_of_a_formula", f"{function}-{output}", t) for t in (1, 2))
            # (2x + 3)/6: near −1/16 one in twelve is a tie, which no enclosure decides.
            why = " (one in 36 is a tie)" if (function, output) == ("hardswish", "grad_x") else ""
            lines.append(f"| {function} {output}, from its formula alone{why} | {one:.0f} | {two:.0f} |")
    for name in ("naive", "expm1", "stable"):
        one, two = (
            r.mean(*(f"test_kernel_under_test[{place}-{name}-{t}]" for place in PLACES)) for t in (1, 2)
        )
        lines.append(f"| *the kernel under test itself:* {name}, eager | {one:.0f} | {two:.0f} |")
    lines += ["", "| one thread | M inputs/s | the first tier is faster by |", "|---|---:|---:|"]
    forward = first_tier(r, "test_first_tier_xielu", "forward", 1)
    others = {
        "second tier with its decisions, forward": r.found["test_second_tier[forward]"],
        "second tier with its decisions, d/dα_n": r.found["test_second_tier[grad_alpha_n]"],
        "torch in float64: value only, no bound": r.mean(*(f"test_torch_in_float64[{p}]" for p in PLACES)),
        "Arb at 200 bits: value only": r.found["test_arb_200_bits"],
        "MPFR (gmpy2) at 200 bits: value only": r.found["test_mpfr_200_bits"],
        "mpmath at 200 bits: value only": r.found["test_mpmath_200_bits"],
        "`precision_lab.evaluate` at 120 certain bits": r.found["test_evaluate_120_bits"],
    }
    lines += [f"| {name} | {rate:.3g} | {forward / rate:,.0f}× |" for name, rate in others.items()]
    two = first_tier(r, "test_first_tier_xielu", "forward", 2)
    kernel = r.mean(*(f"test_kernel_under_test[{place}-expm1-2]" for place in PLACES))
    bf16, fp16 = (r.seconds[f"test_all_of_a_16_bit_format[{f}]"] * 1e3 for f in ("bf16", "fp16"))
    lines += ["", "| ratio or time | |", "|---|---:|"]
    lines.append(
        f"| scoring time / time of the eager expm1 kernel, forward, 2 threads | {kernel / two:.2f} |"
    )
    four = first_tier(r, "test_first_tier_xielu", together, 2)
    lines.append(f"| all four outputs in one pass / forward alone, 2 threads | {two / four:.2f} |")
    lines.append(f"| all 65,536 inputs of bf16 / fp16, scored, warm | {bf16:.1f} / {fp16:.1f} ms |")
    with tempfile.TemporaryDirectory() as folder:
        cold = python(FIRST_USE, XDG_CACHE_HOME=folder)
        warm = python(FIRST_USE, XDG_CACHE_HOME=folder)
    lines.append(
        f"| first use, nothing cached: imports / compiling and scoring | {cold[0]:.1f} / {cold[1]:.1f} s |"
    )
    lines.append(f"| later processes: imports / loading and scoring | {warm[0]:.2f} / {warm[1]:.2f} s |")
    with tempfile.TemporaryDirectory() as folder:
        (pieces,) = python(FORMULA, XDG_CACHE_HOME=folder)
        (again,) = python(FORMULA, XDG_CACHE_HOME=folder)
    lines.append(
        "| a formula nobody registered, fp32, forward and d/dx: compiled and first scored, nothing cached / "
        f"later | {pieces:.1f} / {again:.1f} s |"
    )
    alone, without, all_of_them = verify_seconds()
    lines.append(f"| a process that imports torch and runs x·σ(1.702·x) and its gradient | {alone:.2f} s |")
    lines.append(
        "| `verify` of that kernel by a formula nobody registered, bf16, forward and d/dx, nothing cached: "
        f"without / with all properties | {without:.2f} / {all_of_them:.2f} s |"
    )
    lines += [
        "",
        "| inputs, kernel included (xIELU forward, eager expm1) | 1 thread | 2 threads |",
        "|---|---:|---:|",
    ]
    peak = 0.0
    for bits in (20, 24, 28, 32):
        cells = []
        for threads in ("1", "2"):
            if bits == 32 and threads == "1":
                cells.append("–")
                continue
            runs = [python(SCALING, "expm1", threads, str(bits)) for _ in range(3 if bits < 28 else 1)]
            seconds = median(run[0] for run in runs)
            peak = max(peak, *(run[2] - run[1] for run in runs))
            cells.append(f"{seconds:.2f} s ({2**bits / seconds / 1e6:.0f} M/s)")
        lines.append(f"| 2^{bits} | {cells[0]} | {cells[1]} |")
    lines += [
        "",
        f"Peak memory of the sweep above the interpreter with torch and numba loaded: {peak:.0f} MiB.",
        "",
    ]
    target.write_text("\n".join(lines), encoding="utf-8")


def machine() -> str:
    from precision_lab.running.selfcheck import environment

    facts: dict[str, Any] = environment()
    return (
        f"{facts['cpu']}, {facts['cores']} cores; Python {facts['python']}, torch {facts['torch']}, "
        f"numba {facts['numba']}, python-flint {facts['python-flint']}, mpmath {facts['mpmath']}."
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
