"""Element functions of the stable Triton kernels: arithmetic on blocks in registers.

Longer than 300 lines: it is copied with the kernels to projects of their own, as one file beside them.

bf16 and fp16 are computed in FP32. That is accurate enough everywhere but near the roots of f
and f′, where the terms cancel and nothing of FP32's digits may be left. There the exact identities

    f(r + t)  = A·(eᵗ − 1 − t) + f′(r)·t,  A = α_n·eʳ     if f(r) = 0
    f′(s + t) = (α_n − β)·(eᵗ − 1)                        if f′(s) = 0

are used, with the roots r and s found in FP64 and t = x − root rounded once (the root is a sum of two
FP32 numbers; x − high is exact by Sterbenz' lemma). fp32 is computed in FP64 throughout, with the same
identities and the roots as pairs of FP64 numbers.

Compiled code is not the interpreter's: a Python float assigned to a name becomes an FP32 constant, a product
is contracted into the sum that uses it, even if other steps use it rounded, and 2^x gives no subnormal
numbers. So constants of FP64 stand in expressions or are `constexpr`, a product whose rounding error is taken
apart is made by `rounded_product`, and `shift` keeps 2^x away from 0. Everywhere else a contracted product
only rounds once less, which changes bits but no bound. Tests look at the PTX.

Bounds, relative to the exact value, before the one rounding to the storage format, u = 2⁻²⁴:

- x > −1/2: h(x) = (eˣ − 1 − x)/x² is within 2⁻¹⁹·⁶ (the polynomial; a test evaluates it with Arb);
  x·(c·x + β) adds a few u. Outside the window |f| ≥ 1/16 of its terms, which makes
  at most 2⁻¹⁹·⁶⁺⁴ of the polynomial's share in f.
- x ≤ −1/2: eˣ = 2^(x·log₂e) is within 2⁻²² + |x|·2⁻²⁴; terms of size α_n are at most 168 times the
  result outside the window, and that at −21, where no eˣ is left: 2⁻¹⁵·³ in all (a test scans roots).
- inside a window, |t| ≤ min(|r|, 1)/8, or |r|/8 beyond −21: what the series leaves out is below 2⁻¹⁹,
  roundings of t and of four steps some 4u.

2⁻¹⁴·⁶ is 0.01 ulp of bf16 and 2⁻¹³ a quarter of an ulp of fp16, so both are rounded as
promised: at most 0.51 and 0.75 ulp. Source of the functions: arXiv 2411.13010.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice

XIELU: tl.constexpr = tl.constexpr(0)
XIPRELU: tl.constexpr = tl.constexpr(1)

# How a tensor's elements are stored. BITS is bf16 read and written as int16: Triton's interpreter
# truncates where the device rounds to nearest, and misreads subnormal numbers.
FP32: tl.constexpr = tl.constexpr(0)
FP16: tl.constexpr = tl.constexpr(1)
BF16: tl.constexpr = tl.constexpr(2)
BITS: tl.constexpr = tl.constexpr(3)

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)

# (eˣ − 1 − x)/x² on [−1/2, 0]: relative minimax of degree 3, coefficients rounded to FP32.
H0: tl.constexpr = tl.constexpr(float.fromhex("0x1.ffffd6p-2"))
H1: tl.constexpr = tl.constexpr(float.fromhex("0x1.554108p-3"))
H2: tl.constexpr = tl.constexpr(float.fromhex("0x1.5228dcp-5"))
H3: tl.constexpr = tl.constexpr(float.fromhex("0x1.cf00fap-8"))

# ln 2 in two parts for FP64: the first has 32 bits, so that k·LN2_HIGH is exact for |k| < 2²¹.
LN2_HIGH: tl.constexpr = tl.constexpr(float.fromhex("0x1.62e42feep-1"))
LN2_LOW: tl.constexpr = tl.constexpr(float.fromhex("0x1.a39ef35793c76p-33"))
# The second part again with 32 bits, and what is left, for pairs.
LN2_MIDDLE: tl.constexpr = tl.constexpr(float.fromhex("0x1.a39ef35600000p-33"))
LN2_REST: tl.constexpr = tl.constexpr(float.fromhex("0x1.93c7673007e5fp-65"))
# ln 2 as one number, and the bits of √½, from which the binades of `logarithm64` begin.
LN2: tl.constexpr = tl.constexpr(float.fromhex("0x1.62e42fefa39efp-1"))
SQRT_HALF: tl.constexpr = tl.constexpr(0x3FE6A09E667F3BCD)
UNSHIFT: tl.constexpr = tl.constexpr(2.0**-108)
ROUND64: tl.constexpr = tl.constexpr(6755399441055744.0)  # 1.5·2⁵²: adding it rounds to an integer


@triton.jit
def load(pointer, offsets, count, MASKED: tl.constexpr, FORMAT: tl.constexpr):
    """Elements as FP32; beyond `count` zeros."""
    if MASKED:
        value = tl.load(pointer + offsets, mask=offsets < count, other=0)
    else:
        value = tl.load(pointer + offsets)
    if FORMAT == BITS:
        return (value.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    return value.to(tl.float32)


@triton.jit
def store(pointer, offsets, value, count, MASKED: tl.constexpr, FORMAT: tl.constexpr):
    """Rounds to the storage format, to nearest, ties to even, and writes the first `count`."""
    if FORMAT == BITS:
        bits = value.to(tl.int32, bitcast=True)
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        stored = tl.where(value != value, 0x7FC0, nearest).to(tl.int16)
    elif FORMAT == BF16:
        stored = value.to(tl.bfloat16)
    elif FORMAT == FP16:
        stored = value.to(tl.float16)
    else:
        stored = value.to(tl.float32)
    if MASKED:
        tl.store(pointer + offsets, stored, mask=offsets < count)
    else:
        tl.store(pointer + offsets, stored)


@triton.jit
def load64(pointer, offsets, count, MASKED: tl.constexpr):
    """FP64 numbers; beyond `count` zeros."""
    if MASKED:
        return tl.load(pointer + offsets, mask=offsets < count, other=0)
    return tl.load(pointer + offsets)


@triton.jit
def load_parameter(pointer):
    """One parameter in FP64, exactly; int16 are the bits of bf16."""
    value = tl.load(pointer)
    if value.dtype == tl.float64:
        return value
    if value.dtype == tl.int16:
        value = (value.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    return value.to(tl.float32).to(tl.float64)


@triton.jit
def store64(pointer, offsets, value, count, MASKED: tl.constexpr):
    """Writes the first `count` FP64 numbers, to the pointer's dtype; int16 are the bits of bf16.

    Formats of 16 bits are reached through FP32, as d/dx is: of what is rounded twice the first rounding is
    2⁻¹⁶ ulp of bf16, and 2⁻¹³ of fp16.
    """
    dtype: tl.constexpr = pointer.dtype.element_ty
    if dtype == tl.float64:
        if MASKED:
            tl.store(pointer + offsets, value, mask=offsets < count)
        else:
            tl.store(pointer + offsets, value)
    else:
        FORMAT: tl.constexpr = (
            FP32 if dtype == tl.float32 else FP16 if dtype == tl.float16 else BF16 if dtype == tl.bfloat16
            else BITS
        )  # fmt: skip
        store(pointer, offsets, value.to(tl.float32), count, MASKED, FORMAT)


@triton.jit
def store_rounded(pointer, value):
    """An FP64 number rounded once to the pointer's dtype, to nearest, ties to even; int16: bits of bf16.

    A format of 16 bits is reached through FP32, rounded to odd: toward 0, the last bit set if anything was
    cut off. FP32 has two bits more than bf16 and fp16 for every number, subnormal ones included (bf16 ends at
    2⁻¹³³, FP32 at 2⁻¹⁴⁹), so that the second rounding is right (Boldo and Melquiond, "Emulation of FMA and
    correctly rounded sums", IEEE Trans. Computers 57, 2008).
    """
    dtype: tl.constexpr = pointer.dtype.element_ty
    tl.static_assert(dtype.is_floating() or dtype == tl.int16)
    if dtype == tl.float64:
        tl.store(pointer, value)
    else:
        nearest = value.to(tl.float32)
        if dtype == tl.float32:
            tl.store(pointer, nearest)
        else:
            back = nearest.to(tl.float64)
            bits = nearest.to(tl.int32, bitcast=True)
            # One less is the next number toward 0, from infinity the largest.
            bits = bits - (tl.abs(back) > tl.abs(value)).to(tl.int32)
            odd = (bits | (back != value).to(tl.int32)).to(tl.float32, bitcast=True)
            FORMAT: tl.constexpr = FP16 if dtype == tl.float16 else BF16 if dtype == tl.bfloat16 else BITS
            store(pointer, 0, odd, 1, False, FORMAT)


@triton.jit
def store_zeros(pointer, offsets, x, count, MASKED: tl.constexpr, FORMAT: tl.constexpr):
    """Writes x where it is 0, of either sign, and nothing elsewhere."""
    zero = x == 0
    if MASKED:
        zero = zero & (offsets < count)
    if FORMAT == BITS:
        stored = (x.to(tl.int32, bitcast=True) >> 16).to(tl.int16)
    elif FORMAT == BF16:
        stored = x.to(tl.bfloat16)
    else:
        stored = x.to(tl.float16)
    tl.store(pointer + offsets, stored, mask=zero)


# Whether kernels run in Triton's interpreter, which is chosen when they are defined.
INTERPRETED: tl.constexpr = tl.constexpr(not isinstance(load, triton.runtime.JITFunction))

# FP64 -------------------------------------------------------------------------------------------


@triton.jit
def exponentials64(x):
    """eˣ, eˣ − 1 and eˣ − 1 − x for x ≤ 0, each within a few 2⁻⁵³ of itself.

    x = k·ln 2 + d with |d| ≤ 0.347; e^d − 1 − d by its series to d¹³, of which 2⁻⁵⁶ is left out.
    For k = 0 that is the result; else |x| > 0.34 and subtracting x costs three bits.

    Contracted or not: k is an integer within 1/2 + 2⁻⁴² of x·log₂e, k·LN2_HIGH is exact (32 and 11 bits), and
    so is x less it, a multiple of 2⁻⁵⁴ below 0.36 in size.
    """
    near = tl.maximum(x, -800.0, propagate_nan=tl.PropagateNan.ALL)  # e^-800 is 0 in every format here
    k = (near * LOG2E + ROUND64) - ROUND64
    d = (near - k * LN2_HIGH) - k * LN2_LOW
    h = d * (1.0 / 6227020800.0) + (1.0 / 479001600.0)
    h = d * h + (1.0 / 39916800.0)
    h = d * h + (1.0 / 3628800.0)
    h = d * h + (1.0 / 362880.0)
    h = d * h + (1.0 / 40320.0)
    h = d * h + (1.0 / 5040.0)
    h = d * h + (1.0 / 720.0)
    h = d * h + (1.0 / 120.0)
    h = d * h + (1.0 / 24.0)
    h = d * h + (1.0 / 6.0)
    h = d * h + 0.5
    p = d * d * h
    # NaN goes to 0 here and stays NaN in d. k ≥ −1154: the scale is made of two normal factors.
    n = tl.where(k == k, k, 0.0).to(tl.int64)
    half = n >> 1
    first = ((half + 1023) << 52).to(tl.float64, bitcast=True)
    second = ((n - half + 1023) << 52).to(tl.float64, bitcast=True)
    power = first * second
    expm1 = power * (d + p) + (power - 1.0)
    return first * (second * (1.0 + (d + p))), expm1, tl.where(k == 0, p, expm1 - x)


@triton.jit
def forward64(x, alpha_p, alpha_n, beta, root, rest, reach, slope, weight, KIND: tl.constexpr):
    """f(x) in FP64, for one rounding to FP32; the last five from `prepare_forward64`."""
    if KIND == XIPRELU:
        return x * (tl.where(x > 0, alpha_p, alpha_n) * x + beta)
    m = tl.minimum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    exp, _, q = exponentials64(m)
    steepness = beta - alpha_n
    # 0·(−∞) is not what a slope of 0 means. The product is exact, so that far out, where the line
    # crosses 0, α_n·eˣ is what is left.
    line = tl.where(steepness == 0, 0.0 * alpha_n, steepness * m)
    below = tl.where(m < -1.0, alpha_n * exp + (line - alpha_n), alpha_n * q + beta * m)
    # eᵗ − 1 − t to t⁴ for |t| ≤ 2⁻¹⁰: what is left out is below 2⁻⁴⁴ of f.
    t = (m - root) - rest
    s = ((t * (1.0 / 24.0) + 1.0 / 6.0) * t + 0.5) * t
    below = tl.where(tl.abs(t) <= reach, t * (slope + weight * s), below)
    return tl.where(x > 0, x * (alpha_p * x + beta), below)


@triton.jit
def backward64(x, alpha_p, alpha_n, beta, root, rest, reach, gap, KIND: tl.constexpr):
    """f′(x), df/dα_p and df/dα_n in FP64; the last four from `prepare_backward64`."""
    square = x * x
    zero = 0.0 * alpha_p
    if KIND == XIPRELU:
        slope = 2.0 * tl.where(x > 0, alpha_p, alpha_n) * x + beta
        return slope, tl.where(x > 0, square, zero), tl.where(x > 0, zero, square)
    m = tl.minimum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    exp, expm1, q = exponentials64(m)
    # For α_n = β only α_n·eˣ is left, which expm1 has forgotten far out.
    below = tl.where(m < -1.0, (beta - alpha_n) + alpha_n * exp, alpha_n * expm1 + beta)
    # eᵗ − 1 to t⁴ for |t| ≤ 2⁻¹⁰: what is left out is below 2⁻⁴⁶ of f′.
    t = (m - root) - rest
    s = ((t * (1.0 / 24.0) + 1.0 / 6.0) * t + 0.5) * t
    below = tl.where(tl.abs(t) <= reach, gap * (t + t * s), below)
    slope = tl.where(x > 0, 2.0 * alpha_p * x + beta, below)
    return slope, tl.where(x > 0, square, zero), tl.where(x > 0, zero, q)


@triton.jit
def square64(x, for_p, for_n, KIND: tl.constexpr):
    """df/dα_p and df/dα_n again with x² in FP64, which does not overflow; in FP32 it is exact or nothing."""
    wide = x.to(tl.float64)
    square = wide * wide
    zero = tl.zeros_like(square)
    if KIND == XIPRELU:
        return tl.where(x > 0, square, zero), tl.where(x > 0, zero, square)
    return tl.where(x > 0, square, zero), for_n.to(tl.float64)


# Roots ------------------------------------------------------------------------------------------


@triton.jit
def root_of_f(rho):
    """r < 0 with eʳ − 1 − r + ρ·r = 0, for 0 < ρ < 1: Newton's method in FP64.

    g(x) = eˣ − 1 − (1 − ρ)·x is convex and positive left of r. It is positive at −1/(1 − ρ), being e^x
    there, and at −2ρ/(1 − ρ), since −2t ≥ −2·artanh(t) = ln(1 − 2ρ) with t = ρ/(1 − ρ) for ρ < 1/2
    (beyond, the first is nearer). So it starts left of r and rises to it without passing; six
    steps from within a few per cent, or a factor of 1.3 at worst, end at FP64's precision.
    """
    x = -tl.minimum(1.0 + 0.0 * rho, 2.0 * rho) / (1.0 - rho)
    for _ in tl.static_range(6):
        _, expm1, q = exponentials64(x)
        x = x - (q + rho * x) / (expm1 + rho)
    return x


@triton.jit
def logarithm64(y):
    """ln y for normal y > 0, within 2⁻³⁴ of itself: where Newton's method begins.

    Triton's own has `rcp.approx.ftz.f64` in it, which NVIDIA calls a gross approximation and bounds in no
    way. Here every operation is IEEE's: `/` is `div.rn.f64`, and a contracted sum only rounds once less.

    y = 2ᵏ·m with m in [√½, √2), by integers. With t = (m − 1)/(m + 1), ln m = 2·artanh t is the sum
    2·(t + t³/3 + … + t¹¹/11) and a rest of t¹²/13/(1 − t²) of 2t at most: 2⁻³⁴·¹ of ln m, as |t| < 0.1716.
    m − 1 is exact (Sterbenz), so t and the sum are within a few 2⁻⁵³ of themselves. |ln m| ≤ ln(2)/2 takes no
    more than half of k·ln 2 away; what is left is no smaller than ln m, so the rest counts no more in it, and
    k·ln 2 is at most twice as large.
    """
    bits = y.to(tl.int64, bitcast=True)
    k = (bits - SQRT_HALF) >> 52  # rounded down: 0 from √½ to √2, below it −1
    m = (bits - (k << 52)).to(tl.float64, bitcast=True)
    t = (m - 1.0) / (m + 1.0)
    square = t * t
    s = square * (1.0 / 11.0) + (1.0 / 9.0)
    s = square * s + (1.0 / 7.0)
    s = square * s + (1.0 / 5.0)
    s = square * s + (1.0 / 3.0)
    s = square * s + 1.0
    return k.to(tl.float64) * LN2 + 2.0 * t * s


@triton.jit
def root_of_slope(rho):
    """s < 0 with eˢ − 1 + ρ = 0, that is ln(1 − ρ), for 0 < ρ < 1.

    1 − ρ has forgotten all but 53 − log₂(1/ρ) bits of a small ρ, and `logarithm64` gives 34. One step of
    Newton's method with eˢ − 1, which has all of them, leaves d²/2 of an error d. The logarithm's is 2⁻³⁴·|s|
    with |s| < 37, and leaves 2⁻⁶³ of s. That of 1 − ρ, exact for ρ ≥ 1/2, is at most 2⁻⁵³, and leaves 2⁻¹⁰⁷:
    2⁻⁵³ of s or less down to ρ = 2⁻⁵⁴. Below, 1 − ρ is 1, s is 0, and the step leads to −ρ.
    """
    s = logarithm64(1.0 - rho)
    exp, expm1, _ = exponentials64(s)
    return s - (expm1 + rho) / exp


@triton.jit
def split(value):
    """An FP64 number as high + low in FP32."""
    high = value.to(tl.float32)
    return high, (value - high.to(tl.float64)).to(tl.float32)


@triton.jit
def prepare_forward(alpha_n, beta):
    """Root of f as high + low, the window's reach, f′(r) and A.

    Without a root the reach is −1; with one so far out that it needs no window −2. The arguments are FP64.
    """
    a, b = alpha_n, beta
    ratio = b / tl.where(a == 0, 1.0 + 0.0 * a, a)
    exists = (ratio > 0) & (ratio < 1) & (a != 0)
    rho = tl.where(exists, ratio, 0.5)
    root = root_of_f(rho)
    exp, expm1, _ = exponentials64(root)
    slope = a * expm1 + b
    high, low = split(root)
    # Beyond −21, α_n·eˣ within 2⁻²² of itself is nearer to the truth than a root within 2⁻⁵²: there the
    # line (β − α_n)·x − α_n, fused and so rounded once, crosses 0 and α_n·eˣ may be all that is left. That
    # holds if FP32 has both coefficients exactly.
    exact = (a.to(tl.float32).to(tl.float64) == a) & ((b - a).to(tl.float32).to(tl.float64) == b - a)
    far = exists & (root <= -21.0) & exact
    exists = exists & (far == 0)
    # A root that FP32 takes for 0 is nearer to 0 than all x but ±0, which no window is to hold.
    exists = exists & (high != 0)
    # If it has not, the line is a sum of terms |r/t| times f, and the window reaches to |r|/8. There
    # eʳ·(eᵗ − 1 − t) is below e^(7r/8) and f is α_n/8: what the series leaves out is below 2⁻²³ of f.
    width = tl.where(root > -21.0, tl.minimum(-root, 1.0), -root)
    reach = tl.where(exists, width * 0.125, tl.where(far, -2.0, -1.0)).to(tl.float32)
    return high, low, reach, slope.to(tl.float32), (a * exp).to(tl.float32)


@triton.jit
def prepare_backward(alpha_n, beta):
    """Root of f′ as high + low, the window's reach and α_n − β; as `prepare_forward`."""
    a, b = alpha_n, beta
    ratio = b / tl.where(a == 0, 1.0 + 0.0 * a, a)
    exists = (ratio > 0) & (ratio < 1) & (a != 0)
    root = root_of_slope(tl.where(exists, ratio, 0.5))
    high, low = split(root)
    reach = tl.where(exists, tl.minimum(-root, 1.0) * 0.125, -1.0).to(tl.float32)
    return high, low, reach, (a - b).to(tl.float32)


@triton.jit
def rounded_product(a, b):
    """a·b in FP64, rounded, whatever is done with it: mul.rn is never contracted, mul may be.

    LLVM and ptxas may put a product into an addition that uses it (`fma`); then `two_sum(a·b, c)` takes
    the rounded product in one of its steps and the exact one in another, and its low part is wrong. The
    interpreter has no `libdevice`, and numpy contracts nothing.
    """
    if INTERPRETED:
        return a * b
    else:
        return libdevice.mul_rn(a, b)


@triton.jit
def two_product(a, b):
    """a·b as high + low within 2⁻¹⁰⁴ of it, for products and parts that neither over- nor underflow.

    Upper halves have 26 bits, lower ones 27: of the four partial products only al·bl, of 54 bits, may be
    rounded, so contracting the other three changes nothing, and contracting that one leaves no error at
    all. In this order every sum is exact (Dekker 1971): what is left after each is a multiple of 2⁻⁷⁷ of
    a·b's binade and below 2⁻²⁴ of it, then below 2⁻⁴⁹, and at last the product's own rounding error. The
    high part alone must be one rounded number in every step.
    """
    ah = (a.to(tl.int64, bitcast=True) & -134217728).to(tl.float64, bitcast=True)
    bh = (b.to(tl.int64, bitcast=True) & -134217728).to(tl.float64, bitcast=True)
    al, bl = a - ah, b - bh
    p = rounded_product(a, b)
    return p, (((ah * bh - p) + ah * bl) + al * bh) + al * bl


@triton.jit
def two_sum(a, b):
    """a + b as high + low, exactly (Knuth).

    Neither a nor b may be a product that rounds, unless by `rounded_product`: see there.
    """
    s = a + b
    v = s - a
    return s, (a - (s - v)) + (b - v)


@triton.jit
def horner_step(sh, sl, high, low, CH: tl.constexpr, CL: tl.constexpr):
    """(sh + sl)·(high + low) + CH + CL as a pair.

    The constants are `constexpr`: a Python float assigned to a name is an FP32 number once compiled.
    """
    ph, pl = two_product(sh, high)
    pl = pl + (sh * low + sl * high)
    sh, e = two_sum(high * 0.0 + CH, ph)
    return sh, e + (pl + CL)


@triton.jit
def exp_pair(x):
    """eˣ as high + low for −700 ≤ x < 0, relative error below 2⁻⁸⁰.

    x = k·ln 2 + d with ln 2 in three parts, d = x − k·ln 2 as a pair; e^(d/256) by its series to
    the seventh power, |d/256| < 2⁻⁹·⁵, of which 2⁻⁹¹ is left out; then squared eight times, which
    magnifies relative errors by 2⁸. Of the three products with k the first two are exact (32 and 11 bits),
    so that contracting them changes nothing; the third's rounding is below 2⁻¹¹⁵ of x.
    """
    k = (x * LOG2E + ROUND64) - ROUND64
    high, low = two_sum(x - k * LN2_HIGH, -(k * LN2_MIDDLE))
    low = low - k * LN2_REST
    high, low = high * 0.00390625, low * 0.00390625
    # Horner: s = 1/n! + d·s; the reciprocals' low parts are those that double lacks.
    sh, sl = horner_step(
        high * 0.0 + 1.0 / 5040.0, high * 0.0, high, low, 1.0 / 720.0, -5.300543954373577e-20
    )
    sh, sl = horner_step(sh, sl, high, low, 1.0 / 120.0, 1.1564823173178714e-19)
    sh, sl = horner_step(sh, sl, high, low, 1.0 / 24.0, 2.3129646346357427e-18)
    sh, sl = horner_step(sh, sl, high, low, 1.0 / 6.0, 9.25185853854297e-18)
    sh, sl = horner_step(sh, sl, high, low, 0.5, 0.0)
    sh, sl = horner_step(sh, sl, high, low, 1.0, 0.0)
    sh, sl = horner_step(sh, sl, high, low, 1.0, 0.0)
    for _ in tl.static_range(8):
        ph, pl = two_product(sh, sh)
        sh, sl = two_sum(ph, pl + 2.0 * sh * sl)
    power = ((k.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)
    return power * sh, power * sl


@triton.jit
def growth_pair(x):
    """(eˣ − 1 − x)/x as high + low for −1/32 < x < 0, relative error below 2⁻⁸⁰.

    x/2 + x²/6 + … + x¹²/13!: 2⁻⁹⁰ is left out. From x⁵/720 on the terms are below 2⁻²⁸ of the first and
    need no low parts.
    """
    s = x * (1.0 / 6227020800.0) + 1.0 / 479001600.0
    s = s * x + 1.0 / 39916800.0
    s = s * x + 1.0 / 3628800.0
    s = s * x + 1.0 / 362880.0
    s = s * x + 1.0 / 40320.0
    s = s * x + 1.0 / 5040.0
    s = s * x + 1.0 / 720.0
    zero = x * 0.0
    sh, sl = horner_step(s, zero, x, zero, 1.0 / 120.0, 1.1564823173178714e-19)
    sh, sl = horner_step(sh, sl, x, zero, 1.0 / 24.0, 2.3129646346357427e-18)
    sh, sl = horner_step(sh, sl, x, zero, 1.0 / 6.0, 9.25185853854297e-18)
    sh, sl = horner_step(sh, sl, x, zero, 0.5, 0.0)
    high, low = two_product(sh, x)
    return high, low + sl * x


@triton.jit
def prepare_forward64(alpha_n, beta):
    """As `prepare_forward` with all five in FP64: root and rest, reach, f′(r) and A.

    One more step of Newton's from the FP64 root, with f there as a pair, finds what FP64 lacks: fp32
    numbers may lie within 2⁻³⁰ of a root, and then a root within 2⁻⁵³ would not do.
    """
    ratio = beta / tl.where(alpha_n == 0, 1.0 + 0.0 * alpha_n, alpha_n)
    # Farther out than −32 eʳ is below 2⁻⁴⁶, and the line that is left crosses 0 where fp32 tells.
    # That holds for α_n and β of FP32: their difference is exact, and x times it. Others keep the window.
    near = ratio < 0.96875
    exact = (alpha_n.to(tl.float32).to(tl.float64) == alpha_n) & (beta.to(tl.float32).to(tl.float64) == beta)
    exists = (ratio > 0) & (ratio < 1) & (alpha_n != 0) & (near | (exact == 0))
    root = root_of_f(tl.where(exists, ratio, 0.5))
    eh, el = exp_pair(tl.maximum(root, -700.0))
    # α_n·(eʳ − 1) + (β − α_n)·r, every product and sum as a pair.
    dh, dl = two_sum(eh, -1.0 + 0.0 * eh)
    ph, pl = two_product(alpha_n, dh)
    pl = pl + alpha_n * (dl + el)
    gap, gap_low = two_sum(beta, -alpha_n)
    qh, ql = two_product(gap, root)
    ql = ql + gap_low * root
    value, low = two_sum(ph, qh)
    value = value + (low + (pl + ql))
    # Of a root near 0 those terms agree in more bits than a pair has: there f/r = α_n·(eʳ − 1 − r)/r + β.
    gh, gl = growth_pair(root)
    ph, pl = two_product(alpha_n, gh)
    part, low = two_sum(ph, beta)
    value = tl.where(root > -0.03125, root * (part + (low + (pl + alpha_n * gl))), value)
    _, expm1, _ = exponentials64(root)
    slope = alpha_n * expm1 + beta
    rest = -value / slope
    # Far out up to |r|/8: what the series leaves out is less than e^(7r/8) of α_n, and 2⁻³⁷ of f.
    width = tl.where(near, tl.minimum(-root, 1.0) * 0.0009765625, -root * 0.125)
    return root, rest, tl.where(exists, width, -1.0), slope, alpha_n * eh


@triton.jit
def prepare_backward64(alpha_n, beta):
    """Root of f′ and rest, reach and α_n − β, in FP64; see `prepare_forward64`."""
    ratio = beta / tl.where(alpha_n == 0, 1.0 + 0.0 * alpha_n, alpha_n)
    exists = (ratio > 0) & (ratio < 1) & (alpha_n != 0)
    root = root_of_slope(tl.where(exists, ratio, 0.5))
    eh, el = exp_pair(root)
    dh, dl = two_sum(eh, -1.0 + 0.0 * eh)
    ph, pl = two_product(alpha_n, dh)
    value, low = two_sum(ph, beta)
    value = value + (low + (pl + alpha_n * (dl + el)))
    # Near 0 again more bits agree: eʳ − 1 = r + r·g with g = (eʳ − 1 − r)/r.
    gh, gl = growth_pair(root)
    ph, pl = two_product(gh, root)
    sh, sl = two_sum(root, ph)
    sl = sl + (pl + gl * root)
    ph, pl = two_product(alpha_n, sh)
    part, low = two_sum(ph, beta)
    value = tl.where(root > -0.03125, part + (low + (pl + alpha_n * sl)), value)
    rest = -value / (alpha_n * eh)
    reach = tl.where(exists, tl.minimum(-root, 1.0) * 0.0009765625, -1.0)
    return root, rest, reach, alpha_n - beta


# FP32 -------------------------------------------------------------------------------------------


@triton.jit
def keeps_zeros(alpha_n64, beta64):
    """Whether `forward32` gives ±0 for ±0; if not, that must be seen to.

    At x = ±0 it is x·(a·x + β), with a = α_n of xIPReLU and α_n·H0 of xIELU. If α_n is finite, a·x is ±0; and
    then the sum is β for β > 0, and +0 for β = +0, since +0 + (±0) is +0. So if β is finite too, the product
    has the sign of x. For β < 0 it has the other; so it may for β = −0, since −0 + (−0) is −0; 0·∞ is NaN.
    α_p, which is for x > 0, is not met, nor is the window: see `prepare_forward`.
    """
    alpha_n, beta = alpha_n64.to(tl.float32), beta64.to(tl.float32)
    bits = beta.to(tl.int32, bitcast=True)  # neither negative nor −0, and below infinity's
    return (bits >= 0) & (bits < 0x7F800000) & (tl.abs(alpha_n) < float("inf"))


@triton.jit
def shift(alpha_n, alone):
    """What to add to x·log₂e, and the factor that takes it back, where α_n·eˣ may be left `alone`.

    The device's 2^x is 0 below 2⁻¹²⁶ (ex2.approx.ftz), and bf16 ends at 2⁻¹³³: compiled, d/dx was 54 ulps
    off at α_n = β. With 108 added it is 0 below 2⁻²³⁴, and α_n·2⁻¹⁰⁸ is normal; for |α_n| < 2⁻¹⁶ what becomes
    0 is less than 2⁻⁹ of bf16's least number. The exponent is then rounded to 2⁻¹⁸, which does no harm where
    nothing cancels. Elsewhere nothing is added, and no bit changes.
    """
    shifted = alone & (tl.abs(alpha_n) >= 0.0000152587890625)
    return tl.where(shifted, 108.0, 0.0), tl.where(shifted, UNSHIFT, 1.0)


@triton.jit
def forward32(x, alpha_p64, alpha_n64, beta64, high, low, reach, slope, weight, KIND: tl.constexpr):
    """f(x) in FP32 for x of bf16 or fp16; the last five from `prepare_forward`."""
    alpha_p, alpha_n, beta = alpha_p64.to(tl.float32), alpha_n64.to(tl.float32), beta64.to(tl.float32)
    if KIND == XIPRELU:
        # The product inside the fused multiply-add is exact, so the root costs nothing.
        return x * tl.fma(tl.where(x > 0, alpha_p, alpha_n), x, beta)
    h = H3 * x + H2
    h = h * x + H1
    h = h * x + H0
    near = x * tl.fma(tl.where(x > 0, alpha_p, alpha_n * h), x, beta)
    line = (beta64 - alpha_n64).to(tl.float32)
    # 0·(−∞) is not what a slope of 0 means; the largest finite number does instead.
    lowest = tl.where(line == 0, -3.0e38, float("-inf"))
    m = tl.maximum(x, lowest, propagate_nan=tl.PropagateNan.ALL)
    up, down = shift(alpha_n, reach < -1.5)
    far = alpha_n * down * tl.exp2(tl.fma(m, LOG2E, up)) + tl.fma(line, m, -alpha_n)
    t = (x - high) - low
    s = weight * (1.0 / 24.0) * t + weight * (1.0 / 6.0)
    s = s * t + weight * 0.5
    s = s * t + slope
    y = tl.where(x > -0.5, near, far)
    return tl.where(tl.abs(t) <= reach, t * s, y)


@triton.jit
def backward32(x, alpha_p64, alpha_n64, beta64, high, low, reach, gap, KIND: tl.constexpr):
    """f′(x), df/dα_p and df/dα_n in FP32 for x of bf16 or fp16; the last four from `prepare_backward`."""
    alpha_p, alpha_n, beta = alpha_p64.to(tl.float32), alpha_n64.to(tl.float32), beta64.to(tl.float32)
    square = x * x
    zero = 0.0 * alpha_p
    if KIND == XIPRELU:
        slope = tl.fma(2.0 * tl.where(x > 0, alpha_p, alpha_n), x, beta)
        return slope, tl.where(x > 0, square, zero), tl.where(x > 0, zero, square)
    h = H3 * x + H2
    h = h * x + H1
    h = h * x + H0
    q = square * h
    up, down = shift(alpha_n, gap == 0)
    exp = tl.exp2(tl.fma(x, LOG2E, up))
    near = alpha_n * (x + q) + beta
    far = alpha_n * down * exp - gap
    t = (x - high) - low
    s = t * (1.0 / 24.0) + (1.0 / 6.0)
    s = s * t + 0.5
    s = s * t + 1.0
    slope = tl.where(x > -0.5, near, far)
    slope = tl.where(tl.abs(t) <= reach, gap * t * s, slope)
    slope = tl.where(x > 0, 2.0 * alpha_p * x + beta, slope)
    q = tl.where(x > -0.5, q, tl.fma(exp, down, -1.0) - x)
    return slope, tl.where(x > 0, square, zero), tl.where(x > 0, zero, q)
