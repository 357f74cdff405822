"""What scoring one value takes: where it is counted, and what is certain of the exact one."""

from __future__ import annotations

from typing import Any, NamedTuple

from precision_lab.oracle import Reference


class Counts(NamedTuple):
    """Where the results of one output are counted: see `columns`."""

    rows: Any
    histogram: Any


class Settled(NamedTuple):
    """What is certain of an exact value, or arrays of it: fields of `oracle.Reference`.

    `exact` is to float64 precision; `sign` is 0 where the value is 0 or its sign is not needed.
    """

    rounded: Any
    tail: Any
    ulp: Any
    exact: Any
    sign: Any


def settled(reference: Reference, chosen: Any = slice(None)) -> Settled:
    """Those inputs of a reference that are chosen, as `score_many` takes them."""
    return Settled(*(getattr(reference, field)[chosen] for field in Settled._fields))
