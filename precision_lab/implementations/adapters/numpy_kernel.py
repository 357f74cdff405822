"""numpy callables, ufuncs among them; gradients are functions of their own beside the kernel."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.functions import Activation
from precision_lab.implementations.adapters.bridge import Arrays, Bridge
from precision_lab.implementations.adapters.foreign_kernel import Foreign


def wrap_numpy(
    kernel: Any, names: tuple[str, ...], function: Activation, siblings: Callable[[str], Any]
) -> Foreign:
    """`kernel(x, **params)`; for `NAME`, d/dx is `NAME_grad_x(x, upstream, **params)`, if it is there."""
    name = getattr(kernel, "__name__", type(kernel).__name__)
    gradients = {
        output.removeprefix("grad_"): sibling
        for output in function.outputs[1:]
        if callable(sibling := siblings(f"{name}_{output}"))
    }

    def forward(x: NDArray[Any], params: Arrays) -> Any:
        with np.errstate(all="ignore"):  # results are judged, not warned of
            return kernel(x, **_scalars(params))

    def backward(
        x: NDArray[Any], upstream: NDArray[Any], params: Arrays, wanted: Collection[str]
    ) -> dict[str, Any]:
        with np.errstate(all="ignore"):
            return {
                key: np.broadcast_to(gradients[key](x, upstream, **_scalars(params)), x.shape)
                for key in wanted
                if key in gradients
            }

    outputs = ("forward", *(f"grad_{key}" for key in gradients))
    return Foreign(Bridge(name, names, forward, backward), outputs, names)


def _scalars(params: Arrays) -> dict[str, Any]:
    """0-d arrays as numpy's scalars, which are what numpy's own users have."""
    return {name: value[()] if value.ndim == 0 else value for name, value in params.items()}
