"""Puts a specimen of the zoo, or a control, to `verify`, as its tests and the kill table do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zoo_emulated  # noqa: F401  # adds its specimens to the zoo
import zoo_gradients  # noqa: F401
from zoo import Specimen

from precision_lab.verifying.verdict import Verdict
from precision_lab.verifying.verify import verify

# For the one that hangs; the others get longer: on a busy machine a child's death may take seconds.
HANGS, OTHERWISE = 3.0, 60.0


def tried(s: Specimen, **options: Any) -> Verdict:
    """Accuracy and every engineering property; only what dies is run in a process of its own."""
    kernel = f"{Path(__file__).with_name('zoo.py')}:{s.name}" if s.isolate else s.kernel
    return verify(
        kernel, s.function, fmts=s.fmts, outputs=s.outputs, max_ulp=s.max_ulp, framework=s.framework,
        time_limit=HANGS if "hung" in s.kinds else OTHERWISE, device=s.device,
        **{"properties": s.properties, "params": s.params or {}, "budget": s.budget, **options},
    )  # fmt: skip
