"""Casts to FP8 judged against the exact rounding."""

from __future__ import annotations

import numpy as np
import pytest

from precision_lab.devices import CPU, get_device
from precision_lab.formats import BF16, get_format
from precision_lab.study.conversions import conversions, judge


@pytest.mark.parametrize("target", ["e4m3", "e5m2"])
@pytest.mark.parametrize("saturating", [False, True])
def test_the_exact_rounding_is_found_faultless(target: str, saturating: bool) -> None:
    fmt, bits = get_format(target), BF16.all_bits()
    c = judge("exact", CPU, BF16, fmt, bits, fmt.round(BF16.decode(bits), saturating=saturating))
    assert (c.misrounded, c.witness, c.n_inputs) == (0, "", 65536)
    beyond = "saturates" if saturating else "infinity" if fmt.has_infinity else "NaN"
    assert (c.overflow, c.infinity, c.nan) == (beyond, beyond, "NaN")


def test_truncation_a_wrong_sign_and_a_wrapped_overflow_are_caught() -> None:
    fmt, bits = get_format("e4m3"), BF16.all_bits()
    x = BF16.decode(bits)
    exact = fmt.round(x, saturating=True)
    with np.errstate(invalid="ignore"):
        truncated = np.where(np.abs(exact) > np.abs(x), exact - np.copysign(fmt.ulp(exact), x), exact)
    assert judge("truncated", CPU, BF16, fmt, bits, truncated).misrounded > 1000
    flipped = exact.copy()
    flipped[x == 0] = 0.0  # −0 becomes +0
    c = judge("flipped", CPU, BF16, fmt, bits, flipped)
    assert c.misrounded == 1 and "x=-0.0 (bits 0x8000) became 0.0, not -0.0" in c.witness
    wrapped = np.where(np.isfinite(x) & (np.abs(x) > 1000), -exact, exact)
    assert "wrong sign" in judge("wrapped", CPU, BF16, fmt, bits, wrapped).overflow


def test_torchs_casts_round_correctly_on_the_cpu() -> None:
    found = conversions(CPU)
    assert [(c.name, c.target) for c in found] == [("torch", "e4m3"), ("torch", "e5m2")]
    for c in found:
        assert c.failure is None and c.misrounded == 0, c.witness
        assert c.nan == "NaN"


def test_a_cast_that_destroys_the_gpus_context_is_named_and_what_follows_is_not_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from precision_lab.study import conversions as module

    def fatal(*_: object) -> object:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    casts = (module.CASTS[0], ("fatal", fatal, (CPU,), ""), ("after", module._torch, (CPU,), ""))
    monkeypatch.setattr(module, "CASTS", casts)
    found = [(c.name, c.target, c.failure.kind if c.failure else "") for c in conversions(CPU)]
    assert found == [
        ("torch", "e4m3", ""), ("torch", "e5m2", ""), ("fatal", "e4m3", "crashed"),
        ("fatal", "e5m2", "device_lost"), ("after", "e4m3", "device_lost"), ("after", "e5m2", "device_lost"),
    ]  # fmt: skip


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 'cpu'"):
        conversions(get_device("npu"))


def test_misroundings_are_counted_and_the_first_of_them_is_the_witness() -> None:
    fmt, bits = get_format("e5m2"), BF16.all_bits()
    x = BF16.decode(bits)
    computed = fmt.round(x, saturating=True)
    computed[0x3F80] = 1.25  # of 1
    computed[0x4000] = 1.75  # of 2
    computed[0x7F00] = -np.inf  # of 1.7e38, beyond the range: another count
    c = judge("off", CPU, BF16, fmt, bits, computed)
    assert c.misrounded == 2
    assert c.witness == "x=1.0 (bits 0x3f80) became 1.25, not 1.0"


def test_what_comes_of_numbers_beyond_the_range_is_counted_by_kind() -> None:
    fmt = get_format("e5m2")
    x = np.array([1e30, 1e31, -1e30, 1e32, 1e33, 1e34, np.inf, np.nan, -np.inf])
    bits = BF16.encode(BF16.round(x))
    computed = np.array([57344.0, np.inf, -57344.0, np.nan, 7.0, -np.inf, np.inf, np.nan, -57344.0])
    c = judge("mixed", CPU, BF16, fmt, bits, computed)
    assert c.overflow == "NaN ×1, infinity ×1, other ×1, saturates ×2, wrong sign ×1"
    assert (c.infinity, c.nan, c.misrounded) == ("infinity ×1, saturates ×1", "NaN", 0)
