"""Which products NVIDIA's assembler fuses: by the rules here, by its machine code, and when executed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from precision_lab.emulator import contraction, contraction_verdict, machine_code
from precision_lab.emulator.contraction import contractable, contracted, origins, usual
from precision_lab.emulator.contraction_verdict import Contraction, verdict
from precision_lab.emulator.parser import parse
from precision_lab.emulator.ptx import Kernel
from precision_lab.exceptions import MissingPackageError, UsageError

needs_assembler = pytest.mark.skipif(
    not machine_code.assemblers(), reason="no ptxas here; it comes with Triton"
)
TARGETS = ("sm_80", "sm_90", "sm_100")

# Loads for %a to %e of a type, then the lines, then %y (and %z) are stored.
LOADS = {
    "f32": ("f32", "f32", 4), "f64": ("f64", "f64", 8), "f16": ("b16", "b16", 2), "bf16": ("b16", "b16", 2),
    "f16x2": ("b32", "b32", 4), "bf16x2": ("b32", "b32", 4), "f32x2": ("b64", "b64", 8),
}  # fmt: skip
# name → type, lines, how many sums are fused. Read from machine code, which the first test reads again.
FATES: dict[str, tuple[str, str, int]] = {
    "plain": ("f32", "mul.f32 %m, %a, %b; add.f32 %y, %m, %c;", 1),
    "product_second": ("f32", "mul.f32 %m, %a, %b; add.f32 %y, %c, %m;", 1),
    "rounded_product": ("f32", "mul.rn.f32 %m, %a, %b; add.f32 %y, %m, %c;", 0),
    "rounded_sum": ("f32", "mul.f32 %m, %a, %b; add.rn.f32 %y, %m, %c;", 0),
    "difference": ("f32", "mul.f32 %m, %a, %b; sub.f32 %y, %m, %c;", 1),
    "difference_from": ("f32", "mul.f32 %m, %a, %b; sub.f32 %y, %c, %m;", 1),
    "negated": ("f32", "mul.f32 %m, %a, %b; neg.f32 %n, %m; add.f32 %y, %c, %n;", 1),
    "copied": ("f32", "mul.f32 %m, %a, %b; mov.f32 %n, %m; add.f32 %y, %c, %n;", 1),
    "magnitude": ("f32", "mul.f32 %m, %a, %b; abs.f32 %n, %m; add.f32 %y, %c, %n;", 0),
    "flushed_product": ("f32", "mul.ftz.f32 %m, %a, %b; add.f32 %y, %m, %c;", 0),
    "flushed_sum": ("f32", "mul.f32 %m, %a, %b; add.ftz.f32 %y, %m, %c;", 0),
    "flushed_both": ("f32", "mul.ftz.f32 %m, %a, %b; add.ftz.f32 %y, %m, %c;", 1),
    "saturated_sum": ("f32", "mul.f32 %m, %a, %b; add.sat.f32 %y, %m, %c;", 1),
    "saturated_product": ("f32", "mul.sat.f32 %m, %a, %b; add.f32 %y, %m, %c;", 0),
    "two_products": ("f32", "mul.f32 %m, %a, %b; mul.f32 %n, %c, %d; add.f32 %y, %m, %n;", 1),
    "two_subtracted": ("f32", "mul.f32 %m, %a, %b; mul.f32 %n, %c, %d; sub.f32 %y, %m, %n;", 1),
    "doubled": ("f32", "mul.f32 %m, %a, %b; add.f32 %y, %m, %m;", 0),
    "used_twice": ("f32", "mul.f32 %m, %a, %b; add.f32 %y, %m, %c; sub.f32 %z, %d, %m;", 2),
    "used_elsewhere": ("f32", "mul.f32 %m, %a, %b; add.f32 %y, %m, %c; mov.f32 %z, %m;", 0),
    "under_guard": ("f32", "mul.f32 %m, %a, %b; mov.f32 %y, %c; @%p add.f32 %y, %m, %c;", 1),
    "guarded_product": ("f32", "mov.f32 %m, %d; @%p mul.f32 %m, %a, %b; add.f32 %y, %m, %c;", 0),
    "selected": ("f32", "mul.f32 %m, %a, %b; selp.f32 %n, %m, %d, %p; add.f32 %y, %n, %c;", 0),
    "constants": ("f32", "mul.f32 %m, %a, 0f3FB8AA3B; add.f32 %y, %m, 0fC0490FDB;", 1),
    "quotient_full": ("f32", "div.full.f32 %m, %a, %b; add.f32 %y, %m, %c;", 1),
    "quotient_approximate": ("f32", "div.approx.ftz.f32 %m, %a, %b; add.ftz.f32 %y, %m, %c;", 1),
    "quotient_exact": ("f32", "div.rn.f32 %m, %a, %b; add.f32 %y, %m, %c;", -1),
    "quotient_and_rounded_sum": ("f32", "div.full.f32 %m, %a, %b; add.rn.f32 %y, %m, %c;", 0),
    "quotient_used_elsewhere": ("f32", "div.full.f32 %m, %a, %b; add.f32 %y, %m, %c; mov.f32 %z, %m;", 0),
    "reciprocal": ("f32", "rcp.approx.f32 %m, %a; add.f32 %y, %m, %c;", 1),
    "reciprocal_flushed": ("f32", "rcp.approx.ftz.f32 %m, %a; add.ftz.f32 %y, %m, %c;", 0),
    "root": ("f32", "sqrt.approx.f32 %m, %a; add.f32 %y, %m, %c;", 0),
    "exponential": ("f32", "ex2.approx.ftz.f32 %m, %a; add.ftz.f32 %y, %m, %c;", 0),
    "added_to_itself": ("f32", "add.f32 %m, %a, %a; add.f32 %y, %m, %c;", 0),
    "double": ("f64", "mul.f64 %m, %a, %b; sub.f64 %y, %c, %m;", 1),
    "double_rounded": ("f64", "mul.rn.f64 %m, %a, %b; add.rn.f64 %y, %m, %c;", 0),
    "half": ("f16", "mul.f16 %m, %a, %b; add.f16 %y, %m, %c;", 1),
    "half_rounded": ("f16", "mul.rn.f16 %m, %a, %b; add.f16 %y, %m, %c;", 0),
    "halves": ("f16x2", "mul.f16x2 %m, %a, %b; sub.f16x2 %y, %m, %c;", 1),
    "halves_rounded": ("f16x2", "mul.rn.f16x2 %m, %a, %b; add.rn.f16x2 %y, %m, %c;", 0),
    "brains": ("bf16x2", "mul.bf16x2 %m, %a, %b; add.bf16x2 %y, %m, %c;", 1),
    "brain": ("bf16", "mul.bf16 %m, %a, %b; add.bf16 %y, %m, %c;", 1),
    "brains_rounded": ("bf16x2", "mul.rn.bf16x2 %m, %a, %b; add.rn.bf16x2 %y, %m, %c;", 0),
    "pairs": ("f32x2", "mul.f32x2 %m, %a, %b; add.f32x2 %y, %m, %c;", 1),
}  # fmt: skip


def entry(name: str, kind: str, lines: str) -> str:
    register, load, size = LOADS[kind]
    loads = "".join(f"ld.global.{load} %{r}, [%at+{size * k}];\n" for k, r in enumerate("abcde"))
    stores = "".join(
        f"st.global.{load} [%to+{size * k}], %{r};\n" for k, r in enumerate("yz") if f" %{r}," in lines
    )
    body = lines.replace("; ", ";\n")
    return f"""
