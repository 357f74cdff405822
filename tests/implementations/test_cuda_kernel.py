"""CUDA C++ and PTX in files as TARGETs: what fills their parameters, and what comes out."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("cuda.bindings")

from host_gpu import HostGpu, host_gpu  # noqa: F401  (a fixture)

from precision_lab.devices import CUDA
from precision_lab.exceptions import KernelError, UsageError
from precision_lab.formats import BF16, FP16, FP32, FP64
from precision_lab.functions import get_function
from precision_lab.implementations.adapters import launch_description as description
from precision_lab.implementations.adapters.target import cuda_parts, find, kernel_of, with_launch
from precision_lab.numeric import nvrtc

RELU2, XIELU = get_function("relu2"), get_function("xielu")
SQUARE = """
#include <cuda_bf16.h>
#include <cuda_fp16.h>
template <typename T> __device__ T zero() { return (T)0.0f; }
template <typename T>
__global__ void square(const T* __restrict__ x, T* __restrict__ y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] > zero<T>() ? x[i] * x[i] : zero<T>();
}
template <typename T>
__global__ void square_backward(const T* dy, const T* x, T* dx, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) dx[i] = x[i] > zero<T>() ? dy[i] * (x[i] + x[i]) : zero<T>();
}
"""
# Parameters by value and behind a pointer, several elements of a thread, gradients per element.
XIELU_CU = """
// precision_lab: bent(x, y, alpha_p, alpha_n, beta, n) block=64 per_thread=2
typedef long long i64;
extern "C" __global__ void bent(const float* a, float* b, float p, const float* q, double r, i64 count) {
    for (int k = 0; k < 2; ++k) {
        i64 i = 2 * ((i64)blockIdx.x * blockDim.x + threadIdx.x) + k;
        if (i >= count) return;
        float v = a[i];
        b[i] = v > 0 ? p * v * v + (float)r * v : *q * (expm1f(v) - v) + (float)r * v;
    }
}
extern "C" __global__ void bent_backward(
    const float* dy, const float* x, float alpha_p, float alpha_n, float beta, float* dx, float* d_alpha_p,
    float* grad_alpha_n, float* dbeta, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (2 * i >= n) return;
    for (int k = 2 * i; k < min(2 * i + 2, n); ++k) {
        float u = dy[k], v = x[k];
        dx[k] = u * (v > 0 ? 2 * alpha_p * v + beta : alpha_n * expm1f(v) + beta);
        d_alpha_p[k] = v > 0 ? u * v * v : 0;
        grad_alpha_n[k] = v > 0 ? 0 : u * (expm1f(v) - v);
        dbeta[k] = u * v;
    }
}
"""


def written(folder: Path, text: str, name: str = "k.cu") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_a_template_serves_each_format_that_it_compiles_for(tmp_path: Path, host_gpu: HostGpu) -> None:  # noqa: F811
    found = find(f"{written(tmp_path, SQUARE)}:square", RELU2, (FP32,))
    assert found.formats == (FP64, FP32, BF16, FP16)
    assert found.outputs == ("forward", "grad_x") and found.parameters == ()
    assert found.devices == (CUDA,) and found.execution_name == "cuda"
    for fmt in found.formats:
        dtype = getattr(torch, str(fmt.torch_name))
        x = torch.randn(5, 77, generator=torch.manual_seed(1)).to(dtype).requires_grad_()
        upstream = torch.randn(5, 77).to(dtype)
        y = found.kernel(x)
        (dx,) = torch.autograd.grad(y, x, upstream)
        zero = torch.zeros((), dtype=dtype)
        assert torch.equal(y, torch.where(x > 0, x * x, zero))
        assert torch.equal(dx, torch.where(x > 0, upstream * (x + x), zero))
    assert {(grid, block) for _, grid, block in host_gpu.launched} == {((2, 1, 1), (256, 1, 1))}


def test_one_instantiation_can_be_named(tmp_path: Path, host_gpu: HostGpu) -> None:  # noqa: F811
    found = find(f"{written(tmp_path, SQUARE)}:square<__half>", RELU2, (FP16,))
    assert found.formats == (FP16,) and found.outputs == ("forward", "grad_x")
    x = torch.tensor([-1.0, 3.0], dtype=torch.float16)
    assert found.kernel(x).tolist() == [0.0, 9.0]


def test_parameters_are_filled_as_described_and_gradients_come_back(
    tmp_path: Path,
    host_gpu: HostGpu,  # noqa: F811
) -> None:
    found = find(f"{written(tmp_path, XIELU_CU)}:bent", XIELU, (FP32,))
    assert found.formats == (FP32,) and found.parameters == ("alpha_p", "alpha_n", "beta")
    assert set(found.outputs) == {"forward", "grad_x", "grad_alpha_p", "grad_alpha_n", "grad_beta"}
    x = torch.linspace(-3, 3, 333).requires_grad_()
    params = {"alpha_p": 0.75, "alpha_n": 0.5, "beta": 0.25}
    leaves = {k: torch.full((), v, requires_grad=True) for k, v in params.items()}
    y = found.kernel(x, **leaves)
    found_gradients = torch.autograd.grad(y.sum(), [x, *leaves.values()])
    # The same in torch's float64, which has no rounding of note here.
    wide = x.detach().double().requires_grad_()
    doubles = {k: torch.tensor(v, dtype=torch.float64, requires_grad=True) for k, v in params.items()}
    p, q, r = doubles.values()
    exact = torch.where(wide > 0, p * wide**2 + r * wide, q * (torch.expm1(wide) - wide) + r * wide)
    gradients = torch.autograd.grad(exact.sum(), [wide, *doubles.values()])
    assert float((y - exact).detach().abs().max()) < 2.0**-20  # values to 7.5, a few roundings
    for ours, theirs in zip(found_gradients, gradients, strict=True):
        # Sums of 333 terms up to 9, each wrong by a few 2⁻²¹.
        assert float((ours - theirs).abs().max()) < 2.0**-12
    assert {(grid, block) for _, grid, block in host_gpu.launched} == {((3, 1, 1), (64, 1, 1))}


def test_a_parameter_per_element_is_refused_unless_it_is_one_number(
    tmp_path: Path,
    host_gpu: HostGpu,  # noqa: F811
) -> None:
    found = find(f"{written(tmp_path, XIELU_CU)}:bent", XIELU, (FP32,))
    x, one = torch.ones(4), torch.tensor(0.5)
    same = torch.full((4,), 0.5, requires_grad=True)
    y = found.kernel(x, alpha_p=same, alpha_n=one, beta=one)
    (gradient,) = torch.autograd.grad(y.sum(), same)
    assert gradient.tolist() == [1.0] * 4
    with pytest.raises(UsageError, match="alpha_p differs from element to element"):
        found.kernel(x, alpha_p=torch.tensor([1.0, 2, 3, 4]), alpha_n=one, beta=one)


def test_ptx_is_launched_as_its_comment_says(tmp_path: Path, host_gpu: HostGpu) -> None:  # noqa: F811
    ptx = nvrtc.compile_ptx(XIELU_CU, "bent.cu", "sm_90", ("--fmad=false",))
    file = written(tmp_path, ptx, "bent.ptx")
    with pytest.raises(
        UsageError, match=r"parameters of bent\(pointer, pointer, float, pointer, double, pointer\)"
    ):
        find(f"{file}:bent", XIELU, (FP32,))
    words = "bent(x, y, alpha_p, alpha_n, beta, n) block=32 per_thread=2 format=fp32"
    said = find(
        f"{written(tmp_path, f'// precision_lab: {words}' + chr(10) + ptx, 'said.ptx')}:bent", XIELU, (FP32,)
    )
    given = find(f"{file}:bent {words}", XIELU, (FP32,))
    x = torch.linspace(-2, 2, 65)
    leaves = {k: torch.tensor(v) for k, v in (("alpha_p", 0.75), ("alpha_n", 0.5), ("beta", 0.25))}
    assert torch.equal(said.kernel(x, **leaves), given.kernel(x, **leaves))
    assert host_gpu.launched[-1] == ("bent", (2, 1, 1), (32, 1, 1))
    assert said.outputs == ("forward",)  # nothing says what the gradient's kernel is handed
    arguments = "dy, x, alpha_p, alpha_n, beta, dx, d_alpha_p, d_alpha_n, d_beta, n"
    both = find(f"{file}:bent {words} backward=bent_backward({arguments})", XIELU, (FP32,))
    assert set(both.outputs) == {"forward", "grad_x", "grad_alpha_p", "grad_alpha_n", "grad_beta"}
    x.requires_grad_()
    (dx,) = torch.autograd.grad(both.kernel(x, **leaves).sum(), x)
    assert float(dx[-1]) == 2 * 0.75 * 2 + 0.25
    assert float(given.kernel(torch.tensor([2.0]), **leaves)) == 3.5


def test_names_with_formats_find_each_other(tmp_path: Path, host_gpu: HostGpu) -> None:  # noqa: F811
    text = """
