"""Reproductions of findings that need nothing of the lab's, and what they printed.

python tests/field/reproductions.py [--environments FOLDER] [PACKAGE …]   runs them, keeps what they print

Those of Triton kernels are run on the lab's emulated GPU, in the package's environment; what ships as machine
code needs a real one and is not run. Those for a CPU run in this interpreter, where it has the package.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from string import Template
from typing import Any

from bug_reports import Report
from environments import environment
from package import packages
from run import ROOT, variables

from precision_lab.formats import get_format
from precision_lab.functions import get_function
from precision_lab.results import strict_json

KEPT = "reproductions.json"
SECONDS = 600
# mpmath's own words, written from the definitions: they share nothing with the lab's oracle.
FORMULAS = {
    "celu": "x if x > 0 else alpha * mp.expm1(x / alpha)",
    "elu": "x if x > 0 else alpha * mp.expm1(x)",
    "geglu": "b * x * mp.erfc(-x / mp.sqrt(2)) / 2",
    "geglu_tanh": "b * x / (1 + mp.exp(-2 * mp.sqrt(2 / mp.pi) * (x + 0.044715 * x**3)))",
    "gelu": "x * mp.erfc(-x / mp.sqrt(2)) / 2",
    "gelu_tanh": "x / (1 + mp.exp(-2 * mp.sqrt(2 / mp.pi) * (x + 0.044715 * x**3)))",
    "logsigmoid": "-mp.log1p(mp.exp(-x))",
    "mish": "x * mp.tanh(mp.log1p(mp.exp(x)))",
    "reglu": "b * max(x, 0)",
    "relu": "max(x, 0)",
    "relu2": "max(x, 0) ** 2",
    "selu": "scale * x if x > 0 else scale_alpha * mp.expm1(x)",
    "sigmoid": "1 / (1 + mp.exp(-x))",
    "silu": "x / (1 + mp.exp(-x))",
    "softplus": "mp.log1p(mp.exp(x))",
    "swiglu": "b * x / (1 + mp.exp(-x))",
    "tanh": "mp.tanh(x)",
}
FAR = "1e6"  # stands for an infinity: what a result tends to is reached there to more digits than are printed


def reproduction(report: Report) -> str:
    """Python that shows the worst finding of a report; "" where its note says nothing of how."""
    note = report.note
    if note is None:
        return ""
    witness = report.told.witness
    if note.reproduction:
        known = {} if witness is None else {"x": literal(witness.x), "dtype": _dtype(report)}
        return Template(note.reproduction.strip()).safe_substitute(known)
    return _composed(report) if note.call else ""


def _dtype(report: Report) -> str:
    return f"torch.{get_format(report.told.fmt).torch_name}"


def literal(x: float) -> str:
    return repr(x).replace("e+", "e") if math.isfinite(x) else f'float("{x}")'


def _composed(report: Report) -> str:
    """The kernel at the witness, and the function there by mpmath."""
    note, worst = report.note, report.told
    assert note is not None and worst.witness is not None
    x, wanted = worst.witness.x, worst.output.removeprefix("grad_")
    values = get_function(worst.function).check_params()
    tensors = [name for name in values if re.search(rf"\b{name}\b", note.call)]
    names = ["x", *tensors]
    slope = worst.output != "forward"

    def leaf(name: str) -> str:
        return ", requires_grad=True" if slope and name == wanted else ""

    device = ', device="cuda"' if report.target else ""
    at = [f"{'-' if x < 0 else ''}{FAR}" if math.isinf(x) else "x.item()", *(f"{n}.item()" for n in tensors)]
    orders = tuple(int(name == wanted) for name in names)
    if not slope:
        exact = f"f({', '.join(f'mp.mpf({a})' for a in at)})"
    elif tensors:
        exact = f"mp.diff(f, ({', '.join(at)}), {orders})"
    else:
        exact = f"mp.diff(f, {at[0]})"
    lines = [
        "import torch", "from mpmath import mp  # pip install mpmath", *note.uses.split("\n"), "",
        "mp.dps = 60",
        *(f"{n} = {v!r}" for n, v in values.items() if n not in tensors),
        f"f = lambda {', '.join(names)}: {FORMULAS[worst.function]}",
        f"x = torch.tensor([{literal(x)}], dtype={_dtype(report)}{device}{leaf('x')})",
        *(f"{n} = torch.full_like(x, {values[n]!r}{leaf(n)})" for n in tensors),
        f"y = {note.call}",
        *([f"(computed,) = torch.autograd.grad(y, {wanted}, torch.ones_like(y))"] if slope else []),
        f'print("computed", {"computed" if slope else "y"}.item(), "expected", mp.nstr({exact}, 8))',
    ]  # fmt: skip
    return "\n".join(line for k, line in enumerate(lines) if line or k == 2 + len(note.uses.split("\n")))


def shows(report: Report, printed: str) -> bool:
    """Whether what a reproduction printed has the finding."""
    note, witness = report.note, report.told.witness
    if note is not None and note.shows:
        return re.search(note.shows, printed) is not None
    found = re.search(r"^computed (.+) expected (.+)$", printed, re.MULTILINE)
    if found is None:
        return False
    if note is not None and note.call and witness is not None:
        return float(found[1]) == witness.computed or (
            math.isnan(witness.computed) and found[1].strip("-") == "nan"
        )
    return found[1] != found[2]


# -- running them ------------------------------------------------------------------------------

DRIVER = """
import importlib.metadata, sys
if sys.argv[2]:
    from precision_lab.virtual_gpu.install import install
    install(sys.argv[2])
