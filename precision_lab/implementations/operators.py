"""torch's own elementwise operators, and activations that people compose from them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from precision_lab.functions.erf import erf
from precision_lab.functions.exp import exp
from precision_lab.functions.exp2 import exp2
from precision_lab.functions.expm1 import expm1
from precision_lab.functions.gpt_oss_swiglu import gpt_oss_swiglu
from precision_lab.functions.hardshrink import hardshrink
from precision_lab.functions.hardsigmoid import hardsigmoid
from precision_lab.functions.hardswish import hardswish
from precision_lab.functions.hardtanh import hardtanh
from precision_lab.functions.leaky_relu import leaky_relu
from precision_lab.functions.log1p import log1p
from precision_lab.functions.quick_gelu import quick_gelu
from precision_lab.functions.relu6 import relu6
from precision_lab.functions.rsqrt import rsqrt
from precision_lab.functions.snake import snake
from precision_lab.functions.softcap import softcap
from precision_lab.functions.softplus_torch import softplus_torch
from precision_lab.functions.softshrink import softshrink
from precision_lab.functions.softsign import softsign
from precision_lab.functions.star_relu import star_relu
from precision_lab.functions.swish import swish
from precision_lab.functions.tanhshrink import tanhshrink
from precision_lab.functions.threshold import threshold
from precision_lab.implementations.family import Formulation

# torch.compile keeps its variants per Python function: each kernel has one of its own.


def _exp(x: Tensor) -> Tensor:
    return torch.exp(x)


def _expm1(x: Tensor) -> Tensor:
    return torch.expm1(x)


def _exp2(x: Tensor) -> Tensor:
    return torch.exp2(x)


def _log1p(x: Tensor) -> Tensor:
    return torch.log1p(x)


def _rsqrt(x: Tensor) -> Tensor:
    return torch.rsqrt(x)


def _erf(x: Tensor) -> Tensor:
    return torch.erf(x)


def _softsign(x: Tensor) -> Tensor:
    return F.softsign(x)


def _tanhshrink(x: Tensor) -> Tensor:
    return F.tanhshrink(x)


def _hardswish(x: Tensor) -> Tensor:
    return F.hardswish(x)


def _hardsigmoid(x: Tensor) -> Tensor:
    return F.hardsigmoid(x)


def _hardtanh(x: Tensor) -> Tensor:
    return F.hardtanh(x)


def _relu6(x: Tensor) -> Tensor:
    return F.relu6(x)


def _leaky_relu(x: Tensor, *, slope: float) -> Tensor:
    return F.leaky_relu(x, slope)


def _threshold(x: Tensor, *, threshold: float, value: float) -> Tensor:
    return F.threshold(x, threshold, value)


def _softshrink(x: Tensor, *, lambd: float) -> Tensor:
    return F.softshrink(x, lambd)


def _hardshrink(x: Tensor, *, lambd: float) -> Tensor:
    return F.hardshrink(x, lambd)


def _softplus(x: Tensor, *, beta: float, threshold: float) -> Tensor:
    return F.softplus(x, beta, threshold)


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def _swish(x: Tensor, *, beta: Tensor) -> Tensor:
    return x * torch.sigmoid(beta * x)


def _star_relu(x: Tensor, *, scale: Tensor, bias: Tensor) -> Tensor:
    return scale * F.relu(x) ** 2 + bias


def _snake(x: Tensor, *, alpha: Tensor) -> Tensor:
    return x + torch.sin(alpha * x) ** 2 / alpha


def _softcap(x: Tensor, *, cap: float) -> Tensor:
    return cap * torch.tanh(x / cap)


def _gpt_oss_swiglu(x: Tensor, *, b: Tensor, alpha: float, limit: float) -> Tensor:
    gate, linear = x.clamp(max=limit), b.clamp(-limit, limit)
    return gate * torch.sigmoid(alpha * gate) * (linear + 1)


FORMULATIONS = (
    Formulation("torch", exp, _exp, "torch.exp"),
    Formulation("torch", expm1, _expm1, "torch.expm1"),
    Formulation("torch", exp2, _exp2, "torch.exp2"),
    Formulation("torch", log1p, _log1p, "torch.log1p"),
    Formulation("torch", rsqrt, _rsqrt, "torch.rsqrt"),
    Formulation("torch", erf, _erf, "torch.erf"),
    Formulation("torch", softsign, _softsign, "torch.nn.functional.softsign"),
    Formulation("torch", tanhshrink, _tanhshrink, "torch.nn.functional.tanhshrink"),
    Formulation("torch", hardswish, _hardswish, "torch.nn.functional.hardswish"),
    Formulation("torch", hardsigmoid, _hardsigmoid, "torch.nn.functional.hardsigmoid"),
    Formulation("torch", hardtanh, _hardtanh, "torch.nn.functional.hardtanh"),
    Formulation("torch", relu6, _relu6, "torch.nn.functional.relu6"),
    Formulation("torch", leaky_relu, _leaky_relu, "torch.nn.functional.leaky_relu", numbers=("slope",)),
    Formulation(
        "torch", threshold, _threshold, "torch.nn.functional.threshold", numbers=("threshold", "value")
    ),
    Formulation("torch", softshrink, _softshrink, "torch.nn.functional.softshrink", numbers=("lambd",)),
    Formulation("torch", hardshrink, _hardshrink, "torch.nn.functional.hardshrink", numbers=("lambd",)),
    Formulation(
        "torch", softplus_torch, _softplus, "torch.nn.functional.softplus", numbers=("beta", "threshold")
    ),
    Formulation("composed", quick_gelu, _quick_gelu, "x·sigmoid(1.702·x)"),
    Formulation("composed", swish, _swish, "x·sigmoid(β·x)"),
    Formulation("composed", star_relu, _star_relu, "s·relu(x)² + b"),
    Formulation("composed", snake, _snake, "x + sin(α·x)²/α"),
    Formulation("composed", softcap, _softcap, "c·tanh(x/c)", numbers=("cap",)),
    Formulation(
        "composed", gpt_oss_swiglu, _gpt_oss_swiglu, "gpt-oss's own: clamps, sigmoid, products",
        numbers=("alpha", "limit"),
    ),
)  # fmt: skip
