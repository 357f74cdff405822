"""Risks, verdicts, maps, errors of a block, and what of it is reported.

The exhaustive run adds a second gate's product.
"""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
from turns import one_in
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

import precision_lab as pl
from precision_lab import functions
from precision_lab.cli.main import app
from precision_lab.implementations.subject import implementation_of
from precision_lab.kernels import XIELU
from precision_lab.lowprecision.readiness import risk as risk_module
from precision_lab.lowprecision.readiness.block_error import _cosine, _relative, block_errors
from precision_lab.lowprecision.readiness.distributions import modelled
from precision_lab.lowprecision.readiness.judging import NOISE_LIMIT, reasons
from precision_lab.lowprecision.readiness.maps import (
    ALPHAS,
    SCALES,
    _e4m3_saturation,
    _fp16_overflow,
    _fp16_underflow,
    maps,
)
from precision_lab.lowprecision.readiness.passage import forward_passage
from precision_lab.lowprecision.readiness.quality import Quality
from precision_lab.lowprecision.readiness.readiness import modelled_layers, readiness
from precision_lab.lowprecision.readiness.risk import (
    Numbers,
    Tensors,
    channel_noise,
    channel_ratios,
    from_capture,
    from_distribution,
    numbers,
    risk,
)
from precision_lab.lowprecision.readiness.verdicts import figures as figures_of
from precision_lab.lowprecision.readiness.verdicts import worst_numbers
from precision_lab.lowprecision.readiness.weighed import kernel_errors
from precision_lab.lowprecision.recipes.recipes import get_recipe


def layer(factor: float = 1.0, function: str = "relu2") -> Tensors:
    """Normal inputs, one channel in 64 larger."""
    found = from_distribution(pl.get_function(function), {}, "normal", tokens=64, channels=256)
    x = found.x.clone()
    x[:, ::64] *= factor
    return Tensors("layer", pl.get_function(function), {}, x, found.upstream)


def test_every_channel_counts_alike() -> None:
    x = modelled(tokens=64, channels=64)
    passage = forward_passage(functions.RELU2, None, x, "current")
    e, s = passage.exact, passage.stored
    by_hand = np.sqrt(np.mean(np.sum((s - e) ** 2, 0) / np.sum(e**2, 0)))
    assert channel_noise(channel_ratios(passage)) == pytest.approx(by_hand, rel=1e-12)
    # Rounding to E4M3, spread evenly over a binade: 2^−4/√3 of the binade's start, 2.6 % of the value.
    assert by_hand == pytest.approx(2.0**-4 / 3**0.5 * 0.75, rel=0.1)


def test_outliers_drown_channels_under_one_scale_only_where_they_share_it() -> None:
    steady, aged = layer(), layer(2.0**10)
    for recipe in ("current", "delayed"):
        assert numbers(aged, recipe).forward_noise > 0.8
    assert numbers(steady, "current").forward_noise < 0.03
    assert 0.2 < numbers(aged, "mxfp8").forward_noise < numbers(aged, "block").forward_noise
    assert numbers(aged, "bf16").forward_noise < 0.01
    smooth = numbers(aged, "current", remedy="smooth")
    assert smooth.forward_noise < 0.03
    assert smooth.gradient_noise == numbers(aged, "current").gradient_noise


def test_a_channel_that_is_lost_counts_once_however_large_its_noise() -> None:
    assert channel_noise(np.array([0.0, 9.0, 0.25, 100.0])) == pytest.approx(math.sqrt(2.25 / 4))


def figures(forward: float, gradient: float, clipped: float = 0.0) -> Numbers:
    q = Quality(1, 0, 1.0, 3.0, 0.0, 0.0, 0.0, 30.0, 0.0, 1.0, 0.5)
    return Numbers(forward, gradient, clipped, 0.0, 30.0, q, q)


def test_a_score_is_of_both_tensors_and_a_risk_of_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """√(forward² + gradient²), then the root mean square over layers; blocks at either end as in BF16."""
    assert figures(0.3, 0.4).score == pytest.approx(0.5)
    given = {"a": (0.3, 0.4), "b": (0.0, 0.1), "c": (1.0, 0.0)}

    def known(tensors: Tensors, recipe: str, **_: object) -> Numbers:
        return figures(*given[tensors.name]) if recipe == "current" else figures(0.0, 0.002)

    monkeypatch.setattr(risk_module, "numbers", known)
    layers = [dataclasses.replace(layer(), name=name) for name in given]
    assert risk(layers, "current") == pytest.approx(math.sqrt((0.25 + 0.01 + 1) / 3))
    assert risk(layers, "current", remedy="edges") == pytest.approx(math.sqrt((0.01 + 2 * 0.002**2) / 3))


