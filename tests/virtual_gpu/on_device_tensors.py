"""Tensors of an emulated device; run by `run_on_device`."""

import copy
import io
import pickle

import numpy as np
import torch

from precision_lab.virtual_gpu.tensors import (
    allocation_of,
    memory,
    operators_of,
    unwritten_elements,
    unwritten_reads,
)

D = "cuda"


def error_of(work):
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("nothing was raised")


def test_a_tensor_is_a_cuda_tensor_whose_address_is_the_memorys():
    x = torch.arange(6, dtype=torch.int32, device=D)
    assert x.is_cuda and str(x.device) == "cuda:0" and x.dtype == torch.int32
    assert x.data_ptr() % 512 == 0 and allocation_of(x.data_ptr() + 5) == x.data_ptr()
    assert memory().get(x.data_ptr(), np.int32, 6).tolist() == [0, 1, 2, 3, 4, 5]
    assert (
        allocation_of(x.data_ptr() + 24) is None and memory().states[x.data_ptr() - memory().base + 24] == 0
    )


def test_states_say_what_is_allocated_what_is_written_and_what_is_freed():
    x = torch.empty(8, dtype=torch.float32, device=D)
    at = x.data_ptr() - memory().base
    assert memory().states[at - 1 : at + 33].tolist() == [0] + [1] * 32 + [0]
    x[2:4] = 1
    assert memory().states[at : at + 32].tolist() == [1] * 8 + [3] * 8 + [1] * 16
    x[::2] = 1
    assert memory().states[at : at + 32].reshape(8, 4)[:, 0].tolist() == [3, 1, 3, 3, 3, 1, 3, 1]
    del x
    assert not memory().states[at : at + 32].any()


def test_large_memory_is_given_back_and_can_be_had_again():
    at = None
    for _ in range(6):  # 3 GiB in all
        x = torch.empty(1 << 29, dtype=torch.uint8, device=D)
        at = x.data_ptr() - memory().base
        assert memory().states[at] == 1 and memory().states[at + (1 << 29) - 1] == 1
        del x
        assert memory().states[at] == 0 and memory().states[at + (1 << 29) - 1] == 0
    assert torch.cuda.memory_allocated() < 1 << 29


def test_what_torch_computes_is_named_and_what_only_moves_is_not():
    x = torch.randn(4, 6, device=D)
    moved = [
        x.clone(), x.t().contiguous(), x.view(-1)[3:], x.to(torch.bfloat16).double(), torch.cat([x, x]),
        x[x.bool()],
        torch.zeros_like(x), x.cpu().to(D), x.index_select(0, torch.tensor([1], device=D)), x.expand(2, 4, 6),
        torch.full((3,), 2.0, device=D), torch.arange(5, device=D).int(), copy.deepcopy(x), x.flip(0),
    ]  # fmt: skip
    assert [operators_of(t) for t in moved] == [()] * 5 + [("to(bool)",)] + [()] * 8
    assert operators_of(x * 2) == ("mul",)
    assert operators_of((x * 2).exp().t().contiguous()) == ("exp", "mul")
    assert operators_of(x.to(torch.float8_e4m3fn).half()) == ("to(float8_e4m3fn)",)
    assert operators_of(x.cpu() * 2) == ()


def test_fp8_is_widened_alike_everywhere_and_nothing_else_becomes_fp8_so():
    """All numbers of FP8 are numbers of the wider formats; what saturates is torch's and the device's own."""
    patterns = torch.arange(256, dtype=torch.uint8, device=D)
    for narrow in (torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz):
        x = patterns.view(narrow)
        for wide in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            y = x.to(wide)
            assert operators_of(y) == ()
            exact = x.cpu().to(torch.float64)
            assert torch.equal(y.cpu().to(torch.float64).nan_to_num(7), exact.nan_to_num(7))
            back = f"to({str(narrow).removeprefix('torch.')})"
            assert operators_of(y.to(narrow)) == (back,)
    assert operators_of(patterns.view(torch.float8_e5m2).to(torch.float8_e4m3fn)) == ("to(float8_e4m3fn)",)


