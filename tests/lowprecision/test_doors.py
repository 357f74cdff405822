"""What a captured module is, is read at one door; behind it a definition decides, never a name."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

torch = pytest.importorskip("torch")

from precision_lab.formula.rewriting import bound, simplified
from precision_lab.functions import FUNCTIONS, SWIGLU, XIPRELU
from precision_lab.lowprecision.capture.recognised import GATED_FORMS, activation_of, parameters_of
from precision_lab.lowprecision.probe.ageing import degree
from precision_lab.lowprecision.readiness.passage import forward_passage
from precision_lab.lowprecision.readiness.readiness import modelled_layers, readiness
from precision_lab.study.mlp_block import Shape


def test_a_gate_is_an_operand_of_the_definition() -> None:
    assert [p.name for p in SWIGLU.operands] == ["b"]
    assert [f.name for f in FUNCTIONS.values() if f.is_gated] == [
        "swiglu", "geglu", "geglu_tanh", "reglu", "gpt_oss_swiglu",
    ]  # fmt: skip


def test_a_gated_function_of_another_name_is_treated_as_gated() -> None:
    mine = replace(SWIGLU, name="mine")
    (theirs,), (own,) = (modelled_layers(f, None, ["normal"], tokens=32, channels=32) for f in (SWIGLU, mine))
    assert own.gate is not None and torch.equal(own.gate, theirs.gate)
    with pytest.raises(ValueError, match="gate=None"):
        forward_passage(mine, None, own.x, "bf16")
    assert degree(mine) == 2
    assert Shape().width(mine) == Shape().gated_hidden
    found, expected = (readiness([t], source="t", recipes=("mxfp8",), compared=()) for t in (own, theirs))
    assert found.verdicts == expected.verdicts
    assert [a.kurtosis_out for a in found.amplification] == [a.kurtosis_out for a in expected.amplification]


def test_what_a_gated_layer_computes_has_the_terms_of_its_activation() -> None:
    for activation, gated in GATED_FORMS.items():
        assert gated.is_gated and not activation.is_gated
        assert bound(gated.expression, {"b": Fraction(1)}) is simplified(activation.expression)


def test_raw_parameters_are_read_by_the_definitions_constraints() -> None:
    module = torch.nn.Module()
    for name, value in (("alpha_p", 0.0), ("alpha_n", 1.0), ("beta", 0.5)):
        module.register_parameter(name, torch.nn.Parameter(torch.tensor([value])))
    found = parameters_of(module, XIPRELU)
    softplus = torch.nn.functional.softplus(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    assert found == {"alpha_p": softplus[0], "alpha_n": softplus[1], "beta": 0.5}
    own = parameters_of(module, FUNCTIONS["xielu"])
    assert own == {**found, "alpha_n": 0.5 + softplus[1]}
    del module.beta
    assert parameters_of(module, XIPRELU) == {}


def test_a_layer_of_an_unknown_name_is_refused() -> None:
    from precision_lab.lowprecision.capture.counts import Layer

    with pytest.raises(ValueError, match="unknown function 'xilu'; did you mean"):
        activation_of(Layer("a", "M", "xilu", {}, {}))
    with pytest.raises(ValueError, match="its activation M is none of precision_lab's functions: odd"):
        activation_of(Layer("a", "M", "", {}, {}, notes=("odd",)))
    assert activation_of(Layer("a", "M", "xiprelu", {"beta": 0.25}, {})) is XIPRELU
