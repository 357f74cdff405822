"""The command `explain`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from precision_lab.cli.errors import clear_errors
from precision_lab.cli.options import Call, FunctionArgument, JsonOption, Values, grouped
from precision_lab.cli.output import Outputs, json_text
from precision_lab.exceptions import UsageError


def _point(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float.fromhex(text) if "0x" in text.lower() else float(text)
    except ValueError:
        raise UsageError(f"-x {text!r}: expected a number such as -1e-7 or -0x1.8p-24") from None


def _pattern(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(text, 16)
    except ValueError:
        raise UsageError(f"--bits {text!r}: expected a hexadecimal pattern such as 0xb58d") from None


@clear_errors
@grouped
def explain(
    function: FunctionArgument,
    values: Values,
    call: Call,
    x: Annotated[
        str | None,
        typer.Option("-x", "--x", help="Input, decimal or hexadecimal float; rounded to the format."),
    ] = None,
    bits: Annotated[str | None, typer.Option("--bits", help="Input as a bit pattern, e.g. 0xb58d.")] = None,
    fmt: Annotated[str, typer.Option("--format", help="Number format of the input.")] = "bf16",
    output: Annotated[str, typer.Option("--output", help="forward, grad_x, grad_alpha_n, …")] = "forward",
    kernel: Annotated[
        str | None,
        typer.Option(
            "--kernel",
            help="Also run this TARGET, as `verify` takes it; without it, --compiled runs the lab's own "
            "(slow at first).",
        ),
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """One input on one screen: exact value, conditioning, every implementation's value and error."""
    from precision_lab.cli.printing import console_for, print_explanation
    from precision_lab.formats import kernel_format
    from precision_lab.functions import get_function
    from precision_lab.implementations.adapters.target import Called, with_launch
    from precision_lab.measuring import explain as explaining
    from precision_lab.results.execution import EXECUTIONS
    from precision_lab.running.own_process import on

    outputs = Outputs({"--json": json_path})
    point, pattern = _point(x), _pattern(bits)
    definition, source = get_function(function), kernel_format(fmt)
    asked = values.of(function)
    own = None
    if kernel is not None:
        own = Called(with_launch(kernel, call.launch), call.framework, call.compilation, call.contract)
    elif call.framework is not None or call.multiple_of != 1 or call.shape or call.launch is not None:
        raise UsageError(
            "--framework, --multiple-of, --shape and --launch say how --kernel is called, and it is missing"
        )
    place = call.place
    found = on(
        place,
        explaining.explain,
        definition,
        fmt=source,
        x=point,
        bits=pattern,
        output=output,
        params=asked,
        executions=[e for e in EXECUTIONS.values() if not e.compiled or (call.compiled and kernel is None)],
        kernel=own,
        device=place,
    )
    show = partial(print_explanation, found, console_for(stderr=outputs.to_stderr))
    if not outputs.deliver(show, {"--json": lambda: json_text(found.to_json())}):
        raise typer.Exit(2)
