"""Logic of words and predicates, shifts, bytes, counts, and moves."""

from __future__ import annotations

import numpy as np

from precision_lab.emulator.faults import unsupported
from precision_lab.emulator.reference.lanes import Array, Mask
from precision_lab.emulator.sass.code import EMPTY, Operand, SassInstruction
from precision_lab.emulator.sass.lanes import SassLanes
from precision_lab.emulator.sass.step import Step, Words

PREDICATES = 7  # P0 to P6


def logic(i: SassInstruction) -> Step:
    """LOP3.LUT: a function of three bits by its table; and whether any bit of the result is set."""
    words = Words(i)
    words.flag("LUT")
    words.end()
    outs = i.arguments[:1] if i.arguments[0].kind in ("P", "UP") else ()
    to, *sources, table, last = i.arguments[len(outs) :]
    # A last predicate other than !PT would be joined with the outcome; how was not seen.
    if len(sources) != 3 or table.kind != "number" or last.number != EMPTY or not last.inverted:
        raise unsupported(i)

    def step(lanes: SassLanes, live: Mask) -> None:
        found = looked_up([lanes.integer(i, o) for o in sources], table.number)
        lanes.put(i, to, found, live)
        for out in outs:
            lanes.put(i, out, found != 0, live)

    return step


def looked_up(sources: list[Array], table: int) -> Array:
    """Bit 4a + 2b + c of a table, for each bit of three words, or for three predicates."""
    a, b, c = sources
    found = np.zeros_like(a & b & c)
    for k in range(8):
        if table >> k & 1:
            found = found | ((a if k & 4 else ~a) & (b if k & 2 else ~b) & (c if k & 1 else ~c))
    return np.asarray(found)


def predicate_logic(i: SassInstruction) -> Step:
    """PLOP3.LUT: two functions of three predicates."""
    words = Words(i)
    words.flag("LUT")
    words.end()
    p, q, *sources, first, second = i.arguments
    if len(sources) != 3:
        raise unsupported(i)

    def step(lanes: SassLanes, live: Mask) -> None:
        given = [lanes.truth(i, o) for o in sources]
        found = [looked_up(given, table.number) for table in (first, second)]
        for to, value in zip((p, q), found, strict=True):
            lanes.put(i, to, value, live)

    return step


def shift(i: SassInstruction) -> Step:
    """SHF: 64 bits of two registers, shifted by the second operand; the low half, or with .HI the upper one.

    Amounts beyond the width of the type (32 or 64) count as the width; with .W they are taken modulo it.
    """
    words = Words(i)
    side, kind = words.one_of(("L", "R")), words.one_of(("U32", "S32", "U64", "S64"))
    wrap, upper = words.flag("W"), words.flag("HI")
    words.end()
    if not side or not kind or len(i.arguments) != 4:
        raise unsupported(i)
    to, low, amount, high = i.arguments
    width, signed = int(kind[1:]), kind[0] == "S"

    def step(lanes: SassLanes, live: Mask) -> None:
        a, n, b = (lanes.integer(i, o) for o in (low, amount, high))
        n = n & np.uint32(width - 1) if wrap else np.minimum(n, width)
        both = a.astype(np.uint64) | (b.astype(np.uint64) << np.uint64(32))
        by = np.minimum(n, 63).astype(np.uint64)
        if side == "L":
            moved = np.where(n > 63, np.uint64(0), both << by)
        elif signed:
            moved = (both.view(np.int64) >> by.astype(np.int64)).view(np.uint64)
        else:
            moved = np.where(n > 63, np.uint64(0), both >> by)
        lanes.put(i, to, (moved >> np.uint64(32) if upper else moved).astype(np.uint32), live)

    return step


def permute(i: SassInstruction) -> Step:
    """PRMT: four bytes of the eight of the first and third operand, chosen by the second."""
    Words(i).end()
    to, low, selectors, high = i.arguments

    def step(lanes: SassLanes, live: Mask) -> None:
        a, c, b = (lanes.integer(i, o) for o in (low, selectors, high))
        eight = a.astype(np.uint64) | (b.astype(np.uint64) << np.uint64(32))
        result = np.zeros(1, np.uint32)
        for k in range(4):
            selector = (c >> np.uint32(4 * k)) & np.uint32(15)
            at = ((selector & np.uint32(7)) * np.uint32(8)).astype(np.uint64)
            byte = ((eight >> at) & np.uint64(255)).astype(np.uint32)
            sign = np.where(byte & np.uint32(128), np.uint32(255), np.uint32(0))
            byte = np.where(selector & np.uint32(8), sign, byte)
            result = result | (byte << np.uint32(8 * k))
        lanes.put(i, to, result, live)

    return step


