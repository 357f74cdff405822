"""Captures that somebody else wrote: what is wrong in one is named, and costs no memory."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from precision_lab.exceptions import DamagedFileError
from precision_lab.lowprecision.capture import captured_file
from precision_lab.lowprecision.capture.captured import Captured
from precision_lab.lowprecision.capture.counts import Histogram, Layer

Arrays = dict[str, np.ndarray]
CHANNELS = 3


def histogram(values: np.ndarray, nan: int = 0) -> Histogram:
    """Of float32 numbers that are bf16, shape (rows, channels)."""
    patterns = (values.view(np.uint32) >> 16).astype(np.int64)
    coarse = np.stack([np.bincount(column >> 6, minlength=1024) for column in patterns.T])
    largest = np.nan_to_num(np.abs(values), nan=0).max(0)
    counts = np.bincount(patterns.ravel(), minlength=1 << 16).astype(np.uint64)
    return Histogram(counts, coarse.astype(np.uint64), largest, 2 * values.size, 0, nan)


def capture() -> Captured:
    """One layer with a gate, one with a NaN."""
    rng = np.random.default_rng(0)

    def drawn(rows: int) -> np.ndarray:
        numbers = rng.standard_normal((rows, CHANNELS)).astype(np.float32)
        return (numbers.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)

    x, gate, other = drawn(7), drawn(7), drawn(5)
    other[0, 0] = np.nan
    a, b = x.astype(np.float64), gate.astype(np.float64)
    moments = np.stack([np.full(CHANNELS, 7.0), *(t.sum(0) for t in (a, b, a * a, b * b, a * b))])
    gated = {"input": histogram(x), "gate": histogram(gate), "gradient": histogram(drawn(7))}
    return Captured(
        "Model", 2,
        (
            Layer("0.act", "SiLU", "swiglu", {}, gated, moments, {"stored": 1.5, "returned": 0.0}),
            Layer("1.act", "XIELU", "xielu", {"alpha_p": 1}, {"input": histogram(other, 1)}, notes=("odd",)),
        ),
    )  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return capture().save(tmp_path / "c.npz")


def read(path: Path) -> tuple[Arrays, dict[str, Any]]:
    with np.load(path) as file:
        arrays = dict(file)
    return arrays, json.loads(arrays.pop("header").tobytes())


def write(path: Path, arrays: Arrays, header: dict[str, Any]) -> None:
    """With the digest that belongs to them."""
    header = {key: value for key, value in header.items() if key != "digest"}
    header["digest"] = captured_file._digest(arrays, header)
    np.savez(path, **arrays, header=np.frombuffer(json.dumps(header).encode(), np.uint8))


def test_what_is_saved_is_loaded(path: Path) -> None:
    write(path, *read(path))  # as the attacks do
    before, after = capture(), Captured.load(path)
    assert (after.model, after.steps) == ("Model", 2)
    for mine, theirs in zip(before.layers, after.layers, strict=True):
        for name in ("name", "module", "function", "params", "amax", "gate_in_gradient", "notes"):
            assert getattr(mine, name) == getattr(theirs, name)
        np.testing.assert_array_equal(mine.moments, theirs.moments)
        for kind, one in mine.tensors.items():
            other = theirs.tensors[kind]
            for name in ("patterns", "channels", "amax"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert (one.seen, one.infinite, one.nan) == (other.seen, other.infinite, other.nan)


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Arrays, dict], None]:
    def do(arrays: Arrays, header: dict) -> None:
        arrays[name] = change(arrays[name].copy())

    return do


def at(index: Any, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    def change(found: np.ndarray) -> np.ndarray:
        found[index] = value
        return found

    return change


def told(layer: int, name: str, value: Any) -> Callable[[Arrays, dict], None]:
    return lambda arrays, header: header["layers"][layer].update({name: value})


def moved(found: np.ndarray) -> np.ndarray:
    """One number of a channel to another bin of it."""
    full = np.flatnonzero(found[0])[0]
    found[0, full] -= 1
    found[0, full - 1] += 1
    return found


KINDS = {"input": [10, 0, 0]}
WRONG: dict[str, tuple[Callable[[Arrays, dict], None], str]] = {
    "a count of zero": (array("0.input.counts", at(0, 0)), r"0\.input\.counts has zeros"),
    "a count that wraps": (array("0.input.counts", at(0, 1 << 63)), r"0\.input\.counts: .* numbers of 42"),
    "negative counts": (array("0.gate.counts", lambda a: -a.astype(np.int64)), r"0\.gate\.counts.*int64"),
    "fractions": (array("0.gate.counts", lambda a: a / 2), r"0\.gate\.counts.*float64"),
    "objects' bytes": (array("0.gate.counts", lambda a: a.astype("S8")), r"0\.gate\.counts.*S8"),
    "another order": (array("0.input.patterns", lambda a: a[::-1]), r"0\.input\.patterns is not in order"),
    "a pattern twice": (array("0.input.patterns", at(1, 0)), r"0\.input\.patterns is not in order"),
    "no patterns": (array("0.input.patterns", lambda a: a[:0]), r"0\.input\.patterns has shape \(0,\)"),
    "a table": (array("0.input.patterns", lambda a: a[None]), r"0\.input\.patterns has shape \(1, "),
    "fewer counts": (array("0.input.counts", lambda a: a[1:]), r"0\.input\.counts.*has shape"),
    "a NaN magnitude": (array("0.gate.amax", at(0, np.nan)), r"0\.gate\.amax is no magnitude"),
    "a negative one": (array("0.gate.amax", at(0, -1)), r"0\.gate\.amax is no magnitude"),
    "an infinite one": (array("0.gate.amax", at(0, np.inf)), r"0\.gate\.amax is no magnitude"),
    "a channel too few": (array("0.gate.amax", lambda a: a[1:]), r"0\.gate\.amax has shape \(2,\)"),
    "no channels": (array("0.gate.amax", lambda a: a[:0]), r"0\.gate\.amax has shape \(0,\)"),
    "narrow channels": (array("0.gate.channels", lambda a: a[:, 1:]), r"0\.gate\.channels.*\(3, 1023\)"),
    "a number more": (array("0.gate.channels", at((1, 5), 9)), r"0\.gate\.channels: .* of channel 1"),
    "a number moved": (array("0.gate.channels", moved), r"0\.gate\.channels has other numbers than"),
    "columns": (array("0.gate.channels", np.asfortranarray), r"0\.gate\.channels' is stored by columns"),
    "moments of fewer": (array("0.moments", lambda a: a[:, 1:]), r"0\.moments.*has shape"),
    "half a pair": (array("0.moments", at((0, 0), 6.5)), r"0\.moments: no counts of pairs"),
    "too many pairs": (array("0.moments", at((0, 0), 8)), r"0\.moments: no counts of pairs"),
    "negative squares": (array("0.moments", at((3, 0), -1)), r"0\.moments: no sums of squares"),
    "NaN in sums": (array("0.moments", at((5, 1), np.nan)), r"0\.moments: sums are not finite"),
    "an array too few": (lambda arrays, header: arrays.pop("0.gate.amax"), "'0.gate.amax' is missing"),
    "an array too many": (lambda arrays, header: arrays.update({"2.x": np.ones(1)}), "'2.x' belongs to none"),
    "moments without a gate": (
        lambda arrays, header: arrays.update({"1.moments": arrays["0.moments"]}), r"1\.moments: without"
    ),
    "another tensor's channels": (
        lambda arrays, header: arrays.update({"0.input.channels": arrays["0.gate.channels"]}),
        r"0\.input\.channels has other",
    ),
    "more NaN than passed": (told(1, "kinds", {"input": [30, 0, 0]}), "1 times NaN, of 0"),
    "fewer seen than counted": (told(1, "kinds", {"input": [3, 0, 1]}), "15 numbers of 3 that passed"),
    "no whole rows": (told(1, "kinds", {"input": [31, 0, 1]}), "15 numbers were counted, and 31 passed"),
    "more odd than seen": (told(1, "kinds", {"input": [30, 30, 1]}), r"layer 1: input=\[30, 30, 1\]"),
    "a truth for a count": (told(1, "kinds", {"input": [30, False, True]}), r"layer 1: input=\[30, False"),
    "a fraction seen": (told(1, "kinds", {"input": [30.0, 0, 1]}), r"layer 1: input=\[30\.0"),
    "a negative count": (told(1, "kinds", {"input": [30, -1, 1]}), r"layer 1: input=\[30, -1"),
    "a count beyond all": (told(1, "kinds", {"input": [1 << 60, 0, 1]}), r"layer 1: input=\[11529215046"),
    "a short list": (told(1, "kinds", {"input": [30]}), r"layer 1: input=\[30\]"),
    "an unknown kind": (told(1, "kinds", {**KINDS, "output": [1, 0, 0]}), r"layer 1: kinds=.*'output'"),
    "no input": (told(1, "kinds", {}), r"layer 1: kinds=\[\]"),
    "a name twice": (told(1, "name", "0.act"), "two layers have one name"),
    "no name": (told(1, "name", None), "layer 1: name=None, no str"),
    "a parameter in words": (told(1, "params", {"alpha_p": "0.8"}), "layer 1: alpha_p='0.8'"),
    "an infinite stored": (told(0, "amax", {"stored": float("inf")}), "layer 0: amax stored=inf"),
    "an unknown magnitude": (told(0, "amax", {"kept": 1.0}), "layer 0: amax kept"),
    "a note of another kind": (told(1, "notes", [3]), "layer 1: note 3"),
    "a layer that is none": (lambda arrays, header: header["layers"].append(3), "layer 2 is no JSON object"),
    "no layers": (lambda arrays, header: header.update(layers=[]), "it has no layers"),
    "layers by name": (lambda arrays, header: header.update(layers={"0": {}}), "it has no layers"),
    "half a step": (lambda arrays, header: header.update(steps=1.5), r"steps=1\.5"),
    "no step": (lambda arrays, header: header.update(steps=0), "steps=0"),
    "no model": (lambda arrays, header: header.update(model=None), "model=None"),
    "nothing said of steps": (lambda arrays, header: header.pop("steps"), "no 'steps'"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_no_capture_comes_to_is_named_even_under_a_right_digest(what: str, path: Path) -> None:
    arrays, header = read(path)
    change, words = WRONG[what]
    change(arrays, header)
    write(path, arrays, header)
    with pytest.raises(DamagedFileError, match=rf"(?s)c\.npz' is damaged, or no capture: .*{words}"):
        Captured.load(path)


@pytest.mark.parametrize(("name", "value"), [("function", "relu2"), ("params", {}), ("notes", ["even"])])
def test_what_is_changed_without_its_digest_is_refused(name: str, value: object, path: Path) -> None:
    arrays, header = read(path)
    header["layers"][1][name] = value
    np.savez(path, **arrays, header=np.frombuffer(json.dumps(header).encode(), np.uint8))
    with pytest.raises(DamagedFileError, match="digest"):
        Captured.load(path)


def test_another_version_is_wrong_use(path: Path) -> None:
    arrays, header = read(path)
    write(path, arrays, {**header, "version": 99})
    with pytest.raises(ValueError, match=r"c\.npz' has version=99"):
        Captured.load(path)


@pytest.mark.parametrize("content", [None, b"", b"PK", b"nonsense", b"\x93NUMPY\x01\x00"])
def test_what_is_no_archive_is_named(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "c.npz").write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"c\.npz' is"):
        Captured.load(tmp_path / "c.npz")


def test_no_flipped_bit_and_no_cut_is_read_as_something_else(path: Path) -> None:
    whole = path.read_bytes()
    _, before = read(path)
    rng = np.random.default_rng(0)
    refused = 0
    for where in rng.integers(0, 8 * len(whole), 400):
        data = bytearray(whole)
        data[where // 8] ^= 1 << (where % 8)
        path.write_bytes(data)
        try:
            found = Captured.load(path)
        except DamagedFileError:
            refused += 1
            continue
        again = found.save(path.with_name("again.npz"))
        assert read(again)[1] == before  # its digest is of every number
    assert refused > 250
    for end in rng.integers(0, len(whole), 50):
        path.write_bytes(whole[:end])
        with pytest.raises(DamagedFileError, match=r"c\.npz"):
            Captured.load(path)


def test_any_number_changed_under_a_right_digest_is_refused_or_still_a_capture(path: Path) -> None:
    """Bits of arrays at random; what passes must at least be consistent with itself."""
    rng = np.random.default_rng(1)
    whole, header = read(path)
    refused = 0
    for _ in range(200):
        arrays = {name: value.copy() for name, value in whole.items()}
        name = str(rng.choice(sorted(arrays)))
        raw = arrays[name].reshape(-1).view(np.uint8)
        raw[rng.integers(raw.size)] ^= 1 << rng.integers(8)
        write(path, arrays, header)
        try:
            found = Captured.load(path)
        except DamagedFileError as error:
            assert name.rpartition(".")[0] in str(error)
            refused += 1
            continue
        # Two patterns that begin alike are one to the channels; magnitudes and sums are any number.
        assert name.endswith(("patterns", "amax", "moments"))
        for layer in found.layers:
            assert layer.moments is None or (np.abs(layer.correlation()) <= 1).all()
            assert all(np.isfinite(h.amax).all() for h in layer.tensors.values())
    assert refused > 100


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_numpy_never_packs_is_not_unpacked(method: int, path: Path) -> None:
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr("2.x.npy", b"")
    with pytest.raises(DamagedFileError, match=f"packed by method {method}"):
        Captured.load(path)


def test_two_arrays_of_one_name_are_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("0.moments.npy", b"")
    with pytest.raises(DamagedFileError, match="two arrays of one name"):
        Captured.load(path)


MIB = 1 << 20


def announced(shape: tuple[int, ...], dtype: str, data: bytes = b"") -> bytes:
    """An array's header, and less data than it announces."""
    head = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + data


