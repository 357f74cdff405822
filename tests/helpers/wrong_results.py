"""A measurement with everything that a verdict has to tell, for tests of what is printed."""

from __future__ import annotations

from dataclasses import replace

from sample_results import SETS, measurement, statistics, witness

from precision_lab.results import Measurement

INFINITE = replace(witness(float("-inf"), float("nan"), float("nan")), bits="0xff80", exact="+inf")


def wrong(output: str, fmt: str, name: str) -> Measurement:
    """A result with wrong signs near 0, large errors at a root and in the tail, and a NaN at −∞."""
    near = replace(statistics(8, 2.361e21, wrong=1403), witness=witness(-0.0019683837890625, 2.361e21, 0.07))
    regions = {
        "near_zero_negative": near,
        "root_forward": replace(statistics(8, 799.0), witness=witness(-4.8125, 799.0, -0.5)),
        "far_tail": replace(statistics(8, 4.072), witness=witness(-20.0, 4.072, 1e-9)),
        "special": replace(statistics(8, 4.072e-05, bad=2), witness=INFINITE),
    }
    return replace(
        measurement("naive", output, fmt), params_name=name, params=SETS["init"], max_ulp=2.361e21,
        regions=regions, witness=near.witness, wrong_sign=1403, sign_witness=near.witness,
        nonfinite_mismatch=2, nonfinite_witness=INFINITE, lean=None, output_precision=8, n_inputs=65536,
    )  # fmt: skip
