"""How fast the oracle certifies, beside what people would otherwise use: `tox -e bench`.

Rates in one run; `table.py` beside this file writes docs/benchmarks.md from this suite's JSON.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch
from by_name import Scorer, cells, get_implementation, implementations_for, run

from precision_lab.formats import get_format
from precision_lab.functions import get_function
from precision_lab.oracle import evaluate, reference
from precision_lab.scoring.patterns import Patterns

pytestmark = pytest.mark.bench

N = 1 << 20
PARAMS = {"alpha_p": float(np.float32(0.8)), "alpha_n": float(np.float32(0.8)), "beta": 0.5}
# Where every branch has its share: near 0⁻, the rest of the negative side, the positive side.
STARTS = {"near": 0xBD800000, "negative": 0xBFC00000, "positive": 0x3FC00000}


class Chunk:
    """Inputs from one place, a kernel's values for them, and a scorer per thread."""

    def __init__(self, function: str, name: str, outputs: tuple[str, ...], start: int, n: int = N) -> None:
        self.function, self.start, self.n = function, start, n
        own = {name: float(np.float32(v)) for name, v in get_function(function).check_params().items()}
        self.params = PARAMS if function in ("xielu", "xiprelu") else own
        self.kernel = get_implementation(function, name)
        self.bits = np.arange(start, start + n, dtype=np.uint32)
        self.outputs = outputs
        self.ys = list(run(self.kernel, self.bits, "fp32", self.params, outputs).values())
        self.cells = cells("fp32", function, self.params)
        self.runs = self.cells.runs_between(start, start + n)

    def scorer(self) -> Scorer:
        fmts = (get_format("fp32"),) * len(self.outputs)
        return Scorer(self.cells, self.function, self.outputs, self.params, fmts)

    def score(self, scorer: Scorer) -> None:
        scorer.score(self.bits.view(np.float32), self.ys, self.runs, Patterns(self.start))

    def forward(self) -> None:
        run(self.kernel, self.bits, "fp32", self.params, ("forward",))


def timed(benchmark: Any, work: Any, inputs: int, **facts: Any) -> None:
    benchmark.extra_info.update(inputs=inputs, **facts)
    benchmark.pedantic(work, rounds=7, iterations=1, warmup_rounds=2)


def in_threads(chunk: Chunk, threads: int) -> Any:
    scorers = [chunk.scorer() for _ in range(threads)]

    def work() -> None:
        started = [threading.Thread(target=chunk.score, args=(scorer,)) for scorer in scorers]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()

    return work


OUTPUTS = (("forward",), ("grad_x",), ("grad_alpha_p",), ("grad_alpha_n",))
ALL = ("forward", "grad_x", "grad_alpha_p", "grad_alpha_n")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("where", STARTS)
@pytest.mark.parametrize("outputs", [*OUTPUTS, ALL], ids=lambda o: "+".join(o))
def test_first_tier_xielu(benchmark: Any, outputs: tuple[str, ...], where: str, threads: int) -> None:
    chunk = Chunk("xielu", "stable", outputs, STARTS[where])
    timed(benchmark, in_threads(chunk, threads), threads * N, tier="float64", threads=threads, where=where)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("where", STARTS)
@pytest.mark.parametrize("function", ["gelu", "silu", "gelu_tanh", "atlu"])
def test_first_tier_compiled(benchmark: Any, function: str, where: str, threads: int) -> None:
    name = implementations_for(function, "eager")[0].name
    chunk = Chunk(function, name, ("forward",), STARTS[where])
    timed(benchmark, in_threads(chunk, threads), threads * N, tier="float64", threads=threads, where=where)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("where", STARTS)
@pytest.mark.parametrize("output", ["forward", "grad_x"])
@pytest.mark.parametrize("function", ["swish", "hardswish", "softcap"])
def test_pieces_of_a_formula(benchmark: Any, function: str, output: str, where: str, threads: int) -> None:
    """Functions without tiers of their own: polynomials on pieces, at given parameters."""
    chunk = Chunk(function, implementations_for(function, "eager")[0].name, (output,), STARTS[where])
    timed(benchmark, in_threads(chunk, threads), threads * N, tier="float64", threads=threads, where=where)


