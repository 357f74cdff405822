"""Watches a PyTorch model while it runs, and counts what enters its activations and its matrix products."""

from __future__ import annotations

import fnmatch
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from precision_lab.exceptions import UsageError
from precision_lab.lowprecision.capture.captured import Captured
from precision_lab.lowprecision.capture.functional import (
    BY_HAND,
    MULTIPLICATIONS,
    PRODUCTS,
    call_of,
    first_tensor,
)
from precision_lab.lowprecision.capture.recognised import NAMES, function_of
from precision_lab.lowprecision.capture.untrained import looks_initial
from precision_lab.lowprecision.capture.watched import FromCall, FromModule, Watched, WatchedProduct

F = TypeVar("F", bound=Callable[..., Any])
_RECENT = 4  # tensors that are remembered: what is shared or multiplied comes soon after


def _uncompiled(function: F) -> F:
    """What torch.compile is to call and not to look into."""
    return cast(F, torch.compiler.disable(function))  # type: ignore[no-untyped-call]


class _Calls(TorchFunctionMode):
    """Hands every call of a torch function to the capture that is under way."""

    def __init__(self, owner: capture) -> None:
        super().__init__()
        self._owner = owner

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if torch.compiler.is_compiling():
            return func(*args, **kwargs)
        return self._owner._called(func, args, kwargs)


