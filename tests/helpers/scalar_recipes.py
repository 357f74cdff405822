"""The recipes a second time, from the statements alone: numpy and ml_dtypes, block by block, no torch.

Nothing here is shared with `precision_lab.lowprecision`; both follow the same written rules.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

TYPES = {"e4m3": ml_dtypes.float8_e4m3fn, "e5m2": ml_dtypes.float8_e5m2, "e2m1": ml_dtypes.float4_e2m1fn}
LARGEST = {"e4m3": np.float32(448), "e5m2": np.float32(57344), "e2m1": np.float32(6)}
FP32_MAX = np.finfo(np.float32).max
F = np.float32


def cast(x, fmt, saturating=True):
    """Codes of float32 values; NaN is 0x7f."""
    x = np.asarray(x, F)
    if saturating:
        x = np.clip(x, -LARGEST[fmt], LARGEST[fmt])  # NaN passes through
    with np.errstate(invalid="ignore", over="ignore"):
        codes = x.astype(TYPES[fmt]).view(np.uint8).copy()
    if fmt == "e2m1":
        codes &= 15
        codes[np.isnan(x)] = 7
    else:
        codes[np.isnan(codes.view(TYPES[fmt]).astype(F)) & np.isnan(x)] = 0x7F
        if fmt == "e4m3":
            # What ml_dtypes makes of an overflow is a NaN with a sign.
            over = np.isnan(codes.view(TYPES[fmt]).astype(F)) & ~np.isnan(x)
            codes[over] = np.where(np.signbit(x[over]), 0xFF, 0x7F)
    return codes


def values(codes, fmt):
    return np.asarray(codes, np.uint8).view(TYPES[fmt]).astype(F)


def largest(x):
    """amax; NaN is not looked at."""
    x = np.abs(np.asarray(x, F)).ravel()
    x = x[~np.isnan(x)]
    return x.max() if x.size else F(0)


def scale(a, fmax, power_of_two=False, instead=FP32_MAX, eps=0.0):
    a = max(F(a), F(eps))
    if a == 0 or np.isinf(a):
        s = F(1)
    else:
        with np.errstate(over="ignore"):
            s = F(fmax) / a
        if np.isinf(s):
            s = F(instead)
    if power_of_two:
        s = np.ldexp(F(1), int(np.frexp(s)[1]) - 1).astype(F)
    return F(s)


def scaled(x, s):
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return np.asarray(x, F) * F(s)


def tensor_scaled(x, s, fmt, saturating=True):
    return cast(scaled(x, s), fmt, saturating), F(1) / F(s)


def pieces(shape, block):
    rows, columns = shape
    for i in range(0, rows, block[0]):
        for j in range(0, columns, block[1]):
            yield (i // block[0], j // block[1]), (slice(i, i + block[0]), slice(j, j + block[1]))


def block_scaled(x, fmt, block, power_of_two, instead, saturating=True):
    x = np.asarray(x, F)
    codes = np.empty(x.shape, np.uint8)
    decode = np.empty((-(-x.shape[0] // block[0]), -(-x.shape[1] // block[1])), F)
    for where, part in pieces(x.shape, block):
        s = scale(largest(x[part]), LARGEST[fmt], power_of_two, instead)
        codes[part], decode[where] = cast(scaled(x[part], s), fmt, saturating), F(1) / s
    return codes, decode


def e8m0(v):
    v = F(v)
    if np.isnan(v):
        return 0xFF
    if np.isinf(v):
        return 0xFE
    if v <= F(2.0**-127):
        return 0
    significand, exponent = np.frexp(v)  # v = significand · 2^exponent, significand in [0.5, 1)
    return int(exponent) - (1 if significand == 0.5 else 0) + 127


def mxfp8(x, fmt, block, saturating=True):
    x = np.asarray(x, F)
    codes = np.empty(x.shape, np.uint8)
    exponents = np.empty((-(-x.shape[0] // block[0]), -(-x.shape[1] // block[1])), np.uint8)
    inverse = F(1) / LARGEST[fmt]
    for where, part in pieces(x.shape, block):
        e = e8m0(largest(x[part]) * inverse)
        exponents[where] = e
        codes[part] = cast(scaled(x[part], 2.0 ** (127 - e)), fmt, saturating)
    return codes, exponents


def nvfp4(x, block, random=None, a=None):
    x = np.asarray(x, F)
    a = largest(x) if a is None else F(a)
    with np.errstate(over="ignore", divide="ignore"):
        encode = min(F(2688) / a, FP32_MAX) if a > 0 else F(1)
    encode = F(encode) if encode > 0 else F(1)
    decode = F(1) / encode
    sixth = encode * (F(1) / F(6))
    codes = np.empty(x.shape, np.uint8)
    scales = np.empty((-(-x.shape[0] // block[0]), -(-x.shape[1] // block[1])), np.uint8)
    for where, part in pieces(x.shape, block):
        with np.errstate(all="ignore"):
            scales[where] = cast(np.array([largest(x[part]) * sixth]), "e4m3")[0]
            d = values(scales[where], "e4m3")
            e = np.minimum(F(1) / (d * decode), FP32_MAX).astype(F)
        y = scaled(x[part], e)
        codes[part] = cast(y, "e2m1") if random is None else stochastic_fast(y, random[part])
    return codes, scales, a


GRID = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])


def stochastic(y, random):
    """One number at a time."""
    codes = np.empty(y.shape, np.uint8)
    for index, v in np.ndenumerate(y):
        if np.isnan(v):
            codes[index] = 7
            continue
        magnitude = min(abs(float(v)), 1e30)
        step = 0.5 if magnitude < 2 else 1.0 if magnitude < 4 else 2.0
        raised = magnitude + int(random[index]) / 256 * step
        codes[index] = int(np.searchsorted(GRID, raised, "right")) - 1 | (8 if np.signbit(v) else 0)
    return codes


def hadamard(x):
    """Rows of 16 at a time, each sum by math.fsum."""
    import math

    s = [1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1]
    x = np.asarray(x, np.float64)
    out = np.empty(x.shape, ml_dtypes.bfloat16)
    for r in range(x.shape[0]):
        for g in range(0, x.shape[1], 16):
            for j in range(16):
                terms = [x[r, g + i] * s[i] * (-1) ** bin(i & j).count("1") / 4 for i in range(16)]
                out[r, g + j] = F(math.fsum(terms))
    return out


def stochastic_fast(y, random):
    """`stochastic` of an array at once: where in the grid the raised magnitude falls."""
    magnitude = np.minimum(np.abs(y.astype(np.float64)), 1e30)
    step = np.select([magnitude < 2, magnitude < 4], [0.5, 1.0], 2.0)
    codes = np.searchsorted(GRID, magnitude + random / 256.0 * step, "right") - 1
    codes = np.where(np.isnan(y), 7, codes | np.where(np.signbit(y), 8, 0))
    return codes.astype(np.uint8)


def hadamard_fast(x):
    """`hadamard` of an array at once, by butterflies in extended precision.

    Exact, and so the same, while a group's magnitudes span less than 2^50.
    """
    s = np.array([1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1], np.longdouble)
    v = np.asarray(x, np.longdouble).reshape(-1, 16) * s
    for stride in (1, 2, 4, 8):
        v = v.reshape(-1, 16 // (2 * stride), 2, stride)
        v = np.stack([v[:, :, 0] + v[:, :, 1], v[:, :, 0] - v[:, :, 1]], axis=2)
    with np.errstate(over="ignore"):
        return (v / 4).astype(F).astype(ml_dtypes.bfloat16).reshape(np.shape(x))


class Delayed:
    """Delayed scaling with a plain list for its window."""

    def __init__(self, fmax, length, margin, most_recent=False):
        self.fmax, self.margin, self.most_recent = F(fmax), margin, most_recent
        self.history, self.scale = [F(0)] * length, F(1)

    def step(self, tensors, fmt):
        codes = [cast(scaled(x, self.scale), fmt) for x in tensors]
        self.history[0] = max([self.history[0], *(largest(x) for x in tensors)])
        if self.history[0] != 0:
            a = self.history[0] if self.most_recent else max(self.history)
            self.history = [*self.history[1:], self.history[0]]
            self.history[0] = F(0)
            if np.isfinite(a):
                with np.errstate(over="ignore"):
                    new = F(self.fmax * F(2.0**-self.margin)) / a
                self.scale = F(min(new, FP32_MAX))
        return codes
