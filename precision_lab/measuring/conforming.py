"""All results that conforming devices may give, for every input of a measurement.

The manual bounds what an approximate instruction may return; every allowed result of each is tried, in every
combination of those that one stored number depends on (`emulator.influence`). Of each input the nearest and
the farthest result then say what the best and the worst device shows. A combination is a choice by position
among the allowed numbers of each input, so that the union over combinations holds every result of every
conforming device, and perhaps some that no single device shows at several inputs: what is certified or
refuted here is so on each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.inputs.sets import regions
from precision_lab.measuring.every_input import standards
from precision_lab.oracle import Reference
from precision_lab.results import Failure
from precision_lab.results.conformity import Conformity, Span, Varying
from precision_lab.running.case import Case
from precision_lab.running.runner import input_tensor, run, run_tensors
from precision_lab.scoring import errors as metrics

MOST_COMBINATIONS = 125  # such as two ex2.approx.f32 in a row, of seven results each
EXAMPLES = 8

Float64 = NDArray[np.float64]


def conformities(case: Case, computed: Mapping[str, Any]) -> dict[str, Conformity]:
    """What conforming devices may show, of each output that was computed.

    Args:
        computed: of the case at its inputs, as `run` gives it with every instruction correctly rounded.
    """
    nominal = {o: np.asarray(v, np.float64) for o, v in computed.items() if not isinstance(v, Failure)}
    if not nominal:
        return {}
    together = _tried(case.giving(*nominal), nominal)
    # Asked for alone, a kernel may be another one: without parameters for each element, say.
    again = [o for o in nominal if together is None or (together[o].unknown and len(nominal) > 1)]
    found = {} if together is None else dict(together)
    for output in again:
        values = nominal[output]
        alone = _tried(case.giving(output), {output: values})
        found[output] = (
            alone[output] if alone is not None else _unknown("too many combinations of results to try")
        )
    return found


def _unknown(reason: str, instructions: tuple[str, ...] = ()) -> Conformity:
    return Conformity(instructions, 1, 0, {}, (), reason)


def _tried(case: Case, nominal: Mapping[str, Float64]) -> dict[str, Conformity] | None:
    """Every combination, for all outputs of the case at once; None where there are too many."""
    from precision_lab.virtual_gpu.engines import choosing, recording

    bits = case.points.bits
    assert bits is not None
    with recording() as record:
        tensors = run_tensors(case, input_tensor(case, bits))
        obstacles = {
            o: record.obstacle(t.untyped_storage().data_ptr())
            for o, t in tensors.items()
            if not isinstance(t, Failure)
        }
    names = tuple(sorted(set(record.instructions.values())))
    count = math.prod(high - low + 1 for low, high in record.dimensions.values())
    if count > MOST_COMBINATIONS:
        return None
    # Every way of every dimension: what is nominal is the first.
    ways = [sorted(range(low, high + 1), key=abs) for low, high in record.dimensions.values()]
    found = {o: _unknown(why, names) for o, why in obstacles.items() if why}
    envelopes = {o: _Envelope.of(case, o, bits, nominal[o]) for o, why in obstacles.items() if not why}
    for choice in itertools.islice(itertools.product(*ways), 1, None):
        with choosing(dict(zip(record.dimensions, choice, strict=True))):
            values = run(case, bits)
        for output in list(envelopes):
            got = values[output]
            if isinstance(got, Failure):
                found[output] = _unknown(f"{got.kind}: {got.message}", names)
                del envelopes[output]
            else:
                envelopes[output].add(np.asarray(got, np.float64))
    return found | {o: envelope.conformity(names, count) for o, envelope in envelopes.items()}


@dataclass
class _Envelope:
    """The nearest and the farthest result so far, of each input.

    Attributes:
        least, most: errors in ulps; NaN counts as none.
        sign, nonfinite: whether all results so far, and whether any, are wrong; shape (2, n).
    """

    x: Float64
    bits: NDArray[Any]
    width: int
    exact: Reference
    names: Sequence[str]
    region: NDArray[Any]
    nominal: Float64
    least: Float64
    most: Float64
    sign: NDArray[np.bool_]
    nonfinite: NDArray[np.bool_]
    varying: NDArray[np.bool_]

    @classmethod
    def of(cls, case: Case, output: str, bits: NDArray[Any], nominal: Float64) -> _Envelope:
        fmt = case.fmt
        x = fmt.decode(bits).astype(np.float64)
        exact = standards(case, (output,))[0].reference(x)
        names, region = regions(x, fmt, case.function, case.effective)
        out = case.output_format(output)
        tiny = (np.abs(exact.rounded) < out.min_normal) & (exact.sign != 0) & np.isfinite(x) & (x != 0)
        names = (*names, "subnormal_result")
        region = np.where(tiny, len(names) - 1, region)
        error, sign, nonfinite = _judged(nominal, exact)
        return cls(
            x, bits, fmt.bits, exact, names, region, nominal, error, error.copy(), np.stack([sign, sign]),
            np.stack([nonfinite, nonfinite]), np.zeros(x.size, bool),
        )  # fmt: skip

    def add(self, values: Float64) -> None:
        same = (values == self.nominal) | (np.isnan(values) & np.isnan(self.nominal))
        self.varying |= ~same
        error, sign, nonfinite = _judged(values, self.exact)
        self.least = np.fmin(self.least, error)
        self.most = np.fmax(self.most, error)
        for kept, wrong in ((self.sign, sign), (self.nonfinite, nonfinite)):
            kept[0] &= wrong
            kept[1] |= wrong

    def conformity(self, instructions: tuple[str, ...], combinations: int) -> Conformity:
        spans = {}
        for k, name in enumerate(self.names):
            here = self.region == k
            if here.any():
                spans[name] = Span(
                    float(np.nanmax(self.least[here], initial=0.0)),
                    float(np.nanmax(self.most[here], initial=0.0)),
                    (int(self.sign[0][here].sum()), int(self.sign[1][here].sum())),
                    (int(self.nonfinite[0][here].sum()), int(self.nonfinite[1][here].sum())),
                )
        spread = np.where(self.varying, np.nan_to_num(self.most - self.least, nan=np.inf), -1.0)
        order = np.argsort(-spread, kind="stable")[: min(EXAMPLES, int(self.varying.sum()))]
        examples = tuple(
            Varying(
                f"0x{int(self.bits[k]):0{self.width // 4}x}", float(self.x[k]), float(self.least[k]),
                float(self.most[k]),
            )
            for k in order
        )  # fmt: skip
        return Conformity(instructions, combinations, int(self.varying.sum()), spans, examples)


def _judged(values: Float64, exact: Reference) -> tuple[Float64, NDArray[np.bool_], NDArray[np.bool_]]:
    error = np.abs(metrics.ulp_error(values, exact))
    return error, metrics.wrong_sign(values, exact), metrics.nonfinite_mismatch(values, exact)
