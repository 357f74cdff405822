// The oracle's first tier and its scoring for CUDA: one block per tile, the same operations as
// exponential.py, piecewise_values.py, first_tier.py and tile.py, whose bounds hold here because every
// floating-point operation rounds once as it is written there. What an error is, errors.py defines: this is a
// fast form of it (tests/scoring/test_one_ulp.py). Nothing may be contracted, reordered or
// approximated: all arithmetic goes through the functions below, which compilers leave alone. All
// counts are integers, so that the order of threads and blocks changes nothing.
// Longer than 300 lines: it is compiled at run time, from one source that includes nothing of the lab's.
//
// The same file compiles as plain C++ (HOST): a block is then one thread that does all the work,
// which is how tests compare it with the other compiler's code bit for bit, without a GPU.

#ifdef HOST
#include <cmath>
#include <cstring>
#define KERNEL extern "C" void
#define DEVICE static inline
#define SHARED static
struct Index { int x; };
extern "C" { Index blockIdx; }
static const Index blockDim = {1}, threadIdx = {0};
static inline void __syncthreads() {}
typedef long long i64;
typedef unsigned long long u64;
static inline double add(double a, double b) { return a + b; }
static inline double sub(double a, double b) { return a - b; }
static inline double mul(double a, double b) { return a * b; }
static inline double fma3(double a, double b, double c) { return __builtin_fma(a, b, c); }
static inline float addf(float a, float b) { return a + b; }
static inline float subf(float a, float b) { return a - b; }
static inline float mulf(float a, float b) { return a * b; }
static inline float divf(float a, float b) { return a / b; }
static inline float narrow(double a) { return (float)a; }
static inline i64 bits_of(double a) { i64 b; memcpy(&b, &a, 8); return b; }
static inline double from_bits(i64 b) { double a; memcpy(&a, &b, 8); return a; }
static inline int bits_of32(float a) { int b; memcpy(&b, &a, 4); return b; }
static inline float from_bits32(int b) { float a; memcpy(&a, &b, 4); return a; }
static inline void atomic_add(i64* where, i64 what) { *where += what; }
static inline void atomic_add32(unsigned* where, unsigned what) { *where += what; }
static inline void atomic_max(i64* where, i64 what) { if (what > *where) *where = what; }
static inline void atomic_min(i64* where, i64 what) { if (what < *where) *where = what; }
static inline i64 take_places(i64* counter, i64 n) { i64 at = *counter; *counter += n; return at; }
static inline i64 block_sum(i64 v) { return v; }
static inline i64 block_max(i64 v) { return v; }
static inline i64 block_min(i64 v) { return v; }
#else
#define KERNEL extern "C" __global__ void
#define DEVICE __device__ static inline
#define SHARED __shared__
typedef long long i64;
typedef unsigned long long u64;
__device__ static inline double add(double a, double b) { return __dadd_rn(a, b); }
__device__ static inline double sub(double a, double b) { return __dsub_rn(a, b); }
__device__ static inline double mul(double a, double b) { return __dmul_rn(a, b); }
__device__ static inline double fma3(double a, double b, double c) { return __fma_rn(a, b, c); }
__device__ static inline float addf(float a, float b) { return __fadd_rn(a, b); }
__device__ static inline float subf(float a, float b) { return __fsub_rn(a, b); }
__device__ static inline float mulf(float a, float b) { return __fmul_rn(a, b); }
__device__ static inline float divf(float a, float b) { return __fdiv_rn(a, b); }
__device__ static inline float narrow(double a) { return __double2float_rn(a); }
__device__ static inline i64 bits_of(double a) { return __double_as_longlong(a); }
__device__ static inline double from_bits(i64 b) { return __longlong_as_double(b); }
__device__ static inline int bits_of32(float a) { return __float_as_int(a); }
__device__ static inline float from_bits32(int b) { return __int_as_float(b); }
__device__ static inline void atomic_add(i64* where, i64 what) { if (what) atomicAdd((u64*)where, (u64)what); }
__device__ static inline void atomic_add32(unsigned* where, unsigned what) { atomicAdd(where, what); }
__device__ static inline void atomic_max(i64* where, i64 what) { atomicMax(where, what); }
__device__ static inline void atomic_min(i64* where, i64 what) { atomicMin(where, what); }
__device__ static inline i64 take_places(i64* counter, i64 n) { return (i64)atomicAdd((u64*)counter, (u64)n); }
__shared__ i64 reduced[33];
#define REDUCTION(name, expression)                                                     \
    __device__ static i64 name(i64 a) {                                                 \
        for (int step = 16; step; step >>= 1) {                                         \
            i64 b = __shfl_xor_sync(0xffffffffu, a, step);                              \
            a = expression;                                                             \
        }                                                                               \
        __syncthreads();                                                                \
        if ((threadIdx.x & 31) == 0) reduced[threadIdx.x >> 5] = a;                     \
        __syncthreads();                                                                \
        a = reduced[0];                                                                 \
        for (int w = 1; w < (int)(blockDim.x >> 5); w++) { i64 b = reduced[w]; a = expression; } \
        return a;                                                                       \
    }
