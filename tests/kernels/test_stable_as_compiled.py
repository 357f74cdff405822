"""The stable kernels as Triton compiles them for sm_80, sm_90 and sm_100 keep what is promised of them.

Their PTX is executed by the lab's own emulated GPUs, in processes of their own (`stable_on_device.py`). By
default that is three of xIELU's parameter sets in bf16, one in fp16, and fp32 beside the roots for ten α_n,
on sm_90. The exhaustive run adds every parameter set and edge in bf16 and fp16, every input, all outputs,
single parameters and one per element, sums, and fp32 beside the roots for 227 α_n, for each target. It takes
the Triton that is installed; run with another release, it holds that one to the same.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from emulation import python, require

require("triton")

SCRIPT = Path(__file__).parent / "stable_on_device.py"
BOUNDS = {"bf16": 0.51, "fp16": 0.75, "fp32": 1.0}
# All that is left to the device: 2^x of xIELU in 16 bits, every allowed result of which is tried.
CHOSEN = {"bf16": {"ex2.approx.ftz.f32"}, "fp16": {"ex2.approx.ftz.f32"}, "fp32": set()}
TARGETS = ("sm_80", "sm_90", "sm_100")
# Cases are 8 parameter sets, half of them of xIPReLU, and 7 edges: each with 2 outputs for single parameters,
# 5 for one per element, and 3 sums over data of two kinds. Roots: 227 α_n.
LINES = {"quick": 28, "bf16": 15 * 13, "fp16": 15 * 13, "roots": 227 * 2, "roots-each": 227 * 5}


def lines(target: str, part: str) -> list[dict[str, Any]]:
    """What `stable_on_device.py` says of each output of each case."""
    done = python("-W", "ignore", str(SCRIPT), target, part, seconds=3600, PRECISION_LAB_DEVICE=target)
    assert done.returncode == 0, done.stderr[-3000:]
    *found, last = map(json.loads, done.stdout.splitlines())
    assert "triton" in last
    return found


def check(target: str, part: str) -> None:
    found = lines(target, part)
    assert len(found) == LINES[part]
    for of in found:
        assert of["error_ulps"] <= BOUNDS[of["format"]], of
        assert not any(of["wrong"]), of
        varies = of["case"].startswith("xielu") and "sum" not in of["case"]
        assert set(of["instructions"]) == (CHOSEN[of["format"]] if varies else set()), of
    # Nothing that is stored in so few bits can be nearer everywhere.
    assert max(of["error_ulps"] for of in found) > 0.49


def test_every_16_bit_input_and_fp32_beside_roots_keep_the_bounds() -> None:
    check("sm_90", "quick")


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", [part for part in LINES if part != "quick"])
@pytest.mark.parametrize("target", TARGETS)
def test_all_parameters_and_targets_keep_the_bounds(target: str, part: str) -> None:
    check(target, part)
