"""The activations: one file each, and their registry.

A definition is found by its file alone. Those that other modules name are imported here as well.
"""

from __future__ import annotations

from precision_lab.functions.ablations import (
    XIELU_CUBIC,
    XIELU_FIXED_ALPHA,
    XIELU_NEG_SILU,
    XIELU_NEG_XSILU,
    XIELU_NEG_ZERO,
    XIELU_TRAINABLE_BETA,
    XIPRELU_FIXED_ALPHA,
)
from precision_lab.functions.atlu import ATLU
from precision_lab.functions.base import Activation, Parameter
from precision_lab.functions.celu import CELU
from precision_lab.functions.discovery import definitions
from precision_lab.functions.elu import ELU
from precision_lab.functions.from_formula import activation
from precision_lab.functions.geglu import GEGLU
from precision_lab.functions.geglu_tanh import GEGLU_TANH
from precision_lab.functions.gelu import GELU
from precision_lab.functions.gelu_tanh import GELU_TANH
from precision_lab.functions.loading import from_file, names_file
from precision_lab.functions.logsigmoid import LOGSIGMOID
from precision_lab.functions.mish import MISH
from precision_lab.functions.namesake import check_namesake
from precision_lab.functions.parameters import Asked, Effective, Parameters
from precision_lab.functions.prelu import PRELU
from precision_lab.functions.reglu import REGLU
from precision_lab.functions.relu import RELU
from precision_lab.functions.relu2 import RELU2
from precision_lab.functions.selu import SELU
from precision_lab.functions.sigmoid import SIGMOID
from precision_lab.functions.silu import SILU
from precision_lab.functions.softplus import SOFTPLUS
from precision_lab.functions.swiglu import SWIGLU
from precision_lab.functions.tanh import TANH
from precision_lab.functions.xatlu import XATLU
from precision_lab.functions.xelu import XELU
from precision_lab.functions.xgelu import XGELU
from precision_lab.functions.xielu import XIELU
from precision_lab.functions.xiprelu import XIPRELU
from precision_lab.functions.xsilu import XSILU
from precision_lab.registry import Registry

__all__ = [
    "ATLU",
    "CELU",
    "ELU",
    "FUNCTIONS",
    "GEGLU",
    "GEGLU_TANH",
    "GELU",
    "GELU_TANH",
    "LOGSIGMOID",
    "MISH",
    "PRELU",
    "REGLU",
    "RELU",
    "RELU2",
    "SELU",
    "SIGMOID",
    "SILU",
    "SOFTPLUS",
    "SWIGLU",
    "TANH",
    "XATLU",
    "XELU",
    "XGELU",
    "XIELU",
    "XIELU_CUBIC",
    "XIELU_FIXED_ALPHA",
    "XIELU_NEG_SILU",
    "XIELU_NEG_XSILU",
    "XIELU_NEG_ZERO",
    "XIELU_TRAINABLE_BETA",
    "XIPRELU",
    "XIPRELU_FIXED_ALPHA",
    "XSILU",
    "Activation",
    "Asked",
    "Effective",
    "Parameter",
    "Parameters",
    "activation",
    "get_function",
]

FUNCTIONS = Registry("function", Activation, definitions(__name__, __path__))


def get_function(function: str | Activation) -> Activation:
    """The registered activation of that name, or the one that a file has: FILE:NAME.

    >>> xielu = get_function("xielu")
    >>> xielu.outputs
    ('forward', 'grad_x', 'grad_alpha_p', 'grad_alpha_n', 'grad_beta')
    >>> get_function("xielo")
    Traceback (most recent call last):
        ...
    precision_lab.exceptions.UsageError: unknown function 'xielo'; did you mean xielu, xiprelu, xelu?

    Raises:
        ValueError: no such function; names the nearest ones. As `loading.from_file`.
    """
    if isinstance(function, str) and names_file(function):
        found = from_file(function)
        if found.name in FUNCTIONS:
            check_namesake(found, FUNCTIONS[found.name])
        return found
    return FUNCTIONS.get(function)