REDUCTION(block_sum, a + b)
REDUCTION(block_max, (a > b ? a : b))
REDUCTION(block_min, (a < b ? a : b))
#endif

#define TILE 1024
#define EACH(i, n) for (int i = threadIdx.x; i < (n); i += blockDim.x)

// Slots of basis functions and stretches: curve.py; terms: program.py.
enum { ONE, X, X2, X3, EXP, EXPM1, Q, TABLE };
enum { NEAR, FAR, POSITIVE };
#define MAX_TERMS 6
// Columns of a row: columns.py.
enum { N, VALID, MISROUNDED, WRONG_SIGN, NONFINITE, ZERO_SIGN, MONOTONE, BITS, MAX_ERROR, MAX_PATTERN,
       MAX_VALUE, MAX_RELATIVE, SIGN_PATTERN, SIGN_VALUE, NONFINITE_PATTERN, NONFINITE_VALUE, SUMS };
#define LIMBS 36
#define AWAY_SUMS (SUMS + LIMBS)
#define RELATIVE (AWAY_SUMS + LIMBS)
#define NEAREST (RELATIVE + 2)
#define NEAREST_RELATIVE (NEAREST + 2)
#define SQUARES (NEAREST_RELATIVE + 2)
#define RELATIVE_SQUARES (SQUARES + 2)
#define INEXACT (RELATIVE_SQUARES + 2)
#define NEGATIVE 4
#define PACKED 15
#define COLUMNS (INEXACT + 2 * NEGATIVE)
#define LIMB 0x7fffffffLL
#define BINS 4096
#define BIN_SHIFT 18
#define BIN_BASE ((127 - 12) << 5)
#define BITS_SCALE 4096
#define SUM_BITS 20
#define SUM_UNIT 0x1p20
#define CLIP 1024.0
#define LARGEST32 0x1.fffffep127
// Fields of a format: decide.py.
enum { PRECISION, EMIN, EMAX, MAX_FINITE, MAX_SIGNIFICAND, HAS_INFINITY, SATURATING };
// Of a tile's record, settled into rows afterwards.
enum { T_ROW, T_BITS, T_PATTERN, T_VALUE, T_SIGN, T_SIGN_VALUE, T_NONFINITE, T_NONFINITE_VALUE, T_FIELDS };
#define NO_PATTERN 0x7fffffffffffffffLL
#define INFINITY_BITS 0x7ff0000000000000LL
#define INFINITY32_BITS 0x7f800000
#define CERTIFIED_ULPS 0x1p-10
#define WITHIN (1 - 0x1p-11)
#define FLOOR 0x1p-40
#define MONOTONE_ULPS 0x1p-9
#define ROUNDER 0x1.8p52
#define ROUNDER_BITS 0x4338000000000000LL

// columns.value_bits: a NaN is kept as x86's, whatever this processor's is.
DEVICE i64 value_bits(double a) { return a == a ? bits_of(a) : (i64)0xfff8000000000000ULL; }
DEVICE double magnitude(double a) { return from_bits(bits_of(a) & 0x7fffffffffffffffLL); }
// 2^e for normal results.
DEVICE double power(i64 e) { return from_bits((e + 1023) << 52); }
DEVICE double larger(double a, double b) { return a < b ? b : a; }
DEVICE double smaller(double a, double b) { return b < a ? b : a; }
DEVICE bool is_infinite32(float a) { return (bits_of32(a) & 0x7fffffff) == INFINITY32_BITS; }
DEVICE float magnitude32(float a) { return from_bits32(bits_of32(a) & 0x7fffffff); }
// The nearest integer of |v| < 2^51, ties to even.
DEVICE i64 nearest_integer(double v) { return bits_of(add(v, ROUNDER)) - ROUNDER_BITS; }

// exponential.py: 1/k! from 2! on, rounded to nearest.
#define C2 0x1.0000000000000p-1
#define C3 0x1.5555555555555p-3
#define C4 0x1.5555555555555p-5
#define C5 0x1.1111111111111p-7
#define C6 0x1.6c16c16c16c17p-10
#define C7 0x1.a01a01a01a01ap-13
#define C8 0x1.a01a01a01a01ap-16
#define C9 0x1.71de3a556c734p-19
#define C10 0x1.27e4fb7789f5cp-22
#define C11 0x1.ae64567f544e4p-26
#define C12 0x1.1eed8eff8d898p-29
#define C13 0x1.6124613a86d09p-33
#define C14 0x1.93974a8c07c9dp-37
#define C15 0x1.ae7f3e733b81fp-41
#define C16 0x1.ae7f3e733b81fp-45
#define C17 0x1.952c77030ad4ap-49
#define C18 0x1.6827863b97d97p-53

