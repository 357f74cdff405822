"""The judge of quantisers, and bug reports: a right quantiser is clean, each mistake told as what it is."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from emulation import missing

FIELD = Path(__file__).parents[1] / "field"
sys.path.append(str(FIELD))

import judged_codes
import replays
import te_headers
from blocks import CASES, FINITE
from bug_reports import reports
from judged_codes import RULES, Codes, judge
from package import PUBLISHED, Note, Package, Quantiser, load, packages
from published_page import page
from quantisers import adapter_of, findings

import precision_lab
from precision_lab.formats import BF16, E4M3, FP32, FloatFormat
from precision_lab.results import Finding, Witness

SIZE = 32
QUANTISER = Quantiser("right", "a.right", "e4m3", (1, SIZE), "amax/max")
POWER = Quantiser("right", "a.right", "e4m3", (1, SIZE), "amax/max rounded up to a power of two")


def blocks(case: str, fmt: FloatFormat = BF16) -> Any:
    """Numbers of the format."""
    drawn = CASES[case](fmt, SIZE, 448.0, np.random.Generator(np.random.PCG64(1)))
    return fmt.round(drawn)


def scales_of(x: Any, power: bool = False) -> Any:
    """By ml_dtypes and FP32 arithmetic, as a kernel has it; of zeros 1."""
    amax = np.abs(x).max(axis=1)
    scale = np.float32(amax) / np.float32(448.0)
    if power:
        with np.errstate(divide="ignore"):
            scale = np.float32(2.0) ** np.clip(np.ceil(np.log2(amax / 448.0)), -127, 127)
    return np.where(amax > 0, scale, 1.0).astype(np.float64)


def codes_of(x: Any, scales: Any) -> Any:
    """The nearest, by the lab's casts' independent witness: ml_dtypes."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    quotient = np.clip(x / scales[:, None], -448.0, 448.0)
    return quotient.astype(ml_dtypes.float8_e4m3fn).view(np.uint8).astype(np.int64)


def kinds(x: Any, codes: Any, scales: Any, quantiser: Quantiser = QUANTISER, case: str = "drawn") -> set[str]:
    judged = judge(x, codes, scales, quantiser)
    return {f.output for f in findings(quantiser, "bf16", case, judged, Codes.of(quantiser.format))}


@pytest.mark.parametrize("case", FINITE)
@pytest.mark.parametrize("power", [False, True])
def test_a_right_quantiser_is_clean(case: str, power: bool) -> None:
    x = blocks(case)
    scales = scales_of(x, power)
    tiny = scales < 2.0**-126  # a scale that FP32 has no normal number for is not what is tested here
    x, scales = x[~tiny], scales[~tiny]
    if x.size:
        assert kinds(x, codes_of(x, scales), scales, POWER if power else QUANTISER, case) == set()


def wrong_codes(x: Any, scales: Any) -> Any:
    """Truncated instead of rounded."""
    table = Codes.of("e4m3").values
    size = np.minimum(np.abs(x) / scales[:, None], 448.0)
    below = np.searchsorted(table, size, side="right") - 1
    return below | np.where(np.signbit(x), 0x80, 0)


def test_truncation_is_found() -> None:
    x = blocks("drawn")
    scales = scales_of(x)
    assert kinds(x, wrong_codes(x, scales), scales) == {"codes"}


def test_ties_away_from_zero_are_found_and_nothing_else_is_said() -> None:
    x = blocks("ties", FP32)
    scales = scales_of(x)
    codes, table = codes_of(x, scales), Codes.of("e4m3").values
    size = np.abs(x) / scales[:, None]
    below = np.clip(np.searchsorted(table, size, side="right") - 1, 0, table.size - 2)
    tie = size == (table[below] + table[below + 1]) / 2
    assert tie.any()
    away = np.where(tie, (below + 1) | (codes & 0x80), codes)
    assert kinds(x, away, scales) == {"ties"}


def test_scales_off_their_rule_are_found_and_excuse_no_code() -> None:
    x = blocks("drawn")
    scales = scales_of(x, power=True)
    assert kinds(x, codes_of(x, scales), scales, POWER) == set()
    doubled = 2 * scales
    assert kinds(x, codes_of(x, doubled), doubled, POWER) == {"scales"}
    assert kinds(x, codes_of(x, scales), doubled, POWER) == {"scales", "codes"}
    near = np.nextafter(np.nextafter(scales_of(x).astype(np.float32), np.float32(9e9)), np.float32(9e9))
    assert kinds(x, codes_of(x, near.astype(float)), near.astype(float)) == {"scales"}


def test_a_block_of_zeros_that_becomes_nan_is_found() -> None:
    x = blocks("zeros")
    nan = np.full(x.shape, 0x7F)
    assert kinds(x, nan, np.zeros(len(x)), case="zeros") == {"zeros"}
    assert kinds(x, np.zeros(x.shape, np.int64), np.zeros(len(x)), case="zeros") == set()


