"""Synthetic `Results` with the shape of a real run, for tests of everything behind measurement."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

from precision_lab.results import (
    Binade,
    Failure,
    Measurement,
    Reduction,
    Results,
    Statistics,
    Timing,
    Witness,
)

PRECISION = {"fp32": 24, "bf16": 8, "fp16": 11, "e4m3": 4, "e5m2": 3}
SETS = {
    "init": {"alpha_p": 0.80078125, "alpha_n": 0.80078125, "beta": 0.5},
    "nearly-linear": {"alpha_p": 0.05, "alpha_n": 0.55, "beta": 0.5},
}
OUTPUTS = ("forward", "grad_x", "grad_alpha_p", "grad_alpha_n", "grad_beta")
XIELU = ("naive", "expm1", "eps-naive", "eps-expm1", "zero-expm1", "autograd-function", "stable")
SMALL_REGIONS = ("eps_zone", "near_zero_negative")


def witness(x: float = -0.00390625, error: float = 3.25, computed: float = -0.0019) -> Witness:
    return Witness(
        bits="0xbb80",
        x=x,
        x_hex=x.hex(),
        computed=computed,
        computed_hex=computed.hex(),
        computed_bits="0xbaf9",
        exact="-0.001947124481201171875000",
        rounded=-0.0019,
        error_ulps=error,
    )


def statistics(
    p: int, ulp: float, bits: float | None = None, n: int = 100, wrong: int = 0, bad: int = 0
) -> Statistics:
    worst = min(float(p), max(0.0, p - math.log2(max(2 * ulp, 1.0)))) if bits is None else bits
    return Statistics(
        n_inputs=n,
        max_ulp=ulp,
        mean_ulp=ulp / 8,
        not_correctly_rounded=0 if ulp <= 0.5 else n // 5,
        wrong_sign=wrong,
        nonfinite_mismatch=bad,
        min_correct_bits=worst,
        mean_correct_bits=min(float(p), worst + 1),
        witness=witness(error=ulp) if ulp else None,
    )


def _errors(implementation: str, output: str, p: int) -> dict[str, tuple[float, float]]:
    """(max ulp, min correct bits) of each region, as such a formulation really behaves."""
    calm = (0.5, float(p))
    regions = {name: calm for name in ("zero", "special", "eps_zone", "near_zero_negative")}
    rest = {name: (1.4, p - 1.5) for name in ("positive", "rest_negative", "far_tail", "subnormal_result")}
    regions |= rest | {"root_forward": (90.0, p - 7.4), "root_gradient": calm}
    if implementation == "stable":
        return {name: (0.503, p - 0.01) for name in regions}
    if output == "grad_x":
        regions["root_gradient"] = (400.0, p - 9.0)
    lossy = "naive" in implementation and output in ("forward", "grad_alpha_n")
    if lossy or (output == "grad_alpha_n" and implementation != "autograd-function"):
        regions["eps_zone"] = regions["near_zero_negative"] = (2.0**p, 0.0)
    elif output == "forward":
        regions["near_zero_negative"] = (2.5, p - 2.2)
    return {name: (ulp, max(0.0, bits)) for name, (ulp, bits) in regions.items()}


def measurement(
    implementation: str = "naive",
    output: str = "forward",
    fmt: str = "bf16",
    *,
    function: str = "xielu",
    execution: str = "eager",
    params_name: str = "init",
    accurate: bool = False,
) -> Measurement:
    """One measurement; `accurate` makes it correctly rounded nearly everywhere, whatever its name."""
    out = "e5m2" if fmt == "e4m3" and output != "forward" else fmt
    p = PRECISION[out]
    errors = _errors("stable" if accurate or execution == "upcast" else implementation, output, p)
    eps_flip = implementation.startswith("eps-") and output == "grad_x" and not accurate
    overflow = implementation in ("naive", "expm1") and output == "grad_x" and not accurate
    early = fmt == "fp16" and implementation != "stable" and output == "forward" and not accurate
    regions = {name: statistics(p, ulp, bits) for name, (ulp, bits) in errors.items()}
    if eps_flip:
        regions["eps_zone"] = statistics(p, 2.0**p, 0.0, wrong=41)
    if overflow or early:
        regions["positive"] = statistics(p, 1.4, 0.0, n=1000, bad=120)
    binades = tuple(
        Binade(sign, e, statistics(p, *_at(implementation, output, sign, e, p, accurate)))
        for sign in (-1, 1)
        for e in range(-40, 9)
        if params_name == "init"
    )
    worst = max(s.max_ulp for s in regions.values())
    n = {"e4m3": 256, "fp32": 20_000}.get(fmt, 65536)
    return Measurement(
        function=function,
        implementation=implementation,
        execution=execution,
        fmt=fmt,
        output_fmt=out,
        output=output,
        params_name=params_name,
        params=SETS[params_name] if function.startswith("xi") else {},
        inputs="stratified" if fmt == "fp32" else "exhaustive",
        n_inputs=n,
        max_ulp=worst,
        mean_ulp=worst / 40,
        quantiles={"0.5": 0.1, "0.9": 0.4, "0.99": min(worst, 1.0), "0.999": worst},
        not_correctly_rounded=n // 9,
        wrong_sign=41 if eps_flip else 0,
        nonfinite_mismatch=120 if overflow or early else 0,
        undecided=0,
        escalated={"special": 130, "asymptote": 800, "float64": n - 1000, "double_double": 65, "mpmath": 5},
        jump_at_zero=5e-7
        if implementation.startswith("eps-") and output == "forward" and not accurate
        else 0.0,
        witness=witness(error=worst),
        nonfinite_witness=replace(witness(89.0), computed=math.nan, error_ulps=math.nan)
        if overflow or early
        else None,
        sign_witness=witness(-5e-7) if eps_flip else None,
        regions=regions,
        binades=binades,
    )


def _at(implementation: str, output: str, sign: int, e: int, p: int, accurate: bool) -> tuple[float, float]:
    """(max ulp, min correct bits) in one binade: digits fade as x → 0⁻ wherever they cancel."""
    if sign > 0 or accurate or implementation == "stable":
        return 0.5, float(p)
    if output == "grad_alpha_n" and implementation != "autograd-function":
        kept = p + 1.0 + (2 if "naive" in implementation else 1) * min(e, 0)
    elif "naive" in implementation and output == "forward":
        kept = p + 1.0 + min(e, 0)
    elif e == -1:
        kept = p - 7.0
    else:
        kept = p - 0.5
    kept = min(float(p), max(0.0, kept))
    return 2.0 ** (p - kept) / 2, kept


def reduction(implementation: str, fmt: str, output: str, error: float, data: str) -> Reduction:
    return Reduction(
        "xielu",
        implementation,
        "eager",
        fmt,
        output,
        "init",
        65536,
        data,
        1.0,
        24011.5,
        24000.25,
        error,
        abs(error) * 2e-3,
    )


def timing(
    function: str, implementation: str, fmt: str, direction: str, ns: float, execution: str = "eager"
) -> Timing:
    compile_seconds = 4.5 if execution == "compiled" else None
    return Timing(
        function,
        implementation,
        execution,
        fmt,
        direction,
        2**20,
        9,
        ns,
        ns * 0.94,
        ns * 1.1,
        8 / ns,
        ns / 0.9,
        ns / 0.2,
        compile_seconds,
    )


TIMED = {
    ("relu2", "torch"): 0.5,
    ("silu", "torch"): 0.9,
    ("xiprelu", "as-printed"): 2.0,
    ("gelu", "torch"): 1.1,
    ("xielu", "naive"): 4.0,
    ("xielu", "zero-expm1"): 4.4,
    ("xielu", "stable"): 9.0,
}


@cache
def sample_results(*, accurate: bool = False, formats: tuple[str, ...] = ("fp32", "bf16", "fp16")) -> Results:
    """A study of xIELU and a few others; `accurate`: one where no formulation has a fault."""
    measurements = [
        measurement(name, output, fmt, params_name=params, execution=execution, accurate=accurate)
        for name in XIELU
        for fmt in formats
        for execution in (("eager",) if fmt == "fp32" else ("eager", "upcast"))
        for params in SETS
        for output in OUTPUTS
    ]
    measurements += [
        measurement(name, output, "e4m3", execution=execution, accurate=accurate)
        for name in ("naive", "stable")
        for execution in ("fp8-fp32", "fp8-fp32 saturating")
        for output in OUTPUTS
    ]
    measurements += [
        measurement("torch", output, fmt, function=function, accurate=True)
        for function in ("relu2", "silu", "gelu")
        for fmt in formats
        for output in ("forward", "grad_x")
    ]
    if not accurate:
        broken = measurement("transformers", "forward", "fp16", execution="module")
        failure = Failure("missing_dependency", "transformers is not installed")
        measurements.append(
            replace(
                broken,
                failure=failure,
                regions={},
                binades=(),
                n_inputs=0,
                not_correctly_rounded=0,
                wrong_sign=0,
                nonfinite_mismatch=0,
                witness=None,
            )
        )
    words = "x ~ N(0,1), upstream gradient 1: terms of one sign do not cancel"
    return Results(
        environment={"cpu": "A processor", "python": "3.12.1", "torch": "2.13.0", "flush to zero": "off"},
        settings={"quick": False, "functions": ["xielu", "relu2", "silu", "gelu"], "formats": list(formats)},
        measurements=tuple(measurements),
        reductions=tuple(
            reduction(name, fmt, "grad_alpha_n", 0.25 if name == "stable" or accurate else 37.5, words)
            for name in ("naive", "expm1", "stable")
            for fmt in formats
        ),
        timings=tuple(
            timing(function, name, fmt, direction, ns * (2 if direction == "backward" else 1))
            for (function, name), ns in TIMED.items()
            for fmt in formats
            for direction in ("forward", "backward")
        ),
        seconds={"measure": 41.5, "timing": 12.0},
    )