def test_names_follow_results_that_are_written_in_place_or_out():
    x = torch.ones(6, device=D)
    x[:3].mul_(2)
    assert operators_of(x) == ("mul",)
    out = torch.empty(6, device=D)
    torch.exp(x, out=out)
    assert operators_of(out) == ("exp", "mul")
    out[0] = 0
    assert operators_of(out) == ("exp", "mul")
    out.zero_()
    assert operators_of(out) == ()
    out[1:].copy_(x[1:])
    assert operators_of(out) == ("mul",)
    out.index_put_((torch.tensor([0], device=D),), torch.ones(1, device=D), accumulate=True)
    assert operators_of(out) == ("_index_put_impl", "mul")
    grown = torch.empty(0, device=D)
    torch.add(x, x, out=grown)
    assert operators_of(grown) == ("add", "mul") and allocation_of(grown.data_ptr())


def test_names_follow_gradients():
    w = torch.ones(3, device=D, requires_grad=True)
    w.exp().backward(torch.ones(3, device=D))
    assert "mul" in operators_of(w.grad)
    v = torch.ones(3, device=D, requires_grad=True)
    v.view(3, 1).t().backward(torch.ones(1, 3, device=D))
    assert operators_of(v.grad) == ()


def test_reads_of_what_nobody_has_written_are_told_once():
    x = torch.empty(4, 4, device=D)
    x[:, :2] = 1
    x[:, :2].sum()
    assert unwritten_reads() == []
    x.sum()
    x.cpu()
    assert unwritten_reads() == [
        "a copy to the CPU read 32 bytes, of 64, that nobody has written",
        "the operator sum of torch read 32 bytes, of 64, that nobody has written",
    ]
    assert unwritten_reads() == []


def test_a_copy_of_what_nobody_has_written_is_no_read_but_stays_unwritten():
    x = torch.empty(4, 3, dtype=torch.float16, device=D)
    x[1] = 1
    y = x.t().contiguous()
    assert unwritten_reads() == []
    y[:, 1].tolist()
    assert unwritten_reads() == []
    y[:, 2].tolist()
    assert len(unwritten_reads()) == 1


def test_what_nobody_has_written_stays_so_when_it_is_converted():
    """A padded buffer may be converted whole, and its tail cut off then."""
    for source, target in ((torch.float32, torch.bfloat16), (torch.float16, torch.float64)):
        x = torch.empty(2, 6, dtype=source, device=D)
        x[:, :4] = 1
        for y in (x.to(target), x.t().to(target).t(), x[:, 1:].to(target)):
            width = 4 - (y.shape[1] == 5)
            assert unwritten_reads() == []
            assert y[:, :width].tolist() == [[1.0] * width] * 2 and unwritten_reads() == []
            assert unwritten_elements(y).tolist() == [
                row * y.shape[1] + k for row in range(2) for k in range(width, y.shape[1])
            ]
            y.sum()
            assert len(unwritten_reads()) == 1
    wide = torch.zeros(3, 6, device=D)
    wide.copy_(torch.empty(6, dtype=torch.float16, device=D))  # one row, for each
    assert unwritten_elements(wide).size == 18 and unwritten_reads() == []
    wide.copy_(torch.ones(6, dtype=torch.float16, device=D))
    assert unwritten_elements(wide).size == 0 and wide.sum() == 18 and unwritten_reads() == []
    number = torch.empty(2, dtype=torch.complex128, device=D)
    number[0] = 1
    assert unwritten_elements(number.to(torch.complex64)).tolist() == [1]


def test_a_result_filled_through_masks_is_no_false_alarm():
    x = torch.randn(9, device=D)
    y = torch.empty_like(x)
    y[x > 0] = 1
    y[x <= 0] = 2
    assert set(y.tolist()) <= {1.0, 2.0} and unwritten_reads() == []