DEVICE double exp_at(double x) {
    double point = larger(x, -700.0);
    double shifted = fma3(point, 0x1.71547652b82fep+0, ROUNDER);
    double k = sub(shifted, ROUNDER);
    double r = fma3(-k, 0x1.a39ef35793c76p-33, fma3(-k, 0x1.62e42feep-1, point));
    double h = fma3(r, C13, C12);
    h = fma3(r, h, C11);
    h = fma3(r, h, C10);
    h = fma3(r, h, C9);
    h = fma3(r, h, C8);
    h = fma3(r, h, C7);
    h = fma3(r, h, C6);
    h = fma3(r, h, C5);
    h = fma3(r, h, C4);
    h = fma3(r, h, C3);
    h = fma3(r, h, C2);
    double m = add(r, mul(mul(r, r), h));
    return mul(power((i64)k), add(1.0, m));
}

DEVICE double q_at(double p) {
    double h = fma3(p, C18, C17);
    h = fma3(p, h, C16);
    h = fma3(p, h, C15);
    h = fma3(p, h, C14);
    h = fma3(p, h, C13);
    h = fma3(p, h, C12);
    h = fma3(p, h, C11);
    h = fma3(p, h, C10);
    h = fma3(p, h, C9);
    h = fma3(p, h, C8);
    h = fma3(p, h, C7);
    h = fma3(p, h, C6);
    h = fma3(p, h, C5);
    h = fma3(p, h, C4);
    h = fma3(p, h, C3);
    h = fma3(p, h, C2);
    return mul(mul(p, p), h);
}

struct Tables {
    const i64* layout;
    const double *coefficients, *bounds, *asymptotes;
    i64 width;  // of a layout row
};

DEVICE double horner(const double* row, double u) {
    double h = fma3(u, row[11], row[10]);
    for (int k = 9; k >= 0; k--) h = fma3(u, h, row[k]);
    return h;
}

// piecewise_values.table_tile at one input; `first` is the magnitude of the tile's first one.
DEVICE double table_at(double x, double first, int side, Tables t, double* bound) {
    const i64* layout = t.layout + side * t.width;
    const double* asymptote = t.asymptotes + 3 * side;
    double size = magnitude(x);
    if (first >= power(layout[1])) {
        double value = fma3(asymptote[1], x, asymptote[0]);
        *bound = first >= asymptote[2] ? add(0x1p-1000, mul(magnitude(value), 0x1p-53)) : from_bits(INFINITY_BITS);
        return value;
    }
    i64 exponent = (bits_of(first) >> 52) - 1023;
    if (exponent < layout[0]) {
        double value = horner(t.coefficients + 12 * layout[3], mul(size, power(-layout[0])));
        *bound = t.bounds[layout[3]];
        for (i64 v = 0; v < layout[2]; v++) {
            value = mul(value, size);
            *bound = mul(*bound, mul(size, 1 + 0x1p-50));
        }
        return value;
    }
    i64 at = 4 + 2 * (exponent - layout[0]);
    i64 split = layout[at], base = layout[at + 1], shift = 52 - split, bits = bits_of(size);
    i64 j = base + ((bits & 0xfffffffffffffLL) >> shift);
    double centre = from_bits(((bits >> shift) << shift) | (1LL << (shift - 1)));
    double u = mul(sub(size, centre), power(split + 1 - exponent));
    *bound = t.bounds[j];
    return horner(t.coefficients + 12 * j, u);
}

DEVICE double slot_at(i64 slot, double x, double first, int stretch, Tables t, double* bound) {
    *bound = 0;
    switch (slot) {
        case ONE: return 1.0;
        case X: return x;
        case X2: return mul(x, x);
        case X3: return mul(mul(x, x), x);
        case EXP: return exp_at(x);
        case EXPM1: return add(x, q_at(x));
        case Q: return q_at(x);
    }
    return table_at(x, first, 2 * (int)(slot - TABLE) + (stretch == POSITIVE ? 1 : 0), t, bound);
}

// first_tier.weighted_sum at one input.
DEVICE double weighted_sum(
    double x, double first, int stretch, const i64* slots, const double* weights, double relative,
    double absolute, Tables t, double* bound) {
    double s = 0, b = 0, errors[MAX_TERMS];
    for (int k = 0; k < MAX_TERMS && slots[k] >= 0; k++) {
        double term = slot_at(slots[k], x, first, stretch, t, &errors[k]);
        s = k ? fma3(weights[k], term, s) : mul(weights[k], term);
        b = k ? fma3(magnitude(weights[k]), magnitude(term), b) : magnitude(s);
    }
    b = fma3(b, relative, absolute);
    for (int k = 0; k < MAX_TERMS && slots[k] >= 0; k++)
        if (slots[k] >= TABLE) b = fma3(mul(magnitude(weights[k]), 1 + 0x1p-40), errors[k], b);
    *bound = b;
    return s;
}