class capture:
    """Counts what enters a model's activations and products, and the gradients that come back to activations.

    Use it as a context manager around forward (and backward) passes; `captured` then holds the counts::

        with precision_lab.capture(model, steps=10) as seen:
            for batch in batches: ...
        seen.captured.save("run.npz")

    The numbers are counted as bf16; a float32 tensor is rounded to it. An activation may be a module or a
    call, such as `F.silu(x)` or `x.relu()`, which has the name of the module that calls it. A factor that its
    result is multiplied by, as in a Llama, is counted as its "gate". A module of your own tells its
    function by an attribute, `precision_lab_function = "xielu"`, and its parameters by a method
    `effective_parameters()` that returns tensors by name. What is written out by hand, as
    `x * torch.sigmoid(x)`, is named among `captured.unseen` and not counted: give it such a module.

    Args:
        model: any module.
        match: pattern of qualified names of the activations to watch, such as "*.mlp.act_fn"; or a
            predicate of name and module. By default, every module that is known by its class or its name, and
            every call.
        steps: forward passes to count for each module; then its hooks do nothing. A checkpointed block that
            runs again for its gradients is not counted again.
        tokens: rows of each pass that are counted, evenly spread; all when None. The largest
            magnitudes, and how many numbers were NaN or infinite, are of all rows.
        gradients: count gradients too.
        products: count the inputs of linear layers too, by module or `F.linear`. Modules that are given the
            very same tensor are counted once.

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
        products: bool = True,
    ) -> None:
        for name, value in (("steps", steps), ("tokens", tokens)):
            if value is not None and value < 1:
                raise UsageError(f"{name}={value!r}: at least 1")
        self._model, self._match, self._steps, self._tokens = model, match, steps, tokens
        self._gradients = gradients
        modules = dict(model.named_modules())
        self._watched = {
            name: Watched(name, tokens, FromModule(module))
            for name, module in modules.items()
            if _matches(match, name, module)
        }
        # What such a module calls is its own affair; one of another class says by its calls what it is.
        self._known = {name for name in self._watched if function_of(modules[name])[0]}
        self._products: dict[str, WatchedProduct] | None = None
        if products:
            self._products = {
                name: WatchedProduct(name, type(module).__name__, tokens)
                for name, module in modules.items()
                if name and _is_product(module)
            }
        if not self._watched and (match is not None or len(modules) < 2):
            some = ", ".join(sorted({type(m).__name__ for m in modules.values()})[:12])
            raise UsageError(
                f"match={match!r}: no module of {type(model).__name__} matches; its modules are of {some}"
            )
        self._modules = modules
        self._handles: list[Any] = []
        self._calls = _Calls(self)
        self._stack: list[str] = []  # modules that are running
        self._counts: list[dict[str, int]] = []  # of each, how often it has called an activation
        self._results: list[tuple[Any, Watched]] = []
        self._given: list[tuple[Any, WatchedProduct]] = []
        self._unseen: dict[str, None] = {}
        self._initial = looks_initial(model)

    def __enter__(self) -> capture:
        for name, module in self._modules.items():
            self._handles += [
                module.register_forward_pre_hook(
                    lambda _, args, kwargs, n=name: self._enter(n, args, kwargs), with_kwargs=True
                ),
                module.register_forward_hook(
                    lambda _, __, output, n=name: self._leave(n, output), always_call=True
                ),
            ]
            watched = self._watched.get(name)
            parent = self._modules.get(name.rpartition(".")[0])
            up, down = (getattr(parent, n, None) for n in ("up_proj", "down_proj"))
            if watched is None or not isinstance(up, nn.Module):
                continue
            if isinstance(getattr(parent, "gate_proj", None), nn.Module):
                watched.gated = watched.by_name = True
                self._handles.append(
                    up.register_forward_hook(lambda _, __, output, w=watched: self._gate(w, output))
                )
                if isinstance(down, nn.Module):
                    self._handles.append(
                        down.register_forward_pre_hook(
                            lambda _, args, w=watched: self._stored(w, args[0] if args else None)
                        )
                    )
        self._calls.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._calls.__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        for handle in self._handles:
            handle.remove()
        for kept in (self._handles, self._stack, self._counts, self._results, self._given):
            kept.clear()

    @property
    def captured(self) -> Captured:
        """What has been counted so far.

        Raises:
            ValueError: nothing: no forward pass came through a watched module.
        """
        layers = tuple(watched.layer() for watched in self._watched.values() if "input" in watched.counters)
        products = None
        if self._products is not None:
            products = tuple(p.product() for p in self._products.values() if "input" in p.counters)
        if not layers and not products:
            raise UsageError(
                f"nothing was captured: no forward pass of {type(self._model).__name__} came by. A model "
                "that torch.compile had run before the capture began does not call its hooks: capture first"
            )
        steps = max(w.steps for w in (*self._watched.values(), *(self._products or {}).values()))
        return Captured(
            type(self._model).__name__, steps, layers, products, self._initial, tuple(self._unseen)
        )

    # Hooks see a model at work: none of them may raise or change anything, and torch.compile is to leave
    # them alone.

    @_uncompiled
    def _enter(self, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if name in self._watched:
            self._before(self._watched[name], first_tensor(args, kwargs))
        elif self._products is not None and name in self._products:
            self._multiplied(self._products[name], first_tensor(args, kwargs))
        self._stack.append(name)
        self._counts.append({})

    @_uncompiled
    def _leave(self, name: str, output: Any) -> None:
        while self._stack:  # a module that failed may have left some above it
            self._counts.pop()
            if self._stack.pop() == name:
                break
        if name in self._watched:
            self._after(self._watched[name], output)

    def _called(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A torch function as the model calls it, looked at on its way."""
        caller = self._stack[-1] if self._stack else None
        within = any(name in self._known for name in self._stack)
        if caller is None or within:
            return func(*args, **kwargs)
        call = call_of(func, args, kwargs) if self._match is None else None
        if call is not None:
            count = self._counts[-1]
            count[call.name] = count.get(call.name, 0) + 1
            again = f"#{count[call.name]}" if count[call.name] > 1 else ""
            name = f"{caller}.{call.name}(){again}".lstrip(".")
            watched = self._watched.setdefault(name, Watched(name, self._tokens, FromCall(call)))
            self._before(watched, call.x)
            output = func(*args, **kwargs)
            self._after(watched, output)
            return output
        if func in PRODUCTS and self._products is not None and caller not in self._products:
            name = f"{caller}.linear()".lstrip(".")
            self._multiplied(
                self._products.setdefault(name, WatchedProduct(name, "linear()", self._tokens)),
                first_tensor(args, kwargs),
            )
        elif func in BY_HAND:
            self._unseen.setdefault(f"{BY_HAND[func]} in {caller or type(self._model).__name__}")
        output = func(*args, **kwargs)
        if func in MULTIPLICATIONS and isinstance(output, Tensor):
            self._product_of(args, output)
        return output

    def _product_of(self, factors: tuple[Any, ...], product: Tensor) -> None:
        """Looks whether one factor is the result of an activation: the other is its gate then."""
        for kept, watched in list(self._results):
            result = kept()
            if result is None or not any(f is result for f in factors[:2]):
                continue
            other = factors[1] if factors[0] is result else factors[0]
            if not isinstance(other, Tensor) or other.shape != result.shape:
                continue
            _remember(self._results, product, watched)
            if not watched.by_name:
                watched.gated = True
                self._gate(watched, other)
                self._stored(watched, product)

    def _before(self, watched: Watched, x: Tensor | None) -> None:
        watched.counting = (
            x is not None and x.numel() > 0 and not _recomputes() and watched.steps < self._steps
        )
        if x is None:
            return
        if watched.counting:
            watched.steps += 1
            # Before the module runs: it may work in place.
            watched.add("input", x)
        if self._gradients and x.requires_grad and (watched.counting or self._again(watched)):
            x.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: watched.note_amax("returned", gradient)
            )

    def _after(self, watched: Watched, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        _remember(self._results, output, watched)
        if watched.counting:
            watched.note_amax("result", output)
        if not self._gradients:
            return
        again = self._again(watched)
        if output.requires_grad and (watched.counting or again):
            watched.without_gradient -= int(again)
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda gradient: watched.add("gradient", gradient)
            )
        elif watched.counting:
            watched.without_gradient += 1

    def _again(self, watched: Watched) -> bool:
        """Whether this is a checkpointed block's second run, and its first had no gradients."""
        return _recomputes() and watched.without_gradient > 0

    @_uncompiled
    def _gate(self, watched: Watched, output: Any) -> None:
        if (
            watched.gates < self._steps
            and not _recomputes()
            and isinstance(output, Tensor)
            and output.numel()
        ):
            watched.gates += 1
            watched.add("gate", output)

    @_uncompiled
    def _stored(self, watched: Watched, product: Any) -> None:
        if isinstance(product, Tensor) and watched.counting and not _recomputes():
            watched.note_amax("product", product)

    def _multiplied(self, product: WatchedProduct, x: Tensor | None) -> None:
        """The input of a product, counted unless another product was just given the same tensor."""
        if x is None or x.numel() == 0 or _recomputes() or product.steps >= self._steps:
            return
        product.steps += 1
        other = next((p for kept, p in self._given if kept() is x and p is not product), None)
        if product.shared is None and other is not None and "input" not in product.counters:
            product.shared = other
            other.also.append(product.name)
        if product.shared is not None:
            if other is None:
                product.shared.notes.append(
                    f"{product.name} was given the same tensor at first and another one later, which was "
                    "not counted"
                )
            return
        product.count("input", x)
        product.after = next((w.name for kept, w in self._results if kept() is x), product.after)
        _remember(self._given, x, product)


