"""Checkpoints: what is killed goes on with the same bits, what cannot be believed is left out."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from precision_lab.devices import CPU
from precision_lab.lowprecision.probe import checkpoint, probe
from precision_lab.lowprecision.probe.checkpoint import Checkpoints
from precision_lab.lowprecision.probe.model import ModelConfig
from precision_lab.lowprecision.probe.training import Run, Trainer, TrainingConfig

CONFIG = TrainingConfig(
    steps=6, warm_steps=2, aged_steps=6, batch=2, evaluation=1, watch_every=4, checkpoint_every=2,
    model=ModelConfig(width=16, layers=1, heads=2, hidden=32, context=16),
)  # fmt: skip
RUN = Run("xielu/zero-expm1", "delayed", 1)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cut_short(path: Path, run: Run = RUN, config: TrainingConfig = CONFIG, after: int = 5) -> None:
    """A run that ends after so many steps, with its checkpoints kept."""

    def stop(done: int) -> None:
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(config, run).train(path, stop)


def trained(path: Path | None = None) -> tuple[dict, list[int]]:
    """What a run comes to, with the steps it took for that."""
    steps: list[int] = []
    record = Trainer(CONFIG, RUN).train(path, steps.append)
    return dataclasses.replace(record, seconds=0.0).to_json(), steps


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[bytes, bytes]:
    """The last checkpoint of a run that was cut short after five steps, and the one before it."""
    path = tmp_path_factory.mktemp("kept") / "c.checkpoint"
    cut_short(path)
    return path.read_bytes(), Checkpoints(path, {}).previous.read_bytes()


@pytest.fixture
def kept(tmp_path: Path, files: tuple[bytes, bytes]) -> Path:
    path = tmp_path / "c.checkpoint"
    for file, data in zip((path, Checkpoints(path, {}).previous), files, strict=True):
        file.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def whole() -> dict:
    return trained()[0]


def test_a_killed_job_goes_on_where_it_was_and_writes_the_same(tmp_path: Path, monkeypatch) -> None:
    """Weights, losses and all that was watched, of a worker killed outright; its rounding is stochastic."""
    run = Run("xielu/zero-expm1", "nvfp4", 3, "growing")
    script = f"""
import os, signal, sys
import torch
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parent)!r})
from precision_lab.devices import CPU
from test_checkpoint import CONFIG, Run, Trainer, probe
torch.set_num_threads(1)
train = Trainer.train
Trainer.train = lambda self, path: train(self, path, lambda done: done == 5 and os.kill(os.getpid(), 9))
probe._job("run", CONFIG, {run!r}, CPU, Path({str(tmp_path / "killed")!r}), ())
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    kept = probe.checkpoint_of(tmp_path / "killed", run)
    assert kept.exists()

    steps: list[int] = []
    train = Trainer.train
    monkeypatch.setattr(Trainer, "train", lambda self, path: train(self, path, steps.append))
    written = []
    for folder in ("killed", "whole"):
        probe._job("run", CONFIG, run, CPU, tmp_path / folder, ())
        found = json.loads(probe.file_of(tmp_path / folder, "run", run).read_text())
        written.append((found["run"], {k: v for k, v in found["record"].items() if k != "seconds"}))
    assert written[0] == written[1]
    assert steps == [5, 6, 1, 2, 3, 4, 5, 6]
    assert os.listdir(kept.parent) == [f"{run.key}.json"]


def test_a_run_goes_on_from_its_last_checkpoint(tmp_path: Path, whole: dict) -> None:
    path = tmp_path / "made" / "on the way" / "c.checkpoint"
    cut_short(path)
    assert trained(path) == (whole, [5, 6])


