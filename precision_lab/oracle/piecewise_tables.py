"""Compiled tables of basis functions, kept on disk by everything that they depend on."""

from __future__ import annotations

import hashlib
import inspect
import io
import marshal
from functools import lru_cache

import numpy as np

from precision_lab.functions import basis as basis_module
from precision_lab.functions.basis import BASIS, BasisFunction
from precision_lab.oracle import arb_series as arb_module
from precision_lab.oracle import piecewise_compiler as compiler
from precision_lab.oracle.piecewise_compiler import Table
from precision_lab.system.cache_files import cache_directory, read_checked, write_checked


def _key(name: str, side: int, double: bool) -> str:
    """Everything a table depends on: definitions, this compiler and Arb's version."""
    import flint

    digest = hashlib.sha256(f"{compiler.VERSION}:{name}:{side}:{double}:{flint.__version__}".encode())
    basis = BASIS[name]
    # A function registered at run time stands in no module that is read below.
    for formula in (basis.formula, basis.slope):
        digest.update(b"" if formula is None else marshal.dumps(formula.__code__))
    fields = (basis.at_minus_infinity, basis.at_plus_infinity, basis.approach, basis.beyond)
    digest.update(repr(fields).encode())
    for module in (basis_module, arb_module, compiler):
        digest.update(inspect.getsource(module).encode())
    return digest.hexdigest()


FIELDS = ("layout", "coefficients", "lows", "bounds", "central", "remainder", "asymptote", "beyond", "proof")


def unpacked(content: bytes) -> Table:
    """Inverse of `packed`."""
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return Table(*(stored[field] for field in FIELDS))


def packed(table: Table) -> bytes:
    """A table as it is kept on disk."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{field: getattr(table, field) for field in FIELDS})
    return buffer.getvalue()


def table(name: str, side: int, double: bool) -> Table:
    """The table of a registered basis function, from memory, from disk or compiled now.

    Args:
        side: -1 for x < 0, 1 for x > 0.
        double: for the second tier.
    """
    return _table(BASIS[name], side, double)


@lru_cache(maxsize=256)
def _table(basis: BasisFunction, side: int, double: bool) -> Table:
    name = basis.name
    tier = "dd" if double else "float64"
    sign = "negative" if side < 0 else "positive"
    key = _key(name, side, double)
    folder = cache_directory()
    if folder is None:
        return compiler.compile_table(basis, side, double)
    path = folder / f"{name.replace(chr(39), '_prime')}-{sign}-{tier}-{key[:24]}.table"
    content = read_checked(path, key)
    if content is not None:
        return unpacked(content)
    made = compiler.compile_table(basis, side, double)
    write_checked(path, key, packed(made))
    return made
