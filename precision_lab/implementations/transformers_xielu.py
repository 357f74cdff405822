"""Hugging Face transformers' XIELUActivation, as its users run it; the library's only home here."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from precision_lab.devices import CUDA
from precision_lab.exceptions import KernelError
from precision_lab.formats import BF16, FP16
from precision_lab.functions import XIELU
from precision_lab.implementations.adapters.module import from_module
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.inductor import EMULATE_CASTS
from precision_lab.system.extras import install_line


def _activation() -> Any:
    try:
        from transformers.activations import XIELUActivation
    except ImportError as error:
        raise KernelError(
            "missing_dependency", f"transformers is not installed; {install_line('transformers')}"
        ) from error
    # Every construction says that the fused CUDA kernel is missing, which is no news here.
    logging.getLogger("transformers.activations").setLevel(logging.ERROR)
    return XIELUActivation


def _module(params: Mapping[str, float], dtype: torch.dtype) -> torch.nn.Module:
    """Built and cast as a model in that dtype has it: raw parameters and buffers in the dtype.

    Raises:
        KernelError: alpha_n ≤ beta has no raw value, or transformers is missing.
    """
    if params["alpha_n"] <= params["beta"]:
        raise KernelError(
            "not_finite_parameters",
            f"alpha_n={params['alpha_n']!r} ≤ beta={params['beta']!r}: out of reach of beta + softplus(raw)",
        )
    module: Any = _activation()(beta=params["beta"], dtype=dtype)
    # Its constructor inverts softplus as log(expm1(alpha)), which overflows at the alpha of trained
    # first layers; a trained raw parameter simply has the value.
    with torch.no_grad():
        module.alpha_p.fill_(inverse_softplus(params["alpha_p"]))
        module.alpha_n.fill_(inverse_softplus(params["alpha_n"] - params["beta"]))
    cast: torch.nn.Module = module.to(dtype)
    return cast


def inverse_softplus(value: float) -> float:
    """a with log(1 + e^a) = value: value + log(1 − e^−value), which neither overflows nor cancels."""
    return value + math.log(-math.expm1(-value))


def _effective(module: torch.nn.Module) -> dict[str, float]:
    """What the module computes with: softplus of its raw parameters, in its own dtype."""
    own: Any = module
    with torch.no_grad():
        beta = torch.as_tensor(own.beta)
        return {
            "alpha_p": float(F.softplus(own.alpha_p)),
            "alpha_n": float(beta + F.softplus(own.alpha_n)),
            "beta": float(beta),
        }


def _implementation(**more: Any) -> Implementation:
    found = from_module(
        _module,
        XIELU,
        leaves={"raw_alpha_p": "alpha_p", "raw_alpha_n": "alpha_n"},
        name="transformers",
        effective=_effective,
        description="transformers.activations.XIELUActivation with its own raw parameters, softplus inside",
        **more,
    )
    return replace(found, import_line="from transformers.activations import XIELUActivation")


IMPLEMENTATIONS = (
    _implementation(),
    _implementation(compiled=True),
    replace(_implementation(compiled=True, inductor=EMULATE_CASTS, formats=(BF16, FP16)), devices=(CUDA,)),
)
