"""What kernels returned on a real GPU, kept raw: the bounds and the faults that were found there."""

from __future__ import annotations

from pathlib import Path

from field.device import recorded, row, scored, scored_operators

BITS = Path(__file__).parents[2] / "reports" / "h200" / "bits.npz.xz"
OPERATORS = BITS.with_name("torch_operators.npz.xz")
BOUNDS = {"bf16": 0.51, "fp16": 0.75}


def test_recorded_results_keep_the_bounds_and_have_the_faults() -> None:
    tables = {k: v for k, v in recorded(BITS).items() if "stable" in k or "xielu|expm1|triton|bf16" in k}
    found = dict(scored(tables))
    flushed = found.pop("xielu | expm1 [triton] | bf16 | forward")
    assert flushed.wrong_sign == 126  # the negative subnormals, which libdevice.expm1 flushes
    assert found.pop("xielu | expm1 [triton] | bf16 | grad_x").max_ulp <= 0.51
    assert len(found) == 8
    for what, m in found.items():
        assert m.failure is None and m.max_ulp <= BOUNDS[m.fmt], (what, m.max_ulp)
        assert (m.wrong_sign, m.nonfinite_mismatch, m.undecided, m.n_inputs) == (0, 0, 0, 65536), what


def test_the_page_has_what_recorded_operators_are_scored_as() -> None:
    """A sample, row by row; hardswish overflows, and log2 has powers of 2 that nothing decides."""
    chosen = ("hardswish", "softsign", "relu6", "celu", "log2", "threshold")
    tables = {k: v for k, v in recorded(OPERATORS).items() if k.split("|")[0] in chosen}
    found = dict(scored_operators(tables))
    assert len(found) == 4 * len(chosen)
    page = (BITS.parent / "README.md").read_text(encoding="utf-8").splitlines()
    for what, m in found.items():
        assert row(what, m) in page, row(what, m)
    assert found["hardswish | bf16 | forward"].nonfinite_mismatch == 342
    assert found["log2 | fp16 | forward"].undecided == 9
    tables["relu6|bf16|forward"] = tables["relu6|bf16|forward"] ^ 1
    assert (
        dict(scored_operators({k: v for k, v in tables.items() if k.startswith("relu6|bf16")}))[
            "relu6 | bf16 | forward"
        ].max_ulp
        >= 1
    )  # one bit of every result
