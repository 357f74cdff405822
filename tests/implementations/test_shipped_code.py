"""Machine code in files as TARGETs: which kernel is meant, what it is handed, and what comes out."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from emulation import needs_programs
from shipped_kernels import backward_name, forward_name, torch_like

from precision_lab.emulator.sass.names import demangled
from precision_lab.exceptions import UsageError
from precision_lab.formats import BF16
from precision_lab.functions import get_function
from precision_lab.implementations.adapters.cuda_arguments import placed
from precision_lab.implementations.adapters.launch_description import Description, read_description
from precision_lab.implementations.adapters.shipped_code import ShippedCode
from precision_lab.implementations.adapters.target import cuda_parts, find
from precision_lab.implementations.adapters.torch_kernels import elements_of_a_block, vectorised
from precision_lab.verifying.verdict import Verdict
from precision_lab.verifying.verify import verify

SILU, ELU = get_function("silu"), get_function("elu")


pytestmark = needs_programs("nvdisasm")


@pytest.fixture(scope="module")
def cubin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shipped") / "k.cubin"
    path.write_bytes(torch_like())
    return path


def test_a_name_says_what_torch_launches() -> None:
    found = vectorised(demangled(forward_name()))
    assert found is not None
    assert (found.operation, found.width, found.pointers) == ("silu_kernel", 8, 2)
    assert found.types == ("c10::BFloat16",) and found.inputs == ("x",)
    backward = vectorised(demangled(backward_name()))
    assert backward is not None and backward.inputs == ("dy", "x")
    assert "silu_backward_kernel" in found.backward_operations()
    assert vectorised("silu(float*, int)") is None


@pytest.mark.parametrize(
    ("operation", "inputs"),
    [("log_sigmoid_backward_kernel", ("x", "dy")), ("tanh_backward_kernel_cuda", ("dy", "result")),
     ("sigmoid_backward_kernel_cuda", ("dy", "result")), ("mish_backward_kernel", ("dy", "x"))],
)  # fmt: skip
def test_inputs_stand_in_the_order_of_the_functor(operation: str, inputs: tuple[str, ...]) -> None:
    found = vectorised(demangled(backward_name(operation)))
    assert found is not None and found.inputs == inputs


def test_the_widest_kernel_and_its_gradient_are_found_by_a_part_of_the_name(cubin: Path) -> None:
    source = ShippedCode(cubin, SILU, "sm_90")
    (call,) = source.forward("silu_kernel").values()
    assert call.name == forward_name() and call.meanings == ("n", "y", "x")
    assert (call.description.block, call.description.per_thread) == (128, 2)
    assert elements_of_a_block(source.kernel(call.name)) == 256
    (backward,) = source.backward("silu_kernel", BF16, call)
    assert backward.name == backward_name() and backward.meanings == ("n", "dx", "dy", "x")
    implementation = find(f"{cubin}:silu_kernel", SILU, (BF16,))
    assert implementation.formats == (BF16,) and implementation.outputs == ("forward", "grad_x")


def test_a_name_that_fits_several_or_none_is_refused(cubin: Path) -> None:
    source = ShippedCode(cubin, SILU, "sm_90")
    with pytest.raises(UsageError, match=r"k\.cubin:_kernel: 3 kernels have that in their names, say more"):
        source.forward("_kernel")
    with pytest.raises(UsageError, match=r"no kernel of 4 for sm_90 has that name"):
        source.forward("gelu_kernel")
    with pytest.raises(UsageError, match=r"the functor of scaled_kernel holds 8 bytes of values"):
        source.forward("scaled_kernel")


def test_structs_are_laid_out_as_c_does(cubin: Path) -> None:
    found = placed("{char(1), alpha, double(2), y}", 32, BF16, "k", Description(), ("alpha",))
    assert [(p.offset, p.kind) for p in found.parts] == [
        (0, "int8"),
        (4, "float"),
        (8, "double"),
        (16, "pointer"),
    ]
    assert placed("{}", 1, BF16, "k", Description(), ()).values == ()
    with pytest.raises(UsageError, match=r"\{y, x\} has 16 bytes and cannot fill a parameter of 8"):
        placed("{y, x}", 8, BF16, "k", Description(), ())
    with pytest.raises(UsageError, match="'z' in its launch description is not known"):
        placed("{z}", 8, BF16, "k", Description(), ())
    with pytest.raises(UsageError, match=r"1\.5 cannot fill a parameter of kind int32"):
        placed("{int(1.5)}", 8, BF16, "k", Description(), ())
    given = read_description("n, {1.0, 2.0}, {y, x} backward=b(n, {}, {dx, dy, x})")
    assert given.arguments == ("n", "{1.0, 2.0}", "{y, x}") and given.backward == "b(n, {}, {dx, dy, x})"


def test_targets_of_machine_code_are_told_from_others(cubin: Path, tmp_path: Path) -> None:
    assert cuda_parts(f"{cubin}:silu_kernel(n, {{}}, {{y, x}}) block=64") == (
        str(cubin), "silu_kernel", "silu_kernel(n, {}, {y, x}) block=64"
    )  # fmt: skip
    (tmp_path / "plain.so").write_bytes(b"\x7fELF")
    assert cuda_parts(f"{tmp_path / 'plain.so'}:silu") == ("", "", "")


def measured(target: str, **more: object) -> Verdict:
    return verify(target, "silu", fmts=("bf16",), max_ulp=1.0, device="sm_90", properties=False, **more)  # type: ignore[arg-type]


def test_machine_code_is_measured_for_every_conforming_device(cubin: Path) -> None:
    found = {m.output: m for m in measured(f"{cubin}:silu_kernel").measurements}
    assert found.keys() == {"forward", "grad_x"}
    for m in found.values():
        assert m.failure is None and m.n_inputs == 65536
        assert m.conformity is not None and not m.conformity.unknown
        assert m.conformity.instructions == ("ex2.approx.ftz.f32", "rcp.approx.ftz.f32")
        assert m.conformity.combinations == 35
    # x / (1 + exp(−x)) is −0 where exp(−x) overflows, and bf16 still has the result.
    assert found["forward"].max_ulp == pytest.approx(244.88, abs=0.01)


def test_what_a_functor_holds_is_given_and_what_is_not_given_is_not_read(cubin: Path) -> None:
    given = measured(f"{cubin}:scaled_kernel(n, {{0.0, 1.0}}, {{y, x}})", outputs=("forward",))
    assert given.measurements[0].max_ulp == pytest.approx(244.88, abs=0.01)
    lacking = measured(f"{cubin}:scaled_kernel(n, {{0.0}}, {{y, x}})", outputs=("forward",))
    failure = lacking.measurements[0].failure
    assert failure is not None
    assert "it reads byte 4 of parameter 1, which the launch does not give" in failure.message
