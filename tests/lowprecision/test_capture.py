"""What a model's activations saw, counted, stored, merged and drawn again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import precision_lab as pl
from precision_lab.kernels import XIELU
from precision_lab.lowprecision.capture.captured import Captured
from precision_lab.lowprecision.capture.counters import Counter, DeviceCounter


def small() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 16), XIELU(), torch.nn.Linear(16, 4), torch.nn.GELU())


def seen(model: torch.nn.Module, batches: list[torch.Tensor], **options) -> Captured:
    with pl.capture(model, **options) as watching:
        for batch in batches:
            model(batch).sum().backward()
    return watching.captured


def batches(n: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(5, 7, 8, generator=generator) for _ in range(n)]


def test_every_number_is_counted_once_where_it_belongs() -> None:
    model = small()
    captured = seen(model, batches(1))
    assert [layer.name for layer in captured.layers] == ["1", "3"]
    layer = captured.layer("1")
    assert (layer.module, layer.function) == ("XIELU", "xielu")
    assert layer.params["alpha_p"] == pytest.approx(0.8)
    x = model[0](batches(1)[0]).detach().reshape(-1, 16)
    patterns = x.bfloat16().view(torch.int16).numpy().view(np.uint16)
    histogram = layer.tensors["input"]
    np.testing.assert_array_equal(histogram.patterns, np.bincount(patterns.ravel(), minlength=1 << 16))
    for j in range(16):
        np.testing.assert_array_equal(histogram.channels[j], np.bincount(patterns[:, j] >> 6, minlength=1024))
    np.testing.assert_array_equal(histogram.amax, x.abs().amax(0))


def test_gradients_are_those_that_come_back_to_the_activation() -> None:
    layer = seen(small(), batches(1)).layer("3")
    one = 0x3F80  # the sum's gradient is 1 everywhere
    assert layer.tensors["gradient"].patterns[one] == layer.tensors["gradient"].n == 5 * 7 * 4


class Gated(torch.nn.Module):
    """A Llama's MLP, whose second factor is three times as large and off centre."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = torch.nn.Linear(8, 16), torch.nn.Linear(8, 16)
        self.up_proj.weight.data *= 3
        self.up_proj.bias.data += 1
        self.act_fn = torch.nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act_fn(self.gate_proj(x)) * self.up_proj(x)


def test_moments_are_those_of_input_and_gate_where_both_are_finite() -> None:
    """A NaN or an infinity in one factor leaves the pair out, in either order; others of its channel stay."""
    torch.manual_seed(0)
    model = Gated()
    rows = torch.randn(64, 8)
    x, g = model.gate_proj(rows).detach(), model.up_proj(rows).detach()
    x[3, 2], x[5, 4], g[7, 2], g[9, 6] = torch.nan, torch.inf, torch.nan, -torch.inf
    model.gate_proj, model.up_proj = Fixed(x), Fixed(g)
    with pl.capture(model, tokens=None, gradients=False) as watching:
        model(rows)
    layer = watching.captured.layers[0]
    x, g = x.double(), g.double()
    both = x.isfinite() & g.isfinite()
    assert (~both).sum() == 4
    x, g = (torch.where(both, t, 0.0) for t in (x, g))
    expected = [both.double(), x, g, x * x, g * g, x * g]
    np.testing.assert_allclose(layer.moments, torch.stack([t.sum(0) for t in expected]).numpy(), rtol=1e-12)
    for j in range(16):
        rho = np.corrcoef(x[both[:, j], j].numpy(), g[both[:, j], j].numpy())[0, 1]
        assert layer.correlation()[j] == pytest.approx(rho, abs=1e-12)


