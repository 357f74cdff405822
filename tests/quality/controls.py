"""Right kernels of every kind a user may bring: none may be called faulty."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from zoo import Specimen, right
from zoo_gradients import gate_kernel, silu

HELPERS = Path(__file__).parents[1] / "helpers"
CONTROLS: list[Specimen] = []


def control(what: str, name: str, kernel: Any, **options: Any) -> None:
    CONTROLS.append(Specimen(name, kernel, what, (), **options))


def wide(formula: Any) -> Any:
    """A formula in float64 around which autograd differentiates, rounded once."""

    def kernel(x, **params):
        return formula(x.double(), **{k: v.double() for k, v in params.items()}).to(x.dtype)

    return kernel


class Float64Silu(torch.nn.Module):
    def forward(self, x):
        return F.silu(x.double().clamp(min=-800)).to(x.dtype)  # at −inf it would be inf·0


class XIELU(torch.nn.Module):
    """Trained through its effective parameters."""

    def __init__(self, alpha_p=0.8, alpha_n=0.8, beta=0.5):
        super().__init__()
        self.alpha_p = torch.nn.Parameter(torch.tensor(float(alpha_p)))
        self.alpha_n = torch.nn.Parameter(torch.tensor(float(alpha_n)))
        self.beta = beta

    def forward(self, x):
        beta = torch.tensor(self.beta, dtype=x.dtype)
        return right(x, alpha_p=self.alpha_p, alpha_n=self.alpha_n, beta=beta)


class RawXIELU(torch.nn.Module):
    """Trained through softplus, as models have it."""

    def __init__(self, alpha_p=0.8, alpha_n=0.8, beta=0.5, dtype=None):
        super().__init__()
        raw = [torch.tensor(float(v), dtype=torch.float64).expm1().log() for v in (alpha_p, alpha_n - beta)]
        self.alpha_p = torch.nn.Parameter(raw[0].to(dtype))
        self.alpha_n = torch.nn.Parameter(raw[1].to(dtype))
        self.beta = beta

    def forward(self, x):
        beta = torch.tensor(self.beta, dtype=x.dtype)
        return right(x, alpha_p=F.softplus(self.alpha_p), alpha_n=beta + F.softplus(self.alpha_n), beta=beta)


def gelu(x):
    inside = x.clamp(-40, 40)  # beyond, 0 and x to every bit, where erfc and the density would give inf·0
    return torch.where(x > 40, x, inside * torch.erfc(inside * -(0.5**0.5)) / 2)


class CallableObject:
    def __call__(self, x, *, alpha_p, alpha_n, beta):
        return right(x, alpha_p=alpha_p, alpha_n=alpha_n, beta=beta)


def numpy_relu(x):
    return np.maximum(x, x.dtype.type(0))


def xiprelu(x, *, alpha_p, alpha_n, beta):
    return x * (torch.where(x > 0, alpha_p, alpha_n) * x + beta)


def factory(alpha_p, alpha_n, beta):
    return XIELU(alpha_p, alpha_n, beta)


control("the kernel every specimen is made from", "right", right, max_ulp=0.51)
control("the same in fp16", "right_fp16", right, fmts=("fp16",), max_ulp=0.51)
control("the same in fp32", "right_fp32", right, fmts=("fp32",), max_ulp=0.51)
control("with large and small α", "right_first_layer", right, params={"alpha_p": 170.0, "alpha_n": 1.2})
control("without a root", "right_rootless", right, params={"alpha_n": 0.4})
control("torch.relu", "relu", torch.relu, function="relu", fmts=("bf16", "fp16", "fp32"), max_ulp=0.5)
control("torch.nn.ReLU, an instance", "relu_module", torch.nn.ReLU(), function="relu", max_ulp=0.5)
control("torch.nn.ReLU, the class", "relu_class", torch.nn.ReLU, function="relu", max_ulp=0.5)
control(
    "numpy's maximum",
    "numpy_relu",
    numpy_relu,
    function="relu",
    outputs=("forward",),
    max_ulp=0.5,
    framework="numpy",
)
control("a module without parameters", "silu_module", Float64Silu(), function="silu", outputs=("forward",))
control(
    "float64 GELU", "gelu", wide(gelu), function="gelu", outputs=("forward", "grad_x"), fmts=("bf16", "fp16")
)
control("float64 softplus", "softplus", wide(F.softplus), function="softplus")
control(
    "torch's softplus in float32",
    "softplus_fp32",
    lambda x: F.softplus(x.float()).to(x.dtype),
    function="softplus",
    outputs=("forward",),
)
control("a class that takes the parameters", "XIELU", XIELU, max_ulp=0.51)
control("a module behind softplus", "RawXIELU", RawXIELU, outputs=("forward", "grad_x"), max_ulp=0.51)
control("a function that makes modules", "factory", factory, max_ulp=0.51)
control("a callable object", "object", CallableObject(), max_ulp=0.51)
control("functools.partial", "partial", functools.partial(right, beta=torch.tensor(0.5)), max_ulp=0.51)
control("**kwargs", "keywords", lambda x, **params: right(x, **params), max_ulp=0.51)
control(
    "parameters fixed inside",
    "fixed",
    lambda x: right(
        x,
        **{
            k: torch.tensor(v, dtype=x.dtype)
            for k, v in (("alpha_p", 0.75), ("alpha_n", 0.75), ("beta", 0.5))
        },
    ),
    params={"alpha_p": 0.75, "alpha_n": 0.75},
)
control("xIPReLU in float64", "xiprelu", wide(xiprelu), function="xiprelu", outputs=("forward", "grad_x"))


def silu_wide(x):
    return silu(x.double().clamp(min=-800)).to(x.dtype)


def swiglu(x, b):
    return (silu(x.double().clamp(min=-800)) * b.double()).to(x.dtype)


def swiglu_of_rows(x, b):
    """Refuses a gate that is not of x's shape, as fused kernels do."""
    if b.dim() and b.shape != x.shape:
        raise ValueError(f"gate of shape {tuple(b.shape)} for x of {tuple(x.shape)}")
    return gate_kernel()(x, b)