@pytest.mark.parametrize("side", ["forward", "gradient"])
def test_the_share_clipped_is_the_larger_of_both_tensors(side: str) -> None:
    """Four times what delayed scaling has seen: of one outlier it clips that, else the upper quarter."""
    found = layer()
    if side == "forward":
        found.x[0, 0], found.upstream[0, 0] = 2.0**14, 0.0
    else:
        found.upstream[0, 0] = 2.0**14
    known = numbers(found, "delayed", growth=4.0)
    assert known.clipped == max(known.forward.overflow, known.gradient.overflow)
    other = known.gradient if side == "forward" else known.forward
    assert 0 < min(known.forward.overflow, known.gradient.overflow) < other.overflow


def test_one_layer_without_a_figure_leaves_none() -> None:
    """Whichever place it has: max() of NaN depends on that."""
    found = [figures(0.01, 0.02), figures(math.nan, 0.01), figures(0.02, math.nan)]
    assert np.isnan(worst_numbers(found)[:2]).all() and np.isnan(worst_numbers(found[::-1])[:2]).all()
    assert worst_numbers([figures(0.01, 0.05), figures(0.02, 0.03, 0.5)]) == (0.02, 0.05, 0.5)


def test_the_worst_layer_is_named() -> None:
    found = {"mild": figures(0.2, 0.01), "worst": figures(0.7, 0.01), "steady": figures(0.01, 0.01)}
    (said,) = reasons(figures_of(get_recipe("current"), list(found.items())))
    assert said == "noise of the stored activation 70.00% in worst (2 of 3 over 10.0%)"


def test_a_cosine_is_of_the_angle_alone() -> None:
    found, exact = torch.tensor([3.0, 4.0]), torch.tensor([3.0, 0.0])
    assert _cosine(found, exact) == pytest.approx(0.6)
    assert _cosine(10 * found, exact) == pytest.approx(0.6)
    assert _relative(found, exact) == pytest.approx(4 / 3)


def test_a_share_lost_in_fp16_is_what_rounds_to_zero_or_infinity() -> None:
    """2^-25 is a tie that goes to 0, 65520 one that goes to infinity; what is 0 already is not lost."""
    small = np.array([0.0, 2.0**-25, -(2.0**-25), 1.5 * 2.0**-25, 2.0**-26, 1.0])
    assert _fp16_underflow(small) == pytest.approx(3 / 5)
    large = np.array([65519.0, 65520.0, -65521.0, 65504.0])
    with np.errstate(over="ignore"):
        assert _fp16_overflow(large) == np.isinf(large.astype(np.float16)).mean() == 0.5
    assert _e4m3_saturation(np.array([463.0, 464.0, 465.0, -500.0])) == 0.5


def test_growth_clips_what_looks_backwards() -> None:
    assert numbers(layer(), "delayed").clipped == 0
    assert numbers(layer(), "delayed", growth=8.0).clipped > 1e-3
    assert numbers(layer(), "current", growth=8.0).clipped == 0
    with pytest.raises(ValueError, match=r"growth=0\.5"):
        numbers(layer(), "delayed", growth=0.5)


def test_a_cap_and_a_softened_square_bound_what_is_stored() -> None:
    first_layer = {"alpha_p": 170.0, "alpha_n": 1.2, "beta": 0.5}
    steep = from_distribution(functions.XIELU, first_layer, "outliers", tokens=64, channels=128)
    plain = numbers(steep, "current").forward.amax
    assert numbers(steep, "current", remedy="alpha-cap").forward.amax < plain / 50
    assert numbers(steep, "current", remedy="tanh").forward.amax <= 170 * 8**2 + 0.5 * 8