try:
    exec(compile(open(sys.argv[1]).read(), "reproduction.py", "exec"))
finally:
    for name in sys.argv[3:]:
        try:
            print("version", name, importlib.metadata.version(name), file=sys.stderr)
        except importlib.metadata.PackageNotFoundError:
            pass
"""


def printed(
    code: str, python: Path | str, target: str, needs: tuple[str, ...], known: dict[str, str]
) -> tuple[str, str]:
    """What it prints, or the last line of what it raises; and the versions of what it needs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reproduction.py"
        path.write_text(code, encoding="utf-8")
        done = subprocess.run(
            [str(python), "-c", DRIVER, str(path), target, *needs],
            cwd=folder, env={**known, "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    versions = ", ".join(re.findall(r"^version (.+)$", done.stderr, re.MULTILINE))
    lines = [line for line in done.stdout.splitlines() if line.startswith("computed")]
    if done.returncode != 0:
        kinds = re.compile(r"[\w.]*(Error|Exception|Fault)\b")
        said = [line for line in done.stderr.splitlines() if kinds.match(line)]
        lines.append(said[-1] if said else f"exit code {done.returncode}: {done.stderr[-300:]}")
    return "\n".join(lines), versions


def run(found: list[Report], environments: Path, kept: dict[str, Any], path: Path) -> None:
    known = {package.name: package for package in packages()}
    for report in found:
        code = reproduction(report)
        if not code or report.machine_code:
            continue
        python: Path | str = sys.executable
        needs, where, given = report.needs, "a CPU", dict(os.environ)
        if report.target:
            package = known[report.name]
            python, given = environment(package, environments), variables(package)
            needs, where = ("torch", "triton"), f"the lab's emulated {report.target}"
        said, versions = printed(code, python, report.target, needs, given)
        good = shows(report, said)
        kept[key(report)] = {
            "code": code,
            "printed": said,
            "on": where + (f" ({versions})" if versions else ""),
            "shows": good,
        }
        path.write_text(strict_json(kept) + "\n", encoding="utf-8")
        print(f"{'shown' if good else 'NOT SHOWN'}: {key(report)}\n    {said}", flush=True)


def key(report: Report) -> str:
    return f"{report.package}: {report.title}"


def main(words: list[str]) -> None:
    from findings_page import issues, load  # which needs this module

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--field", type=Path, default=ROOT / "reports" / "field")
    parser.add_argument("--environments", type=Path, default=Path(sys.prefix) / "field")
    parser.add_argument("packages", nargs="*", help="names of their files, or `cpu`")
    asked = parser.parse_args(words)
    path = asked.field / KEPT
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    chosen = [issue.worst for issue in issues(load(asked.field))]
    keys = {key(report) for report in chosen}
    wanted = [
        r for r in chosen
        if not asked.packages or r.name in asked.packages or ("cpu" in asked.packages and not r.target)
    ]  # fmt: skip
    run(wanted, asked.environments, kept, path)
    kept = {name: kept[name] for name in sorted(kept) if name in keys}
    path.write_text(strict_json(kept) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
