"""Everything the report says about recipes below BF16, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path as FolderPath
from typing import Any, get_args

from precision_lab.functions import get_function
from precision_lab.implementations import implementations_for
from precision_lab.lowprecision.probe.model import AGEINGS
from precision_lab.lowprecision.probe.prediction import summary
from precision_lab.lowprecision.probe.probe import digest, load
from precision_lab.lowprecision.readiness.block_error import FORMULATIONS, block_errors
from precision_lab.lowprecision.readiness.maps import maps
from precision_lab.lowprecision.readiness.passage import Path
from precision_lab.lowprecision.readiness.readiness import NOISE_LIMIT, modelled_layers, readiness
from precision_lab.lowprecision.readiness.remedies import REMEDIES
from precision_lab.lowprecision.readiness.risk import numbers
from precision_lab.lowprecision.recipes.recipes import RECIPES
from precision_lab.results.execution import EAGER
from precision_lab.system.progress import Progress

# What verdicts are given for: inputs as a healthy run has them, and with channels that have grown.
INPUTS = {"steady": ("normal", "student-t"), "outliers": ("outliers",)}
BLOCK_RECIPES = ("fp32", "bf16", "delayed", "current", "block", "mxfp8", "nvfp4")


def subjects(functions: Sequence[str]) -> list[tuple[str, str]]:
    """(function, parameter set) that are judged: every named set of xIELU, the initial one of others."""
    found = []
    for function in functions:
        sets = get_function(function).parameter_sets
        names = (
            [n for n in sets if n in ("init", "nearly-linear", "first-layer")] if function == "xielu" else []
        )
        found += [(function, name) for name in names or ["init"]]
    return found


def examine(
    functions: Sequence[str], probe: FolderPath | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Verdicts, maps and block errors for modelled pre-activations, and a probe's results.

    Args:
        functions: names; those that are no subject of readiness are passed over.
        probe: folder of a probe that was run.

    Raises:
        ValueError: probe holds none.
    """
    judged = [f for f in ("xielu", "xiprelu", "relu2", "swiglu", "gelu", "silu") if f in functions]
    work = subjects(judged)
    found: dict[str, Any] = {"readiness": [], "probe": None}
    for done, (function, name) in enumerate(work):
        params = get_function(function).parameter_sets.get(name)
        for inputs, distributions in INPUTS.items():
            layers = modelled_layers(function, params, distributions, tokens=128, channels=256)
            said = readiness(layers, source=f"{function} at {name}, modelled pre-activations")
            found["readiness"].append(
                {"function": function, "params_name": name, "inputs": inputs, **said.to_json()}
            )
        if progress is not None:
            progress("readiness", done + 1, len(work))
    found |= function_json({f: None for f in judged if f in ("xielu", "xiprelu")})
    if probe is not None:
        found["probe"] = probe_json(probe)
    return found


def function_json(functions: Mapping[str, Mapping[str, float] | None]) -> dict[str, Any]:
    """Paths of functions, and maps and block errors of those that have them (both α, FORMULATIONS).

    Args:
        functions: parameters by name; initial ones for None.
    """
    found: dict[str, Any] = {"maps": [], "blocks": [], "paths": []}
    for function, params in functions.items():
        found["paths"] += paths_json(function, params)
        names = {i.name for i in implementations_for(get_function(function), EAGER)}
        if {"alpha_p", "alpha_n"} <= {p.name for p in get_function(function).parameters}:
            found["maps"] += [{"function": function, **asdict(m)} for m in maps(function)]
        formulations = [f for f in FORMULATIONS if f.partition(" [")[0] in names]
        if formulations:
            errors = block_errors(function, params, recipes=BLOCK_RECIPES, formulations=formulations)
            found["blocks"] += [{"function": function, **asdict(e)} for e in errors]
    return found


def paths_json(function: str, params: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """Noise of a function on every path through every recipe, normal inputs."""
    (layer,) = modelled_layers(function, params, ("normal",), tokens=128, channels=256)
    found = []
    for recipe in RECIPES:
        for path in get_args(Path):
            n = numbers(layer, recipe, path=path)
            found.append(
                {
                    "function": function, "recipe": recipe, "path": path,
                    "forward_noise": n.forward_noise, "gradient_noise": n.gradient_noise,
                }
            )  # fmt: skip
    return found


def probe_json(directory: FolderPath) -> dict[str, Any]:
    """A probe's cells, losses and gaps, and what its runs looked like, without every step's loss."""
    data = load(directory)
    runs = []
    for run in data["runs"]:
        record = {k: v for k, v in run["record"].items() if k not in ("losses", "gradient_norms")}
        norms = [v for v in run["record"]["gradient_norms"] if v is not None]
        runs.append({**run["run"], **record, "largest_gradient_norm": max(norms, default=None)})
    return {
        **data["manifest"],
        **summary(data),
        "runs": runs,
        "digest": digest(data),
        "ageings": {a.name: a.description for a in AGEINGS.values()},
        "remedies": {r.name: r.description for r in REMEDIES.values()},
        "noise_limit": NOISE_LIMIT,
    }


__all__ = ["examine", "function_json", "probe_json"]
