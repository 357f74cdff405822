"""What an implementation under test declares about itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from precision_lab.devices import CPU, CUDA, Device
from precision_lab.formats import FloatFormat, output_format
from precision_lab.functions import Activation
from precision_lab.implementations.contract import CallContract
from precision_lab.results.execution import ARRAYS, Execution

Kernel = Callable[..., Any]  # kernel(x, *, alpha_p=..., ...) -> y, on torch tensors


class PartlyCompiled:
    """A kernel that does something before its call which is not torch.compile's to see."""

    def compiled_by(self, compile_: Callable[[Kernel], Kernel]) -> Kernel:
        """The kernel with what torch.compile is to see compiled."""
        raise NotImplementedError


@dataclass(frozen=True)
class Implementation:
    """A kernel, the formats it claims, and how it is executed.

    Attributes:
        name: formulation, e.g. `naive`; unique together with `function`, `execution`, `inductor` and
            `saturating`.
        function: the activation it computes.
        kernel: `kernel(x, **leaves) -> y`, differentiable through autograd unless said otherwise.
        execution: how it is run.
        formats: input formats it claims to support.
        compute_dtype: what arithmetic happens in, for people ("storage", "fp32", "fp64").
        description: one sentence for people.
        inductor: settings of torch.compile's Inductor that it is compiled with, by name.
        saturating: whether a cast to an FP8 format clamps to the largest finite value.
        owns_parameters: the kernel is a module, whose parameters are its own tensors.
        outputs: the outputs it can give; None means all of the function's. A module trained
            on raw parameters gives `grad_raw_…` instead of `grad_…`.
        leaves: tensors handed to the kernel by name, for given parameters and format; an
            output `grad_NAME` is the gradient of leaf NAME. None: the function's parameters,
            rounded to the dtype the kernel computes with.
        effective: effective parameters that the kernel really uses then; None: the leaves.
        parameters: those of the function's parameters that it is given; None for all. The others
            are fixed in it.
        numbers: parameters that it takes as Python numbers, as torch's own operators do. They are rounded to
            the dtype it computes with too: some operators round them to it themselves, others do not.
        target: where a stranger's kernel was found, "my_kernels.py:xielu"; "" for the lab's own.
        storage: format of its results where that is not the input's.
        devices: one of each kind that it can run on.
        capability: the least CUDA compute capability, major and minor.
        device: where it runs; set by `on_device`.
        contract: the sizes and shapes that it is called with.
        import_line: what to paste to have it, where that is not its kernel's own code.
    """

    name: str
    function: Activation
    kernel: Kernel
    execution: Execution
    formats: tuple[FloatFormat, ...]
    compute_dtype: str
    description: str
    saturating: bool = False
    inductor: tuple[tuple[str, Any], ...] = ()
    owns_parameters: bool = False
    outputs: tuple[str, ...] | None = None
    leaves: Callable[[Mapping[str, float], FloatFormat], dict[str, Any]] | None = None
    effective: Callable[[Mapping[str, float], FloatFormat], dict[str, float]] | None = None
    parameters: tuple[str, ...] | None = None
    numbers: tuple[str, ...] = ()
    target: str = ""
    storage: FloatFormat | None = None
    devices: tuple[Device, ...] = (CPU, CUDA)
    capability: tuple[int, int] = (0, 0)
    device: Device = CPU
    contract: CallContract = field(default_factory=CallContract)
    import_line: str = ""

    def runs_on(self, device: Device) -> bool:
        """Whether it can run on devices of this platform."""
        return any(device.platform == known.platform for known in self.known_devices)

    @property
    def known_devices(self) -> tuple[Device, ...]:
        """`devices`; what is not torch's runs on the processor alone."""
        return (CPU,) if self.execution.is_foreign else self.devices

    @property
    def execution_name(self) -> str:
        """The execution, what its compiler is told, and whether it saturates: what results call it."""
        told = [name if value is True else f"{name}={value}" for name, value in self.inductor]
        return " ".join([self.execution.name, *told, *["saturating"] * self.saturating])

    @property
    def label(self) -> str:
        return f"{self.name} [{self.execution_name}]"

    def options(self) -> list[str]:
        """What makes the command line call it as it is called here, beside TARGET and device."""
        words = [*self.device.options(), *self.contract.options()]
        if self.target and self.execution.framework in ARRAYS:
            words.append(f"--framework {self.execution.framework}")
        if self.execution.compiled:
            words.append("--compiled")
        words += [f"--inductor {name}={value}" for name, value in self.inductor]
        return words

    def is_given(self, parameter: str) -> bool:
        """Whether the kernel gets this parameter; otherwise it is a number of its source."""
        return self.parameters is None or parameter in self.parameters

    def core_format(self, fmt: FloatFormat) -> FloatFormat:
        """Format of the tensors that the kernel itself receives for inputs of `fmt`."""
        return self.execution.core or fmt

    def measured_outputs(self) -> tuple[str, ...]:
        """`outputs`, or all outputs of the function."""
        return self.outputs if self.outputs is not None else self.function.outputs

    def output_format(self, fmt: FloatFormat, output: str) -> FloatFormat:
        """Storage format of `output` for inputs of `fmt`: around an FP8 store E4M3 has E5M2 gradients."""
        if self.storage is not None:
            return self.storage
        return fmt if self.execution.core is None else output_format(fmt, output)
