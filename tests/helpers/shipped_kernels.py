"""Machine code as libraries ship it, made of PTX written here: torch's elementwise kernels in small."""

from __future__ import annotations

import struct

from precision_lab.emulator.machine_code import assemble

# Of a lambda in a lambda in silu_kernel, as torch's compiler mangles it: bf16, one array of pointers.
_NAME = (
    "_ZN2at6native29vectorized_elementwise_kernelILi{width}EZZZNS0_{operation}ERNS_18TensorIteratorBaseEENKUlvE"
    "_clEvENKUlvE_clEvEUl{types}E_St5arrayIPcLm{pointers}EELb0EEEviT0_T1_"
)
_KERNEL = """
.visible .entry {name}(.param .u32 n, .param .align {align} .b8 f[{state}], .param .align 8 .b8 data[{bytes}])
.maxntid 128, 1, 1
{{
    .reg .pred %p<3>;
    .reg .b16 %h<4>;
    .reg .b32 %r<12>;
    .reg .f32 %f<12>;
    .reg .b64 %d<12>;
    ld.param.u32 %r1, [n];
    ld.param.u64 %d1, [data];
    ld.param.u64 %d2, [data+8];
    {more}
    mov.u32 %r2, %ctaid.x;
    shl.b32 %r3, %r2, 8;
    mov.u32 %r4, %tid.x;
    add.u32 %r5, %r3, %r4;
    {elements}
    ret;
}}"""
_ELEMENT = """
    setp.ge.u32 %p1, %r5, %r1;
    @%p1 ret;
    mul.wide.u32 %d4, %r5, 2;
    add.u64 %d5, %d{x}, %d4;
    ld.global.u16 %h1, [%d5];
    cvt.u32.u16 %r6, %h1;
    shl.b32 %r6, %r6, 16;
    mov.b32 %f1, %r6;
    mul.f32 %f2, %f1, 0fBFB8AA3B;
    ex2.approx.ftz.f32 %f3, %f2;
    add.f32 %f4, %f3, 0f3F800000;
    {body}
    cvt.rn.bf16.f32 %h2, %f9;
    add.u64 %d6, %d1, %d4;
    st.global.u16 [%d6], %h2;
    add.u32 %r5, %r5, 128;
"""
_FORWARD = "div.rn.f32 %f9, %f1, %f4;"
_BACKWARD = """
    add.u64 %d7, %d2, %d4;
    ld.global.u16 %h3, [%d7];
    cvt.u32.u16 %r7, %h3;
    shl.b32 %r7, %r7, 16;
    mov.b32 %f5, %r7;
    rcp.rn.f32 %f6, %f4;
    sub.f32 %f7, 0f3F800000, %f6;
    fma.rn.f32 %f8, %f1, %f7, 0f3F800000;
    mul.f32 %f8, %f8, %f6;
    mul.f32 %f9, %f8, %f5;
"""
_SCALED = """
    ld.param.f32 %f10, [f+4];
    div.rn.f32 %f9, %f1, %f4;
    mul.f32 %f9, %f9, %f10;
"""


def _name(operation: str, types: str, pointers: int, width: int) -> str:
    mangled = f"{len(operation)}{operation}"
    return _NAME.format(width=width, operation=mangled, types=types, pointers=pointers)


def forward_name(operation: str = "silu_kernel", width: int = 8) -> str:
    return _name(operation, "N3c108BFloat16E", 2, width)


def backward_name(operation: str = "silu_backward_kernel") -> str:
    return _name(operation, "N3c108BFloat16ES7_", 3, 8)


def torch_like(target: str = "sm_90") -> bytes:
    """A cubin with silu in bf16 as torch has it: forward of two widths, backward, and one whose functor holds
    a factor at byte 4; 256 elements of a block.
    """
    kernels = [
        _kernel(forward_name(), _FORWARD, 2),
        _kernel(forward_name(width=4), _FORWARD, 2),
        _kernel(backward_name(), _BACKWARD, 3),
        _kernel(forward_name("scaled_kernel"), _SCALED, 2, state=8),
    ]
    head = f".version 8.0\n.target {target}\n.address_size 64\n"
    return assemble(head + "\n".join(kernels), target)


def _kernel(name: str, body: str, pointers: int, state: int = 1) -> str:
    more = "ld.param.u64 %d3, [data+16];" if pointers == 3 else ""
    element = _ELEMENT.format(x=pointers, body=body)
    return _KERNEL.format(
        name=name, align=4 if state > 1 else 1, state=state, bytes=8 * pointers, more=more,
        elements=element * 2,
    )  # fmt: skip


def fat_binary(cubins: dict[int, bytes]) -> bytes:
    """As nvcc puts machine code for several targets together; by their numbers."""
    body = b""
    for number, cubin in cubins.items():
        padded = cubin + b"\0" * (-len(cubin) % 8)
        body += struct.pack(
            "<HHIQIIHHIIIQQQ", 2, 0x101, 64, len(padded), 0, 0, 7, 1, number, 0, 0, 0x11, 0, 0
        )
        body += padded
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body
