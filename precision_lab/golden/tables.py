"""Writes, reads and checks `reference/tables`: exact values anybody can use without Python.

One file per function and input format. Every row is an input chosen for a reason, the
correctly rounded result, how far the exact value is from it, and the exact value to 40
significant digits. Two runs write identical bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from precision_lab.exceptions import DamagedFileError, UsageError
from precision_lab.formats import BF16, E4M3, FP16, FP32, FloatFormat, get_format
from precision_lab.functions import FUNCTIONS, Activation, get_function
from precision_lab.golden.rows import COLUMNS, header, lines, table_text
from precision_lab.oracle.curve import Curve
from precision_lab.system.children import worker_pool

TABLE_FORMATS = (FP32, BF16, FP16, E4M3)
CHECKSUMS = "SHA256SUMS"


@dataclass(frozen=True)
class GoldenRow:
    """One row; `line` is its line number in the file, `exact` the decimal text."""

    parameter_set: str
    output: str
    input_bits: int
    x: float
    rounded_bits: int
    tail_ulps: float
    exact: str
    reason: str
    line: int


@dataclass(frozen=True)
class GoldenTable:
    """A table file: its function, input format, parameter sets and rows."""

    path: Path
    function: Activation
    fmt: FloatFormat
    parameter_sets: Mapping[str, Mapping[str, float]]
    rows: tuple[GoldenRow, ...]
    text: Sequence[str] = field(repr=False)


def tables_directory() -> Path:
    """Where the shipped tables are: inside an installed package, else in the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_golden"
    return installed if installed.is_dir() else package.parent / "reference" / "tables"


# -- files ----------------------------------------------------------------------------------


def write_tables(directory: str | Path, functions: Iterable[str | Activation] | None = None) -> list[Path]:
    """Write the tables of these functions (default: all) and the checksums of every table there.

    Raises:
        ValueError: an unknown function; names the nearest ones.
        UndecidedError: a value that no tier of the oracle could certify; that file is not written.
        OSError: the directory cannot be written.
    """
    folder = Path(directory)
    definitions = [get_function(name) for name in (FUNCTIONS if functions is None else functions)]
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for definition in definitions:
        for fmt in TABLE_FORMATS:
            path = folder / f"{definition.name}.{fmt.name}.tsv"
            path.write_text(table_text(definition, fmt), encoding="utf-8", newline="\n")
            written.append(path)
    sums = (f"{_sha256(path)}  {path.name}\n" for path in sorted(folder.glob("*.tsv")))
    (folder / CHECKSUMS).write_text("".join(sums), encoding="utf-8", newline="\n")
    return written


def read_table(path: str | Path) -> GoldenTable:
    """A table file as data, its syntax checked but not its values.

    Raises:
        DamagedFileError: the file is not what this module writes; names the line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8").splitlines()
        name, fmt, _suffix = path.name.split(".")
        function = get_function(name)
        target = get_format(fmt)
        expected = header(function, target)
    except (UnicodeDecodeError, ValueError) as error:
        raise DamagedFileError(f"{path}: not a golden table named FUNCTION.FORMAT.tsv ({error})") from error
    for line, (found, wanted) in enumerate(zip(text, expected, strict=False), 1):
        if found != wanted:
            raise DamagedFileError(
                f"{path}:{line}: the header says {found!r}, the definition {wanted!r}; "
                f"regenerate with: precision-lab tables --function {name}"
            )
    if len(text) < len(expected):
        raise DamagedFileError(f"{path}:{len(text)}: the file ends inside its header")
    sets = {key: function.check_params(values) for key, values in function.parameter_sets.items()}
    rows = tuple(
        _parse(path, line, content, function, target)
        for line, content in enumerate(text[len(expected) :], len(expected) + 1)
    )
    return GoldenTable(path, function, target, sets, rows, text)


def _parse(path: Path, line: int, content: str, function: Activation, fmt: FloatFormat) -> GoldenRow:
    cells = content.split("\t")
    try:
        set_name, output, input_bits, decimal, rounded_bits, tail, exact, reason = cells
        bits = int(input_bits, 16)
        if set_name not in function.parameter_sets or not 0 <= bits < fmt.n_patterns:
            raise UsageError(f"set={set_name!r}, input_bits={input_bits!r}")
        function.check_output(output)
        float(decimal)
        x = float(fmt.decode(np.array([bits], fmt.bits_dtype))[0])
        return GoldenRow(set_name, output, bits, x, int(rounded_bits, 16), float(tail), exact, reason, line)
    except ValueError as error:
        raise DamagedFileError(
            f"{path}:{line}: not a row of {len(COLUMNS)} valid columns ({error})"
        ) from error


def check_tables(directory: str | Path, workers: int = 1) -> int:
    """Number of rows, after every checksum matched and every row came out the same again.

    Args:
        workers: processes that share the work, each a fresh interpreter.

    Raises:
        DamagedFileError: names the file, and the line where there is one.
    """
    folder = Path(directory)
    sums = _read_checksums(folder)
    present = {path.name for path in folder.glob("*.tsv")}
    for name in sorted(present ^ set(sums)):
        state = "is not listed in" if name in present else "is missing, though listed in"
        raise DamagedFileError(f"{folder / name} {state} {CHECKSUMS}")
    paths, digests = [folder / name for name in sorted(sums)], [sums[name] for name in sorted(sums)]
    if workers == 1:
        return sum(map(_check_table, paths, digests))
    with worker_pool(workers) as pool:
        return sum(pool.map(_check_table, paths, digests))


def _check_table(path: Path, digest: str) -> int:
    table = read_table(path)
    check_rows(table)
    if _sha256(path) != digest:
        raise DamagedFileError(
            f"{path}: every row is right, but the file is not the one in {CHECKSUMS}: "
            "a row or a reason was changed, added or removed"
        )
    return len(table.rows)


def check_rows(table: GoldenTable) -> None:
    """Recompute every row of a table; DamagedFileError names the first line that differs."""
    function, fmt = table.function, table.fmt
    groups: dict[tuple[str, str], list[GoldenRow]] = {}
    for row in table.rows:
        groups.setdefault((row.parameter_set, row.output), []).append(row)
    for (set_name, output), rows in groups.items():
        curve = Curve(function, output, dict(table.parameter_sets[set_name]))
        x = np.array([row.x for row in rows])
        again = lines(curve, set_name, fmt, x, [row.reason for row in rows])
        for row, line in zip(rows, again, strict=True):
            if table.text[row.line - 1] != line:
                raise DamagedFileError(
                    f"{table.path}:{row.line}: the file says {table.text[row.line - 1]!r}, computed {line!r}"
                )


def _read_checksums(folder: Path) -> dict[str, str]:
    path = folder / CHECKSUMS
    sums = {}
    try:
        for line, content in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            digest, separator, name = content.partition("  ")
            if len(digest) != 64 or not separator or not name.endswith(".tsv"):
                raise DamagedFileError(f"{path}:{line}: expected 'SHA256  NAME.tsv', found {content!r}")
            sums[name] = digest
    except (FileNotFoundError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{path}: cannot be read ({error})") from error
    return sums


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


__all__ = [
    "GoldenRow",
    "GoldenTable",
    "check_rows",
    "check_tables",
    "read_table",
    "table_text",
    "tables_directory",
    "write_tables",
]
