"""Tests in a process of an emulated device: such a process is changed for good."""

import ast
import functools
import json
from pathlib import Path

from emulation import python

HERE = Path(__file__).parent


def names_of(file: str) -> list[str]:
    tree = ast.parse((HERE / file).read_text(encoding="utf-8"))
    return [n.name for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]


@functools.cache
def outcomes(file: str, target: str) -> dict[str, str]:
    """Of each test of a file, why it failed; "" for one that passed."""
    done = python(str(HERE / "run_on_device.py"), target, str(HERE / file))
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"test"')]
    found = {line["test"]: line["why"] for line in lines}
    if "" not in found or done.returncode != 0:
        died = f"the process ended with code {done.returncode}: {done.stderr[-3000:]}"
        return {name: found.get(name) or died for name in names_of(file)}
    return found