#include <cuda_bf16.h>
// precision_lab: twice_bf16(x, y, ceil(n/2)) per_thread=2
extern "C" __global__ void twice_bf16(const unsigned* x, unsigned* y, unsigned pairs) {
    unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < pairs) y[i] = x[i];
}
extern "C" __global__ void twice_fp32(const float* in, float* out, size_t numel) {
    size_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < numel) out[i] = in[i];
}
__global__ void twice_grad_x_fp32(const float* x, const float* upstream, float* grad_x, int n) {
    if (threadIdx.x < n) grad_x[threadIdx.x] = 3 * upstream[threadIdx.x];
}
"""
    file = written(tmp_path, text)
    found = find(f"{file}:twice", RELU2, (FP32,))
    assert found.formats == (FP32, BF16)
    assert found.outputs == ("forward",)  # bf16 has no gradient
    both = find(f"{file}:twice_fp32", RELU2, (FP32,))
    assert both.formats == (FP32,) and both.outputs == ("forward", "grad_x")
    x = torch.tensor([-1.0, 2.0], requires_grad=True)
    (dx,) = torch.autograd.grad(both.kernel(x).sum(), x)
    assert dx.tolist() == [3.0, 3.0]  # the mangled name was found
    assert found.kernel(torch.tensor([1.5, -2.5]).bfloat16()).tolist() == [1.5, -2.5]


SPACES = """
namespace act { namespace wide {
__global__ void twice(const float* x, float* y, int n) {
    if (threadIdx.x < n) y[threadIdx.x] = 2 * x[threadIdx.x];
}
__global__ void twice_backward(const float* dy, float* dx, int n) {
    if (threadIdx.x < n) dx[threadIdx.x] = 2 * dy[threadIdx.x];
}
template <typename T> __global__ void thrice(const T* x, T* y, int n) {
    if (threadIdx.x < n) y[threadIdx.x] = x[threadIdx.x] + x[threadIdx.x] + x[threadIdx.x];
}
} }
namespace other {
__global__ void k(float* y, const float* x, int n) { if (threadIdx.x < n) y[threadIdx.x] = x[threadIdx.x]; }
}
namespace act {
__global__ void k(const float* x, float* y, int n) { if (threadIdx.x < n) y[threadIdx.x] = -x[threadIdx.x]; }
}
"""


def test_a_kernel_in_a_namespace_is_found_by_its_whole_name_and_by_its_own(
    tmp_path: Path,
    host_gpu: HostGpu,  # noqa: F811
) -> None:
    file = written(tmp_path, SPACES)
    for name in ("twice", "act::wide::twice"):
        found = find(f"{file}:{name}", RELU2, (FP32,))
        x = torch.tensor([-1.0, 2.0], requires_grad=True)
        y = found.kernel(x)
        (dx,) = torch.autograd.grad(y.sum(), x)
        assert y.tolist() == [-2.0, 4.0] and dx.tolist() == [2.0, 2.0]
    thrice = find(f"{file}:act::wide::thrice", RELU2, (FP32,))
    assert FP64 in thrice.formats and thrice.kernel(torch.tensor([2.0])).tolist() == [6.0]
    with pytest.raises(UsageError, match="has no kernel 'other::twice'"):
        find(f"{file}:other::twice", RELU2, (FP32,))


def test_of_two_kernels_with_one_name_the_description_says_what_they_are_handed(
    tmp_path: Path,
    host_gpu: HostGpu,  # noqa: F811
) -> None:
    file = written(tmp_path, SPACES)
    with pytest.raises(UsageError, match="has 2 kernels 'k': overloads"):
        find(f"{file}:k x, y, n", RELU2, (FP32,))
    with pytest.raises(UsageError, match="have no names that can be read"):
        find(f"{file}:act::k", RELU2, (FP32,))
    x = torch.tensor([2.0])
    for target, result in (("act::k x, y, n format=fp32", -2.0), ("other::k y, x, n format=fp32", 2.0)):
        assert find(f"{file}:{target}", RELU2, (FP32,)).kernel(x).tolist() == [result]


def test_a_kernel_that_writes_beyond_its_result_is_named_on_a_real_gpu(
    tmp_path: Path,
    host_gpu: HostGpu,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There nothing else watches; margins are what the C kernels have, too."""
    from precision_lab.implementations.adapters import cuda_kernel

    monkeypatch.setattr(cuda_kernel, "is_emulated", lambda: False)
    text = 'extern "C" __global__ void off(const float* x, float* y, int n) { y[threadIdx.x - 1] = 0; }'
    found = find(f"{written(tmp_path, text)}:off x, y, n; block=32", RELU2, (FP32,))

    def overrun(name, blocks, threads, arguments, **rest):  # type: ignore[no-untyped-def]
        whole = torch.empty(0).set_(arguments[1].untyped_storage())
        whole[63] = 0

    monkeypatch.setattr(cuda_kernel, "_program", lambda *a: type("P", (), {"launch": staticmethod(overrun)}))
    with pytest.raises(
        KernelError, match="1 elements before or behind the result of 8 were overwritten"
    ) as caught:
        found.kernel(torch.ones(8))
    assert caught.value.kind == "writes_outside"


