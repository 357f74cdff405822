"""Counts what a kernel costs on an emulated GPU: instructions, bytes that it moves, registers.

A kernel is called for two tensors, one twice as long as the other, both long enough that the grid is full.
What the longer one takes more, divided by the elements it has more, is what an element costs: what every
block does once counts where blocks are as many as elements ask for, and does not where a fixed number of them
walks over the tensor.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from precision_lab.devices import Device
from precision_lab.emulator.anchors import machine_bytes
from precision_lab.emulator.control_flow import Graph, graph_of
from precision_lab.emulator.executed import Evidence, Executed, executed
from precision_lab.emulator.launch import WARP
from precision_lab.emulator.machine_code import MachineInstruction, listings, resources
from precision_lab.emulator.units import ISSUE, gpus_of, unit_of
from precision_lab.exceptions import KernelError, UsageError
from precision_lab.formats import FloatFormat
from precision_lab.formats.torch_types import torch_dtype
from precision_lab.functions import Activation
from precision_lab.implementations.adapters.target import Called
from precision_lab.implementations.guard import guarded
from precision_lab.results.cost import Cost, DirectionCost, LaunchCost, Share
from precision_lab.running.case import Case, case_of
from precision_lab.running.placement import on_device, require_capability
from precision_lab.running.runner import call, gradients, leaf_tensors
from precision_lab.running.selfcheck import environment
from precision_lab.running.torch_compile import compiler_settings_kept
from precision_lab.virtual_gpu.counting import Counted, counting
from precision_lab.virtual_gpu.occupancy import occupancy, own_shared

ELEMENTS = 1 << 22  # of the shorter tensor: sixteen for each thread that the largest device holds at once
_LONGEST = 1 << 24
_SEED = 20260
_DRAWN = 1 << 16  # inputs, of which a tensor has copies: no more of them are executed
_FORWARD, _BACKWARD = "forward", "backward"


@compiler_settings_kept()
def cost_of_target(
    called: Called, function: Activation, fmt: FloatFormat, params: Mapping[str, float], device: Device
) -> Cost:
    """`cost` of a TARGET, in the process of its device.

    Raises:
        ValueError: as `target.find`; the kernel does not run on the device or has no such format.
    """
    implementation = on_device(called.load(function, (fmt,)), device)
    if fmt not in implementation.formats:
        raise UsageError(f"{implementation.label} does not compute in {fmt.name}")
    return cost(case_of(implementation, fmt, params))


def require_emulated(device: Device) -> None:
    """
    Raises:
        ValueError: the device has no machine code that is counted.
    """
    if not device.chooses:
        raise UsageError(
            f"device={device.name!r}: cost counts the machine code of an emulated GPU; --device sm_90"
        )


def cost(case: Case) -> Cost:
    """What a call and its gradients cost; what fails is said in its direction."""
    implementation = case.implementation
    device = implementation.device
    require_emulated(device)
    device.configure(0)
    elements = ELEMENTS
    while True:
        sizes = [_shape(case, n) for n in (elements, 2 * elements)]
        passes = [_counted(case, shape) for shape in sizes]
        steady = all(_is_steady(*(p[d].launches for p in passes)) for d in (_FORWARD, _BACKWARD))
        if steady or elements >= _LONGEST:
            break
        elements *= 2
    numbers = tuple(math.prod(shape) for shape in sizes)
    choices = device.configurations()
    if len(choices) > 1:  # the first is what was launched
        words = (
            f"of {len(choices)} configurations of an autotuned kernel the first was counted ({choices[0]})"
        )
        passes = [
            {d: replace(p[d], note="; ".join(filter(None, (p[d].note, words)))) for d in p} for p in passes
        ]
    return Cost(
        case.function.name, implementation.name, implementation.execution_name, case.fmt.name, device.name,
        numbers,
        tuple(_direction(d, [p[d] for p in passes], numbers, device.name) for d in (_FORWARD, _BACKWARD)),
        implementation.target, environment(),
    )  # fmt: skip


@dataclass(frozen=True)
class _Pass:
    """The launches of one direction for one tensor."""

    launches: tuple[Counted, ...] = ()
    due: float = 0.0
    failure: str = ""
    note: str = ""


def _shape(case: Case, n: int) -> tuple[int, ...]:
    shape = case.implementation.contract.shape_for(n)
    return (n,) if shape is None else shape


def _counted(case: Case, shape: tuple[int, ...]) -> dict[str, _Pass]:
    """Calls the kernel once on standard normal inputs, and its gradients once."""
    implementation, device = case.implementation, case.implementation.device
    generator = torch.Generator().manual_seed(_SEED)

    def normal() -> Tensor:
        n = math.prod(shape)
        few = torch.randn(_DRAWN, generator=generator).to(torch_dtype(case.core))
        return few.repeat(-(-n // _DRAWN))[:n].reshape(shape).to(device.torch)

    try:
        require_capability(implementation)
        x = normal().requires_grad_()
        leaves = {name: leaf.requires_grad_() for name, leaf in leaf_tensors(case).items()}
        with counting(device.name) as launches:
            y = guarded(lambda: call(implementation, x, leaves))
            forward = tuple(launches)
    except KernelError as error:
        failed = _Pass(failure=f"{error.kind}: {error}")
        return {_FORWARD: failed, _BACKWARD: failed}
    note = _left_out(device.objection(y))
    found = {
        _FORWARD: _Pass(forward, float(x.element_size() + y.element_size()), _missing(forward, note), note)
    }
    upstream = normal().to(y.dtype)
    with counting(device.name) as launches:
        derived = gradients(y, {"x": x, **leaves}, {"x", *leaves}, upstream, implementation)
    backward = tuple(launches)
    due = float(upstream.element_size() + 2 * x.element_size())
    d_x = derived["x"]
    if isinstance(d_x, KernelError):
        found[_BACKWARD] = _Pass((), due, f"{d_x.kind}: {d_x}")
        return found
    given = [d for d in derived.values() if isinstance(d, Tensor)]
    note = next((words for d in given if (words := _left_out(device.objection(d)))), "")
    found[_BACKWARD] = _Pass(backward, due, _missing(backward, note), note)
    return found


def _left_out(objection: str) -> str:
    return f"not counted: {objection}" if objection else ""


def _missing(launches: Sequence[Counted], note: str) -> str:
    if launches:
        return ""
    return f"no kernel was launched{'; ' + note if note else ''}"


def _is_steady(short: Sequence[Counted], long: Sequence[Counted]) -> bool:
    """Whether each launch of the longer tensor has as many blocks, or twice as many."""
    return [c.name for c in short] == [c.name for c in long] and all(
        b.blocks in (a.blocks, 2 * a.blocks) for a, b in zip(short, long, strict=True)
    )


def _direction(name: str, passes: Sequence[_Pass], elements: tuple[int, ...], target: str) -> DirectionCost:
    short, long = passes
    failure = short.failure or long.failure
    if failure:
        return DirectionCost(name, long.due, failure=failure)
    same = [c.name for c in short.launches] == [c.name for c in long.launches]
    try:
        pairs = (
            zip(short.launches, long.launches, strict=True) if same else ((None, c) for c in long.launches)
        )
        launches = tuple(_launch(a, b, elements, target) for a, b in pairs)
    except UsageError as error:
        return DirectionCost(name, long.due, failure=str(error))
    found = DirectionCost(name, long.due, launches, note=long.note)
    return replace(found, shares=_shares(found, target))


def _shares(found: DirectionCost, target: str) -> tuple[Share, ...]:
    """At the speed at which a copy moves the bytes that must move, or those that do where they are more."""
    size = max(found.due, found.moved)
    return tuple(
        Share(
            gpu.name, {unit: gpu.share(unit, count / size) for unit, count in found.units.items()},
            gpu.share(ISSUE, found.least / size), gpu.copy_is_measured,
        )
        for gpu in gpus_of(target)
    )  # fmt: skip


@dataclass(frozen=True)
class _Totals:
    """Of one launch, in instructions and bytes of threads."""

    least: float = 0.0
    most: float = 0.0
    longest: float = 0.0
    units: Mapping[str, float] | None = None
    spilled: float = 0.0
    loaded: float = 0.0
    stored: float = 0.0
    unused: tuple[str, ...] = ()
    opcodes: Mapping[str, float] | None = None


def _launch(short: Counted | None, long: Counted, elements: tuple[int, ...], target: str) -> LaunchCost:
    before = _Totals(units={}, opcodes={}) if short is None else _totals(short)
    after = _totals(long)
    more = elements[1] - (0 if short is None else elements[0])
    assert before.units is not None and after.units is not None
    assert before.opcodes is not None and after.opcodes is not None

    def per(a: float, b: float) -> float:
        return max(b - a, 0.0) / more if math.isfinite(b) else math.inf

    least, most = per(before.least, after.least), per(before.most, after.most)
    taken = resources(long.code)[long.name]
    shared = own_shared(target, taken["SHARED"]) + long.shared_bytes
    resident = occupancy(target, long.threads, taken["REG"], shared)
    return LaunchCost(
        long.name, long.grid, long.block, taken["REG"], taken["STACK"] + taken["LOCAL"], shared,
        resident.warps if resident else 0, resident.most_warps if resident else 0,
        resident.limit if resident else "",
        min(least, most), max(least, most), per(before.longest, after.longest),
        max(after.most - most * elements[1], 0.0) / (long.blocks * long.threads),
        {unit: per(before.units.get(unit, 0.0), count) for unit, count in after.units.items()},
        per(before.spilled, after.spilled), per(before.loaded, after.loaded),
        per(before.stored, after.stored),
        per(0.0 if short is None else short.read, long.read),
        per(0.0 if short is None else short.written, long.written),
        after.unused, long.assembled,
        {name: per(before.opcodes.get(name, 0.0), count) for name, count in after.opcodes.items()},
    )  # fmt: skip


def _totals(launch: Counted) -> _Totals:
    found = _executed(_graph(launch.code, launch.name), launch.evidence)
    units: dict[str, float] = defaultdict(float)
    opcodes: dict[str, float] = defaultdict(float)
    spilled = loaded = stored = 0.0
    units[ISSUE] = WARP * found.most
    for i, warps in found.opcodes.items():
        threads = WARP * warps
        opcodes[i.name] += threads
        taken = unit_of(i)
        if taken is not None:
            units[taken[0]] += taken[1] * threads
        spilled += threads * (i.opcode in ("LDL", "STL"))
        loaded += threads * machine_bytes(i) * (i.opcode == "LDG")
        stored += threads * machine_bytes(i) * (i.opcode in ("STG", "ATOMG", "RED", "REDG"))
    return _Totals(
        WARP * found.least,
        WARP * found.most,
        WARP * found.longest,
        units,
        spilled,
        loaded,
        stored,
        found.unused,
        opcodes,
    )


@lru_cache(maxsize=256)
def _graph(code: bytes, name: str) -> Graph:
    found = listings(code)
    if name not in found:
        raise UsageError(
            f"the machine code has no kernel {name!r}; it has {', '.join(sorted(found)) or 'none'}"
        )
    return graph_of(found[name])


def _executed(graph: Graph, evidence: Evidence) -> Executed:
    """In units of a warp, so that conditions are of about 1."""
    scale = evidence.warps or 1.0
    one = Evidence(
        evidence.warps / scale, {kind: count / scale for kind, count in evidence.counts.items()},
        evidence.loops / scale, evidence.branches_back, evidence.rare / scale, evidence.divergent,
    )  # fmt: skip
    found = executed(graph, one)
    opcodes: dict[MachineInstruction, float] = {i: scale * count for i, count in found.opcodes.items()}
    return Executed(scale * found.least, scale * found.most, scale * found.longest, opcodes, found.unused)


__all__ = ["cost", "cost_of_target", "require_emulated"]