def test_risk_grows_with_age_and_not_for_bf16() -> None:
    ages = [[layer(f)] for f in (1.0, 2.0**6, 2.0**10)]
    risks = [risk(a, "current") for a in ages]
    assert risks == sorted(risks)
    assert risks[2] > 10 * risks[0]
    assert risk(ages[2], "bf16") < 0.01
    assert risk([layer(2.0**10)] * 3, "current", remedy="edges") < risk([layer(2.0**10)] * 3, "current")


@pytest.mark.parametrize("params", [None, {"alpha_p": 170.0, "alpha_n": 1.2}])
def test_xielu_is_ready_for_scaled_fp8_while_its_inputs_are_steady(params) -> None:
    layers = modelled_layers("xielu", params, ["normal"], tokens=64, channels=128)
    found = readiness(layers, source="test", recipes=("fp32", "bf16", "current", "block", "mxfp8", "nvfp4"))
    for recipe in ("fp32", "bf16", "current", "block", "mxfp8"):
        assert found.verdict(recipe).verdict == "ready", found.verdict(recipe)
    assert found.verdict("nvfp4").gradient_noise > found.verdict("mxfp8").gradient_noise


def test_the_verdict_says_why_not_and_what_would_help() -> None:
    layers = [layer(), layer(2.0**10, "gelu"), layer(2.0**10)]
    found = readiness(layers, source="test", recipes=("current", "nvfp4", "bf16"))
    verdict = found.verdict("current")
    assert verdict.verdict == "ready with smooth"
    assert any("in layer" in sentence and "1 of 3 over 10.0%" in sentence for sentence in verdict.why)
    assert verdict.remedies["smooth"][0] < NOISE_LIMIT < verdict.forward_noise
    assert found.verdict("nvfp4").verdict == "at the limit with tanh"  # its price allows no more
    assert [w.partition(" of")[0] for w in found.verdict("nvfp4").why[:2]] == ["noise", "noise"]
    assert found.verdict("bf16").why == ()
    # What is left between edges in BF16 is the steady middle one.
    middle = readiness([layer(2.0**10), layer(), layer(2.0**10)], source="test", recipes=("current",),
                       blocks=True)  # fmt: skip
    assert middle.verdict("current").remedies["edges"] == pytest.approx(
        (numbers(layer(), "current").forward_noise, numbers(layer(), "current").gradient_noise, 0.0)
    )


def test_edges_are_of_models_and_remedies_of_the_formulation_that_was_asked() -> None:
    layers = [layer(2.0**10), layer(), layer(2.0**10)]
    assert "edges" not in readiness(layers, source="t", recipes=("current",)).verdict("current").remedies
    # So small that the clamp decides: no remedy of the cast cures it.
    tiny = modelled_layers("xielu", None, ("normal",), scale=1e-6, tokens=64, channels=64)
    found = readiness(tiny, source="t", recipes=("current",), formulation="eps-expm1").verdict("current")
    assert found.verdict == "not ready"
    assert min(r[1] for r in found.remedies.values()) > NOISE_LIMIT
    exact = readiness(tiny, source="t", recipes=("current",)).verdict("current")
    assert exact.verdict == "ready"


def test_nothing_to_judge_by_is_not_ready() -> None:
    upstream = layer().upstream[:8, :4]
    nothing = Tensors("dead", functions.RELU2, {}, torch.full((8, 4), float("nan")).bfloat16(), upstream)
    found = readiness([nothing], source="t", recipes=("current",)).verdict("current")
    assert found.verdict == "not ready"
    assert any("nothing finite to judge by in dead" in sentence for sentence in found.why)
    zero = Tensors("off", functions.RELU2, {}, -torch.ones(8, 4).bfloat16(), upstream)
    whole = readiness([zero], source="t", recipes=("current",))
    assert whole.verdict("current").verdict == "ready"
    assert whole.warnings == (
        "layer 'off': f(x) is 0 throughout, which tests no recipe",
        "layer 'off': the gradient is 0 throughout, which tests no recipe",
    )


