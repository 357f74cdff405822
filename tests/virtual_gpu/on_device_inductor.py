"""torch.compile on an emulated device; run by `run_on_device`."""

import torch

from precision_lab.virtual_gpu.tensors import operators_of, unwritten_reads

D = "cuda"


def xielu(x, alpha):
    return torch.where(x > 0, alpha * x * x + 0.5 * x, alpha * (torch.expm1(x) - x) + 0.5 * x)


def test_forward_and_backward_run_as_inductors_kernels():
    x = torch.randn(1000, device=D, requires_grad=True)
    alpha = torch.tensor(0.8, device=D, requires_grad=True)
    y = torch.compile(xielu, fullgraph=True)(x, alpha)
    y.backward(torch.ones_like(y))
    assert operators_of(y) == () and operators_of(x.grad) == () and operators_of(alpha.grad) == ()
    assert unwritten_reads() == []
    t, a = x.detach().cpu().double().requires_grad_(), alpha.detach().cpu().double().requires_grad_()
    exact = xielu(t, a)
    exact.backward(torch.ones_like(exact))
    # Cancellation near 0: a few roundings of numbers of x's size.
    assert float(((y.cpu() - exact) / t.abs()).abs().max()) < 2.0**-20
    assert float(((x.grad.cpu() - t.grad) / (1 + t.abs())).abs().max()) < 2.0**-20


def test_the_configuration_that_is_chosen_is_taken_and_nothing_is_timed():
    from precision_lab.virtual_gpu import engines, triton_driver

    launched = []
    run = engines.run
    engines.run = lambda launch, *others: (launched.append((launch.grid, launch.block)), run(launch, *others))
    x, u = torch.randn(512, 16, device=D), torch.randn(16, 512, device=D)
    compiled = torch.compile(lambda t, u: t.t() + u)
    found = []
    try:
        for index in (0, 1, 0):
            triton_driver.choose(index)
            assert torch.equal(compiled(x, u).cpu(), x.cpu().t() + u.cpu())
            found.append(launched[-1])
    finally:
        engines.run = run
    assert len(launched) == 3
    (name,) = [n for n in triton_driver.configurations() if n.startswith("triton_poi_fused_add_t")]
    words = triton_driver.configurations()[name]
    assert len(words) > 1 and found[0] == found[2] != found[1], (name, words, found)


def test_cuda_graphs_are_refused():
    compiled = torch.compile(lambda t: t * 2, mode="reduce-overhead")
    try:
        compiled(torch.ones(3, device=D))
    except Exception as error:
        assert "CUDA graphs cannot be used on an emulated GPU: they are not captured" in str(error)
    else:
        raise AssertionError("nothing was raised")
