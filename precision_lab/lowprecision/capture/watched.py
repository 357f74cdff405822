"""One activation, or one product, of a model that is being watched, and its counts so far."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from precision_lab.functions import Activation
from precision_lab.lowprecision.capture.counters import Counter, DeviceCounter
from precision_lab.lowprecision.capture.counts import Layer, Product
from precision_lab.lowprecision.capture.functional import Call
from precision_lab.lowprecision.capture.recognised import GATED_FORMS, function_of, parameters_of
from precision_lab.lowprecision.recipes.quantized import as_matrix
from precision_lab.lowprecision.recipes.scales import amax


class _Told(Protocol):
    """What computes an activation, as it is when it is asked."""

    kind: str

    def told(self) -> tuple[str, Activation | None, dict[str, float]]: ...


class FromModule:
    """An activation that is a module."""

    def __init__(self, module: nn.Module) -> None:
        self.kind, self._module = type(module).__name__, module

    def told(self) -> tuple[str, Activation | None, dict[str, float]]:
        """Name, definition and parameters.

        Raises:
            ValueError: a parameter is not a single number.
        """
        name, function = function_of(self._module)
        return name, function, parameters_of(self._module, function)


class FromCall:
    """An activation that is a call."""

    def __init__(self, call: Call) -> None:
        self.kind, self._call = f"{call.name}()", call

    def told(self) -> tuple[str, Activation | None, dict[str, float]]:
        """Name, definition and parameters."""
        return self._call.function.name, self._call.function, dict(self._call.params)


class Counting:
    """Counts of tensors by kind."""

    def __init__(self, name: str, tokens: int | None) -> None:
        self.name, self._tokens = name, tokens
        self.steps = 0
        self.counters: dict[str, Counter | DeviceCounter] = {}
        self.notes: list[str] = []

    def count(self, kind: str, tensor: object) -> Tensor | None:
        """Counts a tensor; the rows that were counted, shape (rows, channels), or None."""
        if not isinstance(tensor, Tensor) or tensor.ndim == 0 or tensor.numel() == 0:
            return None
        rows = as_matrix(tensor.detach())
        if kind not in self.counters:
            on_cpu, channels = rows.device.type == "cpu", rows.shape[1]
            self.counters[kind] = Counter(channels) if on_cpu else DeviceCounter(channels, rows.device)
        counter = self.counters[kind]
        if counter.channels != rows.shape[1]:
            self.notes.append(
                f"{kind} values of {rows.shape[1]} channels were not counted; the first had "
                f"{counter.channels}"
            )
            return None
        stride = 1 if self._tokens is None else -(-rows.shape[0] // self._tokens)
        counter.add(rows, stride)
        return rows[::stride]


class WatchedProduct(Counting):
    """The input of a matrix product.

    Attributes:
        shared: what counts the same tensor, for another module that was given it first.
        after: the activation whose result it is; "" for none.
    """

    def __init__(self, name: str, module: str, tokens: int | None) -> None:
        super().__init__(name, tokens)
        self.module = module
        self.shared: WatchedProduct | None = None
        self.also: list[str] = []
        self.after = ""

    def product(self) -> Product:
        """What was counted so far."""
        return Product(
            self.name, self.module, self.counters["input"].histogram(), tuple(self.also),
            self.after, tuple(dict.fromkeys(self.notes)),
        )  # fmt: skip


class Watched(Counting):
    """An activation.

    Attributes:
        gated: its result is multiplied by another tensor before the next product.
        by_name: that was known beforehand, by the names of its neighbours.
        counting: whether the pass that is under way is counted.
        gates: gates that were counted.
        without_gradient: passes that were counted and whose output wanted no gradient.
    """

    def __init__(self, name: str, tokens: int | None, source: _Told) -> None:
        super().__init__(name, tokens)
        self.source = source
        self.gated = self.by_name = False
        self.gates = self.without_gradient = 0
        self.counting = False
        self._amax: dict[str, Tensor] = {}
        self._moments: Tensor | None = None
        self._half: dict[str, Tensor] = {}  # of input and gate, the one that came first

    def note_amax(self, what: str, tensor: Tensor) -> None:
        """Remembers the largest finite magnitude; stays on the tensor's device."""
        if tensor.numel() == 0:
            return
        found = amax(tensor.detach())
        if found.isinf():
            found = tensor.detach().float().abs().nan_to_num(nan=0.0, posinf=0.0).amax()
        self._amax[what] = torch.maximum(self._amax[what], found) if what in self._amax else found

    def add(self, kind: str, tensor: object) -> None:
        """Counts a tensor, and its moments with its other factor where there is one."""
        rows = self.count(kind, tensor)
        # In the first pass it is not known yet whether a gate will come.
        if rows is not None and kind != "gradient" and (self.gated or self.steps == 1):
            self._pair(kind, rows)

    def _pair(self, kind: str, rows: Tensor) -> None:
        """Adds to the moments once both have come."""
        self._half[kind] = rows.double()
        if len(self._half) < 2:
            return
        x, g = self._half.pop("input"), self._half.pop("gate")
        if x.shape != g.shape:
            return
        finite = x.isfinite() & g.isfinite()
        x, g = torch.where(finite, x, 0.0), torch.where(finite, g, 0.0)
        sums = torch.stack([finite.double().sum(0), *(t.sum(0) for t in (x, g, x * x, g * g, x * g))])
        self._moments = sums if self._moments is None else self._moments + sums

    def layer(self) -> Layer:
        """What was counted so far."""
        notes = list(dict.fromkeys(self.notes))
        try:
            name, function, params = self.source.told()
        except ValueError as error:
            name, function, params = "", None, {}
            notes.append(str(error))
        # A module that is given the gate returns the product; one that is not gets the gate's gradient too.
        apart = self.gated and not (function is not None and function.is_gated)
        if apart and function is not None:
            name = GATED_FORMS.get(function, function).name
        largest = {what: float(value) for what, value in self._amax.items()}
        product, result = largest.pop("product", None), largest.pop("result", None)
        stored = product if self.gated else result
        return Layer(
            self.name, self.source.kind, name, params,
            {kind: counter.histogram() for kind, counter in self.counters.items()},
            None if self._moments is None else self._moments.cpu().numpy(),
            largest if stored is None else {"stored": stored, **largest}, apart, tuple(notes),
        )  # fmt: skip


__all__ = ["FromCall", "FromModule", "Watched", "WatchedProduct"]
