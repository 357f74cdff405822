"""Hypothesis strategies: numbers of a format, inputs that break kernels, parameters, shapes, layouts.

All shrink towards what is simplest to think about: 1, then powers of two and short significands,
positive before negative; few elements; contiguous memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import MissingPackageError, UsageError
from precision_lab.formats import FloatFormat, get_format
from precision_lab.functions import Activation, get_function
from precision_lab.inputs import sets as input_sets
from precision_lab.oracle import reference
from precision_lab.oracle.plain_roots import roots_of
from precision_lab.system.extras import install_line

try:  # `search` takes Hypothesis from here
    from hypothesis import HealthCheck as HealthCheck
    from hypothesis import Phase as Phase
    from hypothesis import given as given
    from hypothesis import settings as settings
    from hypothesis import strategies as st
    from hypothesis import target as target
    from hypothesis.strategies import SearchStrategy as SearchStrategy
    from hypothesis.strategies import integers as integers
except ImportError as error:
    raise MissingPackageError(f"Hypothesis is not installed; {install_line('hypothesis')}") from error

# For searches of the lab's own: the same examples every time, and nothing kept on the disk.
COMMON_SETTINGS: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "derandomize": True,
    "suppress_health_check": list(HealthCheck),
    "print_blob": False,
}
HARD = 256  # hard-to-round inputs kept per case
_SAMPLE = 1 << 16  # values among which they are looked for in formats of more than 16 bits
_ROOT_REACH = 64  # floats either way of a root


def patterns(fmt: str | FloatFormat) -> SearchStrategy[int]:
    """Every bit pattern of a format, NaNs included."""
    return st.integers(0, get_format(fmt).n_patterns - 1)


def floats(
    fmt: str | FloatFormat,
    *,
    min_value: float | None = None,
    max_value: float | None = None,
    allow_nan: bool = False,
    allow_infinity: bool = False,
    allow_subnormal: bool = True,
) -> SearchStrategy[float]:
    """Values of a format, by sign, exponent and significand, so that every binade is as likely.

    Args:
        min_value, max_value: limits, both inclusive; then values are drawn by ordinal.

    Raises:
        ValueError: no value of the format lies between the limits; a format without zero or sign.
    """
    target = get_format(fmt)
    target.check_rounds()
    if min_value is not None or max_value is not None:
        low = -target.max_finite if min_value is None else min_value
        high = target.max_finite if max_value is None else max_value
        first, last = (int(target.ordinal(target.round(np.array([v])))[0]) for v in (low, high))
        first += float(target.from_ordinal(np.array([first]))[0]) < low
        last -= float(target.from_ordinal(np.array([last]))[0]) > high
        if first > last:
            raise UsageError(
                f"min_value={min_value!r}, max_value={max_value!r}: no {target.name} between them"
            )
        return st.integers(first, last).map(lambda k: float(target.from_ordinal(np.array([k]))[0]))
    lowest = target.emin - 1 if allow_subnormal else target.emin
    drawn: SearchStrategy[float] = st.builds(
        lambda negative, exponent, fraction: _value(target, negative, exponent, fraction),
        st.booleans(),
        st.integers(lowest, target.emax),
        st.integers(0, (1 << target.fraction_bits) - 1),
    )
    special: list[float] = [0.0, -0.0]
    if allow_infinity and target.has_infinity:
        special += [np.inf, -np.inf]
    if allow_nan and target.has_nan:
        special.append(np.nan)
    return drawn | st.sampled_from(special)


def _value(fmt: FloatFormat, negative: bool, exponent: int, fraction: int) -> float:
    """A number with the fraction's bits reversed: small integers are short significands."""
    digits = int(f"{fraction:0{fmt.fraction_bits}b}"[::-1], 2) if fmt.fraction_bits else 0
    significand = digits + (0 if exponent < fmt.emin else 1 << fmt.fraction_bits)
    size = significand * 2.0 ** (max(exponent, fmt.emin) - fmt.fraction_bits)
    return float(np.copysign(min(size, fmt.max_finite), -1.0 if negative else 1.0))


