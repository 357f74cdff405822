"""One environment for each package: the one that runs this, under what the package brings of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import asdict
from pathlib import Path

from package import Package

PINS = "pins.json"
LIBRARY = "library"  # the folder of an environment that holds a file of machine code
PIP = [sys.executable, "-I", "-m", "pip"]
# The lab's own environment has them: what a package asks for instead would measure another compiler.
KEPT = ("torch", "triton")


class NotInstalled(Exception):
    """Why there is no environment."""


def environment(package: Package, root: Path) -> Path:
    """The interpreter of a package's environment, which is made where there is none of these pins.

    Raises:
        NotInstalled: it cannot be.
    """
    if not package.version:
        return Path(sys.executable)
    folder = root / package.name
    python = folder / "bin" / "python"
    pins = json.dumps(_pins(package))
    if (folder / PINS).is_file() and (folder / PINS).read_text(encoding="utf-8") == pins:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-I", "-m", "venv", "--without-pip", str(folder)])
    site = folder / Path(sysconfig.get_path("purelib", vars={"base": "", "platbase": ""})).relative_to("/")
    lines = [sysconfig.get_path("purelib")]
    own = f"{package.package}=={package.version}"
    given = ("triton",) if package.triton else ()
    try:
        if package.triton:
            _install(python, lines, site, ["--no-deps", f"triton=={package.triton}"], given)
        if package.needs:
            _install(python, lines, site, ["--no-deps", *package.needs], given)
        if package.library:
            _library(own, package.library, folder)
        elif package.unpacked:
            lines.insert(0, str(_unpacked(own, folder) / package.inside))
        else:
            _install(python, lines, site, [own] if package.dependencies else ["--no-deps", own], given)
    except NotInstalled:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    _layer(site, lines)
    (folder / PINS).write_text(pins, encoding="utf-8")
    return python


def _pins(package: Package) -> dict[str, object]:
    about = asdict(package)
    names = ("package", "version", "dependencies", "needs", "triton", "unpacked", "inside", "library")
    return {**{name: about[name] for name in names}, "python": sys.version, "base": sys.prefix}


def _layer(site: Path, lines: list[str]) -> None:
    """What lies under the environment is found after its own."""
    (site / "under.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _install(
    python: Path, lines: list[str], site: Path, words: list[str], given: tuple[str, ...] = ()
) -> None:
    _layer(site, lines)
    options = ["--quiet", "--no-compile", "--disable-pip-version-check", "--no-input", "--prefer-binary"]
    _run([*PIP, "--python", str(python), "install", *options, *words])
    for name in KEPT:
        if (site / name).exists() and name not in given:
            raise NotInstalled(f"{words[-1]} brings its own {name}")


def _downloaded(requirement: str, folder: Path, pattern: str, *options: str) -> Path:
    """The one file that the index has of it."""
    command = [*PIP, "download", "--quiet", "--no-deps", "--disable-pip-version-check", *options]
    _run([*command, "--dest", str(folder), requirement], DOWNLOAD_ONLY)
    (found,) = folder.glob(pattern)
    return found


def _unpacked(requirement: str, folder: Path) -> Path:
    """The folder of a source distribution, which is not built: its setup need not even run."""
    found = folder / "source"
    archive = _downloaded(requirement, found, "*.tar.gz", "--no-binary", ":all:", "--no-build-isolation")
    with tarfile.open(archive) as packed:
        packed.extractall(found, filter="data")
    archive.unlink()
    (inner,) = found.iterdir()
    return inner


def _library(requirement: str, name: str, folder: Path) -> None:
    """One file of a wheel, beside the environment; the wheel goes again."""
    found = folder / LIBRARY
    wheel = _downloaded(requirement, found, "*.whl", "--only-binary", ":all:")
    kept = found / Path(name).name
    with zipfile.ZipFile(wheel) as packed, packed.open(name) as source, kept.open("wb") as to:
        shutil.copyfileobj(source, to)
    wheel.unlink()


# Setups of packages with CUDA sources ask for a compiler unless they are told that nobody wants one.
DOWNLOAD_ONLY = {
    "FLASH_ATTENTION_SKIP_CUDA_BUILD": "TRUE", "MAMBA_SKIP_CUDA_BUILD": "TRUE", "BUILD_EXT": "0",
}  # fmt: skip


def _run(command: list[str], variables: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(variables or {})},
    )
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise NotInstalled(said[-1] if said else f"exit code {done.returncode}")
