"""What captured counts say without drawing: kernels' errors and recipes with one scale."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import precision_lab as pl
from precision_lab import functions
from precision_lab.kernels import XIELU
from precision_lab.lowprecision.capture.captured import Captured
from precision_lab.lowprecision.capture.counts import Histogram, Layer
from precision_lab.lowprecision.readiness.passage import forward_passage
from precision_lab.lowprecision.readiness.readiness import readiness
from precision_lab.lowprecision.readiness.risk import channel_noise, channel_ratios, from_capture, numbers
from precision_lab.lowprecision.readiness.weighed import kernel_errors, weigh_forward
from precision_lab.lowprecision.recipes.recipes import RECIPES, get_recipe
from precision_lab.report.document import readiness as report

SPREAD = torch.tensor([1.0, 10.0, 0.01, 3.0, 1.0, 300.0, 1e-4, 0.0])


def tensor(rows: int = 300) -> torch.Tensor:
    return (torch.randn(rows, 8, generator=torch.Generator().manual_seed(5)) * SPREAD).bfloat16()


def captured(x: torch.Tensor) -> Captured:
    model = torch.nn.Sequential(XIELU())
    with pl.capture(model, tokens=None, gradients=False) as seen:
        model(x)
    return seen.captured


@pytest.mark.parametrize("path", ["fused", "unfused", "fp8-in"])
@pytest.mark.parametrize("recipe", [n for n, r in RECIPES.items() if r.tensorwise])
def test_counts_say_what_the_tensor_itself_does(recipe: str, path: str) -> None:
    x = tensor()
    layer = captured(x).layers[0]
    whole = forward_passage(functions.XIELU, layer.params, x, recipe, path=path)
    weighed = weigh_forward(
        functions.XIELU, layer.params, layer.tensors["input"], get_recipe(recipe), path=path, kernel=None,
        growth=1.0,
    )  # fmt: skip
    for name, value in asdict(whole.tensor()).items():
        assert getattr(weighed.quality, name) == pytest.approx(value, rel=1e-12, nan_ok=True), name
    # Channels are counted by 10 of 16 bits: alike on average, and the channel of zeros is left out.
    assert weighed.ratios.size == 7
    assert channel_noise(weighed.ratios) == pytest.approx(channel_noise(channel_ratios(whole)), rel=0.1)


def test_a_channel_lost_under_a_shared_scale_is_seen() -> None:
    layers, _ = from_capture(captured(tensor()))
    found = numbers(layers[0], "current")
    assert found.channels_lost >= 1 / 7
    assert found.worst_channel_db == pytest.approx(0, abs=1e-9)  # the channel of 1e-4 becomes zeros
    assert numbers(layers[0], "bf16").channels_lost == 0
    assert numbers(layers[0], "current", remedy="smooth").channels_lost == 0


def test_blocks_are_not_weighed() -> None:
    layer = captured(tensor()).layers[0]
    with pytest.raises(ValueError, match="recipe='mxfp8': blocks share"):
        weigh_forward(
            functions.XIELU, layer.params, layer.tensors["input"], get_recipe("mxfp8"), path="fused",
            kernel=None, growth=1.0,
        )  # fmt: skip


def counted(counts: dict[int, int], function: str = "xielu") -> Captured:
    """A layer of one channel in which these bf16 patterns were seen so often."""
    patterns = np.zeros(1 << 16, np.uint64)
    for bits, n in counts.items():
        patterns[bits] = n
    channels = patterns.reshape(1024, 64).sum(1)[None]
    histogram = Histogram(patterns, channels, np.zeros(1, np.float32))
    params = {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.5} if function == "xielu" else {}
    return Captured("Model", 1, (Layer("act", "Act", function, params, {"input": histogram}),))


def errors(of: Captured, implementation: str, output: str):
    return next(e for e in kernel_errors(of) if (e.implementation, e.output) == (implementation, output))


def test_each_input_weighs_as_often_as_it_was_seen() -> None:
    # 0xb3d7 is −1.0e-07, where a clamp at −1e-6 turns the sign of d/dx; 0x3f80 is 1.
    of = counted({0xB3D7: 3, 0x3F80: 97, 0x7FC0: 50})
    clamped = errors(of, "eps-expm1 [eager]", "grad_x")
    exact = pl.measure("eps-expm1", "xielu", fmt="bf16", output="grad_x",
                       inputs=np.array([np.float32(-1.0011717677116394e-07)]))  # fmt: skip
    assert (clamped.n, clamped.worst_bits) == (100, 0xB3D7)
    assert clamped.wrong_sign == clamped.beyond_one_ulp == 0.03
    assert clamped.max_ulp == pytest.approx(exact.max_ulp, abs=2**-10)
    assert clamped.p99_ulp == clamped.max_ulp
    rest = errors(counted({0x3F80: 97}), "eps-expm1 [eager]", "grad_x").max_ulp
    assert clamped.mean_ulp == pytest.approx((3 * clamped.max_ulp + 97 * rest) / 100, rel=1e-12)
    assert errors(counted({0xB3D7: 1, 0x3F80: 199}), "eps-expm1 [eager]", "grad_x").p99_ulp == rest
    assert errors(of, "stable [operator]", "grad_x").max_ulp <= 0.51


def test_a_misplaced_nan_is_a_share_and_no_ulp_figure() -> None:
    found = errors(counted({0x7F00: 1, 0x3F80: 3}), "naive [eager]", "grad_x")  # 0x7f00 is 1.7e38
    assert found.nonfinite_mismatch == found.beyond_one_ulp == 0.25
    assert found.worst_bits == 0x3F80


def test_the_worst_input_is_what_the_lab_measures_over_all() -> None:
    everything = counted({bits: 1 for bits in range(1 << 16)}, "gelu")
    m = pl.measure("torch", "gelu", fmt="bf16", inputs="exhaustive")
    found = errors(everything, "torch [eager]", "forward")
    assert found.max_ulp == pytest.approx(m.max_ulp, abs=2**-10)
    assert found.wrong_sign * found.n == m.wrong_sign


def test_the_report_names_the_layer_and_the_input() -> None:
    of = counted({0xB3D7: 3, 0x3F80: 97})
    layers, _ = from_capture(of, tokens=4)
    data = readiness(layers, source="test", recipes=("bf16",), captured=of).to_json()
    row = {"function": "xielu", "params_name": "captured", "inputs": "test", **data}
    data = {"readiness": [row], "maps": [], "blocks": []}
    found = {s.anchor: s for s in report(data, "Readiness").sections}
    text, short, table, _ = found["kernels"].parts
    assert "every input and output: xielu/stable [eager], xielu/stable [operator]." in text
    row = next(r for r in short.rows if r[0] == "xielu/eps-expm1 [eager]")
    assert row[short.headings.index("grad_x")] == "3.00 %, wrong sign 3.00 %"
    line = next(r for r in table.rows if r[:2] == ["xielu/eps-expm1 [eager]", "grad_x"])
    assert line[2:4] == ["3.00 %", "3.00 %"]
    assert line[-2:] == ["act", "0xb3d7"]
    assert any("that were captured" in p for p in found["readiness"].parts if isinstance(p, str))
