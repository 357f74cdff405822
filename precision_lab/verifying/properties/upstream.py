"""What a backward does with the upstream gradient: its size, its NaNs, and how it lies in memory."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from precision_lab.running.tensors import to_numpy
from precision_lab.verifying.properties.checks import differ
from precision_lab.verifying.properties.pool import SEED
from precision_lab.verifying.properties.products import Float64, Mask, Products, random_significands, spread
from precision_lab.verifying.properties.subject import Subject
from precision_lab.verifying.properties.views import View, every_second

NO_GRADIENT = "no d/dx is examined"
LOSS_SCALE = 1024.0
ROUNDS = 4  # calls with upstream gradients of all magnitudes


def upstream(subject: Subject) -> str | None:
    """d/dx is proportional to the upstream gradient, whatever its size and however it lies in memory."""
    if "grad_x" not in subject.outputs:
        return NO_GRADIENT
    generator = np.random.Generator(np.random.PCG64(SEED + 1))
    products = Products(subject, "grad_x", "d/dx", subject.plain["grad_x"])
    significand = random_significands(subject.fmt, subject.size, generator)
    for name, value in (("-1", -1.0), (f"{LOSS_SCALE:g}, a loss scale", LOSS_SCALE)):
        if value > subject.fmt.max_finite:
            continue
        weight = np.full(subject.size, value)

        def same(name: str = name, weight: Float64 = weight) -> None:
            products.scaled(*_given(subject, weight), where=name)

        subject.tried(f"with upstream gradients of {name}", same)
    subject.tried(
        "with random upstream gradients",
        lambda: products.significands(*_given(subject, significand)),
    )
    for weight in spread(subject.fmt, significand, ROUNDS, generator):

        def scaled(weight: Float64 = weight) -> None:
            products.scaled(*_given(subject, weight))

        subject.tried("with upstream gradients of all magnitudes", scaled)
    if not products.steady.any():
        subject.leave_out("upstream gradients of other magnitudes", "no plain gradient is within its limit")
    if subject.case.finite:
        subject.leave_out("NaN and infinite upstream gradients", "only finite numbers are asked for")
    else:
        subject.tried(
            "with NaN and infinite upstream gradients",
            lambda: _nonfinite(subject, products, significand, generator),
        )
    _layouts(subject, products, significand)
    return None


def _given(subject: Subject, weight: Float64) -> tuple[Float64, Float64, Callable[[], Float64]]:
    """d/dx for upstream gradients of every element of a plain call, these, and d/dx once more."""

    def run() -> Float64:
        _, got = subject.run(subject.tensor(), upstream=lambda y: subject.put(weight).reshape(y.shape))
        assert got is not None
        return np.asarray(to_numpy(got.reshape(-1), subject.fmt), np.float64)

    values = run()
    return values, weight, lambda: values


def _nonfinite(
    subject: Subject, products: Products, significand: Float64, generator: np.random.Generator
) -> None:
    """A NaN arrives as NaN, an infinity as an infinity or NaN, and neither at other elements.

    That is what loss scaling looks at. Where the derivative is 0, torch's own kernels differ.
    """
    fmt = subject.fmt
    weight = significand.copy()
    order = generator.permutation(subject.size)
    kinds = {"NaN": order[0::16]}
    weight[order[0::16]] = np.nan
    if fmt.has_infinity:
        kinds["infinite"] = np.concatenate([order[1::16], order[2::16]])
        weight[order[1::16]], weight[order[2::16]] = np.inf, -np.inf
    values, _, _ = _given(subject, weight)
    derivative = subject.exact["grad_x"]
    # Only where the kernel's own derivative is no 0 that a mask or an underflow within its limit made.
    matters: Mask = products.right & (np.abs(derivative.exact) >= fmt.min_normal) & (products.plain != 0)
    matters &= ~np.isnan(subject.x)
    for name, places in kinds.items():
        arrived = np.isnan(values[places]) if name == "NaN" else ~np.isfinite(values[places])
        lost = places[~arrived & matters[places]]
        if lost.size:
            i = int(lost[0])
            subject.fault(
                "loses_nonfinite",
                f"with {'a NaN' if name == 'NaN' else 'an infinite'} upstream gradient, d/dx at "
                f"{subject.at(i)} is {float(values[i])!r}; {lost.size} of "
                f"{int(matters[places].sum())} do not arrive",
                "grad_x", count=int(lost.size),
            )  # fmt: skip
        masked = int((~arrived & (derivative.rounded[places] == 0)).sum())
        if masked:
            subject.notes.append(
                f"{fmt.name} grad_x: {name} upstream gradients do not arrive where d/dx is 0"
            )
    others = np.isfinite(weight)
    _, wrong, expected = products.off(values, np.where(others, weight, 0.0))
    if wrong.any():
        i = int(np.flatnonzero(wrong)[0])
        subject.fault(
            "misreads_upstream",
            f"with NaN and infinite upstream gradients at other elements, d/dx at {subject.at(i)} is "
            f"{float(values[i])!r} instead of {float(expected[i])!r}; {int(wrong.sum())} are off",
            "grad_x", count=int(wrong.sum()),
        )  # fmt: skip


def _layouts(subject: Subject, products: Products, significand: Float64) -> None:
    """d/dx is the same however the upstream gradient lies in memory."""
    ones: View = lambda t: torch.ones((), dtype=t.dtype, device=t.device).expand(t.shape)  # noqa: E731
    layouts: dict[str, View] = {
        "expanded from one number, as y.sum() gives it": ones,
        "a view at an odd offset": lambda t: torch.cat([t.reshape(-1)[:1], t.reshape(-1)])[1:].view(t.shape),
    }
    shape = subject.contract.shape_for(4096, 2)
    if shape is not None:
        layouts |= {
            "transposed": lambda t: t.t().contiguous().t(),
            "every second column": every_second,
            "one row expanded": lambda t: t[:1].expand(t.shape),
            "one column expanded": lambda t: t[:, :1].expand(t.shape),
        }
    else:
        subject.leave_out(
            "upstream gradients in rows and columns", f"the contract has none: {subject.contract.words()}"
        )
        shape = subject.shape
    n = math.prod(shape)
    index = np.arange(n) % subject.size
    drawn = subject.put(significand[index]).reshape(shape)
    limit = products.limit[index]
    steady = (products.right & (np.abs(products.exact) >= subject.fmt.min_normal))[index]
    steady &= np.isfinite(products.exact[index])
    plain: dict[bytes, Float64] = {}

    def gradient(given: Tensor) -> Float64:
        # Made anew: a kernel may overwrite what it gets.
        _, got = subject.run(subject.tensor(index, shape), upstream=lambda y: given)
        assert got is not None
        return np.asarray(to_numpy(got.reshape(-1), subject.fmt), np.float64)

    for name, layout in layouts.items():

        def laid(name: str = name, layout: View = layout) -> None:
            given = layout(drawn)
            copied = given.clone(memory_format=torch.contiguous_format)
            values = gradient(given)
            key = to_numpy(copied, subject.fmt).tobytes()  # views of the same numbers share one call
            if key not in plain:
                plain[key] = gradient(copied)
            plainly = plain[key]
            finite = np.isfinite(values) & np.isfinite(plainly)
            with np.errstate(invalid="ignore"):
                ulp = subject.fmt.ulp(np.where(finite, plainly, 0.0))
                # Another number altogether: vectors and single elements may differ in digits that cancel.
                apart = np.abs(values - plainly) > np.maximum((4 * limit + 2) * ulp, np.abs(plainly) / 8)
                weight = np.asarray(to_numpy(copied, subject.fmt), np.float64).reshape(-1)
                expected = np.where(steady, products.exact[index] * weight, 0.0)
                off = ~(np.abs(values - expected) <= (2 * limit + 2) * subject.fmt.ulp(expected))
            wrong = steady & differ(values, plainly) & ~(finite & ~apart) & off
            if wrong.any():
                i = int(np.flatnonzero(wrong)[0])
                subject.fault(
                    "misreads_upstream",
                    f"with an upstream gradient {name}, element {i} of d/dx is {float(values[i])!r}, and "
                    f"{float(plainly[i])!r} with a contiguous copy of it; {int(wrong.sum())} differ",
                    "grad_x", count=int(wrong.sum()),
                )  # fmt: skip

        subject.tried(f"with an upstream gradient {name}", laid)
