"""Specimens for an emulated GPU: what its sanitizer sees, and what cannot be examined there."""

from __future__ import annotations

from pathlib import Path

from zoo import ZOO, Specimen

HELPERS = Path(__file__).parents[1] / "helpers"
PTX = Path(__file__).with_name("emulated.ptx")


def emulated(name: str, file: Path, kernel: str, fault: str, *kinds: str, **options: object) -> None:
    given = {"function": "relu", "outputs": ("forward",), "properties": False, "device": "sm_90", **options}
    ZOO.append(Specimen(name, f"{file}:{kernel}", fault, kinds, **given))  # type: ignore[arg-type]


TRITON, RANGES = HELPERS / "gpu_kernels.py", HELPERS / "gpu_ranges.py"
emulated("eager_on_cuda", TRITON, "eager", "torch's operators alone, without code here", "not_emulated")
emulated(
    "half_eager", TRITON, "relu", "a backward of torch's operators behind a Triton kernel", "not_emulated",
    outputs=("forward", "grad_x"),
)  # fmt: skip
emulated("unmasked", TRITON, "unmasked", "loads beyond the end", "out_of_bounds")
emulated("leaves_the_last", TRITON, "leaves_the_last", "a launch for one element less", "unwritten_read")
emulated(
    "rounded_down", TRITON, "rounded_down", "a tail that no program writes", "unwritten_read",
    properties=("lengths",),
)  # fmt: skip
emulated(
    "sums_too_much", TRITON, "sums_too_much", "a sum over a buffer that is half written", "unwritten_read",
    outputs=("forward", "grad_x"),
)  # fmt: skip
emulated("one_configuration", TRITON, "tuned", "wrong in one of an autotuner's configurations", "inaccurate")
emulated("unpromised", RANGES, "sine", "a sine where the manual promises nothing", "depends_on_device")
emulated("races", PTX, "race", "all threads store to one place", "race")
emulated("reads_an_odd_word", PTX, "misaligned", "four bytes read at an odd place", "misaligned")
emulated("divergent", PTX, "divergent", "a barrier that half of the threads reach", "divergent_barrier")
emulated("endless", PTX, "endless", "a thread that never ends", "endless_loop")
emulated("clusters", PTX, "clusters", "a barrier of clusters, not emulated", "unsupported_instruction")
