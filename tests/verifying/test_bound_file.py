"""Bound files: strict to read, written so that what was measured passes and nothing worse."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from sample_results import measurement, statistics, witness

from precision_lab.results import Failure, Finding, Measurement
from precision_lab.results.codes import CODES, ENGINEERING
from precision_lab.verifying import bound_file
from precision_lab.verifying.bounds import Bound
from precision_lab.verifying.judge import judge
from precision_lab.verifying.properties import ENGINEERING_PROPERTIES
from precision_lab.verifying.properties.registry import PROPERTIES
from precision_lab.verifying.verify import verify

torch = pytest.importorskip("torch")

GOOD = """\
version = 1

[xielu.bf16]
accepted = ["depends_on_length"]

[xielu.bf16.forward]
max_ulp = 1
regions = { root_forward = 900.5 }
flush_subnormals = true

[xielu.bf16.grad_x]
max_ulp = 2.5
zero_sign = true
wrong_sign = 12
biased = true
reason = "until the next release"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "precision.toml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_every_key_reaches_the_bound(file: Path) -> None:
    found = bound_file.read(file)
    forward = found.bound("xielu", "bf16", "forward")
    assert (forward.max_ulp, forward.regions, forward.flush_subnormals) == (
        1.0,
        {"root_forward": 900.5},
        True,
    )
    gradient = found.bound("xielu", "bf16", "grad_x")
    assert (gradient.zero_sign, gradient.wrong_sign, gradient.biased) == (True, 12, True)
    assert not forward.biased
    assert gradient.reason == "until the next release"
    assert found.accepted["xielu", "bf16"] == {"depends_on_length"}
    assert found.formats("xielu") == ("bf16",)
    assert found.formats("silu") == ()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("version = 1", "", "version=None, expected version = 1"),
        ("version = 1", "version = 2", "version=2"),
        (
            "max_ulp = 1\n",
            "max_ulps = 1\n",
            r"xielu.bf16.forward.max_ulps: unknown key .* did you mean max_ulp",
        ),
        ("max_ulp = 2.5", "max_ulp = 0.25", r"xielu.bf16.grad_x.max_ulp=0.25 .* at least 0.5"),
        ("max_ulp = 2.5", "max_ulp = true", "max_ulp=True"),
        ("max_ulp = 2.5", "", "xielu.bf16.grad_x has no max_ulp"),
        ("root_forward", "root_forwad", r"regions.root_forwad: .* did you mean root_forward"),
        ("[xielu.bf16.grad_x]", "[xielu.bf16.grad_y]", r"xielu.bf16.grad_y: .* did you mean"),
        ("[xielu.bf16.grad_x]", "[xielu.bf61.grad_x]", r"xielu.bf61: .*unknown format"),
        ("[xielu.bf16.grad_x]", "[xilu.bf16.grad_x]", r"xilu: .* did you mean"),
        ("flush_subnormals = true", 'flush_subnormals = "yes"', "must be true or false"),
        ("wrong_sign = 12", "wrong_sign = -1", "must be a count"),
        ("biased = true", "biased = 1", "xielu.bf16.grad_x.biased=1 must be true or false"),
        ("depends_on_length", "depends_on_lenght", "did you mean depends_on_length"),
        ("[xielu.bf16.grad_x]", "[xielu.bf16.grad_x", "is no TOML file"),
    ],
)
def test_a_wrong_key_is_named_by_its_full_path(file: Path, old: str, new: str, words: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        bound_file.read(file)


def test_what_the_file_does_not_bound_is_not_passed(file: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no bound for xielu.bf16.grad_beta; outputs bounded there: forward"
    ):
        bound_file.read(file).bound("xielu", "bf16", "grad_beta")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        bound_file.read(tmp_path / "none.toml")


def clamped(x, *, alpha_p, alpha_n, beta):
    eps = torch.tensor(-1e-6, dtype=x.dtype)
    curve = alpha_n * torch.expm1(torch.minimum(x, eps)) - alpha_n * x + beta * x
    return torch.where(x > 0, alpha_p * x * x + beta * x, curve)


def naive(x, *, alpha_p, alpha_n, beta):
    return torch.where(
        x > 0, alpha_p * x * x + beta * x, alpha_n * (torch.exp(x) - 1) - alpha_n * x + beta * x
    )


def test_what_was_measured_passes_and_a_worse_kernel_does_not(tmp_path: Path) -> None:
    path = tmp_path / "precision.toml"
    outputs = ("forward", "grad_x")
    measured = verify(clamped, "xielu", fmts=("bf16",), outputs=outputs, promise=False)
    assert measured.passed
    bound_file.write(path, measured.measurements, measured.faults)
    first = path.read_bytes()
    assert verify(clamped, "xielu", fmts=("bf16",), outputs=outputs, bound=path).passed
    worse = verify(naive, "xielu", fmts=("bf16",), outputs=outputs, bound=path)
    assert {fault.kind for fault in worse.faults} >= {"inaccurate", "nonfinite"}
    bound_file.write(path, measured.measurements, measured.faults)
    assert path.read_bytes() == first, "recording the same state twice changes nothing"


def test_a_known_lean_is_written_and_forgotten_when_it_is_gone(tmp_path: Path) -> None:
    def truncating(x):
        y = torch.nn.functional.silu(x.float())
        return (y.view(torch.int32) & -65536).view(torch.float32).to(torch.bfloat16)

    path = tmp_path / "precision.toml"
    options = {"fmts": ("bf16",), "outputs": ("forward",), "properties": False}
    measured = verify(truncating, "silu", promise=False, **options)
    bound_file.write(path, measured.measurements, measured.faults)
    assert "biased = true" in path.read_text(encoding="utf-8")
    assert verify(truncating, "silu", bound=path, **options).passed
    right = verify(lambda x: torch.nn.functional.silu(x.float()).bfloat16(), "silu", promise=False, **options)
    bound_file.write(path, right.measurements, right.faults)
    assert "biased" not in path.read_text(encoding="utf-8")
    assert "biased" in {fault.kind for fault in verify(truncating, "silu", bound=path, **options).faults}


def test_writing_keeps_comments_other_entries_and_peoples_decisions(file: Path) -> None:
    file.write_text(f"# ours\n{GOOD}\n[silu.bf16.forward]\nmax_ulp = 4\n", encoding="utf-8")
    measured = verify(clamped, "xielu", fmts=("bf16",), outputs=("forward",), promise=False)
    bound_file.write(file, measured.measurements, measured.faults)
    assert file.read_text(encoding="utf-8").startswith("# ours\n")
    found = bound_file.read(file)
    assert found.bound("silu", "bf16", "forward").max_ulp == 4
    assert found.bound("xielu", "bf16", "grad_x").max_ulp == 2.5
    assert found.bound("xielu", "bf16", "forward").flush_subnormals
    assert found.bound("xielu", "bf16", "forward").nonfinite == 1
    assert ("xielu", "bf16") not in found.accepted


def test_the_bound_of_two_parameter_sets_holds_for_both(tmp_path: Path) -> None:
    path = tmp_path / "precision.toml"
    sets = {"a": {"alpha_p": 0.8}, "b": {"alpha_p": 170.0, "alpha_n": 1.2}}
    measured = verify(
        clamped, "xielu", fmts=("bf16",), outputs=("forward",), params=sets, promise=False, properties=False
    )
    bound_file.write(path, measured.measurements, measured.faults)
    bound = bound_file.read(path).bound("xielu", "bf16", "forward")
    assert len(measured.measurements) == 2
    for m in measured.measurements:
        assert judge(m, bound) == ()


def recorded(regions: dict[str, float], **changes: object) -> Measurement:
    """A measurement with these errors by region, and no other fault."""
    found = {name: statistics(8, ulp) for name, ulp in regions.items()}
    plain = measurement("stable", accurate=True)
    return dataclasses.replace(plain, regions=found, max_ulp=max(regions.values()), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("changes", [{"undecided": 1}, {"failure": Failure("raised", "no")}])
def test_no_bound_is_written_from_what_is_undecided_or_failed(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    path = tmp_path / "precision.toml"
    with pytest.raises(
        ValueError, match=r"no bound can be written for xielu.bf16.forward: (1 undecided|raised)"
    ):
        bound_file.write(path, [recorded({"positive": 0.5}, **changes)], [])
    assert not path.exists()


def test_a_merged_limit_holds_for_the_set_that_has_none_of_its_own(tmp_path: Path) -> None:
    """A set whose worst error is 3 has no limit for a region of 3; one whose worst is 9 has."""
    first = recorded({"positive": 3.0, "far_tail": 0.5}, wrong_sign=7, sign_witness=witness(),
                     lean=-0.5, inexact=9000)  # fmt: skip
    second = recorded(
        {"positive": 1.0, "far_tail": 2.0, "root_forward": 9.0}, wrong_sign=4, sign_witness=witness(),
        nonfinite_mismatch=5, nonfinite_witness=witness(),
    )  # fmt: skip
    path = tmp_path / "precision.toml"
    for order in ((first, second), (second, first)):
        bound_file.write(path, order, [])
        bound = bound_file.read(path).bound("xielu", "bf16", "forward")
        assert (bound.max_ulp, bound.wrong_sign, bound.nonfinite, bound.biased) == (9.0, 7, 5, True)
        # A region that one set never met is held to the error of that set.
        assert bound.regions == {"positive": 3.0, "far_tail": 2.0}
        assert judge(first, bound) == judge(second, bound) == ()
    bound_file.write(path, [first], [])
    alone = bound_file.read(path).bound("xielu", "bf16", "forward")
    assert (alone.max_ulp, alone.regions) == (3.0, {"far_tail": 0.5})


def test_what_would_change_is_said_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "precision.toml"
    path.write_text(
        'version = 1\n[xielu.bf16]\naccepted = ["depends_on_length"]\n[xielu.bf16.forward]\nmax_ulp = 4\n'
        "wrong_sign = 7\nregions = { positive = 2 }\n[silu.bf16.grad_x]\nmax_ulp = 1\n"
    )
    now = recorded({"positive": 3.0, "far_tail": 1.5, "root_forward": 8.0})
    new = dataclasses.replace(recorded({"positive": 1.0}), output="grad_x")
    seen = Finding(
        code="writes_input",
        function="xielu",
        implementation="mine",
        fmt="bf16",
        params_name="init",
        message="",
    )
    assert sorted(bound_file.loosened(path, [now, new], [seen])) == [
        "looser  xielu.bf16.forward: max_ulp 4 → 8",
        "looser  xielu.bf16.forward: regions.positive 2 → 3",
        "looser  xielu.bf16: accepted gains writes_input",
        "new     xielu.bf16.grad_x: max_ulp = 1",
        "tighter xielu.bf16.forward: regions.far_tail 4 → 1.5",
        "tighter xielu.bf16.forward: wrong_sign 7 → 0",
        "tighter xielu.bf16: accepted loses depends_on_length",
    ]
    assert bound_file.read(path).outputs("xielu", "bf16") == ("forward",)


@pytest.mark.parametrize("ulps", [0.5, 0.50001, 1.0, 1.2341, 1.23456, 344.4, 12345.0, 8.7e33, 1e300])
def test_limits_are_rounded_up_never_down(ulps: float) -> None:
    assert ulps <= bound_file.rounded_up(ulps) <= max(0.5, ulps * 1.0011)


def test_flushing_is_forgiven_only_where_it_shows_and_only_when_asked() -> None:
    def flushing(x, **_):
        y = torch.relu(x)
        return torch.where(y.abs() < torch.finfo(x.dtype).tiny, torch.zeros_like(y), y)

    strict = verify(flushing, "relu", fmts=("bf16",), outputs=("forward",), properties=False)
    assert [fault.kind for fault in strict.faults] == ["flushes_subnormals"]
    (m,) = strict.measurements
    assert judge(m, Bound(1.0, flush_subnormals=True)) == ()
    assert judge(dataclasses.replace(m, wrong_sign=0), Bound(1.0)) != ()


def test_the_names_of_properties_and_kinds_are_the_ones_examined() -> None:
    assert tuple(PROPERTIES) == ENGINEERING_PROPERTIES
    assert set(ENGINEERING) < set(CODES)


def test_every_kind_can_be_accepted(file: Path) -> None:
    """Whatever a property may find; a bound holds what belongs to accuracy."""
    kinds = ", ".join(f'"{kind}"' for kind in CODES)
    file.write_text(f"version = 1\n[relu.bf16]\naccepted = [{kinds}]\n", encoding="utf-8")
    accepted = bound_file.read(file).accepted["relu", "bf16"]
    assert {"raised", "crashed", "misreads_strides", "inaccurate", "training_step_differs"} < accepted
    assert len(accepted) == len(CODES)
