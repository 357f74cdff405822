"""The report says what the numbers say, names its rows, and is the same whenever it is rebuilt."""

from __future__ import annotations

import io
import json
import math
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_page import packed, unfolded
from rich.console import Console
from sample_results import measurement, reduction, sample_results, statistics, timing, witness

from precision_lab.cli.printing import console_for
from precision_lab.exceptions import DamagedFileError
from precision_lab.lowprecision.probe.presets import TABLE_4, get_preset
from precision_lab.report import (
    check_directory,
    derive,
    print_summary,
    read_results,
    write_report,
)
from precision_lab.report.document import html, markdown, readiness_markdown
from precision_lab.report.findings import TOPICS
from precision_lab.report.render_markdown import slug
from precision_lab.report.rows import anchor, reduction_case, timing_case
from precision_lab.report.sections import paper
from precision_lab.report.wording import SEVERITIES
from precision_lab.results import Block, Failure, Measurement, Results, replay_command

EMPTY = Results({"cpu": "A processor"}, {}, (), (), (), {})


def of(*measurements: Measurement) -> Results:
    return replace(EMPTY, measurements=measurements)


def sentences(results: Results, topic: str) -> str:
    found = [f for f in derive(results) if f.topic == topic]
    return "\n".join(line for f in found for line in (f.sentence, *f.details))


