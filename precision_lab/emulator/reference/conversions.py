"""cvt: between integers and numbers of every width, to packed pairs, and to and from FP8, FP6 and FP4.

Source: PTX ISA, "Data Movement and Conversion Instructions: cvt", "cvt.pack" apart.
"""

from __future__ import annotations

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.ptx import Instruction
from precision_lab.emulator.reference.kinds import BITS, FORMATS, Kind, finished, number
from precision_lab.emulator.reference.lanes import SIGNED, UNSIGNED, Array, Lanes, Mask
from precision_lab.emulator.reference.modifiers import Modifiers
from precision_lab.emulator.reference.rounding import (
    AWAY,
    DIRECTIONS,
    DOWN,
    E2M1,
    E2M3,
    E3M2,
    E4M3,
    E5M2,
    NEAREST,
    TF32,
    UP,
    ZERO,
    Format,
    narrow,
    widen,
)
from precision_lab.emulator.reference.step import Step

_INTEGERS = {f"{k}{n}": n for k in "us" for n in (8, 16, 32, 64)}
_SMALL: dict[str, Format] = {"e4m3x2": E4M3, "e5m2x2": E5M2, "e3m2x2": E3M2, "e2m3x2": E2M3, "e2m1x2": E2M1}
_PAIRS = {"f16x2": "f16", "bf16x2": "bf16"}
_TO_INTEGER = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


def cvt(i: Instruction) -> Step:
    """The conversion that the two types name."""
    if "pack" in i.modifiers:
        raise unsupported(i)
    modifiers = Modifiers(i)
    source = modifiers.type(*BITS, *_INTEGERS, *_SMALL, *_PAIRS, "ue8m0x2")
    to = modifiers.type(*BITS, *_INTEGERS, *_SMALL, *_PAIRS, "ue8m0x2", "tf32")
    if to in _SMALL:
        return _to_small(i, modifiers, source, _SMALL[to])
    if source in _SMALL:
        return _from_small(i, modifiers, _SMALL[source], to)
    if to == "ue8m0x2" or source == "ue8m0x2":
        return _scale(i, modifiers, source, to)
    if to in _PAIRS:
        return _to_pair(i, modifiers, source, _PAIRS[to])
    if to == "tf32":
        return _to_tf32(i, modifiers, source)
    if to in _INTEGERS:
        return (
            _integers(i, modifiers, source, to)
            if source in _INTEGERS
            else _to_integer(i, modifiers, source, to)
        )
    return (
        _from_integer(i, modifiers, source, to) if source in _INTEGERS else _floats(i, modifiers, source, to)
    )


def _write(lanes: Lanes, i: Instruction, value: Array, bits: int, live: Mask, signed: bool = False) -> None:
    """A result narrower than its register is extended, by its sign where it is signed."""
    destination = i.operands[0]
    wide = getattr(destination, "bits", bits)
    if signed and wide > bits:
        value = value.view(SIGNED[bits]).astype(SIGNED[wide]).view(UNSIGNED[wide])
    lanes.write(i, destination, value, live)


def _integers(i: Instruction, modifiers: Modifiers, source: str, to: str) -> Step:
    saturate = modifiers.flag("sat")
    modifiers.end()
    have, want = _INTEGERS[source], _INTEGERS[to]

    def step(lanes: Lanes, live: Mask) -> None:
        value = lanes.read(i, i.operands[1], have)
        value = value.view(SIGNED[have]) if source[0] == "s" else value
        family = SIGNED if to[0] == "s" else UNSIGNED
        if saturate:
            low, high = np.iinfo(family[want]).min, np.iinfo(family[want]).max
            # Bounds that the source's type does not hold are none.
            ends = np.iinfo(value.dtype)
            value = np.clip(value, max(low, int(ends.min)), min(high, int(ends.max)))
        result = value.astype(family[want]).view(UNSIGNED[want])
        _write(lanes, i, result, want, live, signed=to[0] == "s")

    return step


def _to_integer(i: Instruction, modifiers: Modifiers, source: str, to: str) -> Step:
    """Rounded to an integer, then to the nearest end of the range.

    NaN is 0, but from FP64 or to 64 bits the top bit alone.
    """
    rounding = modifiers.one_of(*_TO_INTEGER)
    kind = Kind(source, ftz=modifiers.flag("ftz"))
    modifiers.ignore("sat")  # what is out of range is clamped without it, too
    modifiers.end()
    if not rounding or (kind.ftz and source != "f32"):
        raise unsupported(i)
    want = _INTEGERS[to]
    family = SIGNED if to[0] == "s" else UNSIGNED
    low, high = float(np.iinfo(family[want]).min), int(np.iinfo(family[want]).max)
    nan = 1 << (want - 1) if source == "f64" or want == 64 else 0

    def step(lanes: Lanes, live: Mask) -> None:
        x = number(lanes.read(i, i.operands[1], BITS[source]), kind)
        whole = _TO_INTEGER[rounding](np.where(np.isnan(x), 0.0, x))
        # 2^63 and 2^64 are FP64 numbers, the integers below them are not.
        over = whole >= float(high + 1)
        inside = np.where(over, 0.0, np.maximum(whole, low))
        result = np.where(over, family[want](high), inside.astype(family[want]))
        found = np.where(np.isnan(x), UNSIGNED[want](nan), result.view(UNSIGNED[want]))
        _write(lanes, i, found, want, live, signed=to[0] == "s")

    return step


