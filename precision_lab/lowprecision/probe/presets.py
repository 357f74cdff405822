"""Probes with a name: configurations that answer one question."""

from __future__ import annotations

from precision_lab.exceptions import unknown_name
from precision_lab.lowprecision.probe.grids import (
    AblationGrid,
    AgedGrid,
    FormulationGrid,
    Grid,
    ProbeConfig,
    RemedyGrid,
)
from precision_lab.lowprecision.probe.model import ModelConfig
from precision_lab.lowprecision.probe.run import TrainingConfig

# The 13 activations of Table 4 of arXiv 2411.13010, in its order. What is trained in each (both α but where
# they are fixed, β in one of them alone) is part of the function; all start at α = 0.8, β = 0.5.
TABLE_4 = (
    "xielu/zero-expm1", "xiprelu/factored", "swiglu/torch", "xielu_cubic/expm1", "xielu_neg_xsilu/composed",
    "xielu_trainable_beta/zero-expm1", "xiprelu_fixed_alpha/factored", "xsilu/composed", "relu2/torch",
    "xielu_fixed_alpha/zero-expm1", "xielu_neg_silu/composed", "xielu_neg_zero/composed", "silu/torch",
)  # fmt: skip


def table_4() -> ProbeConfig:
    """Every activation of the paper's ablation, trained from the beginning in FP32, seed by seed.

    Ten times the default's steps with twice its weights, an MLP that is four times as wide as the model as in
    the paper, and the weight decay of its ablation. Some two and a half hours of a core. Runs go seed by seed
    over all activations, so that whatever is done when it is stopped compares all of them.
    """
    return ProbeConfig(
        TrainingConfig(
            steps=1000, batch=8, learning_rate=3e-3, weight_decay=0.01, watch_every=100, checkpoint_every=200,
            model=ModelConfig(width=64, layers=4, heads=4, hidden=256, context=128),
        ),
        Grid(TABLE_4, (), 10),
        AblationGrid((), (), 0),
        AgedGrid((), (), (), 0),
        RemedyGrid((), (), (), (), 0),
        FormulationGrid((), (), (), 0),
    )  # fmt: skip


PRESETS = {"table-4": table_4}


def get_preset(name: str) -> ProbeConfig:
    """The configuration of a name.

    Raises:
        ValueError: there is none; suggests one.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]()


__all__ = ["PRESETS", "TABLE_4", "get_preset"]
