"""JAX callables, on the CPU; its only home here."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import KernelError
from precision_lab.implementations.adapters.bridge import Arrays, Bridge
from precision_lab.system.extras import install_line


def jax_kernel(kernel: Any, names: tuple[str, ...]) -> Bridge:
    """`kernel(x, **params)` on JAX arrays, differentiated by `jax.vjp`.

    Raises:
        KernelError: JAX is not installed.
    """
    try:
        import jax
        import jax.numpy as jnp
    except ImportError as error:
        raise KernelError("missing_dependency", f"JAX is not installed; {install_line('jax')}") from error
    device = jax.devices("cpu")[0]

    def array(values: NDArray[Any]) -> Any:
        if values.dtype == np.float64:
            # Without it JAX makes float32 of it in silence.
            settings: Any = jax.config
            settings.update("jax_enable_x64", True)
        # A copy: JAX may keep the memory, which is the caller's.
        return jax.device_put(jnp.asarray(np.array(values)), device)

    def forward(x: NDArray[Any], params: Arrays) -> Any:
        return _numpy(kernel(array(x), **{name: array(value) for name, value in params.items()}))

    def backward(
        x: NDArray[Any], upstream: NDArray[Any], params: Arrays, wanted: Collection[str]
    ) -> dict[str, Any]:
        def positional(point: Any, *values: Any) -> Any:
            return kernel(point, **dict(zip(params, values, strict=True)))

        sources = {"x": array(x), **{name: array(value) for name, value in params.items()}}
        _, pull = jax.vjp(positional, *sources.values())
        found = dict(zip(sources, pull(array(upstream)), strict=True))
        return {name: _numpy(found[name]) for name in wanted}

    return Bridge(getattr(kernel, "__name__", type(kernel).__name__), names, forward, backward)


def _numpy(result: Any) -> Any:
    """An array of JAX as one of numpy; anything else as it is, to be named as what it is."""
    return np.asarray(result) if hasattr(result, "devices") else result
