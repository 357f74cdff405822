"""The option --function of commands that take a TARGET: which activation it computes."""

from __future__ import annotations

from typing import Annotated

import typer

from precision_lab.exceptions import UsageError

# Required, and not so for typer: without it, a message can say more than that it is missing.
FunctionOption = Annotated[
    str | None, typer.Option("--function", help="Activation that TARGET computes; required.")
]


def function_of(target: str, given: str | None) -> str:
    """The function that was given.

    Raises:
        UsageError: none was; says what TARGET has where it is a file alone, or else which was probably meant.
    """
    if given is not None:
        return given
    from precision_lab.functions import FUNCTIONS
    from precision_lab.implementations.adapters.offers import probable_function
    from precision_lab.implementations.adapters.target import is_place, kernel_of, unnamed_target

    if is_place(target):
        raise unnamed_target(target)
    near = probable_function(kernel_of(target), list(FUNCTIONS))
    such = f"; did you mean --function {near}?" if near else ", such as --function silu;"
    raise UsageError(
        f"--function is missing: it says which activation {target} computes{such} `precision-lab list` names "
        "them, and one of your own is FILE:NAME"
    )