def test_on_the_processor_it_says_which_devices_it_needs(tmp_path: Path) -> None:
    found = find(f"{written(tmp_path, SQUARE)}:square<float>", RELU2, (FP32,))
    with pytest.raises(KernelError, match="needs --device cuda, or an emulated one, such as --device sm_90"):
        found.kernel(torch.ones(3))


SIMPLE = 'extern "C" __global__ void k(%s) {}'
PLAIN = "const float* x, float* y, int n"


@pytest.mark.parametrize(
    "parameters, launch, words",
    [
        ("const float* x, float* y, float gain, int n", "", r"what 'gain' stands for is not known; say what"),
        (PLAIN, "x, y", r"has 3 parameters; its launch description has 2: x, y"),
        (PLAIN, "x, z, n", r"'z' in its launch description is not known"),
        (PLAIN, "x, n, y", r"n cannot fill|y cannot fill a parameter of kind int32"),
        (PLAIN, "x, y, n; grid=n/256", r"'n/256' is no whole number"),
        (PLAIN, "x, y, n; blocks=3", r"unknown key of a launch description 'blocks'"),
        (PLAIN, "x, y, n; block=0", r"block=0 must be a whole number above 0"),
        (PLAIN, "x, y, n; format=fp8", r"expected one of fp64, fp32"),
        (PLAIN, "x, x, n", r"nothing is y among x, x, n"),
        (PLAIN, "j(x, y, n)", r"'j\(x, y, n\)' is of 'j', and TARGET '.*' of its kernel 'k'"),
        (PLAIN, "x, y, n; backward=other", r"no kernel 'other', named as backward="),
        ("const unsigned* x, unsigned* y, int n", "", r"say which format it computes in"),
    ],
)  # fmt: skip
def test_a_wrong_description_is_one_clear_sentence(
    tmp_path: Path, parameters: str, launch: str, words: str
) -> None:
    file = written(tmp_path, SIMPLE % parameters)
    with pytest.raises(UsageError, match=words):
        find(f"{file}:k {launch}", RELU2, (FP32,))