@pytest.mark.parametrize("output", ALL)
def test_second_tier(benchmark: Any, output: str) -> None:
    x = np.concatenate([np.arange(s, s + N // 12, dtype=np.uint32).view(np.float32) for s in STARTS.values()])
    x = x.astype(np.float64)
    timed(benchmark, lambda: reference("xielu", output, PARAMS, x, "fp32"), x.size, tier="double_double")


@pytest.mark.parametrize("fmt", ["bf16", "fp16"])
def test_all_of_a_16_bit_format(benchmark: Any, fmt: str) -> None:
    source = get_format(fmt)
    params = {k: float(source.round(np.array([v]))[0]) for k, v in PARAMS.items()}
    bits = source.all_bits()
    y = run(get_implementation("xielu", "stable"), bits, fmt, params, ("forward",))["forward"]
    found = cells(fmt, "xielu", params)
    patterns = bits.astype(np.uint64)
    runs, x = found.runs(patterns), source.decode(bits).astype(np.float32)
    scorer = Scorer(found, "xielu", ("forward",), params, (source,))

    def work() -> None:
        scorer.score(x, [y], runs, Patterns.of(patterns))
        scorer._escalate(0)

    timed(benchmark, work, bits.size, tier="all")


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", ["naive", "expm1", "stable"])
@pytest.mark.parametrize("where", STARTS)
def test_kernel_under_test(benchmark: Any, where: str, name: str, threads: int) -> None:
    chunks = [Chunk("xielu", name, ("forward",), STARTS[where], N // 4) for _ in range(threads)]

    def work() -> None:
        started = [threading.Thread(target=chunk.forward) for chunk in chunks]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()

    timed(benchmark, work, threads * N // 4, tier="kernel", threads=threads, where=where)


@pytest.mark.parametrize("where", STARTS)
def test_torch_in_float64(benchmark: Any, where: str) -> None:
    """What many call a reference: a value, no bound, no verdict."""
    start = STARTS[where]
    x = torch.from_numpy(np.arange(start, start + (1 << 16), dtype=np.uint32).view(np.float32)).double()

    def work() -> torch.Tensor:
        return torch.where(x > 0, 0.8 * x * x + 0.5 * x, 0.8 * (torch.expm1(x.clamp(max=0)) - x) + 0.5 * x)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        timed(benchmark, work, x.numel(), tier="torch float64", where=where)
    finally:
        torch.set_num_threads(threads)


def points(n: int) -> list[float]:
    return (-np.linspace(0.01, 3, n).astype(np.float32).astype(np.float64)).tolist()


def test_mpmath_200_bits(benchmark: Any) -> None:
    import mpmath

    xs, context = points(2000), mpmath.MPContext()
    context.prec = 200
    a, b = context.mpf(PARAMS["alpha_n"]), context.mpf(0.5)
    timed(
        benchmark,
        lambda: [a * (context.expm1(x) - x) + b * x for x in map(context.mpf, xs)],
        2000,
        tier="mpmath",
    )


def test_arb_200_bits(benchmark: Any) -> None:
    from arb_witness import arithmetic
    from flint import arb

    xs = points(20000)

    def work() -> list[Any]:
        with arithmetic(200):
            a, b = arb(PARAMS["alpha_n"]), arb(0.5)
            return [a * (x.expm1() - x) + b * x for x in map(arb, xs)]

    timed(benchmark, work, 20000, tier="arb")


def test_mpfr_200_bits(benchmark: Any) -> None:
    import gmpy2

    xs = points(20000)
    context = gmpy2.context(precision=200)

    def work() -> list[Any]:
        with gmpy2.context(context):
            a, b = gmpy2.mpfr(PARAMS["alpha_n"]), gmpy2.mpfr(0.5)
            return [a * (gmpy2.expm1(x) - x) + b * x for x in map(gmpy2.mpfr, xs)]

    timed(benchmark, work, 20000, tier="mpfr")


def test_evaluate_120_bits(benchmark: Any) -> None:
    xs = points(200)
    timed(benchmark, lambda: [evaluate("xielu", x, PARAMS, bits=120) for x in xs], 200, tier="evaluate")


def test_every_output_of_the_definition_is_among_the_benchmarks() -> None:
    assert set(ALL) | {"grad_beta"} == set(get_function("xielu").outputs)
