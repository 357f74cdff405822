"""What an emulated GPU takes of the machine that runs the tests, and processes in which there is one."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys

import pytest

from precision_lab.emulator.machine_code import assemblers, program
from precision_lab.exceptions import MissingPackageError


def missing(*modules: str) -> str:
    """Why there can be no emulated GPU here, or none with these modules; "" where there can."""
    if not sys.platform.startswith("linux"):
        return "GPUs are emulated on Linux only"
    if "CXX" not in os.environ and not any(map(shutil.which, ("c++", "g++", "clang++"))):
        return "no C++ compiler"
    absent = (module for module in modules if importlib.util.find_spec(module) is None)
    return next((f"{module} is not installed" for module in absent), "")


def needs_programs(*names: str) -> pytest.MarkDecorator:
    """Skips where these programs of NVIDIA's, or its assembler, are missing."""
    try:
        for name in names:
            program(name)
        why = "" if assemblers() else "there is no ptxas"
    except MissingPackageError as error:
        why = str(error)
    return pytest.mark.skipif(bool(why), reason=why or f"{', '.join(names)} and ptxas are here")


def require(*modules: str) -> None:
    """Skips the test, or the module that is being imported, where something is missing."""
    if why := missing(*modules):
        pytest.skip(why, allow_module_level=True)


def python(*arguments: str, seconds: float = 600, **environment: str) -> subprocess.CompletedProcess[str]:
    """A new interpreter, without what would make Triton interpret."""
    given = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env={**given, **environment},
        timeout=seconds,
    )
