"""The default study: which cases a report measures, and running them in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from precision_lab.implementations.base import Implementation
from precision_lab.results import Block, Failure, Measurement, Reduction, Results, Timing
from precision_lab.results.cost import Cost
from precision_lab.running.case import Case, case_of
from precision_lab.running.own_process import on
from precision_lab.running.placement import Survivor
from precision_lab.running.torch_compile import compiler_settings_kept
from precision_lab.study.elsewhere import Elsewhere
from precision_lab.study.equations import equations
from precision_lab.study.formulations import formulations
from precision_lab.study.saved_cases import Cases
from precision_lab.study.settings import StudySettings
from precision_lab.study.stored import stored
from precision_lab.system.children import worker_pool
from precision_lab.system.progress import Progress

T = TypeVar("T")


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
    results = on(settings.on, run, settings, cases=cases, progress=progress)
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
    settings: StudySettings | None = None, cases: Cases | None = None, progress: Progress | None = None
) -> Results:
    """Measures every case of the settings and returns one `Results`.

    A kernel's fault is recorded in its case and the rest goes on. One that destroys the GPU's context has
    crashed, and what was still to be run there is recorded as not measured for that reason.

    Args:
        cases: where what is finished is kept, and taken from if it is there.

    Raises:
        EnvironmentAltersResultsError: the process does not compute IEEE arithmetic.
    """
    from precision_lab.running.precompile import precompile
    from precision_lab.running.selfcheck import environment, require_ieee
    from precision_lab.study.conversions import conversions
    from precision_lab.study.mlp_block import CPU_SHAPE, Shape, blocks

    settings = settings or StudySettings()
    report = progress or (lambda stage, done, total: None)
    cases = cases or Cases()
    require_ieee()
    seconds: dict[str, float] = {}
    survivor = Survivor()
    record = environment()  # while the device can still be asked for its name
    implementations = settings.implementations()
    compiled = tuple(i for i in implementations if i.execution.compiled)
    others = tuple(i for i in implementations if not i.execution.compiled)

    # Emulated devices have one core to themselves, while nothing is timed on the other.
    with Elsewhere(partial(_emulated, settings, cases)) as elsewhere:
        going = _Going(settings, report, survivor, cases)
        measurements = _timed(seconds, "measure", lambda: _measure(going, others, "measure"))
        if compiled:
            formats = settings.chosen_formats()
            timed = settings.functions_timed_compiled() if settings.timing else ()
            _timed(
                seconds,
                "compile",
                lambda: survivor.attempt(
                    lambda: precompile(compiled, formats, timed=timed, progress=report), lambda failure: {}
                ),
            )
            measurements += _timed(seconds, "measure compiled", lambda: _measure(going, compiled, "compiled"))
        emulated, costs, spent = elsewhere.result(report)
        seconds |= spent
    reductions: list[Reduction] = []
    if settings.reductions:
        reductions = _timed(seconds, "reductions", lambda: _reduce(going, others))
    timings: list[Timing] = []
    if settings.timing and not settings.on.own_process:
        timings = _timed(
            seconds,
            "timing",
            lambda: cases.keep(
                "timing", Timing, partial(_time, implementations, settings, report, survivor.lost)
            ),
        )
        survivor.see(t.failure for t in timings)
    found_conversions = _timed(seconds, "conversions", lambda: conversions(settings.on, lost=survivor.lost))
    survivor.see(c.failure for c in found_conversions)
    found_blocks: list[Block] = []
    in_blocks = settings.blocks()
    if settings.timing and in_blocks and not settings.on.own_process:
        shape = Shape() if settings.on.is_accelerator else CPU_SHAPE
        found_blocks = _timed(
            seconds, "blocks",
            lambda: blocks(
                in_blocks, device=settings.on, shape=shape, lost=survivor.lost
            ),
        )  # fmt: skip
    lowprecision = None
    if settings.probe is not None or not settings.quick:
        from precision_lab.study.lowprecision import examine

        folder = None if settings.probe is None else Path(settings.probe)
        functions, judged = settings.chosen_functions(), settings.profile.lowprecision
        lowprecision = _timed(seconds, "readiness", lambda: examine(functions, folder, report, judged))
    return Results(
        environment={**record, **environment()},
        settings={
            **{k: v for k, v in asdict(settings).items() if k not in ("probe", "skipped", "profile")},
            "functions": [f.name for f in settings.chosen_functions()],
            "formats": [f.name for f in settings.chosen_formats()],
            "profile": settings.profile.report.to_json(),
            "definitions": [equations(f) for f in settings.chosen_functions()],
            "formulations": formulations(settings.listed()),
        },
        measurements=tuple(measurements),
        reductions=tuple(reductions),
        timings=tuple(timings),
        seconds=seconds,
        conversions=found_conversions,
        blocks=tuple(found_blocks),
        emulated=tuple(emulated),
        costs=tuple(costs),
        lowprecision=lowprecision,
    )


def _timed(seconds: dict[str, float], stage: str, work: Callable[[], T]) -> T:
    start = time.perf_counter()
    result = work()
    seconds[stage] = round(time.perf_counter() - start, 2)
    return result


def _emulated(
    settings: StudySettings, cases: Cases, progress: Progress
) -> tuple[list[Measurement], list[Cost], dict[str, float]]:
    """What is measured and counted on emulated devices, and in how many seconds, by stage."""
    found: list[Measurement] = []
    costs: list[Cost] = []
    seconds: dict[str, float] = {}
    for there in settings.emulated():
        stage = f"measure {there.device}"
        found += _timed(
            seconds, stage,
            lambda there=there, stage=stage: on(  # type: ignore[misc]
                there.on, measured_there, there, stage, cases, progress=progress
            ),
        )  # fmt: skip
        stage = f"cost {there.device}"
        costs += _timed(
            seconds, stage,
            lambda there=there, stage=stage: on(  # type: ignore[misc]
                there.on, counted_there, there, stage, cases, progress=progress
            ),
        )  # fmt: skip
    return found, costs, seconds


def measured_there(
    settings: StudySettings, stage: str, cases: Cases, *, progress: Progress
) -> list[Measurement]:
    """What the settings say is measured on their device, in this process, which is the device's own."""
    going = _Going(settings, progress, Survivor(), cases)
    return _measure(going, settings.implementations(), stage)


