"""The command `cost`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from precision_lab.cli.errors import clear_errors
from precision_lab.cli.function_option import FunctionOption, function_of
from precision_lab.cli.options import Call, FormatsOption, JsonOption, Values, grouped, refuse_ignored
from precision_lab.cli.output import Outputs, json_text

if TYPE_CHECKING:
    from rich.console import Console

    from precision_lab.results.cost import Cost, DirectionCost


@clear_errors
@grouped
def cost(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="A TARGET, as `verify` takes it.")],
    values: Values,
    call: Call,
    function: FunctionOption = None,
    formats: FormatsOption = None,
    json_path: JsonOption = None,
) -> None:
    """What a kernel costs on an emulated GPU (--device sm_90), counted in its machine code and not timed.

    Exit code 0: it was counted. 1: a pass could not be. 2: wrong use. 3: the lab's own trouble.
    """
    from precision_lab.cli.printing import console_for
    from precision_lab.formats import kernel_format
    from precision_lab.functions import get_function
    from precision_lab.implementations.adapters.target import Called, with_launch
    from precision_lab.measuring.cost import cost_of_target, require_emulated
    from precision_lab.running.own_process import on

    outputs = Outputs({"--json": json_path})
    everything = {str(parameter.name) for parameter in context.command.params}
    refuse_ignored(context, "a count of instructions", everything - {"emulator", "device_table"})
    function = function_of(target, function)
    definition, place = get_function(function), call.place
    require_emulated(place)
    called = Called(with_launch(target, call.launch), call.framework, call.compiled, call.contract)
    asked = values.of(function)
    found = [
        on(place, cost_of_target, called, definition, kernel_format(name), asked, place)
        for name in formats or ("bf16",)
    ]
    show = partial(print_costs, found, console_for(stderr=outputs.to_stderr))
    arrived = outputs.deliver(show, {"--json": lambda: json_text({"costs": [c.to_json() for c in found]})})
    if any(direction.failure for each in found for direction in each.directions):
        raise typer.Exit(1)
    if not arrived:
        raise typer.Exit(2)


def print_costs(costs: Sequence[Cost], console: Console) -> None:
    """A table for each format: what an element takes, then what that is beside a copy."""
    for each in costs:
        _print_cost(each, console)


def _print_cost(found: Cost, console: Console) -> None:
    from precision_lab.cli.columns import Column, numbers, print_table
    from precision_lab.report import costs as words
    from precision_lab.report.published import OPERATIONS
    from precision_lab.results.execution import labelled

    counted = [d for d in found.directions if not d.failure]
    name = labelled(found.implementation, found.execution)
    title = f"{found.function} {name}, {found.fmt}, {found.device}: per element, counted and not timed"
    columns = [Column(""), *numbers(*(direction.direction for direction in counted))]
    rows: list[list[str]] = []

    def row(label: str, text: Callable[[DirectionCost], str]) -> None:
        rows.append([label, *(text(direction) for direction in counted)])

    row("instructions", words.executed)
    row("on the longest way", lambda d: words.per_element(d.longest))
    for unit in dict.fromkeys(unit for d in counted for unit in d.units if unit != "issue slots"):
        if any(d.units.get(unit, 0.0) >= 0.005 for d in counted):
            row(f"  of them {unit}", lambda d, unit=unit: words.per_element(d.units.get(unit, 0.0)))  # type: ignore[misc]
    row("bytes that must move", lambda d: words.per_element(d.due))
    row("bytes that move", words.moved)
    row("bytes that accesses name", lambda d: words.per_element(sum(x.loaded + x.stored for x in d.launches)))
    row("registers of a thread", lambda d: str(d.main.registers) if d.main else "–")
    row("registers spilled, accesses", lambda d: words.per_element(sum(x.spilled for x in d.launches)))
    row("warps resident", words.resident)
    for k, share in enumerate(counted[0].shares if counted else ()):
        assumed = "" if share.copy_is_measured else "*"
        row(f"{share.gpu}{assumed}, at copy speed", lambda d, k=k: words.share_of(d.shares[k]))  # type: ignore[misc]
        row("", lambda d, k=k: words.bound_of(d.shares[k]))  # type: ignore[misc]
    console.print(title, style="bold", soft_wrap=True)
    if counted:
        print_table(console, columns, rows)
        shares = counted[0].shares
        if any(not share.copy_is_measured for share in shares):
            console.print("* assumed: a copy reaches as much of the peak as on an H200", soft_wrap=True)
        if not shares:
            console.print(f"no GPU of {found.device} is in the lab's table: no shares", soft_wrap=True)
    if found.function in OPERATIONS:
        console.print(f"the paper counts, forward: {OPERATIONS[found.function]}", soft_wrap=True)
    for direction in found.directions:
        if direction.failure:
            console.print(
                f"{direction.direction}: not counted: {direction.failure}", style="red", soft_wrap=True
            )
        for each in direction.launches:
            if each.once >= 0.5 and each.most < 0.005:
                grid = each.grid[0] * each.grid[1] * each.grid[2]
                console.print(
                    f"{direction.direction}: {each.kernel} takes {each.once:.0f} instructions of a thread "
                    f"once ({grid} {'block' if grid == 1 else 'blocks'})",
                    soft_wrap=True,
                )
            if each.unused:
                words_ = ", ".join(each.unused)
                console.print(
                    f"note: {each.kernel}: left out, as machine code differs: {words_}", soft_wrap=True
                )
        if direction.note and not direction.failure:
            console.print(f"note: {direction.direction}: {direction.note}", soft_wrap=True)
