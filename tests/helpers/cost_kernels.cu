// Kernels whose cost is known: what each of them executes for an element can be counted by hand.

extern "C" __global__ void silu(const float* x, float* y, long long n) {
    long long k = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (k < n) y[k] = x[k] / (1.0f + __expf(-x[k]));
}

extern "C" __global__ void silu_backward(const float* dy, const float* x, float* dx, long long n) {
    long long k = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (k < n) {
        float s = 1.0f / (1.0f + expf(-x[k]));
        dx[k] = dy[k] * (s + x[k] * s * (1.0f - s));
    }
}

// precision_lab: strided(x, y, n) block=256 grid=1024
extern "C" __global__ void strided(const float* x, float* y, long long n) {
    for (long long k = blockIdx.x * (long long)blockDim.x + threadIdx.x; k < n; k += gridDim.x * (long long)blockDim.x) {
        float z = fmaxf(x[k], 0.0f);
        y[k] = z * z;
    }
}
