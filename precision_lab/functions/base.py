"""What an activation is: one formula in x and parameters, from which everything else follows.

Every gradient is the formula's derivative, raw-parameter gradients by the chain rule through softplus. Where
the formula is a sum of known basis functions on each side of 0 (`recognition`), fast tiers take its terms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Literal

from precision_lab.exceptions import UsageError, unknown_name
from precision_lab.formula.claims import Claim
from precision_lab.formula.derivatives import derivative
from precision_lab.formula.expression import Expression, symbol
from precision_lab.formula.rewriting import add, bound, function, mul, neg, simplified, sub
from precision_lab.formula.writing import text
from precision_lab.functions.basis import BASIS
from precision_lab.functions.recognition import recognised
from precision_lab.functions.terms import Affine, Term, collect, derivative_of

Side = Literal["negative", "positive"]
SECOND = "grad_grad_x"  # d²/dx², which double backward needs


@dataclass(frozen=True)
class Parameter:
    """A parameter of an activation.

    Attributes:
        default: initial value in the paper or in torch.
        trainable: whether its gradient is an output.
        positive: whether only values > 0 make sense.
        raw: constraint that maps the optimiser's value a to the effective one:
            "softplus" (θ = log(1+eᵃ)), "softplus+beta" (θ = β + log(1+eᵃ)), "identity"
            (θ is trained as it is) or None (not trained).
        operand: whether it is a second input, with a value of its own for every x, rather than one
            number for all.
    """

    name: str
    default: float
    trainable: bool = True
    positive: bool = False
    raw: Literal["softplus", "softplus+beta", "identity"] | None = None
    operand: bool = False


@dataclass(frozen=True)
class Monotone:
    """`output` is monotone between `lo` and `hi`: "-inf", "0", "inf" or "root_gradient"."""

    output: str
    lo: str
    hi: str
    direction: Literal["increasing", "decreasing"]


@dataclass(frozen=True)
class Activation:
    """Definition of one activation.

    Attributes:
        expression: the formula as it was written, in x, parameters and operands.
        formula: the same for people; written out from the expression where it is "".
        source: where it is defined, with the equation where there is one.
        domain: inputs with a value.
        laws: intervals of monotony that hold for every accepted parameter value.
        parameter_sets: named values measured side by side.
        limits: limits at −∞ and +∞ by output that the author declares, where none can be derived; None where
            the author knows of none.
        claims: what `piecewise` was told, which holds at the parameter values that are asked for.
        home: FILE:NAME of a user's own; "" of the lab's.
    """

    name: str
    title: str
    expression: Expression
    source: str = ""
    parameters: tuple[Parameter, ...] = ()
    formula: str = ""
    laws: tuple[Monotone, ...] = ()
    domain: str = "all real x"
    parameter_sets: Mapping[str, Mapping[str, float]] = field(default_factory=dict, hash=False)
    limits: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict, hash=False)
    claims: tuple[Claim, ...] = field(default=(), repr=False)
    home: str = ""

    def __post_init__(self) -> None:
        if not self.parameter_sets:
            object.__setattr__(self, "parameter_sets", {"init": {p.name: p.default for p in self.parameters}})
        if not self.formula:
            object.__setattr__(self, "formula", text(self.expression))

    def __hash__(self) -> int:
        return hash(self.name)

    # -- the formula --------------------------------------------------------------

    @cached_property
    def sides(self) -> tuple[tuple[Term, ...], tuple[Term, ...]] | None:
        """Sums of basis functions for x ≤ 0 and x > 0, which the fast tiers take; None where it is none."""
        return recognised(self.expression)

    @cached_property
    def _expressions(self) -> dict[str, Expression]:
        return {}

    def output_expression(self, output: str) -> Expression:
        """The formula of an output, simplified: an exact identity of the derivative as it is written.

        Raises:
            ValueError: no such output.
        """
        self.check_output(output)
        if output not in self._expressions:
            self._expressions[output] = self._derived(output)
        return self._expressions[output]

    def _derived(self, output: str) -> Expression:
        if output == "forward":
            return simplified(self.expression)
        if output == SECOND:
            return derivative(self.output_expression("grad_x"), "x")
        if not output.startswith("grad_raw_"):
            return derivative(self.expression, output.removeprefix("grad_"))
        name = output.removeprefix("grad_raw_")
        # A raw value that other parameters are built on moves them too: alpha_n = beta + softplus(a_n).
        followers = [p.name for p in self.parameters if p.raw == f"softplus+{name}"]
        total = derivative(self.expression, name)
        for follower in followers:
            total = add(total, derivative(self.expression, follower))
        parameter = next(p for p in self.parameters if p.name == name)
        if parameter.raw == "identity":
            return total
        argument = symbol(name) if parameter.raw == "softplus" else sub(symbol(name), symbol("beta"))
        return mul(neg(function("expm1", neg(argument))), total)

    def bound_expression(self, output: str, params: Mapping[str, float]) -> Expression:
        """`output_expression` at exact parameter values: in x alone."""
        self.raw_factor_argument(output, params)
        return bound(
            self.output_expression(output), {name: Fraction(value) for name, value in params.items()}
        )

    @cached_property
    def continuous(self) -> tuple[str, ...]:
        """Outputs whose sides meet at 0, at the default parameters and at others.

        What never bends there meets.
        """
        from precision_lab.functions.meeting import meets_at_zero

        tried = [{p.name: p.default * (1 + k / 8) + k / 16 for p in self.parameters} for k in range(3)]
        return tuple(
            o
            for o in self.outputs
            if all(meets_at_zero(self.bound_expression(o, params)) for params in tried)
        )

    # -- inputs -----------------------------------------------------------------

    @property
    def operands(self) -> tuple[Parameter, ...]:
        """Its inputs beside x: what has a value of its own for every x."""
        return tuple(p for p in self.parameters if p.operand)

    @property
    def is_gated(self) -> bool:
        """Whether a second input gates x, as in SwiGLU; an MLP around it has a third matrix."""
        return bool(self.operands)

    def has_terms(self, output: str) -> bool:
        """Whether the fast tiers have an output: a sum of known basis functions on each side of 0."""
        return self.sides is not None and output != SECOND

    # -- outputs ----------------------------------------------------------------

    @property
    def outputs(self) -> tuple[str, ...]:
        """forward, grad_x and the gradient of each trainable (effective) parameter."""
        return ("forward", "grad_x", *(f"grad_{p.name}" for p in self.parameters if p.trainable))

    @property
    def all_outputs(self) -> tuple[str, ...]:
        """Also what is measured on request alone: raw gradients and d²/dx²."""
        return (*self.outputs, *self.raw_outputs, SECOND)

    @property
    def raw_outputs(self) -> tuple[str, ...]:
        """Gradients with respect to the values the optimiser sees."""
        return tuple(f"grad_raw_{p.name}" for p in self.parameters if p.raw is not None)

    def check_output(self, output: str) -> None:
        """Raises ValueError, naming the nearest outputs, unless the function has this one."""
        if output not in self.all_outputs:
            raise unknown_name(f"output of {self.name}", output, self.all_outputs)

    def terms(self, output: str, side: Side) -> tuple[Term, ...]:
        """The output on one side of 0 as a sum of terms (without the raw factor).

        Raises:
            ValueError: the formula is no such sum, see `has_terms`.
        """
        self.check_output(output)
        if self.sides is None:
            raise UsageError(f"{self.name} is no sum of known basis functions")
        terms = self.sides[0 if side == "negative" else 1]
        if output == "forward":
            return terms
        if output == "grad_x":
            return collect(
                Term(term.coefficient.scaled(weight), basis)
                for term in terms
                for weight, basis in derivative_of(term.basis)
            )
        name = (
            output.removeprefix("grad_raw_")
            if output.startswith("grad_raw_")
            else output.removeprefix("grad_")
        )
        weights = [(term, term.coefficient.derivative(name)) for term in terms]
        if output.startswith("grad_raw_"):
            # A raw value that other parameters are built on moves them too: alpha_n = beta + softplus(a_n).
            followers = [p.name for p in self.parameters if p.raw == f"softplus+{name}"]
            weights += [(term, term.coefficient.derivative(f)) for f in followers for term in terms]
        return collect(Term(Affine(weight), term.basis) for term, weight in weights if weight)

    def raw_factor_argument(self, output: str, params: Mapping[str, float]) -> Fraction | None:
        """t such that the raw gradient is (1 − e^(−t)) times its terms; None where it is 1.

        θ = softplus(a) gives eᶿ = 1 + eᵃ, so dθ/da = σ(a) = 1 − e^(−θ), with θ − β in
        place of θ when θ = β + softplus(a).

        Raises:
            ValueError: θ cannot be reached through its constraint.
        """
        if not output.startswith("grad_raw_"):
            return None
        parameter = next(p for p in self.parameters if p.name == output.removeprefix("grad_raw_"))
        if parameter.raw == "identity":
            return None
        argument = Fraction(params[parameter.name])
        if parameter.raw == "softplus+beta":
            argument -= Fraction(params["beta"])
        if argument <= 0:
            raise UsageError(
                f"{parameter.name}={params[parameter.name]!r} has no raw value: {parameter.raw} only reaches "
                "larger ones; ask for the effective gradient instead"
            )
        return argument

    # -- parameters ---------------------------------------------------------------

    def check_params(self, params: Mapping[str, float] | None = None) -> dict[str, float]:
        """All parameters as floats, defaults filled in.

        Raises:
            ValueError: an unknown name, a value that is not finite, or not positive where it must be; values
                at which a `piecewise` has no value, or two.
        """
        known = {p.name: p for p in self.parameters}
        values = {p.name: p.default for p in self.parameters}
        for name, value in (params or {}).items():
            if name not in known:
                raise unknown_name(f"parameter of {self.name}", name, known)
            number = float(value)
            fault = self._fault(known[name], number)
            if fault:
                raise UsageError(f"{name}={value!r}: {fault}")
            values[name] = number
        self._check_claims(tuple(values.items()))
        return values

    def _check_claims(self, items: tuple[tuple[str, float], ...]) -> None:
        if not self.claims or items in self._claimed:
            return
        for claim in self.claims:
            claim.check(self.name, {name: Fraction(value) for name, value in items})
        self._claimed.add(items)

    @cached_property
    def _claimed(self) -> set[tuple[tuple[str, float], ...]]:
        return set()

    def check_received(self, name: str, asked: float, received: float, where: str) -> None:
        """Raises ValueError where a value that may be asked for becomes one that may not.

        Args:
            where: what made `received` of `asked`, as in "in fp16".
        """
        parameter = next((p for p in self.parameters if p.name == name), None)
        fault = parameter and self._fault(parameter, received)
        if fault:
            raise UsageError(f"{name}={asked!r} becomes {received!r} {where}, and {fault}")

    def _fault(self, parameter: Parameter, value: float) -> str | None:
        if not math.isfinite(value):
            return f"parameters of {self.name} must be finite"
        if parameter.positive and value <= 0:
            return f"must be greater than 0 in {self.name}"
        return None

    # -- values at special points ---------------------------------------------------

    def limit(self, output: str, params: Mapping[str, float], sign: int) -> float:
        """Limit at sign·∞: the coefficient of the highest power of x that remains."""
        totals: list[Fraction | float] = [Fraction(0)] * 4
        for term in self.terms(output, "negative" if sign < 0 else "positive"):
            basis = BASIS[term.basis]
            asymptote = basis.at_minus_infinity if sign < 0 else basis.at_plus_infinity
            if asymptote is None:
                raise UsageError(f"{basis.text} has no polynomial asymptote at {sign}*inf")
            coefficient = term.coefficient.at(params)
            totals = [
                total + (coefficient * c if isinstance(c, Fraction) else float(coefficient) * c)
                for total, c in zip(totals, asymptote, strict=True)
            ]
        argument = self.raw_factor_argument(output, params)
        factor = 1.0 if argument is None else -math.expm1(-float(argument))
        for power in (3, 2, 1):
            if totals[power]:
                return math.copysign(math.inf, float(totals[power]) * (sign**power))
        return float(totals[0]) * factor
