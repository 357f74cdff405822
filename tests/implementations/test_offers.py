"""A file or module named without a kernel is answered with what it has, a misspelt name with the near one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import emulation
import pytest

from precision_lab import verify
from precision_lab.exceptions import UsageError
from precision_lab.formats import BF16
from precision_lab.functions import RELU, SILU
from precision_lab.implementations.adapters.target import find, is_place, is_registered_name

KERNELS = """
import functools
from typing import Any, Callable

import numpy as np
import torch
from numpy import exp
from torch import Tensor, nn
from torch.nn.functional import silu as imported
import precision_lab as pl

def silu(x: Tensor, scale: float = 1.0) -> Tensor:
    return imported(x)

def _private(x):
    return x

class Kernels:
    @staticmethod
    def xielu(x, *, alpha_p, alpha_n, beta):
        return x

    def needs_an_instance(self, x):
        return x

    class Inner:
        @classmethod
        def relu(cls, x):
            return torch.relu(x)

class Layer(nn.Module):
    def forward(self, x):
        return x

class Fused(torch.autograd.Function):
    pass

class Trouble(Exception):
    pass

layer = Layer()
cached = functools.lru_cache(silu)
half = functools.partial(silu, scale=0.5)
number = 3

@pl.activation
def mine(x):
    return x
