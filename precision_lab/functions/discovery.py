"""The definitions that a folder holds: whatever its modules call an `Activation`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable

from precision_lab.functions.base import Activation

# Reports and tables show these in this order, as they always have; what was added since follows by name.
FIRST = (
    "xielu", "xiprelu", "elu", "relu", "prelu", "relu2", "silu", "gelu", "gelu_tanh", "swiglu", "atlu",
    "xsilu", "xgelu", "xatlu", "xelu", "softplus", "selu", "mish", "xielu_cubic", "xielu_neg_xsilu",
    "xielu_neg_silu", "xielu_neg_zero", "xielu_trainable_beta", "xielu_fixed_alpha", "xiprelu_fixed_alpha",
    "sigmoid", "tanh", "logsigmoid", "celu", "geglu", "geglu_tanh", "reglu",
)  # fmt: skip


def definitions(package: str, folders: Iterable[str]) -> tuple[Activation, ...]:
    """Every activation that a module of a package names, each once; those of `FIRST`, then by name.

    Args:
        folders: the package's `__path__`.

    Raises:
        ImportError: a module does not run.
    """
    found: dict[int, Activation] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(folders)):
        for value in vars(importlib.import_module(f"{package}.{module}")).values():
            # By identity: two definitions of one name are for the registry to refuse.
            if isinstance(value, Activation):
                found[id(value)] = value
    places = {name: place for place, name in enumerate(FIRST)}
    return tuple(sorted(found.values(), key=lambda f: (places.get(f.name, len(places)), f.name)))


__all__ = ["definitions"]
