"""Writes the kill table: which fault was caught in which faulty kernel, and what the controls gave.

python tests/quality/table.py reports/quality/README.md
"""

from __future__ import annotations

import platform
import sys
import time
from pathlib import Path

import torch
from controls import CONTROLS
from trial import tried
from zoo import ZOO, Specimen

HEAD = """\
# What `verify` catches

Each of these kernels is wrong in one way ([zoo.py](../../tests/quality/zoo.py)); each control is right
([controls.py](../../tests/quality/controls.py)). `verify` ran with its default properties, for one kernel
with torch.compile, and with the formats and bound of the specimen. Written by
`python tests/quality/table.py`; `tests/quality/test_zoo.py` holds it true. [How near a search for the worst
input comes](search.md) is measured too.

"""


def _run_as(s: Specimen) -> str:
    return f"{s.function} {' '.join(s.fmts)}{'' if s.device == 'cpu' else f' on {s.device}'}"


def main(path: Path) -> None:
    rows, missed = [], []
    start = time.perf_counter()
    for s in ZOO:
        verdict = tried(s)
        found = dict.fromkeys(f.kind for f in verdict.findings)
        right = [kind for kind in found if kind in s.kinds]
        others = [kind for kind in found if kind not in s.kinds]
        if not right:
            missed.append(s.name)
        fault = s.fault.replace("|", "\\\\|")
        caught = ", ".join(right) or "**missed**"
        rows.append(f"| `{s.name}` | {fault} | {_run_as(s)} | {caught} | {', '.join(others)} |")
    alarms = {s.name: tried(s).failures for s in CONTROLS}
    false_alarms = [name for name, failures in alarms.items() if failures]
    seconds = time.perf_counter() - start
    lines = [
        HEAD,
        f"**{len(ZOO) - len(missed)} of {len(ZOO)} caught, {len(false_alarms)} false alarms among "
        f"{len(CONTROLS)} controls**, in {seconds:.0f} s (torch {torch.__version__.split('+')[0]}, Python "
        f"{platform.python_version()}, CPU).\n\n",
        "| kernel | its fault | run as | caught as | also reported |\n|---|---|---|---|---|\n",
        "\n".join(rows),
        "\n\n## Controls\n\n| kernel | run as | bound, ulps | verdict |\n|---|---|--:|---|\n",
        "\n".join(
            f"| {s.fault} | {s.function} {' '.join(s.fmts)} | {s.max_ulp:g} | "
            f"{'**false alarm**' if alarms[s.name] else 'passed'} |"
            for s in CONTROLS
        ),
        "\n",
    ]
    path.write_text("".join(lines), encoding="utf-8")
    print(f"missed: {missed}; false alarms: {false_alarms}")
    sys.exit(bool(missed or false_alarms))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