"""
OFFERED = ["silu", "Kernels.xielu", "Kernels.Inner.relu", "Layer", "Fused.apply", "layer", "cached", "half"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "my_kernels.py").write_text(KERNELS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path


def refused(target: str) -> str:
    with pytest.raises(UsageError) as caught:
        find(target, SILU, (BF16,))
    return str(caught.value)


def lines(message: str) -> list[str]:
    return [line.split("  #")[0].strip() for line in message.splitlines()[1:]]


@pytest.mark.parametrize("place", ["my_kernels.py", "my_kernels", "./my_kernels.py"])
def test_a_place_alone_is_answered_with_a_line_to_type_for_each_kernel(place: str, folder: Path) -> None:
    message = refused(place)
    assert message.startswith(f"TARGET {place!r} names no kernel; it has:\n")
    assert lines(message) == [f"precision-lab verify {place}:{name} --function silu" for name in OFFERED]
    assert "# silu(x, scale=1.0)" in message and "# a torch.nn.Module" in message


def test_each_line_that_is_offered_names_something(folder: Path) -> None:
    from precision_lab.functions import XIELU

    for name in OFFERED:
        function = XIELU if "xielu" in name else SILU
        assert find(f"my_kernels.py:{name}", function, (BF16,)).target == f"my_kernels.py:{name}"


def test_from_python_and_in_a_process_of_its_own_the_answer_is_the_same(folder: Path) -> None:
    for isolate in (True, False):
        with pytest.raises(UsageError, match=r"my_kernels\.py:Kernels\.xielu --function relu"):
            verify("my_kernels.py", "relu", fmts=("bf16",), isolate=isolate)


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ("my_kernels.py:sliu", "my_kernels.py:silu"),
        ("my_kernels:SILU", "my_kernels:silu"),
        ("my_kernels.py:Kernels.xeilu", "my_kernels.py:Kernels.xielu"),
        ("my_kernels.py:Kernals.xielu", "my_kernels.py:Kernels.xielu"),
        ("my_kernels.py:xielu", "my_kernels.py:Kernels.xielu"),
        ("my_kernels.py:inner.relu", "my_kernels.py:Kernels.Inner.relu"),
    ],
)
def test_a_misspelt_name_is_answered_with_the_near_one(asked: str, meant: str, folder: Path) -> None:
    message = refused(asked)
    assert f"has no attribute {asked.partition(':')[2]!r}; did you mean {meant}" in message


def test_a_name_that_is_like_none_is_answered_with_all(folder: Path) -> None:
    assert refused("my_kernels.py:qqqqq").endswith(f"it has {', '.join(OFFERED)}")


def test_of_a_package_with_hundreds_the_likely_are_shown(folder: Path) -> None:
    shown = lines(refused("torch.nn.functional"))
    assert len(shown) == 21 and "precision-lab verify torch.nn.functional:silu --function silu" in shown
    assert shown[-1].startswith("and ") and shown[-1].endswith(" more")


def test_a_folder_is_answered_with_its_files(folder: Path) -> None:
    expected = "TARGET '.' is a folder: name a file in it and its kernel, such as my_kernels.py:NAME; it has"
    assert refused(".").startswith(expected) and refused(".:silu").startswith(expected)


def test_what_is_not_there_says_where_it_was_looked_for(folder: Path) -> None:
    assert refused("my_kernel.py:silu").endswith("does not exist; did you mean my_kernels.py?")
    assert refused("my_kernel.py").endswith("does not exist; did you mean my_kernels.py?")
    assert str(folder) in refused("quite_other:silu")
    assert "neither a Python file" in refused("no/folder:silu")
    assert refused("./my_kernels:silu").endswith("did you mean my_kernels.py?")
    assert "a kernel of your own is named with its file or module" in refused("mykernel")


def test_what_does_not_import_says_the_line_and_what_is_missing(folder: Path) -> None:
    (folder / "raises.py").write_text("\nraise RuntimeError('no\\nluck')\n", encoding="utf-8")
    (folder / "syntax.py").write_text("def f(:\n", encoding="utf-8")
    (folder / "lacks.py").write_text("import no_such_package_here\n", encoding="utf-8")
    (folder / "triton_kernels_here.py").write_text(
        "raise ModuleNotFoundError('x', name='triton')\n", encoding="utf-8"
    )
    assert refused("raises.py:f").endswith("RuntimeError: no (raises.py, line 2 in <module>)")
    assert "SyntaxError" in refused("syntax.py:f")
    assert "No module named 'no_such_package_here'" in refused("lacks.py:f")
    assert "install it for the Python that runs the lab" in refused("lacks.py:f")
    assert "pip install" in refused("triton_kernels_here.py:f")


def test_a_file_does_not_hide_a_registered_implementation(folder: Path) -> None:
    (folder / "stable").mkdir()
    (folder / "torch.py").touch()
    assert is_registered_name("stable") and is_registered_name("stable [upcast]")
    assert find("torch", RELU, (BF16,)).name == "torch"
    assert is_place("my_kernels.py") and is_place("lib.so") and not is_place("my_kernels.py:silu")


def test_of_a_library_its_functions_are_offered(folder: Path) -> None:
    (folder / "k.c").write_text(
        "#include <stddef.h>\nstatic void hidden(void) {}\n"
        "void silu(const float *x, float *y, size_t n) { hidden(); }\nvoid silu_grad_x(void) {}\n",
        encoding="utf-8",
    )
    subprocess.run(["cc", "-shared", "-fPIC", "k.c", "-o", "libk.so"], check=True)
    assert lines(refused("libk.so")) == [
        "precision-lab verify libk.so:silu --function silu",
        "precision-lab verify libk.so:silu_grad_x --function silu",
    ]
    assert refused("libk.so:slu").endswith(
        "has no symbol 'slu'; did you mean libk.so:silu, libk.so:silu_grad_x?"
    )


def test_of_cuda_files_the_kernels_are_offered(folder: Path) -> None:
    (folder / "k.cu").write_text(
        "// __global__ void not_this(int n) {}\n"
        'extern "C" __global__ void silu(const float *x, float *y, int n) {}\n'
        "template <typename T>\n__global__ void gelu(const T *x, T *y, int n) {}\n",
        encoding="utf-8",
    )
    (folder / "k.ptx").write_text(".visible .entry relu(\n.param .u64 x\n)\n{\nret;\n}\n", encoding="utf-8")
    assert [line.split()[2] for line in lines(refused("k.cu"))] == ["k.cu:silu", "k.cu:gelu"]
    assert [line.split()[2] for line in lines(refused("k.ptx"))] == ["k.ptx:relu"]
    (folder / "empty.cu").touch()
    assert "names no kernel, and nothing in it can be called" in refused("empty.cu")


def test_a_tritons_kernel_is_told_from_the_function_that_launches_it(folder: Path) -> None:
    emulation.require("triton")
    (folder / "tri.py").write_text(
        "import triton\nimport triton.language as tl\n@triton.jit\ndef body(x, n):\n    pass\n"
        "def silu(x):\n    return x\n",
        encoding="utf-8",
    )
    message = refused("tri.py")
    assert "tri.py:body" in message and "a Triton kernel: name the function that launches it" in message
    assert "# silu(x)" in message and "tri.py:tl" not in message


def test_an_argument_that_the_function_lacks_is_answered_with_the_near_one(folder: Path) -> None:
    (folder / "wants.py").write_text("def f(x, alfa):\n    pass\ndef g(x, zz):\n    pass\n", encoding="utf-8")
    with pytest.raises(
        UsageError, match=r"'alfa' that elu does not have; it has alpha; did you mean alpha\?"
    ):
        verify("wants.py:f", "elu", fmts=("bf16",), isolate=False)
    with pytest.raises(UsageError, match=r"'zz' .*; rename it, give it a default, or fix it with functools"):
        verify("wants.py:g", "elu", fmts=("bf16",), isolate=False)
