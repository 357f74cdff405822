"""What a verdict tells to do: code that runs, for recipes of Transformer Engine, and what to begin with."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from torch import Tensor, nn

from precision_lab.cli.main import app
from precision_lab.lowprecision.readiness.advice import advice, recommended
from precision_lab.lowprecision.readiness.readiness import modelled_layers, readiness
from precision_lab.lowprecision.readiness.remedies import REMEDIES
from precision_lab.lowprecision.readiness.verdicts import RecipeVerdict, block_of
from precision_lab.lowprecision.recipes.recipes import RECIPES, Unscaled
from precision_lab.lowprecision.recipes.transformer_engine import recipe_lines, training_lines

SCALED = [r for r in RECIPES.values() if not isinstance(r, Unscaled)]


@pytest.mark.parametrize("recipe", SCALED, ids=lambda r: r.name)
def test_a_recipes_code_is_python_that_makes_its_class(recipe: Any) -> None:
    tree = ast.parse("\n".join(recipe_lines(recipe)))
    (imported,) = [n for n in tree.body if isinstance(n, ast.ImportFrom)]
    made = tree.body[-1]
    assert imported.module == "transformer_engine.common.recipe"
    assert isinstance(made, ast.Assign) and isinstance(made.value, ast.Call)
    assert isinstance(made.value.func, ast.Name) and made.value.func.id == imported.names[0].name
    # The environment is read while the import runs.
    lines = recipe_lines(recipe)
    assert not recipe.environment or ("environ" in lines[1] and "import " in lines[2])
    assert recipe.hardware and recipe.capability >= (8, 9)


def test_recipes_that_differ_by_an_environment_variable_alone_have_one_class() -> None:
    assert RECIPES["current"].constructor == RECIPES["current-pow2"].constructor
    assert RECIPES["block"].constructor == RECIPES["block-fp32"].constructor
    assert recipe_lines(RECIPES["current"]) != recipe_lines(RECIPES["current-pow2"])
    assert recipe_lines(RECIPES["bf16"]) == () and training_lines(RECIPES["bf16"]) == ""


def _recipes_of_transformer_engine() -> Path:
    """The module of recipes of an installed Transformer Engine, which needs no GPU."""
    spec = importlib.util.find_spec("transformer_engine")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("Transformer Engine is not installed")
    return Path(spec.submodule_search_locations[0]) / "common" / "recipe" / "__init__.py"


@pytest.mark.parametrize("recipe", SCALED, ids=lambda r: r.name)
def test_transformer_engine_takes_the_code_and_means_the_same_by_it(recipe: Any, tmp_path: Path) -> None:
    """In a process of its own, whose environment the code sets."""
    module = _recipes_of_transformer_engine()
    program = tmp_path / "p.py"
    lines = [line for line in recipe_lines(recipe) if not line.startswith("from transformer_engine")]
    name = recipe.constructor.partition("(")[0]
    program.write_text("\n".join([
        "import importlib.util, sys",
        *lines[:-1],
        f"spec = importlib.util.spec_from_file_location('te_recipe', {str(module)!r})",
        "te = sys.modules['te_recipe'] = importlib.util.module_from_spec(spec)",
        "spec.loader.exec_module(te)",
        f"{name} = te.{name}",
        lines[-1],
        "q = getattr(recipe, 'fp8_quant_fwd_inp', None) or getattr(recipe, 'fp4_quant_bwd_grad', None)",
        "print(getattr(q, 'power_2_scale', None), getattr(q, 'stochastic_rounding', None),",
        "      recipe.fp8_format.name, getattr(recipe, 'amax_history_len', None))",
    ]))  # fmt: skip
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pow2, stochastic, fmt, history = done.stdout.split()
    expected = {"delayed": "None", "mxfp8": "None", "block-fp32": "False", "current": "False"}
    if not recipe.name.startswith("nvfp4"):
        assert pow2 == expected.get(recipe.name, "True")
        assert fmt == ("E4M3" if recipe.gradient.name == "e4m3" else "HYBRID")
    else:
        assert stochastic == str(recipe.stochastic_gradients)
    assert history == ("1024" if recipe.name == "delayed" else "None")


class Autocast:
    """Stands for Transformer Engine: which modules ran with the recipe, which without."""

    def __init__(self) -> None:
        self.states = [False]

    def autocast(self, *, enabled: bool, recipe: object = None) -> Autocast:
        self.wanted = enabled
        return self

    def __enter__(self) -> None:
        self.states.append(self.wanted)

    def __exit__(self, *_: object) -> None:
        self.states.pop()


@pytest.fixture
def te(monkeypatch: pytest.MonkeyPatch) -> Autocast:
    found, module = Autocast(), ModuleType("transformer_engine.pytorch")
    module.autocast = found.autocast  # type: ignore[attr-defined]
    package, common = ModuleType("transformer_engine"), ModuleType("transformer_engine.common.recipe")
    package.pytorch = module  # type: ignore[attr-defined]
    common.MXFP8BlockScaling = lambda: "mxfp8"  # type: ignore[attr-defined]
    for name, what in (
        ("transformer_engine", package), ("transformer_engine.pytorch", module),
        ("transformer_engine.common", ModuleType("transformer_engine.common")),
        ("transformer_engine.common.recipe", common),
    ):  # fmt: skip
        monkeypatch.setitem(sys.modules, name, what)
    return found


class Recorded(nn.Module):
    def __init__(self, te: Autocast) -> None:
        super().__init__()
        self.te, self.ran = te, []

    def forward(self, x: Tensor) -> Tensor:
        self.ran.append(self.te.states[-1])
        return x


def test_the_training_code_runs_and_keeps_what_it_names_in_bf16(te: Autocast) -> None:
    model = nn.Sequential(Recorded(te), Recorded(te), Recorded(te))
    code = training_lines(RECIPES["mxfp8"], ["1"])
    exec(compile(code, "code", "exec"), {"model": model, "x": torch.ones(2)})
    assert [m.ran for m in model] == [[True], [False], [True]]
    assert te.states == [False]
    exec(compile(training_lines(RECIPES["mxfp8"]), "code", "exec"), {"model": model, "x": torch.ones(2)})
    assert [m.ran[1:] for m in model] == [[True], [False], [True]]


def test_edges_as_code_keep_the_first_and_the_last_block_in_bf16(te: Autocast) -> None:
    blocks = nn.Sequential(*(Recorded(te) for _ in range(4)))
    exec(compile(REMEDIES["edges"].code, "code", "exec"), {"blocks": blocks})
    with te.autocast(enabled=True):
        blocks(torch.ones(2))
    assert [m.ran for m in blocks] == [[False], [True], [True], [False]]


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.up, self.act = nn.Linear(16, 64), nn.GELU()
        self.down = nn.Linear(64, 16, bias=False)
        with torch.no_grad():
            self.up.weight[:1] *= 2.0**16

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.act(self.up(x)))


class Gated(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(16, 64)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.act(self.gate(x)) * self.up(x))


@pytest.mark.parametrize("kind", [Plain, Gated])
def test_smoothing_as_code_changes_no_bit_and_carries_the_outlier(kind: type[Plain]) -> None:
    model, x = kind(), torch.randn(128, 16, generator=torch.Generator().manual_seed(4))
    before, given = model(x).detach(), []
    model.down.register_forward_pre_hook(lambda _, args: given.append(args[0].detach()))
    model(x)
    where: dict[str, Any] = {}
    exec(compile(REMEDIES["smooth"].code, "code", "exec"), where)
    where["smooth"](model.down, given[0], **({"up": model.up} if kind is Gated else {"act": model.act}))
    assert torch.equal(model(x), before)

    def lost(h: Tensor) -> float:
        stored = RECIPES["current"].round_trip(h)
        channel = ((stored - h).square().sum(0) / h.square().sum(0)).clamp(max=1)
        return float(channel.mean().sqrt())

    assert lost(given[0]) > 0.1 > 0.04 > lost(given[-1])


def test_the_other_remedies_as_code_are_what_is_judged() -> None:
    x = torch.linspace(-20, 20, 101)
    for name, call in (("tanh", "softened"), ("alpha-cap", "capped")):
        where: dict[str, Any] = {}
        exec(compile(REMEDIES[name].code, "code", "exec"), where)
        if name == "tanh":
            torch.testing.assert_close(where[call](x), REMEDIES[name].softened(x), rtol=1e-6, atol=0)
        else:
            assert where[call](torch.tensor(3.0)) == REMEDIES[name].alpha_cap
            assert where[call](torch.tensor(0.8)) == torch.tensor(0.8)
    assert all(bool(r.code) == (r.name != "none") for r in REMEDIES.values())


def verdict(recipe: str, state: str, remedy: str = "", keep: tuple[str, ...] = ()) -> RecipeVerdict:
    r = RECIPES[recipe]
    return RecipeVerdict(
        recipe, f"{state} with {remedy}" if remedy else state, 0.01, 0.01, 0.0, (), {}, r.capability, state,
        remedy, needs=r.hardware, recipe_code="\n".join(recipe_lines(r)), keep_bf16=keep,
        without_them="ready" if keep else "",
    )  # fmt: skip


def test_the_recipe_to_begin_with_is_the_one_that_outliers_cost_least() -> None:
    every = [verdict(name, "ready") for name in RECIPES]
    assert [v.recipe for v in recommended(every)] == ["mxfp8", "block", "current"]
    assert [v.recipe for v in recommended(every[:4])] == ["current"]
    assert recommended([verdict("bf16", "ready"), verdict("mxfp8", "not ready")]) == []
    mixed = [
        verdict("mxfp8", "at the limit"),
        verdict("current", "ready", "smooth"),
        verdict("block", "ready"),
    ]
    assert [v.recipe for v in recommended(mixed)] == ["block"]


def test_advice_ends_with_the_code_and_with_what_stays_in_bf16() -> None:
    told = advice([verdict("mxfp8", "ready")], captured=True)
    assert told[0].startswith("Use mxfp8 (ready). It needs Blackwell")
    assert told[1:3] == [
        "    from transformer_engine.common.recipe import MXFP8BlockScaling",
        "    recipe = MXFP8BlockScaling()",
    ]
    assert told[-1] == "Keep in BF16: no layer that was captured asks for it."
    assert "no layers are known" in advice([verdict("mxfp8", "ready")], captured=False)[-1]
    smooth = advice([verdict("current", "ready", "smooth")], captured=True)
    assert any("per-channel smoothing" in line for line in smooth) and "    import torch" in smooth
    none = advice([verdict("current", "not ready", keep=("a.o_proj",))], captured=True)
    assert none[0] == "Stay in BF16: no recipe that was asked for holds."
    assert none[-1] == "Keep in BF16 under current: a.o_proj; without them the rest is ready."
    assert advice([replace(verdict("current", "not examined"))], captured=True)[0].startswith("Capture again")


def test_a_block_is_named_by_its_number() -> None:
    assert block_of("model.layers.11.mlp.act_fn") == "model.layers.11"
    assert block_of("lm_head") == "lm_head"


@pytest.mark.parametrize(
    ("recipe", "inputs", "code"), [("current", "normal", 0), ("nvfp4", "normal", 1), ("nvfp4", "outliers", 1)]
)
def test_the_exit_code_and_the_terminal_say_which_state(recipe: str, inputs: str, code: int) -> None:
    args = ["readiness", "relu2", "--recipe", recipe, "--distribution", inputs]
    result = CliRunner().invoke(app, args, env={"COLUMNS": "80"})
    found = readiness(modelled_layers("relu2", None, [inputs]), source="t", recipes=[recipe])
    expected = 0 if found.verdicts[0].state == "ready" else 1
    assert result.exit_code == expected, result.output
    assert inputs == "outliers" or expected == code
    assert found.verdicts[0].verdict in result.output
    if expected == 0:
        lines = result.output.splitlines()
        assert any(line.startswith("Use ") for line in lines)


def test_eighty_columns_cut_no_number() -> None:
    from io import StringIO

    from rich.console import Console

    from precision_lab.cli.printing import print_readiness
    from precision_lab.lowprecision.readiness.readiness import Readiness

    long = replace(
        verdict("current-pow2", "at the limit", "alpha-cap"), forward_noise=1.0, gradient_noise=0.98765,
        clipped=0.12345, input_noise=0.87654,
    )  # fmt: skip
    out = StringIO()
    found = Readiness("run.npz: Model, 10 steps", (long,), (), (), 1.0, linear_inputs=(), seen="Seen.")
    print_readiness(found, Console(file=out, width=80))
    text = out.getvalue()
    assert "…" not in text and max(map(len, text.splitlines())) <= 80
    for said in ("current-pow2", "100.00%", "98.77%", "12.345%", "87.65%", "alpha-cap"):
        assert said in text, said