// tile._judge
DEVICE double judge(double computed, double value, double bound, i64 precision, i64 emin, double* m, double* near, bool* doubtful) {
    double size = magnitude(value);
    i64 exponent = bits_of(size) >> 52;
    if (exponent < emin + 1023) exponent = emin + 1023;
    double inverse = from_bits((precision - 1 + 2046 - exponent) << 52);
    double bottom = from_bits(exponent << 52);
    double difference = mul(sub(computed, value), inverse);
    double tolerance = mul(bound, inverse);
    *near = add(tolerance, 0x1p-50);
    bool outside = (sub(size, bound) <= bottom && exponent > emin + 1023) || add(size, bound) >= mul(2, bottom);
    *m = mul(size, inverse);
    *doubtful = !(tolerance <= CERTIFIED_ULPS) || outside || magnitude(sub(magnitude(difference), 0.5)) <= *near;
    return difference;
}

// What a tile adds up of its results' rounding: a part of tile.Found.
struct Roundings {
    i64 nearest, nearest_relative, counts, below;
};

// tile._gap and one_value.rounding_code, added up as tile._count does.
DEVICE void add_rounding(
    Roundings* sums, double size, double near, bool valid, double a, bool misrounded, bool toward, bool negative, double unit) {
    double gap = sub(sub(add(size, ROUNDER), ROUNDER), size);
    if (!valid || !(magnitude(gap) < sub(0.5, near))) gap = 0;
    sums->nearest += nearest_integer(mul(gap, SUM_UNIT));
    sums->nearest_relative += nearest_integer(mul((double)divf(narrow(gap), narrow(size)), unit));
    if (magnitude(gap) > CERTIFIED_ULPS && a < WITHIN) {
        i64 code = 1 + (gap > 0 ? (i64)1 << PACKED : 0);
        if (misrounded) code += toward ? (i64)1 << 3 * PACKED : (i64)1 << 2 * PACKED;
        sums->counts += code;
        if (negative) sums->below += code;
    }
}

// adding.correct_bits
DEVICE float correct_bits(int bits) {
    float exponent = (float)((bits >> 23) - 127);
    float t = subf(from_bits32((bits & 0x7fffff) | 0x3f800000), 1.0f);
    float p = (float)-0.02579235;
    p = addf(mulf(p, t), (float)0.12147295);
    p = addf(mulf(p, t), (float)-0.27734165);
    p = addf(mulf(p, t), (float)0.45715812);
    p = addf(mulf(p, t), (float)-0.71803359);
    p = addf(mulf(p, t), (float)1.44253478);
    return -addf(mulf(p, t), exponent);
}

// monotony.moves_against
DEVICE bool moves_against(double y0, double s0, double b0, double y1, double s1, double b1, const double* fmt) {
    double step = sub(s1, s0), size = larger(magnitude(s0), magnitude(s1));
    i64 exponent = (bits_of(size) >> 52) - 1023;
    if (exponent < (i64)fmt[EMIN]) exponent = (i64)fmt[EMIN];
    if (exponent > (i64)fmt[EMAX]) exponent = (i64)fmt[EMAX];
    double ulp = from_bits((exponent + 1024 - (i64)fmt[PRECISION]) << 52);
    bool certain = magnitude(step) > add(mul(MONOTONE_ULPS, ulp), mul(add(b0, b1), 1 + 0x1p-40));
    double move = sub(y1, y0);
    return certain && ((move > 0 && step < 0) || (move < 0 && step > 0));
}

DEVICE void add_sum(i64* row, i64 column, i64 p, i64 total) {
    i64 k = column + p / 31, shift = p % 31, low = (total & LIMB) << shift, high = (total >> 31) << shift;
    atomic_add(row + k, low & LIMB);
    atomic_add(row + k + 1, (low >> 31) + (high & LIMB));
    atomic_add(row + k + 2, high >> 31);
}

DEVICE void add_pair(i64* row, i64 column, i64 total) {
    atomic_add(row + column, total & LIMB);
    atomic_add(row + column + 1, total >> 31);
}

DEVICE void add_roundings(i64* row, i64 column, i64 code) {
    for (int k = 0; k < NEGATIVE; k++) atomic_add(row + column + k, (code >> (PACKED * k)) & ((1 << PACKED) - 1));
}