def prelu(x, *, alpha):
    return torch.where(x > 0, x, alpha * x.clamp(max=0))  # else d/dα at infinity would be inf·0


class PReLU(torch.nn.Module):
    """With its slope in FP32 whatever x is, and results as x."""

    def __init__(self, alpha=0.25):
        super().__init__()
        self.alpha = torch.nn.Parameter(torch.tensor(float(alpha)))

    def forward(self, x):
        return torch.where(x > 0, x.float(), self.alpha.float() * x.float().clamp(max=0)).to(x.dtype)


WIDE = ("bf16", "fp16", "fp32")
# Not fp16: 1.5·SiLU(43680) lies e^-43680 below the tie at which it overflows, which float64 cannot tell.
GATED = ("bf16", "fp32")
control("SiLU in float64", "silu_wide", silu_wide, function="silu", fmts=WIDE, outputs=("forward",))
control("SwiGLU around which autograd differentiates", "swiglu", swiglu, function="swiglu", fmts=GATED,
        outputs=("forward", "grad_b"))  # fmt: skip
control("SwiGLU as a Function", "swiglu_function", gate_kernel(), function="swiglu", fmts=GATED)
control("SwiGLU that takes no broadcast gate", "swiglu_of_rows", swiglu_of_rows, function="swiglu")
control("PReLU with a 0-d slope", "prelu", prelu, function="prelu", fmts=WIDE)
control("PReLU as a module, FP32 inside", "PReLU", PReLU, function="prelu", fmts=WIDE)
TRITON = f"{HELPERS / 'gpu_kernels.py'}:trained"
control("Triton on an emulated GPU", "trained", TRITON, function="relu", outputs=("forward", "grad_x"),
        device="sm_90")  # fmt: skip
