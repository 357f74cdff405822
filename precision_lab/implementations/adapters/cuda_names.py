"""What the names and types of CUDA kernels say: their formats, their gradients, and what PTX calls them."""

from __future__ import annotations

import re
from collections.abc import Iterator

from precision_lab.formats import BF16, FP16, FP32, FP64, FloatFormat
from precision_lab.implementations.adapters.launch_description import CParameter

FORMATS = (FP64, FP32, BF16, FP16)
C_TYPES = {
    FP64: ("double", "double2"), FP32: ("float", "float2", "float4"),
    FP16: ("__half", "half", "__half2", "half2"),
    BF16: ("__nv_bfloat16", "nv_bfloat16", "__nv_bfloat162", "nv_bfloat162"),
}  # fmt: skip
_NAMED_FORMAT = re.compile(rf"_({'|'.join(fmt.name for fmt in FORMATS)})(?=_|$)")
_ENTRY = re.compile(r"\.entry\s+([\w$]+)\s*\(([^)]*)\)|\.entry\s+([\w$]+)\s*(?=\.|\{)")
_PARAM = re.compile(r"\.param\s+((?:\.\w+\s+|\d+\s+)*)([\w$]+)\s*(?:\[(\d+)\])?")
_TYPE = re.compile(r"\.([busf])(8|16|32|64)\b")


def format_of(p: CParameter) -> FloatFormat | None:
    return next((fmt for fmt, names in C_TYPES.items() if p.element in names), None)


def own_format(name: str) -> FloatFormat | None:
    """The format in a kernel's name."""
    found = _NAMED_FORMAT.search(name)
    return next((fmt for fmt in FORMATS if found and fmt.name == found.group(1)), None)


def stem_of(name: str) -> str:
    return _NAMED_FORMAT.sub("", name.partition("<")[0], count=1)


def plain(name: str) -> str:
    """The name alone, of `ns::name<float>`."""
    return name.partition("<")[0].rpartition("::")[2]


def is_mangled(name: str, entry: str) -> bool:
    """Whether an entry is a function of that name as C++ writes it; a name alone means any namespace's."""
    spaces, _, own = name.rpartition("::")
    inside = "".join(f"{len(space)}{space}" for space in spaces.split("::")) if spaces else r"(?:\d+\w*?)?"
    return re.match(rf"_ZN?L?{inside}{len(own)}{re.escape(own)}(?=\D)", entry) is not None


def with_format(name: str, fmt: FloatFormat) -> str:
    """NAME_bf16, or NAME_bf16_forward of NAME_forward."""
    stem = stem_of(name)
    ending = re.search(r"_(?:forward|fwd|backward|bwd)$", stem)
    at = ending.start() if ending else len(stem)
    return f"{stem[:at]}_{fmt.name}{stem[at:]}"


def backward_names(symbol: str) -> Iterator[str]:
    stem = stem_of(symbol)
    for forward, backward in (("_forward", "_backward"), ("_fwd", "_bwd")):
        if stem.endswith(forward):
            yield stem.removesuffix(forward) + backward
    yield from (f"{stem}_backward", f"{stem}_bwd", f"{stem}_grad")


def entries_of(ptx: str) -> Iterator[tuple[str, list[str]]]:
    for match in _ENTRY.finditer(re.sub(r"//[^\n]*", "", ptx)):
        if match.group(3):
            yield match.group(3), []
        else:
            yield match.group(1), [_kind(p) for p in _PARAM.finditer(match.group(2))]


def _kind(parameter: re.Match[str]) -> str:
    words, _, count = parameter.groups()
    found = _TYPE.search(words)
    if found is None:
        return "unknown"
    letter, bits = found.groups()
    if count:
        return "bits16" if int(bits) * int(count) == 16 else f"{int(bits) * int(count) // 8} bytes"
    if letter == "f":
        return {"32": "float", "64": "double"}.get(bits, "bits16")
    return {"64": "pointer", "32": "int32", "16": "bits16"}.get(bits, f"{bits} bits")
