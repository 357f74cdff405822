// xIELU forward and backward in CUDA C++ as published kernels have it: FP32 inside, or in the packed
// arithmetic of two bf16 or fp16 numbers. Compiled at run time, once with IEEE arithmetic and once with
// fast math; these are under test.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

typedef long long i64;

__device__ static inline float widen(float v) { return v; }
__device__ static inline float widen(__half v) { return __half2float(v); }
__device__ static inline float widen(__nv_bfloat16 v) { return __bfloat162float(v); }
__device__ static inline void narrow(float v, float* to) { *to = v; }
__device__ static inline void narrow(float v, __half* to) { *to = __float2half_rn(v); }
__device__ static inline void narrow(float v, __nv_bfloat16* to) { *to = __float2bfloat16_rn(v); }

// Parameters are one element each (step 0) or one per element (step 1), in the dtype of x.
template <typename T, bool EXPM1>
__device__ static void forward(const T* x, T* y, const T* p, const T* q, const T* b, i64 step, i64 n) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = widen(x[i]), ap = widen(p[i * step]), an = widen(q[i * step]), be = widen(b[i * step]);
    float g = EXPM1 ? expm1f(v) : expf(v) - 1.0f;
    narrow(v > 0.0f ? ap * v * v + be * v : an * g - an * v + be * v, y + i);
}

template <typename T, bool EXPM1>
__device__ static void backward(
    const T* dy, const T* x, const T* p, const T* q, const T* b, T* dx, T* dp, T* dn, T* db, i64 step, i64 n) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float u = widen(dy[i]), v = widen(x[i]), ap = widen(p[i * step]), an = widen(q[i * step]), be = widen(b[i * step]);
    float g = EXPM1 ? expm1f(v) : expf(v) - 1.0f;
    narrow(u * (v > 0.0f ? 2.0f * ap * v + be : an * g + be), dx + i);
    narrow(v > 0.0f ? u * v * v : 0.0f, dp + i);
    narrow(v > 0.0f ? 0.0f : u * (g - v), dn + i);
    narrow(u * v, db + i);
}

#define SCALAR(T, name, EXPM1)                                                                             \
    extern "C" __global__ void name##_forward(                                                             \
        const T* x, T* y, const T* p, const T* q, const T* b, i64 step, i64 n) {                           \
        forward<T, EXPM1>(x, y, p, q, b, step, n);                                                         \
    }                                                                                                      \
    extern "C" __global__ void name##_backward(                                                            \
        const T* dy, const T* x, const T* p, const T* q, const T* b, T* dx, T* dp, T* dn, T* db, i64 step, \
        i64 n) {                                                                                           \
        backward<T, EXPM1>(dy, x, p, q, b, dx, dp, dn, db, step, n);                                       \
    }

SCALAR(float, naive_fp32, false)
SCALAR(__half, naive_fp16, false)
SCALAR(__nv_bfloat16, naive_bf16, false)
SCALAR(float, expm1_fp32, true)
SCALAR(__half, expm1_fp16, true)
SCALAR(__nv_bfloat16, expm1_bf16, true)

// Two numbers at a time, every operation rounded to the storage format: products and sums without _rn in
// their names would be fused. `n` counts pairs; parameters are pairs too.
#define PACKED(T, name, ZERO)                                                                              \
    extern "C" __global__ void name##_forward(                                                             \
        const T* x, T* y, const T* p, const T* q, const T* b, i64 step, i64 n) {                           \
        i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;                                                \
        if (i >= n) return;                                                                                \
        T v = x[i], an = q[i * step], linear = __hmul2_rn(b[i * step], v);                                 \
        T above = __hadd2_rn(__hmul2_rn(__hmul2_rn(p[i * step], v), v), linear);                           \
        T g = __hsub2_rn(h2exp(v), ZERO(1.0f));                                                            \
        T below = __hadd2_rn(__hsub2_rn(__hmul2_rn(an, g), __hmul2_rn(an, v)), linear);                    \
        T positive = __hgt2(v, ZERO(0.0f));                                                                \
        y[i].x = (float)positive.x != 0.0f ? above.x : below.x;                                            \
        y[i].y = (float)positive.y != 0.0f ? above.y : below.y;                                            \
    }                                                                                                      \
    extern "C" __global__ void name##_backward(                                                            \
        const T* dy, const T* x, const T* p, const T* q, const T* b, T* dx, T* dp, T* dn, T* db, i64 step, \
        i64 n) {                                                                                           \
        i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;                                                \
        if (i >= n) return;                                                                                \
        T u = dy[i], v = x[i], be = b[i * step], zero = ZERO(0.0f);                                        \
        T above = __hadd2_rn(__hmul2_rn(__hmul2_rn(ZERO(2.0f), p[i * step]), v), be);                      \
        T g = __hsub2_rn(h2exp(v), ZERO(1.0f));                                                            \
        T below = __hadd2_rn(__hmul2_rn(q[i * step], g), be);                                              \
        T square = __hmul2_rn(u, __hmul2_rn(v, v)), rest = __hmul2_rn(u, __hsub2_rn(g, v));                \
        T positive = __hgt2(v, zero);                                                                      \
        bool first = (float)positive.x != 0.0f, second = (float)positive.y != 0.0f;                        \
        T slope = below;                                                                                   \
        if (first) slope.x = above.x;                                                                      \
        if (second) slope.y = above.y;                                                                     \
        dx[i] = __hmul2_rn(u, slope);                                                                      \
        dp[i].x = first ? square.x : zero.x, dp[i].y = second ? square.y : zero.y;                         \
        dn[i].x = first ? zero.x : rest.x, dn[i].y = second ? zero.y : rest.y;                             \
        db[i] = __hmul2_rn(u, v);                                                                          \
    }

PACKED(__half2, packed_fp16, __float2half2_rn)
PACKED(__nv_bfloat162, packed_bf16, __float2bfloat162_rn)
