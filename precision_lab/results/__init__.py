"""The records that stages hand on, and how they are written and read."""

from precision_lab.results.examination import Examination, NotExamined
from precision_lab.results.facts import Sighting
from precision_lab.results.finding import Finding, ranked
from precision_lab.results.measurement import (
    SIGNED_FLOATS,
    Binade,
    Failure,
    Measurement,
    Signed,
    Statistics,
    Witness,
    exact_interval,
    replay_command,
)
from precision_lab.results.severity import Severity
from precision_lab.results.strict_json import strict_json
from precision_lab.results.study import Block, Conversion, Reduction, Results, Timing

__all__ = [
    "SIGNED_FLOATS",
    "Binade",
    "Block",
    "Conversion",
    "Examination",
    "Failure",
    "Finding",
    "Measurement",
    "NotExamined",
    "Reduction",
    "Results",
    "Severity",
    "Sighting",
    "Signed",
    "Statistics",
    "Timing",
    "Witness",
    "exact_interval",
    "ranked",
    "replay_command",
    "strict_json",
]
