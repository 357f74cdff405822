"""Measures kernels that run on a CPU and writes reports/field/cpu.md: what is wrong, and how to see it again.

python tests/field/on_cpu.py reports/field [NAME …]     (no name: all; `page`: none, the page alone)
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from precision_lab.formats import get_format
from precision_lab.functions import get_function
from precision_lab.inputs.sets import regions
from precision_lab.results import Finding, Measurement, ranked, strict_json
from precision_lab.verifying.judge import describe
from precision_lab.verifying.properties import DEFAULT_PROPERTIES
from precision_lab.verifying.verdict import Verdict
from precision_lab.verifying.verify import verify

KERNELS = "tests/field/kernels.py"
WIDE = ("fp32", "bf16", "fp16")
EVERY = ("fp64", *WIDE, "e4m3", "e5m2")
TORCH = ("silu", "gelu", "gelu_tanh", "elu", "celu", "selu", "softplus", "mish", "relu2")
BOUND = 1.0  # ulps: faithful rounding and a little more
SAMPLE = 1_000_000
TRAINING = (
    "ignores_upstream", "misreads_upstream", "loses_nonfinite", "misreads_operand", "training_step_differs",
    "stale_parameters", "reduction_incomplete", "reduction_inaccurate",
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    name: str
    function: str
    what: str
    packages: tuple[str, ...]
    formats: tuple[str, ...]
    compiled: bool = False
    framework: str | None = None


def subjects() -> list[Subject]:
    functions = {"celu": "elu"}
    found = []
    for name in TORCH:
        function = functions.get(name, name)
        call = {"relu2": "relu(x).square()", "gelu_tanh": "gelu(x, approximate='tanh')"}.get(
            name, f"{name}(x)"
        )
        found.append(Subject(name, function, f"torch.nn.functional.{call}", ("torch",), EVERY))
        found.append(
            Subject(
                name,
                function,
                f"torch.nn.functional.{call} under torch.compile",
                ("torch",),
                WIDE,
                compiled=True,
            )
        )
    hub = "transformers.activations.XIELUActivation"
    found += [
        Subject("transformers_xielu", "xielu", hub, ("transformers", "torch"), EVERY),
        Subject("mlx_lm_xielu", "xielu", "mlx_lm.models.activations.xielu", ("mlx-lm", "mlx"), WIDE),
        Subject("ggml_xielu", "xielu", "ggml_xielu (llama.cpp, CPU, forward)", ("llama-cpp-python",), WIDE),
        Subject("ggml_silu", "silu", "ggml_silu (forward)", ("llama-cpp-python",), WIDE),
        Subject("ggml_gelu_tanh", "gelu_tanh", "ggml_gelu (forward)", ("llama-cpp-python",), WIDE),
        Subject("formula", "xielu", "the formula with expm1, torch eager", ("torch",), EVERY),
        Subject("formula", "xielu", "the formula with expm1, torch.compile", ("torch",), WIDE, compiled=True),
        Subject("formula_jax", "xielu", "the formula with expm1, JAX", ("jax",), WIDE, framework="jax"),
    ]
    return found


def properties(s: Subject) -> tuple[str, ...]:
    if s.compiled or s.framework:  # compiled anew for every length: places and lengths, nothing else
        return ("determinism", "positions", "lengths") if s.compiled else ("determinism", "positions")
    return (*DEFAULT_PROPERTIES, "compilation") if s.name == "transformers_xielu" else DEFAULT_PROPERTIES


def tried(s: Subject) -> Verdict:
    return verify(
        f"{KERNELS}:{s.name}", s.function, fmts=s.formats, max_ulp=BOUND, framework=s.framework,
        compiled=s.compiled, properties=properties(s), isolate=True, time_limit=300,
        params=get_function(s.function).check_params(),
    )  # fmt: skip


# -- what a fault means ------------------------------------------------------------------------


def shares(function: str, fmt: str) -> dict[str, float]:
    """Part of a standard normal's inputs in each region."""
    source, definition = get_format(fmt), get_function(function)
    x = source.round(np.random.Generator(np.random.PCG64(1)).standard_normal(SAMPLE))
    names, index = regions(x, source, definition, definition.check_params())
    counts = np.bincount(index, minlength=len(names))
    return {name: int(n) / SAMPLE for name, n in zip(names, counts, strict=True)}


