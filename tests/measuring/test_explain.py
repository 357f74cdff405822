"""What one input's screen says: exact value, conditioning, lost bits, and each implementation's own error."""

from __future__ import annotations

import math
from dataclasses import replace

import mpmath
import pytest

torch = pytest.importorskip("torch")

from by_name import as_implementation, explain

from precision_lab.measuring import explain as module

PARAMS = {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.5}


def shown(x: float, output: str = "forward", fmt: str = "fp32", function: str = "xielu", **options: object):
    return explain(function, fmt=fmt, x=x, output=output, executions=(), **options)


def test_the_condition_number_is_that_of_the_output_shown() -> None:
    """x·f′/f of f = α_n·(e^x − 1 − x) + β·x, and x·f″/f′ of its gradient."""
    x, a, b = (mpmath.mpf(v) for v in (-1.5, float.fromhex("0x1.99999ap-1"), 0.5))
    f, slope, bend = a * (mpmath.expm1(x) - x) + b * x, a * mpmath.expm1(x) + b, a * mpmath.exp(x)
    assert shown(-1.5).condition == pytest.approx(float(abs(x * slope / f)), rel=1e-12)
    assert shown(-1.5, "grad_x").condition == pytest.approx(float(abs(x * bend / slope)), rel=1e-12)
    assert math.isnan(shown(0.0).condition) and math.isnan(shown(-math.inf).condition)


def test_lost_bits_are_those_of_the_terms_as_written() -> None:
    """d/dα_n = e^x − 1 − x at x = −2^-10: three terms of which 2^-21 remains, and two with expm1."""
    x = -(2.0**-10)
    left = math.fsum((math.expm1(x), -x))  # fine to a dozen digits here
    e = shown(x, "grad_alpha_n")
    assert e.lost_as_exp_minus_1 == pytest.approx(math.log2((math.exp(x) + 1 - x) / left), rel=1e-6)
    assert e.lost_as_expm1 == pytest.approx(math.log2((-math.expm1(x) - x) / left), rel=1e-6)
    assert math.isnan(shown(math.inf).lost_as_expm1)


def test_the_tail_is_what_rounding_left_and_the_value_what_is_certified() -> None:
    e = shown(1.0, fmt="bf16", params={"alpha_p": 0.80078125, "alpha_n": 1.0, "beta": 0.5})
    assert (e.exact, e.rounded, e.rounded_bits) == ("1.30078125", 1.296875, "0x3fa6")
    assert e.tail_ulps == (1.30078125 - 1.296875) / 2.0**-7
    assert (e.bits, e.region, e.output_fmt) == ("0x3f80", "positive", "bf16")
    assert [shown(v).enclosure for v in (math.inf, 0.0, math.nan)] == ["limit", "exact", "undefined"]
    assert shown(1.0).enclosure == "± 9.8e-37"  # 2^-120 of 1.3


def test_parameters_are_those_that_an_eager_kernel_receives() -> None:
    assert shown(1.0, fmt="bf16").params == {"alpha_p": 0.80078125, "alpha_n": 0.80078125, "beta": 0.5}
    assert shown(1.0, fmt="e4m3").params["alpha_p"] == float.fromhex("0x1.99999ap-1")  # in fp32


@pytest.mark.parametrize(("given", "words"), [({}, "x=None, bits=None"), ({"x": 1.0, "bits": 1}, "bits=1")])
def test_an_input_is_given_once(given: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=f"give either x or bits: got .*{words}"):
        explain("relu", fmt="bf16", **given)  # type: ignore[arg-type]


def test_a_pattern_beyond_the_format_is_refused() -> None:
    assert explain("relu", fmt="e4m3", bits=0xFF, executions=()).bits == "0xff"
    with pytest.raises(ValueError, match="bits=0x100 is no pattern of e4m3"):
        explain("relu", fmt="e4m3", bits=0x100)


def rows(kernel, x: float, function: str = "relu"):
    own = replace(as_implementation(kernel, function, ("bf16",)), target="mine.py:kernel")
    found = explain(function, fmt="bf16", x=x, kernel=own, executions=("eager",))
    return {row.implementation: row for row in found.rows}


def test_each_implementation_has_its_own_error_and_flaws() -> None:
    def kernel(x):
        return torch.where(x == 2, -x, torch.where(x == 4, torch.inf, torch.relu(x) * 1.5))

    found = rows(kernel, 1.0)
    assert (found["kernel"].value, found["kernel"].error_ulps, found["kernel"].note) == (1.5, 64.0, "")
    assert (found["torch"].value, found["torch"].error_ulps) == (1.0, 0.0)
    assert rows(kernel, 2.0)["kernel"].note == "wrong sign"
    infinite = rows(kernel, 4.0)["kernel"]
    assert infinite.note == "wrong infinity or NaN" and math.isnan(infinite.error_ulps)


def test_what_x_gives_among_many_copies_is_shown_beside_it_alone() -> None:
    def kernel(x):
        y = torch.relu(x)
        return torch.cat([y[:-1] * 1.5, y[-1:]]) if x.numel() > 1 else y

    note = rows(kernel, 1.0)["kernel"].note
    assert note == f"1.5 (+64 ulps) among {module._CROWD} copies of x"


def test_a_kernel_that_fails_has_a_row_that_says_so() -> None:
    def kernel(x):
        raise RuntimeError("no such luck")

    found = rows(kernel, 1.0)
    assert found["kernel"].note.startswith("raised: RuntimeError: no such luck")
    assert math.isnan(found["kernel"].value) and found["torch"].error_ulps == 0.0