def test_a_rare_outlier_sets_the_scale_though_no_row_drawn_has_it() -> None:
    x = torch.randn(4096, 64, generator=torch.Generator().manual_seed(2))
    x[77, 5] = 3000.0
    model = torch.nn.Sequential()
    model.add_module("act", ReLU2())
    with pl.capture(model, tokens=64) as seen:
        model(x.requires_grad_()).sum().backward()
    layers, _ = from_capture(seen.captured, tokens=64)
    assert layers[0].amax["stored"] == 3000.0**2
    assert layers[0].amax["returned"] == 6000.0
    found = numbers(layers[0], "current")
    assert found.forward_noise > 0.9
    assert found.gradient.binades > 12  # E5M2 carries it
    assert numbers(layers[0], "nvfp4-plain").forward_noise > 0.9
    assert numbers(layers[0], "mxfp8").forward_noise < 0.03  # its blocks share nothing with the outlier
    assert any("the largest input value, 3000" in w for w in seen.captured.warnings())


class ReLU2(torch.nn.Module):
    precision_lab_function = "relu2"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x).square()


class Apart(torch.nn.Module):
    """As a Llama's: the activation does not see the gate."""

    def __init__(self, activation: torch.nn.Module) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.gate_proj, self.up_proj = (torch.nn.Linear(16, 32, bias=False) for _ in range(2))
        self.down_proj = torch.nn.Linear(32, 8, bias=False)
        self.act_fn = activation
        with torch.no_grad():
            self.up_proj.weight[3] *= 2.0**12

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.before = self.gate_proj(x)
        self.before.retain_grad()
        self.product = self.act_fn(self.before) * self.up_proj(x)
        return self.down_proj(self.product)


@pytest.mark.parametrize(
    ("activation", "function"), one_in(2, [(torch.nn.SiLU(), "swiglu"), (torch.nn.GELU("tanh"), "gelu_tanh")])
)
def test_a_gates_product_is_judged_and_its_gradient_holds_it_once(activation, function: str) -> None:
    model = Apart(activation)
    with pl.capture(model, tokens=None) as seen:
        (model(torch.randn(512, 16)) * torch.randn(512, 8)).sum().backward()
    (t,), _ = from_capture(seen.captured, tokens=512)
    assert (t.function.name, t.gate_in_upstream) == (function, True)
    assert t.amax["stored"] == float(model.product.detach().abs().max())
    assert t.amax["returned"] == float(model.before.grad.abs().max())
    found = numbers(t, "bf16")
    for q, truth in ((found.forward, model.product), (found.gradient, model.before.grad)):
        assert q.amax == pytest.approx(float(truth.detach().abs().max()), rel=0.6)
    assert channel_rms(t) == pytest.approx(model.before.grad.square().mean(0).sqrt().numpy(), rel=0.5)


def channel_rms(t: Tensors) -> np.ndarray:
    from precision_lab.lowprecision.readiness.passage import gradient_passage

    found = gradient_passage(t.function, t.params, t.x, t.upstream, "bf16", gate=t.gate,
                             gate_in_upstream=t.gate_in_upstream)  # fmt: skip
    return np.sqrt(np.mean(found.exact**2, 0))


def test_a_layer_that_cannot_be_judged_does_not_stop_the_others() -> None:
    class Told(torch.nn.Module):
        def __init__(self, function: str, **parameters: object) -> None:
            super().__init__()
            self.precision_lab_function, self.told = function, parameters

        def effective_parameters(self) -> dict[str, torch.Tensor]:
            return {k: torch.as_tensor(v) for k, v in self.told.items()}

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sin()

    model = torch.nn.Sequential(
        Told("relu9"), Told("xielu", alpha=1.0), Told("xielu", alpha_p=-1.0),
        Told("xielu", alpha_p=[1.0, 2.0]), torch.nn.ReLU(),
    )  # fmt: skip
    with pl.capture(model) as seen:
        model(torch.randn(64, 32, requires_grad=True)).sum().backward()
    layers, left_out = from_capture(seen.captured)
    assert [t.name for t in layers] == ["4"]
    for i, words in enumerate(("relu9", "'alpha'", "alpha_p", "shape (2,)")):
        assert any(f"layer '{i}' is left out" in w and words in w for w in left_out), (words, left_out)
    assert {e.layer for e in kernel_errors(seen.captured)} == {"4"}


def test_stored_points_go_through_the_formulation_that_was_asked() -> None:
    tiny = modelled_layers("xielu", None, ("normal",), scale=1e-6, tokens=64, channels=64)[0]
    clamped = numbers(tiny, "current", path="fp8-in", kernel=implementation_of("xielu/eps-expm1"))
    assert clamped.gradient_noise > 0.5 > 0.2 > numbers(tiny, "current", path="fp8-in").gradient_noise