def test_other_mistakes_are_named(tmp_path: Path) -> None:
    file = written(tmp_path, SIMPLE % PLAIN)
    with pytest.raises(UsageError, match=r"has no kernel 'j'; it has k"):
        find(f"{file}:j", RELU2, (FP32,))
    with pytest.raises(UsageError, match="does not exist"):
        find(f"{tmp_path}/none.cu:k", RELU2, (FP32,))
    with pytest.raises(UsageError, match="neither a framework nor"):
        find(f"{file}:k", RELU2, (FP32,), framework="numpy")
    with pytest.raises(UsageError, match=r"does not compile for sm_90: .*error"):
        find(f"{written(tmp_path, '__global__ void k(', 'broken.cu')}:k", RELU2, (FP32,))
    with pytest.raises(UsageError, match=r"no kernel of a \.cu or \.ptx file"):
        with_launch("math:exp", "x, y, n")
    with pytest.raises(UsageError, match="says how it is launched already"):
        with_launch("k.cu:k block=32", "x, y, n")
    with pytest.raises(UsageError, match="expected how a kernel is launched"):
        with_launch("k.cu:k", "")


def test_a_target_with_colons_in_its_kernel_is_split_behind_the_file() -> None:
    for target, parts in (
        ("a/b.cu:ns::k<float>", ("a/b.cu", "ns::k<float>", "")),
        (
            "a/b.cu:k<pair<float>, 256>(x, y, n) block=32",
            ("a/b.cu", "k<pair<float>, 256>", "k<pair<float>, 256>(x, y, n) block=32"),
        ),
        ("a.cu:k<float> k<float>(x, y, n)", ("a.cu", "k<float>", "k<float>(x, y, n)")),
        ("b.ptx:k", ("b.ptx", "k", "")),
        ("b.ptx:k block=32 grid=ceil(n/2)", ("b.ptx", "k", "block=32 grid=ceil(n/2)")),
        ("b.ptx:k x, y, n; block=32", ("b.ptx", "k", "x, y, n; block=32")),
        ("b.py:k", ("", "", "")),
    ):
        assert cuda_parts(target) == parts
    read = description.read_description("k<pair<float>, 256>(x, y, n) block=32")
    assert (read.kernel, read.arguments) == ("k<pair<float>, 256>", ("x", "y", "n"))
    assert kernel_of("a.cu:ns::k<float> x, y, n") == "ns::k<float>" and kernel_of("a.b:C.f") == "C.f"
    assert with_launch("b.ptx:k", "x, y, n block=32") == "b.ptx:k x, y, n block=32"
    assert with_launch("b.py:k", None) == "b.py:k"


