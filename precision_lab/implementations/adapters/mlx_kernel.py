"""MLX callables; its only home here."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import KernelError
from precision_lab.implementations.adapters.bridge import Arrays, Bridge
from precision_lab.system.extras import install_line


def mlx_kernel(kernel: Any, names: tuple[str, ...]) -> Bridge:
    """`kernel(x, **params)` on MLX arrays, differentiated by `mlx.core.vjp`.

    Raises:
        KernelError: MLX is not installed.
    """
    try:
        import mlx.core as mx
    except ImportError as error:
        raise KernelError(
            "missing_dependency", f"MLX cannot be used ({error}); {install_line('mlx')}"
        ) from error

    def array(values: NDArray[Any]) -> Any:
        values = np.ascontiguousarray(values).reshape(values.shape)
        if values.dtype.name == "bfloat16":
            return mx.array(values.view(np.uint16)).view(mx.bfloat16)
        if values.dtype.name.startswith("float8"):
            raise TypeError(f"MLX has no {values.dtype.name}")
        return mx.array(values)

    def back(result: Any) -> Any:
        if not isinstance(result, mx.array):
            return result
        if result.dtype == mx.bfloat16:
            import ml_dtypes

            return np.array(result.view(mx.uint16)).view(ml_dtypes.bfloat16)
        return np.array(result)

    def forward(x: NDArray[Any], params: Arrays) -> Any:
        return back(kernel(array(x), **{name: array(value) for name, value in params.items()}))

    def backward(
        x: NDArray[Any], upstream: NDArray[Any], params: Arrays, wanted: Collection[str]
    ) -> dict[str, Any]:
        def positional(point: Any, *values: Any) -> Any:
            return [kernel(point, **dict(zip(params, values, strict=True)))]

        sources = {"x": array(x), **{name: array(value) for name, value in params.items()}}
        _, gradients = mx.vjp(positional, list(sources.values()), [array(upstream)])
        found = dict(zip(sources, gradients, strict=True))
        return {name: back(found[name]) for name in wanted}

    return Bridge(getattr(kernel, "__name__", type(kernel).__name__), names, forward, backward)