// Scores tile blockIdx.x of one output.
//   x, y: inputs ascending by pattern, and computed values. patterns: of the inputs, or null where input
//   i has pattern offset + i. tiles: start, n, cell, stretch, and whether the tile before adjoins.
//   slots … pivots: of this output, by stretch, `outputs` apart. rows: shape (2·cells, COLUMNS), empty
//   but for what other tiles added. histogram: BINS. left, n_left: inputs that this tier cannot decide.
//   ends: y, s, b of the tile's first and last input. records: T_FIELDS per tile.
KERNEL score_tiles(
    const float* x, const float* y, const i64* patterns, i64 offset, const i64* tiles, i64 outputs,
    const double* fmt, const i64* slots, const double* weights, const double* relative,
    const double* absolute, const double* windows, const double* pivots, const i64* layout,
    const double* coefficients, const double* bounds, const double* asymptotes, i64 width,
    i64* rows, i64* histogram, i64* left, i64* n_left, double* ends, i64* records) {
    SHARED double s[TILE], b[TILE], error[TILE];
    SHARED float error32[TILE], size32[TILE];
    SHARED unsigned bins[BINS / 2];
    SHARED i64 place;
    const i64* tile = tiles + 5 * (i64)blockIdx.x;
    i64 start = tile[0], cell = tile[2];
    int n = (int)tile[1], stretch = (int)tile[3];
    i64 at = stretch * outputs;
    slots += at * MAX_TERMS;
    weights += at * MAX_TERMS;
    windows += at * 4;
    pivots += at * 4;
    Tables tables = {layout, coefficients, bounds, asymptotes, width};
    i64* record = records + T_FIELDS * (i64)blockIdx.x;
    if (threadIdx.x == 0) {
        record[T_ROW] = 2 * cell;
        record[T_BITS] = -1;
        record[T_PATTERN] = record[T_SIGN] = record[T_NONFINITE] = NO_PATTERN;
    }
    x += start;
    y += start;
    const i64 precision = (i64)fmt[PRECISION], emin = (i64)fmt[EMIN];
    const double max_finite = fmt[MAX_FINITE];
    const double normal = power(emin), half_subnormal = power(emin - precision);
    const double first = magnitude((double)x[0]), last = magnitude((double)x[n - 1]);
    #define PATTERN(i) (patterns ? patterns[start + (i)] : offset + start + (i))
    #define AS_BITS(v) value_bits((double)(v))

    i64 smallest_bits = INFINITY_BITS, largest_bits = 0, widest_bits = 0;
    if (slots[0] < 0) smallest_bits = 0;
    EACH(i, n) {
        if (slots[0] < 0) {
            s[i] = b[i] = 0;
            continue;
        }
        s[i] = weighted_sum((double)x[i], first, stretch, slots, weights, relative[at], absolute[at], tables, &b[i]);
        i64 size = bits_of(magnitude(s[i]));
        if (size < smallest_bits) smallest_bits = size;
        if (size > largest_bits) largest_bits = size;
        if (bits_of(b[i]) > widest_bits) widest_bits = bits_of(b[i]);
    }
    double smallest = from_bits(block_min(smallest_bits)), largest = from_bits(block_max(largest_bits));
    double widest = from_bits(block_max(widest_bits));
    __syncthreads();
    if (threadIdx.x == 0) {
        double* end = ends + 6 * (i64)blockIdx.x;
        end[0] = y[0], end[1] = s[0], end[2] = b[0];
        end[3] = y[n - 1], end[4] = s[n - 1], end[5] = b[n - 1];
    }
    // monotony.count_moves
    i64 moves = 0;
    EACH(i, n) if (i > 0) moves += moves_against(y[i - 1], s[i - 1], b[i - 1], y[i], s[i], b[i], fmt);
    moves = block_sum(moves);
    if (threadIdx.x == 0 && moves) atomic_add(rows + 2 * cell * COLUMNS + MONOTONE, moves);

    // first_tier._pivot
    double nearest = first < last ? first : last, farthest = first < last ? last : first, pivot = 0;
    i64 side = 0;
    for (int w = 0; w < 2; w++)
        if (windows[2 * w] <= nearest && farthest < windows[2 * w + 1]) {
            pivot = pivots[2 * w];
            side = (i64)pivots[2 * w + 1];
        }

    // tile.score_tile, and of it constant_tile.score_constant: infinities, the largest number, 0.
    double overflow = mul(add(mul(2, fmt[MAX_SIGNIFICAND]), 1), power((i64)fmt[EMAX] - precision));
    double high = mul(add(largest, widest), 1 + 0x1p-51), low = mul(sub(smallest, widest), 1 - 0x1p-51);
    if (low > overflow && fmt[HAS_INFINITY] != 0 && fmt[SATURATING] == 0) {
        i64* row = rows + 2 * cell * COLUMNS;
        i64 right = 0, wrong = 0, first_other = n, first_wrong = n;
        EACH(i, n) {
            double infinity = from_bits(INFINITY_BITS | (bits_of(s[i]) & (i64)0x8000000000000000ULL));
            if ((double)y[i] == infinity) {
                right++;
                continue;
            }
            if (i < first_other) first_other = i;
            if (mul((double)y[i], s[i]) < 0) {
                wrong++;
                if (i < first_wrong) first_wrong = i;
            }
        }
        right = block_sum(right), wrong = block_sum(wrong);
        first_other = block_min(first_other), first_wrong = block_min(first_wrong);
        if (threadIdx.x) return;
        atomic_add(row + N, n);
        atomic_add(row + BITS, n * precision * BITS_SCALE);
        atomic_add(row + MISROUNDED, n - right);
        atomic_add(row + NONFINITE, n - right);
        atomic_add(row + WRONG_SIGN, wrong);
        if (first_other < n) {
            record[T_NONFINITE] = PATTERN(first_other);
            record[T_NONFINITE_VALUE] = AS_BITS(y[first_other]);
        }
        if (first_wrong < n) {
            record[T_SIGN] = PATTERN(first_wrong);
            record[T_SIGN_VALUE] = AS_BITS(y[first_wrong]);
        }
        return;
    }
    if (low > overflow && fmt[SATURATING] != 0) {
        i64 other = 0;
        EACH(i, n) other += magnitude((double)y[i]) != max_finite || (bits_of((double)y[i]) ^ bits_of(s[i])) < 0;
        if (block_sum(other) == 0) {
            if (threadIdx.x) return;
            i64* row = rows + 2 * cell * COLUMNS;
            atomic_add(row + N, n);
            atomic_add(row + VALID, n);
            atomic_add(row + BITS, n * precision * BITS_SCALE);
            atomic_max(row + MAX_RELATIVE, bits_of32(narrow(power(-precision))));
            atomic_add(histogram, n);
            record[T_BITS] = 0;
            record[T_PATTERN] = PATTERN(0);
            record[T_VALUE] = AS_BITS(y[0]);
            return;
        }
    }
    i64 row_index = high > 0 && largest < normal ? 2 * cell + 1 : 2 * cell;
    i64* row = rows + row_index * COLUMNS;
    if (high == 0) {
        i64 seen = 0;
        EACH(i, n) seen |= bits_of32(y[i]) & 0x7fffffff;
        if (block_max(seen) == 0) {
            if (threadIdx.x) return;
            atomic_add(row + N, n);
            atomic_add(row + VALID, n);
            atomic_add(row + BITS, n * precision * BITS_SCALE);
            atomic_add(histogram, n);
            record[T_BITS] = 0;
            record[T_PATTERN] = PATTERN(0);
            record[T_VALUE] = AS_BITS(y[0]);
            return;
        }
    }
    // tile._straddles
    bool straddles = (smallest < normal && normal <= largest) || (low <= half_subnormal && half_subnormal <= high && largest > 0);
    straddles = straddles || (low <= 0 && !(side != 0 && pivot == 0));
    if (straddles || high >= max_finite || high == 0) {
        if (threadIdx.x == 0) place = take_places(n_left, n);
        __syncthreads();
        EACH(i, n) left[place + i] = start + i;
        return;
    }
    // tile._common_ulp
    double top = side >= 0 || largest < pivot || pivot == 0 ? largest : mul(pivot, 1 - 0x1p-53);
    i64 exponent = (bits_of(top) >> 52) - 1023;
    if (exponent < emin) exponent = emin;
    double inverse = power(precision - 1 - exponent), bottom = power(exponent), end = power(exponent + 1);
    bool above = exponent == emin || low > bottom || (side > 0 && pivot >= bottom);
    bool below = high < end || (side < 0 && 0 < pivot && pivot <= end);
    double tolerance = mul(widest, inverse);
    i64 undecided = 0, misrounded = 0, nonfinite = 0, worst = 0;
    bool uniform = above && below && tolerance <= CERTIFIED_ULPS;
    double near = add(tolerance, 0x1p-50);
    i64 known_sign = side != 0 && pivot == 0 ? bits_of((double)side) : 0;
    i64 relative_bits = precision + 16 < 60 ? precision + 16 : 60;
    double relative_unit = power(relative_bits);
    Roundings sums = {0, 0, 0, 0};
    if (uniform) {  // tile._errors_in_one_binade
        EACH(i, n) {
            double difference = mul(sub((double)y[i], s[i]), inverse), a = magnitude(difference), beyond = sub(a, 0.5);
            bool doubtful = magnitude(beyond) <= near;
            undecided += doubtful;
            misrounded += beyond > near;
            double kept = doubtful ? 0.0 : a;
            i64 sign = known_sign ? known_sign : bits_of(s[i]);
            bool toward = (bits_of(difference) ^ sign) < 0 || y[i] == 0;
            double size = larger(mul(magnitude(s[i]), inverse), FLOOR);
            float kept32 = narrow(smaller(larger(kept, FLOOR), LARGEST32));
            error[i] = toward ? -kept : kept;
            error32[i] = toward ? -kept32 : kept32;
            size32[i] = doubtful ? from_bits32(INFINITY32_BITS) : narrow(size);
            if (bits_of(kept) > worst) worst = bits_of(kept);
            add_rounding(&sums, size, near, !doubtful, a, beyond > near, toward, sign < 0, relative_unit);
        }
        worst = block_max(worst);
        uniform = worst < INFINITY_BITS;
    }
    if (!uniform) {  // tile._errors_one_by_one
        undecided = misrounded = worst = 0;
        sums = {0, 0, 0, 0};
        EACH(i, n) {
            double computed = y[i], m, its_near;
            bool doubtful, finite = magnitude(computed) <= max_finite;
            double difference = judge(computed, s[i], b[i], precision, emin, &m, &its_near, &doubtful), a = magnitude(difference);
            bool valid = finite && !doubtful;
            undecided += doubtful;
            misrounded += !doubtful && (a > 0.5 || !finite);
            nonfinite += !doubtful && !finite;
            double kept = valid ? a : 0.0;
            i64 sign = known_sign ? known_sign : bits_of(s[i]);
            bool toward = (bits_of(difference) ^ sign) < 0 || computed == 0;
            double size = larger(m, FLOOR);
            float kept32 = finite || doubtful ? narrow(smaller(larger(kept, FLOOR), LARGEST32)) : from_bits32(INFINITY32_BITS);
            error[i] = toward ? -kept : kept;
            error32[i] = toward ? -kept32 : kept32;
            size32[i] = doubtful ? from_bits32(INFINITY32_BITS) : narrow(size);
            if (bits_of(kept) > worst) worst = bits_of(kept);
            add_rounding(&sums, size, its_near, valid, a, a > 0.5, toward, sign < 0, relative_unit);
        }
        worst = block_max(worst);
    }
    undecided = block_sum(undecided), misrounded = block_sum(misrounded), nonfinite = block_sum(nonfinite);
    sums.nearest = block_sum(sums.nearest), sums.nearest_relative = block_sum(sums.nearest_relative);
    sums.counts = block_sum(sums.counts), sums.below = block_sum(sums.below);
    if (undecided) EACH(i, n) if (is_infinite32(size32[i])) left[take_places(n_left, 1)] = start + i;
    // tile._keep_witnesses, _count_signs and _count_zero_signs
    i64 first_nonfinite = n, first_worst = n, first_wrong = n, wrong = 0, zero_sign = 0;
    bool look_at_signs = largest > half_subnormal && (nonfinite || from_bits(worst) >= 0.5);
    EACH(i, n) {
        double computed = y[i];
        bool finite = magnitude(computed) <= max_finite, decided = !is_infinite32(size32[i]);
        if (!finite && is_infinite32(error32[i]) && i < first_nonfinite) first_nonfinite = i;
        if (decided && finite && bits_of(magnitude(error[i])) == worst && i < first_worst) first_worst = i;
        if (look_at_signs && decided && magnitude32(error32[i]) >= 0.5f && mul(computed, s[i]) < 0) {
            wrong++;
            if (i < first_wrong) first_wrong = i;
        }
        if (low <= half_subnormal) {
            double value = side != 0 && pivot == 0 ? (double)side : s[i];
            bool opposite = (bits_of(computed) ^ bits_of(value)) < 0;
            zero_sign += computed == 0 && opposite && magnitude(error[i]) < 0.5 && magnitude(value) > b[i] && decided;
        }
    }
    first_nonfinite = block_min(first_nonfinite), first_worst = block_min(first_worst);
    first_wrong = block_min(first_wrong), wrong = block_sum(wrong), zero_sign = block_sum(zero_sign);

    // tile_sums.sum_errors
    i64 scale = (worst >> 52) - 1023 - 30;
    if (scale < 0) scale = 0;
    double unit = power(SUM_BITS - scale);
    i64 total = 0, signed_total = 0, squares = 0;
    EACH(i, n) {
        double a = magnitude(error[i]), squared = smaller(a, CLIP);
        i64 units = nearest_integer(mul(a, unit));
        total += units;
        signed_total += error[i] < 0 ? -units : units;
        squares += nearest_integer(mul(mul(squared, squared), SUM_UNIT));
    }
    total = block_sum(total), signed_total = block_sum(signed_total), squares = block_sum(squares);

    // tile_sums.count_bins
    bool one_bin = from_bits(worst) < 0x1p-12 && nonfinite == 0;
    if (!one_bin) {
        EACH(i, BINS / 2) bins[i] = 0;
        __syncthreads();
        EACH(i, n) {
            int bin = (bits_of32(magnitude32(error32[i])) >> BIN_SHIFT) - BIN_BASE;
            bin = bin < 0 ? 0 : bin > BINS - 1 ? BINS - 1 : bin;
            atomic_add32(bins + (bin >> 1), bin & 1 ? 65536u : 1u);
        }
        __syncthreads();
        EACH(i, BINS / 2) if (bins[i]) {
            atomic_add(histogram + 2 * i, bins[i] & 65535u);
            atomic_add(histogram + 2 * i + 1, bins[i] >> 16);
        }
    }
    // tile_sums.sum_relative
    const float least = narrow(power(-precision));
    int largest_relative = 0;
    i64 relative_sum = 0, relative_squares = 0;
    EACH(i, n) {
        float size = magnitude32(error32[i]), ratio = divf(size, size32[i]), relative32 = ratio;
        bool counts = (size > narrow(FLOOR) || size32[i] <= narrow(FLOOR)) && !is_infinite32(size);
        double share = counts ? (double)(ratio < 1.0f ? ratio : 1.0f) : 0.0;
        i64 units = nearest_integer(mul(share, relative_unit));
        relative_sum += error32[i] < 0 ? -units : units;
        double scaled = smaller(mul(share, power(precision)), CLIP);
        relative_squares += nearest_integer(mul(mul(scaled, scaled), SUM_UNIT));
        relative32 = relative32 < least ? least : relative32;
        relative32 = relative32 > 1.0f ? 1.0f : relative32;
        error32[i] = relative32;
        if (bits_of32(relative32) > largest_relative) largest_relative = bits_of32(relative32);
    }
    largest_relative = (int)block_max(largest_relative);
    relative_sum = block_sum(relative_sum), relative_squares = block_sum(relative_squares);
    __syncthreads();
    // tile_sums.sum_bits
    int quarter = n >> 2;
    i64 correct = 0;
    EACH(i, quarter) {
        float product = mulf(mulf(error32[i], error32[quarter + i]), mulf(error32[2 * quarter + i], error32[3 * quarter + i]));
        correct += (int)addf(mulf(correct_bits(bits_of32(product)), (float)BITS_SCALE), 0.5f);
    }
    EACH(k, n - 4 * quarter) correct += (int)addf(mulf(correct_bits(bits_of32(error32[4 * quarter + k])), (float)BITS_SCALE), 0.5f);
    correct = block_sum(correct);

    // tile._add, and what the stages above added there
    if (threadIdx.x) return;
    atomic_add(row + N, n - undecided);
    atomic_add(row + VALID, n - undecided - nonfinite);
    atomic_add(row + MISROUNDED, misrounded);
    atomic_add(row + NONFINITE, nonfinite);
    atomic_add(row + WRONG_SIGN, wrong);
    atomic_add(row + ZERO_SIGN, zero_sign);
    add_sum(row, SUMS, scale, total);
    add_sum(row, AWAY_SUMS, scale, (total + signed_total) >> 1);
    add_pair(row, SQUARES, squares);
    add_pair(row, RELATIVE, relative_sum);
    add_pair(row, RELATIVE_SQUARES, relative_squares);
    add_pair(row, NEAREST, sums.nearest);
    add_pair(row, NEAREST_RELATIVE, sums.nearest_relative);
    add_roundings(row, INEXACT, sums.counts - sums.below);
    add_roundings(row, INEXACT + NEGATIVE, sums.below);
    atomic_add(row + BITS, correct - undecided * precision * BITS_SCALE);
    atomic_max(row + MAX_RELATIVE, largest_relative);
    if (one_bin) atomic_add(histogram, n);
    atomic_add(histogram, -undecided);
    atomic_add(histogram + BINS - 1, -nonfinite);
    record[T_ROW] = row_index;
    if (nonfinite) {
        record[T_NONFINITE] = PATTERN(first_nonfinite);
        record[T_NONFINITE_VALUE] = AS_BITS(y[first_nonfinite]);
    }
    if (undecided + nonfinite < n) {
        record[T_BITS] = worst;
        record[T_PATTERN] = PATTERN(first_worst);
        record[T_VALUE] = AS_BITS(y[first_worst]);
    }
    if (wrong) {
        record[T_SIGN] = PATTERN(first_wrong);
        record[T_SIGN_VALUE] = AS_BITS(y[first_wrong]);
    }
}

