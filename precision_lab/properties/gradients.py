"""What a backward does with the upstream gradient, and parameters' gradients with their sums."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precision_lab.implementations.runner import to_numpy
from precision_lab.oracle import enclosures
from precision_lab.properties.subject import SEED, SLACK, Subject, differ

NO_GRADIENT = "the kernel gives no d/dx"


def upstream(subject: Subject) -> str | None:
    """d/dx is proportional to the upstream gradient, however that lies in memory."""
    if "grad_x" not in subject.outputs:
        return NO_GRADIENT
    index = np.arange(subject.size)
    exact, plain = subject.exact["grad_x"].exact, subject.plain["grad_x"]
    fmt = subject.fmt
    with np.errstate(invalid="ignore"):
        roomy = (
            np.isfinite(plain) & (np.abs(exact) >= fmt.min_normal * 8) & (np.abs(exact) <= fmt.max_finite / 8)
        )
    # Where the plain gradient is wrong already, nothing can be said about its scaling.
    limit = subject.limits("grad_x")
    roomy &= subject.errors("grad_x", plain, index) <= limit + SLACK
    generator = np.random.Generator(np.random.PCG64(SEED + 1))
    drawn = fmt.round(generator.uniform(0.5, 2.0, index.size) * generator.choice([-1.0, 1.0], index.size))
    scales = {"2": np.full(index.size, 2.0), "-1": np.full(index.size, -1.0), "0.5": np.full(index.size, 0.5)}
    if fmt.bits < 64:
        scales["random numbers"] = drawn
    for name, scale in scales.items():

        def scaled(name: str = name, scale: NDArray[np.float64] = scale) -> None:
            _, got = subject.run(subject.tensor(), upstream=lambda y: subject.put(scale))
            assert got is not None
            values = np.asarray(to_numpy(got, fmt), np.float64)
            expected = scale * exact
            with np.errstate(invalid="ignore"):
                error = np.abs(values - expected) / fmt.ulp(expected)
            # The product is rounded once more than the derivative, which was within its limit.
            allowed = limit if name in ("2", "-1", "0.5") else 2 * limit + 1
            wrong = roomy & ~(error <= allowed + 2 * SLACK)
            # Where terms cancel, an inaccurate kernel may be lucky for 1 alone; that is no matter of scale.
            if wrong.sum() > roomy.sum() // 16:
                i = int(np.argmax(np.where(wrong, np.nan_to_num(error, nan=np.inf), -1.0)))
                subject.fault(
                    "ignores_upstream",
                    f"with an upstream gradient of {name}, d/dx at x={float(subject.x[i])!r} is "
                    f"{float(values[i])!r} instead of {float(expected[i])!r}; {int(wrong.sum())} are off",
                    "grad_x", ulps=float(error[i]), count=int(wrong.sum()),
                )  # fmt: skip

        subject.tried(f"with an upstream gradient of {name}", scaled)
    square = np.arange(4096)
    layouts: dict[str, Callable[[Tensor], Tensor]] = {
        "expanded from one number, as y.sum() gives it": lambda y: torch.ones(
            (), dtype=y.dtype, device=y.device
        ).expand(y.shape),
        "transposed": lambda y: subject.put(drawn[:4096]).reshape(64, 64).t(),
        "a view at an odd offset": lambda y: (
            subject.put(drawn)[1:4097].reshape(64, 64)
            if drawn.size > 4096
            else subject.put(drawn[:4096]).reshape(64, 64)
        ),
        "every second column": lambda y: subject.put(np.repeat(drawn[:4096], 2)).reshape(64, 128)[:, ::2],
    }
    for name, make in layouts.items():

        def laid(name: str = name, make: Callable[[Tensor], Tensor] = make) -> None:
            x = subject.tensor(square).reshape(64, 64)
            _, got = subject.run(x, upstream=make)
            _, same = subject.run(x, upstream=lambda y: make(y).contiguous())
            assert got is not None and same is not None
            values, plainly = (np.asarray(to_numpy(t.reshape(-1), fmt), np.float64) for t in (got, same))
            differs = differ(values, plainly) & roomy[square]
            with np.errstate(invalid="ignore"):
                apart = np.abs(values - plainly) > (4 * limit[square] + 2) * fmt.ulp(plainly)
            wrong = differs & ~(np.isfinite(values) & ~apart)
            if wrong.any():
                i = int(np.flatnonzero(wrong)[0])
                subject.fault(
                    "misreads_upstream",
                    f"with an upstream gradient {name}, element {i} of d/dx is {float(values[i])!r}, and "
                    f"{float(plainly[i])!r} with a contiguous copy of it; {int(wrong.sum())} differ",
                    "grad_x", count=int(wrong.sum()),
                )  # fmt: skip

        subject.tried(f"with an upstream gradient {name}", laid)
    return None


def reductions(subject: Subject) -> str | None:
    """A parameter's gradient is the sum over all elements, none missing, and keeps its accuracy."""
    outputs = [o for o in subject.parameters if o.removeprefix("grad_") in subject.leaves]
    if subject.implementation.execution == "c":
        return "in C the sum is the lab's own"
    if not outputs:
        return "the kernel gives no parameter's gradient"
    usual = subject.x[np.isfinite(subject.x) & (np.abs(subject.x) < 8) & (np.abs(subject.x) > 2.0**-4)]
    usual = np.unique(usual)
    for output in outputs:
        high, low, _ = enclosures(subject.implementation.function, output, subject.effective, usual)
        terms, x = high + low, usual
        chosen = np.abs(terms) > 0
        if not chosen.any():
            continue
        _reduced(subject, output, x[chosen], terms[chosen])
    return None


