"""The shared library that makes torch's CUDA device of host memory: compiled at first use, then kept.

It needs a C++ compiler and the headers that torch brings along. What was compiled is another's once the
sources, torch or the compiler change.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from precision_lab.exceptions import InternalError, MissingPackageError
from precision_lab.system.cache_files import cache_directory, read_checked, write_checked

SOURCES = Path(__file__).parent / "native"
# Nothing in it is hot: what takes time are torch's own operators.
FLAGS = ("-std=c++20", "-O1", "-fPIC", "-shared", "-w")
COMPILERS = ("c++", "g++", "clang++")


def load() -> ctypes.CDLL:
    """The library, in this process.

    Raises:
        MissingPackageError: it was not compiled before, and there is no C++ compiler.
        InternalError: it does not compile.
    """
    content = _content()
    # From memory: the file that is kept has its checksum before it, and nobody can change it in between.
    handle = os.memfd_create("precision_lab_virtual_gpu")
    try:
        with os.fdopen(os.dup(handle), "wb") as file:
            file.write(content)
        return _declared(ctypes.CDLL(f"/proc/self/fd/{handle}"))
    finally:
        os.close(handle)


def _content() -> bytes:
    compiler = _compiler()
    key = _key(compiler)
    folder = cache_directory()
    if folder is None:
        return _compiled(_required(compiler))
    path = folder / "virtual_gpu" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.so"
    found = read_checked(path, key)
    if found is None:
        with _alone(path.with_suffix(".lock")):
            found = read_checked(path, key)  # another process may have made it meanwhile
            if found is None:
                found = _compiled(_required(compiler))
                write_checked(path, key, found)
    return found


def _key(compiler: str | None) -> str:
    digest = hashlib.sha256()
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.read_bytes())
    # Where the compiler has gone since, what it made serves still.
    return f"{digest.hexdigest()} {torch.__version__} {torch.compiled_with_cxx11_abi()} {' '.join(FLAGS)}"


def _compiler() -> str | None:
    """$CXX, or the first that is found."""
    chosen = os.environ.get("CXX")
    return next(
        (found for name in ([chosen] if chosen else COMPILERS) if (found := shutil.which(name))), None
    )


def _required(compiler: str | None) -> str:
    if compiler is None:
        chosen = os.environ.get("CXX")
        looked_for = f"CXX={chosen!r} is not found" if chosen else f"none of {', '.join(COMPILERS)} is found"
        raise MissingPackageError(
            f"an emulated GPU needs a C++ compiler once, to fit it to torch {torch.__version__}, and "
            f"{looked_for}; install one, such as g++ 12 (`apt install g++`), or name it in the environment "
            "variable CXX"
        )
    return compiler


def _compiled(compiler: str) -> bytes:
    place = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "virtual_gpu.so"
        command = [
            compiler, *FLAGS, str(SOURCES / "library.cpp"), "-o", str(target), f"-I{place / 'include'}",
            f"-L{place / 'lib'}", "-lc10", "-ltorch_cpu",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if "error" in line]
            first = errors[0].strip() if errors else f"exit code {done.returncode}"
            raise InternalError(
                f"the emulated GPU's library does not compile by {compiler} for torch {torch.__version__}: "
                f"{first}",
                done.stderr,
            )
        return target.read_bytes()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; where no file can be made, each by itself."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    except OSError:
        yield
        return
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    number, text = ctypes.c_uint64, ctypes.c_char_p
    for name, result, arguments in (
        ("install", text, [number, number, number]),
        ("allocate", number, [number]),
        ("allocation", number, [number, ctypes.POINTER(number)]),
        ("names", text, [number]),
        ("mark", None, [number, text]),
        ("take_reports", text, []),
        ("resize", text, [number, number]),
        ("used", number, []),
        ("peak", number, []),
        ("reset_peak", None, []),
        ("next_generator_is_default", None, []),
    ):
        function = getattr(library, f"virtual_gpu_{name}")
        function.restype, function.argtypes = result, arguments
    return library
