"""A CUDA C++ file of Transformer Engine's activations, from its headers: what `verify FILE.cu:NAME` takes.

python tests/field/te_headers.py SOURCE OUT.cu

SOURCE is a folder in which `util/math.h` lies somewhere: the source of Transformer Engine, or what its source
distribution for torch brings as `common_headers`. Its wheels hold machine code alone, which is not executed.
Each element is computed as its kernels do it: widened to FP32, the header's function, rounded once; the
gradient times the upstream one in FP32.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

# Of each function in the header, what the lab calls it, and its derivative there.
ACTIVATIONS = {
    "gelu": ("gelu_tanh", "dgelu"), "silu": ("silu", "dsilu"), "sigmoid": ("sigmoid", "dsigmoid"),
    "relu": ("relu", "drelu"), "srelu": ("relu2", "dsrelu"),
}  # fmt: skip
_FUNCTION = re.compile(r"__device__\s+inline\s+OType\s+(\w+)\s*\(")
_TYPES = {"bf16": "__nv_bfloat16", "fp16": "__half", "fp32": "float"}

HEAD = """\
// Made by tests/field/te_headers.py: kernels around the functions of {header}.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include "{header}"

using namespace transformer_engine;

static __device__ float widen(float v) {{ return v; }}
static __device__ float widen(__half v) {{ return __half2float(v); }}
static __device__ float widen(__nv_bfloat16 v) {{ return __bfloat162float(v); }}
static __device__ void narrow(float v, float* to) {{ *to = v; }}
static __device__ void narrow(float v, __half* to) {{ *to = __float2half_rn(v); }}
static __device__ void narrow(float v, __nv_bfloat16* to) {{ *to = __float2bfloat16_rn(v); }}
"""
PAIR = """
// precision_lab: te_{name}_{fmt}(x, y, n) backward=te_{name}_backward_{fmt}(dy, x, dx, n)
extern "C" __global__ void te_{name}_{fmt}(const {type}* x, {type}* y, long long n) {{
  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n) narrow({name}<float, float>(widen(x[i]), Empty{{}}), y + i);
}}
extern "C" __global__ void te_{name}_backward_{fmt}(
    const {type}* dy, const {type}* x, {type}* dx, long long n) {{
  long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (i < n) narrow(widen(dy[i]) * {derivative}<float, float>(widen(x[i]), Empty{{}}), dx + i);
}}
"""


def header_in(source: Path) -> Path:
    """
    Raises:
        ValueError: there is none.
    """
    found = sorted(source.rglob("util/math.h"))
    if not found:
        raise ValueError(f"source={str(source)!r}: no util/math.h lies in it")
    return found[0].resolve()


def kernels(source: Path) -> tuple[str, list[str]]:
    """The file's text, and the activations that are in it: those that the header has with their derivatives.

    Raises:
        ValueError: there is no header, or it has none of them.
    """
    header = header_in(source)
    known = set(_FUNCTION.findall(header.read_text(encoding="utf-8")))
    names = [name for name, (_, derivative) in ACTIVATIONS.items() if {name, derivative} <= known]
    if not names:
        raise ValueError(f"{header} has no activation that is looked for: {', '.join(ACTIVATIONS)}")
    text = HEAD.format(header=header)
    for name in names:
        for fmt, kind in _TYPES.items():
            text += PAIR.format(name=name, fmt=fmt, type=kind, derivative=ACTIVATIONS[name][1])
    return text, names


def main(source: Path, out: Path) -> None:
    text, names = kernels(source)
    out.write_text(text, encoding="utf-8")
    for name in names:
        function = ACTIVATIONS[name][0]
        print(f"precision-lab verify {out}:te_{name} --function {function} --device sm_90 --format bf16")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
