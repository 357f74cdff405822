"""Watches the activations of a PyTorch model while it runs, and counts what passes."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from precision_lab.exceptions import UsageError
from precision_lab.lowprecision.capture.captured import Captured
from precision_lab.lowprecision.capture.counters import Counter, DeviceCounter
from precision_lab.lowprecision.capture.counts import Layer
from precision_lab.lowprecision.capture.recognised import GATED_FORMS, NAMES, function_of, parameters_of
from precision_lab.lowprecision.recipes.quantized import as_matrix
from precision_lab.lowprecision.recipes.scales import amax

F = TypeVar("F", bound=Callable[..., Any])


def _uncompiled(function: F) -> F:
    """What torch.compile is to call and not to look into."""
    return cast(F, torch.compiler.disable(function))  # type: ignore[no-untyped-call]


class capture:
    """Counts what enters a model's activations, and the gradients that come back to them.

    Use it as a context manager around forward (and backward) passes; `captured` then holds the counts::

        with precision_lab.capture(model, steps=10) as seen:
            for batch in batches: ...
        seen.captured.save("run.npz")

    The numbers are counted as bf16; a float32 tensor is rounded to it. A gated layer (a module with
    `gate_proj` and `up_proj`, as in a Llama) also has the factor it multiplies by counted, as "gate". An
    activation of your own tells its function by an attribute, `precision_lab_function = "xielu"`, and its
    parameters by a method `effective_parameters()` that returns tensors by name.

    Args:
        model: any module.
        match: pattern of qualified names of the modules to watch, such as "*.mlp.act_fn"; or a predicate of
            name and module. By default, every activation that is known by its class or its name.
        steps: forward passes to count for each module; then its hooks do nothing. A checkpointed block that
            runs again for its gradients is not counted again.
        tokens: rows of each pass that are counted, evenly spread; all when None. The largest
            magnitudes, and how many numbers were NaN or infinite, are of all rows.
        gradients: count gradients too.

    Raises:
        ValueError: no module matches, naming some of the model's; steps or tokens below 1.
    """

    def __init__(
        self,
        model: nn.Module,
        match: str | Callable[[str, nn.Module], bool] | None = None,
        *,
        steps: int = 10,
        tokens: int | None = 128,
        gradients: bool = True,
    ) -> None:
        for name, value in (("steps", steps), ("tokens", tokens)):
            if value is not None and value < 1:
                raise UsageError(f"{name}={value!r}: at least 1")
        self._model, self._steps, self._tokens, self._gradients = model, steps, tokens, gradients
        modules = dict(model.named_modules())
        chosen = {name: module for name, module in modules.items() if _matches(match, name, module)}
        if not chosen:
            some = ", ".join(sorted({type(m).__name__ for m in modules.values()})[:12])
            raise UsageError(
                f"match={match!r}: no module of {type(model).__name__} matches; its modules are of {some}"
            )
        self._watched = [_Watched(name, module) for name, module in chosen.items()]
        self._modules = modules
        self._handles: list[Any] = []

    def __enter__(self) -> capture:
        for watched in self._watched:
            self._handles += [
                watched.module.register_forward_pre_hook(
                    lambda _, args, kwargs, w=watched: self._before(w, [*args, *kwargs.values()]),
                    with_kwargs=True,
                ),
                watched.module.register_forward_hook(lambda _, __, output, w=watched: self._after(w, output)),
            ]
            parent = self._modules.get(watched.name.rpartition(".")[0])
            up, down = (getattr(parent, name, None) for name in ("up_proj", "down_proj"))
            if isinstance(up, nn.Module) and isinstance(getattr(parent, "gate_proj", None), nn.Module):
                watched.gated = True
                self._handles.append(
                    up.register_forward_hook(lambda _, __, output, w=watched: self._gate(w, output))
                )
                if isinstance(down, nn.Module):
                    self._handles.append(
                        down.register_forward_pre_hook(
                            lambda _, args, w=watched: self._stored(w, args[0] if args else None)
                        )
                    )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def captured(self) -> Captured:
        """What has been counted so far.

        Raises:
            ValueError: nothing: no forward pass came through a watched module.
        """
        layers = tuple(watched.layer() for watched in self._watched if "input" in watched.counters)
        if not layers:
            raise UsageError(
                f"nothing was captured: no forward pass of {type(self._model).__name__} came by. A model "
                "that torch.compile had run before the capture began does not call its hooks: capture first"
            )
        return Captured(type(self._model).__name__, max(w.steps for w in self._watched), layers)

    # Hooks see a model at work: none of them may raise or change anything, and torch.compile is to leave
    # them alone.

    @_uncompiled
    def _before(self, watched: _Watched, given: list[Any]) -> None:
        x = next((t for t in given if isinstance(t, Tensor)), None)
        watched.counting = (
            x is not None and x.numel() > 0 and not _recomputes() and watched.steps < self._steps
        )
        if x is None:
            return
        if watched.counting:
            watched.steps += 1
            # Before the module runs: it may work in place.
            self._count(watched, "input", x)
        if self._gradients and x.requires_grad and (watched.counting or self._again(watched)):
            x.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: watched.note_amax("returned", gradient)
            )

    @_uncompiled
    def _after(self, watched: _Watched, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        if watched.counting and not watched.gated:
            watched.note_amax("stored", output)
        if not self._gradients:
            return
        again = self._again(watched)
        if output.requires_grad and (watched.counting or again):
            watched.without_gradient -= int(again)
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: self._count(watched, "gradient", gradient)
            )
        elif watched.counting:
            watched.without_gradient += 1

    def _again(self, watched: _Watched) -> bool:
        """Whether this is a checkpointed block's second run, and its first had no gradients."""
        return _recomputes() and watched.without_gradient > 0

    @_uncompiled
    def _gate(self, watched: _Watched, output: Any) -> None:
        if (
            watched.gates < self._steps
            and not _recomputes()
            and isinstance(output, Tensor)
            and output.numel()
        ):
            watched.gates += 1
            self._count(watched, "gate", output)

    @_uncompiled
    def _stored(self, watched: _Watched, product: Any) -> None:
        if isinstance(product, Tensor) and watched.counting and not _recomputes():
            watched.note_amax("stored", product)

    def _count(self, watched: _Watched, kind: str, tensor: Any) -> None:
        if not isinstance(tensor, Tensor) or tensor.ndim == 0 or tensor.numel() == 0:
            return
        rows = as_matrix(tensor.detach())
        if kind not in watched.counters:
            on_cpu, channels = rows.device.type == "cpu", rows.shape[1]
            watched.counters[kind] = Counter(channels) if on_cpu else DeviceCounter(channels, rows.device)
        counter = watched.counters[kind]
        if counter.channels != rows.shape[1]:
            watched.notes.append(
                f"{kind} values of {rows.shape[1]} channels were not counted; the first had "
                f"{counter.channels}"
            )
            return
        stride = 1 if self._tokens is None else -(-rows.shape[0] // self._tokens)
        counter.add(rows, stride)
        if watched.gated and kind != "gradient":
            watched.pair(kind, rows[::stride])


def _recomputes() -> bool:
    """Whether this forward pass runs within a backward pass: a checkpointed block, counted before."""
    return bool(torch._C._current_graph_task_id() != -1)


class _Watched:
    def __init__(self, name: str, module: nn.Module) -> None:
        self.name, self.module, self.gated = name, module, False
        self.steps = self.gates = self.without_gradient = 0
        self.counting = False  # the pass that is under way
        self.counters: dict[str, Counter | DeviceCounter] = {}
        self.amax: dict[str, Tensor] = {}
        self.notes: list[str] = []
        self.moments: Tensor | None = None
        self._half: dict[str, Tensor] = {}  # of input and gate, the one that came first

    def note_amax(self, what: str, tensor: Tensor) -> None:
        """Remembers the largest finite magnitude; stays on the tensor's device."""
        if tensor.numel() == 0:
            return
        found = amax(tensor.detach())
        if found.isinf():
            found = tensor.detach().float().abs().nan_to_num(nan=0.0, posinf=0.0).amax()
        self.amax[what] = torch.maximum(self.amax[what], found) if what in self.amax else found

    def pair(self, kind: str, rows: Tensor) -> None:
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
        self.moments = sums if self.moments is None else self.moments + sums

    def layer(self) -> Layer:
        name, function = function_of(self.module)
        notes = list(dict.fromkeys(self.notes))
        try:
            params = parameters_of(self.module, function)
        except ValueError as error:
            name, function, params = "", None, {}
            notes.append(str(error))
        # A module that is given the gate returns the product; one that is not gets the gate's gradient too.
        apart = self.gated and not (function is not None and function.is_gated)
        if apart and function is not None:
            name = GATED_FORMS.get(function, function).name
        return Layer(
            self.name, type(self.module).__name__, name, params,
            {kind: counter.histogram() for kind, counter in self.counters.items()},
            None if self.moments is None else self.moments.cpu().numpy(),
            {what: float(value) for what, value in self.amax.items()}, apart, tuple(notes),
        )  # fmt: skip


def _matches(match: str | Callable[[str, nn.Module], bool] | None, name: str, module: nn.Module) -> bool:
    if callable(match):
        return match(name, module)
    if match is not None:
        return fnmatch.fnmatchcase(name, match)
    known = bool(function_of(module)[0]) or name.rpartition(".")[2] in NAMES
    return bool(name) and known


__all__ = ["capture"]
