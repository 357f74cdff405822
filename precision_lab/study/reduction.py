"""Parameter gradients summed over a tensor, against the exactly rounded sum."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import KernelError
from precision_lab.formats import FloatFormat
from precision_lab.functions import Parameters
from precision_lab.numeric.certainty import CERTIFIED_ULPS
from precision_lab.numeric.error_free import PRODUCT_SAFE, two_products
from precision_lab.oracle import enclosures
from precision_lab.oracle.curve import Curve
from precision_lab.results import Failure, Reduction
from precision_lab.running.case import Case
from precision_lab.running.reduced import run_reduced
from precision_lab.running.selfcheck import require_ieee
from precision_lab.running.torch_compile import compiler_settings_kept

Float64 = NDArray[np.float64]

N = 16384
SEED = 20260
DATA = {
    "aligned": "x ~ N(0,1), upstream gradient 1: terms of one sign do not cancel",
    "random": "x ~ N(0,1), upstream gradient ~ N(0,1): terms cancel",
}


@dataclass(frozen=True)
class ExactSum:
    """Σ upstream·df/dθ as floats that add up to it exactly, but for `error`.

    Attributes:
        parts: their exact sum is the sum of the enclosures' middles.
        error: bound on what the enclosures' radii contribute.
        condition: Σ|term| / |Σ term|.
    """

    parts: tuple[float, ...]
    error: float
    condition: float

    @property
    def value(self) -> float:
        """The sum, correctly rounded to float64."""
        return math.fsum(self.parts)


def tensors(fmt: FloatFormat, data: str, n: int = N) -> tuple[Float64, Float64]:
    """x and the upstream gradient, values of the format, the same on every machine."""
    generator = np.random.Generator(np.random.PCG64(SEED))
    x = fmt.round(generator.standard_normal(n))
    upstream = fmt.round(generator.standard_normal(n)) if data == "random" else np.ones(n)
    return x, upstream


@lru_cache(maxsize=64)
def _enclosures(curve: Curve, fmt: FloatFormat) -> tuple[Float64, Float64, Float64]:
    return enclosures(curve.function, curve.output, curve.params, tensors(fmt, "aligned")[0])


@lru_cache(maxsize=64)
def exact_sum(curve: Curve, fmt: FloatFormat, data: str) -> ExactSum:
    """The exact sum over `tensors(fmt, data)`.

    Each term is upstream·(high + low ± radius) with double-double enclosures. The two
    products are split exactly, and `math.fsum` adds floats exactly before its one
    rounding, so the radii are the only error.
    """
    upstream = tensors(fmt, data)[1]
    high, low, radius = _enclosures(curve, fmt)
    products = np.empty((4, high.size))
    two_products(upstream, high, products[0], products[1])
    two_products(upstream, low, products[2], products[3])
    parts = products.ravel()
    total = math.fsum(parts)
    size = math.fsum(np.abs(upstream * high))
    # Products that underflow lose steps of 2^-1074, which the radii do not hold; exact ones lose none.
    inexact = (radius != 0) | (low != 0) | ((high != 0) & (np.abs(products[0]) < PRODUCT_SAFE))
    lost = np.count_nonzero(inexact & (upstream != 0)) * 2.0**-1070
    error = math.fsum(np.abs(upstream) * radius) * (1 + 2.0**-50) + lost
    return ExactSum(tuple(parts.tolist()), error, size / abs(total) if total else math.inf)


@compiler_settings_kept()
def measure_reductions(case: Case) -> list[Reduction]:
    """One `Reduction` per parameter gradient and data set; faults are results with `failure`.

    The sum's error is in ulps of the dtype the gradient is returned in, at the exact sum.
    """
    require_ieee()
    params: Parameters
    try:
        params = case.effective
    except KernelError:
        params = case.asked  # `run_reduced` meets the same fault and names it in every result
    results = []
    for data in DATA:
        x, upstream = tensors(case.fmt, data)
        for output, got in run_reduced(case, x, upstream).items():
            exact = exact_sum(Curve(case.function, output, params), case.fmt, data)
            results.append(_score(_blank(case, output, data), got, exact))
    return results


def failed_reductions(case: Case, failure: Failure) -> list[Reduction]:
    """What `measure_reductions` would have given, each with the reason why there is none."""
    outputs = [o for o in case.outputs if o not in ("forward", "grad_x")]
    return [replace(_blank(case, output, data), failure=failure) for data in DATA for output in outputs]


def _blank(case: Case, output: str, data: str) -> Reduction:
    return Reduction(
        function=case.function.name,
        implementation=case.implementation.name,
        execution=case.implementation.execution_name,
        fmt=case.fmt.name,
        output=output,
        params_name=case.params_name,
        n=N,
        data=DATA[data],
        condition=math.nan,
        computed=math.nan,
        exact=math.nan,
        error_ulps=math.nan,
        relative_error=math.nan,
    )


def _score(blank: Reduction, got: Failure | tuple[float, FloatFormat], exact: ExactSum) -> Reduction:
    value = exact.value
    if isinstance(got, Failure):
        return replace(blank, condition=exact.condition, exact=value, failure=got)
    computed, dtype = got
    ulp = float(dtype.ulp(np.array([value]))[0])
    if not math.isfinite(computed):
        return replace(blank, condition=exact.condition, computed=computed, exact=value)
    if exact.error > CERTIFIED_ULPS * ulp:
        raise AssertionError(f"sum of {blank.function}.{blank.output} certified only to {exact.error!r}")
    difference = math.fsum((computed, *(-part for part in exact.parts)))
    return replace(
        blank,
        condition=exact.condition,
        computed=computed,
        exact=value,
        error_ulps=difference / ulp,
        relative_error=abs(difference / value) if value else math.inf,
    )