.visible .entry {name}(.param .u64 {name}_0, .param .u64 {name}_1) {{
.reg .b64 %at, %to;
.reg .pred %p;
.reg .b32 %flag;
.reg .{register} %a, %b, %c, %d, %e, %m, %n, %y, %z;
ld.param.u64 %at, [{name}_0];
ld.param.u64 %to, [{name}_1];
ld.global.b32 %flag, [%at+64];
setp.ne.u32 %p, %flag, 0;
{loads}{body}
{stores}ret;
}}
"""


def module(target: str, names: Sequence[str]) -> str:
    head = f".version 8.6\n.target {target}\n.address_size 64\n"
    return head + "".join(entry(name, *FATES[name][:2]) for name in names)


def of_target(target: str) -> list[str]:
    new = {"sm_80": ("bf16", "bf16x2", "f32x2"), "sm_90": ("f32x2",), "sm_100": ()}[target]
    return [name for name, (kind, _, _) in FATES.items() if kind not in new]


def kernel(name: str, target: str = "sm_100") -> Kernel:
    return parse(module(target, [name])).kernels[name]


@needs_assembler
@pytest.mark.parametrize("target", TARGETS)
def test_the_rules_are_those_of_the_assembler(target: str) -> None:
    """Each case's machine code has as many fused instructions as the rules say, for every assembler here."""
    names = of_target(target)
    text = module(target, names)
    parsed = parse(text)
    tried = 0
    for assembler in machine_code.assemblers():
        try:
            cubin = machine_code.assemble(text, target, assembler=assembler)
        except UsageError:
            continue  # of a release that does not know the target
        tried += 1
        for name in names:
            expected = FATES[name][2]
            code = machine_code.kernel_code(cubin, name)
            if expected >= 0:
                assert sum(i.is_fused for i in code) == expected, (assembler, name, code)
            assert len(usual(parsed.kernels[name])) == max(expected, 0), name
            assert set(usual(parsed.kernels[name])) <= set(contractable(parsed.kernels[name]))
    assert tried


