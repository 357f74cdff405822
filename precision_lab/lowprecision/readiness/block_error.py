"""What a whole MLP block loses: how much of it the activation's formulation, how much the recipe.

x → GEMM → f → GEMM forward and backward, against the same in float64 with the oracle's f.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from precision_lab.exceptions import UsageError
from precision_lab.functions import Activation
from precision_lab.implementations.base import Implementation
from precision_lab.lowprecision.recipes.linear import Operands, product
from precision_lab.lowprecision.recipes.recipes import get_recipe
from precision_lab.oracle import reference
from precision_lab.running.runner import call


@dataclass(frozen=True)
class BlockError:
    """The error of one result of the block.

    Attributes:
        recipe, formulation: under which, with which; "exact" stands for correctly rounded values.
        output: "y", "dx", "dw_up", "dw_down" or "d" and a parameter's name.
        relative: ‖computed − exact‖ / ‖exact‖.
        cosine: of the angle between both.
        of_formulation: the relative error that the formulation brings alone, products being those of FP32
            and data stored as the recipe's unfused kernels do.
        of_recipe: the relative error that the recipe brings alone, with correctly rounded activations.
    """

    recipe: str
    formulation: str
    output: str
    relative: float
    cosine: float
    of_formulation: float
    of_recipe: float


class _Exact(torch.autograd.Function):
    """The oracle's values, rounded to the input's dtype; parameters' gradients summed in float64."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, function: Activation, names: tuple[str, ...], *values: Tensor) -> Tensor:
        ctx.function, ctx.names = function, names
        ctx.params = {n: float(v) for n, v in zip(names, values, strict=True)}
        ctx.save_for_backward(h, *values)
        return _oracle(function, "forward", ctx.params, h).to(h.dtype)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        h, *values = ctx.saved_tensors
        dh = (dy.double() * _oracle(ctx.function, "grad_x", ctx.params, h)).to(h.dtype)
        gradients: list[Tensor | None] = []
        for name, value in zip(ctx.names, values, strict=True):
            if not value.requires_grad:
                gradients.append(None)
                continue
            local = _oracle(ctx.function, f"grad_{name}", ctx.params, h)
            gradients.append((dy.double() * local).sum().to(value.dtype))
        return (dh, None, None, *gradients)


def _oracle(function: Activation, output: str, params: Mapping[str, float], h: Tensor) -> Tensor:
    flat = h.detach().double().cpu().numpy().reshape(-1)
    found = reference(function, output, dict(params), flat, "fp64").exact
    return torch.from_numpy(np.asarray(found, np.float64)).reshape(h.shape).to(h.device)


def block_errors(
    function: Activation,
    params: Mapping[str, float] | None = None,
    *,
    recipes: Sequence[str],
    formulations: Mapping[str, Implementation],
    tokens: int = 256,
    width: int = 128,
    hidden: int = 384,
    seed: int = 0,
) -> list[BlockError]:
    """Errors of every result of a block, each split.

    Args:
        formulations: of the function, by what they are called in the results.
        tokens, width, hidden: sizes of x (tokens, width) and of the weights (hidden, width), (width, hidden).
        seed: of normal data; weights have variance 1/columns, and the upstream gradient a thousandth.

    Returns:
        one for each recipe, formulation and output. Under a recipe below FP32, activations, their gradients
        and the reduced gradients of the parameters are BF16.

    Raises:
        ValueError: unknown parameter or recipe; a function with a gate.
        KernelError: the implementation failed.
    """
    if function.is_gated:
        raise UsageError(f"function={function.name!r}: a block of one input is measured; it has a gate")
    values = function.check_params(params)
    data = _data(tokens, width, hidden, seed)

    @cache
    def run(kernel: Implementation | None, mode: str) -> dict[str, Tensor]:
        return _run(data, _Activation(function, kernel, values), mode)

    exact = run(None, "fp64")
    found = []
    for recipe in recipes:
        storage = "fp32" if get_recipe(recipe).name == "fp32" else "fp32 in bf16"
        of_recipe, exact_alone = run(None, recipe), run(None, storage)
        for formulation, kernel in formulations.items():
            both, alone = run(kernel, recipe), run(kernel, storage)
            for output, e in exact.items():
                errors = (
                    _relative(both[output], e),
                    _cosine(both[output], e),
                    _relative(alone[output], exact_alone[output]),
                    _relative(of_recipe[output], e),
                )
                found.append(BlockError(recipe, formulation, output, *errors))
    return found


