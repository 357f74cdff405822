"""A kernel's cost in words, for the command and for the report."""

from __future__ import annotations

from precision_lab.results.cost import BY_INSTRUCTIONS, BY_MEMORY, DirectionCost, Share

BOUNDS = {
    BY_MEMORY: "bound by memory",
    BY_INSTRUCTIONS: "not bound by memory",
    "open": "open: memory or instructions",
}


def per_element(value: float) -> str:
    """An instruction count or bytes, with the digits that mean something."""
    return "no bound" if value == float("inf") else f"{value:.4g}"


def executed(found: DirectionCost) -> str:
    """Instructions per element: a number, or a range where the evidence leaves something open."""
    least, most = per_element(found.least), per_element(found.most)
    return most if least == most else f"{least} to {most}"


def moved(found: DirectionCost) -> str:
    read, written = (sum(getattr(each, name) for each in found.launches) for name in ("read", "written"))
    return f"{per_element(read + written)} ({per_element(read)} read, {per_element(written)} written)"


def resident(found: DirectionCost) -> str:
    """Warps of the launch with the most instructions."""
    main = found.main
    if main is None or not main.most_warps:
        return "–"
    return f"{main.warps} of {main.most_warps}, by {main.limit}"


def share_of(share: Share) -> str:
    """The unit with the most to do, and how much of what it can."""
    return f"{percent(share.largest)} of {share.unit}"


def percent(share: float) -> str:
    return "no bound" if share == float("inf") else f"{100 * share:.0f} %"


def bound_of(share: Share) -> str:
    return BOUNDS[share.bound]
