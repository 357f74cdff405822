"""Parameter gradients summed over a tensor, against the exactly rounded sum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from precision_lab.formats import get_format
from precision_lab.functions import get_function
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.runner import effective_parameters, run_reduced
from precision_lab.oracle import enclosures
from precision_lab.results import Failure, Reduction
from precision_lab.selfcheck import require_ieee

Float64 = NDArray[np.float64]

N = 65536
SEED = 20260
DATA = {
    "aligned": "x ~ N(0,1), upstream gradient 1: terms of one sign do not cancel",
    "random": "x ~ N(0,1), upstream gradient ~ N(0,1): terms cancel",
}


@dataclass(frozen=True)
class ExactSum:
    """Σ upstream·df/dθ as an exact rational with a proven error bound."""

    value: Fraction
    error: float
    condition: float


def tensors(fmt: str, data: str, n: int = N) -> tuple[Float64, Float64]:
    """x and the upstream gradient, values of the format, the same on every machine."""
    target = get_format(fmt)
    generator = np.random.Generator(np.random.PCG64(SEED))
    x = target.round(generator.standard_normal(n))
    upstream = target.round(generator.standard_normal(n)) if data == "random" else np.ones(n)
    return x, upstream


@lru_cache(maxsize=64)
def exact_sum(
    function: str, output: str, items: tuple[tuple[str, float], ...], fmt: str, data: str
) -> ExactSum:
    """The exact sum over `tensors(fmt, data)`.

    Each term is upstream·(high + low ± radius) with double-double enclosures; the products
    and the sum are exact rational arithmetic, so the radii are the only error.
    """
    x, upstream = tensors(fmt, data)
    high, low, radius = enclosures(function, output, dict(items), x)
    terms = [
        Fraction(g) * (Fraction(h) + Fraction(t)) for g, h, t in zip(upstream, high, low, strict=True) if g
    ]
    total = sum(terms, Fraction(0))
    size = math.fsum(abs(float(t)) for t in terms)
    error = math.fsum((np.abs(upstream) * radius).tolist())
    condition = size / abs(float(total)) if total else math.inf
    return ExactSum(total, error, condition)


def measure_reductions(
    implementation: Implementation,
    fmt: str,
    params: Mapping[str, float] | None = None,
    *,
    params_name: str = "init",
) -> list[Reduction]:
    """One `Reduction` per parameter gradient and data set; faults are results with `failure`.

    The sum's error is in ulps of the dtype the gradient is returned in, at the exact sum.
    """
    require_ieee()
    definition = get_function(implementation.function)
    asked = definition.check_params(params)
    items = tuple(sorted(effective_parameters(implementation, asked, fmt).items()))
    results = []
    for data, words in DATA.items():
        x, upstream = tensors(fmt, data)
        for output, got in run_reduced(implementation, x, upstream, fmt, asked).items():
            case = Reduction(
                function=definition.name,
                implementation=implementation.name,
                execution=implementation.execution,
                fmt=fmt,
                output=output,
                params_name=params_name,
                n=N,
                data=words,
                condition=math.nan,
                computed=math.nan,
                exact=math.nan,
                error_ulps=math.nan,
                relative_error=math.nan,
            )
            results.append(_score(case, got, exact_sum(definition.name, output, items, fmt, data)))
    return results


def _score(case: Reduction, got: Failure | tuple[float, str], exact: ExactSum) -> Reduction:
    from dataclasses import replace

    value = float(exact.value)
    if isinstance(got, Failure):
        return replace(case, condition=exact.condition, exact=value, failure=got)
    computed, dtype = got
    ulp = float(get_format(dtype).ulp(np.array([value]))[0])
    if not math.isfinite(computed):
        return replace(case, condition=exact.condition, computed=computed, exact=value)
    if exact.error > 2.0**-10 * ulp:
        raise AssertionError(f"sum of {case.function}.{case.output} certified only to {exact.error!r}")
    difference = Fraction(computed) - exact.value
    return replace(
        case,
        condition=exact.condition,
        computed=computed,
        exact=value,
        error_ulps=float(difference / Fraction(ulp)),
        relative_error=float(abs(difference / exact.value)) if exact.value else math.inf,
    )
