"""Runs the replay of every bug report, in its package's environment, and looks whether it shows the finding.

python tests/field/replays.py [--environments FOLDER] [PACKAGE …]      after `run.py`; 1 if one does not
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bug_reports import Report, reports
from environments import environment
from package import packages
from run import KEPT, ROOT, WORKERS, in_environment, variables

SECONDS = 600


def shows(report: Report, said: str) -> bool:
    """Whether what a replay printed has the finding: the computed bits of its input, or its name."""
    worst, command = report.worst, report.replays[id(report.worst)]
    if " explain " in command and worst.witness is not None:
        # Which NaN it is differs between a long call and that of one input.
        wanted = (
            worst.witness.computed_bits if "computed nan" not in worst.message else "wrong infinity or NaN"
        )
        return wanted in said
    if "quantisers.py" in command:
        return f"{worst.params_name}: {worst.output or worst.code}" in said or worst.message[:60] in said
    return worst.code in said


def replayed(report: Report, environments: Path) -> tuple[Report, bool, str]:
    (package,) = packages([report.name])
    command = shlex.split(report.replays[id(report.worst)])
    inner = in_environment(command[command.index(report.name) + 1 :], environment(package, environments))
    try:
        done = subprocess.run(
            inner,
            cwd=ROOT,
            env=variables(package),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return report, False, f"no end in {SECONDS} s"
    said = done.stdout + done.stderr
    return report, shows(report, said), said[-300:]


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "reports" / "field")
    parser.add_argument("--environments", type=Path, default=Path(sys.prefix) / "field")
    parser.add_argument("packages", nargs="*")
    asked = parser.parse_args(words)
    chosen = packages(asked.packages or None)
    names = {package.name for package in chosen}
    entries = json.loads((asked.out / KEPT).read_text(encoding="utf-8"))
    found = [r for r in reports(entries, chosen) if r.name in names]
    with ThreadPoolExecutor(WORKERS) as pool:
        done = list(pool.map(lambda report: replayed(report, asked.environments), found))
    lost = [(report, said) for report, shown, said in done if not shown]
    for report, said in lost:
        print(f"NOT SHOWN: {report.package}: {report.title}\n  {report.replays[id(report.worst)]}\n  {said}")
    print(f"{len(done) - len(lost)} of {len(done)} reports are shown again by their replay")
    if lost:
        raise SystemExit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
