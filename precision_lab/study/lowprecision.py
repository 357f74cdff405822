"""Everything the report says about recipes below BF16, as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path as FolderPath
from typing import Any, get_args

from precision_lab.formats import FP32
from precision_lab.functions import Activation
from precision_lab.implementations import implementations_for, resolve
from precision_lab.lowprecision.probe.ageing import AGEINGS
from precision_lab.lowprecision.probe.folder import digest, load
from precision_lab.lowprecision.probe.prediction import summary
from precision_lab.lowprecision.readiness.block_error import block_errors
from precision_lab.lowprecision.readiness.maps import maps
from precision_lab.lowprecision.readiness.passage import Path
from precision_lab.lowprecision.readiness.readiness import NOISE_LIMIT, modelled_layers, readiness
from precision_lab.lowprecision.readiness.remedies import REMEDIES
from precision_lab.lowprecision.readiness.risk import numbers
from precision_lab.lowprecision.recipes.recipes import RECIPES
from precision_lab.results.execution import EAGER
from precision_lab.results.profile import DEFAULT, Judged
from precision_lab.system.progress import Progress

# What verdicts are given for: inputs as a healthy run has them, and with channels that have grown.
INPUTS = {"steady": ("normal", "student-t"), "outliers": ("outliers",)}


def subjects(
    functions: Sequence[Activation], profile: Judged = DEFAULT.lowprecision
) -> list[tuple[Activation, str]]:
    """(function, parameter set) that are judged: the sets that the profile names, or else the initial one."""
    return [
        (function, name)
        for function in functions
        for name in profile.parameter_sets.get(function.name, ("init",))
    ]


def examine(
    functions: Sequence[Activation],
    probe: FolderPath | None = None,
    progress: Progress | None = None,
    profile: Judged = DEFAULT.lowprecision,
) -> dict[str, Any]:
    """Verdicts, maps and block errors for modelled pre-activations, and a probe's results.

    Args:
        functions: those measured; the ones that the profile does not judge are passed over.
        probe: folder of a probe that was run.

    Raises:
        ValueError: probe holds none.
    """
    by_name = {f.name: f for f in functions}
    judged = [by_name[name] for name in profile.functions if name in by_name]
    work = subjects(judged, profile)
    found: dict[str, Any] = {"readiness": [], "probe": None}
    for done, (function, name) in enumerate(work):
        params = function.parameter_sets.get(name)
        for inputs, distributions in INPUTS.items():
            layers = modelled_layers(function, params, distributions, tokens=128, channels=256)
            source = f"{function.name} at {name}, modelled pre-activations"
            said = readiness(layers, source=source, compared=profile.compared)
            found["readiness"].append(
                {"function": function.name, "params_name": name, "inputs": inputs, **said.to_json()}
            )
        if progress is not None:
            progress("readiness", done + 1, len(work))
    found |= function_json({f: None for f in judged if f.name in profile.mapped}, profile)
    if probe is not None:
        found["probe"] = probe_json(probe)
    return found


def function_json(
    functions: Mapping[Activation, Mapping[str, float] | None], profile: Judged = DEFAULT.lowprecision
) -> dict[str, Any]:
    """Paths of functions, and maps and block errors of those that have them (both α, formulations).

    Args:
        functions: with their parameters; initial ones for None.
    """
    found: dict[str, Any] = {"maps": [], "blocks": [], "paths": []}
    for function, params in functions.items():
        found["paths"] += paths_json(function, params)
        names = {i.name for i in implementations_for(function, EAGER)}
        if {"alpha_p", "alpha_n"} <= {p.name for p in function.parameters}:
            found["maps"] += [{"function": function.name, **asdict(m)} for m in maps(function)]
        formulations = {
            name: resolve(name, function, FP32)
            for name in profile.block_formulations
            if name.partition(" [")[0] in names
        }
        if formulations:
            errors = block_errors(function, params, recipes=profile.block_recipes, formulations=formulations)
            found["blocks"] += [{"function": function.name, **asdict(e)} for e in errors]
    return found


def paths_json(function: Activation, params: Mapping[str, float] | None = None) -> list[dict[str, Any]]:
    """Noise of a function on every path through every recipe, normal inputs."""
    (layer,) = modelled_layers(function, params, ("normal",), tokens=128, channels=256)
    found = []
    for recipe in RECIPES:
        for path in get_args(Path):
            n = numbers(layer, recipe, path=path)
            found.append(
                {
                    "function": function.name, "recipe": recipe, "path": path,
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