class Page(HTMLParser):
    """Ids, links within the page, and addresses the page would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if values.get("id"):
            self.ids.append(str(values["id"]))
        href = values.get("href") or ""
        if tag == "a" and href.startswith("#"):
            self.targets.append(href[1:])
        elif tag in ("link", "script", "img", "iframe") and (values.get("src") or href):
            self.loads.append(str(values.get("src") or href))


@pytest.fixture(scope="module")
def sample() -> Results:
    return sample_results()


@pytest.fixture(scope="module")
def page(sample: Results) -> str:
    """With all that is folded put in."""
    return unfolded(html(sample))


# Findings follow the numbers


def test_every_finding_names_rows_that_exist(sample: Results) -> None:
    rows = {m.case for m in sample.measurements}
    rows |= {reduction_case(r) for r in sample.reductions} | {timing_case(t) for t in sample.timings}
    found = derive(sample)
    assert {f.topic for f in found} <= set(TOPICS)
    assert {f.severity for f in found} <= set(SEVERITIES)
    for finding in found:
        assert finding.evidence, finding.sentence
        assert set(finding.evidence) <= rows, finding.sentence


def test_faults_in_the_sample_are_all_found(sample: Results) -> None:
    # Its module gave no figures, and nothing in it was compiled for a GPU.
    assert {f.topic for f in derive(sample)} == set(TOPICS) - {"module", "compiled"}


def test_an_accurate_naive_formulation_is_not_called_unsafe() -> None:
    found = derive(sample_results(accurate=True))
    assert not [f for f in found if f.severity in ("fault", "caution")]
    assert "nothing is safe" not in sentences(sample_results(accurate=True), "safety")
    assert "exp(x) − 1 loses nothing" in sentences(sample_results(accurate=True), "expm1")


def test_an_inaccurate_naive_formulation_is_not_called_safe() -> None:
    naive, stable = measurement("naive"), measurement("stable")
    said = sentences(of(naive, stable), "safety")
    assert "stable stays within 1 ulp on every output" in said
    assert "naive" not in said
    assert "nothing is safe" in sentences(of(naive), "safety")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"wrong_sign": 3}, "3 wrong signs"),
        ({"nonfinite_mismatch": 2}, "2 stray NaN or infinities"),
        ({"undecided": 1}, "1 undecided result"),
        ({"max_ulp": 1.01}, "nothing is safe"),
    ],
)
def test_one_flaw_of_any_kind_takes_safety_away(changed: dict[str, float], words: str) -> None:
    stable = measurement("stable")
    if "max_ulp" in changed:
        changed = {**changed, "regions": {"positive": statistics(8, 1.01)}}  # type: ignore[dict-item]
    assert "stable stays" not in sentences(of(replace(stable, **changed)), "safety")  # type: ignore[arg-type]
    assert words in sentences(of(replace(stable, **changed)), "safety")  # type: ignore[arg-type]


def test_a_wrong_value_at_infinity_alone_is_said_to_be_so() -> None:
    row = replace(measurement("stable"), nonfinite_mismatch=1, nonfinite_witness=witness(-math.inf))
    assert "for finite x, but not at ±inf" in sentences(of(row), "safety")
    finite = replace(row, nonfinite_witness=witness(5.0))
    assert "nothing is safe" in sentences(of(finite), "safety")


def test_an_error_confined_to_the_roots_is_said_to_be_so() -> None:
    near_root = replace(measurement("stable"), max_ulp=90.0)
    near_root = replace(near_root, regions={**near_root.regions, "root_forward": statistics(8, 90.0)})
    assert "except around the roots" in sentences(of(near_root), "safety")


@pytest.mark.parametrize(
    ("naive", "expm1", "words"),
    [
        (0.0, 8.0, "expm1 is enough"),
        (0.0, 4.0, "expm1 helps but is not enough"),
        (0.0, 0.0, "expm1 is not enough"),
        (8.0, 8.0, "exp(x) − 1 loses nothing"),
    ],
)
def test_the_verdict_on_expm1_follows_the_bits_kept(naive: float, expm1: float, words: str) -> None:
    rows = [
        replace(measurement(name, "grad_alpha_n"), regions={"near_zero_negative": statistics(8, 9.0, bits)})
        for name, bits in (("naive", naive), ("zero-expm1", expm1))
    ]
    assert words in sentences(of(*rows), "expm1")


def test_the_worst_format_decides_about_expm1() -> None:
    def rows(fmt: str, bits: float) -> list[Measurement]:
        return [
            replace(measurement(name, fmt=fmt), regions={"near_zero_negative": statistics(8, 9.0, kept)})
            for name, kept in (("naive", 0.0), ("zero-expm1", bits))
        ]

    assert "expm1 is not enough" in sentences(of(*rows("bf16", 8.0), *rows("fp16", 0.0)), "expm1")


def test_clamping_is_blamed_only_for_signs_it_turned() -> None:
    flipped = measurement("eps-expm1", "grad_x")
    kept = replace(flipped, wrong_sign=0, regions={"eps_zone": statistics(8, 0.5)})
    assert "wrong sign" in sentences(of(flipped), "eps")
    assert "bf16, init: 41 of 100 inputs" in sentences(of(flipped), "eps")
    assert "turns no sign" in sentences(of(kept), "eps")
    assert sentences(of(measurement("zero-expm1", "grad_x")), "eps") == ""


def test_a_jump_at_zero_is_reported_only_where_there_is_one() -> None:
    jumping = measurement("eps-expm1")
    assert "by up to 5e-07" in sentences(of(jumping), "eps")
    assert "jump" not in sentences(of(replace(jumping, jump_at_zero=0.0)), "eps")
    assert "jump" not in sentences(of(replace(jumping, jump_at_zero=math.nan)), "eps")


@pytest.mark.parametrize(
    ("x", "computed", "words"),
    [
        (89.0, math.nan, "NaN for finite x"),
        (300.0, math.inf, "infinity where the exact result is finite"),
        (-math.inf, math.nan, "a wrong limit at infinite x"),
        (1e5, 65504.0, "a number where the exact result overflows"),
    ],
)
def test_nan_overflow_and_wrong_limits_are_told_apart(x: float, computed: float, words: str) -> None:
    seen = replace(witness(x), computed=computed, error_ulps=math.nan)
    row = replace(measurement("stable"), nonfinite_mismatch=7, nonfinite_witness=seen)
    said = sentences(of(row), "nonfinite")
    assert words in said
    assert "7 inputs" in said


def test_undecided_inputs_are_stated_first() -> None:
    found = derive(of(measurement("stable"), replace(measurement("naive"), undecided=4)))
    assert found[0].severity == "fault"
    assert "4 of 131,072 results could not be decided" in found[0].sentence


def test_upcast_is_praised_only_for_errors_it_lowers() -> None:
    eager, upcast = measurement("naive"), measurement("naive", execution="upcast")
    assert "in 1 of 1 cases and raises it in 0" in sentences(of(eager, upcast), "executions")
    swapped = replace(eager, execution="upcast"), replace(upcast, execution="eager")
    assert "in 0 of 1 cases and raises it in 1" in sentences(of(*swapped), "executions")
    same = replace(eager, execution="upcast")
    assert "changes no worst error" in sentences(of(eager, same), "executions")


def test_compiled_kernels_are_compared_with_eager_ones() -> None:
    rows = measurement("naive"), measurement("naive", execution="compiled")
    assert "torch.compile changes no worst error" in sentences(of(*rows), "executions")


def test_a_module_is_judged_as_its_users_run_it() -> None:
    sound = replace(measurement("stable", execution="module"), implementation="transformers")
    assert "stays within 1 ulp outside the roots" in sentences(of(sound), "module")
    faulty = replace(measurement("naive", execution="module"), implementation="transformers")
    assert "does not keep 1 ulp" in sentences(of(faulty), "module")


def test_fp8_says_which_storage_loses_what() -> None:
    clean = measurement("stable", fmt="e4m3", execution="fp8-fp32 saturating")
    lossy = replace(measurement("naive", "grad_x", fmt="e4m3", execution="fp8-fp32"))
    assert "no NaN or infinity in the wrong place" in sentences(of(clean), "fp8")
    said = sentences(of(clean, lossy), "fp8")
    assert "in the wrong place with fp8-fp32." in said
    assert "120 from naive" in said


def test_summed_gradients_name_the_worst_and_the_best() -> None:
    worse, better = (
        reduction(name, "bf16", "grad_alpha_n", error, "aligned: …")
        for name, error in (("naive", 37.5), ("stable", 0.25))
    )
    said = sentences(replace(EMPTY, reductions=(worse, better)), "reductions")
    assert "7.5 %" in said
    assert "naive" in said
    assert "bf16 7.5 % (naive; stable 0.05 %; condition of the sum 1)" in said


def test_the_papers_order_is_contradicted_only_beyond_the_spread() -> None:
    def order(gelu: float) -> str:
        rows = (
            timing("xiprelu", "as-printed", "bf16", "forward", 2.0),
            timing("gelu", "torch", "bf16", "forward", gelu),
        )
        return sentences(replace(EMPTY, timings=rows), "timings")

    assert (
        "differs from the paper's Table 1 (xiprelu ≤ gelu) beyond the quartiles: gelu before xiprelu (bf16)"
        in order(1.1)
    )
    assert "agrees with the paper's Table 1" in order(1.95)
    assert "agrees with the paper's Table 1" in order(4.0)


def test_a_failed_case_is_named_with_its_reason(sample: Results) -> None:
    said = sentences(sample, "failures")
    assert "transformers [module] could not be measured in fp16 (1 case), missing dependency" in said


def test_a_long_message_of_a_kernel_is_cut_short() -> None:
    failure = Failure("raised", "RuntimeError: " + "word " * 200 + "\nand a traceback")
    said = sentences(of(replace(measurement(), failure=failure)), "failures")
    assert said.endswith(" ….")
    assert len(said) < 260


def test_results_without_measurements_make_a_report() -> None:
    assert derive(EMPTY) == ()
    assert "<title>" in html(EMPTY)


def test_the_replay_command_gives_bits_format_output_and_every_parameter() -> None:
    m = measurement("naive", "grad_x")
    assert m.witness is not None
    assert replay_command(m, m.witness) == (
        "precision-lab explain xielu --bits 0xbb80 --format bf16 --output grad_x "
        "--param alpha_p=0.80078125 --param alpha_n=0.80078125 --param beta=0.5"
    )


# The page


def test_every_link_in_the_page_has_a_target_and_every_id_is_single(page: str) -> None:
    parsed = Page(page)
    assert len(parsed.targets) > 50
    assert set(parsed.targets) <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))


def test_every_cited_row_is_in_the_page(sample: Results, page: str) -> None:
    ids = set(Page(page).ids)
    for finding in derive(sample):
        assert {anchor(case) for case in finding.evidence} <= ids, finding.sentence


def test_anchors_of_different_rows_differ(sample: Results) -> None:
    cases = {m.case for m in sample.measurements}
    assert len({anchor(case) for case in cases}) == len(cases)


def test_the_page_loads_nothing_and_has_no_library(sample: Results, page: str) -> None:
    source = html(sample)
    assert Page(page).loads == [] and Page(source).loads == []
    assert source.startswith("<!doctype html>")
    scripts = re.findall(r"<script>(.*?)</script>", source, re.S)
    assert len(scripts) == 1 and len(scripts[0]) < 5000


def test_names_and_messages_are_escaped() -> None:
    row = replace(measurement("stable"), implementation="<b>mine</b></script>")
    text = html(of(row))
    assert "<b>mine" not in text and not any("<b>mine" in part for part in packed(text))
    assert text.count("</script>") == 2  # what is packed, and ours


def test_wrong_signs_and_nan_are_flagged_in_the_tables(page: str) -> None:
    row = page.split(f'id="{anchor(measurement("eps-expm1", "grad_x").case)}"', 1)[1].split("</tr>", 1)[0]
    assert '<b title="wrong signs">±</b>' in row
    row = page.split(f'id="{anchor(measurement("naive", "grad_x").case)}"', 1)[1].split("</tr>", 1)[0]
    assert "∞" in row


# Files


def test_rebuilding_from_json_gives_the_same_bytes(sample: Results, tmp_path: Path) -> None:
    first = write_report(sample, tmp_path / "a")
    second = write_report(read_results(tmp_path / "a"), tmp_path / "b")
    assert first.keys() == second.keys()
    for name, path in first.items():
        assert path.read_bytes() == second[name].read_bytes(), name


def texts(written: Mapping[str, Path]) -> dict[str, str]:
    """The Markdown report's files, by their names."""
    return {name: path.read_text(encoding="utf-8") for name, path in written.items() if path.suffix == ".md"}