def near_zero_negative(fmt: str | FloatFormat) -> SearchStrategy[float]:
    """(−1/16, 0): where e^x − 1 cancels, down to the smallest subnormal."""
    target = get_format(fmt)
    top = int(np.log2(input_sets.NEAR_ZERO)) - 1
    return st.builds(
        lambda depth, fraction: _value(target, True, top - depth, fraction),
        st.integers(0, top - target.emin + 1),
        st.integers(0, (1 << target.fraction_bits) - 1),
    ).filter(lambda x: x != 0)


def near_root(
    fmt: str | FloatFormat,
    function: str | Activation,
    params: Mapping[str, float] | None = None,
    output: str = "forward",
) -> SearchStrategy[float]:
    """The floats nearest to the roots of an output; nothing where it has none."""
    target, definition = get_format(fmt), get_function(function)
    roots = [
        r
        for r in roots_of(definition, output, definition.check_params(params))
        if abs(r) <= target.max_finite
    ]
    if not roots:
        return st.nothing()
    centres = target.ordinal(target.round(np.array(roots))).astype(int).tolist()
    return st.builds(
        lambda centre, step: float(target.from_ordinal(np.array([centre + step]))[0]),
        st.sampled_from(centres),
        st.integers(-_ROOT_REACH, _ROOT_REACH),
    )


def boundaries(
    fmt: str | FloatFormat, function: str | Activation, params: Mapping[str, float] | None = None
) -> SearchStrategy[float]:
    """Edges of binades and the format, the clamp, roots, overflow: finite ones of `inputs.sets.directed`."""
    target, definition = get_format(fmt), get_function(function)
    cases = input_sets.directed(target, definition, params)
    bits = np.array([case.bits for case in cases], target.bits_dtype)
    x = target.decode(bits)
    return st.sampled_from(_simplest_first(x[np.isfinite(x)]))


def hard_to_round(
    fmt: str | FloatFormat,
    function: str | Activation,
    output: str = "forward",
    params: Mapping[str, float] | None = None,
) -> SearchStrategy[float]:
    """Inputs whose exact value lies nearest to a tie: those that a nearly right kernel gets wrong.

    Of all inputs in formats of up to 16 bits, of a seeded sample in wider ones.
    """
    definition = get_function(function)
    items = tuple(sorted(definition.check_params(params).items()))
    return st.sampled_from(list(_hard(get_format(fmt), definition, output, items)))


@lru_cache(maxsize=64)
def _hard(
    fmt: FloatFormat, function: Activation, output: str, items: tuple[tuple[str, float], ...]
) -> tuple[float, ...]:
    if fmt.bits <= 16:
        x = fmt.decode(fmt.all_bits())
    else:
        generator = np.random.Generator(np.random.PCG64(input_sets.SEED))
        x = fmt.from_ordinal(generator.integers(-fmt.max_ordinal, fmt.max_ordinal + 1, _SAMPLE))
    x = x[np.isfinite(x)]
    exact = reference(function, output, dict(items), x, fmt)
    usable = np.isfinite(exact.rounded) & (np.abs(exact.exact) >= fmt.min_normal)
    distance = np.where(usable, np.abs(np.abs(exact.tail) - 0.5), np.inf)
    chosen = np.argsort(distance, kind="stable")[:HARD]
    return tuple(_simplest_first(x[chosen]))


def inputs(
    fmt: str | FloatFormat,
    function: str | Activation,
    params: Mapping[str, float] | None = None,
    output: str = "forward",
) -> SearchStrategy[float]:
    """Finite inputs of every kind above."""
    return st.one_of(
        floats(fmt),
        near_zero_negative(fmt),
        boundaries(fmt, function, params),
        hard_to_round(fmt, function, output, params),
        *(near_root(fmt, function, params, o) for o in dict.fromkeys(("forward", "grad_x", output))),
    )