class Fixed(torch.nn.Module):
    """A module that gives the same whatever it gets."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return self.value


def test_counting_stops_after_the_steps_and_changes_nothing() -> None:
    model, plain = small(), small()
    captured = seen(model, batches(5), steps=2)
    assert captured.steps == 2
    assert captured.layer("1").tensors["input"].n == 2 * 35 * 16
    assert captured.layer("1").tensors["gradient"].n == 2 * 35 * 16
    for batch in batches(5):
        plain(batch).sum().backward()
    for mine, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)
    assert not any(m._forward_hooks for m in model.modules())


def test_rows_are_sampled_but_the_largest_magnitude_is_of_all() -> None:
    model = small()
    captured = seen(model, batches(1), tokens=7)
    histogram = captured.layer("1").tensors["input"]
    assert histogram.n == 7 * 16
    np.testing.assert_array_equal(
        histogram.amax, model[0](batches(1)[0]).detach().reshape(-1, 16).abs().amax(0)
    )


def test_a_file_says_the_same_and_parts_add_up_in_any_order(tmp_path: Path) -> None:
    parts = [seen(small(), [batch]) for batch in batches(3)]
    together = seen(small(), batches(3))
    for order in ((0, 1, 2), (2, 0, 1)):
        a, b, c = (parts[i] for i in order)
        for total in ((a + b) + c, a + (b + c)):
            path = total.save(tmp_path / "c.npz")
            found = Captured.load(path)
            assert (found.model, found.steps) == ("Sequential", 3)
            for mine, theirs in zip(found.layers, together.layers, strict=True):
                for kind, histogram in mine.tensors.items():
                    np.testing.assert_array_equal(histogram.patterns, theirs.tensors[kind].patterns)
                    np.testing.assert_array_equal(histogram.channels, theirs.tensors[kind].channels)
                    np.testing.assert_array_equal(histogram.amax, theirs.tensors[kind].amax)


def test_what_is_drawn_is_distributed_as_what_was_seen() -> None:
    model = torch.nn.Sequential(XIELU())
    x = torch.randn(1 << 14, 4, generator=torch.Generator().manual_seed(3)) * torch.tensor([1, 10, 0.1, 3])
    drawn = seen(model, [x], tokens=None, gradients=False).layer("0").tensors["input"].sample(
        1 << 14, np.random.default_rng(0)
    )  # fmt: skip
    values = torch.from_numpy(drawn.view(np.int16)).view(torch.bfloat16).float()
    for j in range(4):
        assert float(values[:, j].std() / x[:, j].std()) == pytest.approx(1, abs=0.03)
        # Two samples of one distribution: Kolmogorov and Smirnov's distance for 1 in 10^6.
        a, b = np.sort(values[:, j].numpy()), np.sort(x[:, j].numpy())
        grid = np.concatenate([a, b])
        distance = np.abs(np.searchsorted(a, grid) - np.searchsorted(b, grid)).max() / a.size
        assert distance < 2.7 * (2 / a.size) ** 0.5


def test_nan_and_infinities_are_counted_and_named_by_layer() -> None:
    x = batches(1)[0]
    model = torch.nn.Sequential(torch.nn.SiLU())
    x[0, 0, 0], x[1, 1, 1], x[1, 1, 2] = np.nan, np.inf, -np.inf
    captured = seen(model, [x.requires_grad_()])
    histogram = captured.layer("0").tensors["input"]
    assert (histogram.seen, histogram.infinite, histogram.nan) == (280, 2, 1)
    assert any("layer '0': 2 infinities and 1 NaN among 280" in w for w in captured.warnings())
    assert np.isfinite(captured.layer("0").tensors["input"].amax).all()
    drawn = captured.layer("0").tensors["input"].sample(64, np.random.default_rng(0))
    assert torch.from_numpy(drawn.view(np.int16)).view(torch.bfloat16).isfinite().all()


def test_what_does_not_fit_is_named_and_never_stops_the_model() -> None:
    act = torch.nn.SiLU()
    wide = torch.nn.Sequential(torch.nn.Linear(4, 8), act, torch.nn.Linear(8, 3), act)
    captured = seen(wide, [torch.randn(5, 4), torch.randn(0, 4), torch.randn(5, 4)])
    assert captured.layer("1").tensors["input"].n == 2 * 5 * 8
    assert any(
        "input values of 3 channels were not counted; the first had 8" in w for w in captured.warnings()
    )


def test_modules_that_work_in_place_are_seen_before_they_do() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(inplace=True))
    captured = seen(model, batches(1))
    patterns = captured.layer("1").tensors["input"].patterns
    assert patterns[0x8000:].sum() > 50  # negative ones


def test_variants_of_a_class_are_told_apart() -> None:
    model = torch.nn.Sequential(torch.nn.GELU(approximate="tanh"), torch.nn.ELU(alpha=0.3))
    one, other = seen(model, [torch.randn(4, 8, requires_grad=True)]).layers
    assert (one.function, other.function, other.params) == ("gelu_tanh", "elu", {"alpha": 0.3})


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_blocks_are_counted_once(reentrant: bool) -> None:
    from torch.utils.checkpoint import checkpoint

    inner, x = small(), batches(1)[0].requires_grad_()

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return checkpoint(self.inner, x, use_reentrant=reentrant)

    model = Model()
    with pl.capture(model, steps=2) as watching:
        for _ in range(2):
            model(x).sum().backward()
    layer = watching.captured.layer("inner.1")
    assert watching.captured.steps == 2
    assert {kind: h.n for kind, h in layer.tensors.items()} == {"input": 2 * 560, "gradient": 2 * 560}
    plain = seen(small(), [batches(1)[0]] * 2, steps=2).layer("1")
    np.testing.assert_array_equal(layer.tensors["gradient"].patterns, plain.tensors["gradient"].patterns)
    assert layer.amax == plain.amax


def test_inputs_by_name_are_seen() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = torch.nn.SiLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.act(input=x)

    assert seen(Model(), [torch.randn(4, 8, requires_grad=True)]).layer("act").tensors["input"].n == 32


def test_rows_that_are_not_counted_are_searched_for_nan() -> None:
    x = torch.randn(64, 8)
    x[1, 1] = np.nan
    captured = seen(torch.nn.Sequential(torch.nn.SiLU()), [x.requires_grad_()], tokens=4)
    assert any("1 NaN among 512 input values" in w for w in captured.warnings())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("stride", [1, 3])
def test_other_devices_count_as_the_cpu_does(dtype: torch.dtype, stride: int) -> None:
    """In torch's operations, here on the CPU; numbers of every kind."""
    bits = torch.randint(-(2**31), 2**31 - 1, (67, 9), generator=torch.Generator().manual_seed(6))
    rows = bits.to(torch.int32).view(torch.float32).to(dtype)
    rows[0, :3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    here, there = Counter(9), DeviceCounter(9, torch.device("cpu"))
    for _ in range(2):
        here.add(rows, stride)
        there.add(rows, stride)
    mine, theirs = here.histogram(), there.histogram()
    for name in ("patterns", "channels", "amax"):
        one, other = getattr(mine, name), getattr(theirs, name)
        if name == "patterns":  # which NaN a NaN becomes is not told apart
            values = np.arange(1 << 16, dtype=np.uint16).view(np.int16)
            kept = ~torch.from_numpy(values.copy()).view(torch.bfloat16).isnan().numpy()
            assert one[~kept].sum() == other[~kept].sum() > 0
            one, other = one[kept], other[kept]
        elif name == "channels":
            one, other = (np.delete(a, [511, 1023], axis=1) for a in (one, other))
        np.testing.assert_array_equal(one, other)
    assert (mine.seen, mine.infinite, mine.nan) == (theirs.seen, theirs.infinite, theirs.nan)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch.compile's own look at it
def test_a_compiled_model_is_captured_when_it_first_runs_then() -> None:
    model = small()
    compiled = torch.compile(model, backend="eager")
    x = batches(1)[0]
    with pl.capture(model, steps=2) as watching:
        for _ in range(2):
            compiled(x).sum().backward()
    found, plain = watching.captured, seen(small(), [x, x], steps=2)
    for mine, theirs in zip(found.layers, plain.layers, strict=True):
        for kind, histogram in mine.tensors.items():
            np.testing.assert_array_equal(histogram.patterns, theirs.tensors[kind].patterns)


@pytest.mark.parametrize("kind", ["apertus", "llama"])
def test_hugging_face_models_are_understood(kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "vocab_size": 64, "max_position_embeddings": 32,
    }  # fmt: skip
    config = {"apertus": "ApertusConfig", "llama": "LlamaConfig"}[kind]
    model = {"apertus": "ApertusForCausalLM", "llama": "LlamaForCausalLM"}[kind]
    torch.manual_seed(0)
    network = getattr(transformers, model)(getattr(transformers, config)(**sizes))
    with pl.capture(network, steps=1) as watching:
        network(input_ids=torch.arange(16)[None], labels=torch.arange(16)[None]).loss.backward()
    captured = watching.captured
    assert [layer.name for layer in captured.layers] == [f"model.layers.{i}.mlp.act_fn" for i in (0, 1)]
    layer = captured.layers[0]
    assert layer.function == {"apertus": "xielu", "llama": "swiglu"}[kind]
    assert set(layer.tensors) == {"input", "gradient"} | ({"gate"} if kind == "llama" else set())
    assert {h.n for h in layer.tensors.values()} == {16 * 32}
    if kind == "apertus":
        assert layer.params == pytest.approx({"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.5}, rel=1e-2)


def test_misuse_is_named() -> None:
    with pytest.raises(ValueError, match="no module of Linear matches"):
        pl.capture(torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"match='\*\.mlp'.*GELU"):
        pl.capture(small(), "*.mlp")
    with pytest.raises(ValueError, match="steps=0"):
        pl.capture(small(), steps=0)
    with pytest.raises(ValueError, match="nothing was captured"):
        _ = pl.capture(small()).captured
    one, other = seen(small(), batches(1)), seen(torch.nn.Sequential(XIELU()), batches(1))
    with pytest.raises(ValueError, match="cannot be merged"):
        _ = one + other
    with pytest.raises(ValueError, match="layer"):
        one.layer("mlp")
