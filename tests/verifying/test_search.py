"""The search finds what exhaustion knows, in a sixteenth of the evaluations; laws break where they should."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import pytest

pytest.importorskip("torch")

import torch
from by_name import get_implementation, law
from hypothesis import strategies as st
from turns import in_turn

from precision_lab.exceptions import KernelError
from precision_lab.functions import XIELU
from precision_lab.implementations import get_execution, implementations_for
from precision_lab.measuring.measure import measure
from precision_lab.system.extras import install_line
from precision_lab.verifying import laws
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.laws import LAWS, check_laws
from precision_lab.verifying.search import search

EAGER = implementations_for(XIELU, get_execution("eager"))


@pytest.mark.parametrize(
    ("implementation", "output"), in_turn(EAGER, ("forward", "grad_x")), ids=lambda v: getattr(v, "name", v)
)
def test_it_comes_within_5_percent_of_the_true_maximum(implementation, output):
    true = measure(implementation, "xielu", fmt="bf16", output=output).max_ulp
    found = search(implementation, "xielu", fmt="bf16", output=output)
    assert found.evaluations <= 4096
    assert 0.95 * true <= found.max_ulp <= true * (1 + 2**-10)


def test_it_is_the_same_every_time_and_counts_what_it_evaluates():
    tried = set()

    def kernel(x, **_):
        tried.update(x.tolist())
        return torch.relu(x)

    first = search(kernel, "relu", evaluations=1000)
    # −0 and 0 are two inputs, or one, as Python's sets see it.
    assert first.evaluations == 1000
    assert len(tried) in (999, 1000)
    assert first == search(kernel, "relu", evaluations=1000)


def test_a_fault_of_vector_lanes_alone_is_seen():
    """As torch's fp16 gelu: what is left over at the end of a tensor is computed otherwise."""

    def kernel(x, **_):
        y = torch.relu(x)
        lanes = x.numel() // 16 * 16
        return torch.cat([y[:lanes] * 1.5, y[lanes:]])

    assert search(kernel, "relu", fmt="bf16", evaluations=256).max_ulp > 60


def test_a_fault_of_what_lanes_leave_over_is_seen():
    """As a scalar loop behind the vectors: the last elements of a tensor alone are wrong."""

    def kernel(x, **_):
        y = torch.relu(x)
        lanes = x.numel() // 16 * 16
        return torch.cat([y[:lanes], y[lanes:] * 1.5])

    assert search(kernel, "relu", fmt="bf16", evaluations=256).max_ulp > 60


@pytest.mark.parametrize("jump", [3.0, 6.0])
def test_a_small_jump_at_zero_breaks_continuity_beyond_a_few_ulps_of_the_value_there(jump):
    """d/dx of xIELU is β = 0.5 at 0, in bf16 with ulps of 2^-8; forward is 0, with the smallest number's."""

    def kernel(x, *, alpha_p, alpha_n, beta):
        y = _stable(x, alpha_p, alpha_n, beta)
        return y + torch.where((x > -1e-30) & (x <= 0), x * 0 + jump * 2.0**-133, torch.zeros_like(x))

    broken = check_laws(kernel, "xielu", laws=("continuity",), max_examples=1)
    assert [b.message.split(": ")[1].split(" by ")[0] for b in broken] == (
        ["forward jumps"] if jump > 4 else []
    )
    m = measure("stable", "xielu", fmt="bf16", output="grad_x")
    stable = get_implementation("xielu", "stable")

    def told(jump: float) -> object:
        return law("continuity", stable, "bf16", [replace(m, jump_at_zero=jump)], Bound(1.0))

    assert (told(jump * 2.0**-8) is not None) == (jump > 4)
    assert told(math.nan) is not None


def test_a_fault_of_one_binade_is_climbed_to():
    def kernel(x, **_):
        return torch.where((x >= 32) & (x < 64), x * 1.5, torch.relu(x))

    found = search(kernel, "relu")
    assert found.x is not None
    assert 32 <= found.x < 64


def test_a_slope_is_climbed_to_its_top():
    """Errors rise over a thousand numbers to one of 100 ulps, far from where kernels usually break."""
    top = torch.tensor(1.34 * 2.0**37, dtype=torch.bfloat16)

    def kernel(x, **_):
        steps = (x.view(torch.int16).int() - top.view(torch.int16).int()).abs()
        ulps = (100 - steps / 5).clamp(min=0) * (x > 0)
        return (torch.relu(x).double() * (1 + ulps * 2.0**-8)).to(x.dtype)

    true = measure(kernel, "relu", fmt="bf16")
    found = search(kernel, "relu", evaluations=1024)
    assert true.witness is not None and found.x == true.witness.x
    assert found.max_ulp == pytest.approx(true.max_ulp, abs=2**-9)