def test_one_of_two_products_is_chosen_and_either_may_be() -> None:
    k = kernel("two_products")
    (first, total), (second, same) = contractable(k)
    assert total == same and usual(k) == ((first, total),) and first < second
    with pytest.raises(UsageError, match="cannot be fused with two products"):
        contracted(k, contractable(k))
    with pytest.raises(UsageError, match="are no product and sum to fuse"):
        contracted(k, [(0, 1)])


def test_a_quotient_that_is_used_elsewhere_cannot_be_fused() -> None:
    k = kernel("quotient_used_elsewhere")
    assert len(contractable(k)) == 1 and usual(k) == ()
    with pytest.raises(UsageError, match="is used elsewhere"):
        contracted(k, contractable(k))


def test_a_factor_that_changes_in_between_is_not_fused() -> None:
    lines = "mul.f32 %m, %a, %b; mov.f32 %a, %d; add.f32 %y, %m, %c;"
    text = ".version 8.6\n.target sm_90\n.address_size 64\n" + entry("k", "f32", lines)
    assert contractable(parse(text).kernels["k"]) == ()
    looped = "L: mul.f32 %m, %a, %b; add.f32 %a, %m, %c; setp.lt.f32 %p, %a, %d; @%p bra L; mov.f32 %y, %a;"
    text = ".version 8.6\n.target sm_90\n.address_size 64\n" + entry("k", "f32", looped)
    k = parse(text).kernels["k"]
    assert len(usual(k)) == 1  # within one turn nothing changes
    again = contracted(k, usual(k))
    assert again.labels["L"] == k.labels["L"] and again.instructions[usual(k)[0][1]].name == "fma.rn.f32"


def test_unknown_modifiers_are_refused() -> None:
    text = ".version 8.6\n.target sm_90\n.address_size 64\n"
    lines = "mul.f32 %m, %a, %b; add.odd.f32 %y, %m, %c;"
    with pytest.raises(Exception, match=r"add.odd.f32 is not emulated: .odd is not known"):
        contractable(parse(text + entry("k", "f32", lines)).kernels["k"])


def test_a_sum_of_two_widths_is_rounded_by_itself() -> None:
    """As Triton 3.9 writes them for sm_100; without a rounding they do not exist."""
    head = ".version 8.6\n.target sm_100\n.address_size 64\n"
    lines = "mul.f32 %m, %a, %b; mov.b32 {%h, %l}, %c; sub.rn.f32.bf16 %y, %h, %m;"
    text = head + entry("k", "f32", lines).replace(".reg .pred", ".reg .b16 %h, %l;\n.reg .pred")
    assert contractable(parse(text).kernels["k"]) == ()
    with pytest.raises(Exception, match="is not emulated"):
        contractable(parse(text.replace("sub.rn.f32", "sub.f32")).kernels["k"])


# -- the verdict on machine code ----------------------------------------------------------------------------


@needs_assembler
@pytest.mark.parametrize(
    "name, kind",
    [
        ("plain", "all"), ("difference_from", "all"), ("used_twice", "all"), ("halves", "all"),
        ("double", "all"), ("under_guard", "all"), ("used_elsewhere", "none"), ("quotient_full", "all"),
        ("pairs", "all"), ("rounded_sum", "none"), ("quotient_and_rounded_sum", "none"),
    ],
)  # fmt: skip
def test_the_verdict_is_what_the_machine_code_shows(name: str, kind: str) -> None:
    target = "sm_100" if name == "pairs" else "sm_90"
    text = module(target, [name])
    found = verdict(text, name, machine_code.assemble(text, target))
    assert found.kind == kind, found
    assert found.pairs == (usual(kernel(name)) if kind == "all" else ())
    assert found.choices == (found.pairs,)


