"""Triton's kernels on an emulated device; run by `run_on_device`."""

import os
from pathlib import Path

import torch
import triton
import triton.language as tl

from precision_lab.emulator.faults import Fault, Unsupported
from precision_lab.virtual_gpu import triton_driver
from precision_lab.virtual_gpu.tensors import operators_of, unwritten_reads

D = "cuda"


@triton.jit
def scale(x, y, n, s, B: tl.constexpr):
    i = tl.program_id(0) * B + tl.arange(0, B)
    tl.store(y + i, tl.load(x + i, mask=i < n) * s, mask=i < n)


@triton.jit
def of_a_tuple(pointers, n, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(pointers[1] + i, tl.load(pointers[0] + i, mask=i < n) + pointers[2], mask=i < n)


@triton.jit
def of_many_types(x, y, missing, flag, a, b, h, B: tl.constexpr):
    i = tl.arange(0, B)
    v = tl.load(x + i)
    if missing is not None:
        v += 1000
    if flag:
        v *= 2
    tl.store(y + i, v + a + b + h)


@triton.jit
def all_of_it(x, y, B: tl.constexpr):
    i = tl.arange(0, B)
    tl.store(y + i, tl.load(x + i).to(tl.float32))


@triton.jit
def add_up(x, y, B: tl.constexpr):
    tl.atomic_add(y, tl.sum(tl.load(x + tl.arange(0, B))))


@triton.jit
def of_a_descriptor(d, y, B: tl.constexpr):
    tl.store(y + tl.arange(0, B), tl.sum(d.load([0, 0]), 0))


def run(kernel, n=300, **options):
    x = torch.arange(n, dtype=torch.float32, device=D)
    y = torch.empty_like(x)
    kernel[lambda m: (triton.cdiv(n, m["B"]),)](x, y, n, 2.0, **options)
    assert torch.equal(y.cpu(), x.cpu() * 2) and operators_of(y) == () and unwritten_reads() == []
    return y


def raised(work):
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def configs(*blocks):
    return [triton.Config({"B": b}, num_warps=2) for b in blocks]


def test_a_kernel_is_compiled_for_the_device_and_computes():
    run(scale, B=64)
    target = triton.runtime.driver.active.get_current_target()
    assert (target.backend, target.arch, target.warp_size) == ("cuda", 90, 32)
    kernel = scale.warmup(torch.float32, torch.float32, 300, 2.0, B=64, grid=(1,))
    assert ".target sm_90" in kernel.asm["ptx"]


def test_the_machine_code_of_what_ran_is_kept():
    x = torch.ones(32, device=D)
    kernel = all_of_it[(1,)](x, torch.empty_like(x), B=32)
    assert triton_driver.machine_code_of(kernel.asm["ptx"]) == kernel.asm["cubin"]
    assert triton_driver.machine_code_of("another text") is None


def test_an_autotuned_kernel_takes_the_configuration_that_is_chosen():
    tuned = triton.autotune(configs=configs(64, 128, 256), key=["n"])(scale)
    taken = []
    for index in (0, 1, 7, 0):
        triton_driver.choose(index)
        run(tuned)
        taken.append(tuned.best_config.kwargs["B"])
    assert taken == [64, 128, 256, 64]
    words = triton_driver.configurations()["scale"]
    assert [w.split(",")[0] for w in words] == ["B: 64", "B: 128", "B: 256"]


def test_pruned_configurations_are_none_to_choose():
    kernel = triton.jit(all_of_it.fn)
    prune = {"early_config_prune": lambda found, arguments, **_: found[1:]}
    tuned = triton.autotune(configs=configs(16, 32), key=[], prune_configs_by=prune)(kernel)
    x = torch.ones(32, device=D)
    triton_driver.choose(0)
    tuned[(1,)](x, torch.empty_like(x))
    assert tuned.best_config.kwargs == {"B": 32}
    assert [w.split(",")[0] for w in triton_driver.configurations()["all_of_it"]] == ["B: 32"]


def test_nothing_is_timed_by_an_autotuner():
    calls = []
    tuned = triton.autotune(
        configs=configs(64, 128), key=["n"], do_bench=lambda call, quantiles: calls.append(call) or [1.0] * 3
    )(scale)
    run(tuned)
    assert calls == []
    assert triton.testing.do_bench(lambda: calls.append(1), quantiles=[0.5, 0.2, 0.8]) == [1.0] * 3
    assert triton.testing.do_bench(lambda: calls.append(2)) == 1.0 and calls == [1, 2]


def test_heuristics_tuples_and_every_type_of_argument():
    run(triton.heuristics({"B": lambda a: triton.next_power_of_2(a["n"])})(scale))
    x = torch.ones(32, device=D)
    y = torch.empty_like(x)
    of_a_tuple[(1,)]((x, y, 3.5), 32, B=32)
    assert y.tolist() == [4.5] * 32
    of_many_types[(1,)](x, y, None, True, -5, -(1 << 40), 0.25, B=32)
    assert y.tolist() == [float(torch.tensor(-3.0 - (1 << 40) + 0.25))] * 32
    of_many_types[(1,)](x, y, None, False, 1, 1 << 31, 0.25, B=32)
    assert y.tolist() == [float(torch.tensor(2.25 + (1 << 31)))] * 32


def test_a_wrapped_tensor_is_read_as_what_it_is_wrapped_as():
    bits = torch.full((32,), 0x38, dtype=torch.uint8, device=D)  # 1 in E4M3
    y = torch.empty(32, device=D)
    all_of_it[(1,)](triton.reinterpret(bits, tl.float8e4nv), y, B=32)
    assert y.tolist() == [1.0] * 32


def test_reductions_and_atomics_over_several_blocks():
    y = torch.zeros(1, device=D)
    add_up[(3,)](torch.ones(128, device=D), y, B=128)
    assert y.item() == 384


def test_a_tensor_of_the_cpu_is_refused_in_tritons_words():
    error = raised(lambda: scale[(1,)](torch.ones(3), torch.ones(3), 3, 1.0, B=32))
    assert isinstance(error, ValueError)
    assert str(error) == "Pointer argument (at 0) cannot be accessed from Triton (cpu tensor?)"


def test_an_access_out_of_bounds_is_found_at_its_line():
    error = raised(lambda: all_of_it[(1,)](torch.ones(30, device=D), torch.empty(32, device=D), B=32))
    assert isinstance(error, Fault) and error.kind == "out_of_bounds"
    assert Path(__file__).name in str(error)


def test_a_kernel_that_reads_what_nobody_has_written_is_found():
    error = raised(lambda: all_of_it[(1,)](torch.empty(32, device=D), torch.empty(32, device=D), B=32))
    assert isinstance(error, Fault) and error.kind == "unwritten_read"


def test_results_that_a_kernel_leaves_unwritten_are_told():
    y = torch.empty(32, device=D)
    scale[(1,)](torch.ones(32, device=D), y, 30, 2.0, B=32)
    y.cpu()
    assert unwritten_reads() == ["a copy to the CPU read 8 bytes, of 128, that nobody has written"]


def test_what_the_cpu_computed_of_its_inputs_sticks_to_a_kernels_results():
    x = torch.ones(32, device=D).exp()
    y = torch.empty_like(x)
    scale[(1,)](x, y, 32, 2.0, B=32)
    assert operators_of(y) == ("exp",)


def test_what_is_not_emulated_is_refused_before_anything_runs():
    error = raised(lambda: run(scale, B=64, num_ctas=2))
    assert isinstance(error, Unsupported) and "num_ctas=2: clusters of blocks are not emulated" in str(error)
    from triton.tools.tensor_descriptor import TensorDescriptor

    described = TensorDescriptor.from_tensor(torch.ones(16, 32, device=D), [16, 32])
    error = raised(lambda: of_a_descriptor[(1,)](described, torch.empty(32, device=D), B=32))
    assert isinstance(error, Unsupported) and "argument 0 is a TMA descriptor" in str(error)


def test_no_blocks_and_no_elements_are_no_mistake():
    nothing = torch.empty(0, device=D)
    scale[(0,)](torch.ones(3, device=D), torch.ones(3, device=D), 3, 1.0, B=32)
    scale[(1,)](nothing, nothing, 0, 1.0, B=32)


def test_gradients_pass_through_kernels_in_autograds_thread():
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return run_on(x)

        @staticmethod
        def backward(ctx, upstream):
            return run_on(upstream.contiguous())

    def run_on(x):
        y = torch.empty_like(x)
        scale[(triton.cdiv(x.numel(), 64),)](x, y, x.numel(), 2.0, B=64)
        return y

    x = torch.randn(100, device=D, requires_grad=True)
    Twice.apply(x).backward(torch.full((100,), 3.0, device=D))
    assert x.grad.tolist() == [6.0] * 100 and operators_of(x.grad) == ()


def test_the_labs_operator_is_accurate_and_computed_by_its_kernels():
    from precision_lab.kernels import operators

    bits = torch.arange(0, 65536, 7, dtype=torch.int32).to(torch.int16)
    x = bits.view(torch.bfloat16)
    x = x[x.isfinite()].to(D).requires_grad_()
    given = {
        name: torch.tensor(v, dtype=torch.bfloat16, device=D)
        for name, v in (("alpha_p", 0.8), ("alpha_n", 0.7), ("beta", 0.5))
    }
    y = operators.xielu(x, **given)
    y.backward(torch.ones_like(y))
    assert operators_of(y) == () and operators_of(x.grad) == () and unwritten_reads() == []
    t = x.detach().cpu().double()
    p, n, b = (float(v) for v in given.values())
    exact = torch.where(t > 0, p * t * t + b * t, n * (torch.expm1(t) - t) + b * t)
    ulp = torch.exp2(torch.floor(torch.log2(exact.abs().clamp(2.0**-126))) - 7)
    finite = exact.abs() < 3e38
    assert float(((y.detach().cpu().double() - exact) / ulp)[finite].abs().max()) < 0.6


def test_tritons_cache_is_not_the_users():
    assert "precision_lab" in os.environ["TRITON_CACHE_DIR"] or "PRECISION_LAB_CACHE" in os.environ


def test_nobody_looks_for_libcuda():
    from triton.backends import backends

    assert backends["nvidia"].driver.is_active()
    triton.runtime.driver.reset_active()
    assert triton.runtime.driver.active.get_current_target().arch == 90
    assert triton.runtime.driver.active.get_device_interface() is torch.cuda
