"""precision_lab: proof-quality precision measurements of activation kernels.

Public names are loaded on first use, so that importing the package costs nothing
and brings in neither torch nor numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from precision_lab.system.ieee import guard_loading

__version__ = "0.1.0"

if TYPE_CHECKING:
    from precision_lab.formats import FORMATS, FloatFormat, get_format
    from precision_lab.functions import FUNCTIONS, activation, get_function
    from precision_lab.lowprecision.capture.watch import capture
    from precision_lab.measuring.measure import measure
    from precision_lab.oracle import Reference, reference
    from precision_lab.oracle.evaluate import evaluate
    from precision_lab.results import Measurement, Results
    from precision_lab.verifying.verdict import Verdict
    from precision_lab.verifying.verify import assert_accurate, verify

_HOMES = {
    "FORMATS": "formats",
    "FloatFormat": "formats",
    "get_format": "formats",
    "FUNCTIONS": "functions",
    "activation": "functions",
    "get_function": "functions",
    "capture": "lowprecision.capture.watch",
    "evaluate": "oracle",
    "reference": "oracle",
    "Reference": "oracle",
    "measure": "measuring.measure",
    "Measurement": "results",
    "Results": "results",
    "Verdict": "verifying.verdict",
    "assert_accurate": "verifying.verify",
    "verify": "verifying.verify",
}

# Modules that users name, by the names that the documentation gives them.
_MODULES = {"search": "verifying.search", "strategies": "inputs.strategies"}

__all__ = [
    "FORMATS",
    "FUNCTIONS",
    "FloatFormat",
    "Measurement",
    "Reference",
    "Results",
    "Verdict",
    "activation",
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
    if name in _MODULES:
        return importlib.import_module(f"precision_lab.{_MODULES[name]}")
    if name not in _HOMES:
        raise AttributeError(f"module 'precision_lab' has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(f"precision_lab.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
