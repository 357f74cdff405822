"""Kernels for a GPU as their compiler made them, executed without one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from precision_lab.report.section import Cell, Column, Prose, Row, Section, Table, numeric
from precision_lab.report.tables import figure
from precision_lab.report.wording import reason
from precision_lab.results import Measurement, Results
from precision_lab.results.conformity import Conformity
from precision_lab.results.execution import COMPILED, labelled

_SHOWN = ("forward", "grad_x")


def kernels(results: Results) -> Section | None:
    """The largest errors of each kernel on each emulated device."""
    own = [m for m in results.emulated if not m.execution.startswith(COMPILED.name)]
    if not own:
        return None
    devices = list(dict.fromkeys(m.device for m in own))
    words = Prose(
        "Triton and CUDA C++ kernels, compiled for these targets and executed by their PTX on the CPU: every "
        "input of 16-bit formats, stratified ones of FP32, initial parameters. Errors are in ulps, with "
        "approximate instructions (`ex2.approx` and the like) correctly rounded; *any device* is the largest "
        "error that an allowed result of theirs leads to (**≤** where ranges that hold all of them were "
        "computed, which may be wider than what any device shows), and how many inputs depend on it. **±** "
        "marks wrong signs, **∞** a NaN or infinity in the wrong place."
    )
    rows = _rows(own)
    columns: list[str | Column] = [
        "device", "function", "kernel", "format", *numeric("forward", "d/dx", "other gradients"),
        *numeric("any device", unit="ulps"), *numeric("inputs that depend"),
    ]  # fmt: skip
    title = f"As compiled for {' and '.join(devices)}"
    table = Table(columns, [_row(*entry) for entry in rows.items()])
    return Section("emulated", title, [words, table])


def _rows(measurements: Iterable[Measurement]) -> dict[tuple[str, ...], list[Measurement]]:
    found: dict[tuple[str, ...], list[Measurement]] = {}
    for m in measurements:
        found.setdefault((m.device, m.function, labelled(m.implementation, m.execution), m.fmt), []).append(m)
    return found


def _row(key: tuple[str, ...], measured: Sequence[Measurement]) -> Row:
    device, function, name, fmt = key
    failures = [m.failure for m in measured if m.failure is not None]
    about: list[str | Cell] = [device, function, name, fmt]
    if len(failures) == len(measured):
        return Row([*about, Cell(reason(failures[0]), span=5)])
    by_output = {m.output: m for m in measured}
    cells = [error_cell([by_output[o]] if o in by_output else []) for o in _SHOWN]
    cells.append(error_cell([m for o, m in by_output.items() if o not in _SHOWN]))
    known = [m.conformity for m in measured if m.conformity is not None]
    unknown = next((c.unknown for c in known if c.unknown), "")
    if unknown:
        return Row([*about, *cells, Cell("not tried", title=unknown), "–"])
    worst = max(known, key=lambda c: c.most, default=Conformity())
    most = f"{'≤ ' * worst.is_enclosed}{_ulps(worst.most)}"
    return Row([*about, *cells, most, str(max((c.varying for c in known), default=0))])


def error_cell(measured: Sequence[Measurement]) -> Cell:
    """The largest error of them, with marks for wrong signs and stray NaN; a dash without any."""
    good = [m for m in measured if m.failure is None]
    if not good:
        failed = next((m.failure for m in measured if m.failure is not None), None)
        return Cell("–" if failed is None else reason(failed))
    worst = max(good, key=lambda m: m.max_ulp)
    flags = "±" * any(m.wrong_sign for m in good) + "∞" * any(m.nonfinite_mismatch for m in good)
    levels = (0.508, 1.0, 4.0, 64.0)
    level = next((k for k, limit in enumerate(levels) if worst.max_ulp <= limit), 4)
    at = "" if worst.witness is None else f"{worst.output} at x={worst.witness.x:.6g}"
    return Cell(_ulps(worst.max_ulp), level=level, flags=flags, title=at)


def _ulps(error: float) -> str:
    """With the digits that tell 0.5003 from 0.5131, where they mean something."""
    return f"{error:.4g}" if error < 1e4 else figure(error)


__all__ = ["error_cell", "kernels"]