def test_every_link_and_picture_of_the_markdown_leads_somewhere(sample: Results, tmp_path: Path) -> None:
    files = texts(write_report(sample, tmp_path, html=False))
    assert len(files) > 8
    for name, text in files.items():
        folder = tmp_path if name == "markdown" else tmp_path / "details"
        targets = re.findall(r"\]\(([^)]+)\)", text)
        assert targets, name
        for target in targets:
            path, _, fragment = target.partition("#")
            assert (folder / path).is_file(), (name, target)
            if fragment:
                headings = re.findall("^#+ (.*)$", (folder / path).read_text(encoding="utf-8"), re.M)
                assert fragment in map(slug, headings), (name, target)
    assert len(re.findall(r"!\[", "".join(files.values()))) >= 5
    assert (tmp_path / "figures" / "headline.svg").read_bytes().startswith(b"<svg ")


def test_the_markdown_says_what_the_page_says(sample: Results, tmp_path: Path) -> None:
    files = texts(write_report(sample, tmp_path, html=False))
    text = "".join(files.values())
    for finding in derive(sample):
        assert finding.sentence in text
        assert finding.replay in text
    assert not re.search(r"</?(p|div|table|tr|td)\b", text)


def test_the_markdown_report_is_short_and_leads_to_all_else(sample: Results, tmp_path: Path) -> None:
    """4,000 words of the committed one, with as many functions as every report has by default."""
    files = texts(write_report(sample, tmp_path, html=False))
    report = files.pop("markdown")
    assert len(report.split()) < 1500
    leading = report.replace("(details/", "(") + "".join(files.values())
    led = set(re.findall(r"\]\(([^)#]+)", leading))
    assert {name.removeprefix("details/") for name in files} <= led