def _remember(recent: list[tuple[Any, Any]], tensor: Tensor, what: Any) -> None:
    recent.append((weakref.ref(tensor), what))
    del recent[:-_RECENT]


def _recomputes() -> bool:
    """Whether this forward pass runs within a backward pass: a checkpointed block, counted before."""
    return bool(torch._C._current_graph_task_id() != -1)


def _matches(match: str | Callable[[str, nn.Module], bool] | None, name: str, module: nn.Module) -> bool:
    if callable(match):
        return match(name, module)
    if match is not None:
        return fnmatch.fnmatchcase(name, match)
    known = bool(function_of(module)[0]) or name.rpartition(".")[2] in NAMES
    return bool(name) and known


def _is_product(module: nn.Module) -> bool:
    """Whether a module multiplies what it is given by a matrix of weights, by its class or its name.

    Hugging Face's Conv1D is one; Transformer Engine's LayerNormLinear normalises before, and is none.
    """
    if isinstance(module, nn.Linear):
        return True
    kind, weight = type(module).__name__, getattr(module, "weight", None)
    alike = (kind.endswith("Linear") and not kind.startswith("LayerNorm")) or kind == "Conv1D"
    return alike and isinstance(weight, Tensor) and weight.ndim == 2


__all__ = ["capture"]