def test_exact_values_are_rounded_once() -> None:
    x, upstream = modelled(tokens=64, channels=64), modelled(tokens=64, channels=64, seed=1, scale=1e-3)
    from precision_lab.lowprecision.readiness.passage import gradient_passage

    found = gradient_passage(functions.RELU2, None, x, upstream, "bf16", path="unfused")
    exact = 2 * x.double().clamp(min=0) * upstream.double()
    np.testing.assert_array_equal(found.stored, exact.bfloat16().double().numpy())


def test_amplification_is_that_of_a_square() -> None:
    found = readiness([layer()], source="test", recipes=("bf16",))
    by = {a.function: a for a in found.amplification}
    assert by["relu2"].kurtosis_in == pytest.approx(3, abs=0.3)
    # max(x, 0)² of a normal x: moments (2k−1)!!/2 for k = 1, 2, … give a kurtosis of 24.7 or so.
    assert by["relu2"].kurtosis_out == pytest.approx(26.8, rel=0.25)
    assert by["gelu"].kurtosis_out < by["relu2"].kurtosis_out
    assert json.loads(json.dumps(found.to_json()))["evidence"][0]["numbers"]["forward"]["effective_bits"] > 7


def test_maps_agree_with_the_normal_distribution() -> None:
    found = {m.name: m for m in maps(functions.XIELU, tokens=256, channels=256)}
    overflow = found["fp16-overflow"]
    for i, alpha in enumerate(ALPHAS):
        for j, scale in enumerate(SCALES):
            # α x² + x/2 = 65520 at the x beyond which FP16 overflows.
            edge = (-0.5 + math.sqrt(0.25 + 4 * alpha * 65520)) / (2 * alpha)
            share = math.erfc(edge / scale / math.sqrt(2)) / 2
            assert overflow.shares[i][j] == pytest.approx(share, abs=0.006), (alpha, scale)
    lost = found["fp16-grad-alpha-n"].shares
    assert lost[0][0] > lost[-1][0] > 0
    assert all(v == 0 for v in (row[-1] for row in overflow.shares[:1]))
    with pytest.raises(ValueError, match="function='gelu'"):
        maps(functions.GELU)


def test_a_blocks_error_is_split_into_formulation_and_recipe() -> None:
    kernels = {name: implementation_of(f"xielu/{name}") for name in ("naive", "stable [operator]")}
    found = {
        (e.recipe, e.formulation, e.output): e
        for e in block_errors(
            functions.XIELU, recipes=("fp32", "bf16", "current"), formulations=kernels, tokens=64,
            width=32, hidden=64,
        )
    }  # fmt: skip
    outputs = {"y", "dx", "dw_up", "dw_down", "dalpha_p", "dalpha_n", "dbeta"}
    assert {o for _, _, o in found} == outputs
    for output in outputs:
        exact = found["fp32", "stable [operator]", output]
        assert exact.relative < 1e-5
        assert exact.cosine == pytest.approx(1)
        assert found["bf16", "stable [operator]", output].of_formulation < 1e-3
    assert found["bf16", "naive", "dalpha_n"].of_formulation > 1e-3
    for output in ("y", "dx"):
        assert found["bf16", "naive", output].relative < 0.02 < found["current", "naive", output].relative
        e = found["current", "stable [operator]", output]
        assert e.relative == pytest.approx(e.of_recipe, rel=0.05)
    with pytest.raises(ValueError, match="swiglu"):
        block_errors(functions.SWIGLU, recipes=("fp32",), formulations={})


