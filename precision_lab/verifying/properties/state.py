"""A call must leave nothing behind: the same bits again, arguments and results as they were."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from precision_lab.exceptions import KernelError
from precision_lab.numeric.certainty import CERTIFIED_ULPS
from precision_lab.results.execution import EAGER, MODULE
from precision_lab.running.runner import leaf_tensors
from precision_lab.running.torch_compile import compile_kernel
from precision_lab.verifying.properties.checks import bits_of, differ
from precision_lab.verifying.properties.subject import Pair, Subject


def determinism(subject: Subject) -> str | None:
    """The same call gives the same bits, the second backward of one graph too."""
    index = np.arange(subject.size)

    def again() -> None:
        for _ in range(3):
            values = subject.values(subject.run(subject.tensor()))
            for output, got in values.items():
                plain = subject.plain[output]
                differs = differ(got, plain)
                if differs.any():
                    i = int(np.flatnonzero(differs)[0])
                    subject.fault(
                        "not_deterministic",
                        f"the same call gave {float(plain[i])!r} and then {float(got[i])!r} for "
                        f"x={float(subject.x[i])!r}; {int(differs.sum())} of {index.size} results differ",
                        output, count=int(differs.sum()),
                    )  # fmt: skip
                    return

    def graph() -> None:
        if "grad_x" not in subject.outputs:
            return
        point = subject.tensor().requires_grad_()
        y = subject.forward(point)
        upstream = torch.full_like(y, 2.0)  # not 1, which leaves what it is multiplied into in place
        try:
            first, second = (
                subject.guarded(lambda: torch.autograd.grad(y, point, upstream, retain_graph=True))[0]
                .detach()
                .clone()
                for _ in range(2)
            )
        except KernelError:  # a kernel may forbid a second backward, as torch's own may
            return
        if differ(*(subject.values((y, gradient))["grad_x"] for gradient in (first, second))).any():
            subject.fault(
                "not_deterministic", "a second backward through one graph gives other values", "grad_x"
            )

    subject.tried("in a repeated call", again)
    subject.tried("in a second backward", graph)
    return None


def arguments_kept(subject: Subject) -> str | None:
    """x, the parameters and the upstream gradient are as they were, with and without a graph."""

    def work(recorded: bool) -> None:
        x = subject.tensor()
        # Made anew: earlier calls may have overwritten the ones they got.
        leaves = leaf_tensors(subject.case)
        if recorded:
            x.requires_grad_()
        kept = {"x": x, **leaves}
        before = {name: bits_of(tensor) for name, tensor in kept.items()}
        with torch.set_grad_enabled(recorded):
            y = subject.forward(x, leaves)
        if recorded and y.requires_grad:
            upstream = torch.full_like(y, 2.0)
            before["the upstream gradient"] = bits_of(upstream)
            kept["the upstream gradient"] = upstream
            subject.backward(y, [x], upstream)
        where = "" if recorded else ", under torch.no_grad()"
        for name, tensor in kept.items():
            changed = int((before[name] != bits_of(tensor)).sum())
            if changed:
                subject.fault(
                    "writes_input", f"{changed} elements of {name} were overwritten{where}", count=changed
                )

    if "grad_x" in subject.outputs:
        subject.tried("with its arguments watched", lambda: work(True))
    subject.tried("with its arguments watched under torch.no_grad()", lambda: work(False))
    return None


def results_kept(subject: Subject) -> str | None:
    """A result stays as it is when the kernel is called again, and when its own gradient is taken."""
    other = np.roll(np.arange(subject.size), subject.size // 3)
    graph = "grad_x" in subject.outputs

    def watched(where: str, recorded: bool) -> None:
        x, x2 = subject.tensor(), subject.tensor(other, subject.shape)
        if recorded:
            x.requires_grad_()
            x2.requires_grad_()
        held: dict[str, torch.Tensor] = {}
        before: dict[str, torch.Tensor] = {}

        def keep(name: str, tensor: torch.Tensor) -> None:
            held[name], before[name] = tensor, bits_of(tensor)

        def look(when: str) -> None:
            for name, tensor in held.items():
                changed = int((bits_of(tensor) != before[name]).sum())
                if changed:
                    output = "grad_x" if name == "d/dx" else "forward"
                    subject.fault(
                        "overwrites_result",
                        f"{changed} of {tensor.numel()} elements of {name} were overwritten {when}{where}",
                        output, count=changed,
                    )  # fmt: skip
                    before[name] = bits_of(tensor)

        with torch.set_grad_enabled(recorded):
            y = subject.forward(x)
            keep("the result", y)
            y2 = subject.forward(x2)
            look("by a second call")
        if recorded:
            keep("d/dx", subject.backward(y, [x], torch.ones_like(y))[0])
            look("by its own backward")
            subject.backward(y2, [x2], torch.full_like(y2, 2.0))
            look("by the backward of a second call")

    if graph:
        subject.tried("with two results held", lambda: watched("", True))
    subject.tried("with two results held under no_grad", lambda: watched(", under torch.no_grad()", False))
    return None


def grad_mode(subject: Subject) -> str | None:
    """The forward result is the same whether or not gradients are recorded."""
    index = np.arange(subject.size)
    for name, mode in (("no_grad", torch.no_grad), ("inference_mode", torch.inference_mode)):

        def work(name: str = name, mode: Callable[[], torch.no_grad | torch.inference_mode] = mode) -> None:
            with mode():
                y = subject.forward(subject.tensor())
                pair = (y.clone(), None)
            subject.compare("depends_on_grad_mode", f"under torch.{name}()", pair, index)

        subject.tried(f"under torch.{name}()", work)
    return None


def parameters_fresh(subject: Subject) -> str | None:
    """Every call uses the parameter values of that call, changed in place or given anew."""
    if subject.implementation.parameters == () or subject.implementation.owns_parameters:
        return "no parameters are given to a call"
    other = subject.case.given(_other_parameters(subject))
    if other.effective == subject.effective:
        return "other parameters are the same in this format"
    old, new = subject.leaves, leaf_tensors(other)
    changed = copy.copy(subject)
    changed.case, changed._limits = other, {}
    changed.exact = {o: changed._reference(o) for o in subject.outputs}

    def held(where: str, pair: Pair) -> None:
        for output, values in subject.values(pair).items():
            index = np.arange(values.size)
            plain = subject.plain[output]
            right = changed.errors(output, values, index)
            moved = changed.exact[output].rounded != subject.exact[output].rounded
            # 0 and infinity are what an inaccurate kernel gives for many parameters alike.
            moved &= np.isfinite(plain) & (plain != 0)
            wrong = moved & (values == plain) & (right > changed.limits(output) + CERTIFIED_ULPS)
            # A stale result was right for the old parameters; one that was not is inaccurate, not stale.
            wrong &= subject.errors(output, plain, index) <= subject.limits(output) + CERTIFIED_ULPS
            # One parameter may be stale alone, and it may be that of one side.
            sides = (moved & (subject.x < 0), moved & (subject.x > 0))
            if any(side.sum() >= 16 and (wrong & side).sum() > 0.75 * side.sum() for side in sides):
                i = int(np.argmax(np.where(wrong, right, -1.0)))
                subject.fault(
                    "stale_parameters",
                    f"{where}, x={float(subject.x[i])!r} still gives {float(values[i])!r}, the result for "
                    f"the old ones; {int(wrong.sum())} results do",
                    output, ulps=float(right[i]), count=int(wrong.sum()),
                )  # fmt: skip

    def work() -> None:
        leaves = {name: leaf.clone() for name, leaf in old.items()}
        subject.run(subject.tensor(), leaves)
        with torch.no_grad():
            for name, leaf in leaves.items():
                leaf.copy_(new[name])
        held("after its parameters were changed in place", subject.run(subject.tensor(), leaves))
        subject.run(subject.tensor(), old)
        held("with new parameter tensors", subject.run(subject.tensor(), new))

    subject.tried("with other parameters", work)
    return None


def _other_parameters(subject: Subject) -> dict[str, float]:
    """Values about a quarter larger, which every function here takes, of the parameters that it is given."""
    given = subject.implementation.parameters
    return {
        name: value * 1.25 + 0.0625 if given is None or name in given else value
        for name, value in subject.asked.items()
    }


def compilation(subject: Subject) -> str | None:
    """torch.compile gives what eager execution gives, or is within the bound as well."""
    implementation = subject.implementation
    if not implementation.execution.traceable:
        return f"a {implementation.execution.name} kernel is not compiled by torch"
    compiled = implementation.execution.compiled
    other = copy.copy(subject)
    if compiled:
        execution = MODULE if implementation.owns_parameters else EAGER
        eager = replace(implementation, execution=execution, inductor=())
        other.case = replace(subject.case, implementation=eager)
    else:
        # Unlike a kernel measured as compiled, it may break into several graphs.
        own = replace(implementation, kernel=compile_kernel(implementation.kernel))
        other.case = replace(subject.case, implementation=own)
    try:
        pair = other.run(subject.tensor())
    except KernelError as error:
        subject.leave_out("compilation", f"torch.compile cannot run it: {error}", asked=True)
        return None
    where = "run eagerly" if compiled else "under torch.compile"
    subject.compare("depends_on_compilation", where, pair, np.arange(subject.size))
    return None
