"""What is said of a file that is not there: where it was looked for, and which it may have been."""

from __future__ import annotations

from pathlib import Path

from precision_lab.exceptions import nearest


def no_such_file(path: Path) -> str:
    """The end of a message about it, such as "does not exist; did you mean kernels.py?"."""
    folder = path.parent
    if not folder.is_dir():
        return f"does not exist: there is no folder {str(folder)!r}"
    stems = {file.stem: file for file in sorted(folder.iterdir()) if file.suffix == path.suffix}
    if near := nearest(path.stem, stems, cutoff=0.7):
        return f"does not exist; did you mean {', '.join(str(folder / stems[each].name) for each in near)}?"
    return "does not exist" if path.is_absolute() else f"does not exist in {Path.cwd()}"
