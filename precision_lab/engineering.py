"""What real kernels break beside accuracy: lengths, places, strides, state, upstream gradients, sums.

A property is broken where a result differs from the one the kernel gave for the same input in one
plain call, and one of the two is farther from the exact value than the bound allows. Differences
within the bound are notes: an accurate kernel may compute its vector lanes and its tail differently.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from precision_lab import inputs as input_sets
from precision_lab import metrics
from precision_lab.bounds import Bound
from precision_lab.exceptions import EnvironmentAltersResultsError, KernelError, first_line, unknown_name
from precision_lab.formats import FloatFormat, get_format
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.compiled import compile_kernel
from precision_lab.implementations.placement import raise_if_lost
from precision_lab.implementations.runner import (
    call,
    effective_parameters,
    from_bits,
    leaf_tensors,
    one_thread,
    to_numpy,
    to_tensor,
)
from precision_lab.oracle import Reference, enclosures, reference
from precision_lab.results import Fault
from precision_lab.selfcheck import require_ieee

SLACK = 2.0**-10  # to which an error is certified
LENGTHS = (1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 255, 257, 1023, 1025, 4095, 4096, 4097)
LONG = ((1 << 16) - 1, 1 << 16, (1 << 17) + 3)
POOL = 4097
SEED = 20261

Pair = tuple[Tensor, Tensor | None]  # forward and d/dx


@dataclass(frozen=True)
class Outcome:
    """Faults found, and differences that are within the bound."""

    faults: tuple[Fault, ...]
    notes: tuple[str, ...]


class Subject:
    """One kernel in one format at one set of parameters, with exact values for a pool of inputs.

    Args:
        outputs: those that it is examined in.
        bounds: by output; what differs within them is a note.

    Raises:
        KernelError: it cannot be given these parameters, or fails in a plain call.
    """

    def __init__(
        self,
        implementation: Implementation,
        fmt: str,
        params: Mapping[str, float],
        outputs: Sequence[str],
        bounds: Mapping[str, Bound],
        params_name: str,
    ) -> None:
        self.implementation, self.fmt, self.params_name = implementation, get_format(fmt), params_name
        self.asked = dict(params)
        self.bounds = dict(bounds)
        self.outputs = tuple(o for o in ("forward", "grad_x") if o in outputs)
        self.parameters = tuple(o for o in outputs if o not in ("forward", "grad_x"))
        self.effective = effective_parameters(implementation, params, fmt)
        generator = np.random.Generator(np.random.PCG64(SEED))
        self.bits = _pool(self.fmt, implementation.function, self.effective, generator)
        self.x = self.fmt.decode(self.bits)
        self.exact = {o: self._reference(o) for o in self.outputs}
        self.leaves = leaf_tensors(implementation, params, fmt)
        try:
            plain = self.run(self.tensor())
        except KernelError:
            # A backward that fails is known by now; what the forward does is still worth knowing.
            if self.outputs != ("forward", "grad_x"):
                raise
            self.outputs, self.parameters = ("forward",), ()
            plain = self.run(self.tensor())
        self.plain = self.values(plain)
        self.faults: list[Fault] = []
        self.notes: list[str] = []

    def _reference(self, output: str) -> Reference:
        return reference(self.implementation.function, output, self.effective, self.x, self.fmt)

    def tensor(self, index: NDArray[np.intp] | slice = slice(None)) -> Tensor:
        """Inputs of the pool, contiguous, in memory of their own."""
        return from_bits(self.bits[index], self.fmt).to(self.implementation.device)

    def put(self, values: NDArray[np.float64]) -> Tensor:
        """Values of the format as a tensor where the kernel runs."""
        return to_tensor(values, self.fmt).to(self.implementation.device)

    def forward(self, x: Tensor, leaves: Mapping[str, Tensor] | None = None) -> Tensor:
        """The kernel's result.

        Raises:
            KernelError: it raised, or gave something else than a tensor like x.
        """
        try:
            y = call(self.implementation, x, self.leaves if leaves is None else leaves)
        except KernelError:
            raise
        except (Exception, SystemExit) as error:
            raise_if_lost(self.implementation, error)
            raise KernelError("raised", f"{type(error).__name__}: {first_line(error)}") from error
        _check(y, x, "forward")
        return y

    def run(
        self,
        x: Tensor,
        leaves: Mapping[str, Tensor] | None = None,
        upstream: Callable[[Tensor], Tensor] = torch.ones_like,
    ) -> Pair:
        """Forward and d/dx of one call, x being given as it is: strides, offset and all.

        Raises:
            KernelError: as `forward`, also for the gradient.
        """
        if "grad_x" not in self.outputs:
            return self.forward(x, leaves), None
        point = x.detach().requires_grad_()
        y = self.forward(point, leaves)
        return y.detach(), self.backward(y, [point], upstream(y))[0]

    def backward(self, y: Tensor, sources: Sequence[Tensor], upstream: Tensor) -> tuple[Tensor, ...]:
        """Gradients of Σ upstream·y.

        Raises:
            KernelError: autograd raised, or reached none.
        """
        if not y.requires_grad:
            raise KernelError("not_differentiable", "the result has no gradient")
        try:
            found = torch.autograd.grad(y, list(sources), upstream, allow_unused=True)
        except (Exception, SystemExit) as error:
            raise_if_lost(self.implementation, error)
            raise KernelError("raised", f"backward: {type(error).__name__}: {first_line(error)}") from error
        for gradient, source in zip(found, sources, strict=True):
            if gradient is None:
                raise KernelError("not_differentiable", "no gradient reaches an argument")
            _check(gradient, source, "a gradient")
        return found

    def values(self, pair: Pair) -> dict[str, NDArray[np.float64]]:
        """Exact float64 values by output, flattened."""
        named = dict(zip(("forward", "grad_x"), pair, strict=True))
        return {
            o: np.asarray(to_numpy(t.reshape(-1), self.fmt), np.float64)
            for o, t in named.items()
            if t is not None and o in self.outputs
        }

    def limits(self, output: str, index: NDArray[np.intp]) -> NDArray[np.float64]:
        """Ulps allowed for inputs of the pool."""
        bound, exact = self.bounds[output], self.exact[output]
        names, region = input_sets.regions(
            self.x[index], self.fmt, self.implementation.function, self.effective
        )
        allowed = np.array([bound.limit(name, self.fmt.precision) for name in names])[region]
        subnormal = (np.abs(exact.exact[index]) < self.fmt.min_normal) & (exact.exact[index] != 0)
        limit = bound.limit("subnormal_result", self.fmt.precision)
        return np.where(subnormal, np.maximum(allowed, limit), allowed)

    def errors(
        self, output: str, values: NDArray[np.float64], index: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """|error| in ulps of values for inputs of the pool; inf where an infinity or NaN is wrong."""
        exact = _take(self.exact[output], index)
        found = np.abs(metrics.ulp_error(values, exact))
        return np.where(metrics.nonfinite_mismatch(values, exact), np.inf, np.nan_to_num(found, nan=0.0))

    def fault(
        self, kind: str, message: str, output: str = "", *, ulps: float = math.nan, count: int = 1
    ) -> None:
        about = (self.implementation.function, self.implementation.name, self.fmt.name)
        self.faults.append(Fault(kind, *about, output, self.params_name, message, ulps=ulps, count=count))

    def compare(
        self, kind: str, where: str, pair: Pair, index: NDArray[np.intp], *, note: bool = True
    ) -> None:
        """Holds one call's results against the plain call's, input by input."""
        for output, values in self.values(pair).items():
            plain = self.plain[output][index]
            differs = np.flatnonzero(_differ(values, plain))
            if differs.size == 0:
                continue
            chosen = index[differs]
            now = self.errors(output, values[differs], chosen)
            before = self.errors(output, plain[differs], chosen)
            over = np.maximum(now, before) > self.limits(output, chosen) + SLACK
            if not over.any():
                if note:
                    self.notes.append(
                        f"{self.fmt.name} {output}: {differs.size} results differ {where}, within the bound"
                    )
                continue
            # The worst one as seen now or before, and where it stood.
            worst = int(np.argmax(np.where(over, np.maximum(now, before), -1.0)))
            place, i = int(differs[worst]), int(chosen[worst])
            x = float(self.x[i])
            self.fault(
                kind,
                f"{where}: element {place} of {values.size}, x={x!r} ({x.hex()}, bits "
                f"{self._pattern(i)}), is {float(values[place])!r} ({now[worst]:.4g} ulps off), and "
                f"{float(plain[place])!r} ({before[worst]:.4g} ulps off) in one plain call of {self.x.size}",
                output, ulps=float(max(now[worst], before[worst])), count=int(over.sum()),
            )  # fmt: skip

    def _pattern(self, i: int) -> str:
        return f"0x{int(self.bits[i]):0{self.fmt.bits // 4}x}"


def _pool(
    fmt: FloatFormat, function: str, params: Mapping[str, float], generator: np.random.Generator
) -> NDArray[np.uint64]:
    """Inputs at which kernels break and a sample of all others, shuffled: place and value independent."""
    directed = np.array([case.bits for case in input_sets.directed(fmt, function, params)], fmt.bits_dtype)
    per_binade = 4 if fmt.bits <= 16 else 2
    spread = np.union1d(directed, input_sets.stratified(fmt, function, params, per_binade=per_binade))
    if spread.size > POOL // 2:
        spread = generator.choice(spread, POOL // 2, replace=False)
    # The rest where activations live, so that sums and gradients have something to add.
    normal = fmt.encode(fmt.round(generator.standard_normal(POOL - spread.size) * 2))
    return generator.permutation(np.concatenate([spread, normal]))


def _take(exact: Reference, index: NDArray[np.intp]) -> Reference:
    return Reference(
        exact.fmt, exact.rounded[index], exact.tail[index], exact.ulp[index], exact.exact[index],
        exact.sign[index], exact.tier[index], exact.undecided[index],
    )  # fmt: skip


def _differ(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where two results are not the same number; NaN is the same as NaN."""
    same: NDArray[np.bool_] = (values == others) | (np.isnan(values) & np.isnan(others))
    return ~same


