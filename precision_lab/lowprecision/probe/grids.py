"""Which runs a probe is made of: its configuration, and the file that a user may give."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from precision_lab.exceptions import UsageError
from precision_lab.implementations.subject import implementation_of
from precision_lab.lowprecision.probe.model import ModelConfig
from precision_lab.lowprecision.probe.run import Run, TrainingConfig
from precision_lab.lowprecision.readiness.remedies import get_remedy
from precision_lab.lowprecision.recipes.nvfp4 import GROUP
from precision_lab.system.toml_file import read_toml

BASELINE = "fp32"


@dataclass(frozen=True)
class Grid:
    """Runs from the beginning to the end, whose losses are compared.

    Attributes:
        subjects: FUNCTION/FORMULATION.
        recipes: fp32 is always among them.
        seeds: of weights and batches; the first so many numbers.
    """

    subjects: tuple[str, ...] = (
        "xielu/naive", "xielu/eps-expm1", "xielu/expm1", "xielu/stable [operator]", "xiprelu/factored",
        "relu2/torch", "swiglu/torch", "gelu/torch",
    )  # fmt: skip
    recipes: tuple[str, ...] = ("bf16", "delayed", "mxfp8")
    seeds: int = 3


@dataclass(frozen=True)
class AblationGrid:
    """xIELU taken apart as in the paper's Table 4; runs from the beginning, beside the first subject's."""

    subjects: tuple[str, ...] = (
        "xielu/zero-expm1", "xielu_cubic/expm1", "xielu_neg_xsilu/composed", "xielu_neg_silu/composed",
        "xielu_neg_zero/composed", "xielu_trainable_beta/zero-expm1", "xielu_fixed_alpha/zero-expm1",
        "xiprelu_fixed_alpha/factored",
    )  # fmt: skip
    recipes: tuple[str, ...] = ("bf16",)
    seeds: int = 3


@dataclass(frozen=True)
class AgedGrid:
    """Runs that are aged after a warm beginning in FP32, whose risk is predicted before they go on."""

    subjects: tuple[str, ...] = (
        "xielu/zero-expm1",
        "xiprelu/factored",
        "relu2/torch",
        "swiglu/torch",
        "gelu/torch",
    )
    recipes: tuple[str, ...] = ("bf16", "delayed", "current", "block", "mxfp8", "nvfp4")
    ageings: tuple[str, ...] = ("none", "severe", "extreme", "growing")
    seeds: int = 2


@dataclass(frozen=True)
class RemedyGrid:
    """Aged runs once more, with remedies."""

    subjects: tuple[str, ...] = ("xielu/zero-expm1", "relu2/torch")
    recipes: tuple[str, ...] = ("delayed", "current")
    ageings: tuple[str, ...] = ("extreme", "growing")
    remedies: tuple[str, ...] = ("smooth", "tanh", "alpha-cap", "edges")
    seeds: int = 2


@dataclass(frozen=True)
class FormulationGrid:
    """Aged runs of several formulations: is one that is right for small x right for large x too?"""

    subjects: tuple[str, ...] = ("xielu/naive", "xielu/expm1", "xielu/eps-expm1", "xielu/zero-expm1")
    recipes: tuple[str, ...] = ("bf16",)
    ageings: tuple[str, ...] = ("severe",)
    seeds: int = 1


@dataclass(frozen=True)
class ProbeConfig:
    """Everything a probe is determined by."""

    training: TrainingConfig = field(default_factory=TrainingConfig)
    runs: Grid = field(default_factory=Grid)
    ablations: AblationGrid = field(default_factory=AblationGrid)
    aged: AgedGrid = field(default_factory=AgedGrid)
    remedies: RemedyGrid = field(default_factory=RemedyGrid)
    formulations: FormulationGrid = field(default_factory=FormulationGrid)

    def __post_init__(self) -> None:
        grids = (self.runs, self.ablations, self.aged, self.remedies, self.formulations)
        for grid in grids:
            if grid.seeds < 0:
                raise UsageError(f"seeds={grid.seeds!r}: at least 0")
        rows = self.training.batch * self.training.model.context
        if any("nvfp4" in grid.recipes for grid in grids) and rows % GROUP:
            raise UsageError(
                f"batch={self.training.batch!r}, context={self.training.model.context!r}: nvfp4 transforms "
                f"groups of {GROUP} tokens, and {rows} are no multiple"
            )

    def every_run(self) -> list[Run]:
        """All runs, each once, in an order in which early results compare with something."""
        found = [
            Run(subject, recipe, seed)
            for grid in (self.runs, self.ablations)
            for seed in range(grid.seeds)
            for subject in grid.subjects
            for recipe in (BASELINE, *grid.recipes)
        ]
        for grid in (self.aged, self.formulations):
            for seed in range(grid.seeds):
                for subject in grid.subjects:
                    for ageing in grid.ageings:
                        found += [Run(subject, r, seed, ageing) for r in (BASELINE, *grid.recipes)]
        for seed in range(self.remedies.seeds):
            for subject in self.remedies.subjects:
                for ageing in self.remedies.ageings:
                    for remedy in ("none", *self.remedies.remedies):
                        if remedy != "none" and not applies(remedy, subject):
                            continue
                        found += [
                            Run(subject, r, seed, ageing, remedy) for r in (BASELINE, *self.remedies.recipes)
                        ]
        return list(dict.fromkeys(found))

    def predictions(self) -> list[Run]:
        """The aged runs' baselines, from which risks are predicted."""
        return [
            Run(subject, BASELINE, seed, ageing)
            for seed in range(self.aged.seeds)
            for subject in self.aged.subjects
            for ageing in self.aged.ageings
        ]

    def to_json(self) -> dict[str, Any]:
        """Every number."""
        return asdict(self)


