"""xIELU and xIPReLU as `nn.Module`s with their trainable parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from precision_lab.kernels.operators import xielu, xiprelu


def _raw(name: str, alpha: float, least: float, device: Any, dtype: torch.dtype | None) -> nn.Parameter:
    """softplus⁻¹(alpha − least) = t + log(1 − e^−t), in a form that neither cancels nor overflows.

    Raises:
        ValueError: alpha is not above `least`, which softplus cannot reach.
    """
    if not alpha > least:
        raise ValueError(f"{name}={alpha!r}: must be greater than {least!r}")
    gap = torch.tensor([alpha - least], dtype=torch.float64)
    raw = gap + torch.log(-torch.expm1(-gap))
    return nn.Parameter(raw.to(device=device, dtype=dtype or torch.get_default_dtype()))


def _positive(raw: Tensor) -> Tensor:
    """softplus in float64, gradient included; of one element, so that only its launches take time."""
    return softplus(raw.double(), threshold=50.0)


class XIELU(nn.Module):
    """xIELU with trainable α_p and α_n, accurate in bf16, fp16 and fp32; Triton on CUDA, float64 on CPU.

    `alpha_p` and `alpha_n` are the raw parameters, shape (1,), that the optimiser sees, named and laid
    out as in Hugging Face's `XIELUActivation`, whose state dict it loads; `effective_parameters()` gives
    the values in the formula, α_p = softplus(alpha_p) and α_n = β + softplus(alpha_n).

    >>> layer = XIELU()
    >>> layer
    XIELU(alpha_p=0.8, alpha_n=0.8, beta=0.5)
    >>> layer(torch.tensor([-1.0, 0.0, 2.0], dtype=torch.bfloat16)).tolist()
    [-0.2060546875, 0.0, 4.1875]

    Args:
        alpha_p, alpha_n: initial effective values. beta: fixed.
        device, dtype: of the parameters; float32 is advised, whatever the dtype of x.

    Raises:
        ValueError: alpha_p ≤ 0 or alpha_n ≤ beta.

    Source: arXiv 2411.13010, section on xIELU.
    """

    beta: Tensor

    def __init__(
        self,
        alpha_p: float = 0.8,
        alpha_n: float = 0.8,
        beta: float = 0.5,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.alpha_p = _raw("alpha_p", alpha_p, 0.0, device, dtype)
        self.alpha_n = _raw("alpha_n", alpha_n, self._least(beta), device, dtype)
        self.register_buffer("beta", torch.tensor(beta, device=device, dtype=dtype))
        self.register_load_state_dict_pre_hook(_drop_eps)  # type: ignore[no-untyped-call]

    @staticmethod
    def _least(beta: float) -> float:
        """What α_n stays above."""
        return beta

    def effective_parameters(self) -> dict[str, Tensor]:
        """α_p, α_n and β as the kernel receives them, in float64; by these `verify` judges it."""
        beta = self.beta.double()
        return {"alpha_p": _positive(self.alpha_p), "alpha_n": beta + _positive(self.alpha_n), "beta": beta}

    def forward(self, x: Tensor) -> Tensor:
        """f(x); x of any floating-point dtype, shape and strides."""
        return xielu(x, **self.effective_parameters())

    def extra_repr(self) -> str:
        if self.beta.is_meta:
            return "values not yet loaded"
        values = self.effective_parameters()
        return ", ".join(f"{name}={float(value.detach()):.6g}" for name, value in values.items())


class XIPReLU(XIELU):
    """xIPReLU: as `XIELU`, with α_n x² + βx for x ≤ 0 and α_n = softplus(alpha_n)."""

    @staticmethod
    def _least(beta: float) -> float:
        return 0.0

    def effective_parameters(self) -> dict[str, Tensor]:
        """α_p, α_n and β as the kernel receives them, in float64; by these `verify` judges it."""
        return {
            "alpha_p": _positive(self.alpha_p),
            "alpha_n": _positive(self.alpha_n),
            "beta": self.beta.double(),
        }

    def forward(self, x: Tensor) -> Tensor:
        """f(x); x of any floating-point dtype, shape and strides."""
        return xiprelu(x, **self.effective_parameters())


def _drop_eps(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """The clamp that other implementations store is not needed here."""
    state.pop(f"{prefix}eps", None)
