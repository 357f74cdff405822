"""One case: which kernel, in which format, given what, asked for which outputs at which inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from precision_lab.exceptions import KernelError
from precision_lab.formats import FP32, FloatFormat
from precision_lab.functions import Activation, Asked, Effective, Parameters
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.contract import CallContract
from precision_lab.implementations.guard import guarded
from precision_lab.inputs.points import Inputs, Points, points
from precision_lab.results import Failure, Finding, Measurement
from precision_lab.running.selfcheck import environment


@dataclass(frozen=True, eq=False)
class Case:
    """What a door has made of what the user gave, handed on whole; no name is looked up behind it.

    Nothing of the kernel's has run when a case is made: `effective` asks its adapter, once.

    Attributes:
        fmt: of the inputs.
        asked: parameter values that the kernel is given, all that the function has.
        outputs: those to run, measure or examine.
        inputs: which x; None for every one of a narrow format and a stratified set of a wide one.
        finite: infinities and NaN are left out of the inputs.
        params_name: what results call the parameters.
    """

    implementation: Implementation
    fmt: FloatFormat
    asked: Asked
    outputs: tuple[str, ...]
    inputs: Inputs | None = None
    finite: bool = False
    params_name: str = ""

    @property
    def function(self) -> Activation:
        return self.implementation.function

    @property
    def core(self) -> FloatFormat:
        """Format of the tensors that the kernel itself receives."""
        return self.implementation.core_format(self.fmt)

    @property
    def is_scored_there(self) -> bool:
        """Whether results stay on the GPU that they were computed on; it has the compiled tiers alone."""
        compiled = self.fmt.bits <= 32 and all(map(self.function.has_terms, self.outputs))
        return self.implementation.device.is_accelerator and compiled

    @cached_property
    def effective(self) -> Effective:
        """The parameter values that the kernel really uses: as rounded to the dtype it receives them in.

        One that is fixed in the kernel is a number of its source, and FP32 arithmetic sees it in FP32.

        Raises:
            ValueError: a value that the definition allows becomes one that it does not, such as 0.
            KernelError: the adapter's library is missing, or its code raised.
        """
        implementation = self.implementation
        own = implementation.effective
        values: dict[str, float] = {}
        if own is not None:
            values = guarded(lambda: own(self.asked, self.fmt))
            where = dict.fromkeys(values, f"in {implementation.label} for {self.fmt.name}")
        else:
            constant = self.core if self.core.bits > 32 else FP32
            where = {}
            for name, value in self.asked.items():
                given = self.core if implementation.is_given(name) else constant
                values[name] = float(given.round(np.array([value]))[0])
                where[name] = f"in {given.name}"
        for name, value in values.items():
            self.function.check_received(name, self.asked.get(name, value), value, where[name])
        return Effective(values)

    @cached_property
    def points(self) -> Points:
        """The inputs, cut into cells for the effective parameters.

        Raises:
            ValueError: an input set that the format does not have; as `effective`.
            KernelError: as `effective`.
        """
        return self._points(self.effective)

    def _points(self, params: Parameters) -> Points:
        return points(self.inputs, self.fmt, self.function, params, finite=self.finite)

    def output_format(self, output: str) -> FloatFormat:
        """Storage format of an output."""
        return self.implementation.output_format(self.fmt, output)

    def giving(self, *outputs: str) -> Case:
        """The same case, asked for other outputs."""
        return replace(self, outputs=outputs)

    def given(self, params: Mapping[str, float]) -> Case:
        """The same case at other parameter values."""
        return replace(self, asked=Asked(params))

    def called_as(self, contract: CallContract) -> Case:
        """The same case, the kernel called with the sizes and shapes of a contract."""
        return replace(self, implementation=replace(self.implementation, contract=contract))

    def blank(self, output: str, failure: Failure | None = None) -> Measurement:
        """A measurement with nothing counted yet, or with the reason why nothing can be."""
        return self._blank(output, failure, self.effective, self.points.name, self.points.size)

    def unmeasured(self, output: str, failure: Failure | None = None) -> Measurement:
        """`blank` without asking the kernel's adapter for anything: no inputs are counted as seen."""
        inputs = self.inputs if isinstance(self.inputs, str) else ""
        return self._blank(output, failure, self.asked, inputs, 0)

    def finding(self, code: str, message: str, **facts: Any) -> Finding:
        """A finding about this case's kernel; `facts` are fields of `Finding`."""
        about = {
            "function": self.function.name, "implementation": self.implementation.name, "fmt": self.fmt.name,
            "params_name": self.params_name,
        }  # fmt: skip
        return Finding(code=code, message=message, **{**about, **facts})

    def without_parameters(self, error: KernelError) -> list[Measurement]:
        """What is left to say of every output where `effective` raises."""
        chosen = self._points(self.asked)
        failure = Failure(error.kind, str(error))
        return [self._blank(o, failure, self.asked, chosen.name, chosen.size) for o in self.outputs]

    def _blank(
        self, output: str, failure: Failure | None, params: Parameters, inputs: str, n_inputs: int
    ) -> Measurement:
        implementation, out = self.implementation, self.output_format(output)
        # What was asked for is said where a stranger's kernel may have got something else.
        asked = dict(self.asked) if implementation.target and self.asked != params else {}
        return Measurement(
            function=self.function.name,
            implementation=implementation.name,
            execution=implementation.execution_name,
            fmt=self.fmt.name,
            output_fmt=out.name,
            output=output,
            params_name=self.params_name,
            params=dict(params),
            inputs=inputs,
            n_inputs=n_inputs,
            failure=failure,
            environment=environment(),
            target=implementation.target,
            definition=self.function.home,
            device=implementation.device.name,
            asked=asked,
            options=" ".join(implementation.options()),
            output_precision=out.precision,
        )


def case_of(
    implementation: Implementation,
    fmt: FloatFormat,
    params: Mapping[str, float] | None = None,
    outputs: tuple[str, ...] | None = None,
    *,
    inputs: Inputs | None = None,
    finite: bool = False,
    params_name: str = "",
) -> Case:
    """A case with what was left out filled in: default parameters, all outputs, their name.

    Raises:
        ValueError: an unknown output or parameter, or a value that the function does not take.
    """
    function = implementation.function
    chosen = implementation.measured_outputs() if outputs is None else outputs
    for output in chosen:
        function.check_output(output)
    defaults = function.check_params()
    asked = function.check_params(params)
    name = params_name or ("init" if asked == defaults else "given")
    return Case(implementation, fmt, Asked(asked), tuple(chosen), inputs, finite, name)
