"""How near sampled and searching measurements come to the true worst case, into a Markdown table.

python tests/quality/search_table.py reports/quality/search.md
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from precision_lab.exceptions import KernelError
from precision_lab.formats import BF16, FP16, FloatFormat, get_format
from precision_lab.functions import FUNCTIONS, get_function
from precision_lab.implementations import Implementation, get_execution, implementations_for
from precision_lab.measuring.measure import measure, measure_all
from precision_lab.running.case import case_of
from precision_lab.verifying.search import EVALUATIONS, search

GOAL = 0.95
SWEEPS = Path(__file__).parents[2] / "reports" / "cpu" / "exhaustive"


@dataclass(frozen=True)
class Case:
    """True maximum and the share of it that each way finds."""

    label: str
    fmt: str
    output: str
    truth: float
    random: float
    stratified: float
    stratified_inputs: int
    found: float


def cases_of(implementation: Implementation, fmt: FloatFormat) -> list[Case]:
    """All outputs of one implementation in a 16-bit format, whose truth is all 2^16 inputs."""
    truths = measure_all(case_of(implementation, fmt, inputs="exhaustive"))
    sampled = measure_all(case_of(implementation, fmt, inputs="stratified"))
    found = []
    for truth, some in zip(truths, sampled, strict=True):
        if truth.failure is not None or truth.max_ulp == 0:
            continue
        found.append(case(implementation, fmt, truth.output, truth.max_ulp, some))
    return found


def case(implementation: Implementation, fmt: FloatFormat, output: str, truth: float, some) -> Case:
    function = implementation.function
    best = search(implementation, function, fmt=fmt, output=output).max_ulp
    drawn = np.random.Generator(np.random.PCG64(7)).integers(-fmt.max_ordinal, fmt.max_ordinal, EVALUATIONS)
    x = fmt.from_ordinal(drawn)
    plain = measure(implementation, function, fmt=fmt, output=output, inputs=x)
    label = f"{function.name} {implementation.label}"
    shares = (m / truth for m in (plain.max_ulp, some.max_ulp, best))
    random, stratified, searched = shares
    return Case(label, fmt.name, output, truth, random, stratified, some.n_inputs, searched)


def swept() -> list[Case]:
    """fp32, whose truth is the committed sweeps of all 2^32 inputs."""
    found = []
    for path in sorted(SWEEPS.glob("*.json")):
        for m in json.loads(path.read_text(encoding="utf-8"))["measurements"]:
            if float(m["max_ulp"]) == 0:
                continue
            implementation = next(
                i
                for i in implementations_for(get_function(m["function"]), get_execution(m["execution"]))
                if i.name == m["implementation"]
            )
            some = measure(implementation, m["function"], fmt="fp32", output=m["output"], inputs="stratified")
            found.append(case(implementation, get_format("fp32"), m["output"], float(m["max_ulp"]), some))
    return found


def main(path: Path) -> None:
    start = time.perf_counter()
    cases = swept()
    for function in FUNCTIONS.values():
        for execution in ("eager", "upcast", "compiled", "module"):
            for implementation in implementations_for(function, get_execution(execution)):
                for fmt in (BF16, FP16):
                    if fmt not in implementation.formats:
                        continue
                    try:
                        cases += cases_of(implementation, fmt)
                    except KernelError as error:
                        print(f"{implementation.label} {fmt.name}: {error}", file=sys.stderr)
                    print(
                        len(cases),
                        implementation.label,
                        fmt.name,
                        round(time.perf_counter() - start),
                        flush=True,
                    )
    path.write_text(page(cases), encoding="utf-8")


def page(cases: list[Case]) -> str:
    short = [c for c in cases if c.found < GOAL]
    ways = {
        f"{EVALUATIONS} random bit patterns": [c.random for c in cases],
        "the stratified set": [c.stratified for c in cases],
        f"`precision_lab.search`, {EVALUATIONS} evaluations": [c.found for c in cases],
    }
    lines = [
        "# How near a search comes to the truth", "",
        f"{len(cases)} cases: every eager, upcast, compiled and module implementation of the report in bf16",
        "and fp16 (truth: all 65,536 inputs), and the committed sweeps of all 2³² fp32 inputs. What is",
        "exact everywhere are left out. Written by `python tests/quality/search_table.py`.", "",
        f"| way | cases at {GOAL:.0%} of the true maximum or more | median | worst |", "|---|--:|--:|--:|",
    ]  # fmt: skip
    for name, values in ways.items():
        reached = sum(v >= GOAL for v in values)
        lines.append(
            f"| {name} | {reached} ({reached / len(values):.1%}) | {float(np.median(values)):.4f} | "
            f"{min(values):.3g} |"
        )
    sizes = sorted({c.stratified_inputs for c in cases})
    lines += ["", f"The stratified set has {sizes[0]} to {sizes[-1]} inputs.", ""]
    lines += [f"## Where the search stays below {GOAL:.0%}", ""]
    lines += [
        "Most of these errors are the rounding noise of a format: they jump from input to input, and the",
        "largest stands alone among 65,536 with nothing about it to climb. For them there is the exhaustive",
        "pass.", "",
        *table(short),
    ] if short else ["Nowhere."]  # fmt: skip
    lines += ["", "## The hardest fifty", "", *table(sorted(cases, key=lambda c: c.found)[:50])]
    return "\n".join(lines) + "\n"


def table(cases: list[Case]) -> list[str]:
    return [
        "| implementation | format | output | true maximum, ulps | random | stratified | search |",
        "|---|---|---|--:|--:|--:|--:|",
        *(
            f"| {c.label} | {c.fmt} | {c.output} | {c.truth:.5g} | {c.random:.3g} | {c.stratified:.4f} | "
            f"{c.found:.4f} |"
            for c in cases
        ),
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