def counted_there(settings: StudySettings, stage: str, cases: Cases, *, progress: Progress) -> list[Cost]:
    """What kernels cost in one of the narrowest formats, on their device: those of the functions shown first
    that their own compiler made, and what the profile names.
    """
    from precision_lab.measuring.cost import cost

    lead, named = settings.profile.report.lead, settings.profile.study.counted
    own = [
        i
        for i in settings.implementations()
        if (i.function.name in lead and not i.execution.compiled) or f"{i.function.name}/{i.label}" in named
    ]
    every = _cases(own, settings)
    fewest = min((case.fmt.bits for case in every), default=0)
    fmt = next((case.fmt for case in every if case.fmt.bits == fewest), None)
    chosen = [case for case in every if case.fmt is fmt]
    found: list[Cost] = []
    for done, case in enumerate(chosen):
        progress(stage, done, len(chosen))
        found += cases.keep(f"cost {_words(case)}{_where(case)}", Cost, lambda case=case: [cost(case)])  # type: ignore[misc]
    progress(stage, len(chosen), len(chosen))
    return found


def _cases(implementations: Iterable[Implementation], settings: StudySettings) -> list[Case]:
    """Ordered so that cases with one reference are neighbours."""
    formats = settings.chosen_formats()
    cases = [
        case_of(
            implementation, fmt, implementation.function.parameter_sets[name], params_name=name,
            inputs="exhaustive" if settings.exhaustive and fmt.bits <= 32 else None,
        )
        for implementation in implementations
        for fmt in formats
        if fmt in implementation.formats
        for name in settings.parameter_sets(implementation.function)
    ]  # fmt: skip
    functions = [f.name for f in settings.chosen_functions()]

    def position(case: Case) -> tuple[int, int, str, bool]:
        saturating = case.implementation.saturating
        return functions.index(case.function.name), formats.index(case.fmt), case.params_name, saturating

    return sorted(cases, key=position)


class _Going(NamedTuple):
    """A study under way: what is chosen, who is told, what has gone on without a device, what is kept."""

    settings: StudySettings
    report: Progress
    survivor: Survivor
    kept: Cases


def _measure(going: _Going, implementations: Sequence[Implementation], stage: str) -> list[Measurement]:
    from precision_lab.measuring.measure import measure_all

    cases = _cases(implementations, going.settings)
    results: list[Measurement] = []
    for done, case in enumerate(cases):
        going.report(stage, done, len(cases))
        measured = partial(going.survivor.attempt, partial(measure_all, case), partial(_unmeasured, case))
        results += going.kept.keep(
            f"measure {_words(case)} {case.params_name}{_where(case)}", Measurement,
            lambda measured=measured: [stored(m) for m in measured()],  # type: ignore[misc]
        )  # fmt: skip
    going.report(stage, len(cases), len(cases))
    return results


def _where(case: Case) -> str:
    device = case.implementation.device
    return f" on {device.name}" if device.own_process else ""


def _words(case: Case) -> str:
    return f"{case.function.name} {case.implementation.label} {case.fmt.name}"


def _unmeasured(case: Case, failure: Failure) -> list[Measurement]:
    return [replace(case, inputs="").unmeasured(output, failure) for output in case.outputs]


def _reduce(going: _Going, implementations: Sequence[Implementation]) -> list[Reduction]:
    from precision_lab.study.reduction import failed_reductions, measure_reductions

    cases = [
        case
        for case in _cases(implementations, going.settings)
        if case.params_name == "init" and any(o not in ("forward", "grad_x") for o in case.outputs)
    ]
    results: list[Reduction] = []
    for done, case in enumerate(cases):
        going.report("reductions", done, len(cases))
        results += going.kept.keep(
            f"reductions {_words(case)}", Reduction,
            partial(
                going.survivor.attempt, partial(measure_reductions, case), partial(failed_reductions, case)
            ),
        )  # fmt: skip
    going.report("reductions", len(cases), len(cases))
    return results


def _time(
    implementations: Sequence[Implementation], settings: StudySettings, report: Progress, lost: str
) -> list[Timing]:
    from precision_lab.study.timing import time_implementations

    apart = settings.on.is_accelerator
    executions, compiled = settings.executions_timed(), settings.functions_timed_compiled()
    chosen = tuple(
        i
        for i in implementations
        if i.execution in executions or (i.execution.compiled and i.function in compiled)
    )
    formats = tuple(f for f in settings.chosen_formats() if f.bits >= 16)
    n: int | None
    n, rounds = (2**18, 5) if settings.quick else (2**19, 9)
    if apart:
        # 128 MiB of a 16-bit format, more than any second-level cache.
        rounds, n = (15, 2**26) if settings.quick else (25, None)
    return time_implementations(
        chosen, formats, n=n, rounds=rounds, device=settings.on, progress=report, lost=lost
    )