class Gated(torch.nn.Module):
    """A Llama's MLP whose two factors see the same."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = torch.nn.Linear(8, 16, bias=False), torch.nn.Linear(8, 16, bias=False)
        self.up_proj.weight.data[:8] = self.gate_proj.weight.data[:8]
        self.act_fn = torch.nn.SiLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act_fn(self.gate_proj(x)) * self.up_proj(x)


def test_aligned_factors_stay_aligned_through_a_capture(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Gated()
    with pl.capture(model, steps=2, tokens=None) as seen:
        for _ in range(2):
            model(torch.randn(256, 8)).sum().backward()
    from precision_lab.lowprecision.capture.captured import Captured

    captured = Captured.load(seen.captured.save(tmp_path / "c.npz"))
    rho = captured.layers[0].correlation()
    np.testing.assert_allclose(rho[:8], 1, atol=1e-6)
    assert np.abs(rho[8:]).max() < 0.99
    (tensors,), left_out = from_capture(captured, tokens=512)
    assert not left_out
    assert tensors.gate is not None
    drawn = np.array(
        [np.corrcoef(tensors.x[:, j].double(), tensors.gate[:, j].double())[0, 1] for j in range(16)]
    )
    np.testing.assert_allclose(drawn, rho, atol=0.15)
    assert (drawn[:8] > 0.95).all()


def test_layers_that_cannot_be_judged_are_named() -> None:
    class Strange(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sin()

    model = torch.nn.Sequential()
    model.add_module("act", Strange())
    model.add_module("relu", torch.nn.ReLU())
    with pl.capture(model) as seen:
        model(torch.randn(64, 32))
    layers, left_out = from_capture(seen.captured)
    assert [t.name for t in layers] == ["relu"]
    assert left_out == [
        "layer 'act' is left out: its activation Strange is none of precision_lab's functions",
        "layer 'relu': no gradient was captured; a normal one, 0.001, stands in its place",
    ]


def test_the_command_prints_and_writes(tmp_path: Path) -> None:
    runner = CliRunner()
    target = tmp_path / "r.json"
    args = ["readiness", "relu2", "--recipe", "bf16", "--recipe", "current", "--json", str(target)]
    result = runner.invoke(app, [*args, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "current" in result.output
    data = json.loads(target.read_text())
    assert [v["verdict"] for v in data["verdicts"]] == ["ready", "ready"]
    page = (tmp_path / "out" / "readiness.html").read_text()
    assert "May relu2 be trained below BF16?" in page
    written = (tmp_path / "out" / "readiness.md").read_text()
    assert "| relu2 (init) | current | ready |" in written
    assert written.index("Use current (ready)") < written.index("| relu2 (init) |")
    assert "from transformer_engine.common.recipe import Float8CurrentScaling" in result.output


def test_the_command_judges_a_capture(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 32), XIELU())
    with pl.capture(model) as seen:
        model(torch.full((64, 8), math.nan)).sum().backward()
        model(torch.randn(64, 8)).sum().backward()
    path = seen.captured.save(tmp_path / "seen.npz")
    runner = CliRunner()
    result = runner.invoke(app, ["readiness", "--captured", str(path), "--recipe", "mxfp8"])
    assert result.exit_code == 0, result.output
    assert "2048 NaN" in result.output.replace("\n", " ")
    path.write_bytes(path.read_bytes()[:100])
    for wrong, words in (
        (["--captured", str(path)], "no capture"),
        (["--captured", str(path), "xielu"], "give it without FUNCTION"),
        ([], "FUNCTION is missing"),
        (["xielu", "--recipe", "mxfp9"], "mxfp9"),
        (["xielu", "--growth", "0"], "growth=0.0"),
        (["xielu", "--scale", "1e300"], "scale=1e+300: pre-activations of distribution 'normal' overflow"),
        (["xielu", "--probe", str(tmp_path)], "is reported with --out"),
        (["--captured", str(path), "--params", "first-layer"], "give it without FUNCTION"),
        (["xielu", "--scale", "-1"], "scale=-1"),
        (["xielu", "--distribution", "cauchy"], "cauchy"),
        (["xielu", "--path", "fusd"], "fusd"),
        (["xielu", "--formulation", "naif"], "naif"),
    ):
        result = runner.invoke(app, ["readiness", *wrong])
        assert result.exit_code == 2, (wrong, result.output)
        assert words in result.output
    result = runner.invoke(
        app, ["readiness", "relu2", "--distribution", "normal", "--growth", "64", "--recipe", "delayed"]
    )
    assert result.exit_code == 1


def test_a_recipe_that_is_not_ready_is_not_excused_by_bf16() -> None:
    """BF16 is what a recipe below it is compared with, and ready in itself."""
    args = ["readiness", "relu2", "--distribution", "normal", "--growth", "64"]
    both = CliRunner().invoke(app, [*args, "--recipe", "bf16", "--recipe", "delayed"])
    assert both.exit_code == 1, both.output
    assert CliRunner().invoke(app, [*args, "--recipe", "bf16"]).exit_code == 0
