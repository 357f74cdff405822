"""Products through recipes, the small model, its training, ageing and resumption."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from precision_lab.implementations.subject import implementation_of
from precision_lab.lowprecision.probe import corpus
from precision_lab.lowprecision.probe.ageing import AGEINGS, Ageing
from precision_lab.lowprecision.probe.model import Activation, Model, ModelConfig
from precision_lab.lowprecision.probe.training import Record, Run, Trainer, TrainingConfig
from precision_lab.lowprecision.readiness.remedies import REMEDIES, get_remedy, smoothing_scales
from precision_lab.lowprecision.recipes.linear import EmulatedLinear, Operands, product
from precision_lab.lowprecision.recipes.recipes import RECIPES, get_recipe

SMALL = ModelConfig(width=16, layers=2, heads=2, hidden=32, context=16)
SHORT = TrainingConfig(
    steps=9, warm_steps=3, aged_steps=6, batch=2, evaluation=2, watch_every=4, checkpoint_every=2, model=SMALL
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def operand(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def test_fp32_products_are_torchs_own() -> None:
    x, w, dy = operand(32, 16, 0), operand(48, 16, 1), operand(32, 48, 2)
    mine, plain = ([t.clone().requires_grad_() for t in (x, w)] for _ in range(2))
    y = product(*mine, Operands("fp32"))
    y.backward(dy)
    expected = plain[0] @ plain[1].t()
    expected.backward(dy)
    assert torch.equal(y, expected)
    for a, b in zip(mine, plain, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in RECIPES if n not in ("fp32", "bf16", "nvfp4")])
def test_each_product_takes_the_operands_as_stored_for_it(name: str) -> None:
    recipe = get_recipe(name)
    x, w, dy = operand(64, 160, 0), operand(48, 160, 1), operand(64, 48, 2)
    # Columns of many sizes: what shares a scale along a row loses more than what shares one along a column.
    x, w = (t * torch.exp2(torch.arange(160.0) % 24 - 12) for t in (x, w))

    def stored(t: torch.Tensor, role: str, columnwise: bool = False) -> torch.Tensor:
        return recipe.quantize(t, role, columnwise=columnwise, state=recipe.state(role)).dequantize()

    mine = [t.clone().requires_grad_() for t in (x, w)]
    y = product(*mine, Operands(name))
    y.backward(dy)
    assert torch.equal(y, stored(x, "input") @ stored(w, "weight").t())
    assert torch.equal(mine[0].grad, stored(dy, "gradient") @ stored(w, "weight", True))
    assert torch.equal(mine[1].grad, stored(dy, "gradient", True).t() @ stored(x, "input", True))


def test_delayed_scaling_remembers_from_step_to_step() -> None:
    layer = EmulatedLinear(16, 16, "delayed")
    torch.nn.init.normal_(layer.weight)
    layer(operand(8, 16, 0))
    assert float(layer.operands.states["input"].scale) == 1.0
    layer.operands.step()
    assert float(layer.operands.states["input"].scale) == pytest.approx(
        448 / float(operand(8, 16, 0).abs().max())
    )
    layer.operands.watch = True
    layer(100 * operand(8, 16, 0))
    assert 0.5 < layer.operands.clipped["input"] < 1


@pytest.mark.parametrize("function", ["relu2", "swiglu"])
def test_ageing_changes_what_casts_see_and_not_the_model(function: str) -> None:
    """Powers of two through a homogeneous function of degree 2: exactly the same."""
    model = Model(SMALL, implementation_of(f"{function}/torch"), RECIPES["fp32"])
    tokens, _ = corpus.batch(0, 0, 2, SMALL.context)
    model.age(AGEINGS["none"], 0)
    model.mlps()[0].align(torch.tensor([0]))
    model.mlps()[1].align(torch.tensor([0]))
    before = model(tokens).detach()
    for mlp in model.mlps():
        mlp.grow(torch.tensor([0]), 256.0, 1.0)
    after = model(tokens).detach()
    if function == "relu2":
        assert torch.equal(after, before)
    else:  # SiLU tends to ReLU as its argument grows
        assert float((after - before).abs().max()) < 0.05
    model.mlps()[0].watch = True
    model(tokens)
    assert model.mlps()[0].kurtosis[1] > 20


def test_growth_is_spread_over_the_steps() -> None:
    ageing = Ageing("", "", factor=8.0, alpha=4.0, steps=3)
    assert ageing.at(0) == (1.0, 1.0)
    assert ageing.at(1) == pytest.approx((2.0, 4 ** (1 / 3)))
    assert ageing.at(3) == ageing.at(9) == (8.0, 4.0)
    assert ageing.growth(2) ** 3 == pytest.approx(8.0**2 * 4)
    assert AGEINGS["extreme"].growth(2) == 1.0


def test_smoothing_is_exact_and_evens_channels_out() -> None:
    h = operand(64, 8, 0) * torch.tensor([1, 1e-20, 1e20, 0, 3, 5, 7, 1e-3])
    scales = smoothing_scales(h)
    assert scales[3] == 1
    assert torch.equal(torch.frexp(scales)[0], torch.full((8,), 0.5))
    smooth = (h / scales).abs().amax(0)
    assert ((smooth >= 1) & (smooth < 2) | (smooth == 0)).all()
    model, plain = (
        Model(SMALL, implementation_of("relu2/torch"), RECIPES["fp32"], remedy=r) for r in ("smooth", "none")
    )
    tokens, _ = corpus.batch(0, 0, 2, SMALL.context)
    assert torch.equal(model(tokens), plain(tokens))


def test_remedies_do_what_they_say() -> None:
    cap = Model(SMALL, implementation_of("xielu/zero-expm1"), RECIPES["fp32"], remedy="alpha-cap")
    cap.age(AGEINGS["growing"], 20)
    assert cap.mlps()[0].act.effective_parameters()["alpha_p"].item() == 2.0
    x = torch.tensor([-3.0, 1e-3, 100.0])
    assert get_remedy("tanh").softened(x).tolist() == pytest.approx([-3.0, 1e-3, 8.0], rel=1e-6)
    edges = Model(
        dataclasses.replace(SMALL, layers=3),
        implementation_of("relu2/torch"),
        RECIPES["current"],
        remedy="edges",
    )
    assert [edges.blocks[i].mlp.up_proj.operands.recipe.name for i in range(3)] == ["bf16", "current", "bf16"]
    assert REMEDIES["none"].softened(x) is x


def test_batches_come_from_either_side_of_the_edge() -> None:
    x, y = corpus.batch(3, 5, 4, 32)
    again, _ = corpus.batch(3, 5, 4, 32)
    assert torch.equal(x, again)
    assert torch.equal(x[:, 1:], y[:, :-1])
    text = bytes(corpus.text())
    edge = int(len(text) * (1 - corpus.HELD_OUT))
    held, _ = corpus.batch(0, 0, 4, 32, held_out=True)
    assert all(bytes(row.tolist()) in text[edge:] for row in held)
    assert all(bytes(row.tolist()) in text[:edge] for row in x)
    many, _ = corpus.batch(0, 0, 200, 32)
    assert all(bytes(row.tolist()) in text[:edge] for row in many)


@pytest.mark.parametrize(
    ("recipe", "ageing"), [("delayed", "growing"), ("nvfp4", "none"), ("bf16", ""), ("mxfp8", "mild")]
)
def test_a_run_that_was_cut_short_ends_with_the_same_bits(recipe: str, ageing: str, tmp_path: Path) -> None:
    run = Run("relu2/torch", recipe, 1, ageing)
    whole = Trainer(SHORT, run).train()

    def stop(done: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    path = tmp_path / "c.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        Trainer(SHORT, run).train(path, stop)
    assert path.exists()
    resumed = Trainer(SHORT, run)
    steps: list[int] = []
    found = resumed.train(path, steps.append)
    assert steps[0] == 5  # of the last checkpoint, at step 4
    assert dataclasses.replace(found, seconds=0.0) == dataclasses.replace(whole, seconds=0.0)


def test_kernels_get_their_parameters_where_x_is() -> None:
    seen = {}

    def kernel(x: torch.Tensor, **parameters: torch.Tensor) -> torch.Tensor:
        seen.update({name: (value.device, value.dtype) for name, value in parameters.items()})
        return x

    act = Activation(implementation_of("xielu/stable [operator]")).to("meta")
    act.implementation = dataclasses.replace(act.implementation, kernel=kernel)
    act(torch.empty(3, dtype=torch.bfloat16, device="meta"))
    assert seen == dict.fromkeys(("alpha_p", "alpha_n", "beta"), (torch.device("meta"), torch.bfloat16))


@pytest.mark.parametrize("ageing", ["extreme", "growing"])
def test_a_run_that_has_only_its_end_to_evaluate_is_as_old_as_it_was(ageing: str, tmp_path) -> None:
    """Killed between the last checkpoint and the result."""
    run = Run("xielu/zero-expm1", "current", 1, ageing)
    whole = Trainer(SHORT, run).train()

    def stop(done: int) -> None:
        if done == SHORT.aged_steps:
            raise KeyboardInterrupt

    path = tmp_path / "c.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        Trainer(SHORT, run).train(path, stop)
    found = Trainer(SHORT, run).train(path)
    assert dataclasses.replace(found, seconds=0.0) == dataclasses.replace(whole, seconds=0.0)


def test_what_is_watched() -> None:
    record = Trainer(SHORT, Run("xielu/naive", "delayed", 0)).train()
    assert record.watched == [0, 4, 8]
    assert len(record.losses) == len(record.gradient_norms) == 9
    assert set(record.alphas) == {f"{i}.alpha_{s}" for i in (0, 1) for s in "pn"}
    assert record.alphas["0.alpha_p"][0] != record.alphas["0.alpha_p"][-1]
    assert set(record.kurtosis) == {f"{i}.{k}" for i in (0, 1) for k in ("input", "output")}
    assert set(record.clipping) == {"input", "weight", "gradient"}
    assert record.losses[-1] < record.losses[0] < math.log(256) + 0.1


def test_recipes_and_formulations_begin_alike() -> None:
    losses = {
        (s, r): Trainer(SHORT, Run(s, r, 0)).loss(0).item()
        for s in ("xielu/naive", "xielu/stable [operator]") for r in ("fp32", "bf16", "current")
    }  # fmt: skip
    assert max(losses.values()) - min(losses.values()) < 0.01


def test_all_seeds_are_judged_by_the_same_text() -> None:
    """And by the mean over its batches."""
    trainers = [Trainer(SHORT, Run("relu2/torch", "fp32", seed)) for seed in (0, 1)]
    trainers[1].model.load_state_dict(trainers[0].model.state_dict())
    with torch.no_grad():
        first, second = ([t.loss(i, held_out=True).item() for i in range(2)] for t in trainers)
        assert first == second
        assert trainers[0].loss(0).item() != trainers[1].loss(0).item()
    assert trainers[1].evaluate() == pytest.approx(sum(first) / 2)


def test_divergence_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def follow(values):
        trainer = Trainer(dataclasses.replace(SHORT, steps=len(values)), Run("relu2/torch", "fp32", 0))
        real = trainer.loss

        def loss(step: int, *, held_out: bool = False) -> torch.Tensor:
            found = real(step, held_out=held_out)
            return found if held_out else found - found.detach() + values[step]

        monkeypatch.setattr(trainer, "loss", loss)
        return trainer.train()

    assert follow([2.0] * 12).diverged_at is None
    record = follow([2.0, math.nan, 2.0])
    assert (record.diverged_at, len(record.losses)) == (2, 2)
    assert record.to_json()["losses"] == [2.0, None]
    assert follow([2.0] * 10 + [5.0] * 10).diverged_at == 14


def test_an_unclamped_formulation_breaks_where_x_is_large() -> None:
    """0·∞ = NaN from the branch that torch.where discards, in FP32, once exp(x) overflows."""
    config = dataclasses.replace(SHORT, warm_steps=0, aged_steps=2)
    assert Trainer(config, Run("xielu/expm1", "fp32", 0, "extreme")).train().diverged_at is not None
    assert Trainer(config, Run("xielu/zero-expm1", "fp32", 0, "extreme")).train().diverged_at is None


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match="subject='xielu'"):
        Run("xielu", "fp32", 0)
    with pytest.raises(ValueError, match="expn1"):
        Run("xielu/expn1", "fp32", 0)
    with pytest.raises(ValueError, match="delaid"):
        Run("xielu/expm1", "delaid", 0)
    with pytest.raises(ValueError, match="sever"):
        Run("xielu/expm1", "fp32", 0, "sever")
    with pytest.raises(ValueError, match="smoth"):
        Run("xielu/expm1", "fp32", 0, "severe", "smoth")
    with pytest.raises(ValueError, match="steps=0"):
        TrainingConfig(steps=0)
    with pytest.raises(ValueError, match="learning_rate=-1"):
        TrainingConfig(learning_rate=-1)
    with pytest.raises(ValueError, match="heads=3"):
        ModelConfig(heads=3)
    assert Record().to_json()["validation_loss"] is None
