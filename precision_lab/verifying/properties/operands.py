"""Operands that are not x: each has a value of its own in every place, and is read where it lies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precision_lab.exceptions import KernelError
from precision_lab.numeric.certainty import CERTIFIED_ULPS
from precision_lab.oracle import Reference, reference
from precision_lab.running.tensors import to_numpy
from precision_lab.verifying.properties.pool import SEED, Index
from precision_lab.verifying.properties.products import LUCKY, Float64
from precision_lab.verifying.properties.subject import Subject
from precision_lab.verifying.properties.sums import Sum
from precision_lab.verifying.properties.views import View, every_second, left, offset, right

# Of both signs and several magnitudes, and of every format; positive ones alone where the operand must be.
VALUES = (1.5, -0.75, 3.0, -24.0, 0.125, -0.015625, 96.0, -1.25, 0.40625, 7.0, -5.5, 0.0703125, -0.9375)
INPUTS = 251  # of x
ELEMENTS = 4096


def operands(subject: Subject) -> str | None:
    """Operands that are not x have values of their own in every place."""
    function, implementation = subject.function, subject.implementation
    named = function.operands
    if not named:
        return f"{function.name} has no operand beside x"
    if implementation.execution.one_number:
        return "a C kernel is given its operands as single numbers"
    for parameter in named:
        if parameter.name not in subject.leaves:
            return f"the kernel is not given {parameter.name}"
        trial = _Operand(subject, parameter.name, positive=parameter.positive)
        subject.tried(f"with {parameter.name} of the shape of x", trial.constant)
        if trial.own:
            trial.layouts()
    return None


@dataclass(frozen=True)
class _Call:
    """Results by output of one call, flattened, and in which input and value each element had."""

    values: dict[str, Float64]
    inputs: Index
    chosen: Index
    weight: Float64


class _Operand:
    """One operand of a kernel, which takes a few values in all places.

    Attributes:
        own: by output, the kernel's result for each value (row) and input (column), from calls in
            which the operand has one value everywhere.
    """

    def __init__(self, subject: Subject, name: str, *, positive: bool) -> None:
        self.subject, self.name, self.grad = subject, name, f"grad_{name}"
        self.outputs = [
            o for o in ("forward", "grad_x", self.grad) if o in subject.outputs + subject.parameters
        ]
        fmt = subject.fmt
        self.values = np.unique(fmt.round(np.abs(VALUES) if positive else np.array(VALUES)))
        usual = np.flatnonzero(
            np.isfinite(subject.x) & (np.abs(subject.x) < 8) & (np.abs(subject.x) > 2.0**-4)
        )
        self.pool = np.resize(usual, INPUTS) if usual.size else np.arange(INPUTS) % subject.size
        self.x = subject.x[self.pool]
        self.generator = np.random.Generator(np.random.PCG64(SEED + 3))
        self.own: dict[str, Float64] = {}
        self._exact: dict[tuple[str, int], Reference] = {}

    # -- exact values ---------------------------------------------------------------------------

    def exact(self, output: str, value: int) -> Reference:
        """Of every input, for the operand's value of that number."""
        key = output, value
        if key not in self._exact:
            params = {**self.subject.effective, self.name: float(self.values[value])}
            function = self.subject.function
            self._exact[key] = reference(function, output, params, self.x, self.subject.fmt)
        return self._exact[key]

    def allowed(self, output: str, exact: Float64) -> Float64:
        """How far off a result for another value of the operand may be, its upstream gradient a power of
        two: as a product with an upstream gradient, for it may be that operand's product with something
        that is within its limit.
        """
        bound = self.subject.terms.bounds[output]
        limit = max([bound.max_ulp, *bound.regions.values()])
        small = self.subject.fmt.min_normal if bound.flush_subnormals else self.subject.fmt.min_subnormal
        return np.asarray((2 * limit + 1 + CERTIFIED_ULPS) * self.subject.fmt.ulp(exact) + 16 * small)

    # -- calls ----------------------------------------------------------------------------------

    def call(
        self, x: Tensor, operand: Tensor, inputs: Index, chosen: Index, weight: Float64
    ) -> tuple[_Call, Tensor | None]:
        """Results of one call, and the operand's gradient as it comes."""
        subject = self.subject
        point, leaf = x.detach(), operand.detach()
        sources: list[Tensor] = []
        if "grad_x" in self.outputs:
            sources.append(point.requires_grad_())
        if self.grad in self.outputs:
            sources.append(leaf.requires_grad_())
        y = subject.forward(point, {**subject.leaves, self.name: leaf})
        kept = {"forward": y.detach().clone()} if "forward" in self.outputs else {}
        if sources:
            found = list(subject.backward(y, sources, subject.put(weight).reshape(y.shape)))
            kept |= dict(zip([o for o in self.outputs if o != "forward"], found, strict=True))
        summed = kept.get(self.grad)
        if summed is not None and summed.shape != y.shape:
            del kept[self.grad]
        values = {o: np.asarray(to_numpy(t.reshape(-1), subject.fmt), np.float64) for o, t in kept.items()}
        return _Call(values, inputs, chosen, weight), summed

    def constant(self) -> None:
        """Each value everywhere: accurate, too, where it is not the one that was measured."""
        subject = self.subject
        shape = subject.contract.shape_for(INPUTS, len(subject.shape)) or subject.shape
        n = math.prod(shape)
        inputs = np.arange(n) % INPUTS
        own: dict[str, list[Float64]] = {o: [] for o in self.outputs}
        for number, value in enumerate(self.values):
            # Made anew: the call before may have overwritten what it got.
            x = subject.tensor(self.pool[inputs], shape)
            given = subject.put(np.full(n, value)).reshape(shape)
            found, _ = self.call(x, given, inputs, np.full(n, number), np.ones(n))
            for output, values in found.values.items():
                own[output].append(values[:INPUTS])
                self._accurate(output, number, values[:INPUTS])
        self.own = {o: np.stack(rows) for o, rows in own.items()}

    def _accurate(self, output: str, number: int, values: Float64) -> None:
        reference_ = self.exact(output, number)
        exact = reference_.exact
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(values - exact) <= self.allowed(output, exact)) & np.isfinite(reference_.rounded)
        if wrong.sum() > wrong.size // LUCKY:
            i = int(np.flatnonzero(wrong)[0])
            self.subject.fault(
                "inaccurate",
                f"with {self.name}={float(self.values[number])!r} everywhere, "
                f"{self.subject.at(int(self.pool[i]))} gives {float(values[i])!r} instead of "
                f"{float(exact[i])!r}; {int(wrong.sum())} of {wrong.size} are off",
                output, count=int(wrong.sum()),
            )  # fmt: skip

    # -- layouts --------------------------------------------------------------------------------

    def layouts(self) -> None:
        """The operand in one, two and three dimensions, with strides and an offset of its own."""
        subject = self.subject
        same: View = lambda t: t  # noqa: E731
        transposed: View = lambda t: t.transpose(-1, -2).contiguous().transpose(-1, -2)  # noqa: E731
        flat: Mapping[str, tuple[View, View]] = {
            "contiguous": (same, same),
            "every second element of a longer tensor": (same, every_second),
            "a view at an odd offset": (same, offset),
        }
        rows: Mapping[str, tuple[View, View]] = {
            "contiguous": (same, same),
            "transposed": (same, transposed),
            "contiguous beside a transposed x": (transposed, same),
            "every second column of a wider tensor": (same, every_second),
            "the right half of a wider tensor of which x is the left": (left, right),
            "a view at an odd offset": (same, offset),
            "one row expanded": (same, lambda t: t[..., :1, :].expand(t.shape)),
            "one column expanded": (same, lambda t: t[..., :1].expand(t.shape)),
        }
        compiled = subject.implementation.execution.compiled
        if compiled:
            subject.leave_out(f"{self.name} in two dimensions", "for each, a graph would be compiled anew")
        for dims in (1,) if compiled else (1, 2, 3):
            shape = subject.contract.shape_for(ELEMENTS, dims)
            if shape is None or not subject.contract.accepts(shape):
                subject.leave_out(
                    f"{self.name} in {dims} dimensions",
                    f"the contract leaves it out: {subject.contract.words()}",
                )
                continue
            for where, (lay_x, lay_operand) in (flat if dims == 1 else rows).items():
                if dims == 3 and where not in ("contiguous", "transposed"):
                    continue

                def work(
                    where: str = where, shape: tuple[int, ...] = shape, lay_x: View = lay_x,
                    lay_operand: View = lay_operand,
                ) -> None:  # fmt: skip
                    self._laid(f"{where}, of shape {shape}", shape, lay_x, lay_operand)

                subject.tried(f"with {self.name} {where}, of shape {shape}", work)
            if dims == 2:
                self._broadcast(shape)

    def _drawn(self, shape: tuple[int, ...]) -> tuple[Index, Index, Float64]:
        """Which input and which of the operand's values each element has, and its upstream gradient."""
        n = math.prod(shape)
        inputs = np.arange(n) % INPUTS  # a prime: every row begins elsewhere
        chosen = self.generator.integers(0, self.values.size, n)
        # Powers of two, so that products are what they were, only larger or smaller.
        weight = np.ldexp(self.generator.choice([-1.0, 1.0], n), self.generator.integers(-2, 3, n))
        return inputs, chosen, weight

    def _laid(self, where: str, shape: tuple[int, ...], lay_x: View, lay_operand: View) -> None:
        inputs, chosen, weight = self._drawn(shape)
        given = lay_operand(self.subject.put(self.values[chosen]).reshape(shape))
        # What the layout shows in every place, which for an expanded row is not what was drawn.
        numbers: NDArray[np.intp] = lay_operand(torch.from_numpy(chosen).reshape(shape)).reshape(-1).numpy()
        x = lay_x(self.subject.tensor(self.pool[inputs], shape))
        found, _ = self.call(x, given, inputs, numbers, weight)
        self._compare(where, found)

    def _compare(self, where: str, found: _Call) -> None:
        """Holds results against those of the same input and value where that value is everywhere."""
        for output, values in found.values.items():
            scale = np.ones(values.size) if output == "forward" else found.weight
            with np.errstate(invalid="ignore"):
                own = self.own[output][found.chosen, found.inputs] * scale
                differs = ~((values == own) | (np.isnan(values) & np.isnan(own)))
            if not differs.any():
                continue
            exact = np.stack([self.exact(output, k).exact for k in range(self.values.size)])
            expected = exact[found.chosen, found.inputs] * scale
            with np.errstate(invalid="ignore"):
                wrong = differs & ~(np.abs(values - expected) <= self.allowed(output, expected))
                # Another number altogether, as the values of the operand are at least a fifth apart:
                # vectors and single elements may differ in digits that cancel.
                wrong &= ~(np.abs(values - own) <= np.abs(own) / 8)
                # Where they all cancel, as in torch's GELU far left, the kernel is wrong anyway, and may be
                # wrong in another way elsewhere: that says nothing of where it reads.
                wrong &= (own == expected) | (np.abs(own - expected) <= self.allowed(output, expected))
            if wrong.any():
                i = int(np.flatnonzero(wrong)[0])
                self.subject.fault(
                    "misreads_operand",
                    f"with {self.name} {where}: element {i}, x={float(self.x[found.inputs[i]])!r}, "
                    f"{self.name}={float(self.values[found.chosen[i]])!r}, is {float(values[i])!r} instead "
                    f"of {float(expected[i])!r}; {int(wrong.sum())} of {wrong.size} are off",
                    output, count=int(wrong.sum()),
                )  # fmt: skip

    def _broadcast(self, shape: tuple[int, ...]) -> None:
        """One row or one column for all of x, of that shape; a kernel need not take it."""
        fmt = self.subject.fmt
        for axis, name in ((0, "row"), (1, "column")):
            inputs, chosen, weight = self._drawn(shape)
            small = (1, shape[1]) if axis == 0 else (shape[0], 1)
            where = f"of shape {small} beside x of {shape}"
            picked = chosen[: math.prod(small)]
            everywhere = np.broadcast_to(picked.reshape(small), shape).reshape(-1)
            # The beginning of a tensor as large as x: what reads on finds numbers, not foreign memory.
            whole = self.subject.put(self.values[chosen])
            operand = whole[: picked.size].reshape(small)
            try:
                found, summed = self.call(
                    self.subject.tensor(self.pool[inputs], shape), operand, inputs, everywhere, weight
                )
            except KernelError as error:
                self.subject.leave_out(
                    f"one {name} of {self.name}, {where}", f"the kernel refuses it: {error}"
                )
                continue
            self._compare(where, found)
            if summed is None or self.grad not in self.outputs:
                continue
            # d/d(operand) at each value, summed over the axis that it was broadcast along.
            got = np.asarray(to_numpy(summed.reshape(-1), fmt), np.float64)
            bound = self.subject.terms.bounds[self.grad]
            limit = max([bound.max_ulp, *bound.regions.values()])
            places = np.arange(weight.size).reshape(shape)
            for j in range(0, picked.size, max(1, picked.size // 16)):
                line = places[:, j] if axis == 0 else places[j]
                params = {**self.subject.effective, self.name: float(self.values[picked[j]])}
                total = Sum(self.subject, self.grad, limit, params, self.x)
                exact, allowed = total.at(inputs[line], weight[line])
                own = float(self.own[self.grad][picked[j], inputs[line]] @ weight[line])
                if not min(abs(got[j] - exact), abs(got[j] - own)) <= allowed:
                    self.subject.fault(
                        "misreads_operand",
                        f"with {self.name} {where}, the gradient of its element {j} is {float(got[j])!r} "
                        f"instead of {exact!r}; {allowed:.3g} off would be allowed",
                        self.grad,
                    )  # fmt: skip
                    break
