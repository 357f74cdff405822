"""A kernel under examination: its calls, with exact values for a pool of inputs to hold them against."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precision_lab.exceptions import KernelError, kernel_error
from precision_lab.functions import Activation, Asked, Effective
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.contract import CallContract
from precision_lab.implementations.guard import guarded
from precision_lab.inputs import sets as input_sets
from precision_lab.numeric.certainty import CERTIFIED_ULPS
from precision_lab.oracle import Reference, reference
from precision_lab.results import Finding, NotExamined, Witness
from precision_lab.running.case import Case
from precision_lab.running.placement import raise_if_lost
from precision_lab.running.runner import call, leaf_tensors
from precision_lab.running.tensors import from_bits, to_numpy, to_tensor
from precision_lab.scoring import errors as metrics
from precision_lab.scoring.statistics import exact_decimal
from precision_lab.verifying.properties.checks import check_like, differ, hexadecimal, lies, take
from precision_lab.verifying.properties.pool import POOL, SEED, Index, pool_of
from precision_lab.verifying.properties.terms import Terms

T = TypeVar("T")

Pair = tuple[Tensor, Tensor | None]  # forward and d/dx


@dataclass(frozen=True)
class Others:
    """Results of another call: of inputs `index` of the pool, which stood at `places` among `size`."""

    values: NDArray[np.float64]
    index: Index
    places: Index
    size: int


class Subject:
    """One kernel in one format at one set of parameters, with exact values for a pool of inputs.

    Only shapes that the implementation's contract accepts are used.

    Args:
        case: its outputs are those that it is examined in.

    Raises:
        KernelError: it cannot be given these parameters, or fails in a plain call.
    """

    def __init__(self, case: Case, terms: Terms) -> None:
        self.case, self.fmt, self.params_name, self.terms = case, case.fmt, case.params_name, terms
        self.contract: CallContract = case.implementation.contract
        self.outputs: tuple[str, ...] = tuple(o for o in ("forward", "grad_x") if o in case.outputs)
        self.parameters = tuple(o for o in case.outputs if o not in ("forward", "grad_x"))
        self.faults: list[Finding] = []
        self.notes: list[str] = []
        self.not_examined: list[NotExamined] = []
        generator = np.random.Generator(np.random.PCG64(SEED))
        self.shape = self.contract.shape_for(POOL) or (POOL,)
        pool = pool_of(case, generator)
        # A pool that just fills the shape of a plain call; its last inputs twice where that is larger.
        self.bits = np.resize(pool, math.prod(self.shape))
        self.x = self.fmt.decode(self.bits)
        self.exact = {o: self._reference(o) for o in self.outputs}
        self._leaves = leaf_tensors(case)
        self._limits: dict[str, NDArray[np.float64]] = {}
        try:
            plain = self.run(self.tensor())
        except KernelError:
            # A backward that fails is known by now; what the forward does is still worth knowing.
            if self.outputs != ("forward", "grad_x") or "grad_x" in terms.accurate:
                raise
            self.outputs, self.parameters = ("forward",), ()
            plain = self.run(self.tensor())
        self.plain = self.values(plain)

    @property
    def implementation(self) -> Implementation:
        return self.case.implementation

    @property
    def function(self) -> Activation:
        return self.case.function

    @property
    def leaves(self) -> dict[str, Tensor]:
        """Parameters and operands for one call: a kernel may overwrite what it gets, and it is wrong once."""
        return {name: leaf.detach().clone() for name, leaf in self._leaves.items()}

    @property
    def asked(self) -> Asked:
        return self.case.asked

    @property
    def effective(self) -> Effective:
        return self.case.effective

    @property
    def size(self) -> int:
        """Inputs of the pool, which are the elements of a plain call."""
        return self.x.size

    def _reference(self, output: str) -> Reference:
        return reference(self.function, output, self.effective, self.x, self.fmt)

    # -- calls ----------------------------------------------------------------------------------

    def tensor(self, index: Index | slice | None = None, shape: tuple[int, ...] | None = None) -> Tensor:
        """Inputs of the pool, contiguous, in memory of their own.

        Args:
            index: which; by default all, in the shape of a plain call.
            shape: by default that of a plain call for the whole pool, else one dimension.
        """
        bits = self.bits if index is None else self.bits[index]
        given = from_bits(bits.reshape(-1), self.fmt).to(self.implementation.device.torch)
        if shape is None:
            shape = self.shape if index is None else (-1,)
        return given.reshape(shape)

    def put(self, values: NDArray[np.float64]) -> Tensor:
        """Values of the format as a tensor where the kernel runs."""
        return to_tensor(values, self.fmt).to(self.implementation.device.torch)

    def forward(self, x: Tensor, leaves: Mapping[str, Tensor] | None = None) -> Tensor:
        """The kernel's result.

        Raises:
            KernelError: it raised, gave something else than a tensor like x, or left elements unwritten on a
                device that knows.
        """
        self.terms.announce(f"x of shape {tuple(x.shape)}, {lies(x)}")
        self.implementation.device.unwritten()  # what others have read before
        y = self.guarded(lambda: call(self.implementation, x, self.leaves if leaves is None else leaves))
        check_like(y, x, "forward")
        self._check_written(y, "forward")
        return y

    def _check_written(self, value: Tensor, what: str) -> None:
        if words := self.implementation.device.unwritten(value):
            raise KernelError("unwritten_read", f"{what}: {words}")

    def run(
        self,
        x: Tensor,
        leaves: Mapping[str, Tensor] | None = None,
        upstream: Callable[[Tensor], Tensor] = torch.ones_like,
    ) -> Pair:
        """Forward and d/dx of one call, x being given as it is: strides, offset and all.

        The forward result is a copy, taken before the backward can write into it.

        Raises:
            KernelError: as `forward`, also for the gradient.
        """
        if "grad_x" not in self.outputs:
            return self.forward(x, leaves), None
        point = x.detach().requires_grad_()
        y = self.forward(point, leaves)
        kept = y.detach().clone()
        return kept, self.backward(y, [point], upstream(y))[0]

    def backward(self, y: Tensor, sources: Sequence[Tensor], upstream: Tensor) -> tuple[Tensor, ...]:
        """Gradients of Σ upstream·y.

        Raises:
            KernelError: autograd raised, reached none, or gave one with unwritten elements, as `forward`.
        """
        if not y.requires_grad:
            raise KernelError("not_differentiable", "the result has no gradient")
        self.terms.announce(f"the backward, upstream of shape {tuple(upstream.shape)}, {lies(upstream)}")
        self.implementation.device.unwritten()  # what others have read before
        found = self.guarded(
            lambda: torch.autograd.grad(y, list(sources), upstream, allow_unused=True), "backward: "
        )
        for gradient, source in zip(found, sources, strict=True):
            if gradient is None:
                raise KernelError("not_differentiable", "no gradient reaches an argument")
            check_like(gradient, source, "a gradient")
            self._check_written(gradient, "a gradient")
        return found

    def guarded(self, work: Callable[[], T], before: str = "") -> T:
        """What the kernel's code gives, as `guard.guarded`.

        Raises:
            KernelError: it raised; here too little memory is a fault as well, since sizes were chosen to fit.
            DeviceLostError: it destroyed the device's context.
        """
        try:
            return guarded(work, before)
        except torch.OutOfMemoryError as error:
            raise kernel_error(error, before) from error
        except RuntimeError as error:
            raise_if_lost(self.implementation, error)
            raise

    # -- results --------------------------------------------------------------------------------

    def values(self, pair: Pair) -> dict[str, NDArray[np.float64]]:
        """Exact float64 values by output, flattened."""
        named = dict(zip(("forward", "grad_x"), pair, strict=True))
        return {
            o: np.asarray(to_numpy(t.reshape(-1), self.fmt), np.float64)
            for o, t in named.items()
            if t is not None and o in self.outputs
        }

    def limits(self, output: str, index: Index | slice = slice(None)) -> NDArray[np.float64]:
        """Ulps allowed for inputs of the pool."""
        if output not in self._limits:
            bound, exact = self.terms.bounds[output], self.exact[output].exact
            names, region = input_sets.regions(self.x, self.fmt, self.function, self.effective)
            allowed = np.array([bound.limit(name, self.fmt.precision) for name in names])[region]
            subnormal = (np.abs(exact) < self.fmt.min_normal) & (exact != 0)
            limit = bound.limit("subnormal_result", self.fmt.precision)
            self._limits[output] = np.where(subnormal, np.maximum(allowed, limit), allowed)
        return self._limits[output][index]

    def errors(self, output: str, values: NDArray[np.float64], index: Index) -> NDArray[np.float64]:
        """|error| in ulps of values for inputs of the pool; inf where an infinity or NaN is wrong."""
        exact = take(self.exact[output], index)
        found = np.abs(metrics.ulp_error(values, exact))
        found = np.where(metrics.nonfinite_mismatch(values, exact), np.inf, np.nan_to_num(found, nan=0.0))
        # What a gradient is at NaN is nobody's promise, as in a measurement.
        return found if output == "forward" else np.where(np.isnan(self.x[index]), 0.0, found)

    def fault(
        self, code: str, message: str, output: str = "", *, ulps: float = math.nan, count: int = 1,
        witness: Witness | None = None,
    ) -> None:  # fmt: skip
        facts = {"output": output, "ulps": ulps, "count": count, "witness": witness}
        found = self.case.finding(code, message, output_precision=self.fmt.precision, **facts)
        self.faults.append(found)

    def leave_out(self, what: str, reason: str, *, asked: bool = False) -> None:
        """Says what a property did not look at.

        Args:
            asked: the caller asked for it, so that without it nothing is concluded.
        """
        self.not_examined.append(NotExamined(what, self.fmt.name, self.params_name, reason, asked))

    def compare(self, kind: str, where: str, pair: Pair, index: Index, *, note: bool = True) -> None:
        """Holds one call's results against the plain call's, input by input.

        Where the plain call is the one that is off, nothing is said of this one: `lengths` says so, or
        the measurement has.
        """
        for output, values in self.values(pair).items():
            differs = np.flatnonzero(differ(values, self.plain[output][index]))
            if differs.size:
                others = Others(values[differs], index[differs], differs, values.size)
                self.hold(kind, where, output, others, note=note)

    def hold(self, kind: str, where: str, output: str, others: Others, *, note: bool = True) -> None:
        """Judges results that are not the plain call's."""
        values, index = others.values, others.index
        plain, limit = self.plain[output][index], self.limits(output, index) + CERTIFIED_ULPS
        now, before = self.errors(output, values, index), self.errors(output, plain, index)
        over = (now > limit) & (before <= limit)
        if not over.any():
            if note and not (before > limit).any():
                self.notes.append(
                    f"{self.fmt.name} {output}: {values.size} results differ {where}, within the bound"
                )
            return
        worst = int(np.argmax(np.where(over, now, -1.0)))
        place, i = int(others.places[worst]), int(index[worst])
        witness = self.witness(output, i, float(values[worst]))
        self.fault(
            kind,
            f"{where}: element {place} of {others.size}, {self.at(i)}, is "
            f"{float(values[worst])!r} ({now[worst]:.4g} ulps off), and {float(plain[worst])!r} "
            f"({before[worst]:.4g} ulps off) in one plain call of {self.size}",
            output, ulps=float(now[worst]), count=int(over.sum()), witness=witness,
        )  # fmt: skip

    def witness(self, output: str, i: int, computed: float) -> Witness:
        """An input of the pool, as data, with what came out there in one call."""
        x, place, got = float(self.x[i]), np.array([i]), np.array([computed])
        return Witness(
            bits=hexadecimal(self.bits[i], self.fmt), x=x, x_hex=x.hex(), computed=computed,
            computed_hex=computed.hex(), computed_bits=hexadecimal(self.fmt.encode(got)[0], self.fmt),
            exact=exact_decimal(self.function, output, tuple(sorted(self.effective.items())), x),
            rounded=float(self.exact[output].rounded[i]),
            error_ulps=float(metrics.ulp_error(got, take(self.exact[output], place))[0]),
        )  # fmt: skip

    def at(self, i: int) -> str:
        """An input of the pool in decimal, as hexadecimal float and as bits."""
        x = float(self.x[i])
        return f"x={x!r} ({x.hex()}, bits {hexadecimal(self.bits[i], self.fmt)})"

    def tried(self, where: str, work: Callable[[], None]) -> None:
        """A kernel that fails in one situation is faulty there, and goes on to the next."""
        try:
            work()
        except KernelError as error:
            self.fault(error.kind, f"{where}: {error}")
