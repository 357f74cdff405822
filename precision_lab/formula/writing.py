"""Expressions as text, as LaTeX, as a key, and as the list of operations that a kernel rounds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

from precision_lab.formula.expression import Comparison, Expression, children

_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eta": "η", "theta": "θ",
    "kappa": "κ", "lambda": "λ", "lam": "λ", "mu": "μ", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ",
    "omega": "ω",
}  # fmt: skip
_NAMES = {"exp": "exp", "sigmoid": "σ", "sigmoid_slope": "σ′", "atan": "arctan"}
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
# How tightly an operation binds.
_SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(5)
# Of comparisons by whether their sides are turned around, and whether they are strict.
_SIGNS = {
    (False, True): ("<", "<"), (False, False): ("≤", r"\le"),
    (True, True): (">", ">"), (True, False): ("≥", r"\ge"),
}  # fmt: skip


def text(e: Expression) -> str:
    """For people: x·σ(1.702·x)."""
    return _text(e)[0]


def _bracketed(e: Expression, least: int) -> str:
    words, binding = _text(e)
    return words if binding >= least else f"({words})"


@lru_cache(maxsize=4096)
def _text(e: Expression) -> tuple[str, int]:
    if e.kind == "number":
        words = shown(e.args[0])
        return words, _SUM if words.startswith("−") else _PRODUCT if "/" in words else _ATOM
    if e.kind == "pi":
        return "π", _ATOM
    if e.kind == "symbol":
        stem, _, rest = e.args[0].partition("_")
        return _GREEK.get(stem, stem) + (f"_{rest}" if rest else ""), _ATOM
    if e.kind in ("add", "sub"):
        sign = "+" if e.kind == "add" else "−"
        return f"{_bracketed(e.args[0], _SUM)} {sign} {_bracketed(e.args[1], _PRODUCT)}", _SUM
    if e.kind in ("mul", "div"):
        sign = "·" if e.kind == "mul" else "/"
        right = _PRODUCT if e.kind == "mul" else _SIGN
        return f"{_bracketed(e.args[0], _PRODUCT)}{sign}{_bracketed(e.args[1], right)}", _PRODUCT
    if e.kind == "neg":
        return f"−{_bracketed(e.args[0], _PRODUCT)}", _SUM
    if e.kind == "power":
        base, exponent = _bracketed(e.args[0], _ATOM), text(e.args[1])
        raised = (
            exponent.translate(_SUPERSCRIPTS) if exponent.isdecimal() else f"^{_bracketed(e.args[1], _ATOM)}"
        )
        return f"{base}{raised}", _POWER
    if e.kind == "where":
        known = _chosen(e)
        if known is not None:
            name, parts = known
            words = ", ".join(map(text, parts))
            return (f"|{words}|" if name == "abs" else f"{name}({words})"), _ATOM
        *pieces, last = _pieces(e)
        said = "; ".join(f"{text(value)} if {comparison_text(c)}" for c, value in pieces if c is not None)
        return f"{{{said}; else {text(last[1])}}}", _ATOM
    return f"{_NAMES.get(e.kind, e.kind)}({text(e.args[0])})", _ATOM


def _chosen(e: Expression) -> tuple[str, tuple[Expression, ...]] | None:
    """A `where` that is a minimum, a maximum or a size, and of what."""
    condition, a, b = e.args
    if condition.left is a and condition.right is b:
        return "min", (a, b)
    if condition.left is b and condition.right is a:
        return "max", (a, b)
    if a.kind == "neg" and a.args[0] is b and condition.left is b and _is_zero(condition.right):
        return "abs", (b,)
    return None


def _is_zero(e: Expression) -> bool:
    return e.kind == "number" and not e.args[0]


def _pieces(e: Expression) -> list[tuple[Comparison | None, Expression]]:
    """Conditions and values of a chain of `where`, and at last the value without a condition."""
    found: list[tuple[Comparison | None, Expression]] = []
    while e.kind == "where" and _chosen(e) is None:
        condition, value, e = e.args
        found.append((condition, value))
    return [*found, (None, e)]


def comparison_text(c: Comparison) -> str:
    """As people write it, the side with x first."""
    left, (sign, _), right = _x_first(c)
    return f"{text(left)} {sign} {text(right)}"


def _x_first(c: Comparison) -> tuple[Expression, tuple[str, str], Expression]:
    """Its sides, that with x first, and the sign between them as text and in LaTeX."""
    turned = c.left.kind == "number" and c.right.kind != "number"
    left, right = (c.right, c.left) if turned else (c.left, c.right)
    return left, _SIGNS[turned, c.strict], right


def shown(value: Fraction) -> str:
    """A number as it was written: a whole number, a float64's shortest decimals, or a fraction."""
    sign = "−" if value < 0 else ""
    size = abs(value)
    if size.denominator == 1 and size < 10**6:
        return f"{sign}{size.numerator}"
    nearest = float(size)
    if Fraction(nearest) == size:
        return sign + repr(nearest)
    return f"{sign}{size.numerator}/{size.denominator}"


