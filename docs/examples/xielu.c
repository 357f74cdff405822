/* xIELU and its derivative for FP32 buffers, double inside, one rounding.
   cc -O2 -shared -fPIC xielu.c -o xielu.so -lm */
#include <math.h>
#include <stddef.h>

static double growth(double x) { /* eˣ − 1 − x, from its series where that cancels */
    if (x < -0.5) return expm1(x) - x;
    double s = 0;
    for (int k = 18; k > 2; k--) s = (1 + s) * x / k;
    return (1 + s) * x * x / 2;
}

void xielu(const float *x, float *y, size_t n, float p, float q, float b) {
    for (size_t i = 0; i < n; i++) {
        double v = x[i];
        y[i] = v > 0 ? v * (p * v + b) : v < -745 ? (v * ((double)b - q)) - q : q * growth(v) + b * v;
    }
}

void xielu_grad_x(const float *x, const float *up, float *dx, size_t n, float p, float q, float b) {
    for (size_t i = 0; i < n; i++) {
        double v = x[i];
        dx[i] = up[i] * (v > 0 ? 2 * (double)p * v + b : q * expm1(v) + b);
    }
}
