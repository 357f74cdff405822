"""All that was captured of a model: merged, scaled, written and read."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from precision_lab.exceptions import UsageError, unknown_name
from precision_lab.lowprecision.capture import captured_file
from precision_lab.lowprecision.capture.counts import Layer, Product


@dataclass(frozen=True)
class Captured:
    """Everything captured of a model; `+` merges, in any order.

    Attributes:
        model: the class of the model.
        steps: forward passes that were counted.
        layers: its activations; modules in the order of the model, then calls in that of time.
        products: the inputs of its linear layers; None where they were not counted.
        initial: whether its weights looked as they do before training; None where nothing tells.
        unseen: calls that may be activations written by hand, and by which modules; they are not counted.
    """

    model: str
    steps: int
    layers: tuple[Layer, ...] = field(default_factory=tuple)
    products: tuple[Product, ...] | None = None
    initial: bool | None = None
    unseen: tuple[str, ...] = ()

    def __add__(self, other: Captured) -> Captured:
        """Both together; parameters are those of `other`.

        Raises:
            ValueError: other layers, kinds or channel counts; names what differs.
        """
        names, others = [layer.name for layer in self.layers], [layer.name for layer in other.layers]
        if names != others:
            raise UsageError(f"layers={others}: cannot be merged with {names}")
        merged = []
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            if set(mine.tensors) != set(theirs.tensors):
                raise UsageError(
                    f"layer {mine.name!r} has {sorted(theirs.tensors)}: cannot be merged with "
                    f"{sorted(mine.tensors)}"
                )
            if mine.gate_in_gradient != theirs.gate_in_gradient:
                raise UsageError(f"layer {mine.name!r}: gradients before and after a gate cannot be merged")
            try:
                tensors = {kind: h + theirs.tensors[kind] for kind, h in mine.tensors.items()}
            except ValueError as error:
                raise UsageError(f"layer {mine.name!r}: {error}") from error
            moments = None
            if mine.moments is not None and theirs.moments is not None:
                moments = mine.moments + theirs.moments
            amax = {k: max(part.amax.get(k, 0.0) for part in (mine, theirs)) for k in
                    {*mine.amax, *theirs.amax}}  # fmt: skip
            notes = tuple(dict.fromkeys((*mine.notes, *theirs.notes)))
            merged.append(replace(theirs, tensors=tensors, moments=moments, amax=amax, notes=notes))
        return Captured(
            self.model, self.steps + other.steps, tuple(merged),
            _merged_products(self.products, other.products),
            None if self.initial is None or other.initial is None else self.initial or other.initial,
            tuple(dict.fromkeys((*self.unseen, *other.unseen))),
        )  # fmt: skip

    def layer(self, name: str) -> Layer:
        """The layer of that name.

        Raises:
            ValueError: there is none; names the nearest ones.
        """
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise unknown_name("layer", name, [layer.name for layer in self.layers])

    def warnings(self) -> list[str]:
        """A sentence for all that was seen of a layer and is not in its counts."""
        found = [
            f"{call}: an activation that is computed by hand there is not counted; make it a module that "
            "says its precision_lab_function"
            for call in self.unseen
        ]
        for product in self.products or ():
            found += [f"product {product.name!r}: {note}" for note in product.notes]
            if product.input.infinite or product.input.nan:
                found.append(
                    f"product {product.name!r}: {product.input.infinite} infinities and "
                    f"{product.input.nan} NaN among {product.input.seen} input values; they are left out"
                )
        for layer in self.layers:
            found += [f"layer {layer.name!r}: {note}" for note in layer.notes]
            for kind, histogram in layer.tensors.items():
                if histogram.infinite or histogram.nan:
                    found.append(
                        f"layer {layer.name!r}: {histogram.infinite} infinities and {histogram.nan} NaN "
                        f"among {histogram.seen} {kind} values; they are left out"
                    )
                largest, counted = float(histogram.amax.max(initial=0.0)), histogram.largest_counted
                if largest > 2 * counted:
                    found.append(
                        f"layer {layer.name!r}: the largest {kind} value, {largest:.4g}, was not among those "
                        f"counted, whose largest is {counted:.4g}; count all rows with tokens=None"
                    )
        return found

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes a npz file, whole or not at all.

        Raises:
            ValueError: names and notes of all layers are more than a header holds.
        """
        return captured_file.save(
            self.model, self.steps, self.layers, self.products, self.initial, self.unseen, Path(path)
        )

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Captured:
        """What `save` wrote; somebody else's file may hold anything.

        Memory is taken for an array only as it is unpacked, and no further than it fits the others.

        Raises:
            DamagedFileError: missing, cut off or changed, or counts that no capture comes to; names the file
                and what of it.
            ValueError: written by another version of precision_lab's format.
        """
        return cls(*captured_file.load(Path(path)))


def _merged_products(
    mine: tuple[Product, ...] | None, theirs: tuple[Product, ...] | None
) -> tuple[Product, ...] | None:
    """Both parts' products; None where one of them has not counted any.

    Raises:
        ValueError: other products or channel counts; names what differs.
    """
    if mine is None or theirs is None:
        return None
    names, others = [p.name for p in mine], [p.name for p in theirs]
    if names != others:
        raise UsageError(f"products={others}: cannot be merged with {names}")
    merged = []
    for one, other in zip(mine, theirs, strict=True):
        try:
            counts = one.input + other.input
        except ValueError as error:
            raise UsageError(f"product {one.name!r}: {error}") from error
        notes = tuple(dict.fromkeys((*one.notes, *other.notes)))
        also = tuple(dict.fromkeys((*one.also, *other.also)))
        merged.append(replace(other, input=counts, also=also, notes=notes))
    return tuple(merged)
