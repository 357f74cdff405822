"""Which scorer takes a case: the one place that decides whether anything is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from numpy.typing import NDArray

from precision_lab.scoring.standard import Standard

if TYPE_CHECKING:
    from precision_lab.scoring.tally import Tally


class Scores(Protocol):
    """What every scorer does: counts chunk after chunk, and hands over the tallies."""

    def score(self, x: Any, ys: Sequence[Any], runs: NDArray[Any], patterns: Any) -> None:
        """Counts a chunk of inputs; see `scorer.Scorer.score`."""

    def finish(self) -> list[Tally]:
        """The tallies, one per output."""


def scorer_for(standards: Sequence[Standard], *, edges: bool = False) -> Scores:
    """A scorer in numpy where all exact values come input by input, else the compiled one.

    Either is imported here, so that where nothing is compiled no compiler is loaded.
    """
    if all(standard.certified for standard in standards):
        from precision_lab.scoring.array_scorer import ArrayScorer

        return ArrayScorer(standards, edges=edges)
    from precision_lab.scoring.scorer import Scorer

    return Scorer(standards, edges=edges)


__all__ = ["Scores", "scorer_for"]