def test_values_are_the_cpus_to_the_bit():
    torch.manual_seed(0)
    x = torch.randn(7, 9)
    for work in (
        lambda t: t.softmax(-1), lambda t: t @ t.t(), lambda t: t.sum(0), lambda t: t.sort().values,
        lambda t: t.cumsum(1), lambda t: torch.where(t > 0, t, t.exp()), lambda t: t.std(),
        lambda t: torch.nn.functional.gelu(t), lambda t: t.unfold(1, 3, 2), lambda t: t.argmax(),
        lambda t: torch.einsum("ij,kj->ik", t, t), lambda t: torch.nn.functional.layer_norm(t, (9,)),
        lambda t: t.topk(3).values, lambda t: t.half().tanh(),
    ):  # fmt: skip
        found = work(x.to(D))
        assert found.is_cuda and torch.equal(found.cpu(), work(x))


def test_random_numbers_have_a_generator_of_their_own():
    torch.manual_seed(3)
    a, on_cpu = torch.randn(4, device=D), torch.randn(4)
    torch.manual_seed(3)
    b = torch.randn(4, device=D)
    torch.manual_seed(3)
    assert torch.equal(a, b) and torch.equal(on_cpu, torch.randn(4))
    state = torch.cuda.get_rng_state()
    c = torch.rand(3, device=D)
    torch.cuda.set_rng_state(state)
    assert torch.equal(c, torch.rand(3, device=D))
    given = torch.Generator(device=D)
    given.manual_seed(3)
    assert torch.equal(a, torch.randn(4, device=D, generator=given)) and given.device.type == "cuda"
    torch.cuda.manual_seed_all(3)
    assert torch.equal(a, torch.randn(4, device=D))


def test_modules_optimizers_and_autograd_work():
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.LayerNorm(8)).to(D)
    step = torch.optim.AdamW(model.parameters())
    model(torch.randn(3, 4, device=D)).sum().backward()
    step.step()
    x = torch.randn(5, device=D, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: t.exp() * t, x)
    (g,) = torch.autograd.grad(x.sin().sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x)
    assert torch.allclose(h, -x.sin(), rtol=1e-12, atol=0)


def test_tensors_are_copied_and_pickled():
    x = torch.randn(3, 4, device=D).t()
    buffer = io.BytesIO()
    torch.save(x, buffer)
    for y in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), torch.load(io.BytesIO(buffer.getvalue()))):
        assert torch.equal(x, y) and y.is_cuda and y.data_ptr() != x.data_ptr() and y.stride() == x.stride()
    on_cpu = torch.load(io.BytesIO(buffer.getvalue()), map_location="cpu")
    assert torch.equal(on_cpu, x.cpu()) and not on_cpu.is_cuda


def test_storages_are_set_and_resized():
    x = torch.ones(3, device=D)
    z = torch.empty(0, device=D).set_(x.untyped_storage(), 1, (2,), (1,))
    assert z.tolist() == [1, 1] and z.data_ptr() == x.data_ptr() + 4
    x.untyped_storage().resize_(100)
    assert x.untyped_storage().nbytes() == 100 and x.tolist() == [1, 1, 1]
    x.resize_(40)
    assert allocation_of(x.data_ptr() + 159) == x.data_ptr() and x[:3].tolist() == [1, 1, 1]
    assert torch.empty_like(torch.randn(3, 4, device=D).t()).stride() == (1, 4)


