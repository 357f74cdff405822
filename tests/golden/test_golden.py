"""The golden tables: undamaged, equal to freshly written ones, and right according to Arb."""

from __future__ import annotations

import hashlib
import math
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from arb_witness import DOMAIN, arithmetic, to_arb, witness
from by_name import output_format
from flint import arb

from precision_lab.exceptions import DamagedFileError
from precision_lab.formats import get_format
from precision_lab.functions import FUNCTIONS
from precision_lab.golden.tables import (
    CHECKSUMS,
    TABLE_FORMATS,
    GoldenRow,
    GoldenTable,
    check_rows,
    check_tables,
    read_table,
    table_text,
    tables_directory,
    write_tables,
)

TABLES = tables_directory()
# Written again in the default run; the others under the marker `exhaustive`.
SAMPLED = {("xielu", "bf16"), ("xiprelu", "e4m3"), ("silu", "fp16"), ("gelu", "e4m3"), ("softplus", "fp32")}
ARB_ROWS = 12  # rows of each table that Arb derives again

FORMATS_TABLED = [fmt.name for fmt in TABLE_FORMATS]
ALL_TABLES = [
    pytest.param(
        name, fmt, id=f"{name}-{fmt}", marks=() if (name, fmt) in SAMPLED else pytest.mark.exhaustive
    )
    for name in FUNCTIONS
    for fmt in FORMATS_TABLED
]


def test_there_is_one_table_per_function_and_format() -> None:
    expected = {f"{name}.{fmt}.tsv" for name in FUNCTIONS for fmt in FORMATS_TABLED}
    found = {path.name for path in TABLES.glob("*.tsv")}
    assert found == expected, "run: precision-lab tables"


