"""What can be pasted from a report: it runs by itself and is the kernel that was measured."""

from __future__ import annotations

import pytest
import torch

from precision_lab.implementations import IMPLEMENTATIONS
from precision_lab.implementations.listing import _Module, listing, source
from precision_lab.results.execution import EAGER

EAGER_ONES = [i for i in IMPLEMENTATIONS.values() if i.execution == EAGER]
WRITTEN = [i for i in EAGER_ONES if not i.import_line]


def every_bf16() -> torch.Tensor:
    return torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)


def called(kernel, implementation) -> list[torch.Tensor]:
    """Result and gradient at every number of bf16."""
    x = every_bf16().requires_grad_()
    values = implementation.function.check_params()
    leaves = {
        name: value if name in implementation.numbers else torch.tensor(value, dtype=x.dtype)
        for name, value in values.items()
        if implementation.is_given(name)
    }
    leaves |= {o.name: torch.full_like(x.detach(), 1.5) for o in implementation.function.operands}
    y = kernel(x, **leaves)
    y.sum().backward()
    return [y.detach(), x.grad]


@pytest.mark.parametrize("implementation", WRITTEN, ids=lambda i: f"{i.function.name}-{i.name}")
def test_a_listing_runs_by_itself_and_is_the_kernel(implementation):
    code = listing(implementation)
    assert "precision_lab" not in code
    space: dict[str, object] = {}
    exec(compile(code, "pasted.py", "exec"), space)
    pasted = space[implementation.kernel.__name__]
    assert pasted is not implementation.kernel
    for ours, theirs in zip(
        called(implementation.kernel, implementation), called(pasted, implementation), strict=True
    ):
        assert torch.equal(ours.view(torch.int16), theirs.view(torch.int16))


@pytest.mark.parametrize(
    "implementation", [i for i in EAGER_ONES if i.import_line], ids=lambda i: i.function.name
)
def test_an_import_line_gives_the_kernel(implementation):
    space: dict[str, object] = {}
    exec(listing(implementation), space)
    assert implementation.kernel in space.values()


def test_a_listing_has_constants_helpers_and_imports_once_and_nothing_else():
    text = """
import math, os
from torch import Tensor, nn
import torch.nn.functional as F
LIMIT = 3  # a comment stays
UNUSED = 4
def helper(x: Tensor) -> Tensor:
    # why
    return F.relu(x) * LIMIT
def unused(x): return x
@nn.decorator
def kernel(x: Tensor) -> Tensor:
    return helper(x) + math.pi + LIMIT
"""
    assert _Module(text).text("kernel") == (
        "import math\nfrom torch import Tensor, nn\nimport torch.nn.functional as F\n\n"
        "LIMIT = 3  # a comment stays\n\n\n"
        "def helper(x: Tensor) -> Tensor:\n    # why\n    return F.relu(x) * LIMIT\n\n\n"
        "@nn.decorator\ndef kernel(x: Tensor) -> Tensor:\n    return helper(x) + math.pi + LIMIT"
    )


def test_what_has_no_source_has_no_listing():
    def nested(x):
        return x

    assert source(nested) == ""
    assert source(eval("lambda x: x")) == ""
    triton = next(i for i in IMPLEMENTATIONS.values() if i.execution.name == "triton")
    assert listing(triton) == ""


def test_an_argument_is_not_taken_for_a_name_of_the_module():
    text = "from lab import limit\n\n\ndef kernel(x, limit):\n    return x + limit\n"
    assert _Module(text).text("kernel") == "def kernel(x, limit):\n    return x + limit"
