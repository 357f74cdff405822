"""The inputs of linear layers, activations that are called, and what a verdict says of a captured model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

import torch.nn.functional as F
from torch import Tensor, nn

import precision_lab as pl
from precision_lab.cli.main import app
from precision_lab.lowprecision.capture import captured_file
from precision_lab.lowprecision.capture.captured import Captured
from precision_lab.lowprecision.capture.untrained import looks_initial
from precision_lab.lowprecision.readiness.inputs import input_numbers, product_inputs
from precision_lab.lowprecision.readiness.readiness import Readiness, readiness
from precision_lab.lowprecision.readiness.risk import from_capture
from precision_lab.lowprecision.recipes.recipes import RECIPES

WIDTH = 32


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (
            nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        return self.o_proj(F.scaled_dot_product_attention(q, k, v))


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w3 = (nn.Linear(WIDTH, 2 * WIDTH, bias=False) for _ in range(2))
        self.w2 = nn.Linear(2 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.mlp = Attention(), MLP()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.before(x))
        return x + self.mlp(self.between(x))


class Toy(nn.Module):
    """A transformer of three blocks without an embedding; its weights are as they begin."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList(Block() for _ in range(3))
        self.lm_head = nn.Linear(WIDTH, 16, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.lm_head(x)


def seen(model: nn.Module, steps: int = 2, rows: int = 64, **options: Any) -> Captured:
    generator = torch.Generator().manual_seed(1)
    with pl.capture(model, **options) as watching:
        for _ in range(steps):
            model(torch.randn(2, rows // 2, WIDTH, generator=generator)).square().mean().backward()
    return watching.captured


def aged(model: Toy) -> Toy:
    """One channel of attention's output grows; what the model computes stays, to the bit."""
    with torch.no_grad():
        model.blocks[1].attention.v_proj.weight[:1] *= 2.0**24
        model.blocks[1].attention.o_proj.weight[:, :1] /= 2.0**24
    return model


def judged(captured: Captured, *recipes: str) -> Readiness:
    layers, _ = from_capture(captured)
    return readiness(layers, source="t", recipes=recipes, captured=captured, blocks=True, compared=())


def test_every_product_of_a_transformer_is_counted_once() -> None:
    captured = seen(Toy())
    assert captured.products is not None
    names = {p.name: p.also for p in captured.products}
    assert names["blocks.0.attention.q_proj"] == ("blocks.0.attention.k_proj", "blocks.0.attention.v_proj")
    assert names["blocks.2.mlp.w1"] == ("blocks.2.mlp.w3",)
    assert "lm_head" in names and "blocks.1.attention.o_proj" in names
    assert sum(1 + len(also) for also in names.values()) == 3 * 7 + 1
    by = {p.name: p for p in captured.products}
    assert by["blocks.1.mlp.w2"].after == "blocks.1.mlp.silu()"
    assert by["blocks.1.mlp.w1"].after == ""
    assert {p.input.n for p in captured.products} == {2 * 64 * WIDTH, 2 * 64 * 2 * WIDTH}


def test_a_products_numbers_are_counted_where_they_belong() -> None:
    linear = nn.Linear(8, 4)
    x = torch.randn(16, 8)
    with pl.capture(nn.Sequential(linear, nn.ReLU())) as watching:
        nn.Sequential.forward(watching._model, x)
    (product,) = watching.captured.products or ()
    patterns = x.bfloat16().view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(product.input.patterns, np.bincount(patterns.ravel(), minlength=1 << 16))
    np.testing.assert_array_equal(product.input.amax, x.abs().amax(0))


def test_an_outlier_in_attentions_output_alone_is_found_and_named() -> None:
    healthy, found = (judged(seen(m), "current", "mxfp8") for m in (Toy(), aged(Toy())))
    assert healthy.verdict("current").verdict == "ready"
    verdict = found.verdict("current")
    assert verdict.verdict == "not ready"
    assert verdict.keep_bf16 == ("blocks.1.attention.o_proj",)
    assert verdict.without_them == "ready"
    assert verdict.forward_noise < 0.05 < 0.9 < verdict.input_noise  # the activations know nothing of it
    assert any("blocks.1.attention.o_proj" in w for w in verdict.why)
    assert '"blocks.1.attention.o_proj",' in verdict.training_code
    assert found.verdict("mxfp8").keep_bf16 == ("blocks.1.attention.o_proj",)


def test_what_is_counted_says_the_same_as_what_is_drawn() -> None:
    captured = seen(Toy(), rows=256)
    drawn, left_out = product_inputs(captured.products or ())
    assert not left_out
    for product in drawn[:4]:
        whole = input_numbers(product, RECIPES["current"])
        assert whole.noise == pytest.approx(input_numbers(product, RECIPES["mxfp8"]).noise, rel=0.15)
        assert whole.noise_error == 0.0
        assert whole.outlier >= 1
    assert input_numbers(drawn[0], RECIPES["delayed"], growth=64.0).clipped > 1e-3


def test_a_capture_without_products_is_not_examined_and_does_not_pass(tmp_path: Path) -> None:
    captured = seen(Toy(), products=False)
    assert captured.products is None
    found = judged(captured, "current")
    assert found.verdict("current").verdict == "not examined"
    assert any("were not captured" in w for w in found.verdict("current").why)
    path = captured.save(tmp_path / "c.npz")
    result = CliRunner().invoke(app, ["readiness", "--captured", str(path), "--recipe", "current"])
    assert result.exit_code == 1, result.output
    assert "not examined" in result.output


def test_a_file_of_version_2_still_loads(tmp_path: Path) -> None:
    path = seen(Toy(), products=False).save(tmp_path / "c.npz")
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(arrays.pop("header").tobytes())
    for name in ("products", "initial", "unseen", "digest"):
        del header[name]
    header["version"] = 2
    header["digest"] = captured_file._digest(arrays, header)
    np.savez(path, **arrays, header=np.frombuffer(json.dumps(header).encode(), np.uint8))
    found = Captured.load(path)
    assert (found.products, found.initial, found.unseen) == (None, None, ())
    assert judged(found, "mxfp8").verdict("mxfp8").verdict == "not examined"


def test_products_survive_a_file_and_add_up(tmp_path: Path) -> None:
    captured = seen(Toy())
    after = Captured.load(captured.save(tmp_path / "c.npz"))
    for mine, theirs in zip(captured.products or (), after.products or (), strict=True):
        assert (mine.name, mine.also, mine.after) == (theirs.name, theirs.also, theirs.after)
        np.testing.assert_array_equal(mine.input.channels, theirs.input.channels)
    together = captured + after
    for mine, both in zip(captured.products or (), together.products or (), strict=True):
        assert both.input.n == 2 * mine.input.n
    assert (together.steps, together.initial) == (4, True)
    assert (captured + seen(Toy(), products=False)).products is None


# Activations that are called


class Calls(nn.Module):
    def __init__(self, call: Any) -> None:
        super().__init__()
        self.up, self.call = nn.Linear(WIDTH, WIDTH), call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.up(x))


@pytest.mark.parametrize(
    ("call", "name", "function", "params"),
    [
        (lambda x: F.gelu(x), "ffn.gelu()", "gelu", {}),
        (lambda x: F.gelu(x, approximate="tanh"), "ffn.gelu()", "gelu_tanh", {}),
        (lambda x: x.relu(), "ffn.relu()", "relu", {}),
        (torch.relu, "ffn.relu()", "relu", {}),
        (lambda x: F.relu(x, inplace=True), "ffn.relu()", "relu", {}),
        (lambda x: F.elu(x, 0.3), "ffn.elu()", "elu", {"alpha": 0.3}),
        (F.silu, "ffn.silu()", "silu", {}),
        (F.mish, "ffn.mish()", "mish", {}),
    ],
)
def test_an_activation_that_is_called_is_counted(call: Any, name: str, function: str, params: Any) -> None:
    model = nn.Sequential()
    model.add_module("ffn", Calls(call))
    captured = seen(model)
    (layer,) = captured.layers
    assert (layer.name, layer.function, layer.params) == (name, function, params)
    assert {kind: h.n for kind, h in layer.tensors.items()} == {"input": 4096, "gradient": 4096}
    x = torch.randn(2, 32, WIDTH, generator=torch.Generator().manual_seed(1))
    assert layer.tensors["input"].amax.max() >= float(model.ffn.up(x).detach().abs().max())
    assert layer.tensors["input"].patterns[0x8001:].sum() > 100  # seen before it works in place


def test_a_gate_is_known_by_the_product_whatever_its_name() -> None:
    layer = seen(Toy(), tokens=None).layers[0]
    assert (layer.name, layer.function, layer.gate_in_gradient) == ("blocks.0.mlp.silu()", "swiglu", True)
    assert set(layer.tensors) == {"input", "gate", "gradient"}
    assert layer.moments is not None and layer.moments[0].sum() == layer.tensors["gate"].n


def test_a_module_is_not_counted_again_as_the_call_it_makes() -> None:
    captured = seen(nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.GELU()))
    assert [layer.name for layer in captured.layers] == ["1", "2"]


def test_a_module_of_no_known_class_is_what_it_calls() -> None:
    model = nn.Sequential()
    model.add_module("act", Calls(F.silu))
    captured = seen(model)
    assert [(layer.name, layer.function) for layer in captured.layers] == [
        ("act", ""),
        ("act.silu()", "silu"),
    ]
    assert from_capture(captured)[0][0].name == "act.silu()"


def test_two_calls_in_one_module_are_told_apart() -> None:
    model = nn.Sequential()
    model.add_module("ffn", Calls(lambda x: F.relu(F.relu(x) - 1)))
    assert [layer.name for layer in seen(model).layers] == ["ffn.relu()", "ffn.relu()#2"]


def test_what_is_written_by_hand_is_named_as_not_seen() -> None:
    model = nn.Sequential()
    model.add_module("ffn", Calls(lambda x: x * torch.sigmoid(x)))
    captured = seen(model)
    assert captured.layers == () and captured.unseen == ("torch.sigmoid in ffn",)
    assert any("computed by hand there is not counted" in w for w in captured.warnings())

    class Wrapped(nn.Module):
        precision_lab_function = "silu"

        def forward(self, x: Tensor) -> Tensor:
            return x * torch.sigmoid(x)

    wrapped = seen(nn.Sequential(nn.Linear(WIDTH, WIDTH), Wrapped()))
    assert wrapped.unseen == () and [layer.function for layer in wrapped.layers] == ["silu"]


def test_watching_calls_changes_nothing() -> None:
    watched, plain = Toy(), Toy()
    seen(watched)
    generator = torch.Generator().manual_seed(1)
    for _ in range(2):
        plain(torch.randn(2, 32, WIDTH, generator=generator)).square().mean().backward()
    for mine, theirs in zip(watched.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in watched.modules())


# What a verdict was seen on


def test_weights_before_training_are_recognised() -> None:
    model = Toy()
    assert looks_initial(model) is True
    seen(model)
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert looks_initial(model) is False
    assert looks_initial(nn.Sequential(nn.Linear(2, 2))) is None


def test_a_verdict_says_what_it_was_seen_on() -> None:
    said = judged(seen(Toy()), "mxfp8").seen
    assert "2 steps: 3 activations and the inputs of 22 linear layers" in said
    assert "as they do before training" in said and "outliers develop late" in said
    model = Toy()
    seen(model)
    torch.optim.SGD(model.parameters(), 0.1).step()
    assert "have been trained" in judged(seen(model), "mxfp8").seen
