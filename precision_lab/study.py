"""The default study: which cases a report measures, and running them in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeVar

from precision_lab.children import worker_pool
from precision_lab.formats import FORMATS, kernel_format
from precision_lab.functions import FUNCTIONS, get_function
from precision_lab.implementations import IMPLEMENTATIONS
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.compiled import compiler_settings_kept
from precision_lab.implementations.placement import Survivor, check_device, on_device
from precision_lab.report_cases import Cases
from precision_lab.results import (
    SIGNED_FLOATS,
    Binade,
    Block,
    Failure,
    Measurement,
    Reduction,
    Results,
    Statistics,
    Timing,
)

T = TypeVar("T")
Progress = Callable[[str, int, int], None]  # stage, done, total

DEFAULT_FORMATS = ("fp32", "bf16", "fp16", "e4m3")
QUICK_FUNCTIONS = ("xielu", "xiprelu", "relu2", "silu")
# The functions of the paper's Table 1; compiled timings of the others would double the stage.
TIMED_COMPILED = ("xielu", "xiprelu", "relu2", "silu", "gelu")
TIMED_ON_CUDA = ("eager", "module", "operator", "triton", "cuda", "te")
# Plots walk down to 0⁻ and a little beyond ±1; further binades stay in each Measurement
# but not in a stored study, where they would be most of the file.
STORED_EXPONENTS = range(-40, 9)


@dataclass(frozen=True)
class StudySettings:
    """What a study measures.

    Attributes:
        quick: only xIELU, xIPReLU, ReLU² and SiLU in 16-bit formats at the initial parameters,
            nothing compiled, short timings.
        functions, formats: empty means the defaults.
        compiled: also run torch.compile (its compile time is recorded apart).
        exhaustive: every fp32 input of every case instead of a stratified set: hours for all functions.
        timing, reductions: also time the implementations, also sum parameter gradients.
        device: where kernels run and are scored: "cpu", "cuda" or "cuda:N".
        probe: folder of a training probe to report too.
        skipped: implementations that are left out, as "FUNCTION LABEL".
    """

    quick: bool = False
    functions: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    compiled: bool = True
    timing: bool = True
    reductions: bool = True
    exhaustive: bool = False
    device: str = "cpu"
    probe: str | None = None
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.functions:
            get_function(name)
        for name in self.formats:
            kernel_format(name)
        check_device(self.device)

    def chosen_functions(self) -> tuple[str, ...]:
        """In registry order, only those that some implementation computes."""
        asked = self.functions or (QUICK_FUNCTIONS if self.quick else tuple(FUNCTIONS))
        kind = self.device.partition(":")[0]
        available = {i.function for i in IMPLEMENTATIONS.values() if kind in i.devices}
        return tuple(name for name in FUNCTIONS if name in asked and name in available)

    def chosen_formats(self) -> tuple[str, ...]:
        return self.formats or (("bf16", "fp16") if self.quick else DEFAULT_FORMATS)

    def implementations(self) -> tuple[Implementation, ...]:
        functions = self.chosen_functions()
        compiled = self.compiled and not self.quick
        kind = self.device.partition(":")[0]
        return tuple(
            on_device(i, self.device)
            for i in IMPLEMENTATIONS.values()
            if i.function in functions
            and kind in i.devices
            and (compiled or i.execution != "compiled")
            and f"{i.function} {i.label}" not in self.skipped
        )

    def parameter_sets(self, function: str) -> tuple[str, ...]:
        names = tuple(get_function(function).parameter_sets)
        return names[:1] if self.quick else names


# What tells the rows of one kind apart.
_KEYS = {
    "measurements": ("function", "implementation", "execution", "fmt", "output", "params_name"),
    "reductions": ("function", "implementation", "execution", "fmt", "output", "params_name", "data"),
    "timings": ("function", "implementation", "execution", "fmt", "direction"),
    "conversions": ("name", "source", "target"),
    "blocks": ("function", "implementation", "execution"),
}


def run_through(
    settings: StudySettings | None = None,
    progress: Progress | None = None,
    *,
    again: Callable[[StudySettings], Results] | None = None,
    cases: Cases | None = None,
) -> Results:
    """`run`, and where a kernel destroys the GPU's context, what is left in a new process without it.

    Args:
        again: runs settings in a process whose context is whole.
        cases: as `run`.

    Raises:
        EnvironmentAltersResultsError, OSError: as `run`.
    """
    settings = settings or StudySettings()
    results = run(settings, progress, cases)
    while results.lost:
        rows = (row for kind in _KEYS for row in getattr(results, kind))
        culprits = {
            f"{row.function} {row.implementation} [{row.execution}]"
            for row in rows
            if row.failure is not None and row.failure.kind == "crashed" and hasattr(row, "implementation")
        }
        if culprits <= set(settings.skipped):
            break  # a cast, or one that cannot be left out: what is known is kept
        settings = replace(settings, skipped=(*settings.skipped, *sorted(culprits - set(settings.skipped))))
        results = _completed(results, (again or _in_a_new_process)(settings))
    return results


def _in_a_new_process(settings: StudySettings) -> Results:
    with worker_pool(1) as pool:
        return pool.submit(run, settings).result()


def _completed(results: Results, rest: Results) -> Results:
    """Results with what the lost context left unmeasured taken from another run."""
    changed: dict[str, Any] = {}
    for kind, names in _KEYS.items():
        key = attrgetter(*names)
        found = {key(row): row for row in getattr(rest, kind)}
        changed[kind] = tuple(
            found.get(key(row), row) if row.failure is not None and row.failure.kind == "device_lost" else row
            for row in getattr(results, kind)
        )
    return replace(results, **changed)


@compiler_settings_kept()
def run(
    settings: StudySettings | None = None, progress: Progress | None = None, cases: Cases | None = None
) -> Results:
    """Measures every case of the settings and returns one `Results`.

    A kernel's fault is recorded in its case and the rest goes on. One that destroys the GPU's context has
    crashed, and what was still to be run there is recorded as not measured for that reason.

    Args:
        cases: where what is finished is kept, and taken from if it is there.

    Raises:
        EnvironmentAltersResultsError: the process does not compute IEEE arithmetic.
    """
    from precision_lab.conversions import conversions
    from precision_lab.implementations.compiled import precompile
    from precision_lab.mlp_block import blocks
    from precision_lab.selfcheck import environment, require_ieee

    settings = settings or StudySettings()
    report = progress or (lambda stage, done, total: None)
    cases = cases or Cases()
    require_ieee()
    seconds: dict[str, float] = {}
    survivor = Survivor()
    record = environment()  # while the device can still be asked for its name
    implementations = settings.implementations()
    compiled = tuple(i for i in implementations if i.execution == "compiled")
    others = tuple(i for i in implementations if i.execution != "compiled")

    measurements = _timed(
        seconds, "measure", lambda: _measure(others, settings, report, "measure", survivor, cases)
    )
    if compiled:
        formats = settings.chosen_formats()
        timed = TIMED_COMPILED if settings.timing else ()
        _timed(
            seconds,
            "compile",
            lambda: survivor.attempt(
                lambda: precompile(compiled, formats, timed=timed, progress=report), lambda failure: {}
            ),
        )
        measurements += _timed(
            seconds,
            "measure compiled",
            lambda: _measure(compiled, settings, report, "compiled", survivor, cases),
        )
    reductions: list[Reduction] = []
    if settings.reductions:
        reductions = _timed(seconds, "reductions", lambda: _reduce(others, settings, report, survivor, cases))
    timings: list[Timing] = []
    if settings.timing:
        timings = _timed(
            seconds,
            "timing",
            lambda: cases.keep(
                "timing", Timing, partial(_time, implementations, settings, report, survivor.lost)
            ),
        )
        survivor.see(t.failure for t in timings)
    found_conversions = _timed(
        seconds, "conversions", lambda: conversions(settings.device, lost=survivor.lost)
    )
    survivor.see(c.failure for c in found_conversions)
    found_blocks: list[Block] = []
    if settings.timing and settings.device.startswith("cuda"):
        found_blocks = _timed(seconds, "blocks", lambda: blocks(device=settings.device, lost=survivor.lost))
    lowprecision = None
    if settings.probe is not None or not settings.quick:
        from precision_lab.lowprecision.study import examine

        folder = None if settings.probe is None else Path(settings.probe)
        functions = settings.chosen_functions()
        lowprecision = _timed(seconds, "readiness", lambda: examine(functions, folder, report))
    return Results(
        environment={**record, **environment()},
        settings={
            **{k: v for k, v in asdict(settings).items() if k not in ("probe", "skipped")},
            "functions": list(settings.chosen_functions()),
            "formats": list(settings.chosen_formats()),
        },
        measurements=tuple(measurements),
        reductions=tuple(reductions),
        timings=tuple(timings),
        seconds=seconds,
        conversions=found_conversions,
        blocks=tuple(found_blocks),
        lowprecision=lowprecision,
    )


def _timed(seconds: dict[str, float], stage: str, work: Callable[[], T]) -> T:
    start = time.perf_counter()
    result = work()
    seconds[stage] = round(time.perf_counter() - start, 2)
    return result


def _cases(
    implementations: Iterable[Implementation], settings: StudySettings
) -> list[tuple[Implementation, str, str]]:
    """Implementation, format and parameter set; ordered so that cases with one reference are neighbours."""
    formats = settings.chosen_formats()
    cases = [
        (implementation, fmt, name)
        for implementation in implementations
        for fmt in formats
        if fmt in implementation.formats
        for name in settings.parameter_sets(implementation.function)
    ]
    functions = list(FUNCTIONS)
    return sorted(
        cases, key=lambda c: (functions.index(c[0].function), formats.index(c[1]), c[2], c[0].saturating)
    )


def _measure(
    implementations: Sequence[Implementation],
    settings: StudySettings,
    report: Progress,
    stage: str,
    survivor: Survivor,
    kept: Cases,
) -> list[Measurement]:
    from precision_lab.measure import measure_all

    cases = _cases(implementations, settings)
    results: list[Measurement] = []
    for done, (implementation, fmt, name) in enumerate(cases):
        report(stage, done, len(cases))
        params = get_function(implementation.function).parameter_sets[name]
        inputs = "exhaustive" if settings.exhaustive and FORMATS[fmt].bits <= 32 else None
        outputs = implementation.measured_outputs()
        measured = partial(
            survivor.attempt,
            partial(measure_all, implementation, outputs, fmt, params, params_name=name, inputs=inputs),
            partial(_unmeasured, implementation, fmt, name),
        )
        results += kept.keep(
            f"measure {implementation.function} {implementation.label} {fmt} {name}", Measurement,
            lambda measured=measured: [_stored(m) for m in measured()],  # type: ignore[misc]
        )  # fmt: skip
    report(stage, len(cases), len(cases))
    return results


def _unmeasured(implementation: Implementation, fmt: str, name: str, failure: Failure) -> list[Measurement]:
    from precision_lab.measure import blank_measurement

    params = dict(get_function(implementation.function).parameter_sets[name])
    return [
        blank_measurement(implementation, fmt, output, name, params, "", 0, failure)
        for output in implementation.measured_outputs()
    ]


def _reduce(
    implementations: Sequence[Implementation],
    settings: StudySettings,
    report: Progress,
    survivor: Survivor,
    kept: Cases,
) -> list[Reduction]:
    from precision_lab.reduction import failed_reductions, measure_reductions

    cases = [
        (implementation, fmt)
        for implementation, fmt, name in _cases(implementations, settings)
        if name == "init" and any(o not in ("forward", "grad_x") for o in implementation.measured_outputs())
    ]
    results: list[Reduction] = []
    for done, (implementation, fmt) in enumerate(cases):
        report("reductions", done, len(cases))
        params = get_function(implementation.function).parameter_sets["init"]
        results += kept.keep(
            f"reductions {implementation.function} {implementation.label} {fmt}", Reduction,
            partial(
                survivor.attempt,
                partial(measure_reductions, implementation, fmt, params),
                partial(failed_reductions, implementation, fmt),
            ),
        )  # fmt: skip
    report("reductions", len(cases), len(cases))
    return results


def _time(
    implementations: Sequence[Implementation], settings: StudySettings, report: Progress, lost: str
) -> list[Timing]:
    from precision_lab.benchmark import time_implementations

    on_cuda = settings.device.startswith("cuda")
    chosen = tuple(
        i
        for i in implementations
        if i.execution in (TIMED_ON_CUDA if on_cuda else ("eager", "module"))
        or (i.execution == "compiled" and i.function in TIMED_COMPILED)
    )
    formats = tuple(f for f in settings.chosen_formats() if FORMATS[f].bits >= 16)
    n: int | None
    n, rounds = (2**18, 5) if settings.quick else (2**19, 9)
    if on_cuda:
        # 128 MiB of a 16-bit format, more than any second-level cache.
        rounds, n = (15, 2**26) if settings.quick else (25, None)
    return time_implementations(
        chosen, formats, n=n, rounds=rounds, device=settings.device, progress=report, lost=lost
    )


def _stored(m: Measurement) -> Measurement:
    """A measurement as a study keeps it: the binades that reports draw, six digits in parts.

    A region within one ulp needs no witness; the whole measurement keeps its own.
    """
    kept: tuple[Binade, ...] = ()
    if m.params_name == "init":
        kept = tuple(
            replace(b, statistics=_shortened(b.statistics))
            for b in m.binades
            if b.exponent in STORED_EXPONENTS
        )
    regions = {
        name: replace(_shortened(s), witness=s.witness if s.max_ulp > 1 else None)
        for name, s in m.regions.items()
    }
    return replace(m, binades=kept, regions=regions, environment={})


def _shortened(statistics: Statistics) -> Statistics:
    def short(value: float) -> float:
        return float(f"{value:.6g}")

    known = {name: getattr(statistics, name) for name in SIGNED_FLOATS}
    signed: dict[str, Any] = {name: short(value) for name, value in known.items() if value is not None}

    return replace(
        statistics,
        max_ulp=short(statistics.max_ulp),
        mean_ulp=short(statistics.mean_ulp),
        min_correct_bits=short(statistics.min_correct_bits),
        mean_correct_bits=short(statistics.mean_correct_bits),
        **signed,
    )
