"""A small Llama: RMSNorm, rotary attention, an MLP of a chosen activation; every product through a recipe.

As in the paper, an MLP without a gate is 1.5 times as wide, so that all models have the same number of
weights. Embedding and output layer stay in BF16 (FP32 under recipe "fp32"), as FP8 training leaves them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from precision_lab.exceptions import UsageError
from precision_lab.implementations.base import Implementation
from precision_lab.lowprecision.probe.ageing import AGEINGS, Ageing, degree
from precision_lab.lowprecision.readiness.remedies import REMEDIES, Remedy, get_remedy, smoothing_scales
from precision_lab.lowprecision.recipes.base import Recipe
from precision_lab.lowprecision.recipes.linear import EmulatedLinear
from precision_lab.lowprecision.recipes.recipes import RECIPES
from precision_lab.running.runner import call


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the model.

    Attributes:
        width: of the residual stream.
        layers: transformer blocks.
        heads: attention heads; divides width.
        hidden: width of a gated MLP; one without a gate is 1.5 times as wide.
        context: tokens of a sequence.
        vocabulary: token values; 256 for bytes.
    """

    width: int = 64
    layers: int = 3
    heads: int = 4
    hidden: int = 128
    context: int = 64
    vocabulary: int = 256

    def __post_init__(self) -> None:
        for name in ("width", "layers", "heads", "hidden", "context", "vocabulary"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)!r}: at least 1")
        if self.vocabulary < 256:
            raise UsageError(f"vocabulary={self.vocabulary!r}: at least 256, for every byte of the text")
        if self.width % self.heads or self.width // self.heads % 2:
            raise UsageError(
                f"width={self.width!r}, heads={self.heads!r}: each head needs an even share of the width"
            )


class Activation(nn.Module):
    """A formulation of a function with its trainable raw parameters, in FP32.

    Args:
        implementation: the formulation, and with it the function.
        remedy: may cap α_p and soften the square.
    """

    def __init__(self, implementation: Implementation, remedy: Remedy = REMEDIES["none"]) -> None:
        super().__init__()
        self.implementation = implementation
        self.definition = implementation.function
        self.precision_lab_function = self.definition  # for `capture`
        self.raw = nn.ParameterDict()
        self.remedy = remedy
        self.grown = 1.0
        values = self.definition.check_params()
        beta = values.get("beta", 0.0)
        for parameter in self.definition.parameters:
            if parameter.raw is not None and parameter.trainable and not parameter.operand:
                shift = beta if parameter.raw == "softplus+beta" else 0.0
                value = values[parameter.name] - shift
                start = value if parameter.raw == "identity" else math.log(math.expm1(value))
                self.raw[parameter.name] = nn.Parameter(torch.tensor(start, dtype=torch.float32))

    def effective_parameters(self) -> dict[str, Tensor]:
        """The values that the formulas use, in FP32."""
        values = self.definition.check_params()
        found = {}
        for parameter in self.definition.parameters:
            if parameter.name in self.raw:
                value = self.raw[parameter.name]
                if parameter.raw != "identity":
                    value = nn.functional.softplus(value)
                if parameter.raw == "softplus+beta":
                    value = value + values["beta"]
                if parameter.name == "alpha_p":
                    value = (value * self.grown).clamp(max=self.remedy.alpha_cap)
                found[parameter.name] = value
            else:
                found[parameter.name] = torch.tensor(values[parameter.name], dtype=torch.float32)
        return found

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """f(x), or SiLU(x)·gate; in the dtype of x."""
        x = self.remedy.softened(x)
        if gate is not None:
            return call(self.implementation, x, {operand.name: gate for operand in self.definition.operands})
        return call(self.implementation, x, {k: v.to(x) for k, v in self.effective_parameters().items()})


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        scaled: Tensor = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)
        return scaled * self.weight


Linear = Callable[[int, int], EmulatedLinear]


class MLP(nn.Module):
    """down(f(up(x))), or down(SiLU(gate(x))·up(x))."""

    def __init__(self, config: ModelConfig, act: Activation, linear: Linear) -> None:
        super().__init__()
        gated = act.definition.is_gated
        hidden = config.hidden if gated else config.hidden * 3 // 2
        self.act = act
        self.gate_proj = linear(config.width, hidden) if gated else None
        self.up_proj = linear(config.width, hidden)
        self.down_proj = linear(hidden, config.width)
        self.factors: Tensor
        self.register_buffer("factors", torch.ones(hidden), persistent=False)
        self.watch = False
        self.kurtosis = (math.nan, math.nan)  # of the activation's input and output, where watched

    def align(self, channels: Tensor) -> None:
        """Makes the gate's rows of these channels those of the other factor, as long training tends to."""
        if self.gate_proj is not None:
            with torch.no_grad():
                self.up_proj.weight[channels] = self.gate_proj.weight[channels]

    def grow(self, channels: Tensor, factor: float, alpha: float) -> None:
        """Sets how much larger than its weights the block is."""
        self.factors[channels] = factor
        self.act.grown = alpha if "alpha_p" in self.act.raw else 1.0

    def forward(self, x: Tensor) -> Tensor:
        up = self.factors
        if self.gate_proj is not None:
            before = self.gate_proj(x, rows=up)
            h = self.act(before, self.up_proj(x, rows=up))
        else:
            before = self.up_proj(x, rows=up)
            h = self.act(before)
        if self.watch:
            self.kurtosis = (kurtosis(before), kurtosis(h))
        down = 1 / (up ** degree(self.act.definition) * self.act.grown)
        if self.act.remedy.smooth:
            scales = smoothing_scales(h)
            h, down = h / scales.to(h.dtype), down * scales
        return self.down_proj(h, columns=down)  # type: ignore[no-any-return]


