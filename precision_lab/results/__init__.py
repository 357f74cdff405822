"""The records that stages hand on, and how they are written and read."""

from precision_lab.results.measurement import (
    SIGNED_FLOATS,
    Binade,
    Examination,
    Failure,
    Fault,
    Measurement,
    NotExamined,
    Signed,
    Statistics,
    Witness,
    exact_interval,
    replay_command,
)
from precision_lab.results.strict_json import strict_json
from precision_lab.results.study import Block, Conversion, Reduction, Results, Timing

__all__ = [
    "SIGNED_FLOATS",
    "Binade",
    "Block",
    "Conversion",
    "Examination",
    "Failure",
    "Fault",
    "Measurement",
    "NotExamined",
    "Reduction",
    "Results",
    "Signed",
    "Statistics",
    "Timing",
    "Witness",
    "exact_interval",
    "replay_command",
    "strict_json",
]