def count(i: SassInstruction) -> Step:
    """POPC, FLO (the highest bit, or with .SH its distance from bit 31) and BREV."""
    words = Words(i)
    distance, unsigned = words.flag("SH"), words.flag("U32")
    words.end()
    to, source = i.arguments[0], i.arguments[-1]

    def one(v: int) -> int:
        if i.opcode == "FLO" and not unsigned and v >> 31:
            v ^= 0xFFFFFFFF  # of a negative number the highest bit that is not set
        if i.opcode == "POPC":
            return v.bit_count()
        if i.opcode == "BREV":
            return int(f"{v:032b}"[::-1], 2)
        if not v:
            return 0xFFFFFFFF
        return 32 - v.bit_length() if distance else v.bit_length() - 1

    def step(lanes: SassLanes, live: Mask) -> None:
        value = lanes.integer(i, source)
        lanes.put(i, to, np.array([one(int(v)) for v in value], np.uint32), live)

    return step


def extend(i: SassInstruction) -> Step:
    """SGXT: the lowest bits, as many as the second operand says, extended by their sign or by zeros."""
    words = Words(i)
    unsigned, wrap = words.flag("U32"), words.flag("W")
    words.end()
    to, source, length = i.arguments

    def step(lanes: SassLanes, live: Mask) -> None:
        value, n = lanes.integer(i, source), lanes.integer(i, length)
        n = n & np.uint32(31) if wrap else np.minimum(n, 32)
        by = np.minimum(np.uint32(32) - n, 31).astype(np.uint32)
        moved = value << by
        found = moved >> by if unsigned else (moved.view(np.int32) >> by.astype(np.int32)).view(np.uint32)
        lanes.put(i, to, np.where(n == 0, np.uint32(0), found), live)

    return step


def mask(i: SassInstruction) -> Step:
    """BMSK: as many ones as the second operand says, from the bit that the first one names."""
    Words(i).end()
    to, begin, length = i.arguments

    def step(lanes: SassLanes, live: Mask) -> None:
        at, count = (np.minimum(lanes.integer(i, o), 32).astype(np.uint64) for o in (begin, length))
        ones = ((np.uint64(1) << count) - np.uint64(1)) << at
        lanes.put(i, to, ones.astype(np.uint32), live)

    return step


def move(i: SassInstruction) -> Step:
    """MOV, UMOV, R2UR, S2R, S2UR, and CS2R, which takes 64 bits."""
    words = Words(i)
    narrow = words.flag("32")
    words.end()
    to, source = i.arguments[0], i.arguments[1]
    wide = i.opcode == "CS2R" and not narrow
    if len(i.arguments) > 2 and not (len(i.arguments) == 3 and i.arguments[2].kind == "number"):
        raise unsupported(i)

    def step(lanes: SassLanes, live: Mask) -> None:
        special = source.kind == "special"
        lanes.put(i, to, lanes.special(i, source) if special else lanes.integer(i, source), live)
        if wide:
            lanes.put(i, to, np.zeros(1, np.uint32), live, 1)

    return step


def pack_predicates(i: SassInstruction) -> Step:
    """P2R: predicates as bits where a mask is set, else the bits of a register; R2P is the inverse."""
    words = Words(i)
    byte = int(words.one_of(("B0", "B1", "B2", "B3"), "B0")[1:])
    words.end()
    if byte or len(i.arguments) != (4 if i.opcode == "P2R" else 3):
        raise unsupported(i)

    def packed(lanes: SassLanes, live: Mask) -> None:
        to, _, rest, mask = i.arguments
        value = np.zeros(1, np.uint32)
        for k in range(PREDICATES):
            predicate = lanes.truth(i, Operand("P", k))
            value = value | (predicate.astype(np.uint32) << np.uint32(k))
        keep = lanes.integer(i, mask)
        lanes.put(i, to, (value & keep) | (lanes.integer(i, rest) & ~keep), live)

    def unpacked(lanes: SassLanes, live: Mask) -> None:
        _, source, mask = i.arguments
        value, keep = lanes.integer(i, source), int(lanes.integer(i, mask)[0])
        for k in range(PREDICATES):
            if keep >> k & 1:
                found = (value >> np.uint32(k)) & np.uint32(1) != 0
                lanes.put(i, Operand("P", k), found, live)

    return packed if i.opcode == "P2R" else unpacked