def bombs(path: Path) -> dict[str, dict[str, bytes]]:
    """Members to replace, by what is wrong with them; each unpacks to, or announces, far more than it is."""
    zeros = bytes(256 * MIB)
    rows = 1 << 15
    header = read(path)[1]
    header["layers"][0]["kinds"]["input"] = [rows, 0, 0]
    one = {
        "0.input.patterns": announced((1,), "<u2", bytes(2)),
        "0.input.counts": announced((1,), "<u8", rows.to_bytes(8, "little")),
        "0.input.amax": announced((rows,), "<f4", bytes(4 * rows)),
    }
    text = json.dumps(header).encode()
    one["header"] = announced((len(text),), "|u1", text)
    deep, wide = b"[" * (2 << 20), b"[" + b"[]," * 600_000 + b"[]]"
    return {
        "an announced giant": {"0.input.channels": announced((1 << 44, 1024), "<u8")},
        "a giant of patterns": {"0.input.patterns": announced((1 << 44,), "<u2")},
        "a giant of channels": {"0.input.amax": announced((1 << 44,), "<f4")},
        "a giant header": {"header": announced((len(zeros),), "|u1", zeros)},
        "an array too long": {"0.moments": announced((6, CHANNELS), "<f8", zeros)},
        "an array of nobody": {"9.x": announced((len(zeros),), "|u1", zeros)},
        "a numpy header without end": {"header": b"\x93NUMPY\x01\x00\xff\xff" + zeros},
        "another version's header": {"header": b"\x93NUMPY\x02\x00\xff\xff\xff\x0f" + zeros},
        "empty channels": {**one, "0.input.channels": announced((rows, 1024), "<u8", zeros)},
        "deep JSON": {"header": announced((len(deep),), "|u1", deep)},
        "wide JSON": {"header": announced((len(wide),), "|u1", wide)},
    }


