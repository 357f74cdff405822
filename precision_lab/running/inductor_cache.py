"""The folder in which torch.compile keeps what it has compiled, with a checksum of every file.

Inductor checks nothing that it loads: a library cut short by a full disk, or with one bit turned, is run. So
the lab keeps the digests of what was compiled. The first process to use the folder, when no other does,
removes what they do not vouch for, and what is gone is compiled again. Where the folder cannot be had, or one
in use turns out damaged, a process works in a temporary one of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from precision_lab.system.cache_files import cache_directory, read_checked, write_checked

_LOCK, _SEALS = "in-use.lock", "seals"
_KEY = "inductor"  # of the lists of digests, which have a checksum themselves


def compiler_folder() -> Path:
    """Where torch.compile is to keep what it compiles in this process.

    $TORCHINDUCTOR_CACHE_DIR is its user's own, and taken as it is. Torch's default, a temporary folder, is
    emptied by a restart and paid for again.
    """
    chosen = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    if chosen:
        return Path(chosen)
    user = cache_directory()
    return _verified(None if user is None else user / "inductor")


_at_end = contextlib.ExitStack()
atexit.register(_at_end.close)


def leave() -> None:
    """What happens at the end of the process, for one that ends without it."""
    _at_end.close()


@lru_cache(maxsize=8)
def _verified(folder: Path | None) -> Path:
    """The folder, with nothing in it that is damaged, and this process as one of its users."""
    if folder is not None:
        with contextlib.suppress(OSError, ImportError):
            if _entered(folder):
                _at_end.callback(_seal, folder)
                return folder
    own = Path(tempfile.mkdtemp(prefix="precision-lab-"))
    _at_end.callback(shutil.rmtree, own, ignore_errors=True)
    return own


def _entered(folder: Path) -> bool:
    """Registers this process as a user; False where others use the folder and something in it is damaged."""
    import fcntl  # not on Windows

    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)  # held until the process ends
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(handle, fcntl.LOCK_SH)
        known = _sealed(folder)
        # What nobody vouches for yet is being made by the others.
        return all(name not in known or digest in known[name] for name, digest in _found(folder))
    known, kept = _sealed(folder), {}
    for name, digest in list(_found(folder)):
        if digest in known.get(name, ()):
            kept[name] = digest
        else:
            (folder / name).unlink()
    one = _write_seal(folder, kept)
    for path in (folder / _SEALS).glob("*.json"):
        if path != one:
            path.unlink()
    fcntl.flock(handle, fcntl.LOCK_SH)
    return True


def _found(folder: Path) -> Iterator[tuple[str, str]]:
    """Every file that Inductor has put there, by its name in the folder, with its digest."""
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        # Torch's own locks are empty files, which others may hold at this moment.
        if name.parts[0] in (_LOCK, _SEALS, "locks") or not path.is_file():
            continue
        with contextlib.suppress(FileNotFoundError):
            yield str(name), hashlib.sha256(path.read_bytes()).hexdigest()


def _sealed(folder: Path) -> dict[str, set[str]]:
    """The digests that processes have left, by file; several where it was written more than once."""
    found: dict[str, set[str]] = {}
    for path in (folder / _SEALS).glob("*.json"):
        content = read_checked(path, _KEY)
        for name, digest in json.loads(content).items() if content is not None else ():
            found.setdefault(name, set()).add(digest)
    return found


def _seal(folder: Path) -> None:
    """Vouches for what is new in the folder."""
    with contextlib.suppress(OSError):
        known = _sealed(folder)
        _write_seal(folder, {n: digest for n, digest in _found(folder) if digest not in known.get(n, ())})


def _write_seal(folder: Path, digests: Mapping[str, str]) -> Path:
    content = json.dumps(digests, sort_keys=True).encode()
    path = folder / _SEALS / f"{hashlib.sha256(content).hexdigest()[:24]}.json"
    write_checked(path, _KEY, content)
    return path
