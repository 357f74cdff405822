"""Options that several commands share, alone and in groups, and what their values mean."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from precision_lab.devices import Device, get_device, kinds
from precision_lab.devices.emulated import engine_in_use, tables_in_use
from precision_lab.exceptions import UsageError, unknown_name

if TYPE_CHECKING:
    from precision_lab.implementations.contract import CallContract
    from precision_lab.implementations.inductor import Compiled

FunctionArgument = Annotated[
    str, typer.Argument(help="Activation, e.g. xielu; `precision-lab list` names them.")
]
_DEVICES = ", ".join(kind.spelling for kind in kinds()).replace("'", "")
FormatsOption = Annotated[list[str] | None, typer.Option("--format", help="Number format; may be repeated.")]
JsonOption = Annotated[
    Path | None,
    typer.Option("--json", help="Also write the result as JSON to this file (-: standard output)."),
]
ParamOption = Annotated[
    list[str] | None, typer.Option("--param", help="NAME=VALUE, e.g. alpha_n=0.8; may be repeated.")
]
DeviceOption = Annotated[str, typer.Option("--device", help=f"Where kernels run and are scored: {_DEVICES}.")]
EmulatorOption = Annotated[
    str | None,
    typer.Option(
        "--emulator",
        help="What executes an emulated GPU's code: fast (default) or reference, of PTX, or sass, which "
        "assembles PTX and executes the machine code. Machine code in a file is always executed by sass.",
    ),
]
TablesOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--device-table",
        help="What a real device returns for an approximate instruction, by `device-table`, or a folder of "
        "such files; may be repeated.",
    ),
]
LaunchOption = Annotated[
    str | None,
    typer.Option(
        "--launch",
        help="How a kernel of CUDA, PTX or machine code is launched, where its file does not say it: "
        "'x, y, n block=256'; of structs as 'n, {}, {y, x}'.",
    ),
]
FrameworkOption = Annotated[
    str | None, typer.Option("--framework", help="torch, numpy, jax or mlx, where not recognised.")
]
MultipleOption = Annotated[
    int, typer.Option("--multiple-of", help="The kernel takes only multiples of so many elements.")
]
ShapesOption = Annotated[
    list[str] | None,
    typer.Option("--shape", help="It takes only this shape, * for any size: '*,4096'; may be repeated."),
]
InductorOption = Annotated[
    list[str] | None,
    typer.Option(
        "--inductor",
        help="A setting that it is then compiled with: emulate_precision_casts=True; may be repeated.",
    ),
]
SetOption = Annotated[str, typer.Option("--params", help="Named parameter set of the function.")]


@dataclass(frozen=True)
class Call:
    """How a kernel is called, and where."""

    framework: FrameworkOption = None
    compiled: Annotated[bool, typer.Option("--compiled", help="Run it through torch.compile.")] = False
    inductor: InductorOption = None
    multiple_of: MultipleOption = 1
    shape: ShapesOption = None
    launch: LaunchOption = None
    device: DeviceOption = "cpu"
    emulator: EmulatorOption = None
    device_table: TablesOption = None

    @property
    def place(self) -> Device:
        """The device.

        Raises:
            ValueError: there is none of that name, or no such emulator.
        """
        return chosen_device(self.device, self.emulator, self.device_table)

    @property
    def compilation(self) -> Compiled:
        """Whether torch.compile runs it, or with which settings.

        Raises:
            ValueError: as `inductor.read_settings`, or settings without --compiled.
        """
        if not self.inductor:
            return self.compiled
        if not self.compiled:
            raise UsageError(
                f"--inductor {self.inductor[0]!r}: it is a setting of --compiled, which is missing"
            )
        from precision_lab.implementations.inductor import read_settings

        return read_settings(self.inductor)

    @property
    def contract(self) -> CallContract:
        """The calls that it accepts.

        Raises:
            ValueError: as `contract.read_shape`.
        """
        from precision_lab.implementations.contract import CallContract

        return CallContract(self.multiple_of, read_shapes(self.shape))


def chosen_device(name: str, emulator: str | None, tables: Sequence[Path] | None = None) -> Device:
    """The device of that name, whose code the named engine executes if it is emulated, by these tables.

    Raises:
        ValueError: there is none, or the engine or a table is of no use to it.
    """
    device = get_device(name)
    if emulator is not None and not device.own_process:
        raise UsageError(f"--emulator {emulator}: device={name!r} is not emulated")
    if tables and not device.own_process:
        raise UsageError(f"--device-table {tables[0]}: device={name!r} is not emulated")
    engine_in_use(emulator)
    tables_in_use(tables or ())
    return device


@dataclass(frozen=True)
class Values:
    """Parameter values: of a named set, single ones replaced."""

    params: SetOption = "init"
    param: ParamOption = None

    def of(self, function: str) -> dict[str, float]:
        """As `parameters`."""
        return parameters(function, self.params, self.param)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose arguments may be groups of options: the command line has the fields of each group.

    A group is a frozen dataclass; each of its fields is an annotated option.
    """
    hints = get_type_hints(command, include_extras=True)
    groups = {name: hint for name, hint in hints.items() if is_dataclass(hint) and isinstance(hint, type)}
    shown: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in groups:
            shown.append(parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        of_field = get_type_hints(groups[name], include_extras=True)
        for field in fields(groups[name]):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            kind = inspect.Parameter.KEYWORD_ONLY
            shown.append(
                inspect.Parameter(field.name, kind, default=default, annotation=of_field[field.name])
            )

    @functools.wraps(command)
    def wrapper(**values: Any) -> None:
        made = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**values, **made)

    signature = inspect.Signature(shown)
    wrapper.__signature__ = signature  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in shown}
    return wrapper


def refuse_ignored(context: typer.Context, why: str, allowed: set[str]) -> None:
    """Refuses options that were given and that a command would not heed.

    Args:
        allowed: names of the parameters that it does heed.

    Raises:
        UsageError: names the first of them.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name not in allowed and source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"{parameter.opts[0]} has no effect with {why}; leave it out")


def parameters(function: str, set_name: str, pairs: list[str] | None) -> dict[str, float]:
    """The named set with single values replaced.

    Raises:
        ValueError: an unknown set, or a pair that is not NAME=NUMBER.
    """
    from precision_lab.functions import get_function

    definition = get_function(function)
    if set_name not in definition.parameter_sets:
        raise unknown_name(f"parameter set of {function}", set_name, definition.parameter_sets)
    values = dict(definition.parameter_sets[set_name])
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        try:
            values[name] = float(text)
        except ValueError:
            raise UsageError(f"--param {pair!r}: expected NAME=NUMBER, such as alpha_n=0.8") from None
        if not equals:
            raise UsageError(f"--param {pair!r}: expected NAME=NUMBER, such as alpha_n=0.8")
    return definition.check_params(values)


def read_shapes(patterns: list[str] | None) -> tuple[tuple[int | None, ...], ...]:
    """The patterns of `--shape`.

    Raises:
        ValueError: as `contract.read_shape`.
    """
    from precision_lab.implementations.contract import read_shape

    return tuple(read_shape(text) for text in patterns or ())
