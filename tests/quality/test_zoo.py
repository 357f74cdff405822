"""The instrument's own power: every faulty kernel is caught under its right name, and no right one is.

By default one specimen of each kind and of each function runs, and every second control; the exhaustive run
adds the others, and those that die.
"""

from __future__ import annotations

import collections
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from controls import CONTROLS
from emulation import missing
from trial import tried
from turns import one_in
from zoo import ZOO, Specimen

from precision_lab.results.codes import ACCURACY, CODES, ENGINEERING, RUNNING


@pytest.fixture(autouse=True)
def switches():
    """Some of these switch things for the whole process; verify sets them back, and if not, this does."""
    yield
    torch.set_default_dtype(torch.float32)
    torch.set_flush_denormal(False)


# How kernels that hang or die are kept apart is tested in test_isolation.py, in less time.
DIE = {"aborts", "exits", "hangs_on_one", "killed", "segfaults"}
ALIVE = [s for s in reversed(ZOO) if s.name not in DIE]
# The last one of each function, and of each kind of fault.
FIRST = {s.name for s in {s.function: s for s in ALIVE}.values()}
FIRST |= {s.name for s in {kind: s for s in ALIVE for kind in s.kinds}.values()}
WHY = missing("triton")
EMULATED = pytest.mark.skipif(WHY != "", reason=WHY)


def case(s: Specimen, *marks: pytest.MarkDecorator) -> Any:
    return pytest.param(s, id=s.name, marks=[*marks, *[EMULATED] * (s.device != "cpu")])


CASES = [case(s, *[pytest.mark.slow] * (s.name not in FIRST)) for s in ZOO]


@pytest.mark.parametrize("s", CASES)
def test_a_faulty_kernel_is_caught_under_its_right_name(s: Specimen) -> None:
    verdict = tried(s)
    found = {finding.kind for finding in verdict.findings}
    assert found & set(s.kinds), f"{s.fault}: found {found or 'nothing'}"
    assert not verdict.passed
    assert torch.get_default_dtype() == torch.float32
    assert float(torch.tensor(2.0**-126) / 2) != 0.0


@pytest.mark.parametrize("s", one_in(2, map(case, CONTROLS)))
def test_a_right_kernel_is_not_called_faulty(s: Specimen) -> None:
    verdict = tried(s)
    assert verdict.failures == ()
    # Nothing is left unexamined but large calls, for which there is no time here.
    assert all("budget" in reason for reason in verdict.reasons)


def test_the_zoo_is_large_and_has_every_kind_of_fault() -> None:
    assert len(ZOO) >= 60
    assert len(CONTROLS) >= 15
    assert len({s.name for s in ZOO}) == len(ZOO)
    expected = {kind for s in ZOO for kind in s.kinds}
    assert expected <= set(CODES)
    # Tested where they arise: the oracle's own word, a comparison, a bound's wish, a module that cannot
    # be made for its parameters, and a GPU too old for a kernel or lost to another one.
    elsewhere = {
        "undecided",
        "breaks_law",
        "worse_than",
        "zero_sign",
        "not_finite_parameters",
        "unsupported_device",
        "device_lost",
    }
    assert set(ACCURACY) | set(RUNNING) | set(ENGINEERING) == expected | elsewhere


def test_by_default_every_kind_of_fault_is_looked_for_but_a_death() -> None:
    kinds = {kind for s in ZOO if s.name in FIRST for kind in s.kinds}
    assert {kind for s in ZOO for kind in s.kinds} - kinds == {"hung", "out_of_memory"}
    assert {s.function for s in ZOO} == {s.function for s in ZOO if s.name in FIRST}


def test_a_switched_off_property_lets_its_faults_pass() -> None:
    """Were the properties of no use, taking one away would change nothing."""
    names = collections.Counter(kind for s in ZOO for kind in s.kinds)
    assert names["not_deterministic"] >= 2
    noisy = next(s for s in ZOO if s.name == "unordered_sum")
    assert tried(noisy, properties=False).passed


def test_a_16_bit_index_is_caught_by_the_lengths_alone() -> None:
    """Larger calls find it as well, where a budget of seconds lets them: these must."""
    specimen = next(s for s in ZOO if s.name == "index_wraps")
    assert {fault.kind for fault in tried(specimen, properties=("lengths",)).faults} == {"depends_on_length"}
