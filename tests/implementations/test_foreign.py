"""Kernels of numpy, C, JAX and MLX: every bit arrives and comes back, and faults are not hidden."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from by_name import as_implementation, from_library

from precision_lab.formats import BF16, FP32, get_format
from precision_lab.functions import RELU, XIELU, get_function
from precision_lab.implementations.adapters.bridge import to_array, to_tensor
from precision_lab.implementations.adapters.foreign import framework_of, wrap
from precision_lab.measuring.measure import measure
from precision_lab.running.tensors import from_bits
from precision_lab.system.extras import install_line
from precision_lab.verifying.verify import verify


@pytest.mark.parametrize("fmt", ["bf16", "fp16", "e4m3", "e5m2"])
def test_every_pattern_survives_the_way_to_numpy_and_back(fmt):
    if fmt != "fp16":
        pytest.importorskip("ml_dtypes")
    x = from_bits(get_format(fmt).all_bits(), get_format(fmt))
    back = to_tensor(to_array(x), "identity")
    assert back.dtype == x.dtype
    assert torch.equal(back.view(torch.uint8), x.view(torch.uint8))


def numpy_xielu(x, *, alpha_p, alpha_n, beta):
    left = alpha_n * (np.expm1(np.minimum(x, x.dtype.type(0))) - x) + beta * x
    return np.where(x > 0, alpha_p * x * x + beta * x, left)


def numpy_xielu_grad_x(x, upstream, *, alpha_p, alpha_n, beta):
    left = alpha_n * np.expm1(np.minimum(x, x.dtype.type(0))) + beta
    return upstream * np.where(x > 0, 2 * alpha_p * x + beta, left)


def test_a_numpy_kernel_and_its_gradient_beside_it_are_measured():
    implementation = as_implementation(
        numpy_xielu, "xielu", ("fp32",), framework="numpy", siblings=globals().get
    )
    assert implementation.outputs == ("forward", "grad_x")
    for output in implementation.outputs:
        m = measure(implementation, "xielu", fmt="fp32", output=output)
        assert m.regions["positive"].max_ulp <= 1.5
        assert m.regions["eps_zone"].max_ulp <= 1.5
        assert m.regions["root_gradient"].max_ulp > 100 or output == "forward"


def test_a_ufunc_needs_no_framework_named():
    assert framework_of(np.exp) == "numpy"
    assert framework_of(torch.exp) is None
    m = measure(as_implementation(np.positive, "relu", ("fp32",)), "relu", fmt="fp32")
    assert m.regions["positive"].max_ulp == 0
    assert m.regions["rest_negative"].max_ulp > 0


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        (lambda x: x.astype(np.float64), "wrong_dtype"),
        (lambda x: x[:3], "wrong_shape"),
        (lambda x: "text", "raised"),
    ],
)
def test_what_is_no_answer_is_named(kernel, kind):
    implementation = as_implementation(kernel, "relu", ("fp32",), framework="numpy")
    (fault,) = verify(implementation, "relu", fmts=("fp32",), outputs=("forward",), properties=False).faults
    assert fault.kind == kind


def test_an_argument_that_the_function_does_not_have_is_refused():
    with pytest.raises(ValueError, match="'eps' that xielu does not have; it has alpha_p, alpha_n, beta"):
        wrap(lambda x, eps: x, "numpy", XIELU, siblings=lambda name: None)


# -- C ----------------------------------------------------------------------------------------

C = r"""
#include <stddef.h>
#include <stdint.h>
void relu(const float *x, float *y, size_t n) { for (size_t i = 0; i < n; i++) y[i] = x[i] < 0 ? 0 : x[i]; }
void relu_bf16(const uint16_t *x, uint16_t *y, size_t n) {
    for (size_t i = 0; i < n; i++) y[i] = (x[i] & 0x7fff) > 0x7f80 ? 0x7fc0 : x[i] >> 15 ? 0 : x[i];
}
void relu_grad_x_bf16(const uint16_t *x, const uint16_t *g, uint16_t *d, size_t n) {
    for (size_t i = 0; i < n; i++) d[i] = x[i] >> 15 || x[i] == 0 ? 0 : g[i];
}
void part_bf16(const uint16_t *x, uint16_t *y, size_t n) { relu_bf16(x, y, n - n % 4); }
void scale_fp32(const float *x, float *y, size_t n, float alpha_p, float alpha_n, float beta) {
    for (size_t i = 0; i < n; i++) y[i] = beta;
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("c")
    (folder / "k.c").write_text(C, encoding="utf-8")
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(folder / "libk.so"), str(folder / "k.c")]
    subprocess.run(command, check=True)
    return folder / "libk.so"


