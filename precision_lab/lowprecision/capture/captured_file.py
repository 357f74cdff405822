"""Captures as files, small enough to send by mail; what comes by mail is checked before it is believed.

A file is a npz of plain arrays, without pickle: counts of the bf16 patterns of each layer, counts of
coarser patterns of each channel, and a JSON header with a digest of them all.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from precision_lab.exceptions import DamagedFileError, UsageError
from precision_lab.lowprecision.capture.counts import (
    CHANNEL_BITS,
    Histogram,
    Layer,
    Product,
    bf16_values,
)
from precision_lab.system.atomic_file import write_atomically
from precision_lab.system.npz import UNREADABLE, Arrays
from precision_lab.system.text import plain_message

VERSION = 3
_READ = (2, VERSION)  # version 2 has neither products nor what follows them
# Bytes of the JSON header: some six thousand layers. Parsed, it takes up to twenty times as much.
_LONGEST_HEADER = 2 << 20
_MOST = 1 << 53  # of anything counted: sums are exact in float64, too
_KINDS = ("input", "gate", "gradient")
_PARTS = ("patterns", "counts", "channels", "amax")
_FIELDS = {
    "name": str, "module": str, "function": str, "params": dict, "kinds": dict, "amax": dict,
    "gate_in_gradient": bool, "notes": list,
}  # fmt: skip
_OF_PRODUCTS = {"name": str, "module": str, "also": list, "after": str, "odd": list, "notes": list}
Kept = dict[str, NDArray[Any]]
Contents = tuple[str, int, tuple[Layer, ...], tuple[Product, ...] | None, bool | None, tuple[str, ...]]


def save(
    model: str,
    steps: int,
    captured: Sequence[Layer],
    products: Sequence[Product] | None,
    initial: bool | None,
    unseen: Sequence[str],
    path: Path,
) -> Path:
    """As `Captured.save`."""
    arrays: Kept = {}
    layers = []
    for i, layer in enumerate(captured):
        for kind, histogram in layer.tensors.items():
            arrays |= _arrays(f"{i}.{kind}", histogram)
        if layer.moments is not None:
            arrays[f"{i}.moments"] = layer.moments
        layers.append(
            {
                "name": layer.name,
                "module": layer.module,
                "function": layer.function,
                "params": dict(layer.params),
                "kinds": {kind: [h.seen, h.infinite, h.nan] for kind, h in sorted(layer.tensors.items())},
                "amax": dict(layer.amax),
                "gate_in_gradient": layer.gate_in_gradient,
                "notes": list(layer.notes),
            }
        )
    inputs: list[dict[str, Any]] | None = None if products is None else []
    for i, product in enumerate(products or ()):
        arrays |= _arrays(_product_name(i), product.input)
        assert inputs is not None
        inputs.append(
            {
                "name": product.name,
                "module": product.module,
                "also": list(product.also),
                "after": product.after,
                "odd": [product.input.seen, product.input.infinite, product.input.nan],
                "notes": list(product.notes),
            }
        )
    header = {
        "version": VERSION, "model": model, "steps": steps, "layers": layers, "products": inputs,
        "initial": initial, "unseen": list(unseen),
    }  # fmt: skip
    header["digest"] = _digest(arrays, header)
    text = json.dumps(header).encode()
    if len(text) > _LONGEST_HEADER:
        raise UsageError(
            f"{len(layers)} layers and {len(products or ())} products have names and notes of {len(text)} "
            f"bytes, at most {_LONGEST_HEADER}: "
            "capture fewer"
        )
    arrays["header"] = np.frombuffer(text, np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    write_atomically(path, buffer.getvalue())
    return path


def _product_name(i: int) -> str:
    """What the arrays of a product begin with."""
    return f"product.{i}"


def _arrays(name: str, histogram: Histogram) -> Kept:
    seen = np.flatnonzero(histogram.patterns)
    return {
        f"{name}.patterns": seen.astype(np.uint16),
        f"{name}.counts": histogram.patterns[seen],
        f"{name}.channels": histogram.channels,
        f"{name}.amax": histogram.amax,
    }


def load(path: Path) -> Contents:
    """The fields of `Captured`; raises as `Captured.load`."""
    try:
        with path.open("rb") as stream:
            return _read(Arrays(stream))
    except UsageError as error:
        raise UsageError(f"{str(path)!r} {error}") from error
    except DamagedFileError as error:
        raise DamagedFileError(f"{str(path)!r} is damaged, or no capture: {error}") from error
    except (*UNREADABLE, MemoryError) as error:
        raise DamagedFileError(f"{str(path)!r} is no capture: {type(error).__name__}: {error}") from error


def _read(arrays: Arrays) -> Contents:
    header = _header(arrays)
    if header["version"] not in _READ:
        found = plain_message(repr(header["version"]))
        raise UsageError(
            f"has version={found}; this precision_lab reads {' and '.join(map(str, _READ))}: capture again"
        )
    described, steps, model = header["layers"], header["steps"], header["model"]
    _require(isinstance(model, str), f"model={model!r}")
    _require(_is_count(steps) and steps > 0, f"steps={steps!r}")
    products, initial, unseen = _about_products(header)
    _require(isinstance(described, list) and bool(described or products), "it has no layers")
    wanted = {"header"}
    for i, found in enumerate(described):
        _check_layer(i, found)
        wanted |= {f"{i}.{kind}.{part}" for kind in found["kinds"] for part in _PARTS}
        wanted |= {f"{i}.moments"} & arrays.names
    for i, found in enumerate(products or ()):
        _check_product(i, found)
        wanted |= {f"{_product_name(i)}.{part}" for part in _PARTS}
    for what, those in (("layers", described), ("products", products or ())):
        _require(len({found["name"] for found in those}) == len(those), f"two {what} have one name")
    for name in sorted(wanted ^ arrays.names):
        _require(name not in wanted, f"array {name!r} is missing")
        _require(name in wanted, f"array {name!r} belongs to none of its layers")
    kept: Kept = {}
    layers = tuple(_layer(i, found, arrays, kept) for i, found in enumerate(described))
    inputs = None
    if products is not None:
        inputs = tuple(
            Product(
                found["name"], found["module"], _histogram(_product_name(i), found["odd"], arrays, kept),
                tuple(found["also"]), found["after"], tuple(found["notes"]),
            )
            for i, found in enumerate(products)
        )  # fmt: skip
    given = header.pop("digest")
    _require(_digest(kept, header) == given, "its counts do not match its digest")
    return model, steps, layers, inputs, initial, unseen


def _about_products(header: dict[str, Any]) -> tuple[list[Any] | None, bool | None, tuple[str, ...]]:
    """What the header says of products, weights and unseen calls; nothing in version 2.

    Raises:
        DamagedFileError: names what is wrong.
    """
    if header["version"] == 2:
        return None, None, ()
    products, initial, unseen = (header.get(name, "nothing") for name in ("products", "initial", "unseen"))
    _require(products is None or isinstance(products, list), f"products={products!r}")
    _require(initial is None or isinstance(initial, bool), f"initial={initial!r}")
    _require(isinstance(unseen, list) and all(isinstance(u, str) for u in unseen), f"unseen={unseen!r}")
    return cast("list[Any] | None", products), cast("bool | None", initial), tuple(unseen)


def _require(right: bool, words: str) -> None:
    if not right:
        raise DamagedFileError(plain_message(words))


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _header(arrays: Arrays) -> dict[str, Any]:
    shape = arrays.shape("header")
    _require(len(shape) == 1 and shape[0] <= _LONGEST_HEADER, f"its header has shape {shape}")
    header = json.loads(arrays.read("header", "|u1", shape).tobytes())
    _require(isinstance(header, dict), "its header is no JSON object")
    for name in ("version", "digest", "model", "steps", "layers"):
        _require(name in header, f"its header has no {name!r}")
    return header  # type: ignore[no-any-return]


def _check_fields(what: str, found: Any, kinds: Mapping[str, Any]) -> None:
    """That an object of the header has these fields, each of its kind."""
    _require(isinstance(found, dict), f"{what} is no JSON object")
    for name, kind in kinds.items():
        value = found.get(name)
        _require(isinstance(value, kind), f"{what}: {name}={value!r}, no {kind.__name__}")


def _check_layer(i: int, found: Any) -> None:
    """What the header says of a layer: kinds and ranges.

    Raises:
        DamagedFileError: names what is wrong.
    """
    _check_fields(f"layer {i}", found, _FIELDS)
    kinds = found["kinds"]
    _require({"input"} <= set(kinds) <= set(_KINDS), f"layer {i}: kinds={sorted(kinds)}")
    for kind, odd in kinds.items():
        counts = isinstance(odd, list) and len(odd) == 3 and all(map(_is_count, odd))
        _require(counts and odd[1] + odd[2] <= odd[0], f"layer {i}: {kind}={odd!r}, no [seen, infinite, NaN]")
    for name, value in found["params"].items():
        _require(_is_number(value), f"layer {i}: {name}={value!r}")
    for name, value in found["amax"].items():
        right = name in ("stored", "returned") and _is_number(value) and 0 <= value < math.inf
        _require(right, f"layer {i}: amax {name}={value!r}")
    for note in found["notes"]:
        _require(isinstance(note, str), f"layer {i}: note {note!r}")


def _check_product(i: int, found: Any) -> None:
    """What the header says of a product.

    Raises:
        DamagedFileError: names what is wrong.
    """
    _check_fields(f"product {i}", found, _OF_PRODUCTS)
    odd = found["odd"]
    counts = len(odd) == 3 and all(map(_is_count, odd))
    _require(counts and odd[1] + odd[2] <= odd[0], f"product {i}: {odd!r}, no [seen, infinite, NaN]")
    for name in ("also", "notes"):
        for text in found[name]:
            _require(isinstance(text, str), f"product {i}: {name} {text!r}")


def _layer(i: int, found: Mapping[str, Any], arrays: Arrays, kept: Kept) -> Layer:
    tensors = {kind: _histogram(f"{i}.{kind}", odd, arrays, kept) for kind, odd in found["kinds"].items()}
    moments = None
    if f"{i}.moments" in arrays.names:
        moments = kept[f"{i}.moments"] = _moments(f"{i}.moments", tensors, arrays)
    return Layer(
        found["name"], found["module"], found["function"], found["params"], tensors, moments,
        found["amax"], found["gate_in_gradient"], tuple(found["notes"]),
    )  # fmt: skip


def _histogram(name: str, odd: list[int], arrays: Arrays, kept: Kept) -> Histogram:
    """One tensor's counts, which have to agree with one another.

    Every row that was counted has one number in each channel, and every number is in `counts` and in
    `channels`.

    Raises:
        DamagedFileError: they do not; names the array.
    """
    seen, infinite, nan = odd
    shape = arrays.shape(f"{name}.patterns")
    _require(len(shape) == 1 and 1 <= shape[0] <= 1 << 16, f"{name}.patterns has shape {shape}")
    met = arrays.read(f"{name}.patterns", "<u2", shape)
    counts = arrays.read(f"{name}.counts", "<u8", shape)
    _require(bool((met[1:] > met[:-1]).all()), f"{name}.patterns is not in order")
    _require(bool((counts > 0).all()), f"{name}.counts has zeros")
    n = int(counts.astype(np.float64).sum())  # exact up to 2^53, and no greater value comes to less
    _require(n <= seen, f"{name}.counts: {n} numbers of {seen} that passed")
    patterns = np.zeros(1 << 16, np.uint64)
    patterns[met] = counts
    counted = int(patterns[np.isnan(bf16_values())].sum())
    _require(counted <= nan, f"{name}.counts: {counted} times NaN, of {nan} that passed")

    shape = arrays.shape(f"{name}.amax")
    _require(
        len(shape) == 1 and 1 <= shape[0] <= n and n % shape[0] == seen % shape[0] == 0,
        f"{name}.amax has shape {shape}; {n} numbers were counted, and {seen} passed",
    )
    largest = arrays.read(f"{name}.amax", "<f4", shape)
    _require(bool(((largest >= 0) & np.isfinite(largest)).all()), f"{name}.amax is no magnitude everywhere")
    channels = _channels(f"{name}.channels", shape[0], n, arrays)
    together = np.zeros(channels.shape[1], np.uint64)
    for row in channels:
        together += row
    alike = (together == patterns.reshape(together.size, -1).sum(1)).all()
    _require(bool(alike), f"{name}.channels has other numbers than {name}.counts")
    kept |= {
        f"{name}.patterns": met, f"{name}.counts": counts, f"{name}.channels": channels,
        f"{name}.amax": largest,
    }  # fmt: skip
    return Histogram(patterns, channels, largest, seen, infinite, nan)


def _channels(name: str, channels: int, n: int, arrays: Arrays) -> NDArray[np.uint64]:
    found = np.empty((channels, 1 << CHANNEL_BITS), np.uint64)  # pages are touched as far as the file goes
    at = 0
    for piece in arrays.pieces(name, "<u8", found.shape):
        sums = piece.astype(np.float64).sum(1)
        for wrong in np.flatnonzero(sums != n // channels):
            raise DamagedFileError(
                f"{name}: {sums[wrong]:.0f} numbers of channel {at + wrong}, not {n // channels} as of each"
            )
        found[at : at + len(piece)] = piece
        at += len(piece)
    return found


def _moments(name: str, tensors: Mapping[str, Histogram], arrays: Arrays) -> NDArray[np.float64]:
    """Sums over input and gate.

    Raises:
        DamagedFileError: there is no gate, or they are none.
    """
    channels = tensors["input"].amax.size
    _require(
        "gate" in tensors and tensors["gate"].amax.size == channels,
        f"{name}: without a gate of {channels} channels, as the input has",
    )
    moments = arrays.read(name, "<f8", (6, channels))
    n, _, _, xx, gg, _ = moments
    pairs = tensors["input"].n // channels
    _require(bool(((n >= 0) & (n <= pairs) & (n == np.floor(n))).all()), f"{name}: no counts of pairs")
    _require(bool(((xx >= 0) & (gg >= 0)).all()), f"{name}: no sums of squares")
    # Squares of numbers beyond 10^154 overflow, and sums of their products may be NaN.
    finite = np.isfinite(xx) & np.isfinite(gg)
    _require(bool(np.isfinite(moments[:, finite]).all()), f"{name}: sums are not finite")
    return moments


def _digest(arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> str:
    total = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.reshape(-1).view(np.uint8).data)  # not a copy: it may be large
    return total.hexdigest()


__all__ = ["VERSION", "load", "save"]