def test_a_code_of_the_other_sign_is_found() -> None:
    x = blocks("drawn")
    scales = scales_of(x)
    assert kinds(x, codes_of(x, scales) ^ 0x80, scales) == {"codes"}


def test_rules_for_powers_of_two_agree_with_their_definitions() -> None:
    """At powers of two, just beside them, and at the largest code's multiples, by integers."""
    codes = Codes.of("e4m3")
    amax = np.concatenate(
        [np.ldexp([1.0, 1.0 + 2**-7, 2 - 2**-7, 1.75, 1.75 + 2**-7], k) for k in range(-9, 9)]
    )
    up = np.array([min(2.0**k for k in range(-40, 40) if 448 * 2.0**k >= a) for a in amax])
    down = np.array([max(2.0**k for k in range(-40, 40) if 448 * 2.0**k <= a) for a in amax])
    floor = np.array([max(2.0**k for k in range(-40, 40) if 2.0**k <= a) / 256 for a in amax])
    ceil = np.array([min(2.0**k for k in range(-40, 40) if 2.0**k >= a) / 256 for a in amax])
    for name, wanted in (
        ("amax/max rounded up to a power of two", up), ("amax/max rounded down to a power of two", down),
        ("exponent of amax", floor), ("exponent of amax rounded up", ceil),
    ):  # fmt: skip
        rule = RULES[name]
        assert rule is not None
        np.testing.assert_array_equal(rule(amax, codes), wanted, err_msg=name)
    inside = (amax >= 2.0**-6) & (amax <= 448)
    rounded = E4M3.round(amax[inside])  # 4 significant bits, in E4M3's range
    even = np.array([max(2.0**k for k in range(-40, 40) if 2.0**k <= a) / 256 for a in rounded])
    rule = RULES["exponent of amax rounded to the significand"]
    assert rule is not None
    np.testing.assert_array_equal(rule(amax[inside], codes), even)


# -- the list, reports and the page ---------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.toml")), ids=lambda path: path.stem)
def test_every_package_of_the_list_reads_and_has_its_adapters(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = load(path)
    adapters = path.with_name(f"{path.stem}_kernels.py")
    source = adapters.read_text(encoding="utf-8") if adapters.exists() else ""
    shipped = runpy.run_path(str(adapters))["KERNELS"] if "def __getattr__(" in source else ()
    for target in [k.target for k in package.kernels] + [q.target for q in package.quantisers]:
        assert " [" in target or f"def {target}(" in source or target in shipped, target
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder != str(PUBLISHED)])
    assert all(callable(adapter_of(package, q.target)) for q in package.quantisers)
    assert all(q.scale in RULES for q in package.quantisers)
    assert all(Codes.of(q.format).top > 0 for q in package.quantisers)
    names = {k.target for k in package.kernels} | {q.target for q in package.quantisers}
    names |= {k.function for k in package.kernels if " [" in k.target}
    for note in package.notes:
        assert set(note.kernel) <= names, note.title


def test_a_key_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    kernel = 'target = "f"\nfunction = "silu"\nof = "a.f"\nfmt = "x"\n'
    path.write_text(f'package = "a"\nversion = "1"\n[[kernels]]\n{kernel}')
    with pytest.raises(ValueError, match=r"a\.toml: kernels: unknown fmt; known are formats"):
        load(path)
    with pytest.raises(ValueError, match="package 'nobody' is not in the list: "):
        packages(["nobody"])


def finding(code: str = "nonfinite", output: str = "grad_x", **changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "code": code, "output": output, "function": "silu", "implementation": "f", "fmt": "bf16",
        "params_name": "init", "message": f"{code} there. Replay: x",
        "replay": "precision-lab explain silu --bits 0x7f80",
    }  # fmt: skip
    return Finding(**{**facts, **changes}).to_json()


def entries(*rows: dict[str, Any], outcome: str = "fail") -> dict[str, Any]:
    kernel = {"target": "f", "function": "silu", "of": "a.f"}
    output = {
        "fmt": "bf16", "output": "forward", "params": "init", "failure": None, "max_ulp": 3.25,
        "wrong_sign": 0, "nonfinite": 2, "standing": "refuted on every conforming device",
    }  # fmt: skip
    row = {"kernel": kernel, "outcome": outcome, "outputs": [output], "findings": list(rows)}
    return {"a": {"package": {"package": "a", "version": "1.0"}, "kernels": [row]}}