@pytest.mark.parametrize(
    "expression, value",
    [("ceil(n/(block*per_thread))", 4), ("n//2", 500), ("min(n, 7)", 7), ("-n + 1001", 1), ("2*block", 256)],
)
def test_expressions_of_n_are_evaluated(expression: str, value: int) -> None:
    assert description.Description(block=128, per_thread=2).number(expression, 1000) == value


@pytest.mark.parametrize(
    "expression", ["__import__('os')", "n/2", "m", "n**2", "ceil(n)", "1.5", "n.real", ""]
)
def test_other_expressions_are_refused(expression: str) -> None:
    with pytest.raises(UsageError, match="no whole number"):
        description.Description().number(expression, 1000)


def test_a_description_is_read_in_both_spellings() -> None:
    one = description.read_description(
        "k(x, y, ceil(n/2)) block=64 grid=min(n,ceil(n/64)) backward=g(dy, x, dx, n)"
    )
    two = description.read_description(
        "x, y, ceil(n/2); block=64; grid=min(n,ceil(n/64)); backward=g(dy, x, dx, n)"
    )
    assert one.arguments == two.arguments == ("x", "y", "ceil(n/2)")
    assert (one.kernel, two.kernel) == ("k", "") and one.block == two.block == 64
    assert one.backward == two.backward == "g(dy, x, dx, n)" and one.blocks(129) == 3
    with pytest.raises(UsageError, match="'later' is not understood"):
        description.read_description("x, y, n; block=64 later")
