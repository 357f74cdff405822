"""An emulated device in a process of its own: what its tensors and kernels do, and how it is made."""

import concurrent.futures
import os
import re
import shutil
from pathlib import Path

import pytest
from device_process import names_of, outcomes
from emulation import python, require

from precision_lab.exceptions import UsageError
from precision_lab.virtual_gpu import is_installed
from precision_lab.virtual_gpu.properties import properties

FILES = {"on_device_tensors.py": (), "on_device_triton.py": ("triton",), "on_device_inductor.py": ("triton",)}
INSTALL = "from precision_lab.virtual_gpu.install import install; install({!r}); print('made')"


@pytest.mark.parametrize(
    ("file", "name"),
    [(file, name) for file in FILES for name in names_of(file)],
    ids=lambda value: value.removesuffix(".py").removeprefix("on_device_").removeprefix("test_"),
)
def test_in_its_process(file: str, name: str) -> None:
    require(*FILES[file])
    why = outcomes(file, "sm_90").get(name, "it did not run")
    assert not why, why


def test_every_test_of_a_file_runs_and_a_failure_is_seen(tmp_path) -> None:
    require()
    path = tmp_path / "on_device.py"
    path.write_text("def test_passes(): pass\ndef test_fails(): assert 0, 'so it is'\n")
    found = outcomes(str(path), "sm_80")
    assert found["test_passes"] == "" and "so it is" in found["test_fails"]


def test_this_process_has_none() -> None:
    assert not is_installed()


@pytest.mark.parametrize("name", ["sm_999", "sm_75a", "90", "cuda"])
def test_a_target_that_no_compiler_knows_is_named_with_those_there_are(name: str) -> None:
    with pytest.raises(
        UsageError, match=f"device='{name}': no compiler at hand knows it; emulated are sm_75, "
    ):
        properties(name, 1)


def test_a_capability_decides_the_properties() -> None:
    old, new = properties("sm_80", 1), properties("sm_103", 1)
    assert (old.major, old.minor, new.major, new.minor) == (8, 0, 10, 3)
    assert old.shared_memory_per_block_optin == 163 << 10 and new.shared_memory_per_block_optin == 227 << 10


@pytest.mark.parametrize("first", ["", "import torch; torch.ones(3).requires_grad_().sum().backward(); "])
def test_it_can_be_made_before_and_after_torch_is_imported(first: str) -> None:
    require()
    done = python("-c", first + INSTALL.format("sm_80") + "; install('sm_80')")
    assert (done.stdout, done.returncode) == ("made\n", 0), done.stderr


def test_a_process_is_one_device() -> None:
    require()
    done = python("-c", INSTALL.format("sm_80") + "; install('sm_90')")
    assert "device='sm_90': this process is sm_80 already, for its whole life" in done.stderr


def test_interpreted_kernels_are_refused() -> None:
    require()
    done = python("-c", INSTALL.format("sm_90"), TRITON_INTERPRET="1")
    assert "UsageError: device='sm_90': TRITON_INTERPRET=1 makes Triton interpret kernels" in done.stderr


def test_without_a_compiler_it_is_named_what_is_missing(tmp_path) -> None:
    require()
    done = python("-c", INSTALL.format("sm_90"), PRECISION_LAB_CACHE=str(tmp_path), CXX="no-such-compiler")
    assert "MissingPackageError: an emulated GPU needs a C++ compiler once" in done.stderr
    assert "CXX='no-such-compiler' is not found" in done.stderr


def test_what_does_not_compile_is_the_labs_own_trouble(tmp_path) -> None:
    require()
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'x.h:1: error: so it is' >&2; exit 1\n")
    broken.chmod(0o755)
    done = python("-c", INSTALL.format("sm_90"), PRECISION_LAB_CACHE=str(tmp_path / "c"), CXX=str(broken))
    assert "InternalError: the emulated GPU's library does not compile" in done.stderr
    assert "x.h:1: error: so it is" in done.stderr


def test_it_is_compiled_once_by_two_processes_at_a_time_and_again_once_it_is_damaged(tmp_path) -> None:
    require()
    log, compiler, sources = tmp_path / "log", tmp_path / "counting", tmp_path / "native"
    real = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))))
    compiler.write_text(f'#!/bin/sh\necho . >> {log}\nsleep 1\nexec {real} "$@"\n')
    compiler.chmod(0o755)
    sources.mkdir()
    # In the library's place, whose functions it has by name only: that one takes long to compile.
    names = set(
        re.findall(r"virtual_gpu_\w+", (library_sources() / "library.cpp").read_text(encoding="utf-8"))
    )
    text = "\n".join(f'extern "C" void {name}() {{}}' for name in sorted(names))
    (sources / "library.cpp").write_text(text)
    begin = (
        "from pathlib import Path; from precision_lab.virtual_gpu import library; "
        f"library.SOURCES = Path({str(sources)!r}); library.load(); print('made')"
    )
    given = {"PRECISION_LAB_CACHE": str(tmp_path / "cache"), "CXX": str(compiler)}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: python("-c", begin, **given), range(2)))
    assert [d.stdout for d in done] == ["made\n"] * 2, done
    assert log.read_text() == ".\n"
    (made,) = (tmp_path / "cache" / "virtual_gpu").glob("*.so")
    with made.open("r+b") as file:
        file.seek(1000)
        file.write(b"damaged!")
    assert python("-c", begin, **given).stdout == "made\n" and log.read_text() == ".\n.\n"


def library_sources() -> Path:
    import precision_lab.virtual_gpu

    return Path(precision_lab.virtual_gpu.__file__).parent / "native"


def test_nothing_of_this_process_was_changed() -> None:
    import torch

    assert "TORCHINDUCTOR_COMPILE_THREADS" not in os.environ
    assert torch.empty(1).device.type == "cpu"
