"""Sweeps: the same counts however they are cut up, and nothing lost when they are killed."""

from __future__ import annotations

import hashlib
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from by_name import as_implementation, get_implementation, measure_all, sweep, sweep_chunks
from typer.testing import CliRunner

from precision_lab.cli.main import app
from precision_lab.devices import get_device
from precision_lab.exceptions import DamagedFileError, EnvironmentAltersResultsError
from precision_lab.formats import get_format
from precision_lab.functions import get_function
from precision_lab.implementations.adapters.target import Called
from precision_lab.measuring import every_input
from precision_lab.measuring import sweep as sweep_module
from precision_lab.measuring.sweep import Asked, sweep_target
from precision_lab.measuring.sweep_files import Extent, SweepFiles
from precision_lab.results import strict_json
from precision_lab.scoring import columns
from precision_lab.scoring.tally import Tally

EXPM1 = get_implementation("xielu", "expm1")
OUTPUTS = ("forward", "grad_x", "grad_alpha_n")


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 2^12, so that 16-bit formats have sixteen of them."""
    for module in (every_input, sweep_module):
        monkeypatch.setattr(module, "CHUNK", 1 << 12)


@pytest.mark.usefixtures("small_chunks")
def test_the_digest_depends_on_neither_shards_nor_threads() -> None:
    found = {
        sweep(EXPM1, "bf16", OUTPUTS, shards=shards, workers=workers).digest
        for shards, workers in ((1, 1), (1, 2), (3, 2), (16, 1), (99, 3))
    }
    assert len(found) == 1


# As an earlier version of the lab printed them, before there were signed sums.
FIRST_DIGESTS = {
    ("xielu", "expm1", "bf16"): "32a860198b3124d63509767b3dcf930406d1bceff6327d8b1df7171626b39202",
    ("xielu", "naive", "fp16"): "6ec9d01138da12b5b5ef45876d6b952a54d0d8c374a670473950a3a46f3fed5d",
    ("xielu", "stable", "bf16"): "d6b08ec650fa7325ec9a5f6571999c5d057f2d396513b58d000893e4a6eb2770",
    ("silu", "torch", "bf16"): "1ee9f9892f608071830468a31d1fa6459a79051d8fe31b6b9c7dde2855e1a64a",
    ("gelu", "torch", "fp16"): "775c741d872c58a3de898cb923b155c9ab1a19c6161ceefb3634b7408c258bb9",
}


@pytest.mark.parametrize("case", FIRST_DIGESTS, ids="-".join)
def test_version_1_of_the_digest_is_what_it_was(case: tuple[str, str, str]) -> None:
    function, name, fmt = case
    implementation = get_implementation(function, name)
    found = sweep(implementation, fmt, implementation.measured_outputs())
    assert found.digests[1] == FIRST_DIGESTS[case]
    assert found.digest == found.digests[2] != found.digests[1]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", ["stable", "expm1"])
def test_all_of_fp32_gives_the_committed_digests(name: str) -> None:
    path = Path(__file__).parents[2] / "reports" / "cpu" / "exhaustive" / f"xielu-{name}-fp32.json"
    committed = json.loads(path.read_text())["digests"]
    implementation = get_implementation("xielu", name)
    found = sweep(implementation, "fp32", implementation.measured_outputs(), shards=64)
    assert {str(version): digest for version, digest in found.digests.items()} == committed
    assert committed["1"][:8] == {"stable": "21ee520b", "expm1": "59b7f6ba"}[name]  # of the first sweeps


def test_only_the_second_digest_sees_which_way_errors_go() -> None:
    a, b = Tally.empty(1), Tally.empty(1)
    b.rows[0, columns.AWAY_SUMS] += 1
    assert a.digest(1) == b.digest(1)
    assert a.digest() != b.digest()


@pytest.mark.usefixtures("small_chunks")
def test_shards_of_another_version_are_refused(tmp_path: Path) -> None:
    sweep(EXPM1, "bf16", ("forward",), shards=4, directory=tmp_path)
    manifest = json.loads((tmp_path / "sweep.json").read_text())
    (tmp_path / "sweep.json").write_text(json.dumps({**manifest, "schema": 1}))
    with pytest.raises(
        ValueError, match=r"shards of another version of the lab \(schema 1, .*another folder"
    ):
        sweep(EXPM1, "bf16", ("forward",), shards=4, directory=tmp_path, resume=True)


@pytest.mark.usefixtures("small_chunks")
def test_chunks_in_any_order_give_the_same_counts() -> None:
    orders = [list(range(16)), list(range(16))[::-1], list(np.random.default_rng(1).permutation(16))]
    digests = {sweep_chunks(EXPM1, ("forward",), "bf16", None, order)["forward"].digest() for order in orders}
    assert len(digests) == 1


def test_merging_is_associative_and_commutative() -> None:
    rng = np.random.default_rng(2)

    def random() -> Tally:
        tally = Tally.empty(5)
        tally.rows[:] = rng.integers(0, 1 << 40, tally.rows.shape)
        tally.rows[:, columns.MAX_ERROR] = rng.integers(0, 3, 10)  # ties
        tally.rows[:, columns.MAX_PATTERN] = rng.integers(0, 3, 10)
        tally.rows[:, columns.MAX_VALUE] = tally.rows[:, columns.MAX_PATTERN]  # one value per pattern
        for first in (columns.SIGN_PATTERN, columns.NONFINITE_PATTERN):
            tally.rows[:, first] = rng.integers(0, 3, 10)
            tally.rows[:, first + 1] = tally.rows[:, first]
        tally.undecided = rng.integers(0, 99, 3)
        tally.edges = rng.permutation(1 << 20)[:8].reshape(2, 4)
        tally.near[:, 0] = rng.integers(-1, 4, 4)
        tally.near[:, 1] = tally.near[:, 0]
        return tally

    def merged(*parts: Tally) -> Tally:
        total = Tally.empty(5)
        for part in parts:
            total.merge(part)
        return total

    a, b, c = random(), random(), random()
    left = merged(merged(a, b), c)
    assert left.digest() == merged(a, merged(b, c)).digest() == merged(c, a, b).digest()
    assert left.digest() != merged(a, b).digest()


@pytest.mark.usefixtures("small_chunks")
def test_a_sweep_measures_what_measure_measures() -> None:
    swept = sweep(EXPM1, "bf16", OUTPUTS, params_name="init").measurements
    plain = measure_all(EXPM1, OUTPUTS, "bf16", params_name="init")
    for a, b in zip(swept, plain, strict=True):
        # As text: NaN is a value here.
        same = {"environment": a.environment, "time_ns_per_element": a.time_ns_per_element}
        assert strict_json(a.to_json()) == strict_json({**b.to_json(), **same})


def test_merging_keeps_undecided_inputs_and_the_results_next_to_0() -> None:
    """Of two results next to 0 the nearer input's; a pattern of -1 says that there is none."""
    a, b = Tally.empty(1), Tally.empty(1)
    a.undecided, b.undecided = np.array([7, 5]), np.array([11])
    a.near[:3, 0], a.near[:3, 1] = (0, -1, 9), (100, 0, 101)
    b.near[1:, 0], b.near[1:, 1] = (1 << 15, 4, 0x8003), (102, 103, 104)
    a.merge(b)
    assert sorted(a.undecided.tolist()) == [5, 7, 11]
    assert a.near.tolist() == [[0, 100], [1 << 15, 102], [4, 103], [0x8003, 104]]