def _from_integer(i: Instruction, modifiers: Modifiers, source: str, to: str) -> Step:
    direction = modifiers.one_of(*DIRECTIONS)
    saturate, ftz = modifiers.flag("sat"), modifiers.flag("ftz")  # no integer is subnormal
    modifiers.end()
    if not direction or (saturate and to == "bf16") or (ftz and to != "f32"):
        raise unsupported(i)
    have = _INTEGERS[source]
    kind = Kind(to, direction, sat=saturate)

    def step(lanes: Lanes, live: Mask) -> None:
        value = lanes.read(i, i.operands[1], have)
        value = value.view(SIGNED[have]) if source[0] == "s" else value
        lanes.write(i, i.operands[0], finished(of_integer(value, kind), kind), live)

    return step


def of_integer(value: Array, kind: Kind) -> Array:
    """Integers as FP64 numbers, rounded to odd; for FP64 itself rounded as the instruction says."""
    near = value.astype(np.float64)
    if value.dtype.itemsize < 8:
        return near
    differs = np.array([(int(v) > int(n)) - (int(v) < int(n)) for v, n in zip(value, near, strict=True)])
    if kind.scalar != "f64":
        bits = near.view(np.int64)
        bits = np.where((differs != 0) & ((differs > 0) != (near > 0)), bits - 1, bits)
        return np.where(differs != 0, bits | 1, bits).view(np.float64)
    up = (kind.direction == UP) | ((kind.direction == ZERO) & (near < 0))
    down = (kind.direction == DOWN) | ((kind.direction == ZERO) & (near > 0))
    near = np.where((differs > 0) & up, np.nextafter(near, np.inf), near)
    return np.asarray(np.where((differs < 0) & down, np.nextafter(near, -np.inf), near))


def _floats(i: Instruction, modifiers: Modifiers, source: str, to: str) -> Step:
    """Between widths, or to an integer of the same one."""
    direction = modifiers.one_of(*DIRECTIONS)
    whole = modifiers.one_of(*_TO_INTEGER)
    ftz, saturate = modifiers.flag("ftz"), modifiers.flag("sat")
    relu, finite = modifiers.flag("relu"), modifiers.flag("satfinite")
    modifiers.end()
    narrower = BITS[to] < BITS[source] or (BITS[to] == BITS[source] and to != source)
    if bool(direction) != narrower or (whole and to != source) or (saturate and to == "bf16"):
        raise unsupported(i)
    if ftz and "f32" not in (source, to):
        raise unsupported(i, "modifier .ftz")
    ends = (source, to in ("f16", "bf16"), direction in (NEAREST, ZERO), saturate, ftz)
    if (relu or finite) and ends != ("f32", True, True, False, False):
        raise unsupported(i, "modifier .relu" if relu else "modifier .satfinite")
    kind = Kind(to, direction or NEAREST, ftz and to == "f32", saturate, relu, finite)

    def step(lanes: Lanes, live: Mask) -> None:
        bits = lanes.read(i, i.operands[1], BITS[source])
        x = number(bits, Kind(source, ftz=ftz and source == "f32"))
        if whole:
            x = np.asarray(_TO_INTEGER[whole](x))
        lanes.write(i, i.operands[0], finished(x, kind), live)

    return step


def _to_pair(i: Instruction, modifiers: Modifiers, source: str, scalar: str) -> Step:
    """Two FP32 numbers into one register: the first operand becomes the high half."""
    direction, relu = modifiers.one_of(NEAREST, ZERO), modifiers.flag("relu")
    finite = modifiers.flag("satfinite")
    modifiers.end()
    if source != "f32" or not direction or len(i.operands) != 3:
        raise unsupported(i)
    fmt = FORMATS[scalar]

    def half(lanes: Lanes, operand: int) -> Array:
        x = number(lanes.read(i, i.operands[operand], 32), Kind("f32"))
        code = narrow(x, fmt, direction, saturate=finite)
        return np.where(relu & (x <= 0), 0, code).astype(np.uint32)

    def step(lanes: Lanes, live: Mask) -> None:
        lanes.write(i, i.operands[0], (half(lanes, 1) << np.uint32(16)) | half(lanes, 2), live)

    return step


