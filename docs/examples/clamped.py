"""xIELU as it is deployed: expm1 of min(x, eps), so that eˣ − 1 − x never cancels at 0."""

import torch


def xielu(x, alpha_p, alpha_n, beta):
    eps = torch.tensor(-1e-6, dtype=x.dtype)
    negative = (torch.expm1(torch.min(x, eps)) - x) * alpha_n + beta * x
    return torch.where(x > 0, alpha_p * x * x + beta * x, negative)
