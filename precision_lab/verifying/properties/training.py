"""The step that training runs: x and parameters require gradients together, and a module holds them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from precision_lab.exceptions import KernelError
from precision_lab.running.runner import leaf_tensors
from precision_lab.running.tensors import to_numpy
from precision_lab.verifying.properties.products import LUCKY, Float64
from precision_lab.verifying.properties.steps import Exact, Layer, Steps
from precision_lab.verifying.properties.subject import Subject
from precision_lab.verifying.properties.sums import given_parameters

NAMED_SETS, RANDOM_SETS = 2, 2
# Where accuracy was not measured, an error of an eighth, at half of the inputs of one sign, is a fault.
GROSS = 8
KIND = "training_step_differs"
BASE = "where x and parameters require gradients together"


def training_step(subject: Subject) -> str | None:
    """y, d/dx and parameters' gradients are what they are alone where one call gives them all."""
    execution = subject.implementation.execution
    if execution.is_foreign:
        return f"autograd around a kernel in {execution.framework} is the lab's own"
    outputs = given_parameters(subject)
    if "grad_x" not in subject.outputs and not outputs:
        return "no gradient is examined"
    step = _Step(subject, outputs)
    for where, work in step.parts.items():
        subject.tried(where, work)
    for where, work in step.variants.items():
        try:
            work()
        except KernelError as error:
            # Beyond what every kernel must take: said, and not judged.
            subject.notes.append(f"{subject.fmt.name} {where}: {error}")
    return None


