"""Makes the PTX files beside it anew: `TRITON_DEFAULT_FP_FUSION=1 python tests/emulator/programs/make.py`.

They are what the pinned Triton makes of the kernels below for compute capability 9.0, so that tests of the
emulator need no compiler.
"""

from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.language.extra import libdevice


@triton.jit
def line(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    """2.5·x + 1 in FP32, stored as bf16; the last block is masked."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n, other=0.0).to(tl.float32)
    tl.store(y_ptr + at, (2.5 * x + 1.0).to(tl.bfloat16), mask=at < n)


@triton.jit
def total(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    """The sum of each block, by shuffles and shared memory."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n, other=0.0)
    tl.store(y_ptr + tl.program_id(0), tl.sum(x, axis=0))


@triton.jit
def growth(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    """eˣ − 1 by libdevice, which flushes subnormals in FP32."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n, other=0.0)
    tl.store(y_ptr + at, libdevice.expm1(x), mask=at < n)


@triton.jit
def eighth(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    """x cast to E4M3."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < n, other=0.0)
    tl.store(y_ptr + at, x.to(tl.float8e4nv), mask=at < n)


def main() -> None:
    for kernel, x, y in ((line, "*bf16", "*bf16"), (total, "*fp32", "*fp32"), (growth, "*fp32", "*fp32"),
                         (eighth, "*fp32", "*fp8e4nv")):  # fmt: skip
        source = ASTSource(
            fn=kernel,
            signature={"x_ptr": x, "y_ptr": y, "n": "i32", "BLOCK": "constexpr"},
            constexprs={"BLOCK": 1024 if kernel is total else 256},
        )
        made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
        name = kernel.fn.__name__
        text = made.asm["ptx"].split("\t.section")[0]  # debug information names files of whoever compiled it
        lines = [text_line for text_line in text.splitlines() if not text_line.lstrip().startswith(".file")]
        # The shared memory that the launch gives is not in the text.
        lines.insert(0, f"// shared: {made.metadata.shared}")
        (Path(__file__).parent / f"{name}.ptx").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