def test_torch_cuda_answers_as_a_device_does():
    assert torch.cuda.is_available() and torch.cuda.device_count() == 1 and torch.version.cuda
    assert torch.cuda.get_device_capability() == (9, 0)
    assert torch.cuda.get_device_name("cuda") == "emulated sm_90" == torch.cuda.get_device_properties(0).name
    assert torch.cuda.is_bf16_supported() and torch.cuda.get_arch_list() == ["sm_90"]
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    stream, start, end = torch.cuda.Stream(), *(torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.cuda.stream(stream), torch.cuda.device(0):
        start.record()
        x = torch.ones(1000, device=D)
        x.record_stream(torch.cuda.current_stream())
        end.record()
    assert start.elapsed_time(end) >= 0 and torch.cuda.current_stream() == stream
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    y = torch.empty(1 << 20, dtype=torch.uint8, device=D)
    del y
    assert torch.cuda.memory_allocated() == before
    assert torch.cuda.max_memory_allocated() == before + (1 << 20)
    assert "allocated" in torch.cuda.memory_summary().lower()
    assert torch.accelerator.current_accelerator().type == "cuda"
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert (torch.ones(2, 2, device=D) @ torch.ones(2, 2, device=D)).dtype == torch.bfloat16


def test_what_is_wrong_on_a_device_is_wrong_here():
    x = torch.ones(3, device=D)
    assert "can't convert cuda:0 device type tensor to numpy" in error_of(x.numpy)
    assert "on the same device" in error_of(lambda: x + torch.ones(3))
    assert (x + torch.tensor(1.0)).tolist() == [2, 2, 2]
    assert "invalid device ordinal" in error_of(lambda: torch.ones(3, device="cuda:1"))
    assert "invalid device ordinal" in error_of(lambda: torch.cuda.set_device(2))


def test_a_view_is_an_inference_tensor_only_of_one():
    outside = torch.arange(16.0, device=D).reshape(4, 4)
    with torch.inference_mode():
        inside = torch.ones(4, 4, device=D)
        for t in (outside, inside):
            for view in (
                t.view(-1, 2),
                t.reshape(-1),
                t.expand(2, 4, 4),
                t[1:],
                t.t(),
                t.detach(),
                *t.split(2),
            ):
                assert view.is_inference() == t.is_inference()
                assert allocation_of(view.data_ptr()) == allocation_of(t.data_ptr())
        assert torch.equal(outside.view(-1).cpu(), torch.arange(16.0))
    assert not outside.is_inference() and inside.is_inference()


def test_memory_that_is_not_there_is_refused_in_a_sentence():
    said = error_of(lambda: torch.empty(1 << 40, dtype=torch.uint8, device=D))
    assert said.startswith(
        "OutOfMemoryError: out of memory: 1099511627776 bytes do not fit into the emulated"
    )
    assert torch.ones(3, device=D).sum() == 3


def test_what_cannot_be_emulated_says_so():
    refused = "cannot be used on an emulated GPU"
    assert f"Unsupported: torch.cuda.CUDAGraph {refused}: CUDA graphs are not captured" in error_of(
        torch.cuda.CUDAGraph
    )
    assert refused in error_of(torch.cuda.nccl.version)
    sparse = error_of(lambda: torch.eye(3).to_sparse().to(D).to_dense())
    assert "an emulated GPU has dense tensors only, and is asked for sparse ones" in sparse


def test_an_operator_of_a_library_runs_on_its_cpu_code_and_is_named():
    with torch.library._scoped_library("vg_test", "DEF") as library:
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: x + x, "CPU")
        found = torch.ops.vg_test.twice(torch.ones(3, device=D))
    assert found.is_cuda and found.tolist() == [2, 2, 2] and operators_of(found) == ("vg_test::twice",)


def test_results_of_code_that_allocates_by_itself_lie_in_the_memory_too():
    with torch.library._scoped_library("vg_outside", "DEF") as library:
        library.define("outside(Tensor x) -> Tensor")
        library.impl("outside", lambda x: torch.from_numpy(np.full(3, 7.0, np.float32)), "CPU")
        found = torch.ops.vg_outside.outside(torch.ones(3, device=D))
    assert allocation_of(found.data_ptr()) == found.data_ptr() and found.tolist() == [7, 7, 7]
