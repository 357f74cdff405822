"""Measurement + bound → passed, failed or undecided; undecided never passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from precision_lab.bounds import Bound
from precision_lab.results import Measurement, Witness, replay_command


@dataclass(frozen=True)
class Verdict:
    """Outcome over several formats and outputs.

    Attributes:
        passed: every measurement is within its bound and nothing is undecided.
        failures: one message per broken promise, each with a witness and a replay command.
    """

    passed: bool
    measurements: tuple[Measurement, ...]
    failures: tuple[str, ...]


def judge(measurement: Measurement, bound: Bound) -> tuple[str, ...]:
    """The promises this measurement breaks, as messages; empty if it passes."""
    m = measurement
    if m.failure is not None:
        return (f"{_title(m)}: {m.failure.kind}: {m.failure.message}",)
    broken = []
    if m.undecided:
        broken.append(f"{_title(m)}: undecided for {m.undecided} of {m.n_inputs} inputs; that is not a pass")
    # The oracle certifies to 2^-10 ulp: an error is over the bound only beyond that.
    if m.max_ulp > bound.max_ulp + 2.0**-10 and m.witness is not None:
        broken.append(
            f"{_title(m)}: error {m.max_ulp:.4g} ulps exceeds bound {bound.max_ulp:g} {_at(m, m.witness)}"
        )
    if m.wrong_sign and m.sign_witness is not None:
        broken.append(f"{_title(m)}: wrong sign for {m.wrong_sign} inputs, {_at(m, m.sign_witness)}")
    if m.nonfinite_mismatch and m.nonfinite_witness is not None:
        broken.append(
            f"{_title(m)}: wrong infinity or NaN for {m.nonfinite_mismatch} inputs, "
            f"{_at(m, m.nonfinite_witness)}"
        )
    return tuple(broken)


def _title(m: Measurement) -> str:
    return f"{m.function}.{m.output}[{m.implementation}, {m.execution}, {m.fmt}, {m.params_name}]"


def _at(m: Measurement, w: Witness) -> str:
    return (
        f"at x={w.x!r} ({w.x_hex}, bits {w.bits}): computed {w.computed!r} ({w.computed_bits}), "
        f"exact {w.exact}. Replay: {replay_command(m, w)}"
    )


def verify(
    kernel: Any,
    function: str,
    *,
    fmts: Sequence[str] = ("bf16", "fp32"),
    outputs: Sequence[str] | None = None,
    max_ulp: float = 1.0,
    params: Mapping[str, float] | None = None,
    inputs: str | None = None,
) -> Verdict:
    """Measures a kernel in several formats and holds every output to `max_ulp`.

    Args:
        kernel: as `measure`.
        outputs: by default all that the kernel can give; a module of the caller's has no
            parameter gradients.
        inputs: as `measure`; by default exhaustive for 8- and 16-bit formats.

    Raises:
        ValueError: unknown function, format, output or parameter; max_ulp below 0.5.
    """
    from precision_lab.functions import get_function
    from precision_lab.implementations import resolve
    from precision_lab.measure import measure_all

    bound = Bound(max_ulp)
    definition = get_function(function)
    measurements: list[Measurement] = []
    for fmt in fmts:
        implementation = resolve(kernel, definition.name, fmt)
        chosen = tuple(outputs) if outputs is not None else implementation.measured_outputs()
        measurements += measure_all(implementation, chosen, fmt, params, inputs=inputs)
    failures = tuple(message for m in measurements for message in judge(m, bound))
    return Verdict(not failures, tuple(measurements), failures)


def assert_accurate(
    kernel: Any,
    function: str,
    *,
    dtype: Any,
    max_ulp: float = 1.0,
    outputs: Sequence[str] = ("forward", "grad_x"),
    params: Mapping[str, float] | None = None,
) -> None:
    """Raises AssertionError, naming the worst inputs, unless every output is within `max_ulp`.

    Args:
        dtype: a torch dtype or the name of a format.
    """
    from precision_lab.formats import FORMATS

    name = str(dtype).removeprefix("torch.")
    fmt = next((f.name for f in FORMATS.values() if name in (f.name, f.torch_name)), name)
    verdict = verify(kernel, function, fmts=(fmt,), outputs=outputs, max_ulp=max_ulp, params=params)
    if not verdict.passed:
        raise AssertionError("\n".join(verdict.failures))