// Of all tiles of a row: the largest error, of equal ones the smallest pattern, and the first witnesses.
// Three passes, each over all tiles, with `stage` 0, 1 and 2; stage 0 also judges steps between tiles.
KERNEL settle(
    i64 n_tiles, const i64* tiles, const double* ends, const double* fmt, const i64* records, i64* rows, i64 stage) {
    i64 t = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (t >= n_tiles) return;
    const i64* record = records + T_FIELDS * t;
    i64* row = rows + record[T_ROW] * COLUMNS;
    if (stage == 0) {
        if (record[T_BITS] >= 0) atomic_max(row + MAX_ERROR, record[T_BITS]);
        atomic_min(row + SIGN_PATTERN, record[T_SIGN]);
        atomic_min(row + NONFINITE_PATTERN, record[T_NONFINITE]);
        if (tiles[5 * t + 4]) {
            const double *before = ends + 6 * (t - 1), *here = ends + 6 * t;
            if (moves_against(before[3], before[4], before[5], here[0], here[1], here[2], fmt))
                atomic_add(rows + 2 * tiles[5 * t + 2] * COLUMNS + MONOTONE, 1);
        }
    } else if (stage == 1) {
        if (record[T_BITS] >= 0 && record[T_BITS] == row[MAX_ERROR]) atomic_min(row + MAX_PATTERN, record[T_PATTERN]);
    } else {
        if (record[T_BITS] == row[MAX_ERROR] && record[T_PATTERN] == row[MAX_PATTERN]) row[MAX_VALUE] = record[T_VALUE];
        if (record[T_SIGN] != NO_PATTERN && record[T_SIGN] == row[SIGN_PATTERN]) row[SIGN_VALUE] = record[T_SIGN_VALUE];
        if (record[T_NONFINITE] != NO_PATTERN && record[T_NONFINITE] == row[NONFINITE_PATTERN])
            row[NONFINITE_VALUE] = record[T_NONFINITE_VALUE];
    }
}