def test_every_checksum_matches() -> None:
    lines = (TABLES / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(FUNCTIONS) * len(FORMATS_TABLED)
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((TABLES / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize(("name", "fmt"), ALL_TABLES)
def test_committed_table_is_what_would_be_written_now(name: str, fmt: str) -> None:
    committed = (TABLES / f"{name}.{fmt}.tsv").read_text(encoding="utf-8")
    assert table_text(FUNCTIONS[name], get_format(fmt)) == committed, (
        "the definition or the choice of rows changed: precision-lab tables"
    )


@pytest.mark.exhaustive
def test_every_row_of_every_table_comes_out_the_same_again() -> None:
    assert check_tables(TABLES) > 100 * len(FUNCTIONS)


def test_tables_stay_small_enough_to_be_shipped() -> None:
    assert sum(path.stat().st_size for path in TABLES.iterdir()) < 6 * 2**20


# -- damage ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with freshly written small tables and their checksums."""
    folder = tmp_path_factory.mktemp("tables")
    write_tables(folder, ["relu", "relu2"])
    assert check_tables(folder) == check_tables(folder, workers=2) > 100
    return folder


@pytest.fixture
def copied(written: Path, tmp_path: Path) -> Path:
    """A copy of them, to be damaged."""
    return Path(shutil.copytree(written, tmp_path / "tables"))


def renew_checksums(folder: Path) -> None:
    sums = (f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in sorted(folder.glob("*.tsv")))
    (folder / CHECKSUMS).write_text("".join(sums), encoding="utf-8")


@pytest.mark.parametrize("column", range(7), ids=lambda c: f"column{c}")
@pytest.mark.parametrize("resigned", [False, True], ids=["old-checksum", "new-checksum"])
def test_a_damaged_cell_is_found_with_its_line(copied: Path, column: int, resigned: bool) -> None:
    path = copied / "relu2.bf16.tsv"
    lines = path.read_text(encoding="utf-8").splitlines()
    number = next(n for n, line in enumerate(lines) if "\tpower of two" in line and "\t0\t" not in line)
    cells = lines[number].split("\t")
    last = cells[column][-1]
    cells[column] = cells[column][:-1] + ("1" if last != "1" else "2")
    lines[number] = "\t".join(cells)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if resigned:
        renew_checksums(copied)
    with pytest.raises(DamagedFileError, match=rf"relu2\.bf16\.tsv:{number + 1}: "):
        check_tables(copied)


def test_a_damaged_header_is_found_with_its_line(copied: Path) -> None:
    path = copied / "relu.fp16.tsv"
    path.write_text(
        path.read_text(encoding="utf-8").replace("# function: relu", "# function: relv"), encoding="utf-8"
    )
    with pytest.raises(DamagedFileError, match=r"relu\.fp16\.tsv:2: the header says"):
        check_tables(copied)


def test_a_changed_reason_a_lost_row_and_a_lost_file_are_found(copied: Path) -> None:
    path = copied / "relu.bf16.tsv"
    content = path.read_text(encoding="utf-8")
    path.write_text(content.replace("power of two", "power of ten", 1), encoding="utf-8")
    with pytest.raises(DamagedFileError, match=r"relu\.bf16\.tsv: every row is right, but"):
        check_tables(copied)
    path.write_text("\n".join(content.splitlines()[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(DamagedFileError, match=r"relu\.bf16\.tsv: every row is right, but"):
        check_tables(copied)
    path.unlink()
    with pytest.raises(DamagedFileError, match=r"relu\.bf16\.tsv is missing, though listed"):
        check_tables(copied)


def test_an_unlisted_table_and_damaged_checksums_are_found(copied: Path) -> None:
    shutil.copy(copied / "relu.bf16.tsv", copied / "relu6.bf16.tsv")
    with pytest.raises(DamagedFileError, match=r"relu6\.bf16\.tsv is not listed in SHA256SUMS"):
        check_tables(copied)
    (copied / "relu6.bf16.tsv").unlink()
    (copied / CHECKSUMS).write_bytes(b"\xff\xfe")
    with pytest.raises(DamagedFileError, match="SHA256SUMS: cannot be read"):
        check_tables(copied)
    (copied / CHECKSUMS).unlink()
    with pytest.raises(DamagedFileError, match="SHA256SUMS: cannot be read"):
        check_tables(copied)


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    for name, content in (("xielu.bf16.tsv", b""), ("xielu.tsv", b"x"), ("nothing.bf16.tsv", b"x")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DamagedFileError, match=name.replace(".", r"\.")):
            read_table(tmp_path / name)


def test_writing_an_unknown_function_suggests_the_near_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"did you mean .*xielu"):
        write_tables(tmp_path, ["xielo"])


# -- Arb ------------------------------------------------------------------------------------


def rederive(table: GoldenTable, row: GoldenRow) -> None:
    """Fails unless the Arb ball confirms the digits, the rounding and the tail of a row."""
    fmt = output_format(table.fmt, row.output)
    if row.exact.strip("+-") in (
        "inf",
        "nan",
    ):  # at a pole, or where there are no values: the witness has none there
        with pytest.raises(ArithmeticError):
            witness(table.function.name, row.output, row.x, table.parameter_sets[row.parameter_set], 200)
        assert table.function.name in DOMAIN
        return
    ball = witness(table.function.name, row.output, row.x, table.parameter_sets[row.parameter_set], 200)
    rounded = float(fmt.decode(np.array([row.rounded_bits], fmt.bits_dtype))[0])
    where = f"{table.path.name}:{row.line}"
    with arithmetic(1000):
        # 40 significant digits: half a unit of the last one is at most 5e-40 of the number.
        assert abs(arb(row.exact) - ball) <= abs(ball) * arb("5.0001e-40"), f"{where}: digits"
        if not math.isfinite(rounded):
            assert abs(ball) >= to_arb(fmt.overflow_threshold), f"{where}: overflow"
            return
        below, above = (float(v[0]) for v in fmt.neighbours(np.array([rounded])))
        distance = abs(ball - to_arb(rounded))
        for other in (below, above):
            # Beyond the largest finite number the next one is where the exponent range would go on.
            limit = (
                other
                if math.isfinite(other)
                else math.copysign(2 * fmt.overflow_threshold - fmt.max_finite, other)
            )
            assert not distance > abs(ball - to_arb(limit)), f"{where}: {other} is nearer"
        ulp = to_arb(float(fmt.ulp(np.array([rounded]))[0]))
        if (
            abs(ball) < abs(to_arb(rounded))
            and abs(rounded) > fmt.min_normal
            and math.frexp(rounded)[0] in (0.5, -0.5)
        ):
            ulp = ulp / 2  # just below a power of two: the exact value's binade is the smaller one
        tail = (ball - to_arb(rounded)) / ulp
        # Six digits are written: half a unit of the sixth is at most 5e-6 of the number.
        assert abs(tail - arb(repr(row.tail_ulps))) <= abs(tail) * arb("5.01e-6") + arb("1e-60"), (
            f"{where}: tail"
        )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arb_derives_a_sample_of_rows_again(name: str) -> None:
    for fmt in FORMATS_TABLED:
        table = read_table(TABLES / f"{name}.{fmt}.tsv")
        finite = [row for row in table.rows if math.isfinite(row.x)]
        # Every input that was hard to round, and others at random, the same ones in every run.
        chosen = [row for row in finite if "hardest" in row.reason or "tie" in row.reason][:ARB_ROWS]
        chosen += random.Random(f"{name}.{fmt}").sample(finite, ARB_ROWS)
        for row in chosen:
            rederive(table, row)


def test_arb_notices_a_wrong_digit_a_wrong_rounding_and_a_wrong_tail() -> None:
    table = read_table(TABLES / "xielu.bf16.tsv")
    row = next(r for r in table.rows if "hardest" in r.reason and r.output == "grad_alpha_n")
    rederive(table, row)
    digit = "1" if row.exact[20] != "1" else "2"
    for change in (
        {"exact": row.exact[:20] + digit + row.exact[21:]},
        {"rounded_bits": row.rounded_bits + 1},
        {"rounded_bits": row.rounded_bits - 1},
        {"tail_ulps": row.tail_ulps * (1 + 1e-4)},
    ):
        with pytest.raises(AssertionError):
            rederive(table, GoldenRow(**{**row.__dict__, **change}))


def test_rows_checked_alone_name_the_line() -> None:
    table = read_table(TABLES / "relu2.e4m3.tsv")
    check_rows(table)
    text = list(table.text)
    text[-1] = text[-1].replace("\t", "\t ", 1)
    with pytest.raises(DamagedFileError, match=rf"relu2\.e4m3\.tsv:{len(text)}: "):
        check_rows(GoldenTable(table.path, table.function, table.fmt, table.parameter_sets, table.rows, text))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_a_derivation(name: str) -> None:
    derivations = Path(__file__).parents[2] / "reference" / "derivations"  # not in the package
    shared = "".join(
        (derivations / f"{page}.md").read_text(encoding="utf-8") for page in ("ablations", "operators")
    )
    assert (derivations / f"{name}.md").is_file() or f"`{name}`" in shared, "write its derivation"
