"""Which cases a study measures."""

from __future__ import annotations

from dataclasses import dataclass

from precision_lab.devices import Device, get_device, usable_device
from precision_lab.formats import FORMATS, FloatFormat, kernel_format
from precision_lab.functions import FUNCTIONS, Activation
from precision_lab.implementations import IMPLEMENTATIONS
from precision_lab.implementations.base import Implementation
from precision_lab.running.placement import on_device

DEFAULT_FORMATS = ("fp32", "bf16", "fp16", "e4m3")
QUICK_FUNCTIONS = ("xielu", "xiprelu", "relu2", "silu")


@dataclass(frozen=True)
class StudySettings:
    """What a study measures.

    Attributes:
        quick: only xIELU, xIPReLU, ReLU² and SiLU in 16-bit formats at the initial parameters,
            nothing compiled, short timings.
        functions, formats: empty means the defaults.
        compiled: also run torch.compile (its compile time is recorded apart).
        exhaustive: every fp32 input of every case instead of a stratified set: hours for all functions.
        timing, reductions: also time the implementations, also sum parameter gradients.
        device: name of the one where kernels run and are scored.
        probe: folder of a training probe to report too.
        skipped: implementations that are left out, as "FUNCTION LABEL".
    """

    quick: bool = False
    functions: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    compiled: bool = True
    timing: bool = True
    reductions: bool = True
    exhaustive: bool = False
    device: str = "cpu"
    probe: str | None = None
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.functions:
            FUNCTIONS.get(name)
        for name in self.formats:
            kernel_format(name)
        usable_device(self.device)

    @property
    def on(self) -> Device:
        """The device of that name."""
        return get_device(self.device)

    def chosen_functions(self) -> tuple[Activation, ...]:
        """In registry order, only those that some implementation computes."""
        asked = self.functions or (QUICK_FUNCTIONS if self.quick else tuple(FUNCTIONS))
        available = {i.function for i in IMPLEMENTATIONS.values() if i.runs_on(self.on)}
        return tuple(f for name, f in FUNCTIONS.items() if name in asked and f in available)

    def chosen_formats(self) -> tuple[FloatFormat, ...]:
        names = self.formats or (("bf16", "fp16") if self.quick else DEFAULT_FORMATS)
        return tuple(FORMATS[name] for name in names)

    def implementations(self) -> tuple[Implementation, ...]:
        functions = self.chosen_functions()
        compiled = self.compiled and not self.quick
        return tuple(
            on_device(i, self.on)
            for i in IMPLEMENTATIONS.values()
            if i.function in functions
            and i.runs_on(self.on)
            and (compiled or not i.execution.compiled)
            and f"{i.function.name} {i.label}" not in self.skipped
        )

    def parameter_sets(self, function: Activation) -> tuple[str, ...]:
        names = tuple(function.parameter_sets)
        return names[:1] if self.quick else names