def test_a_c_kernel_and_its_gradient_pass(library: Path) -> None:
    verdict = verify(f"{library}:relu_bf16", "relu", fmts=("bf16",), max_ulp=0.5)
    assert verdict.failures == ()
    assert {m.output for m in verdict.measurements} == {"forward", "grad_x"}


def test_what_a_c_kernel_leaves_unwritten_is_seen(library: Path) -> None:
    verdict = verify(f"{library}:part_bf16", "relu", fmts=("bf16",), outputs=("forward",), isolate=False)
    assert "unwritten_output" in {fault.kind for fault in verdict.faults}


def test_parameters_arrive_in_the_order_of_the_function(library: Path) -> None:
    implementation = from_library(library, "scale", "xielu", target="k")
    x = torch.zeros(3)
    values = {p: torch.tensor(v) for p, v in (("alpha_p", 2.0), ("alpha_n", 3.0), ("beta", 0.25))}
    assert implementation.kernel(x, **values).tolist() == [0.25] * 3
    with pytest.raises(ValueError, match="beta differs from element to element"):
        implementation.kernel(x, **{**values, "beta": torch.tensor([1.0, 2.0, 3.0])})


def test_formats_are_those_that_the_library_has(library: Path) -> None:
    assert from_library(library, "relu", "relu", target="").formats == (FP32, BF16)
    assert from_library(library, "relu_bf16", "relu", target="").formats == (BF16,)
    with pytest.raises(ValueError, match="fp16"):
        verify(f"{library}:relu", "relu", fmts=("fp16",), isolate=False)


def test_a_missing_symbol_or_library_is_one_sentence(library: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no symbol 'gelu'"):
        from_library(library, "gelu", "gelu", target="")
    with pytest.raises(ValueError, match="does not exist"):
        from_library(tmp_path / "none.so", "relu", "relu", target="")
    (tmp_path / "text.so").write_text("no library", encoding="utf-8")
    with pytest.raises(ValueError, match="cannot be loaded"):
        from_library(tmp_path / "text.so", "relu", "relu", target="")


# -- JAX and MLX --------------------------------------------------------------------------------


def test_a_jax_kernel_is_differentiated_by_jax():
    pytest.importorskip("jax", reason="needs JAX, of the extra jax")
    import jax
    import jax.numpy as jnp

    @jax.jit
    def xielu(x, *, alpha_p, alpha_n, beta):
        left = alpha_n * (jnp.expm1(jnp.minimum(x, 0)) - x) + beta * x
        return jnp.where(x > 0, alpha_p * x * x + beta * x, left)

    assert framework_of(xielu) == "jax"
    implementation = as_implementation(xielu, "xielu", ("bf16",))
    assert implementation.measured_outputs() == get_function("xielu").outputs
    for output in ("forward", "grad_x", "grad_alpha_p"):
        m = measure(implementation, "xielu", output=output)
        assert m.regions["positive"].max_ulp <= 1.5, output


def test_an_mlx_kernel_is_differentiated_by_mlx():
    pytest.importorskip("mlx.core", reason="needs MLX, of the extra mlx")
    import mlx.core as mx

    def relu2(x):
        y = mx.maximum(x, 0)
        return y * y

    implementation = as_implementation(relu2, "relu2", ("bf16",), framework="mlx")
    for output in ("forward", "grad_x"):
        assert measure(implementation, "relu2", output=output).regions["positive"].max_ulp <= 1


@pytest.mark.parametrize("framework", ["jax", "mlx"])
def test_a_missing_framework_is_named_with_its_extra(framework, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "jax" if framework == "jax" else "mlx.core", None)
    from precision_lab.exceptions import KernelError

    with pytest.raises(KernelError, match=re.escape(install_line(framework))):
        wrap(lambda x: x, framework, RELU, siblings=lambda name: None)