def _reduced(subject: Subject, output: str, x: NDArray[np.float64], terms: NDArray[np.float64]) -> None:
    name, fmt = output.removeprefix("grad_"), subject.fmt
    generator = np.random.Generator(np.random.PCG64(SEED + 2))

    def gradient(index: NDArray[np.intp], weight: NDArray[np.float64]) -> float:
        leaves = dict(subject.leaves)
        leaves[name] = leaves[name].detach().clone().requires_grad_()
        y = subject.forward(subject.put(x[index]), leaves)
        return float(subject.backward(y, [leaves[name]], subject.put(weight))[0].double().sum())

    def separate(index: NDArray[np.intp]) -> NDArray[np.float64]:
        """The kernel's gradient for each element, as it gives it where the parameter is x-shaped."""
        leaves = dict(subject.leaves)
        point = subject.put(x[index])
        leaves[name] = leaves[name].detach().expand(point.shape).clone().requires_grad_()
        y = subject.forward(point, leaves)
        found = subject.backward(y, [leaves[name]], torch.ones_like(y))[0]
        return np.asarray(to_numpy(found, fmt), np.float64)

    def judged(kind: str, where: str, index: NDArray[np.intp], weight: NDArray[np.float64]) -> None:
        got = gradient(index, weight)
        products = weight * terms[index]
        exact, size = math.fsum(products), math.fsum(np.abs(products))
        # Each term within its bound and its product rounded; then a sum in float32 or better, whose
        # error grows with the logarithm of the length; then one rounding into the result's dtype.
        single = (subject.terms.bounds[output].max_ulp + 0.5) * math.fsum(fmt.ulp(products[products != 0]))
        unit = min(2.0**-24, fmt.unit_roundoff)
        adding = (math.log2(max(index.size, 2)) + 8) * unit * size
        allowed = single + adding + (0.5 + SLACK) * float(fmt.ulp(np.array([exact]))[0])
        if abs(exact) > fmt.max_finite / 2 or abs(got - exact) <= allowed:
            return
        # Terms that are wrong one by one are a matter of accuracy: the sum of the kernel's own is right too.
        own = weight * separate(index)
        slack = allowed + math.fsum(fmt.ulp(own[own != 0])) / 2 + adding
        if math.isfinite(math.fsum(np.abs(own))) and abs(got - math.fsum(own)) <= slack:
            return
        subject.fault(
            kind,
            f"{where}, the sum is {got!r} instead of {exact!r}; {allowed:.3g} would be allowed",
            output, ulps=float((got - exact) / fmt.ulp(np.array([exact]))[0]),
        )  # fmt: skip

    def work() -> None:
        for n in (1, 3, 8, 1000, 1025, 4099, (1 << 16) + 3):
            index = generator.integers(0, x.size, n)
            places = {0, n // 2, n - 1} if n > 5000 else {0, 1, 7, 8, 255, 256, n // 2, n - 9, n - 2, n - 1}
            for place in sorted(places & set(range(n))):
                weight = np.zeros(n)
                weight[place] = 1.0
                judged(
                    "reduction_incomplete",
                    f"with an upstream gradient of 1 for element {place} of {n} and 0 for the others",
                    index, weight,
                )  # fmt: skip
        for n in (4099, (1 << 17) + 5):
            index = generator.integers(0, x.size, n)
            judged("reduction_inaccurate", f"over {n} elements, upstream 1", index, np.ones(n))
            # Pairs that cancel but for a small remainder: an ill-conditioned sum.
            half = np.concatenate([index[: n // 2], index[: n // 2], index[-1:]])
            weight = np.ones(half.size)
            weight[n // 2 : -1] = -1.0
            order = generator.permutation(half.size)
            judged(
                "reduction_inaccurate",
                f"over {half.size} elements that cancel but for one",
                half[order], weight[order],
            )  # fmt: skip
        index = generator.integers(0, x.size, 5003)
        weight = fmt.round(generator.standard_normal(index.size))
        first = gradient(index, weight)
        others = {gradient(index, weight) for _ in range(6)}
        if others - {first} and not math.isnan(first):
            subject.fault(
                "not_deterministic",
                f"the same sum over {index.size} elements gave {first!r} and {max(others - {first})!r}",
                output,
            )

    subject.tried(f"in the sum of {output}", work)


def operands(subject: Subject) -> str | None:
    """Operands that are not x have values of their own in every place."""
    return "not written yet"


def training_step(subject: Subject) -> str | None:
    """The step that training runs."""
    return "not written yet"
