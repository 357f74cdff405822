"""Turns whatever a user calls a kernel into an `Implementation`: functions, modules, arrays, C."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from precision_lab.devices import CUDA
from precision_lab.exceptions import KernelError, UsageError, WrongTypeError, unknown_name
from precision_lab.formats import FloatFormat
from precision_lab.functions import Activation
from precision_lab.functions.base import Parameter
from precision_lab.implementations.adapters.foreign import framework_of, wrap, wrap_c, wrap_cuda
from precision_lab.implementations.adapters.foreign_kernel import accepted
from precision_lab.implementations.adapters.module import from_module
from precision_lab.implementations.base import Implementation, Kernel, PartlyCompiled
from precision_lab.implementations.guard import guarded
from precision_lab.implementations.inductor import Compiled, inductor_settings
from precision_lab.results.execution import ARRAYS, COMPILED, CUDA_CPP, EAGER, EXECUTIONS, C

FRAMEWORKS = ("torch", *ARRAYS)
Siblings = Callable[[str], Any]  # name → attribute beside the kernel, or None

_FACTORY_EXTRAS = ("dtype", "device")


def as_implementation(
    kernel: Any,
    function: Activation,
    formats: tuple[FloatFormat, ...],
    *,
    framework: str | None = None,
    siblings: Siblings | None = None,
    target: str = "",
    compiled: Compiled = False,
) -> Implementation:
    """Wraps what a user calls a kernel.

    - `kernel(x, **params) -> y` on tensors. Parameters it does not take are taken to be fixed in
      it; it then has no gradients for them.
    - a `torch.nn.Module`, its class, or a function without x that makes one: the class or function
      gets those of the function's parameters, and `dtype`, that it takes.
    - a callable of numpy, JAX or MLX arrays; recognised, or named by `framework`.

    Args:
        siblings: finds what stands beside the kernel, such as `NAME_grad_x` for a numpy NAME.
        target: where the kernel was found, for replay commands.
        compiled: run it through torch.compile; a mapping is of Inductor's settings.

    Raises:
        TypeError: not callable.
        ValueError: it wants an argument that the function does not have; unknown framework or setting.
    """
    if isinstance(kernel, Implementation):
        if kernel.function != function:
            raise UsageError(f"{kernel.label} computes {kernel.function.name}, not {function.name}")
        return dataclasses.replace(kernel, target=target or kernel.target)
    if not callable(kernel):
        raise WrongTypeError(
            f"kernel={kernel!r} is not callable; expected kernel(x, **params) -> y or a torch.nn.Module"
        )
    name = getattr(kernel, "__name__", type(kernel).__name__)
    is_compiled, settings = compiled is not False, inductor_settings(compiled)
    execution = COMPILED if is_compiled else EAGER
    about: dict[str, Any] = {
        "name": name, "function": function, "formats": formats, "compute_dtype": "as written",
        "description": "given by the caller", "target": target,
    }  # fmt: skip
    chosen = framework or framework_of(kernel) or "torch"
    if chosen not in FRAMEWORKS:
        raise unknown_name("framework", framework, FRAMEWORKS, {"np": ("numpy",), "pytorch": ("torch",)})
    if chosen != "torch":
        if is_compiled:
            raise UsageError(f"kernel={kernel!r} is {chosen}'s: torch.compile does not apply")
        found = wrap(kernel, chosen, function, siblings=siblings or (lambda name: None))
        return Implementation(
            **about,
            kernel=found.kernel,
            execution=EXECUTIONS[chosen],
            outputs=found.outputs,
            parameters=found.parameters,
        )
    if isinstance(kernel, torch.nn.Module):
        return Implementation(
            **about, kernel=_Cast(kernel), execution=execution, outputs=("forward", "grad_x"), parameters=(),
            effective=_rounded if _has_tensors(kernel) else None, inductor=settings,
        )  # fmt: skip
    if _is_factory(kernel, function):
        return _from_factory(kernel, function, about, is_compiled, settings)
    taken = accepted(kernel, function)
    if taken is None:
        return Implementation(**about, kernel=kernel, execution=execution, inductor=settings)
    outputs = ("forward", "grad_x", *(o for o in function.outputs[2:] if o.removeprefix("grad_") in taken))
    return Implementation(
        **about, kernel=kernel, execution=execution, outputs=outputs, parameters=taken, inductor=settings
    )


def from_library(path: Path, symbol: str, function: Activation, *, target: str) -> Implementation:
    """A C function of a shared library.

    Raises:
        ValueError: the library or the symbol is not there.
    """
    found = wrap_c(path, symbol, function)
    return Implementation(
        name=symbol, function=function, kernel=found.kernel, execution=C,
        formats=found.formats, compute_dtype="as written", description="a C function",
        outputs=found.outputs, parameters=found.parameters, target=target,
    )  # fmt: skip


def from_cuda(
    path: Path, symbol: str, function: Activation, *, target: str, launch: str = ""
) -> Implementation:
    """A kernel of a CUDA C++ or PTX file.

    Raises:
        ValueError: it is not there, does not compile, or what its parameters stand for is not known.
        ImportError: CUDA C++ cannot be compiled here.
    """
    found = wrap_cuda(path, symbol, function, launch)
    return Implementation(
        name=symbol, function=function, kernel=found.kernel, execution=CUDA_CPP,
        formats=found.formats, compute_dtype="as written", description="a CUDA kernel",
        outputs=found.outputs, parameters=found.parameters, target=target, devices=(CUDA,),
    )  # fmt: skip


def _is_factory(kernel: Any, function: Activation) -> bool:
    """A module's class, or a function of nothing but the activation's parameters: no x comes in."""
    if isinstance(kernel, type):
        return issubclass(kernel, torch.nn.Module)
    try:
        arguments = [a for a in inspect.signature(kernel).parameters.values() if a.kind is not a.VAR_KEYWORD]
    except (TypeError, ValueError):
        return False
    if any(a.kind is a.VAR_POSITIONAL for a in arguments):
        return False
    names = {p.name for p in function.parameters} | set(_FACTORY_EXTRAS)
    return all(a.name in names for a in arguments)


def _has_tensors(module: torch.nn.Module) -> bool:
    return any(True for _ in module.parameters()) or any(True for _ in module.buffers())


def _rounded(params: Mapping[str, float], fmt: FloatFormat) -> dict[str, float]:
    """What tensors of a module hold once it is cast to the format."""
    return {name: float(fmt.round(np.array([value]))[0]) for name, value in params.items()}


class _Cast(PartlyCompiled):
    """A module instance, copied into the dtype of its input as `model.to(dtype)` would."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module
        self._cast: dict[tuple[torch.dtype, torch.device], torch.nn.Module] = {}

    def __call__(self, x: Tensor, **_: Any) -> Any:
        return self._for(x)(x)

    def compiled_by(self, compile_: Callable[[Kernel], Kernel]) -> Kernel:
        run = compile_(_call)
        return lambda x, **_: run(self._for(x), x)

    def _for(self, x: Tensor) -> torch.nn.Module:
        # One without tensors of its own has nothing to cast: the user's object itself is run.
        if not _has_tensors(self._module):
            return self._module
        if (x.dtype, x.device) not in self._cast:
            self._cast[x.dtype, x.device] = copy.deepcopy(self._module).to(x.device, x.dtype)
        return self._cast[x.dtype, x.device]