def test_no_file_takes_more_memory_than_its_contents(path: Path, tmp_path: Path) -> None:
    """Measured where nothing else happens; each is refused, and named, below 64 MiB."""
    with np.load(path) as file:
        names = file.files
    with zipfile.ZipFile(path) as archive:
        whole = {name: archive.read(f"{name}.npy") for name in names}
    files = []
    for what, members in bombs(path).items():
        files.append(tmp_path / f"{what}.npz")
        with zipfile.ZipFile(files[-1], "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name, data in {**whole, **members}.items():
                archive.writestr(f"{name}.npy", data)
    script = (
        "import resource, sys\n"
        "from precision_lab.exceptions import DamagedFileError\n"
        "from precision_lab.lowprecision.capture.captured import Captured\n"
        "most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "Captured.load(sys.argv[1])\n"
        "for path in sys.argv[2:]:\n"
        "    before = most()\n"
        "    try: Captured.load(path)\n"
        "    except DamagedFileError as error: assert path in str(error)\n"
        "    else: print('read', path)\n"
        "    print(most() - before, path)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, str(path), *map(str, files)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    lines = [line.split(" ", 1) for line in ran.stdout.splitlines()]
    assert [Path(name) for _, name in lines] == files
    assert {name: int(kib) for kib, name in lines if int(kib) > 64 * 1024} == {}