def test_tallies_survive_storing() -> None:
    tally = Tally.empty(3)
    tally.rows[1, columns.N] = 7
    assert Tally.from_arrays(tally.arrays()).digest() == tally.digest()


# -- on disk --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_chunks")
def test_a_resumed_sweep_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = sweep(EXPM1, "bf16", OUTPUTS, shards=8, directory=tmp_path / "whole")
    part = tmp_path / "part"
    calls = 0

    def stop(stage: str, done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(EXPM1, "bf16", OUTPUTS, shards=8, directory=part, progress=stop)
    assert calls
    stored = len(list(part.glob("shard-*.npz")))
    assert 0 < stored < 8
    again = sweep(EXPM1, "bf16", OUTPUTS, shards=8, directory=part, resume=True)
    assert (again.digest, again.resumed, again.redone) == (whole.digest, stored, 0)
    for name in ("measurements.json",):
        assert (part / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied"])
def test_a_damaged_shard_is_found_and_done_again(tmp_path: Path, damage: str) -> None:
    whole = sweep(EXPM1, "bf16", ("forward",), shards=4, directory=tmp_path)
    path = tmp_path / "shard-00002.npz"
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 0x10
    path.write_bytes(b"" if damage == "emptied" else bytes(data[: -9 if damage == "cut" else None]))
    again = sweep(EXPM1, "bf16", ("forward",), shards=4, directory=tmp_path, resume=True)
    assert (again.digest, again.resumed, again.redone) == (whole.digest, 3, 1)


def array(name: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any]], None]:
    return lambda arrays: arrays.update({f"forward/{name}": change(arrays[f"forward/{name}"])})


