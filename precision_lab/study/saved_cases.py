"""The finished cases of a report, kept until it is whole: one that was cut off goes on where it was."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar

from precision_lab.exceptions import UsageError
from precision_lab.results import strict_json
from precision_lab.running.selfcheck import environment
from precision_lab.study.settings import StudySettings
from precision_lab.system.atomic_file import write_atomically
from precision_lab.system.cache_files import read_checked, source_digest, write_checked

# A case in which the device was lost is measured again: another one may live.
_PASSING = ("crashed", "device_lost")


class _Row(Protocol):
    @classmethod
    def from_json(cls, data: Any) -> Any: ...


R = TypeVar("R", bound=_Row)


@lru_cache(maxsize=1)
def _sources() -> str:
    """Digest of the package: cases of another version are other cases."""
    return source_digest(Path(__file__).parents[1])


class Cases:
    """Results by what was measured, a file each; without a folder nothing is kept."""

    def __init__(
        self, directory: Path | None = None, settings: StudySettings | None = None, *, resume: bool = False
    ) -> None:
        """Begins in a report's folder, or goes on with what it holds.

        Raises:
            UsageError: it holds an unfinished report and resume is not asked for; or it is, and there is
                none, or one of other settings, another version or another machine.
        """
        self._folder = None if directory is None else directory / "cases"
        self._stamp = ""
        if self._folder is None:
            return
        known = {k: v for k, v in environment().items() if k not in ("torch threads", "torch CPU capability")}
        about = {
            "settings": {} if settings is None else {**asdict(settings), "skipped": ()},
            "environment": known,
            "package": _sources(),
        }
        manifest = strict_json(about)
        self._stamp = hashlib.sha256(manifest.encode()).hexdigest()
        path = self._folder / "manifest.json"
        if not path.exists():
            if resume:
                raise UsageError(f"--resume: {str(directory)!r} holds no unfinished report")
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, manifest.encode())
            return
        if not resume:
            raise UsageError(
                f"--out {str(directory)!r} holds an unfinished report; --resume goes on with it, or delete "
                f"{str(self._folder)!r}"
            )
        if path.read_bytes() != manifest.encode():
            raise UsageError(
                f"--resume: {str(self._folder)!r} is of other settings, another version or another machine; "
                "choose another folder, or delete it"
            )

    def words(self) -> str:
        """What an interrupted report leaves, and how to go on."""
        if self._folder is None:
            return "nothing was kept"
        return f"the cases that are done are kept in {self._folder}; --resume goes on with them"

    def keep(self, name: str, row: type[R], work: Callable[[], Sequence[R]]) -> list[R]:
        """The rows of a case: those that were kept, or else the work's, which are kept now.

        Args:
            name: tells the case from every other one of the report.
        """
        if self._folder is None:
            return list(work())
        path = self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.case"
        key = f"{self._stamp} {name}"
        content = read_checked(path, key)
        if content is not None:
            return [row.from_json(data) for data in json.loads(content)]
        rows: list[Any] = list(work())
        if not any(r.failure is not None and r.failure.kind in _PASSING for r in rows):
            data = [r.to_json() if hasattr(r, "to_json") else asdict(r) for r in rows]
            write_checked(path, key, strict_json(data).encode())
        return rows

    def remove(self) -> None:
        """When the report is written, which has everything."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
