"""What kernels returned on a real GPU, kept raw: the bounds and the faults that were found there."""

from __future__ import annotations

from pathlib import Path

from field.device import recorded, scored

BITS = Path(__file__).parents[2] / "reports" / "h200" / "bits.npz.xz"
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
