"""llama.cpp's CPU kernels, from the library that llama-cpp-python installs, through ctypes.

Struct layouts are those of ggml.h 0.25 (MIT licence); forward only, as ggml trains nothing here.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from precision_lab.exceptions import KernelError
from precision_lab.formats import BF16, FP16, FP32, FloatFormat
from precision_lab.functions import get_function
from precision_lab.implementations import Implementation
from precision_lab.implementations.adapters.bridge import Bridge
from precision_lab.implementations.transformers_xielu import inverse_softplus
from precision_lab.results.execution import C

_TYPES = {"float32": 0, "float16": 1, "bfloat16": 30}
_PARAMS_AT = 84  # offset of op_params in ggml_tensor: type, buffer, ne[4], nb[4], op come before


class _Init(ctypes.Structure):
    _fields_ = (
        ("mem_size", ctypes.c_size_t),
        ("mem_buffer", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


@lru_cache(maxsize=1)
def _libraries() -> tuple[Any, Any]:
    found = importlib.util.find_spec("llama_cpp")
    if found is None or found.origin is None:
        raise KernelError("missing_dependency", "llama-cpp-python is not installed")
    folder = Path(found.origin).parent / "lib"
    base, cpu = (
        ctypes.CDLL(str(folder / name), mode=ctypes.RTLD_GLOBAL)
        for name in ("libggml-base.so", "libggml-cpu.so")
    )
    base.ggml_init.restype = base.ggml_new_tensor_1d.restype = base.ggml_new_graph.restype = ctypes.c_void_p
    base.ggml_get_data.restype = ctypes.c_void_p
    return base, cpu


def _apply(name: str, x: np.ndarray[Any, Any], *constants: float) -> tuple[Any, tuple[float, float]]:
    """y and the first two constants that ggml stored with the operation."""
    base, cpu = _libraries()
    x = np.ascontiguousarray(x)
    p = ctypes.c_void_p
    context = p(base.ggml_init(_Init(2 * x.nbytes + (1 << 22), None, False)))
    try:
        source = p(
            base.ggml_new_tensor_1d(context, ctypes.c_int(_TYPES[x.dtype.name]), ctypes.c_int64(x.size))
        )
        operation = getattr(base, f"ggml_{name}")
        operation.restype = ctypes.c_void_p
        result = p(operation(context, source, *(ctypes.c_float(c) for c in constants)))
        stored = (ctypes.c_float * 3).from_address(result.value + _PARAMS_AT)
        if x.size:
            ctypes.memmove(base.ggml_get_data(source), x.ctypes.data, x.nbytes)
            graph = p(base.ggml_new_graph(context))
            base.ggml_build_forward_expand(graph, result)
            cpu.ggml_graph_compute_with_ctx(context, graph, ctypes.c_int(1))
        y = np.empty_like(x)
        if x.size:
            ctypes.memmove(y.ctypes.data, base.ggml_get_data(result), x.nbytes)
        return y, (stored[1], stored[2])
    finally:
        base.ggml_free(context)


def _raw(params: Mapping[str, float]) -> tuple[float, float, float, float]:
    """alpha_n, alpha_p behind their softplus, beta, eps: what ggml_xielu takes."""
    alpha_n = inverse_softplus(params["alpha_n"] - params["beta"])
    return alpha_n, inverse_softplus(params["alpha_p"]), params["beta"], -1e-6


def implementation(function: str) -> Implementation:
    """ggml's operation as an implementation, without gradients."""
    _libraries()
    names = ("alpha_p", "alpha_n", "beta") if function == "xielu" else ()

    def forward(x: Any, params: Any) -> Any:
        constants = (
            _raw({name: float(value.reshape(-1)[0]) for name, value in params.items()}) if names else ()
        )
        y, _ = _apply({"gelu_tanh": "gelu"}.get(function, function), x.reshape(-1), *constants)
        return y.reshape(x.shape)

    def leaves(params: Mapping[str, float], fmt: FloatFormat) -> dict[str, torch.Tensor]:
        return {name: torch.tensor(params[name], dtype=torch.float64) for name in names}

    def effective(params: Mapping[str, float], fmt: FloatFormat) -> dict[str, float]:
        """What ggml's own softplus made of the raw values, in FP32 whatever the tensor's type."""
        if not names:
            return dict(params)
        _, (alpha_n, alpha_p) = _apply("xielu", np.ones(1, np.float32), *_raw(params))
        return {"alpha_p": alpha_p, "alpha_n": alpha_n, "beta": params["beta"]}

    def nothing(*arguments: Any) -> dict[str, Any]:
        return {}

    bridge = Bridge(f"ggml_{function}", names, forward, nothing)
    return Implementation(
        name="ggml", function=get_function(function), kernel=bridge, execution=C, formats=(FP32, BF16, FP16),
        compute_dtype="fp32", description=f"ggml_{function} of llama.cpp", outputs=("forward",),
        leaves=leaves, effective=effective,
    )  # fmt: skip
