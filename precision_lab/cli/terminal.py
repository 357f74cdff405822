"""Whether a stream gets colours and a cursor that moves: NO_COLOR, FORCE_COLOR and TERM say it."""

from __future__ import annotations

import os
from typing import Any, TextIO

NO_TERMINAL_WIDTH = 120  # a pipe has no width to respect


def wants_no_escapes() -> bool:
    """Whether no escape codes may be written: NO_COLOR is set to anything but nothing, or a dumb terminal."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") in ("dumb", "unknown")


def moves_cursor(stream: TextIO) -> bool:
    """Whether lines already written may be written again: a terminal, which forced colours do not make."""
    return stream.isatty() and not wants_no_escapes()


def console_options(stream: TextIO) -> dict[str, Any]:
    """How rich writes to a stream.

    rich takes NO_COLOR as no colours, and still writes bold, dim and the cursor's moves.
    """
    width = None if stream.isatty() else NO_TERMINAL_WIDTH
    if wants_no_escapes():
        return {"color_system": None, "force_terminal": False, "width": width}
    return {"width": width}
