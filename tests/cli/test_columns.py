"""Tables that fit any width, whole: columns go below, and no cell is cut."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from precision_lab.cli.columns import Column, numbers, print_facts, print_table, print_text

COLUMNS = [Column("region"), *numbers("max ulp", "mean ulp", "not\nrounded", "inputs")]
ROWS = [
    ["near_zero_negative", "4.072e-05", "2.361e+21", "4294967296", "4294967295"],
    ["zero", "0", "0", "0", "2"],
]


def console(width: int) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, width=width, highlight=False, markup=False), file


def lines_at(width: int, **options: object) -> list[str]:
    target, file = console(width)
    print_table(target, COLUMNS, ROWS, **options)  # type: ignore[arg-type]
    return file.getvalue().splitlines()


@pytest.mark.parametrize("width", [120, 80, 60, 40, 30, 20, 5])
def test_every_cell_is_whole_at_every_width_and_stands_behind_its_key(width: int) -> None:
    lines = lines_at(width)
    assert "…" not in "".join(lines)
    for row in ROWS:
        seen = [cell for line in lines if line.split()[:1] == row[:1] for cell in line.split()[1:]]
        assert seen == row[1:]
    if width >= 30:
        assert max(map(len, lines)) <= width


def test_a_table_is_one_band_where_it_fits_and_is_set_closer_before_it_is_broken() -> None:
    natural = max(map(len, lines_at(200)))
    assert len(lines_at(natural)) == 4  # two lines of headings, two rows
    assert len(lines_at(natural - 1)) == 4
    assert len(lines_at(natural - 4)) == 4
    assert len(lines_at(natural - 5)) > 4


def test_headings_of_two_lines_stand_over_their_numbers() -> None:
    above, below, row, _ = lines_at(120)
    end = row.index("4294967296") + len("4294967296")
    assert above[:end].endswith("not") and below[:end].endswith("rounded")


def test_a_note_stands_beside_its_row_or_below_it_whole() -> None:
    note = "a note of some words which need a good deal of room"
    assert lines_at(200, notes=["", note])[-1].endswith(note)
    narrow = lines_at(70, notes=[note, ""])
    assert " ".join(" ".join(narrow[3:5]).split()) == note or note in " ".join(" ".join(narrow).split())
    assert max(map(len, narrow)) <= 70


def test_facts_are_broken_between_their_parts_and_never_inside_one() -> None:
    target, file = console(40)
    print_facts(
        target, [("x", ["-1.0011717677116394e-07", "-0x1.ae00000000000p-24", "bits 0xb3d7"]), ("y", ["1"])]
    )
    assert file.getvalue().splitlines() == [
        "x  -1.0011717677116394e-07", "   -0x1.ae00000000000p-24   bits 0xb3d7", "y  1",
    ]  # fmt: skip


def test_text_is_broken_between_words_and_ends_in_no_space() -> None:
    target, file = console(20)
    print_text(target, "wrong sign for 15102 inputs \x1b[2J", indent=2)
    lines = file.getvalue().splitlines()
    assert lines == ["  wrong sign for", "  15102 inputs", "  \\x1b[2J"]