def test_findings_of_one_cause_are_one_report_and_the_worst_is_first() -> None:
    note = Note("the title", "line 7", codes=("nonfinite",))
    package = Package("a", "a", "1.0", notes=(note,))
    rows = (finding(), finding(output="forward"), finding("crashed", "", message="it ended", replay=""))
    found = reports(entries(*rows), [package])
    assert [(r.title, len(r.findings)) for r in found][1] == ("the title", 2) or found[0].title == "the title"
    assert {r.title for r in found} == {"the title", "f: the process that ran it died"} or len(found) == 2
    assert found[0].severity <= found[1].severity
    named = next(r for r in found if r.note is note)
    assert named.replays[id(named.worst)] == "tox -e field -- --in a precision-lab explain silu --bits 0x7f80"


def test_a_page_has_reports_clean_kernels_and_what_is_not_measured() -> None:
    text = page(
        {
            **entries(finding(output="forward")),
            "b": {"package": {"package": "b", "version": "2"}, "error": "gone"},
        }
    )
    assert "</a>1. f: a NaN or an infinity where there should be a number" in text
    assert "- **Witness**: nonfinite there." in text and "- **Cause**: not looked into." in text
    assert "refuted on every conforming device" in text and "| a 1.0 | `a.f` | silu | 3.25 ∞ |" in text
    assert "- b 2: gone" in text
    assert "- `a.f` (silu), a 1.0" in page(entries(outcome="pass"))


def test_what_is_by_design_is_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    import published_page

    note = Note("as torch has it", "line 3", by_design="Parity with torch.", codes=("nonfinite",))
    monkeypatch.setattr(published_page, "packages", lambda: [Package("a", "a", "1.0", notes=(note,))])
    text = published_page.page(entries(finding()))
    assert "0, of 0 packages" in text
    assert "- **as torch has it** (a 1.0: f). line 3 Parity with torch." in text


def test_the_judge_is_exact_where_a_quotient_is_rounded() -> None:
    """x/scale may round to a midpoint though x lies beside it: products decide, not the quotient."""
    scale = float(np.float32(1) / np.float32(3))
    middle = 17.0 * scale  # between 16 and 18, exact in float64
    for x, code in ((np.nextafter(middle, 0), 16.0), (np.nextafter(middle, 99), 18.0)):
        row = np.full((1, 4), x)
        table = Codes.of("e4m3")
        right = np.full((1, 4), int(np.searchsorted(table.values, code)))
        found = judged_codes.Judged(1)
        judged_codes._judge_codes(found, row, table.decode(right), np.array([scale]), np.array([True]), table)
        assert found.wrong_codes == 0 and found.code_steps < 0.5


# -- Transformer Engine's headers -----------------------------------------------------------------------

STAND_IN = """
namespace transformer_engine {
struct Empty {};
template <typename OType, typename IType>
__device__ inline OType relu(IType value, const Empty&) { return value < 0.0f ? 0.0f : value; }
template <typename OType, typename IType>
__device__ inline OType drelu(IType value, const Empty&) { return value > 0.0f ? 1.0f : 0.0f; }
template <typename OType, typename IType>
__device__ inline OType silu(IType value, const Empty&) { return value; }
}
"""


def stand_in(folder: Path) -> Path:
    header = folder / "common" / "util" / "math.h"
    header.parent.mkdir(parents=True)
    header.write_text(STAND_IN)
    return header


def test_kernels_are_made_of_the_functions_that_have_their_derivatives(tmp_path: Path) -> None:
    header = stand_in(tmp_path)
    text, names = te_headers.kernels(tmp_path)
    assert names == ["relu"] and f'#include "{header.resolve()}"' in text and "te_silu" not in text
    with pytest.raises(ValueError, match=r"no util/math\.h lies in it"):
        te_headers.kernels(tmp_path / "common" / "util")
    header.write_text("// nothing")
    with pytest.raises(ValueError, match="has no activation that is looked for"):
        te_headers.kernels(tmp_path)


@pytest.mark.skipif(bool(missing("cuda.bindings")), reason=missing("cuda.bindings") or "-")
def test_a_stand_ins_kernels_compile_and_run_by_their_ptx(tmp_path: Path) -> None:
    stand_in(tmp_path)
    out = tmp_path / "te.cu"
    out.write_text(te_headers.kernels(tmp_path)[0])
    verdict = precision_lab.verify(
        f"{out}:te_relu", "relu", fmts=("bf16", "fp16"), properties=("upstream",), device="sm_90"
    )
    assert verdict.passed, verdict.failures or verdict.reasons
    assert {m.output for m in verdict.measurements} == {"forward", "grad_x"}


def test_a_replay_shows_a_finding_by_its_bits_or_its_name() -> None:
    witness = Witness("0x7f80", 1.0, "", 2.0, "", "0x4000", "1", 1.0, 1.0)
    (report,) = reports(entries(finding(witness=witness)), [Package("a", "a", "1.0")])
    assert replays.shows(report, "it gives 0x4000") and not replays.shows(report, "nonfinite 0x4001")
    (other,) = reports(entries(finding("writes_input", "", replay="")), [Package("a", "a", "1.0")])
    assert replays.shows(other, "writes_input: x") and not replays.shows(other, "all hold")