def damages(data: bytes) -> dict[str, bytes]:
    head, _, state = data.partition(b"\n")
    flipped = bytearray(state)
    flipped[len(state) // 2] ^= 1
    header = json.loads(head)
    return {
        "does not begin": b"",
        "does not begin as": b"nonsense",
        "does not begin as a": b"[]\n" + state,
        "bytes of state": data[:-1],
        "bytes of state, not": data + b"\0",
        "match its checksum": head + b"\n" + flipped,
        "schema=99": json.dumps({**header, "schema": 99}).encode() + b"\n" + state,
    }


@pytest.mark.parametrize("words", list(damages(b"{}\nstate")))
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(words: str, kept: Path, whole) -> None:
    kept.write_bytes(damages(kept.read_bytes())[words])
    with pytest.warns(UserWarning, match=rf"c\.checkpoint' is left out: .*{words}"):
        assert trained(kept) == (whole, [3, 4, 5, 6])


def test_without_a_good_checkpoint_a_run_begins_anew(kept: Path, whole: dict) -> None:
    for file in (kept, Checkpoints(kept, {}).previous):
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(UserWarning) as said:
        assert trained(kept) == (whole, [1, 2, 3, 4, 5, 6])
    assert len(said) == 2


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"run": dataclasses.replace(RUN, seed=2)}, "another run"),
        ({"config": dataclasses.replace(CONFIG, learning_rate=1e-3)}, "another config"),
    ],
)
def test_a_checkpoint_of_another_run_is_left_out(changed: dict, words: str, tmp_path, whole) -> None:
    path = tmp_path / "c.checkpoint"
    cut_short(path, after=3, **changed)
    with pytest.warns(UserWarning, match=words):
        assert trained(path) == (whole, [1, 2, 3, 4, 5, 6])


@pytest.mark.parametrize("name", ["torch", "numpy", "precision_lab", "text", "device"])
def test_a_checkpoint_tells_all_that_its_bits_depend_on(name: str, kept: Path) -> None:
    head, _, state = kept.read_bytes().partition(b"\n")
    header = json.loads(head)
    header["about"][name] += " of another kind"
    kept.write_bytes(json.dumps(header).encode() + b"\n" + state)
    with pytest.warns(UserWarning, match=f"another {name}"):
        assert Trainer(CONFIG, RUN)._checkpoints(kept).load(lambda state: None)  # the one before it


def test_a_state_that_does_not_fit_leaves_nothing_behind(tmp_path: Path, whole: dict) -> None:
    """Checksum and header are right: only setting it shows that something is missing."""
    path = tmp_path / "c.checkpoint"
    trainer = Trainer(CONFIG, RUN)
    state = {**Trainer(CONFIG, dataclasses.replace(RUN, seed=9))._state(), "ages": [None], "step": 5}
    trainer._checkpoints(path).save(state)
    with pytest.warns(UserWarning, match="left out"):
        assert trained(path) == (whole, [1, 2, 3, 4, 5, 6])


def test_a_compressed_state_is_not_unpacked(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "c.checkpoint", {})
    kept.save({"step": torch.zeros(1 << 16)})
    head, _, state = kept.path.read_bytes().partition(b"\n")
    (tmp_path / "state").write_bytes(state)
    with zipfile.ZipFile(tmp_path / "state") as old, zipfile.ZipFile(
        tmp_path / "packed", "w", zipfile.ZIP_DEFLATED
    ) as new:  # fmt: skip
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))
    packed = (tmp_path / "packed").read_bytes()
    digest = checkpoint.hashlib.sha256(packed).hexdigest()
    header = {**json.loads(head), "bytes": len(packed), "sha256": digest}
    kept.path.write_bytes(json.dumps(header).encode() + b"\n" + packed)
    with pytest.warns(UserWarning, match="compressed"):
        assert not kept.load(lambda state: None)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_and_does_not_lose_the_run(tmp_path: Path, whole: dict) -> None:
    path = tmp_path / "c.checkpoint"
    Path(f"{path}.partial").symlink_to("/dev/full")
    with pytest.warns(UserWarning, match=r"c\.checkpoint' cannot be written \(No space left") as said:
        assert trained(path) == (whole, [1, 2, 3, 4, 5, 6])
    assert len(said) == 1  # the next one found room
    assert path.exists()


def test_a_damaged_checkpoint_never_takes_the_place_of_the_good_one_before_it(kept: Path) -> None:
    good = Checkpoints(kept, {}).previous.read_bytes()
    kept.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="left out"):
        cut_short(kept, after=4)
    assert Checkpoints(kept, {}).previous.read_bytes() == good
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert trained(kept)[1] == [5, 6]
