"""Gradients of parameters as autograd reduces them, over all inputs of a tensor."""

from __future__ import annotations

import torch

from precision_lab.exceptions import KernelError, first_line
from precision_lab.formats import FloatFormat
from precision_lab.implementations.guard import guarded
from precision_lab.results import Failure
from precision_lab.running.case import Case
from precision_lab.running.placement import raise_if_lost, require_capability
from precision_lab.running.runner import call, check_result, gradients, leaf_tensors
from precision_lab.running.tensors import Float64, to_tensor


def run_reduced(case: Case, x: Float64, upstream: Float64) -> dict[str, tuple[float, FloatFormat] | Failure]:
    """Parameter gradients of Σ upstream·y as autograd reduces them, and the format they come in.

    Args:
        x, upstream: values of the format, shape (n,).

    Raises:
        DeviceLostError: the kernel destroyed the CUDA context.
    """
    case = case.giving(*(o for o in case.outputs if o not in ("forward", "grad_x")))
    try:
        require_capability(case.implementation)
        return _reduced(case, x, upstream)
    except KernelError as error:
        return dict.fromkeys(case.outputs, Failure(error.kind, str(error)))
    except torch.OutOfMemoryError as error:
        reason = f"{x.size} inputs at once: {first_line(error)}"
        return dict.fromkeys(case.outputs, Failure("out_of_memory", reason))
    except RuntimeError as error:
        raise_if_lost(case.implementation, error)
        raise


def _reduced(case: Case, x: Float64, upstream: Float64) -> dict[str, tuple[float, FloatFormat] | Failure]:
    implementation, core = case.implementation, case.core
    point, weight = (
        to_tensor(values, core).to(implementation.device.torch) for values in (x, case.fmt.round(upstream))
    )
    leaves = leaf_tensors(case)
    names = {output.removeprefix("grad_") for output in case.outputs}
    for name in names & set(leaves):
        leaves[name].requires_grad_()
    y = guarded(lambda: call(implementation, point, leaves))
    check_result(y, point, core, "forward")
    found = gradients(y, leaves, names, weight, implementation)
    result: dict[str, tuple[float, FloatFormat] | Failure] = {}
    for output in case.outputs:
        got = found[output.removeprefix("grad_")]
        if isinstance(got, KernelError):
            result[output] = Failure(got.kind, str(got))
        else:
            result[output] = (float(got.double().sum()), core)
    return result