def test_a_report_in_place_of_an_earlier_one_leaves_none_of_its_details(tmp_path: Path) -> None:
    (tmp_path / "details").mkdir()
    (tmp_path / "details" / "gone.md").write_text("of before")
    (tmp_path / "details" / "mine.txt").write_text("not the report's")
    write_report(of(measurement()), tmp_path, html=False)
    assert not (tmp_path / "details" / "gone.md").exists() and (tmp_path / "details" / "mine.txt").exists()
    assert (tmp_path / "details" / "regions.md").exists()


def test_markdown_tables_have_as_many_cells_in_every_row(sample: Results, tmp_path: Path) -> None:
    text = "".join(texts(write_report(sample, tmp_path, html=False)).values())
    blocks = re.findall(r"(?:^\|.*\n)+", text, re.M)
    assert len(blocks) > 8
    for block in blocks:
        assert len({line.rstrip().count("|") for line in block.splitlines()}) == 1, block[:300]


def test_only_what_is_asked_is_written(tmp_path: Path) -> None:
    written = write_report(of(measurement()), tmp_path, html=False, markdown=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.json"]
    assert written == {"json": tmp_path / "report.json"}


def test_a_directory_that_cannot_be_written_is_named_before_anything_is_measured(tmp_path: Path) -> None:
    in_the_way = tmp_path / "taken"
    in_the_way.write_text("a file")
    for use in (check_directory, lambda d: write_report(EMPTY, d)):
        with pytest.raises(ValueError, match=r"directory='.*taken' cannot be written: "):
            use(in_the_way)
    assert in_the_way.read_text() == "a file"


def test_checking_a_directory_leaves_nothing_in_it(tmp_path: Path) -> None:
    assert list(check_directory(tmp_path / "new" / "deep").iterdir()) == []


def test_a_failed_write_leaves_the_old_report_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_report(of(measurement()), tmp_path, html=False, markdown=False)
    before = (tmp_path / "report.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(ValueError, match="No space left on device"):
        write_report(of(measurement("stable")), tmp_path, html=False, markdown=False)
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
    assert (tmp_path / "report.json").read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", '{"schema": 1}', '{"schema": 99}', "[]", "\x00"])
def test_damaged_results_are_named_and_never_trusted(text: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(text)
    with pytest.raises(DamagedFileError, match=r"report\.json"):
        read_results(file)


def test_missing_results_are_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match="No such file"):
        read_results(tmp_path)


def test_the_terminal_summary_says_what_to_use_and_what_was_asked(
    sample: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    print_summary(sample, console_for())
    said = capsys.readouterr().out
    assert re.search(r"xielu +bf16 +stable +0\.50 +0\.50 +yes", said)
    assert "xielu naive: Only in part: in bf16" in said
    assert "20,661,632 results checked, 0 undecided, 1 case without figures; findings: 9 fault" in said
    print_summary(EMPTY, console_for())


@pytest.mark.parametrize("lead", [("xielu", "xiprelu"), ("relu2", "silu", "gelu", "xielu"), ("nothing",)])
def test_the_terminal_summary_fits_one_screen_and_cuts_nothing(
    sample: Results, lead: tuple[str, ...]
) -> None:
    profile = {**sample.profile.to_json(), "lead": list(lead)}
    console = Console(width=80, file=io.StringIO(), markup=False)
    print_summary(replace(sample, settings={**sample.settings, "profile": profile}), console)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)


def test_importing_the_report_loads_no_heavy_library() -> None:
    program = (
        "import sys, precision_lab.report\n"
        "heavy = {'torch', 'matplotlib', 'jinja2', 'rich', 'mpmath'} & set(sys.modules)\n"
        "sys.exit(f'loaded {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def whole(results: Results) -> str:
    """All of the Markdown report."""
    return "".join(markdown(results, []).values())


def _block(function: str, failure: Failure | None = None) -> Block:
    time, memory = (2.0, 300.0) if function == "silu" else (3.0, 450.0)
    if failure is not None:
        time = memory = math.nan
    return Block(
        function, "torch", "eager", "bf16", 2304, 9216, 4096, False, 15, time, time, time, memory,
        time / 2, memory / 300, failure,
    )  # fmt: skip


def test_blocks_and_a_gpus_bandwidth_are_shown_with_what_failed(sample: Results) -> None:
    """In Markdown as in HTML: ratios to SiLU, GB/s beside the share of a copy's, reasons for no figures."""
    failure = Failure("out_of_memory", "CUDA out of memory: a|b")
    timings = tuple(replace(t, effective_gb_per_s=2345.0, bandwidth_share=0.87) for t in sample.timings)
    blocks = (_block("silu"), _block("xielu"), _block("gelu", failure))
    found = replace(sample, timings=timings, blocks=blocks)
    text, page = whole(found), unfolded(html(found))
    assert "| xielu | torch [eager] | 9216 | 3.000 | 3.000–3.000 | 1.500 | 450 | 1.500 |" in text
    assert "| gelu | torch [eager] | 9216 | out of memory: CUDA out of memory: a\\|b | | | | |" in text
    assert "| 2345.00 | 87 % |" in text and "| GB/s | of copy's GB/s |" in text
    assert "CUDA out of memory: a|b" in page and "memory × SiLU" in page
    without = replace(found, blocks=(_block("silu", failure), _block("xielu")))
    assert "gave no figures, so that there are none" in whole(without)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        lines = table.replace("\\|", "").splitlines()
        assert len({line.rstrip().count("|") for line in lines}) == 1, table[:300]
    assert "of copy's GB/s" not in whole(sample)  # a CPU's have no share of a copy's


def committed_readiness(name: str) -> tuple[dict[str, object], str]:
    """What a committed readiness.json holds, and the text of its pages, which are what it makes."""
    folder = Path(__file__).parents[2] / "reports" / "readiness" / name
    page = (folder / "readiness.md").read_text(encoding="utf-8")
    data = json.loads((folder / "readiness.json").read_text(encoding="utf-8"))
    made = readiness_markdown(data, page.splitlines()[0].removeprefix("# "))
    details = {f"details/{path.name}" for path in (folder / "details").glob("*.md")}
    assert set(made) == {"readiness.md", *details}
    assert all((folder / file).read_text(encoding="utf-8") == text for file, text in made.items())
    return data, "".join(made.values())


def test_the_committed_pages_on_readiness_are_what_their_json_makes() -> None:
    committed_readiness("captured")
    _, text = committed_readiness("")
    # The paper's figures beside ours, Table 2's and Table 4's.
    assert "| xielu | 2.323 ± 0.004 | 17.52 | 2.57" in text
    assert "| xielu_neg_zero/composed | -0.0953 ± 0.0566 | -0.0992 ± 0.0648 |" in text


def test_the_committed_probe_of_table_4_is_of_the_preset_and_learned() -> None:
    data, text = committed_readiness("table-4")
    probe: Any = data["probe"]
    assert probe["config"] == json.loads(json.dumps(get_preset("table-4").to_json()))
    seeds = {run["seed"] for run in probe["runs"]}
    assert len(seeds) >= 3 and len(probe["runs"]) == len(TABLE_4) * len(seeds)  # whole seeds alone
    assert {run["subject"] for run in probe["runs"]} == set(TABLE_4)
    assert all(run["diverged_at"] is None for run in probe["runs"])
    # A uniform guess at a byte is ln 256 = 5.55; differences are larger than what seeds make of them.
    assert all(run["validation_loss"] < 2 for run in probe["runs"])
    order = paper.orders(probe["runs"])[1]["Table 4"]
    assert order is not None and len(order.names) == 13 and order.apart > order.every / 2
    assert paper.said("Table 4", order) in text
