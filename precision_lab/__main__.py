"""`precision-lab` and `python -m precision_lab`: the commands, where they can be loaded."""

from __future__ import annotations

import sys

from precision_lab.exceptions import EnvironmentAltersResultsError


def main() -> None:
    """Runs the command that the arguments name; exit code 2 where this process's arithmetic is altered."""
    try:
        from precision_lab.cli.main import main as commands
    except EnvironmentAltersResultsError as error:
        print(f"precision-lab: {error}", file=sys.stderr)
        sys.exit(2)
    commands()


if __name__ == "__main__":
    main()
