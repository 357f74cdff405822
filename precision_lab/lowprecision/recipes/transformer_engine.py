"""What to paste into a training script for a recipe: Transformer Engine's class, and what stays in BF16.

Nothing of Transformer Engine is imported. Classes, arguments and what hardware they ask for are those of its
2.20.2 (`transformer_engine/common/recipe/__init__.py` and `check_recipe_support` in
`pytorch/quantization.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from precision_lab.lowprecision.recipes.base import Recipe

SOURCE = "Transformer Engine 2.20, pytorch/quantization.py"
# Whatever a module computes is outside of the recipe then; its backward pass goes as the forward one.
IN_BF16 = """\
import transformer_engine.pytorch as te

def in_bf16(module):
    forward = module.forward
    def plain(*args, **kwargs):
        with te.autocast(enabled=False):
            return forward(*args, **kwargs)
    module.forward = plain
"""


def recipe_lines(recipe: Recipe) -> tuple[str, ...]:
    """Lines of Python that make `recipe`; none for a recipe that Transformer Engine has not.

    A scale of a power of two, or one that is none, is asked for by an environment variable, which is read
    when Transformer Engine is imported: the argument of the same meaning reaches a field that nothing reads.
    """
    if not recipe.constructor:
        return ()
    lines = []
    if recipe.environment:
        lines = ["import os", f'os.environ["{recipe.environment}"] = "1"  # before the import below']
    name = recipe.constructor.partition("(")[0]
    return (
        *lines,
        f"from transformer_engine.common.recipe import {name}",
        f"recipe = {recipe.constructor}",
    )


def training_lines(recipe: Recipe, keep: Sequence[str] = ()) -> str:
    """A script's lines: the recipe, the modules that keep BF16, and the step under `autocast`.

    "" where Transformer Engine has no such recipe.

    Args:
        keep: qualified names of modules.
    """
    lines = recipe_lines(recipe)
    if not lines:
        return ""
    text = "\n".join(lines) + "\n"
    if not keep:
        text += "import transformer_engine.pytorch as te\n"
    else:
        named = "".join(f'    "{name}",\n' for name in keep)
        text += f"{IN_BF16}\nfor name in (\n{named}):\n    in_bf16(model.get_submodule(name))\n"
    return text + "\nwith te.autocast(enabled=True, recipe=recipe):\n    y = model(x)\n"


__all__ = ["IN_BF16", "SOURCE", "recipe_lines", "training_lines"]