class _Step(Steps):
    """Steps of one kernel, with one set of parameters after the other."""

    def __init__(self, subject: Subject, outputs: list[str]) -> None:
        super().__init__(subject, outputs)
        self.with_x = "grad_x" in subject.outputs
        self.wrong_alone = False  # whether a parameter's gradient is, at the parameters that were measured
        self.first, self.second = self.measured(), self.measured()
        where = BASE if outputs else "in a step of training"
        self.parts: dict[str, Callable[[], None]] = {where: lambda: self._together(where, self.first)}
        if outputs and self.with_x:
            self.parts["where parameters require gradients and x none"] = self._without_x
        if subject.fmt.bits < 16:
            subject.leave_out("steps of a module", f"torch adds no numbers of {subject.fmt.name}")
        else:
            self.parts["in two steps of a module"] = self._module
        self._other_sets()
        self.variants: dict[str, Callable[[], None]] = {"under torch.autocast": self._autocast}
        if outputs and not subject.implementation.owns_parameters:
            self.variants["with parameters of shape (1,)"] = self._one_dimensional
        if outputs and subject.fmt.bits < 32:
            self.variants["with FP32 parameters"] = self._wide_parameters

    def _other_sets(self) -> None:
        """A step at other parameters: named ones of the function, and a few at random."""
        subject = self.subject
        if not self.outputs:
            return
        function = subject.function
        given = subject.implementation.parameters
        sets = {
            name: {**subject.asked, **{k: v for k, v in values.items() if given is None or k in given}}
            for name, values in function.parameter_sets.items()
        }
        sets = {name: values for name, values in sets.items() if values != subject.asked}
        sets = dict(list(sets.items())[-NAMED_SETS:])
        # α_n = β + softplus(a_n) reaches only values above β: those grow, and β shrinks.
        bases = {p.raw.removeprefix("softplus+") for p in function.parameters if p.raw}
        for k in range(RANDOM_SETS):
            values = dict(subject.asked)
            for p in function.parameters:
                if p.trainable and (given is None or p.name in given):
                    low, high = (0, 2) if p.raw == "softplus+beta" else (-2, 0 if p.name in bases else 2)
                    values[p.name] *= 2.0 ** self.generator.uniform(low, high)
            sets[f"random {k + 1}"] = values
        for name, values in sets.items():
            words = ", ".join(f"{k}={v:.6g}" for k, v in values.items())
            where = f"with {words} and {BASE.removeprefix('where ')}"
            self.parts[where] = partial(self._at, where, name, values)

    def _at(self, where: str, name: str, values: Mapping[str, float]) -> None:
        subject = self.subject
        try:
            case = subject.case.given(values)
            effective, leaves = case.effective, leaf_tensors(case)
        except (KernelError, ValueError) as error:  # they do not exist, or become NaN
            subject.leave_out(f"a step of training at the parameters {name!r}", str(error))
            return
        index, weight = self.drawn()
        limits = {
            o: np.full(index.size, max([b.max_ulp, *b.regions.values()]))
            for o, b in subject.terms.bounds.items()
            if o in subject.outputs
        }
        try:
            exact = self.exact(leaves, effective, index, weight, limits, measured=False)
        except ValueError as error:  # a raw value that does not exist
            subject.leave_out(f"a step of training at the parameters {name!r}", str(error))
            return
        self._together(where, exact)

    # -- steps ----------------------------------------------------------------------------------

    def _run(
        self,
        exact: Exact,
        *,
        x: bool,
        parameters: Collection[str],
        forward: Callable[[], object] | None = None,
    ) -> dict[str, Tensor]:
        """y and the gradients asked for of one call.

        Args:
            parameters: outputs.
            forward: a context for the forward.
        """
        subject = self.subject
        point = exact.x.detach().clone().requires_grad_(x)
        names = [o.removeprefix("grad_") for o in parameters]
        leaves = {k: v.detach().clone().requires_grad_(k in names) for k, v in exact.leaves.items()}
        if forward is None:
            y = subject.forward(point, leaves)
        else:
            with forward():  # type: ignore[attr-defined]
                y = subject.forward(point, leaves)
        sources = ([point] if x else []) + [leaves[name] for name in names]
        found = {"forward": y.detach().clone()}
        if sources:
            gradients = subject.backward(y, sources, exact.upstream)
            found |= dict(zip((["grad_x"] if x else []) + list(parameters), gradients, strict=True))
        return found

    def _alone(self, exact: Exact, output: str) -> Tensor:
        """An output of a call in which nothing else is asked for."""
        parameters = [output] if output in self.outputs else []
        return self._run(exact, x=output == "grad_x", parameters=parameters)[output]

    def _together(self, where: str, exact: Exact) -> None:
        self._judge(where, exact, self._run(exact, x=self.with_x, parameters=self.outputs))

    def _without_x(self) -> None:
        where = "where parameters require gradients and x none"
        self._judge(where, self.first, self._run(self.first, x=False, parameters=self.outputs))

    def _autocast(self) -> None:
        device = self.subject.implementation.device.torch.type
        found = self._run(
            self.first, x=self.with_x, parameters=self.outputs,
            forward=lambda: torch.autocast(device, dtype=torch.bfloat16),
        )  # fmt: skip
        self._judge("under torch.autocast", self.first, found)

    def _one_dimensional(self) -> None:
        leaves = {name: leaf.reshape(1) for name, leaf in self.first.leaves.items()}
        self._variant("with parameters of shape (1,)", leaves)

    def _wide_parameters(self) -> None:
        leaves = {name: leaf.float() for name, leaf in self.first.leaves.items()}
        self._variant("with FP32 parameters", leaves)

    def _variant(self, where: str, leaves: Mapping[str, Tensor]) -> None:
        exact = replace(self.first, leaves=leaves)
        found = self._run(exact, x=self.with_x, parameters=self.outputs)
        self._judge(where, exact, found, alone=self.first)

    def _module(self) -> None:
        """Two steps whose gradients add up, and a third after zero_grad; then without a graph."""
        subject, first, second = self.subject, self.first, self.second
        trained = [o.removeprefix("grad_") for o in self.outputs]
        layer = Layer(subject, first.leaves, trained)
        added = {}
        for output in first.sums.keys() & second.sums.keys():
            (a, off), (b, off_b) = first.sums[output], second.sums[output]
            added[output] = a + b, off + off_b + self._ulp(a + b)
        both = replace(second, sums=added)
        for words, exact, held in (
            ("the first step", first, first),
            ("the second step, whose gradients are added to the first's", second, both),
            ("a step after zero_grad()", first, first),
        ):
            if words.endswith("zero_grad()"):
                layer.zero_grad()
            point = exact.x.detach().clone().requires_grad_(self.with_x)
            y = layer(point)
            found = {"forward": y.detach().clone()}
            _backward(subject, (y * exact.upstream).sum())
            if self.with_x:
                found["grad_x"] = self._held(point.grad, "x", words)
            for name in trained:
                found[f"grad_{name}"] = self._held(layer.held()[name].grad, name, words)
            self._judge(f"in {words} of a module", held, found, alone=exact)
        with torch.no_grad():
            y = layer.eval()(first.x.detach().clone())
        self._judge("in a module under torch.no_grad()", first, {"forward": y})

    def _held(self, gradient: Tensor | None, name: str, words: str) -> Tensor:
        if gradient is None:
            raise KernelError("not_differentiable", f"{name}.grad is None after {words}")
        return gradient.detach().clone()

    def _ulp(self, value: float) -> float:
        return float(self.subject.fmt.ulp(np.array([value]))[0])

    # -- judging --------------------------------------------------------------------------------

    def _judge(
        self, where: str, exact: Exact, found: Mapping[str, Tensor], alone: Exact | None = None
    ) -> None:
        """A fault for each output that is off and is not so where it is asked for alone.

        At parameters that were not measured also for one that is far off in both, as with a parameter's
        value of another call.
        """
        for output, tensor in found.items():
            if output in exact.sums:
                self._judge_sum(where, exact, alone or exact, output, tensor)
            elif output in exact.values:
                self._judge_elements(where, exact, alone or exact, output, tensor)

    def _judge_elements(self, where: str, exact: Exact, alone: Exact, output: str, tensor: Tensor) -> None:
        expected, allowed = exact.values[output], exact.allowed[output]

        def off(t: Tensor) -> tuple[Float64, np.ndarray]:
            values = np.asarray(to_numpy(t.reshape(-1), self.subject.fmt), np.float64)
            with np.errstate(invalid="ignore"):
                return values, ~np.isnan(expected) & ~(np.abs(values - expected) <= allowed)

        values, wrong = off(tensor)
        if not wrong.any():
            return
        own, own_wrong = off(self._alone(alone, output))
        worse = wrong & ~own_wrong
        # Other arithmetic, as with wider parameters, may be less lucky where something cancels.
        few = np.abs(values - own) <= np.abs(own) / 8 if worse.sum() <= worse.size // LUCKY else False
        gross = wrong & ~(np.abs(values - expected) <= np.abs(expected) / GROSS)  # NaN is gross
        sides = [exact.x.reshape(-1).double().cpu().numpy() * sign > 0 for sign in (-1, 1)]
        if exact.measured or not any(2 * (gross & side).sum() > side.sum() > 0 for side in sides):
            wrong = worse & ~few
        if wrong.any():
            i = int(np.flatnonzero(wrong)[0])
            x = float(exact.x.reshape(-1)[i].double())
            beside = f", and {float(own[i])!r} where it is asked for alone" if worse[i] else ""
            self.subject.fault(
                KIND,
                f"{where}, {'y' if output == 'forward' else 'd/dx'} at x={x!r} is {float(values[i])!r} "
                f"instead of {float(expected[i])!r}{beside}; {int(wrong.sum())} of {wrong.size} are off",
                output, count=int(wrong.sum()),
            )  # fmt: skip

    def _judge_sum(self, where: str, exact: Exact, alone: Exact, output: str, tensor: Tensor) -> None:
        expected, allowed = exact.sums[output]
        got = float(tensor.double().sum())
        if abs(got - expected) <= allowed:
            return
        own = float(self._alone(alone, output).double().sum())
        right, within = alone.sums.get(output, (math.nan, 0.0))
        if not abs(own - right) <= within:  # wrong alone too
            if exact.measured:
                self.wrong_alone = True  # which `reductions` reports
            if self.wrong_alone or abs(got - expected) <= abs(expected) / GROSS:
                return
        self.subject.fault(
            KIND,
            f"{where}, the gradient of {output.removeprefix('grad_')} is {got!r} instead of {expected!r}; "
            f"{allowed:.3g} off would be allowed",
            output, ulps=(got - expected) / self._ulp(expected) if math.isfinite(got) else math.inf,
        )  # fmt: skip


def _backward(subject: Subject, loss: Tensor) -> None:
    """`loss.backward()`.

    Raises:
        KernelError: there is no graph, or autograd raised.
    """
    if not loss.requires_grad:
        raise KernelError("not_differentiable", "the result of a module has no gradient")
    subject.terms.announce("loss.backward()")
    subject.guarded(loss.backward, "backward: ")