def _data(tokens: int, width: int, hidden: int, seed: int) -> dict[str, Tensor]:
    rng = np.random.default_rng(seed)

    def normal(shape: tuple[int, int], deviation: float) -> Tensor:
        values = (rng.standard_normal(shape) * deviation).astype(np.float32)
        return torch.from_numpy(values).bfloat16().float()

    return {
        "x": normal((tokens, width), 1.0),
        "up": normal((hidden, width), width**-0.5),
        "down": normal((width, hidden), hidden**-0.5),
        "dy": normal((tokens, width), 1e-3),
    }


@dataclass(frozen=True)
class _Activation:
    """A function at parameters' values, and what computes it; None for correctly rounded values."""

    function: Activation
    kernel: Implementation | None
    values: Mapping[str, float]

    def parameters(self, dtype: torch.dtype) -> dict[str, Tensor]:
        return {name: torch.tensor(value, dtype=dtype) for name, value in self.values.items()}

    def __call__(self, h: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        if self.kernel is not None:
            return call(self.kernel, h, dict(parameters))
        result: Tensor = _Exact.apply(  # type: ignore[no-untyped-call]
            h, self.function, tuple(parameters), *parameters.values()
        )
        return result


def _run(data: Mapping[str, Tensor], f: _Activation, mode: str) -> dict[str, Tensor]:
    """Results of one pass; mode is a recipe, "fp64", or "fp32 in bf16": FP32 products between BF16 data."""
    dtype = {"fp64": torch.float64, "fp32": torch.float32}.get(mode, torch.bfloat16)
    wide = torch.float64 if mode == "fp64" else torch.float32
    x, up, down = (
        data[k].to(t, copy=True).requires_grad_() for k, t in (("x", dtype), ("up", wide), ("down", wide))
    )
    parameters = f.parameters(dtype)
    trainable = [p.name for p in f.function.parameters if p.trainable]
    for name in trainable:
        parameters[name].requires_grad_()
    if mode == "fp64":
        multiply: list[Callable[[Tensor, Tensor], Tensor]] = [_plain, _plain]
    else:
        recipe = "fp32" if mode == "fp32 in bf16" else mode
        operands = [Operands(recipe, torch.Generator().manual_seed(i)) for i in range(2)]
        _see_once(operands, data, f)
        multiply = [partial(product, operands=o) for o in operands]
    h = multiply[0](x, up)
    y = multiply[1](f(h, parameters), down)
    y.backward(data["dy"].to(y.dtype))  # type: ignore[no-untyped-call]
    found = {"y": y, "dx": x.grad, "dw_up": up.grad, "dw_down": down.grad}
    found |= {f"d{name}": parameters[name].grad for name in trainable}
    return {k: v.detach().double() for k, v in found.items() if v is not None}


def _plain(x: Tensor, w: Tensor) -> Tensor:
    return x @ w.t()


def _see_once(operands: Sequence[Operands], data: Mapping[str, Tensor], f: _Activation) -> None:
    """Delayed scaling scales by what it saw before: one pass over the same data, then a step."""
    if operands[0].states["input"] is None:
        return
    x, up, down = (data[k].clone().requires_grad_() for k in ("x", "up", "down"))
    h = product(x.bfloat16(), up, operands[0])
    y = product(f(h, f.parameters(torch.bfloat16)), down, operands[1])
    y.backward(
        data["dy"].bfloat16()  # type: ignore[no-untyped-call]
    )
    for o in operands:
        o.step()


def _relative(found: Tensor, exact: Tensor) -> float:
    norm = float(exact.norm())
    return float((found - exact).norm()) / norm if norm > 0 else math.nan


def _cosine(found: Tensor, exact: Tensor) -> float:
    norm = float(found.norm() * exact.norm())
    return float((found * exact).sum()) / norm if norm > 0 else math.nan


__all__ = ["BlockError", "block_errors"]
