"""`precision.toml`: the bounds a user's repository keeps, read strictly and written from measurements."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from precision_lab.exceptions import UsageError, unknown_name
from precision_lab.formats import KERNEL_FORMATS
from precision_lab.functions import FUNCTIONS, get_function
from precision_lab.inputs.sets import REGIONS
from precision_lab.results import Finding, Measurement
from precision_lab.results.codes import CODES
from precision_lab.system.atomic_file import write_atomically
from precision_lab.system.toml_file import read_toml
from precision_lab.verifying.bounds import Bound, leaning

VERSION = 1
_SWITCHES = ("flush_subnormals", "zero_sign")
_COUNTS = ("wrong_sign", "nonfinite")
_KNOWN = ("biased",)  # switches that are measured, as counts are
_KEYS = ("max_ulp", "regions", "reason", *_SWITCHES, *_COUNTS, *_KNOWN)
_REGIONS = (*REGIONS, "subnormal_result")


@dataclass(frozen=True)
class BoundFile:
    """The bounds of a file.

    Attributes:
        bounds: by function, format and output.
        accepted: kinds of engineering faults that are known, by function and format.
    """

    path: Path
    bounds: Mapping[tuple[str, str, str], Bound]
    accepted: Mapping[tuple[str, str], frozenset[str]]

    def formats(self, function: str) -> tuple[str, ...]:
        """Formats that the file bounds for a function."""
        return tuple(dict.fromkeys(fmt for name, fmt, _ in self.bounds if name == function))

    def outputs(self, function: str, fmt: str) -> tuple[str, ...]:
        return tuple(output for name, f, output in self.bounds if (name, f) == (function, fmt))

    def bound(self, function: str, fmt: str, output: str) -> Bound:
        """The bound of one output.

        Raises:
            ValueError: the file has none; what it does not bound is not passed in silence.
        """
        found = self.bounds.get((function, fmt, output))
        if found is None:
            known = ", ".join(self.outputs(function, fmt)) or "none"
            raise UsageError(
                f"{self.path}: no bound for {function}.{fmt}.{output}; outputs bounded there: {known}. "
                "Add a table for it, or record the present state with --write-bound"
            )
        return found


def read(path: Path) -> BoundFile:
    """The bounds of a file, every key checked.

    Raises:
        ValueError: the file is missing or no TOML, or a key or value is not what it should be;
            names the key by its full path.
    """
    data = read_toml(path, "--bound")
    version = data.pop("version", None)
    if version != VERSION:
        raise UsageError(f"{path}: version={version!r}, expected version = {VERSION} at the top")
    bounds: dict[tuple[str, str, str], Bound] = {}
    accepted: dict[tuple[str, str], frozenset[str]] = {}
    for function, formats in data.items():
        _known(path, "function", function, FUNCTIONS, function)
        for fmt, outputs in _table(path, function, formats).items():
            place = f"{function}.{fmt}"
            _known(path, "format", fmt, KERNEL_FORMATS, place)
            for output, keys in _table(path, place, outputs).items():
                if output == "accepted":
                    accepted[function, fmt] = _accepted(path, f"{place}.accepted", keys)
                    continue
                _known(path, "output", output, get_function(function).outputs, f"{place}.{output}")
                bounds[function, fmt, output] = _bound(path, f"{place}.{output}", keys)
    return BoundFile(path, bounds, accepted)


def _table(path: Path, place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{path}: {place}={value!r} must be a table")
    return value


def _known(path: Path, kind: str, name: str, known: Iterable[str], place: str) -> None:
    names = tuple(known)
    if name not in names:
        raise UsageError(f"{path}: key {place}: {unknown_name(kind, name, names)}")


def _bound(path: Path, place: str, value: Any) -> Bound:
    keys = _table(path, place, value)
    for key in keys:
        _known(path, "key", key, _KEYS, f"{place}.{key}")
    if "max_ulp" not in keys:
        raise UsageError(f"{path}: {place} has no max_ulp")
    regions = _table(path, f"{place}.regions", keys.get("regions", {}))
    for region in regions:
        _known(path, "region", region, _REGIONS, f"{place}.regions.{region}")
    for key in (*_SWITCHES, *_KNOWN):
        if not isinstance(keys.get(key, False), bool):
            raise UsageError(f"{path}: {place}.{key}={keys[key]!r} must be true or false")
    for key in _COUNTS:
        count = keys.get(key, 0)
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise UsageError(f"{path}: {place}.{key}={count!r} must be a count of inputs, 0 or more")
    if not isinstance(keys.get("reason", ""), str):
        raise UsageError(f"{path}: {place}.reason={keys['reason']!r} must be text")
    return Bound(
        _ulps(path, f"{place}.max_ulp", keys["max_ulp"]),
        keys.get("reason", f"{path.name}: {place}"),
        {region: _ulps(path, f"{place}.regions.{region}", limit) for region, limit in regions.items()},
        *(keys.get(key, False) for key in _SWITCHES),
        *(keys.get(key, 0) for key in _COUNTS),
        *(keys.get(key, False) for key in _KNOWN),
    )


def _ulps(path: Path, place: str, value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and value >= 0.5):
        raise UsageError(
            f"{path}: {place}={value!r} must be a number of ulps of at least 0.5, which is correct rounding"
        )
    return float(value)


def _accepted(path: Path, place: str, value: Any) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(kind, str) for kind in value):
        raise UsageError(f"{path}: {place}={value!r} must be a list of kinds of faults")
    for kind in value:
        _known(path, "kind of fault", kind, CODES, place)
    return frozenset(value)


def write(path: Path, measurements: Iterable[Measurement], faults: Iterable[Finding]) -> None:
    """Records what was measured as the bounds of a file, keeping its other entries and comments.

    Every limit is the measured one, rounded up in its fourth digit: what was measured passes.

    Raises:
        ValueError: the file is there and is no bound file, or a measurement failed, is undecided or
            repeats another's function, format and output with a larger error in a way that
            cannot be recorded.
    """
    import tomlkit

    document: Any = tomlkit.document()
    if path.exists():
        read(path)
        document = tomlkit.parse(path.read_text(encoding="utf-8"))
    document["version"] = VERSION
    fresh, kinds = _recorded(measurements, faults)
    for (function, fmt, output), values in fresh.items():
        table = _subtable(_subtable(document, function), fmt)
        old = table.get(output, {})
        entry = tomlkit.table()
        for name, value in values.items():
            entry[name] = value
        for name in (*_SWITCHES, "reason"):  # decisions of people, not measurements
            if name in old:
                entry[name] = old[name]
        table[output] = entry
    for (function, fmt), known in kinds.items():
        table = _subtable(_subtable(document, function), fmt)
        table.pop("accepted", None)
        if known:
            table["accepted"] = sorted(known)
    write_atomically(path, tomlkit.dumps(document).encode())


def _recorded(
    measurements: Iterable[Measurement], faults: Iterable[Finding]
) -> tuple[dict[tuple[str, str, str], dict[str, Any]], dict[tuple[str, str], set[str]]]:
    """What measurements and faults come to: values by output, and kinds by format."""
    fresh: dict[tuple[str, str, str], dict[str, Any]] = {}
    for m in measurements:
        if m.failure is not None or m.undecided:
            why = f"{m.failure.kind}: {m.failure.message}" if m.failure else f"{m.undecided} undecided inputs"
            raise UsageError(f"no bound can be written for {m.function}.{m.fmt}.{m.output}: {why}")
        key = (m.function, m.fmt, m.output)
        fresh[key] = _larger(fresh.get(key), _measured(m))
    kinds: dict[tuple[str, str], set[str]] = {(function, fmt): set() for function, fmt, _ in fresh}
    for fault in faults:
        kinds[fault.function, fault.fmt].add(fault.code)
    return fresh, kinds


def loosened(path: Path, measurements: Iterable[Measurement], faults: Iterable[Finding]) -> list[str]:
    """What `write` would change in a file, a line each: "looser …" where more is allowed than before.

    Raises:
        ValueError: as `write`.
    """
    fresh, kinds = _recorded(measurements, faults)
    old = read(path) if path.exists() else BoundFile(path, {}, {})
    found = []
    for (function, fmt, output), values in fresh.items():
        place = f"{function}.{fmt}.{output}"
        before = old.bounds.get((function, fmt, output))
        if before is None:
            found.append(f"new     {place}: max_ulp = {values['max_ulp']:g}")
            continue
        now = _bound(path, place, values)
        pairs: list[tuple[str, float, float]] = [("max_ulp", before.max_ulp, now.max_ulp)]
        pairs += [(name, getattr(before, name), getattr(now, name)) for name in (*_COUNTS, "biased")]
        pairs += [
            (
                f"regions.{region}",
                before.regions.get(region, before.max_ulp),
                now.regions.get(region, now.max_ulp),
            )
            for region in dict.fromkeys((*before.regions, *now.regions))
        ]
        for name, was, is_now in pairs:
            if was != is_now:
                found.append(
                    f"{'looser ' if is_now > was else 'tighter'} {place}: {name} {was:g} → {is_now:g}"
                )
    for (function, fmt), known in kinds.items():
        accepted = old.accepted.get((function, fmt), frozenset())
        recorded = any((f, m) == (function, fmt) for f, m, _ in old.bounds)
        for kind in sorted(known - accepted):
            found.append(f"{'looser ' if recorded else 'new    '} {function}.{fmt}: accepted gains {kind}")
        for kind in sorted(accepted - known):
            found.append(f"tighter {function}.{fmt}: accepted loses {kind}")
    return found


def _subtable(parent: Any, name: str) -> Any:
    import tomlkit

    if name not in parent:
        parent[name] = tomlkit.table(is_super_table=True)
    return parent[name]


def _measured(m: Measurement) -> dict[str, Any]:
    values: dict[str, Any] = {"max_ulp": rounded_up(m.max_ulp)}
    regions = {
        name: rounded_up(s.max_ulp)
        for name, s in m.regions.items()
        if rounded_up(s.max_ulp) < values["max_ulp"]
    }
    if regions:
        values["regions"] = regions
    if m.wrong_sign:
        values["wrong_sign"] = m.wrong_sign
    if m.nonfinite_mismatch:
        values["nonfinite"] = m.nonfinite_mismatch
    if leaning(m) is not None:
        values["biased"] = True
    return values


def _larger(old: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """Limits that hold for both of two parameter sets."""
    if old is None:
        return new
    merged: dict[str, Any] = {"max_ulp": max(old["max_ulp"], new["max_ulp"])}
    names = (*old.get("regions", {}), *new.get("regions", {}))
    regions = {
        name: max(v.get("regions", {}).get(name, v["max_ulp"]) for v in (old, new))
        for name in dict.fromkeys(names)
    }
    regions = {name: limit for name, limit in regions.items() if limit < merged["max_ulp"]}
    if regions:
        merged["regions"] = regions
    for key in _COUNTS:
        if old.get(key) or new.get(key):
            merged[key] = max(old.get(key, 0), new.get(key, 0))
    for key in _KNOWN:
        if old.get(key) or new.get(key):
            merged[key] = True
    return merged


def rounded_up(ulps: float) -> float:
    """Rounded up to four digits, at least 0.5."""
    if ulps <= 0.5:
        return 0.5
    digits = 3 - math.floor(math.log10(ulps))
    if digits <= 0:
        step = 10**-digits
        return float(-(-math.ceil(ulps) // step) * step)
    scale = float(10**digits)
    return math.ceil(ulps * scale) / scale
