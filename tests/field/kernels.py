"""Activations as people run them, each a TARGET: `precision-lab verify tests/field/kernels.py:NAME …`.

Nothing here computes an activation on its own: these names hand a library what it asks for. A library
that is not installed is missed only by its own names.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from precision_lab.formats import BF16, FP16, FP32
from precision_lab.functions import XIELU
from precision_lab.implementations import Implementation
from precision_lab.implementations.transformers_xielu import inverse_softplus
from precision_lab.results.execution import MLX

# -- torch's own ------------------------------------------------------------------------------


def silu(x):
    return F.silu(x)


def gelu(x):
    return F.gelu(x)


def gelu_tanh(x):
    return F.gelu(x, approximate="tanh")


def elu(x):
    return F.elu(x)


def celu(x):
    return F.celu(x)


def selu(x):
    return F.selu(x)


def softplus(x):
    return F.softplus(x)


def mish(x):
    return F.mish(x)


def relu2(x):
    return F.relu(x).square()


# -- xIELU --------------------------------------------------------------------------------------


def formula(x, alpha_p, alpha_n, beta):
    """Equation 9 of arXiv 2411.13010 with expm1, as one writes it down."""
    return torch.where(x > 0, alpha_p * x * x + beta * x, alpha_n * (torch.expm1(x) - x) + beta * x)


def formula_jax(x, alpha_p, alpha_n, beta):
    import jax.numpy as jnp

    return jnp.where(x > 0, alpha_p * x * x + beta * x, alpha_n * (jnp.expm1(x) - x) + beta * x)


def transformers_xielu(alpha_p: float, alpha_n: float, beta: float, dtype: torch.dtype) -> torch.nn.Module:
    from transformers.activations import XIELUActivation

    module = XIELUActivation(alpha_p_init=alpha_p, alpha_n_init=alpha_n, beta=beta, dtype=dtype)
    return module.to(dtype)


def _mlx_lm() -> Implementation:
    """mlx-lm's function with arrays of x's dtype, as a model loaded in that dtype has them."""
    import mlx.core as mx
    import mlx.nn as nn
    from mlx_lm.models import activations

    from precision_lab.implementations.adapters.mlx_kernel import mlx_kernel

    dtypes = {FP32: mx.float32, BF16: mx.bfloat16, FP16: mx.float16}
    names = ("raw_alpha_p", "raw_alpha_n", "beta")

    def arrays(params: Any, fmt: Any) -> dict[str, Any]:
        values = {
            "raw_alpha_p": inverse_softplus(params["alpha_p"]),
            "raw_alpha_n": inverse_softplus(params["alpha_n"] - params["beta"]),
            "beta": params["beta"],
        }
        return {name: mx.array(value).astype(dtypes[fmt]) for name, value in values.items()}

    def leaves(params: Any, fmt: Any) -> dict[str, torch.Tensor]:
        dtype = getattr(torch, fmt.torch_name)
        return {name: torch.tensor(a.item(), dtype=dtype) for name, a in arrays(params, fmt).items()}

    def effective(params: Any, fmt: Any) -> dict[str, float]:
        a = arrays(params, fmt)
        return {
            "alpha_p": nn.softplus(a["raw_alpha_p"]).item(),
            "alpha_n": (a["beta"] + nn.softplus(a["raw_alpha_n"])).item(),
            "beta": a["beta"].item(),
        }

    def kernel(x: Any, raw_alpha_p: Any, raw_alpha_n: Any, beta: Any) -> Any:
        return activations.xielu(x, raw_alpha_p, raw_alpha_n, beta, mx.array(-1e-6).astype(x.dtype))

    return Implementation(
        name="mlx-lm", function=XIELU, kernel=mlx_kernel(kernel, names), execution=MLX,
        formats=tuple(dtypes), compute_dtype="storage", description="mlx_lm.models.activations.xielu",
        outputs=("forward", "grad_x", "grad_raw_alpha_p", "grad_raw_alpha_n"),
        leaves=leaves, effective=effective,
    )  # fmt: skip


def _ggml(function: str) -> Implementation:
    import ggml

    return ggml.implementation(function)


_LATE = {
    "mlx_lm_xielu": _mlx_lm,
    "ggml_xielu": lambda: _ggml("xielu"),
    "ggml_silu": lambda: _ggml("silu"),
    "ggml_gelu_tanh": lambda: _ggml("gelu_tanh"),
}


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return _LATE[name]()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