@needs_assembler
def test_what_was_assembled_without_fusing_is_told_from_what_was_not() -> None:
    text = module("sm_90", ["plain", "used_twice"])
    apart = machine_code.assemble(text, "sm_90", options=("--fmad=false",))
    assert verdict(text, "used_twice", apart).kind == "none"
    assert machine_code.counts(apart, "plain")["FMUL"] == machine_code.counts(apart, "plain")["FADD"] == 1
    assert machine_code.counts(machine_code.assemble(text, "sm_90"), "plain")["FFMA"] == 1


@needs_assembler
def test_some_of_the_products_are_found_one_by_one() -> None:
    """Machine code in which one of two sums was fused, as no flag makes it but another text does."""
    two = "mul.f32 %m, %a, %b; add.f32 %y, %m, %c; mul.f32 %n, %c, %d; add.f32 %z, %n, %e;"
    head = ".version 8.6\n.target sm_90\n.address_size 64\n"
    text = head + entry("k", "f32", two)
    half = head + entry("k", "f32", two.replace("add.f32 %z", "add.rn.f32 %z"))
    found = verdict(text, "k", machine_code.assemble(half, "sm_90"))
    # No assembler makes this of the text: it is not known what did.
    assert found.kind == "unknown" and found.choices == ((), usual(parse(text).kernels["k"]))
    assert verdict(half, "k", machine_code.assemble(half, "sm_90")).kind == "all"


@needs_assembler
def test_machine_code_of_another_program_proves_nothing() -> None:
    text = module("sm_90", ["plain"])
    other = module("sm_90", ["difference"]).replace("difference", "plain")
    found = verdict(text, "plain", machine_code.assemble(other, "sm_90"))
    assert found.kind == "unknown" and "nvidia-cuda-nvcc" in found.reason and len(found.choices) == 2


