"""F2F, F2FP, F2I, I2F, I2FP and FRND: between numbers and integers of every width, and to packed pairs."""

from __future__ import annotations

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.reference.conversions import of_integer
from precision_lab.emulator.reference.kinds import FORMATS, Kind, finished, number
from precision_lab.emulator.reference.lanes import SIGNED, UNSIGNED, Array, Mask
from precision_lab.emulator.reference.rounding import E4M3, E5M2, narrow, widen
from precision_lab.emulator.sass.code import Operand, SassInstruction
from precision_lab.emulator.sass.floats import ROUNDINGS
from precision_lab.emulator.sass.lanes import SassLanes
from precision_lab.emulator.sass.step import Step, Words

_WIDTHS = {"F16": "f16", "BF16": "bf16", "F32": "f32", "F64": "f64"}
_WHOLE = {"FLOOR": np.floor, "CEIL": np.ceil, "TRUNC": np.trunc}
_INTEGERS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "U32": 32, "S32": 32, "U64": 64, "S64": 64}
_SMALL = {"E4M3": E4M3, "E5M2": E5M2}


def _real(lanes: SassLanes, i: SassInstruction, o: Operand, kind: Kind) -> Array:
    """A number of an operand, in FP64."""
    if kind.scalar == "f64":
        return number(lanes.f64(i, o), kind)
    if kind.scalar == "f32":
        return number(lanes.f32(i, o), kind)
    if len(o.parts) > 1 or (o.parts and o.parts[0] not in ("H0", "H1", "H0_H0", "H1_H1")):
        raise unsupported(i, f"the part .{'.'.join(o.parts)}")
    word = lanes.bits(i, o) >> np.uint32(16 if o.parts[:1] in (("H1",), ("H1_H1",)) else 0)
    half = word.astype(np.uint16)
    half = half & np.uint16(0x7FFF) if o.absolute else half
    return number(half ^ np.uint16(0x8000) if o.negative else half, kind)


def _store(lanes: SassLanes, i: SassInstruction, bits: Array, live: Mask) -> None:
    if bits.dtype.itemsize == 8:
        lanes.put64(i, i.arguments[0], bits, live)
    else:
        lanes.put(i, i.arguments[0], bits.astype(np.uint32), live)


def between(i: SassInstruction) -> Step:
    """F2F: of one width to another, and FRND: to an integer of the same one, nearest even by default."""
    words = Words(i)
    ftz, saturate = words.flag("FTZ"), words.flag("SAT")
    whole = words.one_of(_WHOLE)
    direction = ROUNDINGS[words.one_of(ROUNDINGS, "RN")]
    to = _WIDTHS[words.one_of(_WIDTHS, "F32")]
    source = to if i.opcode == "FRND" else _WIDTHS[words.one_of(_WIDTHS, "F32")]
    words.end()
    if len(i.arguments) != 2 or (whole and i.opcode != "FRND"):
        raise unsupported(i)
    kind = Kind(to, direction, ftz and to == "f32", saturate)
    first = Kind(source, ftz=ftz and source == "f32")

    def step(lanes: SassLanes, live: Mask) -> None:
        x = _real(lanes, i, i.arguments[1], first)
        if i.opcode == "FRND":
            x = np.asarray(_WHOLE[whole](x) if whole else np.rint(x))
        _store(lanes, i, finished(x, kind), live)

    return step


def to_integer(i: SassInstruction) -> Step:
    """F2I: rounded to an integer, nearest even by default, then to the nearest end of the range.

    NaN is 0 with .NTZ, else the top bit alone.
    """
    words = Words(i)
    whole, ftz, zero = words.one_of(_WHOLE), words.flag("FTZ"), words.flag("NTZ")
    source = _WIDTHS[words.one_of(_WIDTHS, "F32")]
    to = words.one_of(_INTEGERS, "S32")
    words.end()
    want = _INTEGERS[to]
    family = SIGNED if to[0] == "S" else UNSIGNED
    low, high = float(np.iinfo(family[want]).min), int(np.iinfo(family[want]).max)
    kind = Kind(source, ftz=ftz and source == "f32")

    def step(lanes: SassLanes, live: Mask) -> None:
        x = _real(lanes, i, i.arguments[1], kind)
        whole_x = np.where(np.isnan(x), 0.0, _WHOLE[whole](x) if whole else np.rint(x))
        over = whole_x >= float(high + 1)
        inside = np.where(over, 0.0, np.maximum(whole_x, low))
        found = np.where(over, family[want](high), inside.astype(family[want])).view(UNSIGNED[want])
        nan = UNSIGNED[want](0 if zero else 1 << (want - 1))
        _store(lanes, i, np.where(np.isnan(x), nan, found), live)

    return step


