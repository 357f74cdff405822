"""Writes a report, and reads back the results it was made from."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from precision_lab.exceptions import DamagedFileError, UsageError
from precision_lab.report.section import DETAILS
from precision_lab.results import Results, strict_json
from precision_lab.system.atomic_file import write_atomically
from precision_lab.system.text import plain_data

LARGEST = 1 << 28  # bytes of a report.json; the largest committed one is a twentieth of that


def check_directory(directory: str | os.PathLike[str]) -> Path:
    """The directory, made if it is missing, after writing and removing one file in it.

    Raises:
        ValueError: it cannot be made or written; names it and the reason.
    """
    path = Path(directory)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path, prefix=".precision-lab-"):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"directory={str(path)!r} cannot be written: {reason}; choose another with --out"
        ) from error
    return path


def write_report(
    results: Results,
    directory: str | os.PathLike[str],
    *,
    html: bool = True,
    markdown: bool = True,
) -> dict[str, Path]:
    """Writes report.json and, from it alone, report.html and report.md with figures and `details/`.

    Every file appears whole or not at all.

    Returns:
        what was written, by name: "json", "html", "markdown", and each figure and further Markdown file by
        its own.

    Raises:
        ValueError: the directory cannot be written.
    """
    path = check_directory(directory)
    written: dict[str, Path] = {}

    def put(key: str, name: str, data: str | bytes) -> None:
        written[key] = _replace(path / name, data.encode() if isinstance(data, str) else data)

    try:
        put("json", "report.json", results.dumps())
        if html or markdown:
            from precision_lab.report import document
            from precision_lab.report.figures import HEADLINE

            pictures = document.figures(results)
        if html:
            put("html", "report.html", document.html(results, DETAILS if markdown else "", pictures))
        if markdown:
            check_directory(path / "figures")
            for name, data in pictures.items():
                put(name, f"figures/{name}", data)
            made = document.markdown(results, (n for n in pictures if n != HEADLINE))
            written |= _write_texts(path, "report.md", made)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"directory={str(path)!r} cannot be written: {reason}") from error
    return written


def write_lowprecision(
    data: Mapping[str, Any], directory: str | os.PathLike[str], title: str
) -> dict[str, Path]:
    """Writes readiness.json, and from it alone readiness.html and readiness.md with figures.

    Returns:
        what was written, by name.

    Raises:
        ValueError: the directory cannot be written.
    """
    from precision_lab.report.document import readiness_html, readiness_markdown
    from precision_lab.report.figures_lowprecision import draw_lowprecision

    path = check_directory(directory)
    text = strict_json(data)
    data = plain_data(json.loads(text))  # what a reader of the file would have
    written = {"json": _replace(path / "readiness.json", text.encode() + b"\n")}
    pictures = draw_lowprecision(data)
    page = readiness_html(data, title, pictures, DETAILS)
    written["html"] = _replace(path / "readiness.html", page.encode())
    check_directory(path / "figures")
    for name, picture in pictures.items():
        written[name] = _replace(path / "figures" / name, picture)
    return written | _write_texts(path, "readiness.md", readiness_markdown(data, title))


def _write_texts(path: Path, main: str, texts: Mapping[str, str]) -> dict[str, Path]:
    """The Markdown files, in place of those of an earlier report; the main one as "markdown"."""
    check_directory(path / DETAILS)
    for old in (path / DETAILS).glob("*.md"):
        if f"{DETAILS}/{old.name}" not in texts:
            old.unlink()
    return {
        "markdown" if name == main else name: _replace(path / name, text.encode())
        for name, text in texts.items()
    }


def read_results(path: str | os.PathLike[str]) -> Results:
    """The results in a report.json, or in the directory that holds one.

    Raises:
        DamagedFileError: missing, not text, or not such a file; names it.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "report.json"
    try:
        if (size := file.stat().st_size) > LARGEST:
            raise DamagedFileError(f"it has {size:,} bytes; a report has at most {LARGEST:,}")
        return Results.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, DamagedFileError) as error:
        raise DamagedFileError(f"{str(file)!r} cannot be read: {error}") from error


def _replace(path: Path, data: bytes) -> Path:
    write_atomically(path, data)
    return path
