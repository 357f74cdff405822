"""The report's timing cases as a pytest-benchmark suite: `tox -e bench`."""

from __future__ import annotations

import pytest
import torch
from by_name import leaf_tensors

from precision_lab.formats import get_format
from precision_lab.functions import get_function
from precision_lab.implementations import IMPLEMENTATIONS
from precision_lab.oracle import reference
from precision_lab.results.execution import EAGER
from precision_lab.running.runner import call
from precision_lab.running.tensors import to_tensor

pytestmark = pytest.mark.bench

N = 2**20
CASES = [
    pytest.param(i, fmt, id=f"{i.function.name}-{i.name}-{fmt.name}")
    for i in IMPLEMENTATIONS.values()
    if i.execution == EAGER
    for fmt in i.formats
]


def inputs(fmt):
    generator = torch.Generator().manual_seed(7)
    return torch.randn(N, generator=generator).to(getattr(torch, get_format(fmt).torch_name))


@pytest.mark.parametrize(("implementation", "fmt"), CASES)
def test_forward(benchmark, implementation, fmt):
    x = inputs(fmt)
    leaves = leaf_tensors(implementation, None, fmt)
    with torch.no_grad():
        benchmark(lambda: call(implementation, x, leaves))


@pytest.mark.parametrize(("implementation", "fmt"), CASES)
def test_backward(benchmark, implementation, fmt):
    x = inputs(fmt).requires_grad_()
    leaves = leaf_tensors(implementation, None, fmt)
    for leaf in leaves.values():
        leaf.requires_grad_()
    y = call(implementation, x, leaves)
    sources = [x, *leaves.values()]
    benchmark(
        lambda: torch.autograd.grad(y, sources, torch.ones_like(y), retain_graph=True, allow_unused=True)
    )


@pytest.mark.parametrize("fmt", ["fp32", "bf16"])
def test_copy(benchmark, fmt):
    benchmark(inputs(fmt).clone)


@pytest.mark.parametrize("output", get_function("xielu").outputs)
def test_oracle_all_bf16(benchmark, output):
    fmt = get_format("bf16")
    x = fmt.decode(fmt.all_bits())
    assert to_tensor(x, fmt).numel() == 65536
    benchmark(lambda: reference("xielu", output, {}, x, fmt))