def kurtosis(x: Tensor) -> float:
    """Fourth central moment over the squared variance, of all elements."""
    centred = x.detach().double() - x.detach().double().mean()
    return float(centred.pow(4).mean() / centred.square().mean().square())


class Attention(nn.Module):
    def __init__(self, config: ModelConfig, linear: Linear) -> None:
        super().__init__()
        self.heads = config.heads
        self.qkv_proj = linear(config.width, 3 * config.width)
        self.o_proj = linear(config.width, config.width)
        size = config.width // config.heads
        angle = torch.outer(torch.arange(config.context), 1e4 ** -(torch.arange(0, size, 2) / size))
        self.cosine: Tensor
        self.sine: Tensor
        self.register_buffer("cosine", angle.cos(), persistent=False)
        self.register_buffer("sine", angle.sin(), persistent=False)

    def _rotated(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, -1)
        c, s = (table[: x.shape[-2]] for table in (self.cosine, self.sine))
        return torch.cat([first * c - second * s, second * c + first * s], -1)

    def forward(self, x: Tensor) -> Tensor:
        # In FP32, like the softmax of any recipe; torch's BF16 attention is several times slower on a CPU.
        qkv = self.qkv_proj(x).float().chunk(3, -1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(-3, -2) for t in qkv)
        y = nn.functional.scaled_dot_product_attention(self._rotated(q), self._rotated(k), v, is_causal=True)
        return self.o_proj(y.transpose(-3, -2).flatten(-2).to(x.dtype))  # type: ignore[no-any-return]


class Block(nn.Module):
    def __init__(self, config: ModelConfig, act: Activation, linear: Linear) -> None:
        super().__init__()
        self.input_norm, self.mlp_norm = RMSNorm(config.width), RMSNorm(config.width)
        self.attention = Attention(config, linear)
        self.mlp = MLP(config, act, linear)

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        x = x + self.attention(self.input_norm(x).to(dtype)).float()
        x = x + self.mlp(self.mlp_norm(x).to(dtype)).float()
        return x


class Model(nn.Module):
    """The whole model; the residual stream is FP32, as autocast leaves it.

    Args:
        implementation: of the activation.
        recipe: what every product of the blocks goes through.
        remedy: what is done for the activation.
        seed: of the weights, which are the same for all recipes and formulations; of stochastic rounding.
    """

    def __init__(
        self,
        config: ModelConfig,
        implementation: Implementation,
        recipe: Recipe,
        *,
        remedy: str | Remedy = "none",
        seed: int = 0,
    ) -> None:
        super().__init__()
        remedy = get_remedy(remedy)
        self.config = config
        self.dtype = torch.float32 if recipe == RECIPES["fp32"] else torch.bfloat16
        self.generator = torch.Generator().manual_seed(seed)
        outer = RECIPES["fp32" if recipe == RECIPES["fp32"] else "bf16"]
        self.embedding = nn.Parameter(torch.empty(config.vocabulary, config.width))
        blocks = []
        for i in range(config.layers):
            edge = i < remedy.edge_bf16 or i >= config.layers - remedy.edge_bf16
            linear = partial(EmulatedLinear, recipe=outer if edge else recipe, generator=self.generator)
            blocks.append(Block(config, Activation(implementation, remedy), linear))
        self.blocks = nn.ModuleList(blocks)
        self.norm = RMSNorm(config.width)
        self.output = EmulatedLinear(config.width, config.vocabulary, outer)
        self._initialise(seed)

    def _initialise(self, seed: int) -> None:
        """Normal, 0.02; what writes into the residual stream smaller by √(2·layers), as GPT-2 does."""
        generator = torch.Generator().manual_seed(seed)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                deviation = 0.02 / math.sqrt(2 * self.config.layers) if name.endswith(
                    ("o_proj.weight", "down_proj.weight")
                ) else 0.02  # fmt: skip
                with torch.no_grad():
                    weight.normal_(0, deviation, generator=generator)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits, FP32, shape (batch, tokens, vocabulary), of int64 tokens, shape (batch, tokens)."""
        x = self.embedding[tokens]
        for block in self.blocks:
            x = block(x, self.dtype)
        return self.output(self.norm(x).to(self.dtype)).float()  # type: ignore[no-any-return]

    def linears(self) -> dict[str, EmulatedLinear]:
        """Every product, by its qualified name."""
        return {n: m for n, m in self.named_modules() if isinstance(m, EmulatedLinear)}

    def mlps(self) -> list[MLP]:
        """The MLP of each block."""
        return [m for m in self.modules() if isinstance(m, MLP)]

    def age(self, ageing: Ageing, step: int) -> None:
        """The model as old as it is `step` steps after the ageing began."""
        factor, alpha = ageing.at(step)
        for mlp in self.mlps():
            hidden = mlp.factors.numel()
            channels = torch.arange(ageing.channels, device=mlp.factors.device) * hidden // ageing.channels
            if step == 0 and ageing.name != "none":
                mlp.align(channels)
            mlp.grow(channels, factor, alpha)

    def step(self) -> None:
        """Ends a step of every history."""
        for linear in self.linears().values():
            linear.operands.step()


__all__ = ["AGEINGS", "Activation", "Ageing", "Model", "ModelConfig"]
