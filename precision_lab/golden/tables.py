"""Writes, reads and checks `reference/tables`: exact values anybody can use without Python.

One file per function and input format. Every row is an input chosen for a reason, the
correctly rounded result, how far the exact value is from it, and the exact value to 40
significant digits. Two runs write identical bytes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mpmath.libmp import to_str
from numpy.typing import NDArray

from precision_lab.exceptions import DamagedFileError, UndecidedError, UsageError
from precision_lab.formats import FloatFormat, get_format, output_format
from precision_lab.functions import FUNCTIONS, Activation, get_function
from precision_lab.golden.inputs import EXACT_BITS, choose_inputs, exact_tail
from precision_lab.oracle import evaluate, reference
from precision_lab.system.children import worker_pool

Float64 = NDArray[np.float64]

TABLE_FORMATS = ("fp32", "bf16", "fp16", "e4m3")
COLUMNS = ("set", "output", "input_bits", "input", "rounded_bits", "tail_ulps", "exact", "reason")
CHECKSUMS = "SHA256SUMS"
EXACT_DIGITS = 40


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
    function: str
    fmt: str
    parameter_sets: Mapping[str, Mapping[str, float]]
    rows: tuple[GoldenRow, ...]
    text: Sequence[str] = field(repr=False)


def tables_directory() -> Path:
    """Where the shipped tables are: inside an installed package, else in the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_golden"
    return installed if installed.is_dir() else package.parent / "reference" / "tables"


# -- the values ---------------------------------------------------------------------------


def _exact_text(function: Activation, output: str, params: Mapping[str, float], x: float) -> str:
    """The exact value to 40 digits; at ±inf the limit, to 15."""
    if math.isnan(x):
        return "nan"
    if math.isinf(x):
        return f"{function.limit(output, params, 1 if x > 0 else -1):.15g}"
    value = evaluate(function, x, params, output=output, bits=EXACT_BITS)
    return str(to_str(value._mpf_, EXACT_DIGITS)).removesuffix(".0")


def _nearest(
    function: Activation, output: str, params: Mapping[str, float], x: float, target: FloatFormat
) -> float:
    """Correct rounding where only the exact value's binade is open (elu(-1e30) is 1 or hardly less).

    Raises:
        UndecidedError: the exact value is not within a quarter ulp of a number of the format.
    """
    value = evaluate(function, x, params, output=output, bits=EXACT_BITS)
    candidate = target.round(np.array([float(value)]))
    tail = exact_tail(function, output, params, x, float(candidate[0]), float(target.ulp(candidate)[0]))
    if not abs(tail) < 0.25:
        raise UndecidedError(f"{function.name} {output} at x={x!r} to {target.name}, {dict(params)}")
    return float(candidate[0])


def _lines(
    function: Activation,
    set_name: str,
    output: str,
    params: Mapping[str, float],
    fmt: FloatFormat,
    x: Float64,
    reasons: Sequence[str],
) -> list[str]:
    """The table's lines for these inputs."""
    target = output_format(fmt, output)
    ref = reference(function, output, params, x, target)
    rounded = ref.rounded.copy()
    for i in np.flatnonzero(ref.undecided).tolist():
        rounded[i] = _nearest(function, output, params, float(x[i]), target)
    # A zero's sign carries no claim, except that a negative value that rounds to zero keeps its own.
    rounded = np.where((rounded == 0) & (ref.sign >= 0), 0.0, rounded)
    rounded_bits = target.encode(rounded)
    lines = []
    for i, (value, bits) in enumerate(zip(x.tolist(), fmt.encode(x).tolist(), strict=True)):
        if not math.isfinite(rounded[i]):
            tail = "nan"
        elif math.isinf(value):
            tail = f"{ref.tail[i]:.6g}"
        else:
            tail = f"{exact_tail(function, output, params, value, float(rounded[i]), float(ref.ulp[i])):.6g}"
        cells = (
            set_name,
            output,
            f"0x{bits:0{fmt.bits // 4}x}",
            repr(value),
            f"0x{int(rounded_bits[i]):0{target.bits // 4}x}",
            tail,
            _exact_text(function, output, params, value),
            reasons[i],
        )
        lines.append("\t".join(cells))
    return lines


def _tabled(function: Activation) -> Iterator[tuple[str, str, dict[str, float]]]:
    """(set, output, params) of a table: one set alone where the output does not depend on parameters."""
    for n, (set_name, values) in enumerate(function.parameter_sets.items()):
        for output in function.outputs + (function.raw_outputs if n == 0 else ()):
            terms = function.terms(output, "negative") + function.terms(output, "positive")
            if n == 0 or any(term.coefficient.weights for term in terms):
                yield set_name, output, function.check_params(values)


def _header(function: Activation, fmt: FloatFormat) -> list[str]:
    gradients = output_format(fmt, "grad_x").name
    lines = [
        "# precision_lab golden table, version 1; columns are explained in README.md beside tables/",
        f"# function: {function.name}",
        f"# definition: {function.formula}",
        f"# source: {function.source}",
        f"# input format: {fmt.name}; forward rounded to {fmt.name}, gradients to {gradients}",
    ]
    for name, values in function.parameter_sets.items():
        texts = (f"{key}={value!r} ({value.hex()})" for key, value in function.check_params(values).items())
        lines.append(f"# parameters {name}: {', '.join(texts) or 'none'}")
    return [*lines, "\t".join(COLUMNS)]


def table_text(function: str | Activation, fmt: str | FloatFormat) -> str:
    """The whole file of one function and input format."""
    definition, target = get_function(function), get_format(fmt)
    lines = _header(definition, target)
    for set_name, output, params in _tabled(definition):
        x, reasons = choose_inputs(definition, output, params, target)
        lines += _lines(definition, set_name, output, params, target, x, reasons)
    return "\n".join(lines) + "\n"


# -- files ----------------------------------------------------------------------------------


def write_tables(directory: str | Path, functions: Iterable[str] | None = None) -> list[Path]:
    """Write the tables of the named functions (default: all) and the checksums of every table there.

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
            path = folder / f"{definition.name}.{fmt}.tsv"
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
        expected = _header(function, target)
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
    return GoldenTable(path, function.name, target.name, sets, rows, text)


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
    function, fmt = get_function(table.function), get_format(table.fmt)
    groups: dict[tuple[str, str], list[GoldenRow]] = {}
    for row in table.rows:
        groups.setdefault((row.parameter_set, row.output), []).append(row)
    for (set_name, output), rows in groups.items():
        params = dict(table.parameter_sets[set_name])
        x = np.array([row.x for row in rows])
        again = _lines(function, set_name, output, params, fmt, x, [row.reason for row in rows])
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
    "choose_inputs",
    "output_format",
    "read_table",
    "table_text",
    "tables_directory",
    "write_tables",
]
