"""The house's docstrings as reStructuredText: `|x|` and `*` mean what they say.

Docstrings are plain text with one backtick around code and Google's sections. Bars and asterisks in them are
absolute values and products, and never a substitution or emphasis.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

_CODE = re.compile(r"(`+[^`]+`+|(?<![\w*])\*\w+\*(?![\w*]))")  # and one word that is stressed


def plain(lines: list[str]) -> list[str]:
    """Lines with those characters escaped, outside of code, examples and literal blocks."""
    result = []
    literal: int | None = None  # indentation of the line that began a literal block
    example = False
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if literal is not None and line.strip() and indent <= literal:
            literal = None
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if literal is None and not example:
            parts = _CODE.split(line)
            line = "".join(
                part if at % 2 else re.sub(r"([|*])", r"\\\1", part) for at, part in enumerate(parts)
            )
            if line.rstrip().endswith("::"):
                literal = indent
        result.append(line)
    return result


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = plain(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", process, priority=100)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