def test_a_kernel_that_fails_is_named():
    with pytest.raises(KernelError, match="no such luck"):
        search(_raises, "relu")


def _raises(x, **_):
    raise RuntimeError("no such luck")


def test_too_few_evaluations_are_refused():
    with pytest.raises(ValueError, match="evaluations=10"):
        search("torch", "relu", evaluations=10)


@pytest.mark.parametrize("function", ["xielu", pytest.param("xiprelu", marks=pytest.mark.slow)])
def test_the_stable_kernels_keep_every_law(function):
    assert check_laws("stable", function, max_examples=15) == []


def test_each_law_is_broken_by_its_own_kind_of_fault():
    from sample_results import measurement, statistics, witness

    from precision_lab.results import Failure, Finding
    from precision_lab.results.conformity import Conformity

    right = replace(
        measurement("stable", accurate=True), regions={"positive": statistics(8, 0.5)}, max_ulp=0.5
    )
    flushed = replace(statistics(8, 60.0), witness=witness(computed=0.0, error=60.0))
    broken = {
        "inaccurate": {"regions": {"positive": statistics(8, 3.0)}},
        "flushes_subnormals": {"regions": {"subnormal_result": flushed}},
        "undecided": {"undecided": 1},
        "wrong_sign": {"wrong_sign": 1, "sign_witness": witness()},
        "nonfinite": {"nonfinite_mismatch": 1, "nonfinite_witness": witness()},
        "moves": {"monotonicity_violations": 2},
        "raised": {"failure": Failure("raised", "no")},
        "not_finite_parameters": {"failure": Failure("not_finite_parameters", "infinite")},
        "not_emulated": {"failure": Failure("not_emulated", "an operator of torch's")},
        "depends_on_device": {"conformity": Conformity(("ex2.approx.f32",), unknown="too many")},
    }

    stable = get_implementation("xielu", "stable")

    def of(name: str, max_ulp: float = 1.0) -> set[str]:
        found = {kind: law(name, stable, "bf16", [right, replace(right, **changes)], Bound(max_ulp))
                 for kind, changes in broken.items()}  # fmt: skip
        assert all(kind == told.kind for kind, told in found.items() if isinstance(told, Finding))
        return {kind for kind, told in found.items() if told is not None}

    assert of("accuracy") == {"inaccurate", "flushes_subnormals", "undecided", "depends_on_device"}
    assert of("signs") == {"wrong_sign", "depends_on_device"}
    assert of("special_values") == {"nonfinite", "depends_on_device"}
    assert of("runs") == {"raised", "not_emulated"}
    assert of("continuity") == set()
    # Beyond an ulp, rounding alone may move results against the exact ones.
    assert of("monotony") == {"moves"} and of("monotony", 1.5) == set()


def test_the_published_clamp_breaks_what_it_is_known_to_break():
    broken = {b.law: b for b in check_laws("eps-expm1", "xielu", max_examples=5)}
    assert set(broken) == {"accuracy", "signs", "special_values", "continuity", "monotony"}
    assert broken["signs"].params == {"alpha_p": 0.8, "alpha_n": 0.8, "beta": 0.5}, "shrinks to the defaults"
    assert "x=0.0 (0x0.0p+0, bits 0x0000): computed -0.30078125" in broken["signs"].message
    assert "forward jumps by 8.009e-07 across 0" in broken["continuity"].message


def test_parameters_shrink_to_the_simplest_that_break_a_law():
    def large_alpha(x, *, alpha_p, alpha_n, beta):
        return (
            torch.relu(x) * 0
            if float(alpha_p.reshape(-1)[:1].sum()) > 100
            else _stable(x, alpha_p, alpha_n, beta)
        )

    (broken,) = check_laws(large_alpha, "xielu", laws=("accuracy",), max_examples=60)
    assert broken.params["alpha_p"] > 100
    assert (broken.params["alpha_n"], broken.params["beta"]) in {(0.8, 0.5), (1.2, 0.5)}


def _with_large_alpha(monkeypatch, **changes):
    """Measurements of a stable kernel, made up: changed where α_p is beyond 10."""
    from sample_results import measurement, statistics

    right = replace(
        measurement("stable", accurate=True), regions={"positive": statistics(8, 0.5)}, max_ulp=0.5
    )
    measured = []

    def made_up(case):
        measured.append(case.asked)
        return [replace(right, **(changes if case.asked["alpha_p"] > 10 else {}))]

    monkeypatch.setattr(laws, "measure_all", made_up)
    return measured


def test_shrinking_measures_no_more_parameters_than_it_may(monkeypatch):
    """An emulated GPU takes seconds for each."""
    measured = _with_large_alpha(monkeypatch, monotonicity_violations=2)
    check_laws("stable", "xielu", laws=("monotony",))
    first, enough = next(n for n, asked in enumerate(measured, 1) if asked["alpha_p"] > 10), len(measured)
    measured.clear()
    monkeypatch.setattr(laws, "SHRINKS", 2)
    (broken,) = check_laws("stable", "xielu", laws=("monotony",))
    assert len(measured) == first + 2 < enough
    assert broken.params["alpha_p"] > 10


