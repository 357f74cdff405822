"""The kinds of faults a kernel can have: one word for machines, one sentence for people."""

from __future__ import annotations

ACCURACY = {
    "inaccurate": "an error larger than the bound",
    "wrong_sign": "a result of the opposite sign",
    "nonfinite": "a NaN or an infinity where there should be a number, or the reverse",
    "flushes_subnormals": "subnormal inputs or results taken for zero",
    "zero_sign": "a zero of the wrong sign, where the bound asks for the right one",
    "biased": "a rounding that leans to one side",
    "undecided": "inputs that the oracle could not decide",
    "breaks_law": "a law of the function broken for some parameters",
    "worse_than": "less accurate than the implementation it is held against",
}

RUNNING = {
    "raised": "an exception",
    "wrong_shape": "a result of another shape than the input",
    "wrong_dtype": "a result of another dtype than the input, or no tensor at all",
    "wrong_device": "a result on another device than the input",
    "not_differentiable": "a gradient that autograd cannot reach",
    "not_finite_parameters": "parameter values that the kernel cannot be given",
    "missing_dependency": "a library that is not installed",
    "alters_environment": "floating-point or torch's switches changed for the whole process",
    "crashed": "the process died, or its GPU context",
    "device_lost": "not measured: another kernel had destroyed the GPU's context in this process",
    "unsupported_device": "a device that lacks what the kernel needs",
    "disturbs_report": "something written where the lab's own report goes",
    "hung": "no answer within the time limit",
    "out_of_memory": "memory ran out: the device's, or the system killed the process",
}

ENGINEERING = {
    "refuses_lengths": "a number of elements refused that no contract excludes",
    "refuses_shapes": "a shape refused that no contract excludes",
    "depends_on_length": "a result that depends on how many elements there are",
    "depends_on_position": "a result that depends on the place in the tensor or in memory",
    "misreads_strides": "an input that is not contiguous read as if it were",
    "misreads_upstream": "an upstream gradient that is not contiguous read as if it were",
    "ignores_upstream": "a gradient that does not scale with the upstream gradient",
    "loses_nonfinite": "a NaN or infinite upstream gradient that does not arrive",
    "misreads_operand": "an operand beside x read from the wrong place",
    "training_step_differs": "wrong where x and parameters require gradients together, as in training",
    "not_deterministic": "different results for the same call",
    "writes_input": "an argument overwritten",
    "overwrites_result": "an earlier result overwritten by a later call or by its own backward",
    "writes_outside": "memory before or behind a tensor overwritten",
    "reads_outside": "a result that depends on what lies before or behind an argument",
    "unwritten_output": "elements of the result that are never written",
    "stale_parameters": "parameter values of an earlier call",
    "reduction_incomplete": "elements missing from, or counted twice in, a parameter's gradient",
    "reduction_inaccurate": "a parameter's gradient that loses accuracy in its sum",
    "depends_on_grad_mode": "a forward result that depends on whether gradients are recorded",
    "depends_on_compilation": "accurate in eager mode and not under torch.compile",
}

KINDS = {**ACCURACY, **RUNNING, **ENGINEERING}
