"""Which cases a study measures."""

from __future__ import annotations

from dataclasses import dataclass, replace

from precision_lab.devices import Device, get_device, usable_device
from precision_lab.devices.emulated import is_installed
from precision_lab.formats import FORMATS, FloatFormat, kernel_format
from precision_lab.functions import FUNCTIONS, SILU, Activation, get_function
from precision_lab.functions.loading import names_file
from precision_lab.implementations import IMPLEMENTATIONS
from precision_lab.implementations.as_written import as_written
from precision_lab.implementations.base import Implementation
from precision_lab.implementations.subject import implementation_of
from precision_lab.results.execution import EXECUTIONS, Execution
from precision_lab.results.profile import DEFAULT, Profile
from precision_lab.running.placement import on_device


def _is_subject(implementation: Implementation, device: Device) -> bool:
    """Whether it is measured there: on an emulated device only what brings code for it, and its compiler."""
    if not implementation.runs_on(device):
        return False
    package = implementation.execution.package
    return not device.own_process or bool(package and is_installed(package))


@dataclass(frozen=True)
class StudySettings:
    """What a study measures.

    Attributes:
        quick: only the profile's quick functions and formats, at the initial parameters, nothing compiled,
            short timings.
        functions, formats: names; empty means the profile's.
        compiled: also run torch.compile (its compile time is recorded apart).
        exhaustive: every fp32 input of every case instead of a stratified set: hours for all functions.
        timing, reductions: also time the implementations, also sum parameter gradients; an emulated device is
            not timed.
        device: name of the one where kernels run and are scored.
        initial_only: of every function the initial parameters alone.
        probe: folder of a training probe to report too.
        skipped: implementations that are left out, as "FUNCTION LABEL".
        profile: which subjects are measured where none are asked for by name.
    """

    quick: bool = False
    functions: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    compiled: bool = True
    timing: bool = True
    reductions: bool = True
    exhaustive: bool = False
    device: str = "cpu"
    initial_only: bool = False
    probe: str | None = None
    skipped: tuple[str, ...] = ()
    profile: Profile = DEFAULT

    def __post_init__(self) -> None:
        for name in self.functions:
            get_function(name)
        for name in self.formats:
            kernel_format(name)
        usable_device(self.device)

    @property
    def on(self) -> Device:
        """The device of that name."""
        return get_device(self.device)

    def chosen_functions(self) -> tuple[Activation, ...]:
        """In the profile's order, then the registry's; only those that some implementation computes."""
        study = self.profile.study
        own = study.quick_functions if self.quick and not self.functions else study.functions
        asked = self.functions or own or tuple(FUNCTIONS)
        available = {i.function for i in IMPLEMENTATIONS.values() if _is_subject(i, self.on)}
        ordered = (FUNCTIONS[name] for name in dict.fromkeys((*own, *FUNCTIONS)) if name in asked)
        return (*(f for f in ordered if f in available), *self.own_functions())

    def own_functions(self) -> tuple[Activation, ...]:
        """Those of a user's files, FILE:NAME."""
        return tuple(get_function(name) for name in self.functions if names_file(name))

    def subjects(self) -> tuple[Implementation, ...]:
        """What may be measured: what is registered, and formulas of users' files as torch computes them."""
        return (*IMPLEMENTATIONS.values(), *(i for f in self.own_functions() for i in as_written(f)))

    def chosen_formats(self) -> tuple[FloatFormat, ...]:
        study = self.profile.study
        names = self.formats or (study.quick_formats if self.quick else study.formats)
        return tuple(FORMATS[name] for name in names)

    def executions_timed(self) -> tuple[Execution, ...]:
        timing = self.profile.timing
        names = timing.accelerator_executions if self.on.is_accelerator else timing.executions
        return tuple(EXECUTIONS[name] for name in names)

    def functions_timed_compiled(self) -> tuple[Activation, ...]:
        return tuple(FUNCTIONS[name] for name in self.profile.timing.compiled_functions)

    def blocks(self) -> tuple[Implementation, ...]:
        """What is measured inside an MLP block: of the functions chosen, and SiLU, which ratios refer to."""
        functions = self.chosen_functions()
        every = [implementation_of(subject) for subject in self.profile.timing.blocks]
        if self.quick and not self.on.is_accelerator:
            return ()
        if not any(i.function in functions and i.function != SILU for i in every):
            return ()
        return tuple(
            i
            for i in every
            if (i.function in functions or i.function == SILU) and (self.compiled or not i.execution.compiled)
        )

    def implementations(self) -> tuple[Implementation, ...]:
        """Those of `listed`, to be run on the device, which this process has."""
        return tuple(on_device(i, self.on) for i in self.listed())

    def listed(self) -> tuple[Implementation, ...]:
        """What is measured: compiled with other settings of the compiler only what is read first."""
        functions = self.chosen_functions()
        compiled = self.compiled and not self.quick
        return tuple(
            i
            for i in self.subjects()
            if i.function in functions
            and _is_subject(i, self.on)
            and (compiled or not i.execution.compiled)
            and (not i.inductor or i.function.name in (*self.functions, *self.profile.report.lead))
            and f"{i.function.name} {i.label}" not in self.skipped
        )

    def parameter_sets(self, function: Activation) -> tuple[str, ...]:
        names = tuple(function.parameter_sets)
        return names[:1] if self.quick or self.initial_only else names

    def emulated(self) -> tuple[StudySettings, ...]:
        """What is also measured on emulated devices: what no compiler of the CPU shows."""
        if self.quick or self.on.kind != "cpu":
            return ()
        rest = replace(self, timing=False, reductions=False, initial_only=True, probe=None)
        there = (replace(rest, device=name) for name in self.profile.study.emulated)
        return tuple(settings for settings in there if settings.listed())