@needs_assembler
@pytest.mark.parametrize("target", ["sm_80", "sm_90"])
def test_the_compilers_own_assembler_and_setting_come_first(
    target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Triton has long kernels assembled with --regAllocOptLevel=2, which is other machine code."""
    tried: list[tuple[str, bool]] = []

    def assemble(
        ptx: str, target: str, *, assembler: Path | None = None, options: Sequence[str] = ()
    ) -> bytes:
        if assembler is not None and assembler.parent.parts[-2:] == ("nvidia", "bin"):
            tried.append((assembler.name, "--regAllocOptLevel=2" in options))
        return machine_code.assemble(ptx, target, assembler=assembler, options=options)

    monkeypatch.setattr(contraction_verdict, "assemble", assemble)
    other = module(target, ["difference"]).replace("difference", "plain")
    verdict(module(target, ["plain"]), "plain", machine_code.assemble(other, target))
    own = "ptxas-blackwell" if target == "sm_90" else "ptxas"
    order = list(dict.fromkeys(each for each in tried if each[0] == own))
    assert tried[0][0] == own and {True, False} == {setting for _, setting in order}
    proofs = [setting for name, setting in tried[1:] if name == own]
    assert proofs[0] and not proofs[-1], "the first after the text's own version has been asked"


@needs_assembler
def test_an_assembler_that_fuses_pairs_in_spite_of_rn_is_noticed() -> None:
    """ptxas 12.9 does for sm_100, 13.4 does not; either way the verdict is what the machine code has."""
    lines = "mul.rn.f32x2 %m, %a, %b; add.rn.f32x2 %y, %m, %c;"
    text = ".version 8.6\n.target sm_100\n.address_size 64\n" + entry("k", "f32x2", lines)
    seen = set()
    for assembler in machine_code.assemblers():
        try:
            cubin = machine_code.assemble(text, "sm_100", assembler=assembler)
        except UsageError:
            continue
        fused = any(i.is_fused for i in machine_code.kernel_code(cubin, "k"))
        assert verdict(text, "k", cubin).kind == ("all" if fused else "none")
        seen.add(fused)
    assert seen


TRITON = """
import json, sys
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from precision_lab.emulator.contraction_verdict import verdict

@triton.jit
def mixed(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n, other=0.0).to(tl.float32)
    g = tl.exp(x) * x + 1.25
    h = x / (1.0 + tl.exp(-x)) + 0.25
    tl.store(y_ptr + at, tl.where(x > 0, g - x * 0.3, h), mask=at < n)


types = {"x_ptr": "*bf16", "y_ptr": "*fp32", "n": "i32"}
source = triton.compiler.ASTSource(mixed, types, constexprs={(3,): 256})
found = {}
for number in (80, 90, 100):
    for fused in (True, False):
        options = {"enable_fp_fusion": fused}
        made = triton.compile(source, target=GPUTarget("cuda", number, 32), options=options).asm
        said = verdict(made["ptx"], "mixed", made["cubin"])
        found[f"sm_{number} {fused}"] = (said.kind, len(said.pairs), said.reason)
print(json.dumps(found))
"""


@needs_assembler
@pytest.mark.slow
def test_the_verdict_on_kernels_that_triton_compiles(tmp_path: Path) -> None:
    """In a process of its own: in this one Triton interprets."""
    pytest.importorskip("triton")
    file = tmp_path / "mixed.py"
    file.write_text(TRITON)
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    ran = subprocess.run(
        [sys.executable, str(file)], capture_output=True, text=True, env=environment, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    for target in TARGETS:
        assert found[f"{target} False"][0] == "none", found
        # What LLVM has not contracted itself: the quotient and its sum, in each of a thread's two elements.
        assert found[f"{target} True"][:2] == ["all", 2], found


@needs_assembler
@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("option", ["--fmad=true", "--fmad=false", "--use_fast_math"])
def test_the_verdict_on_kernels_that_nvrtc_compiles(target: str, option: str) -> None:
    pytest.importorskip("cuda.bindings")
    pytest.importorskip("torch")
    from precision_lab.implementations.cuda import source
    from precision_lab.numeric import nvrtc

    try:
        ptx = nvrtc.compile_ptx(source(), "activations.cu", target, (option,))
    except MissingPackageError as error:
        pytest.skip(str(error))
    cubin = nvrtc.machine_code_of(ptx)
    assert cubin is not None
    for name in ("expm1_bf16_forward", "naive_fp32_forward", "packed_bf16_forward"):
        found = verdict(ptx, name, cubin)
        assert found.kind != "unknown", found
        if option == "--fmad=false" or "packed" in name:
            assert found.kind == "none"
        elif option == "--fmad=true":
            assert found.kind == "all" and len(found.pairs) == 1  # what the compiler itself had left


def test_a_missing_assembler_or_disassembler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_code, "_folders", list)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"needs NVIDIA's ptxas.*pip install triton"):
        machine_code.assemble("", "sm_90")
    with pytest.raises(MissingPackageError, match=r"needs NVIDIA's nvdisasm.*pip install triton"):
        machine_code.disassembled(b"none")


def test_an_unknown_verdict_asks_for_both() -> None:
    assert Contraction("unknown", ((1, 2),), "").choices == ((), ((1, 2),))


@needs_assembler
def test_a_search_that_is_given_up_leaves_both_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """At whichever assembly that is."""
    text, sure = module("sm_90", ["quotient_full"]), "the same arithmetic"
    said = []
    for most in range(40):
        monkeypatch.setattr(contraction_verdict, "MOST_ASSEMBLIES", most)
        found = verdict(text, "quotient_full")
        said.append(found.kind)
        assert found.reason.startswith(f"not decided in {most} " if found.kind == "unknown" else sure)
        assert found.pairs == usual(kernel("quotient_full"))
        if found.kind == "all":
            break
    assert len(said) > 4 and said == ["unknown"] * (len(said) - 1) + ["all"]


def unrolled(elements: int) -> str:
    """Of each element a fused quotient, a fused product, and a product that is stored, too, and is not."""
    lines = []
    for k in range(elements):
        lines += [
            f"ld.global.v2.f32 {{%a{k}, %b{k}}}, [%at+{8 * k}];",
            f"div.full.f32 %q{k}, %a{k}, %b{k}; add.f32 %r{k}, %q{k}, 0f3F800000;",
            f"mul.f32 %m{k}, %r{k}, %b{k}; add.f32 %s{k}, %m{k}, 0f40000000;",
            f"mul.f32 %n{k}, %s{k}, %a{k}; add.f32 %t{k}, %n{k}, %b{k};",
            f"st.global.v2.f32 [%to+{8 * k}], {{%n{k}, %t{k}}};",
        ]
    registers = ", ".join(f"%{r}{k}" for r in "abqrmsnt" for k in range(elements))
    head = (
        ".version 8.6\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 x, .param .u64 y) {\n"
    )
    at = f".reg .b64 %at, %to;\n.reg .f32 {registers};\nld.param.u64 %at, [x];\nld.param.u64 %to, [y];\n"
    return head + at + "\n".join(lines) + "\nret;\n}\n"


def assemblies(text: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Contraction, int]:
    """The verdict on what Triton's assembler makes of the text, and how often it was asked."""
    asked: list[str] = []
    code = contraction_verdict._Search._code

    def counted(search: Any, *given: Any, **options: Any) -> Any:
        asked.append("")
        return code(search, *given, **options)

    with monkeypatch.context() as patched:
        patched.setattr(contraction_verdict._Search, "_code", counted)
        return verdict(text, "k"), len(asked)


@needs_assembler
def test_elements_of_an_unrolled_kernel_are_asked_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    (few, first), (many, last) = (assemblies(unrolled(n), monkeypatch) for n in (2, 16))
    assert few.kind == many.kind != "unknown" and len(many.pairs) == 8 * len(few.pairs)
    searched = contraction_verdict._Search._fused_sums
    monkeypatch.setattr(
        contraction_verdict._Search, "_fused_sums", lambda search, whole=False: searched(search)
    )
    one_by_one, each = assemblies(unrolled(16), monkeypatch)
    assert one_by_one == many and last < first + 10 and last < each / 3


@needs_assembler
def test_a_guess_that_cannot_be_proved_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    right, _ = assemblies(unrolled(3), monkeypatch)
    searched = contraction_verdict._Search._fused_sums
    for wrong in (lambda sums: sums[1:], lambda sums: ()):
        monkeypatch.setattr(
            contraction_verdict._Search, "_fused_sums",
            lambda search, whole=False, wrong=wrong: (wrong if whole else tuple)(searched(search)),
        )  # fmt: skip
        found, asked = assemblies(unrolled(3), monkeypatch)
        assert found == right and asked > 8


@needs_assembler
def test_ptx_of_later_releases_than_any_assembler_here_leaves_both_open() -> None:
    text = module("sm_90", ["plain"]).replace(".version 8.6", ".version 99.0")
    found = verdict(text, "plain")
    assert len(found.choices) == 2 and found.reason.startswith("no assembler here is new enough: ptxas")
    assert "99.0" in found.reason and "\n" not in found.reason
    with pytest.raises(UsageError, match="does not assemble the PTX"):
        verdict(
            module("sm_90", ["plain"]).replace("mov.f32", "mov.b32").replace("%flag, 0", "%a, 0"), "plain"
        )


# -- executed -----------------------------------------------------------------------------------------------

PRECISION = {"f32": 24, "f64": 53, "f16": 11, "bf16": 8}


def executed(k: Kernel, bits: Sequence[int], size: int, results: int) -> list[int]:
    from precision_lab.emulator.launch import Launch
    from precision_lab.emulator.memory import Memory
    from precision_lab.emulator.reference.engine import ReferenceEngine

    memory = Memory.reserve(1 << 20)
    data = b"".join(b.to_bytes(size, "little") for b in bits).ljust(64, b"\0") + (1).to_bytes(4, "little")
    source = memory.put(np.frombuffer(data, np.uint8))
    to = memory.allocate(size * results)
    ReferenceEngine().run(
        Launch(k, (1, 1, 1), (1, 1, 1), (source.to_bytes(8, "little"), to.to_bytes(8, "little"))), memory
    )
    return [int(v) for v in memory.get(to, f"<u{size}", results)]


def encoded(value: float, kind: str) -> int:
    """Of a value that the type has."""
    if kind == "bf16":
        return encoded(value, "f32") >> 16
    dtype = {"f32": np.float32, "f64": np.float64, "f16": np.float16}[kind]
    assert float(dtype(value)) == value
    return int(np.array(value, dtype).view(f"u{np.dtype(dtype).itemsize}"))


def halved(kind: str) -> str:
    return kind.removesuffix("x2")


@pytest.mark.parametrize(
    "name",
    ["plain", "product_second", "difference", "difference_from", "negated", "copied", "used_twice", "double",
     "under_guard", "half", "halves", "brains", "brain", "pairs", "flushed_both"],
)  # fmt: skip
def test_a_contracted_kernel_rounds_once(name: str) -> None:
    """(1 + 2⁻ᵏ)² = 1 + 2¹⁻ᵏ + 2⁻²ᵏ, whose last term a product rounded to fewer than 2k bits loses."""
    kind, lines, _ = FATES[name]
    one = halved(kind)
    power = PRECISION[one] // 2 + 1
    a, c = 1 + 2.0**-power, 1 + 2.0 ** (1 - power)
    copies, size = (2 if kind.endswith("x2") else 1), LOADS[kind][2]
    width = 8 * size // copies

    def packed(value: float) -> int:
        return sum(encoded(value, one) << (width * j) for j in range(copies))

    minus = "sub" in lines or "neg" in lines
    values = [a, a, c if minus and name != "used_twice" else -c, c, 0.0]
    k = kernel(name)
    results = 2 if " %z," in lines else 1
    rest = 2.0 ** (-2 * power)
    sign = -1.0 if name in ("difference_from", "negated", "double") else 1.0
    expected = [sign * rest, -rest][:results]
    apart = executed(k, [packed(v) for v in values], size, results)
    assert all(bits & ~packed(-0.0) == 0 for bits in apart), "the product alone leaves nothing"
    fused = contracted(k, usual(k))
    assert executed(fused, [packed(v) for v in values], size, results) == [packed(e) for e in expected]
    assert executed(contracted(k, ()), [packed(v) for v in values], size, results) == apart
    assert len(origins(k, usual(k))) == len(fused.instructions)


@pytest.mark.parametrize("scale", [1.0, 2.0**126, 2.0**-130, 2.0**-20])
def test_a_contracted_quotient_is_a_product_with_a_reciprocal(scale: float) -> None:
    """q/q − 1 is 0; q·RN(1/q) − 1 is not, and the same whatever power of two scales q, subnormal ones too."""
    k = kernel("quotient_full")
    bits = [encoded(v, "f32") for v in (1.5 * scale, 1.5 * scale, -1.0, 0.0, 0.0)]
    assert executed(k, bits, 4, 1) == [0]
    # RN(1/1.5) is 0x3f2aaaab: 1.5 times it is 1 + 2⁻²⁵.
    assert executed(contracted(k, usual(k)), bits, 4, 1) == [encoded(2.0**-25, "f32")]


def test_a_contracted_reciprocal_is_a_product_with_one() -> None:
    k = kernel("reciprocal")
    bits = [encoded(v, "f32") for v in (3.0, 0.0, -0.25, 0.0, 0.0)]
    expected = encoded(float(np.float32(1 / 3) - np.float32(0.25)), "f32")  # exact by Sterbenz
    assert executed(contracted(k, usual(k)), bits, 4, 1) == executed(k, bits, 4, 1) == [expected]


def test_a_kernel_keeps_its_jumps_where_instructions_are_put_in() -> None:
    lines = "@%p bra L; mul.f32 %m, %a, %b; sub.f32 %y, %c, %m; bra M; L: mov.f32 %y, %d; M: mov.f32 %y, %y;"
    text = ".version 8.6\n.target sm_90\n.address_size 64\n" + entry("k", "f32", lines)
    k = parse(text).kernels["k"]
    fused = contracted(k, usual(k))
    assert len(fused.instructions) == len(k.instructions) + 1
    for name in ("L", "M"):
        assert fused.instructions[fused.labels[name]] == k.instructions[k.labels[name]]
    assert contraction.origins(k, usual(k)) == tuple(sorted([*range(len(k.instructions)), usual(k)[0][1]]))


@pytest.mark.parametrize(
    ("opcode", "modifiers", "operands", "name"),
    [
        ("MUFU", ("EX2",), ("R4", "R5"), "MUFU.EX2"),
        ("FFMA", (), ("R4", "R5", "R6", "RZ"), "FFMA"),
        ("FFMA", (), ("R4", "RZ", "R6", "R7"), "FFMA"),
        ("HFMA2", ("MMA",), ("R2", "-RZ", "RZ", "0", "0"), "constant (HFMA2)"),
        ("HFMA2", ("BF16_V2",), ("R2", "R3", "R4", "R5"), "HFMA2"),
        ("F2FP", ("BF16", "PACK_AB"), ("R2", "R3", "R4"), "F2FP"),
    ],
)
def test_instructions_are_named_by_what_they_do(
    opcode: str, modifiers: tuple[str, ...], operands: tuple[str, ...], name: str
) -> None:
    assert machine_code.MachineInstruction("", opcode, modifiers, operands).name == name
