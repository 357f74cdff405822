"""Measures the kernels of one package, in its environment; what it finds is written as JSON.

python tests/field/measure.py PACKAGE OUT.json          from the root of the repository
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from package import Kernel, Package, Quantiser, packages
from quantisers import DEVICE

from precision_lab.exceptions import PrecisionLabError, UsageError
from precision_lab.results import ranked, strict_json
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.judge import said_of_devices
from precision_lab.verifying.verdict import Verdict
from precision_lab.verifying.verify import verify

BOUND = 1.0  # ulps: faithful rounding
SECONDS = 600  # for one quantiser


def kernel(package: Package, one: Kernel) -> dict[str, Any]:
    """The verdict on one kernel at every input of its formats, at the initial parameters of its function.

    Engineering properties are examined in the first format: operands of their own among them.
    """
    start = time.perf_counter()
    # What torch.compile makes is called as torch calls it.
    compiled = "[compiled" in one.target
    parts: list[Verdict] = []
    try:
        for fmts, properties in ((one.formats[:1], not compiled), (one.formats[1:], False)):
            if fmts:
                parts.append(
                    verify(
                        package.target(one.target), one.function, fmts=fmts, outputs=one.outputs or None,
                        max_ulp=BOUND, device=DEVICE, properties=properties, time_limit=300, params={},
                    )
                )  # fmt: skip
    except (PrecisionLabError, UsageError) as error:
        return {"kernel": asdict(one), "error": str(error)}
    return {
        "kernel": asdict(one), "seconds": round(time.perf_counter() - start, 1), **figures(parts),
        "findings": [f.to_json() for f in ranked(f for part in parts for f in part.faults)],
    }  # fmt: skip


OUTCOMES = ("fail", "inconclusive", "pass")  # the first that some part has


def figures(parts: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "outcome": next(o for o in OUTCOMES if any(part.outcome == o for part in parts)),
        "outputs": [
            {
                "fmt": m.fmt, "output": m.output, "implementation": m.implementation, "params": m.params_name,
                "inputs": m.n_inputs, "failure": None if m.failure is None else m.failure.message,
                "max_ulp": m.max_ulp, "wrong_sign": m.wrong_sign, "nonfinite": m.nonfinite_mismatch,
                "not_correctly_rounded": m.not_correctly_rounded,
                "standing": said_of_devices(m, Bound(BOUND)),
                "unknown": "" if m.conformity is None else m.conformity.unknown,
            }
            for part in parts for m in part.measurements
        ],
        "examinations": [asdict(e) for part in parts for e in part.examinations],
        "notes": [note for part in parts for note in part.notes],
        "not_examined": [asdict(gap) for part in parts for gap in part.not_examined],
    }  # fmt: skip


def quantiser(package: Package, one: Quantiser) -> dict[str, Any]:
    """As `quantisers.measured`, of every dtype, in a process that may die."""
    start = time.perf_counter()
    found = _quantised(package, one)
    return {"quantiser": asdict(one), "seconds": round(time.perf_counter() - start, 1), "dtypes": found}


def _quantised(package: Package, one: Quantiser) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        script = Path(__file__).with_name("quantisers.py")
        command = [sys.executable, str(script), package.name, one.target, "--json", str(out)]
        why = ""
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
            said = [line for line in done.stderr.splitlines() if line.strip()]
            why = said[-1] if said else f"exit code {done.returncode}"
        except subprocess.TimeoutExpired:
            why = f"no answer in {SECONDS} s"
        found = json.loads(out.read_text(encoding="utf-8")) if out.is_file() else []
    known = {entry["dtype"] for entry in found}
    return [*found, *({"dtype": dtype, "error": why} for dtype in one.dtypes if dtype not in known)]


def main(name: str, out: Path) -> None:
    (package,) = packages([name])
    start = time.perf_counter()
    found: dict[str, Any] = {"kernels": [], "quantisers": []}

    def keep() -> None:
        found["seconds"] = round(time.perf_counter() - start, 1)
        out.write_text(strict_json(found) + "\n", encoding="utf-8")

    keep()
    for one in package.kernels:
        found["kernels"].append(kernel(package, one))
        keep()
        print(f"{name}: {one.target}: {found['kernels'][-1].get('outcome', 'error')}", flush=True)
    for each in package.quantisers:
        found["quantisers"].append(quantiser(package, each))
        keep()
        print(f"{name}: {each.target}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
