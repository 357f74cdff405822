"""Measures the stable kernels as compiled for an emulated GPU; writes a JSON line for each output.

python stable_on_device.py sm_90 PART, PART one of `PARTS`; PRECISION_LAB_DEVICE says sm_90, too.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import triton
from parameter_edges import EDGES, beside_roots

from precision_lab.devices import get_device
from precision_lab.formats import get_format
from precision_lab.functions import get_function
from precision_lab.implementations import Implementation, get_implementation
from precision_lab.measuring.every_input import standards
from precision_lab.measuring.measure import measure_all
from precision_lab.running.case import Case, case_of
from precision_lab.running.placement import on_device
from precision_lab.running.runner import run
from precision_lab.scoring import errors
from precision_lab.study.reduction import measure_reductions
from precision_lab.virtual_gpu.engines import choosing, recording

Parameters = Mapping[str, float]
SETS = [(f, dict(p)) for f in ("xielu", "xiprelu") for p in get_function(f).parameter_sets.values()]
MORE_EDGES = (
    *EDGES,
    {"alpha_p": 0.8, "alpha_n": 71.7, "beta": 0.5},
    {"alpha_p": 0.8, "alpha_n": 0.98, "beta": 0.5},
)
# Asked for these alone, parameters are single; with their gradients there is one for every element.
SINGLE = ("forward", "grad_x")


def implementation(function: str) -> Implementation:
    return on_device(
        get_implementation(get_function(function), "stable", "operator"), get_device(sys.argv[1])
    )


def line(
    case: Case, name: str, output: str, error: float, wrong: list[int], instructions: Iterable[str]
) -> dict[str, Any]:
    return {"case": name, "format": case.fmt.name, "output": output, "error_ulps": error, "wrong": wrong,
            "instructions": list(instructions)}  # fmt: skip


def measured(case: Case, name: str) -> Iterator[dict[str, Any]]:
    """The largest error on the worst conforming device; counts of what is wrong there.

    These are of signs, of NaN and infinity, of zeros' signs, and of what was not decided.
    """
    for m in measure_all(case):
        assert m.failure is None, (name, m.output, m.failure)
        assert m.conformity is not None and not m.conformity.unknown, (name, m.output, m.conformity)
        spans = m.conformity.regions.values()
        error = max([m.max_ulp, *(s.most for s in spans)])
        wrong = [max([m.wrong_sign, *(s.wrong_sign[1] for s in spans)]),
                 max([m.nonfinite_mismatch, *(s.nonfinite[1] for s in spans)]),
                 m.zero_sign_mismatch, m.undecided]  # fmt: skip
        yield line(case, name, m.output, error, wrong, m.conformity.instructions)


def measured_alike(case: Case, name: str) -> Iterator[dict[str, Any]]:
    """As `measured`, for programs with parameters for every element, which are large.

    Backward has too many combinations to try them all. But each of its results depends on a single
    approximate instruction, so it is enough that all are off alike. In forward, some 12,000 instructions,
    none is chosen: its results are those of correct rounding.
    """
    bits = case.points.bits
    assert bits is not None
    x = case.fmt.decode(bits).astype(np.float64)
    with recording() as record:
        tried = [run(case, bits)]
    low = min((low for low, _ in record.dimensions.values()), default=0)
    high = max((high for _, high in record.dimensions.values()), default=0)
    for by in (*range(low, 0), *range(1, high + 1)):
        with choosing(dict.fromkeys(record.dimensions, by)):
            tried.append(run(case, bits))
    for output in case.outputs:
        exact = standards(case, (output,))[0].reference(x)
        worst, wrong = 0.0, [0] * 3
        for found in tried:
            values = found[output]
            assert isinstance(values, np.ndarray), values
            off = np.abs(errors.ulp_error(values, exact))
            worst = max(worst, float(np.nanmax(off, initial=0.0)))
            counts = (
                errors.wrong_sign(values, exact),
                # What a gradient is at NaN is nobody's promise.
                errors.nonfinite_mismatch(values, exact) & (~np.isnan(x) | (output == "forward")),
                errors.zero_sign_mismatch(values, exact, x, output),
            )
            wrong = [max(w, int(c.sum())) for w, c in zip(wrong, counts, strict=True)]
        yield line(case, name, output, worst, [*wrong, 0], sorted(record.instructions))


def every_input(function: str, params: Parameters, fmt: str) -> Iterator[dict[str, Any]]:
    """All patterns: single parameters, one for every element, and sums over data."""
    target = get_format(fmt)
    name = f"{function} {' '.join(f'{v:g}' for v in params.values())} {fmt}"
    case = case_of(implementation(function), target, params)
    yield from measured(case.giving(*SINGLE), f"{name} single")
    yield from measured_alike(case, f"{name} each")
    for r in measure_reductions(case):
        assert r.failure is None, r.failure
        yield line(case, f"{name} sum of {r.data}", r.output, abs(r.error_ulps), [0] * 4, [])


# α_n of fp32, β = 1/2. Two were seen 958,960 and 25 ulps off when compiled; five have a root of f, three of
# f′ within 2⁻²⁵ ulp of a number, the nearest that searches from 0.52 to 200 found.
WORST = [71.71939086914062, 0.98,
         0.9032765626907349, 93.1332778930664, 14.373358726501465, 3.1789162158966064, 8.518656730651855,
         86.5975570678711, 1.2879711389541626, 0.580718457698822]  # fmt: skip


def alphas(count: int) -> list[float]:
    """The worst, and if others are asked for those near β and large ones, and as many drawn."""
    half, step = np.float32(0.5), np.spacing(np.float32(0.5))
    edges = [*(half + k * step for k in (-1, 0, 1, 2, 3, 17)),
             0.50001, 0.501, 0.51, 0.516, 0.5161, 0.52, 71.7, 1.0, 1e3, 1e6, 1e20]  # fmt: skip
    drawn = np.exp(np.random.Generator(np.random.PCG64(12)).uniform(np.log(0.5), np.log(200.0), count))
    return [float(np.float32(a)) for a in (*WORST, *(edges if count else ()), *drawn)]


def roots(count: int, each: bool) -> Iterator[dict[str, Any]]:
    subject = implementation("xielu")
    for alpha_n in alphas(count):
        inputs, name = beside_roots(alpha_n), f"xielu {alpha_n!r} fp32"
        case = case_of(subject, get_format("fp32"), {"alpha_n": alpha_n}, inputs=inputs)
        if each:
            yield from measured_alike(case, f"{name} each")
        else:
            yield from measured(case.giving(*SINGLE), f"{name} single")


def whole(fmt: str) -> Iterator[dict[str, Any]]:
    for function, params in [*SETS, *(("xielu", p) for p in MORE_EDGES)]:
        yield from every_input(function, params, fmt)


def quick() -> Iterator[dict[str, Any]]:
    subject = implementation("xielu")
    sets = get_function("xielu").parameter_sets
    # In fp16 an input of the last set lies so near to each root that only their windows keep the bound.
    cases = [("bf16", p) for p in (sets["init"], *MORE_EDGES[:2])] + [("fp16", sets["first-layer"])]
    for fmt, params in cases:
        case = case_of(subject, get_format(fmt), params, SINGLE)
        yield from measured(case, f"xielu {params['alpha_n']:g} {fmt} single")
    yield from roots(0, False)


PARTS: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
    "quick": quick,
    "bf16": partial(whole, "bf16"),
    "fp16": partial(whole, "fp16"),
    "roots": partial(roots, 200, False),
    "roots-each": partial(roots, 200, True),
}

if __name__ == "__main__":
    for found in PARTS[sys.argv[2]]():
        print(json.dumps(found), flush=True)
    print(json.dumps({"triton": triton.__version__}), flush=True)
    os._exit(0)  # as the lab's own processes: what ends torch's threads sometimes aborts
