"""Kernels in files of machine code: a cubin, a fat binary, or a library that holds fat binaries.

NVIDIA's cuobjdump takes fat binaries apart. Of a library with thousands of kernels that takes a minute, so
the names of its kernels are kept in the lab's cache, and of the machine code the file of a kernel that was
asked for.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from precision_lab.emulator.machine_code import program
from precision_lab.emulator.sass.cubin import kernel_names
from precision_lab.exceptions import UsageError
from precision_lab.system.cache_files import cache_directory, read_checked, write_checked

SUFFIXES = (".cubin", ".fatbin", ".so")
_LISTED = re.compile(r"^ELF file +\d+: (\S+)$", re.MULTILINE)
_TARGET = re.compile(r"\.(sm_(\d+)([a-z]?))\.cubin$")
_SECTION = b".nv_fatbin\0"
_CUDA = 190  # the ELF number of NVIDIA's GPUs


def holds_kernels(path: Path) -> bool:
    """Whether a file is of machine code: by its name, of a library by its section of fat binaries."""
    if path.suffix in (".cubin", ".fatbin"):
        return True
    if path.suffix not in SUFFIXES or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(64)
        if head[:5] != b"\x7fELF\x02" or len(head) < 64:
            return False
        (table,) = struct.unpack_from("<Q", head, 0x28)
        count, names = struct.unpack_from("<HH", head, 0x3C)
        file.seek(table + 64 * names)
        header = file.read(64)
        if len(header) < 64 or names >= count:
            return False
        at, size = struct.unpack_from("<QQ", header, 24)
        file.seek(at)
        return _SECTION in file.read(size)


@dataclass(frozen=True)
class KernelFile:
    """A file of machine code, as one device sees it.

    Attributes:
        target: the device, such as "sm_90".
        parts: of each kernel by its mangled name, the cubin it lies in; "" where the file is one itself.
    """

    path: Path
    target: str
    parts: Mapping[str, str]

    def cubin(self, kernel: str) -> bytes:
        """The machine code that holds a kernel.

        Raises:
            ImportError: there is no cuobjdump.
            ValueError: the file has changed, and has it no longer.
        """
        part = self.parts[kernel]
        if not part:
            return self.path.read_bytes()
        key = f"{_stamp(self.path)} {part}"
        path = _cached(key)
        stored = None if path is None else read_checked(path, key)
        if stored is not None:
            return stored
        with tempfile.TemporaryDirectory() as folder:
            found = _extracted(self.path, part, Path(folder)).get(part)
        if found is None:
            raise UsageError(f"TARGET file {str(self.path)!r} has no {part} any more")
        if path is not None:
            write_checked(path, key, found)
        return found


def kernel_file(path: Path, target: str) -> KernelFile:
    """The kernels of a file that a device can execute.

    Raises:
        ImportError: there is no cuobjdump.
        ValueError: the file is not there, or has no machine code for the device.
    """
    if not path.is_file():
        raise UsageError(f"TARGET file {str(path)!r} does not exist")
    if path.suffix == ".cubin":
        cubin = path.read_bytes()
        names = kernel_names(cubin)
        own = target_of(cubin)
        if own and not _runs(own, "", target):
            raise UsageError(f"TARGET file {str(path)!r} is machine code for sm_{own}, not for {target}")
        return KernelFile(path, target, dict.fromkeys(names, ""))
    key = f"{_stamp(path)} kernels of {target}"
    cached = _cached(key)
    stored = None if cached is None else read_checked(cached, key)
    if stored is not None:
        return KernelFile(path, target, json.loads(stored))
    parts: dict[str, str] = {}
    for fit in _fitting(path, target):  # the nearest last: some kernels are there for one of them alone
        with tempfile.TemporaryDirectory() as folder:
            cubins = _extracted(path, f".{fit}.cubin", Path(folder))
            parts |= {name: part for part, cubin in cubins.items() for name in kernel_names(cubin)}
    if cached is not None:
        write_checked(cached, key, json.dumps(parts).encode())
    return KernelFile(path, target, parts)


def target_of(cubin: bytes) -> int:
    """The number of the device that a cubin is for, such as 90; 0 where its header does not say it."""
    if len(cubin) < 64 or struct.unpack_from("<H", cubin, 0x12)[0] != _CUDA:
        return 0
    (flags,) = struct.unpack_from("<I", cubin, 0x30)
    # Older files have it in the lowest byte, newer ones in the second; seen in what ptxas writes.
    version = cubin[8]
    return int(flags & 0xFF) if version < 8 else int(flags >> 8 & 0xFF)


def _runs(number: int, letter: str, target: str) -> bool:
    """Whether a device executes machine code for another one: the same generation's, and no later."""
    own = int("".join(c for c in target if c.isdigit()))
    if letter:
        return number == own
    return number // 10 == own // 10 and number <= own


def _fitting(path: Path, target: str) -> list[str]:
    """The targets, of those in the file, whose machine code a device takes, the nearest last."""
    listed = _ran("-lelf", str(path))
    targets = {m.group(1): (int(m.group(2)), m.group(3)) for name in _LISTED.findall(listed)
               if (m := _TARGET.search(name))}  # fmt: skip
    fit = [name for name, (number, letter) in targets.items() if _runs(number, letter, target)]
    if not fit:
        has = ", ".join(sorted(targets, key=lambda t: targets[t])) or "none"
        raise UsageError(
            f"TARGET file {str(path)!r} has no machine code for {target}; it has machine code for {has}"
        )
    return sorted(fit, key=lambda name: targets[name])


def _extracted(path: Path, part: str, folder: Path) -> dict[str, bytes]:
    """The cubins whose names end so, by name."""
    _ran("-xelf", part, str(path.resolve()), folder=folder)
    return {each.name: each.read_bytes() for each in folder.glob(f"*{part}")}


def _ran(*words: str, folder: Path | None = None) -> str:
    command = [str(program("cuobjdump")), *words]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if ran.returncode:
        said = (ran.stderr or ran.stdout).strip()
        raise UsageError(f"cuobjdump does not read {words[-1]!r}: {said}")
    return ran.stdout


def _stamp(path: Path) -> str:
    """What tells a file from others, without reading half a gigabyte."""
    about = path.stat()
    return f"{path.resolve()} {about.st_size} {about.st_mtime_ns}"


def _cached(key: str) -> Path | None:
    folder = cache_directory()
    return None if folder is None else folder / "shipped" / hashlib.sha256(key.encode()).hexdigest()
