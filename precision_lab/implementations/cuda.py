"""CUDA C++ kernels under test, compiled at run time with IEEE arithmetic and with fast math."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from importlib import resources
from typing import Any

import torch
from torch import Tensor

from precision_lab.devices import CUDA
from precision_lab.exceptions import KernelError
from precision_lab.functions import XIELU
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.cuda_program import program
from precision_lab.implementations.family import NARROW, WIDE
from precision_lab.numeric.nvrtc import FAST, Program
from precision_lab.results.execution import CUDA_CPP

THREADS = 256
_NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}
_FORMS = {
    "naive": ("expf(x) − 1 in FP32", WIDE),
    "expm1": ("expm1f(x) in FP32", WIDE),
    "packed": ("h2exp(x) − 1, two numbers at a time, every operation rounded", NARROW),
}
# As nvcc compiles by default: multiplications and additions may be fused.
_USUAL = ("--fmad=true",)


def source() -> str:
    """The kernels' text."""
    return (
        resources.files("precision_lab.implementations")
        .joinpath("activations.cu")
        .read_text(encoding="utf-8")
    )


@lru_cache(maxsize=8)
def _program(device: torch.device, fast: bool) -> Program:
    try:
        return program(source(), "activations.cu", device, FAST if fast else _USUAL)
    except ImportError as error:
        raise KernelError("missing_dependency", str(error)) from error


class _Compiled(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, form: str, fast: bool, x: Tensor, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor
    ) -> Tensor:
        # Packed kernels take an even number of elements from an even place on, and parameters in pairs.
        flat, n = x.contiguous().reshape(-1), x.numel()
        per = 2 if form == "packed" else 1
        count = -(-n // per)
        each = any(p.numel() != 1 for p in (alpha_p, alpha_n, beta))
        flat = _padded(flat, count, per)
        parameters = [
            _padded(p.to(x.dtype).expand(x.shape).reshape(-1), count, per)
            if each
            else p.to(x.dtype).reshape(1).repeat(per)
            for p in (alpha_p, alpha_n, beta)
        ]
        y = torch.empty_like(flat)
        if n:
            _program(x.device, fast).launch(
                f"{form}_{_NAMES[x.dtype]}_forward", -(-count // THREADS), THREADS,
                [flat, y, *parameters, int(each), count],
            )  # fmt: skip
        ctx.save_for_backward(flat, *parameters)
        kinds = [(p.shape, p.dtype) for p in (alpha_p, alpha_n, beta)]
        ctx.how = (form, fast, each, count, per, x.shape, kinds)
        return y[:n].reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        flat, *parameters = ctx.saved_tensors
        form, fast, each, count, per, shape, kinds = ctx.how
        n = dy.numel()
        upstream = _padded(dy.contiguous().reshape(-1), count, per)
        found = [torch.empty_like(flat) for _ in range(4)]
        if n:
            _program(flat.device, fast).launch(
                f"{form}_{_NAMES[flat.dtype]}_backward", -(-count // THREADS), THREADS,
                [upstream, flat, *parameters, *found, int(each), count],
            )  # fmt: skip
        d_x, *rest = (t[:n].reshape(shape) for t in found)
        sums = [g.sum_to_size(size).to(dtype) for g, (size, dtype) in zip(rest, kinds, strict=True)]
        return None, None, d_x, *sums


def _padded(flat: Tensor, count: int, per: int) -> Tensor:
    """`count` groups of `per` elements, at an address that is a multiple of a group's size."""
    flat = flat.contiguous()
    missing = count * per - flat.numel()
    if missing:
        return torch.nn.functional.pad(flat, (0, missing))
    # A view may begin in the middle of a pair, where reading one is an error of the whole context.
    return flat.clone() if flat.data_ptr() % (per * flat.itemsize) else flat


def kernel(form: str, fast: bool, x: Tensor, *, alpha_p: Tensor, alpha_n: Tensor, beta: Tensor) -> Tensor:
    """xIELU by one of the forms; `fast` compiles it with --use_fast_math."""
    result: Tensor = _Compiled.apply(form, fast, x, alpha_p, alpha_n, beta)  # type: ignore[no-untyped-call]
    return result


def _all() -> Iterator[Implementation]:
    for form, (words, formats) in _FORMS.items():
        for fast in (False, True):
            yield Implementation(
                f"{form} fast-math" if fast else form, XIELU, partial(kernel, form, fast), CUDA_CPP, formats,
                "storage" if form == "packed" else "fp32",
                words + (", --use_fast_math" if fast else ""), devices=(CUDA,), capability=(8, 0),
            )  # fmt: skip


IMPLEMENTATIONS = tuple(_all())
