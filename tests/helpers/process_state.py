"""What a test could leave switched in its process, where another test would meet it."""

from __future__ import annotations

import os
import re
import sys
from array import array
from typing import Any, NamedTuple

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
    for name, module in list(sys.modules.items()):
        if name.startswith("precision_lab"):
            found[name] = _attributes(name, vars(module))
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


class Attributes(NamedTuple):
    """An attribute is the same object as before, and as long where it is a collection.

    Numbers alone, in arrays: so many tuples would start the collector of garbage, five thousand times.
    """

    names: tuple[str, ...]
    collections: tuple[str, ...]
    identities: array[int]
    lengths: array[int]

    def by_name(self) -> dict[str, int]:
        lengths = {f"len({name})": n for name, n in zip(self.collections, self.lengths, strict=True)}
        found = dict(zip(self.names, self.identities, strict=True)) | lengths
        return {name: value for name, value in found.items() if name[:2] != "__"}


_SEEN: dict[str, Attributes] = {}


def _attributes(name: str, values: dict[str, Any]) -> Attributes:
    identities = array("Q", map(id, values.values()))
    seen = _SEEN.get(name)
    if seen is None or seen.identities != identities:
        collections = tuple(k for k, v in values.items() if type(v) in COLLECTIONS and k[:2] != "__")
        seen = Attributes(tuple(values), collections, identities, array("Q"))
    lengths = array("Q", [len(values[k]) for k in seen.collections])
    if seen.lengths != lengths:
        seen = seen._replace(lengths=lengths)
    _SEEN[name] = seen
    return seen


def left_behind(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What differs, as (before, after); a module or an attribute that was imported in between does not."""
    found = {}
    for name in before | after:
        was, now = before.get(name), after.get(name)
        if was == now:
            continue
        if name.startswith("precision_lab"):
            if was and now:
                old, new = was.by_name(), now.by_name()
                changed = sorted(key for key in old.keys() & new.keys() if old[key] != new[key])
                found |= {f"{name}.{key}": (old[key], new[key]) for key in changed}
        elif name[0] == "$" or (name in before and name in after):
            found[name] = (was, now)
    return found