def from_integer(i: SassInstruction) -> Step:
    """I2F and I2FP: of signed 32 bits by default, to FP32."""
    words = Words(i)
    direction = ROUNDINGS[words.one_of(ROUNDINGS, "RN")]
    to = _WIDTHS[words.one_of(_WIDTHS, "F32")]
    source = words.one_of(_INTEGERS, "S32")
    words.end()
    have = _INTEGERS[source]
    operand = i.arguments[1]
    begins = {(): 0, ("B0",): 0, ("B1",): 8, ("B2",): 16, ("B3",): 24, ("H0",): 0, ("H1",): 16}
    if operand.parts not in begins or (operand.parts and have > 16):
        raise unsupported(i, f"the part .{'.'.join(operand.parts)}")
    begin = np.uint32(begins[operand.parts])
    kind = Kind(to, direction)

    def step(lanes: SassLanes, live: Mask) -> None:
        value = lanes.integer64(i, operand) if have == 64 else lanes.bits(i, operand) >> begin
        value = value.astype(UNSIGNED[have])
        value = value.view(SIGNED[have]) if source[0] == "S" else value
        _store(lanes, i, finished(of_integer(value, kind), kind), live)

    return step


def clamped(i: SassInstruction) -> Step:
    """I2I with .SAT: a signed integer, to the nearest end of a narrower range."""
    words = Words(i)
    to = words.one_of(_INTEGERS)
    source = words.one_of(_INTEGERS, "S32")
    saturates = words.flag("SAT")
    words.end()
    if not (to and saturates) or source != "S32":
        raise unsupported(i)
    ends = np.iinfo((SIGNED if to[0] == "S" else UNSIGNED)[_INTEGERS[to]])

    def step(lanes: SassLanes, live: Mask) -> None:
        value = lanes.integer(i, i.arguments[1]).view(np.int32)
        found = np.clip(value, int(ends.min), int(ends.max)).astype(np.int32)
        lanes.put(i, i.arguments[0], found.view(np.uint32), live)

    return step


def packed(i: SassInstruction) -> Step:
    """F2FP: two FP32 numbers as a pair, the first operand above; with .UNPACK_B two FP8 codes as a pair."""
    words = Words(i)
    if words.flag("UNPACK_B"):
        return _unpacked(i, words)
    merged = words.flag("PACK_AB_MERGE_C", "UNPACK_B_MERGE_C")
    words.flag("PACK_AB")
    finite, relu = words.flag("SATFINITE"), words.flag("RELU")
    direction = ROUNDINGS[words.one_of(ROUNDINGS, "RN")]
    small = words.one_of(_SMALL)
    pair = "" if small else words.one_of(("F16", "BF16"), "F16")
    source = words.one_of(("F32", "F16", "BF16"), "F32")
    words.end()
    two = source == "F32"
    if len(i.arguments) != 1 + (2 if two else 1) + merged or merged != bool(small):
        raise unsupported(i)
    fmt = _SMALL[small] if small else FORMATS[_WIDTHS[pair]]
    width = 8 if small else 16
    to, *sources = i.arguments

    def step(lanes: SassLanes, live: Mask) -> None:
        if two:
            high, low = (_real(lanes, i, o, Kind("f32")) for o in sources[:2])
        else:
            if sources[0].parts:
                raise unsupported(i, f"the part .{sources[0].parts[0]}")
            kind, word = Kind(_WIDTHS[source]), lanes.bits(i, sources[0])
            low, high = (number((word >> np.uint32(s)).astype(np.uint16), kind) for s in (0, 16))
        codes = [narrow(x, fmt, direction, saturate=finite) for x in (low, high)]
        codes = [np.where(relu & (x <= 0), 0, c) for x, c in zip((low, high), codes, strict=True)]
        found = (codes[0] | (codes[1] << width)).astype(np.uint32)
        if merged:
            found = found | (lanes.integer(i, sources[-1]) << np.uint32(16))
        lanes.put(i, to, found, live)

    return step


def _unpacked(i: SassInstruction, words: Words) -> Step:
    pair, small = words.one_of(("F16", "BF16"), "F16"), words.one_of(_SMALL)
    words.end()
    if not small or len(i.arguments) != 2:
        raise unsupported(i)
    target, fmt = FORMATS[_WIDTHS[pair]], _SMALL[small]
    part = i.arguments[1].parts
    if part not in ((), ("H0",), ("H1",)):
        raise unsupported(i, f"the part .{'.'.join(part)}")

    def step(lanes: SassLanes, live: Mask) -> None:
        word = lanes.bits(i, i.arguments[1]) >> np.uint32(16 if part == ("H1",) else 0)
        low, high = (
            narrow(widen((word >> np.uint32(s)) & np.uint32(255), fmt), target, "rn").astype(np.uint32)
            for s in (0, 8)
        )
        lanes.put(i, i.arguments[0], low | (high << np.uint32(16)), live)

    return step
