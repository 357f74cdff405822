"""What quantisers give for every case of blocks, judged; called on an emulated GPU.

python tests/field/quantisers.py PACKAGE TARGET [DTYPE [CASE]]    prints it; with --json FILE, writes it
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from blocks import CASES, FINITE
from judged_codes import Codes, Judged, judge
from package import Package, Quantiser, packages

from precision_lab.devices import get_device
from precision_lab.emulator.faults import Fault
from precision_lab.exceptions import first_line
from precision_lab.formats import get_format
from precision_lab.results import Finding, Witness

DEVICE = "sm_90"
NEAREST = 0.501  # of a step between codes: half of one, and what FP32 arithmetic may add
FIGURES = ("blocks", "scale_ulps", "wrong_scales", "code_steps", "wrong_codes", "wrong_ties", "nonfinite")
CALLS = 24  # of a quantiser whose block is the whole tensor
Array = np.ndarray


def _blocks_as_matrix(blocks: Array, quantiser: Quantiser) -> tuple[Array, tuple[int, int]]:
    """A matrix whose blocks they are, by rows, and the shape of one."""
    high, wide = quantiser.block
    if high == 0 and wide == 0:
        raise AssertionError("one block fills a whole call")
    wide = wide or quantiser.columns
    per_row = max(1, quantiser.columns // wide)
    least = per_row * max(1, quantiser.rows // high)
    blocks = np.concatenate([blocks, np.repeat(blocks[-1:], -blocks.shape[0] % least, axis=0)])
    rows = blocks.shape[0] // per_row
    tiles = blocks.reshape(rows, per_row, high, wide)
    return tiles.transpose(0, 2, 1, 3).reshape(rows * high, per_row * wide), (high, wide)


def _blocks_of(matrix: Array, block: tuple[int, int], count: int) -> Array:
    high, wide = block
    rows, columns = matrix.shape
    tiles = matrix.reshape(rows // high, high, columns // wide, wide).transpose(0, 2, 1, 3)
    return tiles.reshape(-1, high * wide)[:count]


def call(adapter: Callable[..., Any], x: Array, dtype: str, bits: int) -> tuple[Array, Array, Array]:
    """The input as it was rounded to the dtype, codes of the same shape, and scales as float64."""
    import torch

    given = (
        torch.from_numpy(np.ascontiguousarray(x))
        .to(getattr(torch, get_format(dtype).torch_name or ""))
        .to("cuda")
    )
    codes, scales = adapter(given)
    torch.cuda.synchronize()
    codes, scales = codes.cpu().contiguous(), scales.cpu().contiguous()
    raw = codes.view(torch.uint8).numpy().reshape(codes.shape[0], -1)
    if bits == 4:  # two to a byte, the first in the lower half
        raw = np.stack([raw & 15, raw >> 4], axis=-1).reshape(raw.shape[0], -1)
    if scales.dtype is torch.float8_e8m0fnu or scales.dtype is torch.uint8:
        exponents = scales.view(torch.uint8).numpy().astype(np.int64)
        found = np.where(exponents == 255, math.nan, np.ldexp(1.0, np.minimum(exponents, 254) - 127))
    else:
        found = scales.double().numpy()
    return given.cpu().double().numpy(), raw.astype(np.int64), found


def adapter_of(package: Package, target: str) -> Callable[..., Any]:
    path = Path(__file__).parent / "published" / f"{package.name}_kernels.py"
    if (folder := str(path.parent)) not in sys.path:
        sys.path.append(folder)  # of what adapters share
    spec = importlib.util.spec_from_file_location(package.name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, target)  # type: ignore[no-any-return]


def measured(
    quantiser: Quantiser, adapter: Callable[..., Any], dtype: str, cases: tuple[str, ...] = tuple(CASES)
) -> dict[str, Any]:
    """What it gives for each case, judged: figures, findings, and what NaN and infinities become.

    Of an autotuned kernel this is the first configuration, with the findings of others that this one has not.
    """
    device = get_device(quantiser.device)
    found = _measured(quantiser, adapter, dtype, cases)
    known = {_facts(finding) for finding in found["findings"]}
    words = device.configurations()
    for index, named in enumerate(words[1:], 1):
        device.configure(index)
        for finding in _measured(quantiser, adapter, dtype, cases)["findings"]:
            if _facts(finding) not in known:
                finding["message"] += f" ({named})"
                found["findings"].append(finding)
    device.configure(0)
    return {**found, "configurations": max(1, len(words))}


def _facts(finding: dict[str, Any]) -> tuple[str, ...]:
    return finding["code"], finding["output"], finding["params_name"]


def _measured(
    quantiser: Quantiser, adapter: Callable[..., Any], dtype: str, cases: tuple[str, ...]
) -> dict[str, Any]:
    fmt, table = get_format(dtype), Codes.of(quantiser.format)
    high, wide = quantiser.block
    size = (high or 16) * (wide or quantiser.columns)
    figures: dict[str, dict[str, Any]] = {}
    special: dict[str, str] = {}
    found: list[Finding] = []
    for name in cases:
        rng = np.random.Generator(np.random.PCG64(18))
        blocks = CASES[name](fmt, size, table.top, rng)
        try:
            x, codes, scales = _given(
                quantiser, adapter, dtype, blocks, table.bits if quantiser.packed else 8
            )
        except Fault as fault:
            found.append(
                Finding(
                    function=f"{quantiser.format} by blocks", implementation=quantiser.target, fmt=dtype,
                    params_name=name, code=fault.kind, message=str(fault),
                )
            )  # fmt: skip
            continue
        if name not in FINITE:
            special[name] = _words(x, codes, scales, table)
            if name == "nan" and table.nans:
                found += _lost_nan(quantiser, dtype, x, codes, scales, table)
            continue
        judged = judge(x, codes, scales, quantiser)
        figures[name] = {key: getattr(judged, key) for key in FIGURES}
        found += findings(quantiser, dtype, name, judged, table)
    return {"dtype": dtype, "cases": figures, "special": special, "findings": [f.to_json() for f in found]}


def _given(
    quantiser: Quantiser, adapter: Callable[..., Any], dtype: str, blocks: Array, bits: int
) -> tuple[Array, Array, Array]:
    count = blocks.shape[0]
    if quantiser.block == (0, 0):
        parts = [
            call(adapter, block.reshape(16, -1), dtype, bits) for block in blocks[:: max(1, count // 24)]
        ]
        return (
            np.stack([x.reshape(-1) for x, _, _ in parts]), np.stack([c.reshape(-1) for _, c, _ in parts]),
            np.array([float(s.reshape(-1)[0]) for _, _, s in parts]),
        )  # fmt: skip
    matrix, block = _blocks_as_matrix(blocks, quantiser)
    x, codes, scales = call(adapter, matrix, dtype, bits)
    rows, columns = matrix.shape[0] // block[0], matrix.shape[1] // block[1]
    if scales.size != rows * columns:
        raise ValueError(f"{quantiser.target}: {scales.size} scales of {rows} × {columns} blocks")
    return (
        _blocks_of(x, block, count), _blocks_of(codes.reshape(x.shape), block, count),
        scales.reshape(-1)[:count],
    )  # fmt: skip


def _words(x: Array, codes: Array, scales: Array, table: Codes) -> str:
    """What became of numbers beside a NaN or an infinity, and of itself."""
    values = table.decode(codes)
    odd = ~np.isfinite(x)
    itself = ", ".join(sorted({f"{v:g}" for v in values[odd]}))
    beside = values[~odd]
    lost = "NaN or infinite" if (~np.isfinite(beside)).any() else "0" if not beside.any() else "numbers"
    return f"it becomes {itself}; its block's others are {lost}, the scale {scales[0]:g}"


def findings(quantiser: Quantiser, dtype: str, case: str, judged: Judged, table: Codes) -> Iterator[Finding]:
    about: dict[str, Any] = {
        "function": f"{quantiser.format} by blocks", "implementation": quantiser.target, "fmt": dtype,
        "params_name": case,
    }  # fmt: skip
    if judged.nonfinite_witness is not None:
        x, scale, value = judged.nonfinite_witness
        message = (
            f"{judged.nonfinite} finite elements have no number, such as x={x!r} with scale {scale!r} and "
            f"code of {value!r}"
        )
        yield Finding(
            **about, code="nonfinite", output="zeros" if case == "zeros" else "nonfinite", message=message,
            count=judged.nonfinite, witness=_witness(x, math.nan, x, math.nan),
        )  # fmt: skip
    if judged.scale_witness is not None:
        amax, scale, expected = judged.scale_witness
        message = (
            f"{judged.wrong_scales} of {judged.blocks} scales are not {quantiser.scale}, such as {scale!r} "
            f"for amax {amax!r}, where it is {expected!r}"
        )
        yield Finding(
            **about, code="inaccurate", output="scales", count=judged.wrong_scales, ulps=judged.scale_ulps,
            output_precision=24, message=message,
            witness=_witness(amax, scale, expected, judged.scale_ulps),
        )  # fmt: skip
    if judged.code_witness is not None and judged.code_steps > NEAREST:
        x, scale, value, error = judged.code_witness
        message = (
            f"{judged.wrong_codes} codes are not the nearest, such as {value!r} for x={x!r} with scale "
            f"{scale!r}: {error:.4g} steps away"
        )
        yield Finding(
            **about, code="inaccurate", output="codes", count=judged.wrong_codes, ulps=error, message=message,
            output_precision=4, witness=_witness(x, value * scale, x, error),
        )  # fmt: skip
    if judged.tie_witness is not None:
        x, scale, value = judged.tie_witness
        message = (
            f"{judged.wrong_ties} ties do not go to the even code, such as {value!r} for x={x!r} with scale "
            f"{scale!r}"
        )
        yield Finding(
            **about, code="inaccurate", output="ties", count=judged.wrong_ties, ulps=0.5, message=message,
            output_precision=4, witness=_witness(x, value * scale, x, 0.5),
        )  # fmt: skip


def _lost_nan(
    quantiser: Quantiser, dtype: str, x: Array, codes: Array, scales: Array, table: Codes
) -> Iterator[Finding]:
    """A NaN that came out as a number: neither its code nor its block's scale says that there was one."""
    values = table.decode(codes) * scales[:, None]
    lost = np.isnan(x) & np.isfinite(values)
    if lost.any():
        value = float(values[np.unravel_index(int(np.argmax(lost)), lost.shape)])
        yield Finding(
            function=f"{quantiser.format} by blocks", implementation=quantiser.target, fmt=dtype,
            params_name="nan", code="nonfinite", output="nan", count=int(lost.sum()),
            witness=_witness(math.nan, value, math.nan, math.nan),
            message=f"a NaN is stored as {value!r}",
        )  # fmt: skip


