"""Edges of parameter space, at which stable kernels are tried in the interpreter and as compiled."""

EDGES: tuple[dict[str, float], ...] = (
    {"alpha_p": 3.0, "alpha_n": 0.5, "beta": 0.5},  # β = α_n: the linear part vanishes
    {"alpha_p": 0.1, "alpha_n": 200.0, "beta": 0.5},  # roots close to 0
    {"alpha_p": 0.5, "alpha_n": 0.5078125, "beta": 0.5},  # roots far out
    {"alpha_p": 1.0, "alpha_n": 1.0, "beta": 0.0},
    {"alpha_p": 0.25, "alpha_n": 0.75, "beta": -0.5},  # a root at x > 0
)