def test_what_nobody_can_tell_is_no_break_and_hides_none(monkeypatch):
    """Of a draw it is said only where no other draw breaks the law."""
    from precision_lab.results import Failure

    _with_large_alpha(monkeypatch, failure=Failure("not_emulated", "an operator of torch's"))
    (unknown,) = check_laws("stable", "xielu", laws=("runs", "signs"))
    assert unknown.is_open and unknown.law == "runs" and unknown.params["alpha_p"] > 10

    def made_up(case, right=laws.measure_all):
        (found,) = right(case)
        breaks = 10 < case.asked["alpha_p"] < 100  # Hypothesis shrinks to 170, of a named set, if it may
        return [replace(found, failure=Failure("raised", "no"))] if breaks else [found]

    monkeypatch.setattr(laws, "measure_all", made_up)
    (broken,) = check_laws("stable", "xielu", laws=("runs",))
    assert not broken.is_open and "raised" in broken.message and broken.params["alpha_p"] < 100


def test_of_several_outputs_a_broken_one_is_told_before_one_that_nobody_can_tell():
    from sample_results import measurement, witness

    from precision_lab.results import Failure
    from precision_lab.results.conformity import Conformity

    right = measurement("stable", accurate=True)
    depends = replace(right, conformity=Conformity(("ex2.approx.f32",), unknown="too many"))
    wrong = replace(right, wrong_sign=1, sign_witness=witness())
    elsewhere, raised = (replace(right, failure=Failure(k, "no")) for k in ("not_emulated", "raised"))
    stable = get_implementation("xielu", "stable")
    assert law("signs", stable, "bf16", [depends, wrong], Bound(1.0)).code == "wrong_sign"
    assert "raised" in law("runs", stable, "bf16", [elsewhere, raised], Bound(1.0))


def test_each_draw_is_judged_by_its_own_measurement(monkeypatch):
    """Hypothesis gives the same parameters in several orders."""
    measured = _with_large_alpha(monkeypatch)
    seen = []
    monkeypatch.setattr(laws, "measure_all", lambda case: measured.append(case.asked) or case.asked)
    monkeypatch.setitem(laws.LAWS, "runs", lambda case, found, bound: seen.append(dict(found)) and None)
    drawn = [{"alpha_p": 1.0, "alpha_n": 2.0, "beta": 0.5}, {"beta": 1.0, "alpha_n": 2.0, "alpha_p": 0.5}]
    drawn += [{"alpha_n": 1.0, "alpha_p": 2.0, "beta": 0.5}, dict(reversed(drawn[0].items()))]
    each = st.sampled_from(drawn)
    monkeypatch.setattr(laws.strategies, "parameters", lambda *_: each)
    assert check_laws("stable", "xielu", laws=("runs",)) == []
    assert len(measured) == 3 and all(found in drawn for found in seen)
    assert {tuple(found.items()) for found in seen} == {
        tuple((name, params[name]) for name in ("alpha_p", "alpha_n", "beta")) for params in drawn
    }


def test_laws_of_an_output_that_there_is_not_are_refused():
    with pytest.raises(ValueError, match="backward"):
        check_laws("torch", "relu", outputs=("backward",))


def _stable(x, alpha_p, alpha_n, beta):
    from precision_lab.kernels import stable_xielu

    return stable_xielu(x, alpha_p=alpha_p, alpha_n=alpha_n, beta=beta)


def test_an_unknown_law_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="unknown law 'sign'; did you mean signs"):
        check_laws("torch", "relu", laws=("sign",))


def test_no_folder_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    search("torch", "relu", evaluations=64)
    check_laws("torch", "relu", max_examples=2)
    assert list(tmp_path.iterdir()) == []
    assert len(LAWS) == 6


KERNEL = """
import torch, precision_lab as pl
def kernel(x):
    print("called")
    return torch.relu(x)
"""


@pytest.mark.parametrize(
    ("before", "use"),
    [
        ("", "import precision_lab.verifying.search"),
        ("", "import precision_lab.inputs.strategies"),
        (KERNEL, "pl.verify(kernel, 'relu', fmts=('bf16',), laws=True)"),
    ],
    ids=["search", "strategies", "verify"],
)
def test_without_hypothesis_its_extra_is_named_before_anything_is_measured(before: str, use: str) -> None:
    code = (
        "import sys\nsys.modules['hypothesis'] = None\n"
        "from precision_lab.exceptions import MissingPackageError\n"
        f"{before}\ntry:\n    {use}\nexcept MissingPackageError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout == f"Hypothesis is not installed; {install_line('hypothesis')}\n", done
