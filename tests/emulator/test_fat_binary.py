"""Which kernels a file of machine code holds for a device, and where."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from emulation import needs_programs
from shipped_kernels import backward_name, fat_binary, forward_name, torch_like

from precision_lab.emulator.machine_code import assemble, assemblers
from precision_lab.emulator.sass.cubin import kernel_names
from precision_lab.emulator.sass.fat_binary import holds_kernels, kernel_file, target_of
from precision_lab.emulator.sass.names import demangled
from precision_lab.exceptions import UsageError

EMPTY = ".version 8.0\n.target {target}\n.address_size 64\n.visible .entry {name}() {{ ret; }}"

pytestmark = needs_programs("nvdisasm", "cuobjdump")


def empty(name: str, target: str) -> bytes:
    return assemble(EMPTY.format(name=name, target=target), target)


@pytest.fixture
def fat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRECISION_LAB_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "k.fatbin"
    path.write_bytes(fat_binary({80: empty("old", "sm_80"), 86: empty("newer", "sm_86"), 90: torch_like()}))
    return path


def test_a_device_takes_machine_code_of_its_generation_and_none_that_is_later(fat: Path) -> None:
    assert set(kernel_file(fat, "sm_80").parts) == {"old"}
    assert set(kernel_file(fat, "sm_86").parts) == {"old", "newer"}
    assert forward_name() in kernel_file(fat, "sm_90").parts
    with pytest.raises(UsageError, match=r"no machine code for sm_100; it has machine code for sm_80, sm_86"):
        kernel_file(fat, "sm_100")


def test_only_what_holds_the_kernel_is_kept_and_read_again(
    fat: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cubin = kernel_file(fat, "sm_90").cubin(backward_name())
    assert backward_name() in kernel_names(cubin)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("precision_lab.emulator.sass.fat_binary.program", None)  # nothing is run any more
    again = kernel_file(fat, "sm_90")
    assert again.cubin(backward_name()) == cubin
    assert len(list((fat.parent / "cache" / "shipped").iterdir())) == 2


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_library_holds_fat_binaries_in_a_section(fat: Path, tmp_path: Path) -> None:
    source, library, plain = tmp_path / "k.s", tmp_path / "libk.so", tmp_path / "plain.so"
    lines = ['.section .nv_fatbin,"a"', ".align 8", f'f: .incbin "{fat}"', '.section .nvFatBinSegment,"aw"',
             ".align 8", ".long 0x466243b1, 1", ".quad f", ".quad 0",
             '.section .note.GNU-stack,"",@progbits']  # fmt: skip
    source.write_text("\n".join(lines) + "\n")
    subprocess.run(["cc", "-shared", "-o", str(library), str(source)], check=True)
    (tmp_path / "plain.c").write_text("int one(void) { return 1; }\n")
    subprocess.run(["cc", "-shared", "-o", str(plain), str(tmp_path / "plain.c")], check=True)
    assert holds_kernels(library) and not holds_kernels(plain) and not holds_kernels(tmp_path / "no.so")
    assert forward_name() in kernel_file(library, "sm_90").parts


@pytest.mark.parametrize("assembler", assemblers(), ids=lambda path: f"{path.parent.parent.name}-{path.name}")
def test_a_cubin_says_which_device_it_is_for(assembler: Path, tmp_path: Path) -> None:
    for number in (80, 86, 90):
        target = f"sm_{number}"
        cubin = assemble(EMPTY.format(name="k", target=target), target, assembler=assembler)
        assert target_of(cubin) == number
    path = tmp_path / "k.cubin"
    path.write_bytes(cubin)
    assert kernel_file(path, "sm_90").parts == {"k": ""}
    with pytest.raises(UsageError, match="is machine code for sm_90, not for sm_80"):
        kernel_file(path, "sm_80")


def test_names_are_shown_as_their_authors_wrote_them() -> None:
    assert demangled("_Z4silufPf") == "silu(float, float*)"
    assert demangled("silu_bf16") == "silu_bf16"
    assert "silu_kernel(at::TensorIteratorBase&)" in demangled(forward_name())
