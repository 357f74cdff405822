"""Exact sums of a parameter's gradient over many elements, and how far off them a kernel's may be."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from precision_lab.numeric.certainty import CERTIFIED_ULPS
from precision_lab.oracle import enclosures
from precision_lab.verifying.properties.pool import Index
from precision_lab.verifying.properties.products import Float64
from precision_lab.verifying.properties.subject import Subject


class Sum:
    """Σ upstream·(a derivative), exactly, at inputs of a list.

    Args:
        limit: ulps that each derivative may be off.
        params: effective parameters.
        x: the list; finite inputs.

    Raises:
        ValueError: the output has no value for these parameters.
    """

    def __init__(
        self, subject: Subject, output: str, limit: float, params: Mapping[str, float], x: Float64
    ) -> None:
        self.fmt, self.limit, self.x = subject.fmt, limit, x
        high, low, _ = enclosures(subject.function, output, params, x)
        self.terms: Float64 = high + low

    def at(self, index: Index, weight: Float64) -> tuple[float, float]:
        """The exact sum, and how far off it the kernel's may be.

        Each term is within its limit of ulps, which the upstream gradient multiplies, and its product
        is rounded once, with one intermediate result: together one ulp of it. They are added in
        float32 or better: log2(n) + 8 roundings of partial sums in pairs. The sum is rounded into the
        format. In float64, terms, products and their sums by input are within 2^-51 of their size.
        """
        fmt, terms = self.fmt, self.terms
        counted = np.bincount(index, weight, terms.size)
        weighed = np.bincount(index, np.abs(weight), terms.size)
        exact, size = math.fsum(counted * terms), float(weighed @ np.abs(terms))
        some = (weight != 0) & (terms[index] != 0)
        products = weight[some] * terms[index[some]]
        single = self.limit * float(weighed @ fmt.ulp(terms)) + float(fmt.ulp(products).sum())
        single += 2 * fmt.min_subnormal * float((1 + np.abs(self.x[index[some]])).sum())
        allowed = single + self.adding(index.size) * size + 2.0**-51 * size
        return exact, allowed + (0.5 + CERTIFIED_ULPS) * float(fmt.ulp(np.array([exact]))[0])

    def adding(self, n: int) -> float:
        """Error of a sum of n products relative to the sum of their sizes."""
        return (math.log2(max(n, 2)) + 8) * min(2.0**-24, self.fmt.unit_roundoff)


def given_parameters(subject: Subject) -> list[str]:
    """Outputs that are gradients of what a call is given beside x."""
    return [o for o in subject.parameters if o.removeprefix("grad_") in subject.leaves]