def more(column: int, by: int) -> Callable[[Any], Any]:
    def change(rows: Any) -> Any:
        rows[np.flatnonzero(rows[:, columns.N])[0], column] += by
        return rows

    return change


FORGED: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "an input more": (array("rows", more(columns.N, 1)), "forward/rows: not every one of 65536 inputs"),
    "fewer than none": (array("rows", more(columns.MISROUNDED, -1 << 20)), "forward/rows: .* negative"),
    "more wrong than inputs": (array("rows", more(columns.WRONG_SIGN, 1 << 20)), "more than their inputs"),
    "cells of another format": (array("rows", lambda a: a[2:]), r"'forward/rows' has shape"),
    "halves": (array("rows", lambda a: a / 2), r"'forward/rows' has .* dtype float64"),
    "an error more": (array("histogram", lambda a: a + (np.arange(a.size) == 9)), "forward/histogram: not"),
    "negative tiers": (array("tiers", lambda a: -a), "forward/tiers: not"),
    "edges in three columns": (array("edges", lambda a: a[:, :3]), r"forward/edges has shape"),
    "too many edges": (array("edges", lambda a: np.repeat(a, 2, 0)), r"forward/edges has shape \(4, 4\)"),
    "too many undecided": (array("undecided", lambda a: np.zeros(1 << 17, a.dtype)), "undecided has shape"),
    "nothing of tiers": (lambda arrays: arrays.pop("forward/tiers"), "'forward/tiers' is missing"),
    "failures as a number": (lambda arrays: arrays.update(failures=np.array(3)), "'failures' is no text"),
    "failures of another kind": (lambda arrays: arrays.update(failures=np.array("3")), "not iterable"),
    "a failure without words": (
        lambda arrays: arrays.update(failures=np.array('{"forward": {"kind": "raised"}}')), "message"
    ),
    "a failure that is none": (lambda arrays: arrays.update(failures=np.array("[[[")), "Expecting value"),
}  # fmt: skip


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepFiles, int]:
    folder = tmp_path_factory.mktemp("swept")
    found = sweep(EXPM1, "bf16", ("forward",), shards=1, directory=folder)
    assert found.measurements[0].n_inputs == 1 << 16
    with np.load(io.BytesIO((folder / "shard-00000.npz").read_bytes()[32:])) as arrays:
        rows = len(arrays["forward/rows"])
    manifest = json.loads((folder / "sweep.json").read_text())
    return SweepFiles(folder, manifest, resume=True), rows // 2


