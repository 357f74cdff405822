"""How torch.compile is told to compile a kernel: Inductor's own settings, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from precision_lab.exceptions import UsageError, unknown_name

Compiled: TypeAlias = bool | Mapping[str, Any]  # whether; or with which settings

# Rounds to the storage format wherever an eager kernel would.
EMULATE_CASTS = (("emulate_precision_casts", True),)


def inductor_settings(compiled: Compiled) -> tuple[tuple[str, Any], ...]:
    """The settings in the order of their names; () for none.

    Raises:
        ValueError: Inductor has no setting of that name, or one of another type.
    """
    if isinstance(compiled, bool) or not compiled:
        return ()
    from torch._inductor import config

    known = config.get_config_copy()
    for name, value in compiled.items():
        if name not in known:
            raise unknown_name("setting of torch.compile's Inductor", name, known)
        before = known[name]
        if before is not None and type(value) is not type(before):
            raise UsageError(
                f"inductor {name}={value!r} is a {type(value).__name__}: expected a {type(before).__name__}, "
                f"such as {before!r}"
            )
    return tuple(sorted(compiled.items()))


def read_settings(words: list[str] | None) -> dict[str, Any]:
    """Settings from `NAME=VALUE` of a command line; a value that is no Python literal is text.

    Raises:
        ValueError: one has no name or no value, or stands twice.
    """
    import ast

    found: dict[str, Any] = {}
    for word in words or ():
        name, equals, text = word.partition("=")
        if not equals or not name or name in found:
            raise UsageError(
                f"--inductor {word!r}: expected NAME=VALUE, once each, such as emulate_precision_casts=True"
            )
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found
