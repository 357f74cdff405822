"""Do a model's weights look as they do before training?"""

from __future__ import annotations

from torch import nn


def looks_initial(model: nn.Module) -> bool | None:
    """Whether every normalisation has the constant weights and biases that it begins with.

    One step of training changes them, each element in its own way. None where no normalisation has weights.
    """
    parameters = [
        p.detach()
        for module in model.modules()
        if "norm" in type(module).__name__.lower()
        for p in module.parameters(recurse=False)
        if p.numel() > 1
    ]
    if not parameters:
        return None
    return all(bool((p == p.reshape(-1)[0]).all()) for p in parameters)


__all__ = ["looks_initial"]
