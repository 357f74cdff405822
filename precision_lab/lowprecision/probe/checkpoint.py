"""Checkpoints of a run: the last two, written whole or not at all, and believed only with a reason.

A file is one line of JSON, which says whose state follows, how long it is and what its SHA-256 is, and the
state as torch saves it.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from precision_lab.exceptions import DamagedFileError, first_line

SCHEMA = 1
_LONGEST_HEADER = 1 << 16
State = dict[str, Any]


class Checkpoints:
    """The last checkpoint of one run and the one before it, which stands in for it.

    Args:
        path: of the last one; the one before it is called the same and ".previous". Folders are made.
        about: what the state depends on, as JSON has it. A checkpoint in which any of it differs is another
            run's.
        device: where the state's tensors are put.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], device: torch.device | str = "cpu") -> None:
        self.path, self.device = path, device
        self.previous, self._partial = _beside(path)
        self._about = json.loads(json.dumps(about))
        self._last_is_good = False

    def load(self, restore: Callable[[State], None]) -> bool:
        """Restores the last state that can be believed; warns of each file that can not.

        Args:
            restore: is given a state; what it raises condemns the file.

        Returns:
            whether there was one.
        """
        for path in (self.path, self.previous):
            try:
                restore(self._read(path))
            except FileNotFoundError:
                continue
            except (
                DamagedFileError, AttributeError, EOFError, KeyError, OSError, RuntimeError, TypeError,
                ValueError, pickle.UnpicklingError, zipfile.BadZipFile,
            ) as error:  # fmt: skip
                warnings.warn(f"checkpoint {str(path)!r} is left out: {first_line(error)}", stacklevel=2)
                continue
            self._last_is_good = path == self.path
            return True
        return False

    def save(self, state: State) -> None:
        """Keeps a state; warns where it cannot be written, and keeps what was there."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        payload = buffer.getbuffer()
        header = {
            "schema": SCHEMA,
            "about": self._about,
            "bytes": len(payload),
            "sha256": hashlib.sha256(payload).hexdigest(),
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._partial.open("wb") as file:
                file.write(json.dumps(header).encode() + b"\n")
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            if self._last_is_good:
                self.path.replace(self.previous)
            self._partial.replace(self.path)
        except OSError as error:
            self._partial.unlink(missing_ok=True)
            warnings.warn(
                f"checkpoint {str(self.path)!r} cannot be written ({error.strerror or error}); "
                "the run goes on without it",
                stacklevel=2,
            )
            return
        self._last_is_good = True

    def _read(self, path: Path) -> State:
        """The state of a file.

        Raises:
            FileNotFoundError: there is none.
            DamagedFileError: it is no checkpoint, was cut off or changed, or is of another run.
        """
        with path.open("rb") as file:
            try:
                header = json.loads(file.readline(_LONGEST_HEADER))
                schema, about = header["schema"], header["about"]
                length, digest = header["bytes"], header["sha256"]
            except (ValueError, KeyError, TypeError) as error:
                raise DamagedFileError("it does not begin as a checkpoint does") from error
            if schema != SCHEMA:
                raise DamagedFileError(f"it has schema={schema!r}; this precision_lab reads {SCHEMA}")
            for key, value in self._about.items():
                if not isinstance(about, dict) or about.get(key) != value:
                    raise DamagedFileError(f"it is of another {key}")
            present = os.fstat(file.fileno()).st_size - file.tell()
            if present != length:
                raise DamagedFileError(f"{present} bytes of state, not the {length} announced")
            payload = file.read()
        if hashlib.sha256(payload).hexdigest() != digest:
            raise DamagedFileError("its state does not match its checksum")
        # As torch saves it; what is compressed could unpack to any size.
        if any(part.compress_type != zipfile.ZIP_STORED for part in _parts(payload)):
            raise DamagedFileError("its state is compressed, as none of ours is")
        found: State = torch.load(io.BytesIO(payload), weights_only=True, map_location=self.device)
        return found


def remove(path: Path) -> None:
    """Deletes the checkpoints called so, of a run whose result is kept."""
    for file in (path, *_beside(path)):
        file.unlink(missing_ok=True)


def _beside(path: Path) -> tuple[Path, Path]:
    """The one before, and one that is being written."""
    return path.with_name(f"{path.name}.previous"), path.with_name(f"{path.name}.partial")


def _parts(payload: bytes) -> list[zipfile.ZipInfo]:
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        return archive.infolist()


__all__ = ["SCHEMA", "Checkpoints", "State", "remove"]