def applies(remedy: str, subject: str) -> bool:
    """Whether a remedy changes anything: a cap on α_p needs one."""
    parameters = {p.name for p in implementation_of(subject).function.parameters}
    return math.isinf(get_remedy(remedy).alpha_cap) or "alpha_p" in parameters


def read_config(path: Path) -> ProbeConfig:
    """A TOML file with any of the tables training, model, runs, ablations, aged, remedies and formulations.

    What it leaves out has its default.

    Raises:
        ValueError: no such file, table, key, name or range; names what is wrong and the file.
    """
    data = read_toml(path, "--config")
    kinds: dict[str, type] = {
        "training": TrainingConfig, "model": ModelConfig, "runs": Grid, "aged": AgedGrid,
        "ablations": AblationGrid, "remedies": RemedyGrid, "formulations": FormulationGrid,
    }  # fmt: skip
    made: dict[str, Any] = {}
    for table, values in data.items():
        if table not in kinds or not isinstance(values, dict):
            raise UsageError(f"{path}: [{table}]: expected one of the tables {', '.join(kinds)}")
        hints = typing.get_type_hints(kinds[table])
        known = {f.name for f in dataclasses.fields(kinds[table])} - {"model"}
        for key, value in values.items():
            if key not in known:
                raise UsageError(
                    f"{path}: [{table}] {key}={value!r}: expected one of {', '.join(sorted(known))}"
                )
            wanted = hints[key]
            if wanted is float and isinstance(value, int) and not isinstance(value, bool):
                values[key] = float(value)
            elif wanted in (int, float):
                if type(value) is not wanted:
                    raise UsageError(f"{path}: [{table}] {key}={value!r}: expected {wanted.__name__}")
            elif not isinstance(value, list) or not all(isinstance(v, str) for v in value):
                raise UsageError(f"{path}: [{table}] {key}={value!r}: expected a list of names")
            else:
                values[key] = tuple(value)
        try:
            made[table] = kinds[table](**values) if table != "training" else values
        except ValueError as error:
            raise UsageError(f"{path}: [{table}] {error}") from error
    try:
        model = {"model": made.pop("model")} if "model" in made else {}
        training = TrainingConfig(**made.pop("training", {}), **model)
        config = ProbeConfig(training, **made)
        config.every_run()
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    return config


__all__ = ["BASELINE", "ProbeConfig", "applies", "read_config"]
