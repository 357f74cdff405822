"""Figures of arXiv 2411.13010, *Deriving Activation Functions Using Integration*, beside which ours are set.

They are of the paper's machines and models: compare ratios and orders, never figures with ours.
Table 3, downstream tasks of a model of 3 billion parameters, has nothing of the lab's beside it.
"""

from __future__ import annotations

# Table 1, a Llama MLP block under torch.compile: milliseconds per iteration, and the ratio to SiLU's.
BLOCK_TIMES = {
    "relu2": (534, 0.989),
    "silu": (540, 1.0),
    "xiprelu": (542, 1.004),
    "gelu": (544, 1.007),
    "swiglu": (549, 1.017),
    "xielu": (560, 1.037),
}

# The share of the GPU's memory that every one of those blocks took, in percent.
BLOCK_MEMORY = 87

# Table 2, trained on FineWeb-Edu with 1.1 billion parameters: loss and its ± after 125 billion tokens.
LOSSES = {
    "xielu": (2.323, 0.004),
    "xiprelu": (2.327, 0.004),
    "relu2": (2.337, 0.004),
    "swiglu": (2.353, 0.004),
}
# The same with 3.0 billion parameters.
LOSSES_3B = {"xielu": (2.258, 0.003), "swiglu": (2.273, 0.003)}

# Table 4, 1.1 billion parameters on 4 billion tokens: perplexity, to two decimals and without any ±.
ABLATIONS = {
    "xielu": 17.52,
    "xiprelu": 17.52,
    "swiglu": 17.58,
    "xielu_cubic": 17.75,
    "xielu_neg_xsilu": 17.84,
    "xielu_trainable_beta": 17.88,
    "xiprelu_fixed_alpha": 17.91,
    "xsilu": 17.91,
    "relu2": 18.12,
    "xielu_fixed_alpha": 18.15,
    "xielu_neg_silu": 18.18,
    "xielu_neg_zero": 18.40,
    "silu": 18.57,
}

# Section 3.5, operations of one element, forward.
OPERATIONS = {
    "xielu": "1 exp, 4 mul, 4 add, 1 select",
    "gelu_tanh": "2 exp, 6 mul, 4 add, 1 div",
    "silu": "1 exp, 2 mul, 1 add, 1 div",
    "xiprelu": "those of ReLU², 3 mul, 1 add",
}
