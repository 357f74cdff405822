"""Adding a built-in activation touches one file: a copy of the package finds it and derives the rest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import precision_lab
from precision_lab.exceptions import DuplicateNameError
from precision_lab.functions import FUNCTIONS, Activation
from precision_lab.functions.discovery import FIRST, definitions
from precision_lab.registry import Registry

PACKAGE = Path(precision_lab.__file__).parent
NEW = '''"""A definition that nothing else knows of."""

from __future__ import annotations

from precision_lab.formula.expression import Expression, where
from precision_lab.formula.vocabulary import expm1
from precision_lab.functions.from_formula import activation


@activation(source="nobody", raw={"alpha": "identity"}, alpha=0.5)
def aaa_new(x: Expression, alpha: Expression) -> Expression:
    return where(x > 0, x, alpha * expm1(x / 2))
'''
ASKED = """
import json
from precision_lab import functions
from precision_lab.formula.writing import latex
f = functions.get_function("aaa_new")
print(json.dumps({
    "file": functions.__file__, "names": list(functions.FUNCTIONS), "outputs": f.all_outputs,
    "text": f.formula, "latex": latex(f.expression), "continuous": f.continuous,
    "slope": repr(f.output_expression("grad_alpha")), "sets": f.parameter_sets, "source": f.source,
}))
"""


def test_one_file_makes_a_function(tmp_path: Path) -> None:
    copy = tmp_path / "precision_lab"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    (copy / "functions" / "aaa_new.py").write_text(NEW, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    told = subprocess.run(
        [sys.executable, "-c", ASKED],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=True,
    )
    found = json.loads(told.stdout)
    assert Path(found["file"]).is_relative_to(copy)
    later = sorted([*FUNCTIONS][len(FIRST) :])
    assert found["names"] == [*FIRST, "aaa_new", *later]
    assert found["outputs"] == ["forward", "grad_x", "grad_alpha", "grad_raw_alpha", "grad_grad_x"]
    assert found["text"] == "{x if x > 0; else α·expm1(x/2)}"
    assert found["latex"].startswith(r"\begin{cases} x & x > 0")
    assert found["continuous"] == ["forward", "grad_alpha"]
    assert found["slope"] == "{0 if x > 0; else expm1(x/2)}"
    assert found["sets"] == {"init": {"alpha": 0.5}} and found["source"] == "nobody"


def test_no_definition_is_named_where_it_is_not_defined_or_computed() -> None:
    """Each of the later ones stands in its own file, and where its kernel is registered; nowhere else."""
    home = {f"functions/{name}.py" for name in FUNCTIONS} | {"implementations/operators.py"}
    others = [p for p in PACKAGE.rglob("*.py") if p.relative_to(PACKAGE).as_posix() not in home]
    texts = {p: p.read_text(encoding="utf-8") for p in others}
    for name in [*FUNCTIONS][len(FIRST) :]:
        word = f"functions.{name} "
        assert not [p for p, text in texts.items() if word in text], name


def test_the_order_of_reports_stays_and_later_ones_follow_by_name() -> None:
    assert tuple(FUNCTIONS)[: len(FIRST)] == FIRST
    later = tuple(FUNCTIONS)[len(FIRST) :]
    assert later == tuple(sorted(later)) and "hardswish" in later


def test_two_definitions_of_one_name_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "two_of_one_name"
    package.mkdir()
    for file in ("__init__", "one", "two"):
        (package / f"{file}.py").write_text(NEW if file != "__init__" else "", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = definitions("two_of_one_name", [str(package)])
    assert [f.name for f in found] == ["aaa_new", "aaa_new"]
    with pytest.raises(DuplicateNameError, match="aaa_new"):
        Registry("function", Activation, found)
