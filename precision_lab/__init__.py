"""precision_lab: proof-quality precision measurements of activation kernels.

Public names are loaded on first use, so that importing the package costs nothing
and brings in neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from precision_lab.ieee import guard_loading

__version__ = "0.1.0"

if TYPE_CHECKING:
    from precision_lab.formats import FORMATS, FloatFormat, get_format
    from precision_lab.functions import FUNCTIONS, get_function
    from precision_lab.lowprecision.capture import capture
    from precision_lab.measure import measure
    from precision_lab.oracle import Reference, reference
    from precision_lab.oracle.evaluate import evaluate
    from precision_lab.results import Measurement, Results
    from precision_lab.verdict import Verdict, assert_accurate, verify

_HOMES = {
    "FORMATS": "formats",
    "FloatFormat": "formats",
    "get_format": "formats",
    "FUNCTIONS": "functions",
    "get_function": "functions",
    "capture": "lowprecision.capture",
    "evaluate": "oracle",
    "reference": "oracle",
    "Reference": "oracle",
    "measure": "measure",
    "Measurement": "results",
    "Results": "results",
    "Verdict": "verdict",
    "assert_accurate": "verdict",
    "verify": "verdict",
}

__all__ = [
    "FORMATS",
    "FUNCTIONS",
    "FloatFormat",
    "Measurement",
    "Reference",
    "Results",
    "Verdict",
    "assert_accurate",
    "capture",
    "evaluate",
    "get_format",
    "get_function",
    "measure",
    "reference",
    "verify",
]

guard_loading()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'precision_lab' has no attribute {name!r}")
    module = importlib.import_module(f"precision_lab.{_HOMES[name]}")
    if _HOMES[name] == name:
        # `measure` is a module that can be called: one object, whatever was imported first.
        return module
    globals()[name] = value = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