def _bits(tensor: Tensor) -> NDArray[Any]:
    """A copy of a tensor's bits, so that NaN equals NaN and −0 is not 0."""
    integer = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    found: NDArray[Any] = tensor.detach().contiguous().cpu().view(integer).numpy().copy()
    return found


def _check(value: object, x: Tensor, what: str) -> None:
    if not isinstance(value, Tensor):
        raise KernelError("wrong_dtype", f"{what} is a {type(value).__name__}, not a tensor")
    if value.shape != x.shape:
        raise KernelError("wrong_shape", f"{what} has shape {tuple(value.shape)}")
    if value.dtype != x.dtype:
        raise KernelError("wrong_dtype", f"{what} is {value.dtype}")
    if value.device != x.device:
        raise KernelError("wrong_device", f"{what} is on {value.device}")


@contextmanager
def _poisoned(subject: Subject) -> Iterator[None]:
    """torch.empty gives NaN, so that what a kernel leaves unwritten shows. Not for compiled code,
    which would be compiled anew for it.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    if subject.implementation.execution == "compiled":
        yield
        return
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


def _tried(subject: Subject, where: str, work: Callable[[], None]) -> None:
    """A kernel that fails in one situation is faulty there, and goes on to the next."""
    try:
        work()
    except KernelError as error:
        subject.fault(error.kind, f"{where}: {error}")


# -- the properties -------------------------------------------------------------------------


def lengths(subject: Subject) -> None:
    """The same input has the same result whatever the number of elements."""
    for n in (*LENGTHS, *LONG):
        # Windows that move, so that other inputs stand in the last places.
        index = (np.arange(n) + 37 * n) % subject.x.size

        def work(n: int = n, index: NDArray[np.intp] = index) -> None:
            pair = subject.run(subject.tensor(index))
            subject.compare("depends_on_length", f"in a call of {n} elements", pair, index)

        _tried(subject, f"for {n} elements", work)


def unwritten(subject: Subject) -> None:
    """Every element of every result is written, whatever the length."""
    for n in (1, 2, 7, 8, 9, 31, 33, 1000, 1001, POOL, (1 << 16) + 5):
        index = (np.arange(n) + 11 * n) % subject.x.size

        def work(n: int = n, index: NDArray[np.intp] = index) -> None:
            with _poisoned(subject):
                pair = subject.run(subject.tensor(index))
            for output, values in subject.values(pair).items():
                missing = np.flatnonzero(np.isnan(values) & ~np.isnan(subject.exact[output].rounded[index]))
                # A NaN that the plain call gives as well is a matter of accuracy.
                missing = missing[~np.isnan(subject.plain[output][index[missing]])]
                if missing.size:
                    subject.fault(
                        "unwritten_output",
                        f"in a call of {n} elements with fresh memory filled with NaN, {missing.size} stay "
                        f"NaN, the first at element {int(missing[0])}",
                        output, count=int(missing.size),
                    )  # fmt: skip

        _tried(subject, f"for {n} elements", work)


def shapes(subject: Subject) -> None:
    """Every shape is taken and given back: empty, 0-d, two, three and four dimensions."""
    for shape in ((0,), (0, 3), (3, 0, 2), (), (1,), (1, 1), (7, 9), (64, 63), (3, 5, 17), (2, 3, 5, 8)):
        n = math.prod(shape)
        index = (np.arange(n) + 101) % subject.x.size

        def work(shape: tuple[int, ...] = shape, index: NDArray[np.intp] = index) -> None:
            pair = subject.run(subject.tensor(index).reshape(shape))
            subject.compare("depends_on_position", f"for x of shape {shape}", pair, index)

        _tried(subject, f"for x of shape {shape}", work)


def positions(subject: Subject) -> None:
    """The result depends neither on the place in the tensor nor on where in memory it begins."""
    size = subject.x.size
    for shift in (1, 3, 8, 1000):
        index = np.roll(np.arange(size), shift)

        def moved(shift: int = shift, index: NDArray[np.intp] = index) -> None:
            pair = subject.run(subject.tensor(index))
            subject.compare("depends_on_position", f"with the elements moved by {shift}", pair, index)

        _tried(subject, f"with the elements moved by {shift}", moved)
    for offset in (1, 2, 3, 5, 8):
        index = np.arange(offset, 1000)

        def sliced(offset: int = offset, index: NDArray[np.intp] = index) -> None:
            view = subject.tensor(slice(0, 1000))[offset:]
            pair = subject.run(view)
            subject.compare("depends_on_position", f"for x[{offset}:], a view", pair, index)

        _tried(subject, f"for x[{offset}:], a view", sliced)


def strides(subject: Subject) -> None:
    """Views that are not contiguous are read element by element."""
    every = np.arange(4096)
    square, box = every.reshape(64, 64), every.reshape(4, 8, 16, 8)
    views: dict[str, tuple[Callable[[Tensor], Tensor], NDArray[np.intp]]] = {
        "x[::2]": (lambda x: x[::2], every[::2]),
        "x[1::3]": (lambda x: x[1::3], every[1::3]),
        "x.t()": (lambda x: x.reshape(64, 64).t(), square.T),
        "x[:, 1:-1]": (lambda x: x.reshape(64, 64)[:, 1:-1], square[:, 1:-1]),
        "x[:, 5]": (lambda x: x.reshape(64, 64)[:, 5], square[:, 5]),
        "x.permute(2, 0, 3, 1)": (
            lambda x: x.reshape(4, 8, 16, 8).permute(2, 0, 3, 1),
            box.transpose(2, 0, 3, 1),
        ),
        "x in channels_last": (
            lambda x: x.reshape(4, 8, 16, 8).contiguous(memory_format=torch.channels_last),
            box,
        ),
        "x[0].expand(5, 64)": (lambda x: x[:64].expand(5, 64), np.broadcast_to(every[:64], (5, 64))),
        "x[:, :1].expand(64, 7)": (
            lambda x: x.reshape(64, 64)[:, :1].expand(64, 7),
            np.broadcast_to(square[:, :1], (64, 7)),
        ),
    }
    for name, (view, index) in views.items():

        def work(
            name: str = name, view: Callable[[Tensor], Tensor] = view, index: NDArray[np.intp] = index
        ) -> None:
            pair = subject.run(view(subject.tensor(slice(0, 4096))))
            subject.compare("misreads_strides", f"for {name}", pair, index.reshape(-1))

        _tried(subject, f"for {name}", work)


def determinism(subject: Subject) -> None:
    """The same call gives the same bits, the second backward of one graph too."""
    index = np.arange(subject.x.size)

    def again() -> None:
        for _ in range(3):
            values = subject.values(subject.run(subject.tensor()))
            for output, got in values.items():
                plain = subject.plain[output]
                differs = _differ(got, plain)
                if differs.any():
                    i = int(np.flatnonzero(differs)[0])
                    subject.fault(
                        "not_deterministic",
                        f"the same call gave {float(plain[i])!r} and then {float(got[i])!r} for "
                        f"x={float(subject.x[i])!r}; {int(differs.sum())} of {index.size} results differ",
                        output, count=int(differs.sum()),
                    )  # fmt: skip
                    return

    def graph() -> None:
        if "grad_x" not in subject.outputs:
            return
        point = subject.tensor().requires_grad_()
        y = subject.forward(point)
        ones = torch.ones_like(y)
        try:
            first, second = (
                torch.autograd.grad(y, point, ones, retain_graph=True)[0].detach().clone() for _ in range(2)
            )
        except Exception:  # a kernel may forbid a second backward, as torch's own may
            return
        if not torch.equal(first.nan_to_num(), second.nan_to_num()):
            subject.fault(
                "not_deterministic", "a second backward through one graph gives other values", "grad_x"
            )

    _tried(subject, "in a repeated call", again)
    _tried(subject, "in a second backward", graph)


def arguments_kept(subject: Subject) -> None:
    """x, the parameters and the upstream gradient are as they were."""

    def work() -> None:
        x = subject.tensor()
        # Made anew: earlier calls may have overwritten the ones they got.
        leaves = leaf_tensors(subject.implementation, subject.asked, subject.fmt.name)
        point = x.detach().requires_grad_() if "grad_x" in subject.outputs else x
        before = {"x": _bits(point), **{name: _bits(leaf) for name, leaf in leaves.items()}}
        y = subject.forward(point, leaves)
        kept = {"x": point, **leaves}
        if "grad_x" in subject.outputs and y.requires_grad:
            upstream = torch.full_like(y, 2.0)
            before["the upstream gradient"] = _bits(upstream)
            kept["the upstream gradient"] = upstream
            subject.backward(y, [point], upstream)
        for name, tensor in kept.items():
            changed = int((before[name] != _bits(tensor)).sum())
            if changed:
                subject.fault("writes_input", f"{changed} elements of {name} were overwritten", count=changed)

    _tried(subject, "with its arguments watched", work)


def grad_mode(subject: Subject) -> None:
    """The forward result is the same whether or not gradients are recorded."""
    index = np.arange(subject.x.size)
    for name, mode in (("no_grad", torch.no_grad), ("inference_mode", torch.inference_mode)):

        def work(name: str = name, mode: Callable[[], torch.no_grad | torch.inference_mode] = mode) -> None:
            with mode():
                y = subject.forward(subject.tensor())
                pair = (y.clone(), None)
            subject.compare("depends_on_grad_mode", f"under torch.{name}()", pair, index)

        _tried(subject, f"under torch.{name}()", work)


def parameters_fresh(subject: Subject) -> None:
    """Every call uses the parameter values of that call, changed in place or given anew."""
    if subject.implementation.parameters == () or subject.implementation.execution == "module":
        return
    other = _other_parameters(subject)
    effective = effective_parameters(subject.implementation, other, subject.fmt.name)
    if effective == subject.effective:
        return
    old, new = subject.leaves, leaf_tensors(subject.implementation, other, subject.fmt.name)
    changed = copy.copy(subject)
    changed.effective = effective
    changed.exact = {o: changed._reference(o) for o in subject.outputs}

    def held(where: str, pair: Pair) -> None:
        for output, values in subject.values(pair).items():
            index = np.arange(values.size)
            plain = subject.plain[output]
            right = changed.errors(output, values, index)
            moved = changed.exact[output].rounded != subject.exact[output].rounded
            # 0 and infinity are what an inaccurate kernel gives for many parameters alike.
            moved &= np.isfinite(plain) & (plain != 0)
            wrong = moved & (values == plain) & (right > changed.limits(output, index) + SLACK)
            # One parameter may be stale alone, and it may be that of one side.
            sides = (moved & (subject.x < 0), moved & (subject.x > 0))
            if any(side.sum() >= 16 and (wrong & side).sum() > 0.75 * side.sum() for side in sides):
                i = int(np.argmax(np.where(wrong, right, -1.0)))
                subject.fault(
                    "stale_parameters",
                    f"{where}, x={float(subject.x[i])!r} still gives {float(values[i])!r}, the result for "
                    f"the old ones; {int(wrong.sum())} results do",
                    output, ulps=float(right[i]), count=int(wrong.sum()),
                )  # fmt: skip

    def work() -> None:
        leaves = {name: leaf.clone() for name, leaf in old.items()}
        subject.run(subject.tensor(), leaves)
        with torch.no_grad():
            for name, leaf in leaves.items():
                leaf.copy_(new[name])
        held("after its parameters were changed in place", subject.run(subject.tensor(), leaves))
        subject.run(subject.tensor(), old)
        held("with new parameter tensors", subject.run(subject.tensor(), new))

    _tried(subject, "with other parameters", work)


def _other_parameters(subject: Subject) -> dict[str, float]:
    """Values about a quarter larger, which every function here takes, of the parameters that it is given."""
    given = subject.implementation.parameters
    return {
        name: value * 1.25 + 0.0625 if given is None or name in given else value
        for name, value in subject.asked.items()
    }


def upstream(subject: Subject) -> None:
    """d/dx is proportional to the upstream gradient, however that lies in memory."""
    if "grad_x" not in subject.outputs:
        return
    index = np.arange(subject.x.size)
    exact, plain = subject.exact["grad_x"].exact, subject.plain["grad_x"]
    fmt = subject.fmt
    with np.errstate(invalid="ignore"):
        roomy = (
            np.isfinite(plain) & (np.abs(exact) >= fmt.min_normal * 8) & (np.abs(exact) <= fmt.max_finite / 8)
        )
    # Where the plain gradient is wrong already, nothing can be said about its scaling.
    limit = subject.limits("grad_x", index)
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

        _tried(subject, f"with an upstream gradient of {name}", scaled)
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
            differs = _differ(values, plainly) & roomy[square]
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

        _tried(subject, f"with an upstream gradient {name}", laid)


def reductions(subject: Subject) -> None:
    """A parameter's gradient is the sum over all elements, none missing, and keeps its accuracy."""
    outputs = [o for o in subject.parameters if o.removeprefix("grad_") in subject.leaves]
    if not outputs or subject.implementation.execution == "c":  # in C the sum is the lab's own
        return
    usual = subject.x[np.isfinite(subject.x) & (np.abs(subject.x) < 8) & (np.abs(subject.x) > 2.0**-4)]
    usual = np.unique(usual)
    for output in outputs:
        high, low, _ = enclosures(subject.implementation.function, output, subject.effective, usual)
        terms, x = high + low, usual
        chosen = np.abs(terms) > 0
        if not chosen.any():
            continue
        _reduced(subject, output, x[chosen], terms[chosen])


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
        single = (subject.bounds[output].max_ulp + 0.5) * math.fsum(fmt.ulp(products[products != 0]))
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

    _tried(subject, f"in the sum of {output}", work)