def _call(module: torch.nn.Module, x: Tensor) -> Any:
    return module(x)


def _from_factory(
    factory: Any,
    function: Activation,
    about: Mapping[str, Any],
    compiled: bool,
    inductor: tuple[tuple[str, Any], ...],
) -> Implementation:
    """Modules made for given parameters; their own tensors are recognised by name and value."""
    try:
        names: set[str] | None = {
            a.name for a in inspect.signature(factory).parameters.values() if a.kind is not a.VAR_KEYWORD
        }
    except (TypeError, ValueError):
        names = set()

    def make(params: Mapping[str, float], dtype: torch.dtype) -> torch.nn.Module:
        arguments: dict[str, Any] = {k: v for k, v in params.items() if k in (names or ())}
        if "dtype" in (names or ()):
            arguments["dtype"] = dtype
        module = factory(**arguments)
        if not isinstance(module, torch.nn.Module):
            raise KernelError(
                "raised", f"{about['name']} made a {type(module).__name__}, not a torch.nn.Module"
            )
        cast: torch.nn.Module = module.to(dtype)
        return cast

    leaves, constraint = _leaves(make, function)

    def effective(module: torch.nn.Module) -> dict[str, float]:
        own = dict(module.named_parameters())
        values: dict[str, float] = {}
        told = getattr(module, "effective_parameters", None)
        with torch.no_grad():
            if callable(told):  # it may compute them in a wider dtype than its own
                return {name: float(value) for name, value in told().items()}
            for leaf, parameter in constraint.items():
                raw = own[leaf]
                value = raw if parameter.raw is None or leaves.get(parameter.name) else F.softplus(raw)
                if parameter.raw == "softplus+beta" and not leaves.get(parameter.name):
                    beta = values.get("beta", float(getattr(module, "beta", 0.5)))
                    value = torch.tensor(beta, dtype=raw.dtype) + value
                values[parameter.name] = float(value)
        return values

    found = from_module(
        make, function, leaves=leaves, name=about["name"], formats=about["formats"],
        effective=effective if constraint else None, description=about["description"],
        compiled=compiled, inductor=inductor,
    )  # fmt: skip
    return dataclasses.replace(found, target=about["target"])


def _leaves(
    make: Callable[[Mapping[str, float], torch.dtype], torch.nn.Module], function: Activation
) -> tuple[dict[str, str], dict[str, Parameter]]:
    """Which tensors of a module are parameters of the activation, effective or behind softplus.

    A tensor counts where its name is the parameter's, perhaps after `raw_`, and its value what was
    asked for: for two sets of parameters, so that no accident decides.
    """
    known = {p.name: p for p in function.parameters}
    trials = [function.check_params(), {n: v + 0.125 for n, v in function.check_params().items()}]
    try:
        modules = [dict(guarded(partial(make, trial, torch.float32)).named_parameters()) for trial in trials]
    except KernelError as error:
        if error.__cause__ is None:
            raise
        return {}, {}  # what it raises, it will raise again when it is measured, and be named then
    leaves: dict[str, str] = {}
    constraint: dict[str, Parameter] = {}
    for own in modules[0]:
        name = own.rsplit(".", 1)[-1].removeprefix("raw_").removesuffix("_raw")
        parameter = known.get(name)
        if parameter is None or any(module[own].numel() != 1 for module in modules):
            continue
        values = [float(module[own].detach()) for module in modules]
        if all(abs(v - trial[name]) < 1e-4 for v, trial in zip(values, trials, strict=True)):
            leaves[name], constraint[own] = own, parameter
        elif parameter.raw in ("softplus", "softplus+beta"):
            shift = [trial["beta"] if parameter.raw == "softplus+beta" else 0.0 for trial in trials]
            reached = [float(F.softplus(torch.tensor(v))) + s for v, s in zip(values, shift, strict=True)]
            if all(abs(v - trial[name]) < 1e-4 for v, trial in zip(reached, trials, strict=True)):
                leaves[f"raw_{name}"], constraint[own] = own, parameter
    return leaves, constraint
