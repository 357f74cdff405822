"""How a property judges: against the exact value, its input's own limit, and what a plain call gives."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import by_name
from by_name import as_implementation

from precision_lab.implementations.contract import CallContract
from precision_lab.results import Finding
from precision_lab.running.accepted_calls import MULTIPLES, find_contract
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.properties.checks import differ
from precision_lab.verifying.properties.registry import _merged, examine
from precision_lab.verifying.properties.sizes import _rows_of
from precision_lab.verifying.properties.subject import Others, Subject


def relu(x, **_):
    return torch.relu(x)


def subject_of(kernel=relu, function: str = "relu", bound: Bound | None = None, **terms: object) -> Subject:
    implementation = as_implementation(kernel, function, ("bf16",))
    outputs = implementation.measured_outputs()
    held = {o: bound or Bound(1.0) for o in outputs}
    found: Subject = by_name.subject(implementation, "bf16", held, **terms)  # type: ignore[arg-type]
    return found


def places(subject: Subject, *values: float) -> np.ndarray:
    return np.array([int(np.flatnonzero(subject.x == v)[0]) for v in values])


def test_a_difference_within_the_bound_is_a_note_and_one_beyond_it_a_fault() -> None:
    """At 1 and 2, with ulps of 2^-7 and 2^-6, where one ulp is allowed."""
    subject = subject_of()
    index = places(subject, 1.0, 2.0, 4.0)

    def held(*off: float) -> list[Finding]:
        subject.faults, subject.notes = [], []
        values = subject.x[index] + np.array(off)
        others = Others(values, index, np.array([10, 20, 30]), 99)
        subject.hold("depends_on_length", "there", "forward", others)
        return subject.faults

    assert held(2.0**-7, -(2.0**-6), 0.0) == []
    assert subject.notes == ["bf16 forward: 3 results differ there, within the bound"]
    (fault,) = held(2.0**-6, 2.0**-4, 0.0)
    assert (fault.kind, fault.output, fault.ulps, fault.count) == ("depends_on_length", "forward", 4.0, 2)
    assert "there: element 20 of 99, x=2.0 " in fault.message
    assert "is 2.0625 (4 ulps off), and 2.0 (0 ulps off) in one plain call" in fault.message
    # Where the plain call is off itself, the measurement has said so.
    subject.plain["forward"][index[1]] = 3.0
    (fault,) = held(2.0**-6, 2.0**-4, 0.0)
    assert (fault.ulps, fault.count) == (2.0, 1)
    assert held(0.0, 2.0**-4, 0.0) == [] and subject.notes == []


def test_errors_are_infinite_where_a_nan_is_wrong_and_0_at_a_gradients_nan() -> None:
    subject = subject_of()
    one, nan = places(subject, 1.0)[0], int(np.flatnonzero(np.isnan(subject.x))[0])
    index = np.array([one, one, nan])
    assert subject.errors("forward", np.array([math.nan, math.inf, 7.0]), index).tolist() == [math.inf] * 3
    assert subject.errors("forward", np.array([1.0, 0.5, math.nan]), index).tolist() == [0.0, 64.0, 0.0]
    assert subject.errors("grad_x", np.array([1.0, math.nan, 7.0]), index).tolist() == [0.0, math.inf, 0.0]


def test_limits_are_those_of_the_inputs_region_and_of_subnormal_results() -> None:
    """A subnormal x > 0 has a subnormal result; x = −1 lies on the negative side."""
    bound = Bound(1.0, regions={"positive": 3.0, "subnormal_input": 5.0, "subnormal_result": 7.0})
    subject = subject_of(bound=bound)
    smallest = float(subject.x[(subject.x > 0) & (subject.x < subject.fmt.min_normal)][0])
    assert subject.limits("forward", places(subject, 1.0, -1.0, smallest)).tolist() == [3.0, 1.0, 7.0]
    # A gradient of 1 is no subnormal result.
    assert subject.limits("grad_x", places(subject, 1.0, -1.0, smallest)).tolist() == [3.0, 1.0, 5.0]
    wide = subject_of(bound=Bound(1.0, regions={"subnormal_input": 9.0, "subnormal_result": 7.0}))
    assert wide.limits("forward", places(wide, smallest)).tolist() == [9.0]


def test_nan_is_the_same_as_nan_and_as_no_number() -> None:
    values, others = (
        np.array([math.nan, math.nan, 1.0, 0.0, 2.0]),
        np.array([math.nan, 1.0, math.nan, -0.0, 2.0]),
    )
    assert differ(values, others).tolist() == [False, True, True, False, False]


def test_the_worst_of_several_situations_speaks_for_all() -> None:
    def fault(ulps: float, count: int, kind: str = "depends_on_length") -> Finding:
        return Finding(
            code=kind, function="relu", implementation="mine", fmt="bf16", output="forward",
            params_name="init", message=f"{ulps:g}", ulps=ulps, count=count,
        )  # fmt: skip

    worst, other = _merged([fault(2.0, 9), fault(-5.0, 1), fault(math.nan, 99), fault(1.0, 1, "biased")])
    assert (worst.ulps, worst.message) == (-5.0, "-5 (and in 2 other situations)")
    assert (other.kind, other.message) == ("biased", "1")
    (most,) = _merged([fault(math.nan, 3), fault(math.nan, 8)])
    assert most.count == 8


def test_a_pool_has_every_kind_of_input_and_only_finite_ones_where_asked() -> None:
    usual, finite = subject_of(), subject_of(finite=True)
    assert np.isnan(usual.x).any() and np.isposinf(usual.x).any() and np.isneginf(usual.x).any()
    assert set(np.copysign(1.0, usual.x[usual.x == 0])) == {-1.0, 1.0}
    assert ((usual.x > 0) & (usual.x < usual.fmt.min_normal)).any()
    assert np.isfinite(finite.x).all() and finite.size == usual.size == 4097
    assert (
        np.mean(np.abs(usual.x) < 8) > 0.4 and (usual.x > 1e30).any()
    )  # where activations live, and far off


def test_parameters_that_a_property_changes_are_those_a_kernel_is_given() -> None:
    from precision_lab.verifying.properties.state import _other_parameters

    asked = {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.5}
    for given, changed in ((None, set(asked)), (("alpha_n",), {"alpha_n"}), ((), set())):
        subject = SimpleNamespace(implementation=SimpleNamespace(parameters=given), asked=asked)
        found = _other_parameters(subject)  # type: ignore[arg-type]
        assert {name for name in asked if found[name] != asked[name]} == changed
        assert all(found[name] == 1.25 * asked[name] + 0.0625 for name in changed)


def test_rows_are_of_the_width_asked_for_or_the_next_that_is_accepted() -> None:
    def rows(contract: CallContract, width: int) -> tuple[int, ...] | None:
        return _rows_of(SimpleNamespace(contract=contract), width)  # type: ignore[arg-type]

    assert rows(CallContract(), 1028) == (3, 1028)
    assert rows(CallContract(8), 1028) == (3, 1032)
    assert rows(CallContract(1, ((None, None, None),)), 100) == (3, 1, 100)
    assert rows(CallContract(1, ((None,),)), 100) is None


@pytest.mark.parametrize("dims", [2, 3, 4])
@pytest.mark.parametrize("multiple", MULTIPLES)
def test_the_width_of_rows_that_a_kernel_wants_is_found(multiple: int, dims: int) -> None:
    """One dimension is refused whatever its length, and so is every width but the multiples."""

    def attempt(shape):
        return None if len(shape) == dims and shape[-1] % multiple == 0 else ValueError("no")

    found = find_contract(attempt)
    if 4096 % multiple:  # the width that is tried first
        assert found is None
    else:
        assert found is not None and (found.multiple_of, found.shapes) == (multiple, ((None,) * dims,))


def test_a_kernel_that_refuses_everything_has_no_contract() -> None:
    assert find_contract(lambda shape: ValueError("no")) is None


def test_a_property_says_that_it_does_not_apply() -> None:
    subject = subject_of()
    assert examine(subject, "operands").inapplicable == "relu has no operand beside x"
    assert examine(subject, "reductions").inapplicable == "no parameter's gradient is examined"
    assert examine(subject, "determinism").inapplicable == ""
    with pytest.raises(ValueError, match="unknown property 'strids'; did you mean strides"):
        examine(subject, "strids")


def test_a_finding_of_one_property_is_not_the_nexts() -> None:
    def odd(x, **_):
        return torch.relu(x) * (1.5 if x.numel() % 2 == 0 else 1.0)

    subject = subject_of(odd)
    assert [f.kind for f in examine(subject, "lengths").faults] == ["depends_on_length"] * 2
    assert examine(subject, "determinism").faults == ()