def compilation(subject: Subject) -> None:
    """torch.compile gives what eager execution gives, or is within the bound as well."""
    implementation = subject.implementation
    if implementation.execution not in ("eager", "module", "compiled"):
        return
    compiled = implementation.execution == "compiled"
    other = copy.copy(subject)
    if compiled:
        other.implementation = replace(implementation, execution="eager")
    else:
        # Unlike a kernel measured as compiled, it may break into several graphs.
        other.implementation = replace(implementation, kernel=compile_kernel(implementation.kernel))
    try:
        pair = other.run(subject.tensor())
    except KernelError as error:
        subject.notes.append(f"{subject.fmt.name}: torch.compile cannot run it: {error}")
        return
    where = "run eagerly" if compiled else "under torch.compile"
    subject.compare("depends_on_compilation", where, pair, np.arange(subject.x.size))


PROPERTIES: dict[str, Callable[[Subject], None]] = {
    "determinism": determinism,
    "unwritten": unwritten,
    "lengths": lengths,
    "shapes": shapes,
    "positions": positions,
    "strides": strides,
    "arguments_kept": arguments_kept,
    "grad_mode": grad_mode,
    "parameters_fresh": parameters_fresh,
    "upstream": upstream,
    "reductions": reductions,
    "compilation": compilation,
}


