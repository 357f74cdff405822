"""Tables that fit any width, whole: columns go below, and no cell is cut."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import pytest
from rich.console import Console
from wrong_results import wrong

from precision_lab.cli.catalogue import catalogue, print_catalogue
from precision_lab.cli.columns import Column, numbers, print_facts, print_table, print_text
from precision_lab.cli.printing import console_for, print_explanation, print_sweep
from precision_lab.measuring.explain import Explanation, Row
from precision_lab.measuring.sweep import DIGEST_VERSION, Sweep

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


def whole(printer: Callable[[Console], None], width: int = 80) -> list[str]:
    """What is printed at that width, of which nothing is cut."""
    target, file = console(width)
    printer(target)
    assert "…" not in file.getvalue()
    return file.getvalue().splitlines()


def test_a_sweep_at_eighty_columns_has_every_region_and_number() -> None:
    rows = [wrong("forward", "bf16", "init")]
    found = Sweep(tuple(rows), {DIGEST_VERSION: "a" * 64}, 4, 0, 0)
    lines = whole(partial(print_sweep, found, []))
    for name, s in rows[0].regions.items():
        (line,) = (n for n in lines if n.split()[:1] == [name] and len(n.split()) > 2)
        assert line.split()[1:3] == ["100", f"{s.max_ulp:.4g}"] and len(line) <= 80


def test_an_explanation_at_eighty_columns_has_every_number_and_says_what_its_region_is() -> None:
    rows = tuple(
        Row(name, "autograd-function", {}, -1.2345678e-38, "0x80863c8e", -130177.95, note)
        for name, note in (
            ("autograd-function", "wrong sign"),
            ("stable", "raised: " + "a long message " * 9),
        )
    )
    e = Explanation(
        "xielu", "grad_alpha_n", "fp32", "fp32", {}, -0.0019683837890625, "-0x1.0200000000000p-9",
        "0xbb010000", "near_zero_negative", "1.93599690054759693100888124719e-6", "± 1.5e-42",
        1.9371509552001953e-06, "0x3602", -0.077447, "double_double", 1.999, 20.0, 11.0, rows,
    )  # fmt: skip
    lines = whole(partial(print_explanation, e))
    assert max(map(len, lines)) <= 80
    out = " ".join(" ".join(lines).split())
    for text in (
        "near_zero_negative",
        "-0x1.0200000000000p-9",
        "1.93599690054759693100888124719e-6",
        "-130178",
    ):
        assert text in out
    assert ("a long message " * 9).strip() in out
    assert lines[-1] == "near_zero_negative: just below 0 (−1/16 ≤ x ≤ −1e-6)"


def test_the_list_at_eighty_columns_has_every_name() -> None:
    data = catalogue()
    lines = whole(partial(print_catalogue, data))
    first = {line.split()[0] for line in lines if line and not line.startswith(" ")}
    assert {*data["functions"], *data["formats"]} <= first


def test_what_is_redirected_has_a_hundred_and_twenty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # the terminal's, which is not where it goes
    assert console_for().width == 120
