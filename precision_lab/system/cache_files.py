"""Where the lab keeps what it can make again, and how: a checksum with every file, and no need for any.

A file that is damaged, cut short or another's is as good as missing: what it held is made anew. Where
nothing can be written (no folder, no rights, a full disk), every process makes its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from precision_lab.exceptions import EnvironmentAltersResultsError
from precision_lab.system.atomic_file import write_atomically
from precision_lab.system.ieee import require

_DIGEST = hashlib.sha256().digest_size


def cache_directory() -> Path | None:
    """$PRECISION_LAB_CACHE, else the user's cache folder (XDG_CACHE_HOME); None where there is no home."""
    chosen = os.environ.get("PRECISION_LAB_CACHE")
    if chosen:
        return Path(chosen)
    try:
        user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # neither $HOME nor an entry for this user
        return None
    return user / "precision_lab"


def read_checked(path: Path, key: str) -> bytes | None:
    """What `write_checked` wrote there for the same key; None for anything else."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    content = data[_DIGEST:]
    if hashlib.sha256(key.encode() + content).digest() != data[:_DIGEST]:
        return None
    return content


def write_checked(path: Path, key: str, content: bytes) -> None:
    """Writes a file whole or not at all; where that fails, nothing is said: nobody needs it.

    Nor is anything written out of a thread whose arithmetic is altered: others would believe it.
    """
    with contextlib.suppress(OSError, EnvironmentAltersResultsError):
        require()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, hashlib.sha256(key.encode() + content).digest() + content)


def source_digest(*folders: Path) -> str:
    """SHA-256 of all Python files of these folders: what code there has made is another's once it changes."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