def parameters(
    function: str | Activation, fmt: str | FloatFormat = "bf16"
) -> SearchStrategy[dict[str, float]]:
    """Legal parameter values: the named sets, and each parameter over twenty binades and more.

    The defaults come first, so that shrinking ends there where it can.
    """
    definition, target = get_function(function), get_format(fmt)
    if not definition.parameters:
        return st.just({})
    sets = [definition.check_params(values) for values in definition.parameter_sets.values()]

    def one(name: str, default: float, positive: bool) -> SearchStrategy[float]:
        wide = st.builds(
            lambda exponent, quarters: (4 + quarters) * 2.0 ** (exponent - 2),
            st.integers(-14, 7),
            st.integers(0, 3),
        )
        free = wide if positive else st.sampled_from([0.0, 0.25, 1.0, 2.0]) | wide
        return st.just(default) | free.filter(
            lambda v: bool(target.round(np.array([v]))[0] > 0) or not positive
        )

    free = st.fixed_dictionaries({p.name: one(p.name, p.default, p.positive) for p in definition.parameters})
    return st.sampled_from(sets).map(dict) | free


def _simplest_first(x: NDArray[np.float64]) -> list[float]:
    """Short significands first, then small exponents, then positive ones."""

    def key(value: float) -> tuple[int, int, bool]:
        mantissa, exponent = np.frexp(abs(value))
        digits = int(mantissa * 2**53)
        length = digits.bit_length() - ((digits & -digits).bit_length() - 1) if digits else 0
        return length, abs(int(exponent)), value < 0

    return sorted((float(v) for v in x), key=key)


# -- shapes and layouts of tensors ------------------------------------------------------------


def shapes(*, max_elements: int = 5000) -> SearchStrategy[tuple[int, ...]]:
    """Shapes of up to four dimensions: lengths about powers of two, empty and 0-d ones among them."""
    lengths = st.integers(0, 17) | st.sampled_from([31, 33, 63, 64, 65, 127, 255, 257, 1023, 1025, 4097])
    return st.lists(lengths, max_size=4).map(tuple).filter(lambda shape: int(np.prod(shape)) <= max_elements)


@dataclass(frozen=True)
class Layout:
    """A way to lay elements out in memory; `make` turns a contiguous tensor into an equal one so laid."""

    name: str
    make: Callable[[Any], Any]

    def __repr__(self) -> str:
        return f"Layout({self.name!r})"


def layouts() -> SearchStrategy[Layout]:
    """Contiguous first, then at an offset, with gaps, and with its dimensions stored in reverse."""

    def at_offset(offset: int) -> Layout:
        def make(x: Any) -> Any:
            room = x.new_empty(x.numel() + offset)
            room[offset:] = x.reshape(-1)
            return room[offset:].reshape(x.shape)

        return Layout(f"offset {offset}", make)

    def with_gaps(step: int) -> Layout:
        def make(x: Any) -> Any:
            room = x.new_zeros(x.numel(), step)
            room[:, 0] = x.reshape(-1)
            view = room[:, 0]
            strides = tuple(stride * step for stride in x.contiguous().stride())
            return view.as_strided(x.shape, strides) if x.dim() else view[0]

        return Layout(f"every {step}th element", make)

    def backwards(x: Any) -> Any:
        order = tuple(reversed(range(x.dim())))
        return x.permute(order).contiguous().permute(order)

    return st.one_of(
        st.just(Layout("contiguous", lambda x: x.contiguous())),
        st.integers(1, 9).map(at_offset),
        st.integers(2, 4).map(with_gaps),
        st.just(Layout("dimensions reversed", backwards)),
    )


def register_profiles() -> None:
    """Registers "precision-ci", the same examples every time, and "precision-explore", new ones.

    Load one with `hypothesis.settings.load_profile`, in a conftest for instance.
    """
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    common: dict[str, Any] = {"deadline": None, "print_blob": True, "suppress_health_check": slow}
    settings.register_profile("precision-ci", derandomize=True, max_examples=100, **common)
    settings.register_profile("precision-explore", max_examples=5000, **common)
