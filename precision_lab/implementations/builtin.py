"""torch's own activations, and those of the paper's family that torch lacks, composed from its operations."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from precision_lab.functions import (
    ATLU,
    CELU,
    ELU,
    GEGLU,
    GEGLU_TANH,
    GELU,
    GELU_TANH,
    LOGSIGMOID,
    MISH,
    PRELU,
    REGLU,
    RELU,
    RELU2,
    SELU,
    SIGMOID,
    SILU,
    SOFTPLUS,
    SWIGLU,
    TANH,
    XATLU,
    XELU,
    XGELU,
    XSILU,
)
from precision_lab.implementations.family import Formulation


def _atlu(x: Tensor) -> Tensor:
    return x * (torch.atan(x) / math.pi + 0.5)


def prelu(x: Tensor, *, alpha: Tensor) -> Tensor:
    return torch.where(x > 0, x, alpha * x)


def elu(x: Tensor, *, alpha: Tensor) -> Tensor:
    # F.elu takes alpha as a Python float; scaling its negative side gives alpha a gradient.
    return torch.where(x > 0, x, alpha * F.elu(torch.clamp(x, max=0.0)))


def relu2(x: Tensor) -> Tensor:
    return F.relu(x).square()


def swiglu(x: Tensor, *, b: Tensor) -> Tensor:
    return F.silu(x) * b


def geglu(x: Tensor, *, b: Tensor) -> Tensor:
    return F.gelu(x) * b


def geglu_tanh(x: Tensor, *, b: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh") * b


def reglu(x: Tensor, *, b: Tensor) -> Tensor:
    return F.relu(x) * b


def xsilu(x: Tensor, *, alpha: Tensor) -> Tensor:
    return (1 + 2 * alpha) * F.silu(x) - alpha * x


def xgelu(x: Tensor, *, alpha: Tensor) -> Tensor:
    return (1 + 2 * alpha) * F.gelu(x) - alpha * x


def xatlu(x: Tensor, *, alpha: Tensor) -> Tensor:
    return (1 + 2 * alpha) * _atlu(x) - alpha * x


def xelu(x: Tensor, *, alpha: Tensor) -> Tensor:
    return (1 + 2 * alpha) * F.elu(x) - alpha * x


# torch.compile keeps its variants per Python function; torch's own share one wrapper, ours do not.


def relu(x: Tensor) -> Tensor:
    return F.relu(x)


def silu(x: Tensor) -> Tensor:
    return F.silu(x)


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x)


def softplus(x: Tensor) -> Tensor:
    return F.softplus(x)


def selu(x: Tensor) -> Tensor:
    return F.selu(x)


def mish(x: Tensor) -> Tensor:
    return F.mish(x)


def gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def sigmoid(x: Tensor) -> Tensor:
    return torch.sigmoid(x)


def tanh(x: Tensor) -> Tensor:
    return torch.tanh(x)


def logsigmoid(x: Tensor) -> Tensor:
    return F.logsigmoid(x)


def celu(x: Tensor, *, alpha: float) -> Tensor:
    return F.celu(x, alpha)


FORMULATIONS = (
    Formulation("torch", RELU, relu, "torch.nn.functional.relu"),
    Formulation("torch", PRELU, prelu, "torch.where(x > 0, x, α·x)"),
    Formulation("torch", RELU2, relu2, "torch.nn.functional.relu(x).square()"),
    Formulation("torch", SILU, silu, "torch.nn.functional.silu"),
    Formulation("torch", GELU, gelu, "torch.nn.functional.gelu"),
    Formulation("torch", GELU_TANH, gelu_tanh, "torch.nn.functional.gelu(x, approximate='tanh')"),
    Formulation("torch", ELU, elu, "torch.nn.functional.elu scaled by α"),
    Formulation("torch", SWIGLU, swiglu, "torch.nn.functional.silu(x)·b"),
    Formulation("torch", SOFTPLUS, softplus, "torch.nn.functional.softplus"),
    Formulation("torch", SELU, selu, "torch.nn.functional.selu", parameters=()),
    Formulation("torch", MISH, mish, "torch.nn.functional.mish"),
    Formulation("torch", SIGMOID, sigmoid, "torch.sigmoid"),
    Formulation("torch", TANH, tanh, "torch.tanh"),
    Formulation("torch", LOGSIGMOID, logsigmoid, "torch.nn.functional.logsigmoid"),
    Formulation("torch", CELU, celu, "torch.nn.functional.celu", numbers=("alpha",)),
    Formulation("torch", GEGLU, geglu, "torch.nn.functional.gelu(x)·b"),
    Formulation("torch", GEGLU_TANH, geglu_tanh, "torch.nn.functional.gelu(x, approximate='tanh')·b"),
    Formulation("torch", REGLU, reglu, "torch.nn.functional.relu(x)·b"),
    Formulation("composed", ATLU, _atlu, "x·(atan(x)/π + ½)"),
    Formulation("composed", XSILU, xsilu, "(1 + 2α)·silu(x) − α·x"),
    Formulation("composed", XGELU, xgelu, "(1 + 2α)·gelu(x) − α·x"),
    Formulation("composed", XATLU, xatlu, "(1 + 2α)·atlu(x) − α·x"),
    Formulation("composed", XELU, xelu, "(1 + 2α)·elu(x) − α·x"),
)
