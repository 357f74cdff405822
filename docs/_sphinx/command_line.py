"""The directive `command-line`: the help of every command, as the program itself prints it."""

from __future__ import annotations

import os
from unittest import mock

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from typer.testing import CliRunner

from precision_lab.cli.main import app as program

NAME = "precision-lab"


def help_of(*command: str) -> str:
    """What `precision-lab COMMAND --help` prints on a terminal of 80 columns without colours."""
    with mock.patch.dict(os.environ, {"COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1"}):
        ran = CliRunner().invoke(program, [*command, "--help"], prog_name=NAME)
    if ran.exit_code:
        raise RuntimeError(f"{' '.join((NAME, *command))} --help: {ran.output}")
    return ran.output.strip("\n")


def commands() -> list[str]:
    """Names of all commands, in the order in which the program lists them."""
    return [
        info.name or getattr(info.callback, "__name__", "").rstrip("_")
        for info in program.registered_commands
        if not info.hidden
    ]


class CommandLine(SphinxDirective):
    """One section for the program and one for each command."""

    has_content = False

    def run(self) -> list[nodes.Node]:
        return [self._section(NAME), *(self._section(f"{NAME} {name}", name) for name in commands())]

    def _section(self, title: str, *command: str) -> nodes.section:
        section = nodes.section(ids=[title.replace(" ", "-")], names=[title])
        section += nodes.title("", "", nodes.literal(title, title))
        shown = help_of(*command)
        section += nodes.literal_block(shown, shown, language="text")
        return section


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
