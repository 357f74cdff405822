"""mase-triton 0.0.7: its quantisers to MX formats and to small floats."""

from __future__ import annotations

import torch


def _mxfp(x: torch.Tensor, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Bytes of codes, one an element, and bytes of E8M0 scales, one for 32 elements of a row."""
    from mase_triton.mxfp import meta
    from mase_triton.mxfp.kernels.cast import extract_mxfp_components

    scales, codes = extract_mxfp_components(x.flatten(), getattr(meta, name))
    return codes.reshape(x.shape), scales.reshape(x.shape[0], -1)


def mxfp8_e4m3(x):
    codes, scales = _mxfp(x, "MXFP8_E4M3_fn")
    return codes.view(torch.float8_e4m3fn), scales


def mxfp8_e5m2(x):
    codes, scales = _mxfp(x, "MXFP8_E5M2_fn")
    return codes.view(torch.float8_e5m2), scales


def mxfp6_e2m3(x):
    return _mxfp(x, "OCP_MXFP6_E2M3")


def mxfp6_e3m2(x):
    return _mxfp(x, "OCP_MXFP6_E3M2")


def mxfp4_e2m1(x):
    """One code a byte: the package packs no pairs."""
    return _mxfp(x, "OCP_MXFP4_E2M1")


def minifloat(x, exp_bits=4, frac_bits=3, is_finite=True, round_mode="rn"):
    """Codes alone, as uint16: the format has no scale."""
    from mase_triton.minifloat.kernels.cast import extract_minifloat_component
    from mase_triton.minifloat.meta import MinifloatMeta

    meta = MinifloatMeta(exp_bits, frac_bits, is_finite, round_mode)
    return extract_minifloat_component(x, meta), torch.ones(1, device=x.device)
