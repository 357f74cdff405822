"""A registry, and those of the lab: formats, functions, implementations, recipes, remedies."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from by_name import get_implementation

from precision_lab.exceptions import DuplicateNameError, UsageError
from precision_lab.formats import FORMATS, FP32, get_format
from precision_lab.functions import FUNCTIONS, get_function
from precision_lab.implementations import IMPLEMENTATIONS, resolve
from precision_lab.lowprecision.readiness.remedies import REMEDIES, get_remedy
from precision_lab.lowprecision.recipes.recipes import RECIPES, get_recipe
from precision_lab.registry import Registry

LAB = {
    "format": (FORMATS, get_format),
    "function": (FUNCTIONS, get_function),
    "recipe": (RECIPES, get_recipe),
    "remedy": (REMEDIES, get_remedy),
    "implementation": (IMPLEMENTATIONS, IMPLEMENTATIONS.get),
}
each = pytest.mark.parametrize(("registry", "get"), LAB.values(), ids=LAB)


@dataclass(frozen=True)
class Fruit:
    name: str
    colour: str = "green"


PEAR, APPLE, FIG = Fruit("pear"), Fruit("apple"), Fruit("fig", "blue")
FRUITS = Registry("fruit", Fruit, (PEAR, APPLE, FIG))


# -- the class ------------------------------------------------------------------------------


def test_a_registry_is_a_mapping_in_the_order_of_registration() -> None:
    assert isinstance(FRUITS, Mapping)
    assert list(FRUITS) == ["pear", "apple", "fig"]
    assert list(FRUITS.values()) == [PEAR, APPLE, FIG]
    assert len(FRUITS) == 3
    assert "fig" in FRUITS and "plum" not in FRUITS and PEAR not in FRUITS
    assert FRUITS["fig"] is FIG
    with pytest.raises(KeyError):
        FRUITS["plum"]


def test_get_takes_a_name_or_an_object() -> None:
    mine = Fruit("plum", "red")
    assert FRUITS.get("apple") is APPLE
    assert FRUITS.get(APPLE) is APPLE
    assert FRUITS.get(mine) is mine  # registered or not


def test_an_unregistered_object_that_has_a_registered_name_is_not_taken_for_the_entry() -> None:
    mine = replace(FIG, colour="brown")
    assert FRUITS.get(mine) is mine


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("appel", r"^unknown fruit 'appel'; did you mean apple\?$"),
        ("xyzzy", "^unknown fruit 'xyzzy'; known: apple, fig, pear$"),
        (3, r"^fruit=3 is a int: expected a Fruit or the name of one$"),
        (b"apple", r"^fruit=b'apple' is a bytes: expected a Fruit .*; did you mean 'apple'\?$"),
        (["fig"], r"^fruit=\['fig'\] is a list: expected a Fruit or the name of one"),
        (None, "^fruit=None is a NoneType"),
    ],
)
def test_what_is_neither_is_refused_by_name(key: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FRUITS.get(key)


def test_a_default_stands_for_what_is_missing_as_in_every_mapping() -> None:
    assert FRUITS.get("plum", None) is None
    assert FRUITS.get("plum", PEAR) is PEAR
    assert FRUITS.get("fig", None) is FIG
    assert FRUITS.get(3, "nothing") == "nothing"  # type: ignore[call-overload]


def test_two_entries_of_one_name_are_refused() -> None:
    with pytest.raises(DuplicateNameError, match="two entries are called fruit 'pear'"):
        Registry("fruit", Fruit, (PEAR, FIG, Fruit("pear", "yellow")))


def test_the_name_may_be_made_of_several_attributes() -> None:
    by_both = Registry("fruit", Fruit, (PEAR, Fruit("pear", "red")), key=lambda f: f"{f.colour} {f.name}")
    assert list(by_both) == ["green pear", "red pear"]


def test_it_is_importable_without_anything_heavy() -> None:
    code = "import sys, precision_lab.registry; print({'torch', 'numpy', 'mpmath'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# -- those of the lab -----------------------------------------------------------------------


@each
def test_every_entry_is_found_by_its_name_and_stands_for_itself(
    registry: Registry[Any], get: Callable[[Any], Any]
) -> None:
    assert registry
    for name, entry in registry.items():
        assert get(name) is entry
        assert get(entry) is entry


@each
def test_a_near_miss_names_the_nearest(registry: Registry[Any], get: Callable[[Any], Any]) -> None:
    for name in registry:
        expected = re.escape(f"unknown {registry.kind} '{name}_'; did you mean ")
        with pytest.raises(UsageError, match=expected):
            get(name + "_")


@each
def test_an_object_of_another_type_is_named(registry: Registry[Any], get: Callable[[Any], Any]) -> None:
    expected = rf"^{registry.kind}=1\.5 is a float: expected a {registry.of.__name__}"
    with pytest.raises(UsageError, match=expected):
        get(1.5)


def test_a_dtype_of_torch_suggests_the_format() -> None:
    with pytest.raises(UsageError, match=r"^format=torch\.bfloat16 is a dtype: expected a FloatFormat"):
        get_format(torch.bfloat16)


def test_an_implementation_is_found_by_function_name_execution_and_whether_it_saturates() -> None:
    assert get_implementation("xielu", "naive") is IMPLEMENTATIONS["xielu naive [eager]"]
    plain = get_implementation("xielu", "naive", "fp8-fp32")
    clamped = get_implementation("xielu", "naive", "fp8-fp32", saturating=True)
    assert (plain.saturating, clamped.saturating) == (False, True)
    assert clamped is IMPLEMENTATIONS["xielu naive [fp8-fp32 saturating]"]
    assert (
        resolve("naive [fp8-fp32, saturating]", get_function("xielu"), FP32) is clamped
    )  # of earlier versions
    assert not [name for name in IMPLEMENTATIONS if "," in name]
    # Where there is no such variant, the one that there is.
    assert get_implementation("xielu", "naive", saturating=True) is IMPLEMENTATIONS["xielu naive [eager]"]
    with pytest.raises(UsageError, match="unknown eager implementation of xielu 'naif'; did you mean naive"):
        get_implementation("xielu", "naif")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("bfloat16", "bf16"), ("float16", "fp16"), ("half", "fp16"), ("FP8", "e4m3, e5m2"), ("BF16", "bf16"),
        ("float8_e4m3fn", "e4m3"), ("double", "fp64"), ("fp-32", "fp32"),
    ],
)  # fmt: skip
def test_a_format_that_is_called_otherwise_elsewhere_is_answered_with_its_name(name: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"^unknown format '{name}'; did you mean {meant}\\?$"):
        FORMATS.get(name)


@pytest.mark.parametrize(
    ("name", "meant"), [("Silu", "silu"), ("hard-swish", "hardswish"), ("GELU_tanh", "gelu_tanh")]
)
def test_capital_letters_and_dashes_leave_one_function(name: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"^unknown function '{name}'; did you mean {meant}\\?$"):
        FUNCTIONS.get(name)
