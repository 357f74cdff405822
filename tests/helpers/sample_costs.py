"""A kernel's cost as it is recorded, for tests of everything behind counting."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from precision_lab.results.cost import Cost, DirectionCost, LaunchCost, Share

LAUNCH = LaunchCost(
    "forward_kernel", (1024, 1, 1), (256, 1, 1), 32, 0, 0, 64, 64, "warps", 23.25, 23.25, 25.5, 155.0,
    {"issue slots": 23.25, "MUFU": 1.0, "FP32": 15.0}, 0.0, 2.0, 2.0, 2.0, 2.0,
)  # fmt: skip
ONCE = replace(
    LAUNCH, kernel="roots_kernel", grid=(1, 1, 1), least=0.0, most=0.0, longest=0.0, once=700.0,
    units=dict.fromkeys(LAUNCH.units, 0.0), loaded=0.0, stored=0.0, read=0.0, written=0.0,
)  # fmt: skip
H100 = Share("H100 SXM", {"issue slots": 0.52, "MUFU": 0.18}, 0.52, False)
H200 = Share("H200", {"issue slots": 0.75, "MUFU": 0.26}, 0.75, True)
FORWARD = DirectionCost("forward", 4.0, (ONCE, LAUNCH), (H100, H200))
BACKWARD = DirectionCost(
    "backward", 6.0, (replace(LAUNCH, kernel="backward_kernel", least=30.0, most=39.5, longest=float("inf"),
                              registers=62, warps=32, limit="registers", read=4.0, unused=("sums",)),),
    (H100, replace(H200, units={"issue slots": 0.95, "MUFU": 0.26}, least_issued=0.72)),
    note="torch's operator sum ran on the CPU",
)  # fmt: skip


def cost(**changes: Any) -> Cost:
    whole = Cost("xielu", "stable", "operator", "bf16", "sm_90", (4194304, 8388608), (FORWARD, BACKWARD))
    return replace(whole, **changes)