def effect(fault: Finding, m: Measurement | None) -> str:
    """What a fault does to training, by rules that the report states."""
    gradient = fault.output.startswith("grad")
    if fault.code in ("crashed", "hung", "out_of_memory", "raised", "not_differentiable", "wrong_dtype"):
        return "does not run"
    if fault.code == "nonfinite" and m is not None and m.nonfinite_witness is not None:
        w = m.nonfinite_witness
        if np.isinf(w.x) or np.isnan(w.x):
            return "only at ±inf"
        if np.isnan(w.computed):
            return "stops training"
        return "overflows early"
    if fault.code == "wrong_sign":
        return "pushes the wrong way" if gradient else "wrong sign"
    if fault.code == "inaccurate":
        half = 2.0 ** (get_format(fault.fmt).precision / 2)
        if abs(fault.ulps) >= 2.0 ** (get_format(fault.fmt).precision - 1):
            return "no bit right"
        return "half the bits lost" if abs(fault.ulps) >= half else "noise"
    if fault.code == "flushes_subnormals":
        return "noise"
    if fault.code == "biased":
        return "leans"
    if fault.code in TRAINING:
        return "wrong in training"
    return "depends on circumstances"


def replay(s: Subject, fault: Finding) -> str:
    """Of a fault seen at one input, that input; of the others, the property again."""
    if fault.replay:
        return fault.replay
    words = f"precision-lab verify {KERNELS}:{s.name} --function {s.function} --format {fault.fmt}"
    if fault.output and not fault.output.startswith("grad_"):
        words += f" --output {fault.output}"
    return (
        words + (" --compiled" if s.compiled else "") + (f" --framework {s.framework}" if s.framework else "")
    )


def entry(s: Subject, verdict: Verdict, seconds: float) -> dict[str, Any]:
    by_case = {(m.fmt, m.output): m for m in verdict.measurements}
    defects = []
    absent = {fmt for fmt in s.formats if all(m.failure for m in verdict.measurements if m.fmt == fmt)}
    for fault in ranked(verdict.faults):
        if fault.fmt in absent:  # a format that the library does not offer is no defect of what it offers
            continue
        m = by_case.get((fault.fmt, fault.output))
        share = (
            shares(s.function, fault.fmt).get(fault.region) if fault.region and fault.fmt != "fp64" else None
        )
        defects.append(
            {
                **fault.to_json(), "effect": effect(fault, m), "share_of_normal": share,
                "inputs": None if m is None else m.n_inputs, "replay": replay(s, fault),
            }
        )  # fmt: skip
    return {
        "subject": asdict(s),
        "versions": {p: importlib.metadata.version(p) for p in s.packages},
        "seconds": round(seconds, 1),
        "properties": list(properties(s)),
        "outputs": [
            {
                "fmt": m.fmt, "output": m.output, "inputs": m.n_inputs, "selection": m.inputs,
                "failure": None if m.failure is None else m.failure.message,
                "max_ulp": m.max_ulp, "wrong_sign": m.wrong_sign, "nonfinite": m.nonfinite_mismatch,
                "not_correctly_rounded": m.not_correctly_rounded,
            }
            for m in verdict.measurements
        ],
        "defects": defects,
        "notes": list(verdict.notes),
        "not_examined": [asdict(gap) for gap in verdict.not_examined],
        "undecided": [describe(fault) for fault in verdict.undecided],
    }  # fmt: skip


# -- the page ------------------------------------------------------------------------------------

HEAD = """\
# The field on a CPU

Every xIELU that installs from the package registry and runs without a GPU, the formula as one writes it,
and torch's own activations, against certified exact values: 8- and 16-bit formats at all their inputs, fp32
and fp64 at stratified and directed ones, forward and every gradient the kernel has, at the function's initial
parameters. A **defect** is an error above {bound:g} ulp, a wrong sign, a wrong infinity or NaN, roundings
that lean to one side, or what the properties named under each kernel find. Each has a command that shows it
again, from the root of this repository with the packages named installed;
`python tests/field/on_cpu.py reports/field` measures all of it anew. Causes, and what goes to maintainers,
are [written as bug reports](../../docs/field-findings.md).

vLLM and SGLang have an xIELU too; their packages need CUDA and were not run here. The packages of
transformers and mlx-lm were run on CPU; the fused CUDA kernel that transformers looks for is on no registry.
llama.cpp's library computes without gradients. FP8 tensors are taken by none of them.

**Effect.** *stops training*: NaN for a finite input. *overflows early*: an infinity where the exact result
is a number of the format, or the reverse. *pushes the wrong way*: a gradient of the wrong sign. *no bit
right*: an error as large as the result. *half the bits lost*: an error above 2^(p/2) ulps of p significant
bits. *noise*: less. *leans*: results rounded to one side. *only at ±inf*: infinite or NaN inputs alone.
*wrong in training*: a gradient that is not what the upstream gradient, the other operand or the sum make it.
*depends on circumstances*: results that differ with how the kernel is called. **Share**: how much of a
standard normal lies in the region of the worst error (of 10⁶ drawn).

{machine}

"""