def _witness(x: float, computed: float, exact: float, error: float) -> Witness:
    return Witness("", x, x.hex(), computed, computed.hex(), "", f"{exact!r}", exact, error)


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("package")
    parser.add_argument("target")
    parser.add_argument("dtype", nargs="?", help="default: all that it takes")
    parser.add_argument("case", nargs="?", choices=tuple(CASES))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(words)
    (package,) = packages([asked.package])
    quantiser = next((q for q in package.quantisers if q.target == asked.target), None)
    if quantiser is None:
        parser.error(f"target={asked.target!r}: {', '.join(q.target for q in package.quantisers)}")
    _in_a_process_of(quantiser.device)
    cases = (asked.case,) if asked.case else tuple(CASES)
    adapter = adapter_of(package, asked.target)
    every: list[dict[str, Any]] = []
    for dtype in (asked.dtype,) if asked.dtype else quantiser.dtypes:
        try:
            every.append(measured(quantiser, adapter, dtype, cases))
        except Exception as error:  # whatever a stranger's kernel raises
            every.append({"dtype": dtype, "error": f"{type(error).__name__}: {first_line(error)}"})
        if asked.json is not None:
            asked.json.write_text(json.dumps(every), encoding="utf-8")
        else:
            _print(every[-1])


def _in_a_process_of(device: str) -> None:
    """This command once more, with the variables that an emulated GPU's process has from its start."""
    chosen = get_device(device)
    wanted = chosen.variables()
    if all(os.environ.get(name) == value for name, value in wanted.items()):
        chosen.require()
        return
    given = {name: value for name, value in {**os.environ, **wanted}.items() if value is not None}
    os.execve(sys.executable, [sys.executable, *sys.argv], given)


def _print(found: dict[str, Any]) -> None:
    if "error" in found:
        print(f"{found['dtype']}: {found['error']}")
        return
    for name, figures in found["cases"].items():
        print(name, ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in figures.items()))
    for name, said in found["special"].items():
        print(f"{name}: {said}")
    for finding in found["findings"]:
        print(f"{finding['params_name']}: {finding['output']}: {finding['message']}")


if __name__ == "__main__":
    main(sys.argv[1:])