_LATEX = {
    "exp": r"\exp", "log": r"\log", "sin": r"\sin", "cos": r"\cos", "tan": r"\tan", "tanh": r"\tanh",
    "sinh": r"\sinh", "cosh": r"\cosh", "sigmoid": r"\sigma", "sigmoid_slope": r"\sigma'", "atan": r"\arctan",
}  # fmt: skip


def latex(e: Expression) -> str:
    """For mathematics in pages."""
    return _latex(e)[0]


def _wrapped(e: Expression, least: int) -> str:
    words, binding = _latex(e)
    return words if binding >= least else rf"\left({words}\right)"


@lru_cache(maxsize=4096)
def _latex(e: Expression) -> tuple[str, int]:
    if e.kind == "number":
        words = shown(e.args[0]).replace("−", "-")
        top, _, bottom = words.partition("/")
        if bottom:
            return rf"\frac{{{top}}}{{{bottom}}}", _ATOM
        return words, _SUM if words.startswith("-") else _ATOM
    if e.kind == "pi":
        return r"\pi", _ATOM
    if e.kind == "symbol":
        stem, _, rest = e.args[0].partition("_")
        name = (
            rf"\{stem}"
            if stem in _GREEK and stem != "lam"
            else (stem if len(stem) == 1 else rf"\mathrm{{{stem}}}")
        )
        return name + (rf"_{{{rest}}}" if rest else ""), _ATOM
    if e.kind in ("add", "sub"):
        sign = "+" if e.kind == "add" else "-"
        return f"{_wrapped(e.args[0], _SUM)} {sign} {_wrapped(e.args[1], _PRODUCT)}", _SUM
    if e.kind == "mul":
        return rf"{_wrapped(e.args[0], _PRODUCT)} \, {_wrapped(e.args[1], _PRODUCT)}", _PRODUCT
    if e.kind == "div":
        return rf"\frac{{{latex(e.args[0])}}}{{{latex(e.args[1])}}}", _ATOM
    if e.kind == "neg":
        return f"-{_wrapped(e.args[0], _PRODUCT)}", _SUM
    if e.kind == "power":
        return f"{_wrapped(e.args[0], _ATOM)}^{{{latex(e.args[1])}}}", _POWER
    if e.kind == "sqrt":
        return rf"\sqrt{{{latex(e.args[0])}}}", _ATOM
    if e.kind == "where":
        known = _chosen(e)
        if known is not None:
            name, parts = known
            words = ", ".join(map(latex, parts))
            around = (r"\left|", r"\right|") if name == "abs" else (rf"\{name}\left(", r"\right)")
            return words.join(around), _ATOM
        *pieces, last = _pieces(e)
        lines = [rf"{latex(value)} & {_comparison_latex(c)}" for c, value in pieces if c is not None]
        lines.append(rf"{latex(last[1])} & \text{{else}}")
        return r"\begin{cases} " + r" \\ ".join(lines) + r" \end{cases}", _ATOM
    name = _LATEX.get(e.kind, rf"\mathrm{{{e.kind}}}")
    return rf"{name}\left({latex(e.args[0])}\right)", _ATOM


def _comparison_latex(c: Comparison) -> str:
    left, (_, sign), right = _x_first(c)
    return f"{latex(left)} {sign} {latex(right)}"


@lru_cache(maxsize=4096)
def key(e: Expression) -> str:
    """A digest of the expression as it stands: equal keys, equal expressions. For caches.

    x·σ(x) and x/(1 + e⁻ˣ) have different keys: it tells how a function is written, not which it is.
    """
    if e.kind in ("number", "symbol"):
        return hashlib.sha256(f"{e.kind} {e.args[0]}".encode()).hexdigest()
    strict = f" {e.args[0].strict}" if e.kind == "where" else ""
    return hashlib.sha256(" ".join((e.kind + strict, *(key(c) for c in children(e)))).encode()).hexdigest()


def operations(e: Expression) -> tuple[Expression, ...]:
    """Every operation once, what it is of before it: what a kernel computes, and may round, in order."""
    seen: dict[Expression, None] = {}

    def visit(part: Expression) -> Iterator[Expression]:
        for child in children(part):
            if child not in seen:
                yield from visit(child)
        if part not in seen and children(part):
            seen[part] = None
            yield part

    return tuple(visit(e))


# An expression shows itself as people write it.
Expression.__repr__ = text  # type: ignore[method-assign]
