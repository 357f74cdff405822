"""torch's own functions, under the names and with the parameters of `strangers`."""

import torch
from torch.nn import functional as F


def hardswish(x):
    return F.hardswish(x)


def hardsigmoid(x):
    return F.hardsigmoid(x)


def hardtanh(x, low, high):
    return F.hardtanh(x, low, high)


def relu6(x):
    return F.relu6(x)


def leaky_relu(x, slope):
    return F.leaky_relu(x, slope)


def elu_alpha(x, alpha):
    return F.elu(x, alpha)


def celu_alpha(x, alpha):
    return F.celu(x, alpha)


def selu_two(x, scale, alpha):
    return F.selu(x)


def gelu_tanh_written(x):
    return F.gelu(x, approximate="tanh")


def silu_written(x):
    return F.silu(x)


def mish_written(x):
    return F.mish(x)


def softplus_beta(x, beta, threshold):
    return F.softplus(x, beta, threshold)


def softsign(x):
    return F.softsign(x)


def tanhshrink(x):
    return F.tanhshrink(x)


def softshrink(x, lambd):
    return F.softshrink(x, lambd)


def hardshrink(x, lambd):
    return F.hardshrink(x, lambd)


def threshold(x, threshold, value):
    return F.threshold(x, threshold, value)


def logsigmoid_written(x):
    return F.logsigmoid(x)


def rrelu(x, lower, upper):
    return F.rrelu(x, lower, upper, training=False)


def glu(x, b):
    return F.glu(torch.stack((x, b.expand_as(x)), -1), -1).squeeze(-1)


def swish(x, beta):
    return x * torch.sigmoid(beta * x)


def snake(x, alpha):
    return x + torch.sin(alpha * x) ** 2 / alpha


def star_relu(x, s, b):
    return s * F.relu(x) ** 2 + b


def softcap(x, cap):
    return cap * torch.tanh(x / cap)


def log1p(x):
    return torch.log1p(x)


def rsqrt(x):
    return torch.rsqrt(x)


def gpt_oss_swiglu(x, b, alpha, limit):
    x = x.clamp(max=limit)
    return x * torch.sigmoid(alpha * x) * (b.clamp(-limit, limit) + 1)


def squareplus(x, b):
    return (x + torch.sqrt(x**2 + b)) / 2
