"""Functions as a user writes them who has read torch's documentation and nothing else of the lab.

Branches are as torch's kernels take them, so that gradients at breakpoints are torch's. Loaded by tests as
FILE:NAME.
"""

import precision_lab as pl
from precision_lab.math import (
    absolute,
    clamp,
    exp,
    expm1,
    log,
    maximum,
    minimum,
    pi,
    piecewise,
    relu,
    sigmoid,
    sin,
    sqrt,
    tanh,
    where,
)
from precision_lab.math import (
    log1p as log_of_one_plus,
)
from precision_lab.math import (
    rsqrt as inverse_root,
)
from precision_lab.math import (
    softplus as smooth,
)


@pl.activation
def hardswish(x):
    return where(x <= -3, 0, where(x >= 3, x, x * (x + 3) / 6))


@pl.activation
def hardsigmoid(x):
    return where(x <= -3, 0, where(x >= 3, 1, x / 6 + 0.5))


@pl.activation(low=-1.0, high=1.0)
def hardtanh(x, low, high):
    return where(x <= low, low, where(x >= high, high, x))


@pl.activation
def relu6(x):
    return minimum(6, maximum(0, x))  # of two equal ones the first counts: no slope at 0 and 6


@pl.activation(slope=0.01)
def leaky_relu(x, slope):
    return where(x > 0, x, slope * x)


@pl.activation(alpha=1.25)
def elu_alpha(x, alpha):
    return where(x > 0, x, alpha * (exp(x) - 1))


@pl.activation(alpha=1.5, positive=("alpha",))
def celu_alpha(x, alpha):
    return where(x > 0, x, alpha * (exp(x / alpha) - 1))


@pl.activation(scale=1.0507009873554805, alpha=1.6732632423543772)
def selu_two(x, scale, alpha):
    return scale * where(x > 0, x, alpha * expm1(x))


@pl.activation
def gelu_tanh_written(x):
    return 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))


@pl.activation
def silu_written(x):
    return x / (1 + exp(-x))


@pl.activation
def mish_written(x):
    return x * tanh(log(1 + exp(x)))


@pl.activation(beta=2.0, threshold=20.0, positive=("beta",), fixed=("threshold",))
def softplus_beta(x, beta, threshold):
    return smooth(x, beta, threshold)


@pl.activation
def softsign(x):
    return x / (1 + absolute(x))


@pl.activation
def tanhshrink(x):
    return x - tanh(x)


@pl.activation(lambd=0.5)
def softshrink(x, lambd):
    return piecewise((x > lambd, x - lambd), (x < -lambd, x + lambd), otherwise=0)


@pl.activation(lambd=0.5)
def hardshrink(x, lambd):
    return where((x > lambd) | (x < -lambd), x, 0)


@pl.activation(threshold=0.1, value=20.0)
def threshold(x, threshold, value):
    return where(x > threshold, x, value)


@pl.activation
def logsigmoid_written(x):
    return log(1 / (1 + exp(-x)))


@pl.activation(lower=1 / 8, upper=1 / 3)
def rrelu(x, lower, upper):
    return where(x >= 0, x, x * (lower + upper) / 2)


@pl.activation(operands=("b",))
def glu(x, b):
    return x * sigmoid(b)


@pl.activation(beta=1.702)
def swish(x, beta):
    return x * sigmoid(beta * x)


@pl.activation(alpha=1.0)
def snake(x, alpha):
    return x + sin(alpha * x) ** 2 / alpha


@pl.activation(s=0.8944, b=-0.4472)
def star_relu(x, s, b):
    return s * relu(x) ** 2 + b


@pl.activation(cap=50.0)
def softcap(x, cap):
    return cap * tanh(x / cap)


@pl.activation
def log1p(x):
    return log_of_one_plus(x)


@pl.activation
def rsqrt(x):
    return inverse_root(x)


@pl.activation(operands=("b",), alpha=1.702, limit=7.0)
def gpt_oss_swiglu(x, b, alpha, limit):
    x = minimum(x, limit)
    return x * sigmoid(alpha * x) * (clamp(b, -limit, limit) + 1)


@pl.activation(b=4.0, positive=("b",))
def squareplus(x, b):
    return (x + sqrt(x**2 + b)) / 2
