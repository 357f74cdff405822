"""What a test could leave switched in its process, where another test would meet it."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

import flint
import mpmath
import numpy as np

from precision_lab.registry import Registry
from precision_lab.system import ieee

# pytest's own; what importing torch's compiler and JAX sets, which changes no result.
SET_BY_OTHERS = re.compile("^PYTEST_CURRENT_TEST$|^_?TORCHINDUCTOR|^TF_CPP_MIN_LOG_LEVEL$|^TPU_")
COLLECTIONS = {dict, list, set, Registry}


def process_state() -> dict[str, Any]:
    """Switches by name, environment variables with a $ before theirs, and each module's attributes."""
    found: dict[str, Any] = {f"${k}": v for k, v in os.environ.items() if not SET_BY_OTHERS.search(k)}
    found |= {
        "working folder": os.getcwd(),
        "mpmath.mp.prec": mpmath.mp.prec,
        "flint.ctx.prec": flint.ctx.prec,
        "numpy's handling of errors": np.geterr(),
        "subnormal numbers are kept": not ieee.flushes(),
        "rounding is to nearest": ieee.rounds_to_nearest(),
    }
    for name in [name for name in sys.modules if name.startswith("precision_lab")]:
        # An attribute is the same object as before, and as long where it is a collection. Numbers alone:
        # so many tuples would start the collector of garbage.
        attributes: dict[str, int] = {}
        for k, v in vars(sys.modules[name]).items():
            if k[:2] != "__":
                attributes[k] = id(v)
                if type(v) in COLLECTIONS:
                    attributes[f"len({k})"] = len(v)
        found[name] = attributes
    if torch := sys.modules.get("torch"):
        found |= {
            "torch.get_default_dtype": torch.get_default_dtype(),
            "torch.get_num_threads": torch.get_num_threads(),
            "torch.is_grad_enabled": torch.is_grad_enabled(),
            "torch.is_inference_mode_enabled": torch.is_inference_mode_enabled(),
            "torch.is_autocast_enabled": torch.is_autocast_enabled("cpu"),
            "torch.are_deterministic_algorithms_enabled": torch.are_deterministic_algorithms_enabled(),
            "torch.get_float32_matmul_precision": torch.get_float32_matmul_precision(),
        }
    return found


def left_behind(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs, as (before, after); a module or an attribute that was imported in between does not."""
    found = {}
    for name in before | after:
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        if name.startswith("precision_lab"):
            both = (was or {}).keys() & (now or {}).keys()
            found |= {f"{name}.{key}": (was[key], now[key]) for key in sorted(both) if was[key] != now[key]}
        elif name[0] == "$" or (name in before and name in after):
            found[name] = (was, now)
    return found