def examine(subject: Subject, name: str) -> Outcome:
    """What one engineering property finds out about a kernel.

    Raises:
        ValueError: an unknown property.
    """
    if name not in PROPERTIES:
        raise unknown_name("property", name, PROPERTIES)
    subject.faults, subject.notes = [], []
    try:
        with one_thread(subject.implementation):
            PROPERTIES[name](subject)
            require_ieee()
    except EnvironmentAltersResultsError as error:
        torch.set_flush_denormal(False)
        subject.fault("alters_environment", f"{error}. It was switched off again")
    return Outcome(_merged(subject.faults), tuple(dict.fromkeys(subject.notes)))


def _merged(faults: Sequence[Fault]) -> tuple[Fault, ...]:
    """One fault per kind and output, the worst of them, with the number of situations in its message."""
    groups: dict[tuple[str, str], list[Fault]] = {}
    for fault in faults:
        groups.setdefault((fault.kind, fault.output), []).append(fault)
    found = []
    for group in groups.values():
        worst = max(group, key=lambda f: (0.0 if math.isnan(f.ulps) else abs(f.ulps), f.count))
        more = f" (and in {len(group) - 1} other situations)" if len(group) > 1 else ""
        found.append(Fault(**{**worst.__dict__, "message": worst.message + more}))
    return tuple(found)