def _to_tf32(i: Instruction, modifiers: Modifiers, source: str) -> Step:
    direction = modifiers.one_of(AWAY, NEAREST, ZERO)
    relu, finite = modifiers.flag("relu"), modifiers.flag("satfinite")
    modifiers.end()
    if source != "f32" or not direction:
        raise unsupported(i)

    def step(lanes: Lanes, live: Mask) -> None:
        x = number(lanes.read(i, i.operands[1], 32), Kind("f32"))
        code = narrow(x, TF32, direction, saturate=finite)
        lanes.write(i, i.operands[0], np.where(relu & (x <= 0), 0, code).astype(np.uint32), live)

    return step


# -- FP8, FP6 and FP4 ------------------------------------------------------------------------------


def _to_small(i: Instruction, modifiers: Modifiers, source: str, fmt: Format) -> Step:
    """Two numbers into 16 bits (of FP4: 8), the first operand, or the high half, above."""
    direction, finite, relu = modifiers.flag(NEAREST), modifiers.flag("satfinite"), modifiers.flag("relu")
    modifiers.end()
    if not (direction and finite) or source not in ("f32", "f16x2", "bf16x2"):
        raise unsupported(i)
    step_bits = 4 if fmt is E2M1 else 8

    def step(lanes: Lanes, live: Mask) -> None:
        if source == "f32":
            high, low = (number(lanes.read(i, o, 32), Kind("f32")) for o in i.operands[1:3])
        else:
            both = lanes.read(i, i.operands[1], 32)
            kind = Kind(_PAIRS[source])
            low = number(both.astype(np.uint16), kind)
            high = number((both >> np.uint32(16)).astype(np.uint16), kind)
        codes = [np.where(relu & (x <= 0), 0, narrow(x, fmt, NEAREST, saturate=True)) for x in (low, high)]
        lanes.write(i, i.operands[0], (codes[0] | (codes[1] << step_bits)).astype(np.uint16), live)

    return step


def _from_small(i: Instruction, modifiers: Modifiers, fmt: Format, to: str) -> Step:
    """Two codes to two numbers of 16 bits, exactly."""
    direction, relu = modifiers.flag(NEAREST), modifiers.flag("relu")
    modifiers.end()
    if not direction or to not in _PAIRS:
        raise unsupported(i)
    step_bits = 4 if fmt is E2M1 else 8
    target = FORMATS[_PAIRS[to]]

    def step(lanes: Lanes, live: Mask) -> None:
        both = lanes.read(i, i.operands[1], 16)
        halves = []
        for k in range(2):
            code = (both >> np.uint16(step_bits * k)) & np.uint16((1 << fmt.bits) - 1)
            x = widen(code, fmt)
            halves.append(np.where(relu & (x <= 0), 0, narrow(x, target, NEAREST)).astype(np.uint32))
        lanes.write(i, i.operands[0], halves[0] | (halves[1] << np.uint32(16)), live)

    return step


def _scale(i: Instruction, modifiers: Modifiers, source: str, to: str) -> Step:
    """UE8M0: powers of two as a biased exponent, 255 for NaN; rounded towards 0 or up."""
    direction, finite = modifiers.one_of(ZERO, UP, NEAREST), modifiers.flag("satfinite")
    modifiers.end()
    if to == "ue8m0x2":
        if source not in ("f32", "bf16x2") or direction not in (ZERO, UP):
            raise unsupported(i)
    elif to != "bf16x2" or direction != NEAREST or finite:
        raise unsupported(i)

    def coded(x: Array) -> Array:
        significand, exponent = np.frexp(np.abs(np.where(np.isfinite(x), x, 1.0)))
        power = exponent - 1 + ((significand != 0.5) & (direction == UP))
        code = np.clip(np.where(x == 0, -127, power), -127, 128 - finite) + 127
        code = np.where(np.isinf(x), 254 if finite else 255, code)
        return np.where(np.isnan(x), 255, code).astype(np.uint16)

    def step(lanes: Lanes, live: Mask) -> None:
        if to != "ue8m0x2":
            codes = lanes.read(i, i.operands[1], 16).astype(np.uint32)
            halves = [(codes >> np.uint32(8 * k)) & np.uint32(255) for k in range(2)]
            # 2^(code − 127): the exponent field of bf16, whose smallest is a subnormal.
            found = [np.where(c == 255, 0x7FFF, np.where(c == 0, 0x0040, c << np.uint32(7))) for c in halves]
            lanes.write(i, i.operands[0], (found[0] | (found[1] << 16)).astype(np.uint32), live)
            return
        if source == "f32":
            high, low = (number(lanes.read(i, o, 32), Kind("f32")) for o in i.operands[1:3])
        else:
            both = lanes.read(i, i.operands[1], 32)
            low = number(both.astype(np.uint16), Kind("bf16"))
            high = number((both >> np.uint32(16)).astype(np.uint16), Kind("bf16"))
        lanes.write(i, i.operands[0], coded(low) | (coded(high) << np.uint16(8)), live)

    return step