@pytest.mark.parametrize("what", FORGED)
def test_counts_that_no_sweep_comes_to_are_refused_under_a_right_checksum(
    what: str, swept: tuple[SweepFiles, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store, cells = swept
    expected = (("forward",), Extent(cells, 1, 1 << 16))
    assert isinstance(store.read(0, *expected)["forward"], Tally)
    with np.load(io.BytesIO(store._path(0).read_bytes()[32:])) as file:
        arrays = dict(file)
    change, words = FORGED[what]
    change(arrays)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    data = buffer.getvalue()
    monkeypatch.setattr(store, "directory", tmp_path)
    store._path(0).write_bytes(hashlib.sha256(data).digest() + data)
    with pytest.raises(DamagedFileError, match=rf"shard-00000\.npz: .*{words}"):
        store.read(0, *expected)


KILLED = """
import sys
from precision_lab.formats import BF16
from precision_lab.functions import XIELU
from precision_lab.implementations import get_implementation
from precision_lab.measuring import every_input, sweep as module
from precision_lab.running.case import case_of
for m in (every_input, module):
    m.CHUNK = 1 << 9
case = case_of(get_implementation(XIELU, "expm1"), BF16, None, ("forward", "grad_x"))
module.sweep(case, shards=128,
             directory=__import__("pathlib").Path(sys.argv[1]), resume="--resume" in sys.argv)
"""


@pytest.mark.parametrize(
    "moments", [(20,), pytest.param((1, 20, 60), marks=pytest.mark.slow)], ids=["once", "three times"]
)
def test_a_sweep_killed_at_any_moment_resumes_to_the_same_bits(
    moments: tuple[int, ...], tmp_path: Path
) -> None:
    def run(folder: Path, *more: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", KILLED, str(folder), *more])

    assert run(tmp_path / "whole").wait() == 0
    folder = tmp_path / "killed"
    more: tuple[str, ...] = ()
    for shards in moments:  # killed as soon as so many are there
        process = run(folder, *more)
        while process.poll() is None and len(list(folder.glob("shard-*"))) < shards:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        more = ("--resume",)
    assert 0 < len(list(folder.glob("shard-*.npz"))) < 128
    assert run(folder, *more).wait() == 0
    whole, resumed = (tmp_path / "whole" / "measurements.json", folder / "measurements.json")
    assert whole.read_bytes() == resumed.read_bytes()


@pytest.mark.usefixtures("small_chunks")
def test_a_folder_is_not_taken_for_another_sweep(tmp_path: Path) -> None:
    sweep(EXPM1, "bf16", ("forward",), shards=4, directory=tmp_path)
    with pytest.raises(ValueError, match="holds a sweep already; --resume"):
        sweep(EXPM1, "bf16", ("forward",), shards=4, directory=tmp_path)
    for changed, message in (
        ({"params": {"alpha_n": 0.6}}, "its params is"),
        ({"shards": 5}, "its shards is 4, this one's 5"),
        ({"fmt": "fp16"}, "its format is 'bf16'"),
        ({"outputs": ("grad_x",)}, "its outputs is"),
    ):
        call: dict[str, Any] = {"fmt": "bf16", "outputs": ("forward",), "shards": 4, **changed}
        with pytest.raises(ValueError, match=message):
            sweep(EXPM1, directory=tmp_path, resume=True, **call)
    manifest = tmp_path / "sweep.json"
    manifest.write_text("{")
    with pytest.raises(DamagedFileError, match="not a sweep's manifest"):
        sweep(EXPM1, "bf16", ("forward",), shards=4, directory=tmp_path, resume=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fmt": "fp64"}, r"fmt='fp64': 2\^64 patterns"),
        ({"shards": 0}, "shards=0: at least one"),
        ({"resume": True}, "needs the directory"),
        ({"outputs": ("grad_q",)}, "grad_q"),
    ],
)
def test_misuse_names_the_argument(arguments: dict[str, Any], message: str) -> None:
    call: dict[str, Any] = {"fmt": "bf16", "outputs": ("forward",), **arguments}
    with pytest.raises(ValueError, match=message):
        sweep(EXPM1, **call)


# -- what kernels may do ------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_chunks")
def test_one_failing_output_keeps_the_others() -> None:
    kernel = as_implementation(lambda x, **_: torch.relu(x).detach(), "relu", ("bf16",))
    forward, gradient = sweep(kernel, "bf16", ("forward", "grad_x")).measurements
    assert forward.failure is None and forward.max_ulp == 0.0
    assert gradient.failure is not None and gradient.failure.kind == "not_differentiable"


@pytest.mark.usefixtures("small_chunks")
def test_a_kernel_that_fails_for_some_inputs_has_failed() -> None:
    def kernel(x: torch.Tensor, **_: Any) -> torch.Tensor:
        if bool((x == 1.0).any()):
            raise RuntimeError("not for me")
        return torch.relu(x)

    (m,) = sweep(as_implementation(kernel, "relu", ("bf16",)), "bf16", ("forward",)).measurements
    assert m.failure is not None and "not for me" in m.failure.message


@pytest.mark.usefixtures("small_chunks")
def test_flushing_in_a_worker_thread_is_refused() -> None:
    """The switch is the thread's: the main thread would not see it."""

    def kernel(x: torch.Tensor, **_: Any) -> torch.Tensor:
        torch.set_flush_denormal(True)
        return torch.relu(x)

    with pytest.raises(EnvironmentAltersResultsError):
        sweep(as_implementation(kernel, "relu", ("bf16",)), "bf16", ("forward",))
    assert np.array([2.0**-1074])[0] * 2.0**1000 != 0


@pytest.mark.usefixtures("small_chunks")
def test_a_kernel_that_writes_its_input_does_not_move_the_reference() -> None:
    def kernel(x: torch.Tensor, **_: Any) -> torch.Tensor:
        y = torch.relu(x)
        x.zero_()
        return y

    (m,) = sweep(as_implementation(kernel, "relu", ("bf16",)), "bf16", ("forward",)).measurements
    assert m.max_ulp == 0.0 and m.not_correctly_rounded == 0


@pytest.mark.usefixtures("small_chunks")
def test_monotony_is_judged_across_chunks_too() -> None:
    def kernel(x: torch.Tensor, **_: Any) -> torch.Tensor:
        edge = get_format("bf16").decode(np.array([0x3000], np.uint16))[0]
        return torch.where(x.double() >= edge, x * 0.5, torch.relu(x))  # falls once, between two chunks

    (m,) = sweep(as_implementation(kernel, "relu", ("bf16",)), "bf16", ("forward",)).measurements
    assert 0x3000 % (1 << 12) == 0
    assert m.monotonicity_violations == 1


@pytest.mark.usefixtures("small_chunks")
def test_a_kernel_of_the_same_name_elsewhere_is_not_gone_on_with(tmp_path: Path) -> None:
    """Nor one that is launched otherwise."""
    here, elsewhere = (replace(EXPM1, target=f"k.cu:expm1{launch}") for launch in (" block=128", ""))
    sweep(here, "bf16", ("forward",), shards=4, directory=tmp_path)
    assert sweep(here, "bf16", ("forward",), shards=4, directory=tmp_path, resume=True).resumed == 4
    with pytest.raises(ValueError, match=r"its target is 'k\.cu:expm1 block=128', this one's 'k\.cu:expm1'"):
        sweep(elsewhere, "bf16", ("forward",), shards=4, directory=tmp_path, resume=True)


@pytest.mark.usefixtures("small_chunks")
def test_a_file_that_has_changed_is_not_gone_on_with(tmp_path: Path) -> None:
    file, out = tmp_path / "k.py", tmp_path / "sweep"
    file.write_text("def kernel(x):\n    return x.relu()\n")
    function, bf16, cpu = get_function("relu"), get_format("bf16"), get_device("cpu")
    kernel = Called(f"{file}:kernel")
    asked = Asked(kernel, function, bf16, {}, ("forward",), "init", cpu)
    kept = partial(sweep_target, asked, shards=4, directory=out, workers=1)
    assert kept(resume=False).measurements[0].max_ulp == 0
    assert kept(resume=True).resumed == 4
    file.write_text("def kernel(x):\n    return x\n")
    with pytest.raises(ValueError, match=r"its file is 'sha256:\w{64}', this one's 'sha256:\w{64}'"):
        kept(resume=True)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("changed", ["source_stamp", "environment"])
def test_shards_of_another_oracle_or_environment_are_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    """Counts of two oracles in one result would be the result of neither."""
    sweep(EXPM1, "bf16", ("forward",), shards=4, directory=tmp_path)
    key, value = {"source_stamp": ("oracle", "another"), "environment": ("environment", {"torch": "0"})}[
        changed
    ]
    monkeypatch.setattr(sweep_module, changed, lambda: value)
    with pytest.raises(ValueError, match=f"holds another sweep: its {key} is"):
        sweep(EXPM1, "bf16", ("forward",), shards=4, directory=tmp_path, resume=True)


# -- the command ----------------------------------------------------------------------------------


def command(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["sweep", *arguments], env={"COLUMNS": "200"})


def test_the_command_prints_regions_tiers_and_the_digest(tmp_path: Path) -> None:
    arguments = ("xielu", "--implementation", "expm1", "--format", "fp16", "--output", "grad_alpha_n")
    result = command(
        *arguments, "--out", str(tmp_path / "out"), "--json", str(tmp_path / "m.json"), "--max-ulp", "1"
    )
    assert result.exit_code == 1, result.stderr
    data = json.loads((tmp_path / "m.json").read_text())
    assert data["measurements"][0]["n_inputs"] == 65536
    assert f"digest {data['digest']}" in result.stdout
    assert data["digests"]["2"] == data["digest"]
    assert f"digest {data['digests']['1']}   (version 1: without signed sums)" in result.stdout
    assert "near_zero_negative" in result.stdout and "settled by special 2050" in result.stdout
    assert "precision-lab explain xielu --bits" in result.stdout
    again = command(*arguments, "--out", str(tmp_path / "out"))
    assert again.exit_code == 2 and "--resume" in again.stderr
    resumed = command(*arguments, "--out", str(tmp_path / "out"), "--resume")
    assert resumed.exit_code == 0 and data["digest"] in resumed.stdout
