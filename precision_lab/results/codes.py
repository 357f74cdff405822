"""Every code that a finding can have: what it says, how bad it is, what to do next. To add one, add it here.

The words of `next_step` may name {output}, {fmt} and {region}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from precision_lab.results.severity import Rule, Severity, by_difference, by_inputs

CRITICAL, MAJOR, MINOR, NOTE = Severity


@dataclass(frozen=True)
class Code:
    """One code.

    Attributes:
        sentence: what was found, for people.
        severity: on the scale, or the rule that finds it from a finding's facts.
        next_step: what the kernel's author should do next.
        by_region: the same for single regions, where more is known.
    """

    sentence: str
    severity: Rule
    next_step: str
    by_region: Mapping[str, str] = field(default_factory=dict)


_CANCELS_AT_ZERO = (
    "Near 0 the usual cause is a difference whose terms cancel: replay it to see the bits that exp(x) − 1 "
    "and expm1(x) lose. expm1 does not cure eˣ − 1 − x and the like: sum the series of what is left."
)
_CANCELS_AT_ROOT = (
    "Beside its root {output} cancels: compute it in wider arithmetic and round once, or bound the region in "
    "a bound file (regions.{region})."
)
_NEAR = {
    **dict.fromkeys(("zero", "subnormal_input", "eps_zone", "near_zero_negative"), _CANCELS_AT_ZERO),
    **dict.fromkeys(("root_forward", "root_gradient"), _CANCELS_AT_ROOT),
    "far_tail": (
        "In the far tail {output} is small: form it without a difference of larger terms and without a "
        "factor that underflows early, or bound the region in a bound file (regions.{region})."
    ),
    "subnormal_result": (
        "Exact results are subnormal there: round to {fmt} once, at the end, or bound the region in a bound "
        "file (regions.{region})."
    ),
}
_READS_STRIDES = (
    "Read it by its strides, or call contiguous() on it in the kernel's wrapper before its memory is used."
)

_TAIL = "Check bounds of loops and masks where the number of elements is no multiple of a block or a vector."

ACCURACY = {
    "inaccurate": Code(
        "an error larger than the bound", by_inputs,
        "Compute {output} in wider arithmetic and round to {fmt} once, at the end; replay the input to see "
        "the error of every registered formulation.", _NEAR,
    ),
    "wrong_sign": Code(
        "a result of the opposite sign", by_inputs,
        "Replay the input and follow it through the branch, clamp or difference that {output} takes there.",
        dict.fromkeys(("eps_zone", "near_zero_negative"), _CANCELS_AT_ZERO),
    ),
    "nonfinite": Code(
        "a NaN or an infinity where there should be a number, or the reverse", by_inputs,
        "Replay the input and look for ∞ − ∞, 0 · ∞ or a power that overflows; take the limit of {output} "
        "there, or evaluate its branches only where they are selected.",
    ),
    "flushes_subnormals": Code(
        "subnormal inputs or results taken for zero", MINOR,
        "Compile without flushing (-ffast-math, ftz), or accept it in a bound file (flush_subnormals).",
    ),
    "zero_sign": Code(
        "a zero of the wrong sign, where the bound asks for the right one", MINOR,
        "Keep the sign of x where {output} is zero: -0 is lost by adding 0 and by comparing x with 0.",
    ),
    # Neither a wrong number nor a tail: an ulp that adds up over many steps.
    "biased": Code(
        "a rounding that leans to one side", MINOR,
        "Round to nearest, ties to even, where {fmt} is stored; look for a cast that truncates.",
    ),
    "depends_on_device": Code(
        "inputs whose results are within the bound on one device and not on another", NOTE,
        "Measure it on the device in question (--device cuda), or compute {output} without the instruction "
        "that is named.",
    ),
    "undecided": Code(
        "inputs that the oracle could not decide", NOTE,
        "Nothing is known of these inputs: report them to the lab, with the replay.",
    ),
    # The parameters are drawn, so that only the law is known and no region.
    "breaks_law": Code(
        "a law of the function broken for some parameters", MAJOR,
        "Verify the kernel at the parameters of the message (--param) and follow what is found there.",
    ),
    "worse_than": Code(
        "less accurate than the implementation it is held against", by_inputs,
        "Replay the input, which shows both, and take over what the better one does there.", _NEAR,
    ),
}  # fmt: skip

RUNNING = {
    "raised": Code(
        "an exception", MAJOR, "Call the kernel as the message says and mend what it raises."
    ),
    "wrong_shape": Code(
        "a result of another shape than the input", MAJOR, "Give {output} the shape of x."
    ),
    "wrong_dtype": Code(
        "a result of another dtype than the input, or no tensor at all", MAJOR,
        "Return {output} as a tensor of x's dtype: cast once, at the end.",
    ),
    "wrong_device": Code(
        "a result on another device than the input", MAJOR, "Allocate results on x's device."
    ),
    "not_differentiable": Code(
        "a gradient that autograd cannot reach", MAJOR,
        "Keep the graph: no detach(), item() or in-place result; or leave this output out (--output).",
    ),
    "not_finite_parameters": Code(
        "parameter values that the kernel cannot be given", NOTE,
        "Choose parameters whose raw values exist in {fmt}, or give them in a wider dtype.",
    ),
    "missing_dependency": Code(
        "a library that is not installed", NOTE, "Install what the message names and verify again."
    ),
    # Every other kernel of the process computes differently from then on.
    "alters_environment": Code(
        "floating-point or torch's switches changed for the whole process", MAJOR,
        "Do not set process-wide switches, or put them back before returning; build libraries without "
        "-ffast-math at link time.",
    ),
    "crashed": Code(
        "the process died, or its GPU context", CRITICAL,
        "Run the call of the message under a debugger (gdb, valgrind, compute-sanitizer).",
    ),
    "device_lost": Code(
        "not measured: another kernel had destroyed the GPU's context in this process", NOTE,
        "Mend or leave out the kernel that crashed, and verify this one again in a fresh process.",
    ),
    "unsupported_device": Code(
        "a device that lacks what the kernel needs", NOTE, "Verify it on a device that has what is named."
    ),
    # On an emulated device, what a sanitizer sees.
    "out_of_bounds": Code(
        "memory read or written outside of every allocation", CRITICAL,
        "Mask the access at the named line by the number of elements.",
    ),
    "misaligned": Code(
        "an access at an address that is no multiple of its size", CRITICAL,
        "Read single elements, or copy to aligned memory, where a view may begin anywhere.",
    ),
    "unwritten_read": Code(
        "memory read that nobody has written", CRITICAL,
        "Write or zero the buffer of the named line before it is read, its tail included.",
    ),
    "race": Code(
        "two threads at one place in memory, one of which writes, with no order between them", CRITICAL,
        "Give each thread its own elements, use an atomic operation, or put a barrier between the two.",
    ),
    "divergent_barrier": Code(
        "a barrier or shuffle that a part of its threads never reaches", CRITICAL,
        "Take the barrier out of the branch, or let all threads take the same one.",
    ),
    "endless_loop": Code(
        "a loop with no end in sight", CRITICAL, "Look at what ends the loop of the named line."
    ),
    "unsupported_instruction": Code(
        "not measured: an instruction, or a way to launch, that is not emulated", NOTE,
        "Measure it on a real device (--device cuda), or compile for a target without that instruction.",
    ),
    "not_emulated": Code(
        "not measured: torch's own operators took part, which have no code for this device here", NOTE,
        "Measure it on a real device (--device cuda), or compile it (--compiled).",
    ),
    "disturbs_report": Code(
        "something written where the lab's own report goes", MAJOR,
        "Write only to descriptors that the kernel has opened itself, and close no other.",
    ),
    "hung": Code(
        "no answer within the time limit", CRITICAL,
        "Run the call of the message alone, with a stack dump (py-spy dump); raise --time-limit if it is "
        "only slow.",
    ),
    "out_of_memory": Code(
        "memory ran out: the device's, or the system killed the process", MAJOR,
        "Look for temporaries of many times x's size, or verify it with more memory.",
    ),
}  # fmt: skip

ENGINEERING = {
    # A refusal is heard at once, and nothing wrong comes of it.
    "refuses_lengths": Code(
        "a number of elements refused that no contract excludes", MINOR,
        "Handle the rest behind the last whole block, or declare the contract (--multiple-of).",
    ),
    "refuses_shapes": Code(
        "a shape refused that no contract excludes", MINOR,
        "Flatten x before the kernel and give its shape back, or declare the contract (--shape).",
    ),
    "depends_on_length": Code(
        "a result that depends on how many elements there are", by_difference, _TAIL
    ),
    "depends_on_position": Code(
        "a result that depends on the place in the tensor or in memory", by_difference,
        "Check loads for an alignment that a view does not have, and index arithmetic by the place.",
    ),
    "misreads_strides": Code(
        "an input that is not contiguous read as if it were", by_difference, _READS_STRIDES
    ),
    "misreads_upstream": Code(
        "an upstream gradient that is not contiguous read as if it were", MAJOR, _READS_STRIDES
    ),
    "ignores_upstream": Code(
        "a gradient that does not scale with the upstream gradient", MAJOR,
        "Multiply each term by its element of the upstream gradient, in FP32 at least and before "
        "any rounding.",
    ),
    # Loss scaling looks for these: an overflow goes unseen.
    "loses_nonfinite": Code(
        "a NaN or infinite upstream gradient that does not arrive", MAJOR,
        "Multiply by the upstream gradient instead of selecting with a mask.",
    ),
    "misreads_operand": Code(
        "an operand beside x read from the wrong place", MAJOR, _READS_STRIDES
    ),
    "training_step_differs": Code(
        "wrong where x and parameters require gradients together, as in training", MAJOR,
        "Compare the branches of the backward for what needs a gradient (ctx.needs_input_grad).",
    ),
    # Bits differ, as where sums run in any order; how far nobody has said.
    "not_deterministic": Code(
        "different results for the same call", MINOR,
        "Look for atomics, races and uninitialised memory; run it under a sanitizer for races.",
    ),
    "writes_input": Code(
        "an argument overwritten", CRITICAL,
        "Write into memory of its own: no in-place operations on arguments.",
    ),
    "overwrites_result": Code(
        "an earlier result overwritten by a later call or by its own backward", CRITICAL,
        "Allocate results in every call; no buffer may be kept and handed out again.",
    ),
    "writes_outside": Code(
        "memory before or behind a tensor overwritten", CRITICAL,
        "Mask the stores of the first and last block by the number of elements.",
    ),
    "reads_outside": Code(
        "a result that depends on what lies before or behind an argument", by_difference,
        "Mask the loads of the first and last block by the number of elements.",
    ),
    # What stands there instead is anything, NaN included.
    "unwritten_output": Code(
        "elements of the result that are never written", CRITICAL, _TAIL
    ),
    "stale_parameters": Code(
        "parameter values of an earlier call", by_difference,
        "Read parameters in every call; cache nothing that was computed from them.",
    ),
    "reduction_incomplete": Code(
        "elements missing from, or counted twice in, a parameter's gradient", MAJOR, _TAIL
    ),
    "reduction_inaccurate": Code(
        "a parameter's gradient that loses accuracy in its sum", by_difference,
        "Sum in FP32 at least, in blocks whose partial sums are added in turn.",
    ),
    "depends_on_grad_mode": Code(
        "a forward result that depends on whether gradients are recorded", by_difference,
        "Use one forward for both, or check the one that runs where no gradient is recorded.",
    ),
    "depends_on_compilation": Code(
        "accurate in eager mode and not under torch.compile", by_difference,
        "Compare the generated code (TORCH_LOGS=output_code): decompositions may replace expm1 and the like.",
    ),
}  # fmt: skip

CODES: dict[str, Code] = {**ACCURACY, **RUNNING, **ENGINEERING}
# Codes that say nothing against a kernel: nobody knows.
OPEN = ("undecided", "device_lost", "not_emulated", "unsupported_instruction", "depends_on_device")
