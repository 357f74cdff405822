"""All results that conforming devices may give, for every input of a measurement.

The manual bounds what an approximate instruction may return; every allowed result of each is tried, in every
combination of those that one stored number depends on (`emulator.influence`). Of each input the nearest and
the farthest result then say what the best and the worst device shows. A combination is a choice by position
among the allowed numbers of each input, so that the union over combinations holds every result of every
conforming device, and perhaps some that no single device shows at several inputs: what is certified or
refuted here is so on each.

Where there are too many to be tried, or where choosing does not reach all, ranges that hold them are computed
(`emulator.enclosing`). Of a range the worst result is at an end, since the error grows with the distance from
the exact value; the best is at an end, or the exact value's nearest number where the range holds that.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.emulator.bounds import BOUNDS, operation
from precision_lab.exceptions import InternalError
from precision_lab.inputs.sets import regions
from precision_lab.measuring.every_input import STAGE, standards
from precision_lab.oracle import Reference
from precision_lab.results import Failure
from precision_lab.results.conformity import Conformity, Span, Varying
from precision_lab.running.case import Case
from precision_lab.running.runner import input_tensor, run, run_tensors
from precision_lab.running.tensors import to_numpy
from precision_lab.scoring import errors as metrics
from precision_lab.system.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from precision_lab.virtual_gpu.engines import Record

MOST_COMBINATIONS = 125  # such as two ex2.approx.f32 in a row, of seven results each
EXAMPLES = 8

Float64 = NDArray[np.float64]


def conformities(
    case: Case, computed: Mapping[str, Any], progress: Progress | None = None
) -> dict[str, Conformity]:
    """What conforming devices may show, of each output that was computed.

    Args:
        computed: of the case at its inputs, as `run` gives it with every instruction correctly rounded.
        progress: called before each run of the kernel: many of them take long, and are no hang.
    """
    nominal = {o: np.asarray(v, np.float64) for o, v in computed.items() if not isinstance(v, Failure)}
    if not nominal:
        return {}
    failed: set[str] = set()
    found = _tried(case.giving(*nominal), nominal, failed, progress)
    # Asked for alone, a kernel may be another one: without parameters for each element, say.
    for output in nominal if len(nominal) > 1 else ():
        if found[output].unknown and output not in failed:
            found |= _tried(case.giving(output), {output: nominal[output]}, failed, progress)
    open_ = {
        o: nominal[o] for o, tried in found.items()
        if o not in failed and (tried.unknown or not all(map(_is_universal, tried.instructions)))
    }  # fmt: skip
    for output, within in _enclosed(case.giving(*open_), open_, progress).items() if open_ else ():
        tried = found[output]
        if tried.unknown or within.unknown:
            unknown = "; ".join(dict.fromkeys(w for w in (tried.unknown, within.unknown) if w))
            found[output] = replace(
                within, instructions=tried.instructions, tables=tried.tables,
                unknown=unknown if within.unknown else "",
            )  # fmt: skip
    return found


def unexamined(case: Case) -> dict[str, Conformity]:
    """As `conformities`, where all inputs are too many for more than one result of each."""
    from precision_lab.virtual_gpu.engines import recording

    with recording() as record:
        found = run_tensors(case, input_tensor(case, np.ones(64)))
        obstacles = obstacles_of(record, found)
    names, tables = tuple(sorted(record.instructions)), tuple(sorted(record.tables))
    if not names and not any(obstacles.values()):
        return {o: Conformity(tables=tables) for o in found}
    why = "at so many inputs correctly rounded results alone were tried"
    return {o: Conformity(names, unknown=why, tables=tables) for o in found}


def obstacles_of(record: Record, tensors: Mapping[str, Tensor | Failure]) -> dict[str, str]:
    """Of each result, why not every one of conforming devices is reached; "" where all are."""
    return {
        o: record.obstacle(t.untyped_storage().data_ptr())
        for o, t in tensors.items() if not isinstance(t, Failure)
    }  # fmt: skip


def _is_universal(instruction: str) -> bool:
    """Whether the manual promises something of an instruction, whatever it is given."""
    bound = BOUNDS.get(operation(instruction))
    return bound is None or bound.is_universal  # contraction has none


def _enclosed(case: Case, nominal: Mapping[str, Float64], progress: Progress | None) -> dict[str, Conformity]:
    """Ranges that hold what conforming devices give, for all outputs of the case at once."""
    return {
        output: _unknown(found) if isinstance(found, str) else _within(case, output, nominal[output], *found)
        for output, found in ends(case, progress).items()
    }  # fmt: skip


def ends(case: Case, progress: Progress | None = None) -> dict[str, tuple[Float64, Float64] | str]:
    """The lowest and the highest that conforming devices give, of each output, or why nobody knows.

    Between them there may be more than any device gives.
    """
    from precision_lab.virtual_gpu.engines import enclosing, raise_to_upper_ends, recording

    bits = case.points.bits
    assert bits is not None
    lows: dict[str, Float64] = {}
    highs: dict[str, Float64] = {}
    unknown: dict[str, str] = {}

    def values(output: str, tensor: Any) -> Float64:
        return np.asarray(to_numpy(tensor, case.output_format(output)), np.float64)

    _told(progress, bits.size, 0, 2)
    with recording() as record, enclosing("low") as planes:
        tensors = run_tensors(case, input_tensor(case, bits))
        obstacles = obstacles_of(record, tensors)
        for output, tensor in tensors.items():
            if isinstance(tensor, Failure):
                unknown[output] = tensor.message
            elif why := obstacles[output]:
                unknown[output] = why
            else:
                lows[output] = values(output, tensor)
        # All lower ends were read before: outputs may share memory.
        for output, tensor in tensors.items():
            if output not in lows or isinstance(tensor, Failure):
                continue
            if raise_to_upper_ends(planes, tensor.untyped_storage().data_ptr()):
                highs[output] = values(output, tensor)
    if lows.keys() - highs.keys():  # what was copied or converted since: once more, for the other ends
        _told(progress, bits.size, 1, 2)
        with enclosing("high"):
            for output, tensor in run_tensors(case, input_tensor(case, bits)).items():
                if output in lows and not isinstance(tensor, Failure):
                    highs[output] = values(output, tensor)
    return {o: unknown[o] if o in unknown else (lows[o], highs[o]) for o in tensors}


def _within(case: Case, output: str, nominal: Float64, low: Float64, high: Float64) -> Conformity:
    """
    Raises:
        InternalError: the nominal result is none of those between the ends.
    """
    outside = (nominal < low) | (nominal > high) | (np.isnan(nominal) != (np.isnan(low) & np.isnan(high)))
    if outside.any():
        at = int(np.flatnonzero(outside)[0])
        raise InternalError(
            f"{output}: {nominal[at]!r} is not in what encloses it, {low[at]!r} to {high[at]!r}", "",
        )  # fmt: skip
    assert case.points.bits is not None
    envelope = _Envelope.of(case, output, case.points.bits, nominal)
    envelope.enclose(low, high)
    return envelope.conformity((), 0)


def combinations_of(record: Record) -> int:
    """How many there are of every way of every dimension."""
    return math.prod(high - low + 1 for low, high in record.dimensions.values())


def ways_of(record: Record) -> list[list[int]]:
    """Every way of every dimension; what is nominal is the first. Of one dimension there may be millions."""
    return [sorted(range(low, high + 1), key=abs) for low, high in record.dimensions.values()]


def _unknown(reason: str, instructions: tuple[str, ...] = ()) -> Conformity:
    return Conformity(instructions, 1, 0, {}, (), reason)


def _told(progress: Progress | None, inputs: int, done: int, total: int) -> None:
    """Tells how many times the kernel was called with all inputs, and how often it will be."""
    if progress is not None:
        progress(STAGE, done * inputs, total * inputs)


def _tried(
    case: Case, nominal: Mapping[str, Float64], failed: set[str], progress: Progress | None
) -> dict[str, Conformity]:
    """Every combination, for all outputs of the case at once; `failed` gets those that a run had none of."""
    from precision_lab.virtual_gpu.engines import choosing, recording

    bits = case.points.bits
    assert bits is not None
    _told(progress, bits.size, 0, 1)
    with recording() as record:
        tensors = run_tensors(case, input_tensor(case, bits))
        obstacles = obstacles_of(record, tensors)
    names, tables = tuple(sorted(record.instructions)), tuple(sorted(record.tables))
    count = combinations_of(record)
    if count > MOST_COMBINATIONS:
        return dict.fromkeys(nominal, _unknown("there are too many combinations of results to try", names))
    found = {o: _unknown(why, names) for o, why in obstacles.items() if why}
    for output in nominal:  # of a kernel that fails when it is called again
        if isinstance(failure := tensors[output], Failure):
            found[output] = _unknown(f"{failure.kind}: {failure.message}", names)
            failed.add(output)
    envelopes = {o: _Envelope.of(case, o, bits, nominal[o]) for o, why in obstacles.items() if not why}
    for done, choice in enumerate(itertools.islice(itertools.product(*ways_of(record)), 1, None), 1):
        _told(progress, bits.size, done, count)
        with choosing(dict(zip(record.dimensions, choice, strict=True))):
            values = run(case, bits)
        for output in list(envelopes):
            got = values[output]
            if isinstance(got, Failure):
                found[output] = _unknown(f"{got.kind}: {got.message}", names)
                failed.add(output)
                del envelopes[output]
            else:
                envelopes[output].add(np.asarray(got, np.float64))
    found |= {o: envelope.conformity(names, count) for o, envelope in envelopes.items()}
    return {o: replace(conformity, tables=tables) for o, conformity in found.items()}


@dataclass
class _Envelope:
    """The nearest and the farthest result so far, of each input.

    Attributes:
        free: inputs of which nothing is asked: what a gradient is at NaN is nobody's promise.
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
    free: NDArray[np.bool_]
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
        free = np.isnan(x) & (output != "forward")
        error, sign, nonfinite = _judged(nominal, exact, free)
        return cls(
            x, bits, fmt.bits, exact, names, region, nominal, free, error, error.copy(),
            np.stack([sign, sign]), np.stack([nonfinite, nonfinite]), np.zeros(x.size, bool),
        )  # fmt: skip

    def add(self, values: Float64) -> None:
        same = (values == self.nominal) | (np.isnan(values) & np.isnan(self.nominal))
        self.varying |= ~same
        error, sign, nonfinite = _judged(values, self.exact, self.free)
        self.least = np.fmin(self.least, error)
        self.most = np.fmax(self.most, error)
        for kept, wrong in ((self.sign, sign), (self.nonfinite, nonfinite)):
            kept[0] &= wrong
            kept[1] |= wrong

    def enclose(self, low: Float64, high: Float64) -> None:
        """Adds every number from one to the other."""
        self.add(low)
        self.add(high)
        nearest = self.exact.rounded
        best, sign, _ = _judged(nearest, self.exact, self.free)
        holds = (low <= nearest) & (nearest <= high)
        self.least = np.where(holds, np.fmin(self.least, best), self.least)
        self.sign[0] &= ~holds | sign
        # Between two infinities there is everything; two NaN are one.
        self.nonfinite[0] &= (low == high) | (np.isnan(low) & np.isnan(high))

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


def _judged(
    values: Float64, exact: Reference, free: NDArray[np.bool_]
) -> tuple[Float64, NDArray[np.bool_], NDArray[np.bool_]]:
    error = np.abs(metrics.ulp_error(values, exact))
    return error, metrics.wrong_sign(values, exact) & ~free, metrics.nonfinite_mismatch(values, exact) & ~free