def page(entries: list[dict[str, Any]]) -> str:
    lines = [HEAD.format(bound=BOUND, machine=machine())]
    lines += ["## At a glance\n", "Largest error in ulps, forward / worst gradient.\n"]
    lines += ["| kernel | " + " | ".join(EVERY) + " | defects |", "|---|" + "---|" * len(EVERY) + "--:|"]
    for e in entries:
        cells = [glance(e, fmt) for fmt in EVERY]
        s = e["subject"]
        lines.append(f"| {title(s)} | " + " | ".join(cells) + f" | {len(e['defects'])} |")
    for e in entries:
        lines += ["", f"## {title(e['subject'])}", "", versions(e)]
        gaps = dict.fromkeys(f"{g['what']} [{g['fmt']}]: {g['reason']}" for g in e.get("not_examined", ()))
        if gaps:
            lines += ["", "<details><summary>not examined</summary>", "", *(f"- {g}" for g in gaps)]
            lines += ["", "</details>"]
        if not e["defects"]:
            lines.append("\nNo defect found" + (" in what was examined." if gaps else "."))
            continue
        lines += [
            "",
            "| | format | output | what | inputs | worst, ulps | region (share) | effect | witness |",
        ]
        lines += ["|--:|---|---|---|--:|--:|---|---|---|"]
        lines += [f"| {i} {row(d)}" for i, d in enumerate(e["defects"], 1)]
        lines += ["", "<details><summary>replay</summary>", ""]
        lines += [f"{i}. `{d['replay']}`" for i, d in enumerate(e["defects"], 1)]
        lines += ["", "</details>"]
        if e["notes"]:
            lines += ["", f"{len(e['notes'])} more differences stay within the bound."]
    return "\n".join(lines) + "\n"


def title(s: dict[str, Any]) -> str:
    return f"`{s['name']}`" + (" compiled" if s["compiled"] else "") + f" ({s['function']})"


def versions(e: dict[str, Any]) -> str:
    installed = ", ".join(f"{name} {version}" for name, version in e["versions"].items())
    return (
        f"{e['subject']['what']} ({installed}); examined for {', '.join(e['properties'])}; {e['seconds']} s."
    )


def glance(e: dict[str, Any], fmt: str) -> str:
    cases = [o for o in e["outputs"] if o["fmt"] == fmt]
    if not cases:
        return ""
    ran = [o for o in cases if o["failure"] is None]
    if not ran:
        return "not supported"
    forward = [o["max_ulp"] for o in ran if o["output"] == "forward"]
    gradients = [o["max_ulp"] for o in ran if o["output"] != "forward"]
    figures = [figure(max(group, key=float)) if group else "–" for group in (forward, gradients)]
    return " / ".join(figures)


def figure(value: Any) -> str:
    return f"{float(value):.3g}"


def row(d: dict[str, Any]) -> str:
    witness = d["message"].replace("|", "\\|")
    region = d["region"] + (f" ({d['share_of_normal']:.2g})" if d["share_of_normal"] is not None else "")
    inputs = f"{d['count']} of {d['inputs']}" if d["inputs"] else f"{d['count']}"
    ulps = "" if np.isnan(float(d["ulps"])) else figure(d["ulps"])
    said = d["effect"] if "effect" in d else d["severity"]  # rows of earlier versions had it by that name
    cells = (d["fmt"], d["output"], d["kind"], inputs, ulps, region, said, witness)
    return "| " + " | ".join(cells) + " |"


def machine() -> str:
    return f"Measured on CPU, Python {platform.python_version()}, {platform.system()} {platform.machine()}."


def main(folder: Path, only: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "cpu.json"
    entries: dict[str, dict[str, Any]] = {}
    if kept.exists():
        entries = {title(e["subject"]): e for e in json.loads(kept.read_text(encoding="utf-8"))}
    wanted = {title(asdict(s)): s for s in subjects()}
    for name, s in wanted.items():
        if only and s.name not in only:
            continue
        start = time.perf_counter()
        entries[name] = entry(s, tried(s), time.perf_counter() - start)
        print(f"{name}: {len(entries[name]['defects'])} defects in {entries[name]['seconds']} s", flush=True)
        write(kept, [entries[name] for name in wanted if name in entries])
    stored = json.loads(kept.read_text(encoding="utf-8"))
    (folder / "cpu.md").write_text(page(stored), encoding="utf-8")


def write(path: Path, entries: list[dict[str, Any]]) -> None:
    path.write_text(strict_json(entries) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
