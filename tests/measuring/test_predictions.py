"""Predicted bits: what is compared with what, what a file keeps, and what a real device returned."""

from __future__ import annotations

import hashlib
import io
import lzma
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from by_name import get_implementation
from emulation import missing

from precision_lab.exceptions import DamagedFileError, UsageError
from precision_lab.formats import BF16, get_format
from precision_lab.measuring.predicting import SEVERAL, Prediction, canonical, compared
from precision_lab.measuring.prediction_file import Key, Predictions
from precision_lab.results import Failure
from precision_lab.study import predictions
from precision_lab.study.predictions import Compared, check, file_for, predict
from precision_lab.study.settings import StudySettings

WHY = missing("triton")
emulated = pytest.mark.skipif(bool(WHY), reason=WHY)
REPORTS = Path(__file__).parents[2] / "reports"
PREDICTIONS = REPORTS / "predictions"
KEY = Key("silu", "torch", "compiled", "bf16", "forward")


def mask(*places: int) -> Any:
    found = np.zeros(2**16, np.bool_)
    found[list(places)] = True
    return found


def prediction(**changes: Any) -> Prediction:
    given = {"fmt": BF16, "bits": np.arange(2**16, dtype=np.uint16), "open": mask(1, 2, 3)}
    return Prediction(**{**given, "by": {"ex2.approx.f32": mask(1), "div.full.f32": mask(1, 2)}, **changes})


def test_each_difference_is_explained_by_what_alone_may_make_it() -> None:
    returned = np.arange(2**16, dtype=np.uint16)
    assert compared(prediction(), returned).differing == 0
    returned[[1, 2, 3, 700]] += 1
    found = compared(prediction(), returned)
    assert found.differing == 4
    assert found.explained == {"ex2.approx.f32": 1, "div.full.f32": 2, SEVERAL: 1}
    assert (found.unexplained, found.unexplained_count, found.undecided) == ((700,), 1, 0)
    # Where nobody knows which inputs are open, a difference proves nothing, and is no agreement either.
    nobody = compared(replace(prediction(), unknown="a loop"), returned)
    assert (nobody.unexplained_count, nobody.undecided, nobody.differing) == (0, 1, 4)
    assert not Compared(KEY, nobody).holds and not Compared(KEY, found).holds


def test_nan_is_one_number_and_zeros_have_signs() -> None:
    codes = canonical(np.array([np.nan, -np.nan, 0.0, -0.0, 1.0]), BF16)
    assert codes.tolist() == [0x7FC0, 0x7FC0, 0x0000, 0x8000, 0x3F80]


def test_a_nan_of_another_sign_or_payload_is_no_difference() -> None:
    returned = np.arange(2**16, dtype=np.uint16)
    returned[0x7FC0], returned[0xFF81] = 0xFFC0, 0x7FFF
    assert compared(prediction(), returned).differing == 0
    returned[0x7FC0], returned[0xFF81] = 0x7F80, 0x3F80
    assert compared(prediction(), returned).differing == 2


def test_a_file_gives_back_what_was_written_and_is_small(tmp_path: Path) -> None:
    path = tmp_path / "sm_90.xz"
    bits = canonical(BF16.decode(np.arange(2**16, dtype=np.uint64)), BF16)
    first, second = prediction(bits=bits), prediction(bits=bits, open=mask(), by={}, unknown="a loop")
    Predictions({"target": "sm_90"}, {KEY: first, Key.of("elu|naive|triton|fp16|grad_x"): second}).write(path)
    found = Predictions.read(path)
    assert found.about == {"target": "sm_90"}
    for key, wanted in ((KEY, first), (Key("elu", "naive", "triton", "fp16", "grad_x"), second)):
        got = found.entries[key]
        assert (got.bits == wanted.bits).all() and (got.open == wanted.open).all()
        assert got.by.keys() == wanted.by.keys() and got.unknown == wanted.unknown
        assert all((got.by[name] == changes).all() for name, changes in wanted.by.items())


def test_a_damaged_file_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "sm_90.xz"
    Predictions({"target": "sm_90"}, {KEY: prediction()}).write(path)
    raw = path.read_bytes()
    path.write_bytes(b"something else" + raw)
    with pytest.raises(DamagedFileError, match="no file of predictions"):
        Predictions.read(path)
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DamagedFileError, match="not as it was written"):
        Predictions.read(path)
    magic, packed = raw.split(b"\n", 1)
    content = bytearray(lzma.decompress(packed))
    content[-1] ^= 1
    path.write_bytes(magic + b"\n" + lzma.compress(bytes(content)))
    with pytest.raises(
        DamagedFileError, match=r"silu\|torch\|compiled\|bf16\|forward is not as it was written"
    ):
        Predictions.read(path)


@emulated
def test_what_the_device_decides_is_what_conforming_devices_may_change() -> None:
    """Of the naive kernel in bf16 14,471 inputs, all by the exponential; of the stable one none."""
    settings = StudySettings(
        device="sm_90",
        functions=("xielu",),
        compiled=False,
        timing=False,
        reductions=False,
        initial_only=True,
    )
    made, without = predict(settings)
    found = made.entries
    assert without == {}
    naive = found[Key("xielu", "naive", "triton", "bf16", "forward")]
    (name,) = naive.by
    assert name.startswith("ex2.approx") and int(naive.open.sum()) == 14471
    assert (naive.by[name] == naive.open).all()
    stable = found[Key("xielu", "stable", "operator", "bf16", "forward")]
    assert not stable.open.any() and not stable.unknown


def test_predictions_are_of_an_emulated_device_and_held_against_one_of_their_target() -> None:
    with pytest.raises(UsageError, match="predictions are of an emulated device"):
        predict(StudySettings(device="cpu"))


class StandIn:
    """A device of a target, on which nothing runs."""

    name = "cuda"

    def __init__(self, major: int, minor: int) -> None:
        self._capability = major, minor

    def require(self) -> None: ...

    def capability(self) -> tuple[int, int]:
        return self._capability


def test_a_device_is_held_against_what_was_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    values = BF16.decode(bits.astype(np.uint64)).astype(np.float64)
    own = canonical(values, BF16)
    gone = Key("silu", "no such", "triton", "bf16", "forward")
    slope, third = (Key("silu", "torch", "eager", "bf16", output) for output in ("grad_x", "third"))
    same = Key("silu", "torch", "eager", "bf16", "forward")
    entries = {
        same: prediction(bits=own, open=mask(), by={}), slope: prediction(bits=own ^ 1, open=mask(1), by={}),
        gone: prediction(), third: prediction(),
    }  # fmt: skip
    asked = []

    def run(case: Any, given: Any) -> dict[str, Any]:
        asked.append(case)
        return {"forward": values, "grad_x": values, "third": Failure("raised", "not this one")}

    monkeypatch.setattr(predictions, "run", run)
    monkeypatch.setattr(predictions, "on_device", lambda implementation, device: implementation)
    monkeypatch.setattr(predictions, "case_of", lambda implementation, fmt, outputs: (fmt, outputs))
    found = {row.key: row for row in check(Predictions({"target": "sm_90"}, entries), StandIn(9, 0))}  # type: ignore[arg-type]
    assert asked == [(BF16, ("forward", "grad_x", "third"))]
    assert found[same].holds and not found[slope].holds
    assert found[slope].comparison is not None and found[slope].comparison.unexplained_count > 60_000
    assert not found[gone].holds and found[gone].failure == "no such implementation is registered any more"
    assert not found[third].holds and found[third].failure == "raised: not this one"
    with pytest.raises(UsageError, match="is of sm_92, and the predictions are of sm_90"):
        check(Predictions({"target": "sm_90"}, entries), StandIn(9, 2))  # type: ignore[arg-type]


def test_where_too_many_are_to_be_tried_ranges_say_what_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    from precision_lab.measuring import predicting
    from precision_lab.running.case import case_of
    from precision_lab.virtual_gpu import engines

    record = engines.Record(dimensions={(0, 0): (-500, 500)}, named={(0, 0): {"tanh.approx.f32"}})
    values = BF16.decode(np.arange(2**16, dtype=np.uint64)).astype(np.float64)
    high = values.copy()
    high[[3, 5]] = values[[4, 6]]

    @contextmanager
    def recording() -> Iterator[Any]:
        yield record

    monkeypatch.setattr(engines, "recording", recording)
    monkeypatch.setattr(predicting, "obstacles_of", lambda record, tensors: dict.fromkeys(tensors, ""))
    monkeypatch.setattr(predicting, "ends", lambda case, progress: {"forward": (values, high)})
    case = case_of(get_implementation("relu", "torch"), BF16, outputs=("forward",))
    found = predicting.predicted(case)["forward"]
    assert isinstance(found, Prediction) and found.by == {}
    assert np.flatnonzero(found.open).tolist() == [3, 5]


# -- those that are committed ------------------------------------------------------------------------


@pytest.mark.parametrize("line", (PREDICTIONS / "SHA256SUMS").read_text().splitlines())
def test_committed_files_are_as_they_were_written(line: str) -> None:
    digest, name = line.split()
    assert hashlib.sha256((PREDICTIONS / name).read_bytes()).hexdigest() == digest


def test_every_target_has_one() -> None:
    for target in ("sm_80", "sm_90", "sm_100"):
        found = file_for(PREDICTIONS, target, "3.9.0")
        assert found is not None and found.name == f"{target}-triton-3.9.xz"
    assert file_for(PREDICTIONS, "sm_75", "3.9.0") is None


def test_an_h200_returned_what_was_predicted_or_what_is_its_to_choose() -> None:
    """Its bits were read with Triton 3.6 and NVRTC 13.0, forward and d/dx of a call each.

    Not compared: the stable kernels, which have changed since, and what `--use_fast_math` makes. Of the
    latter the device's bits are those of the same kernels without it: NVRTC gave back their machine code.
    """
    predicted = Predictions.read(REPORTS / "h200" / "predicted.xz")
    assert (predicted.about["triton"], predicted.about["nvrtc"]) == ("3.6.0", "13.0")
    with np.load(io.BytesIO(lzma.decompress((REPORTS / "h200" / "bits.npz.xz").read_bytes()))) as file:
        recorded = {Key.of(key): file[key] for key in file.files}
    left_out = [
        key for key in recorded if key.implementation == "stable" or "fast-math" in key.implementation
    ]
    both = {key: predicted.entries[key] for key in recorded if key not in left_out}
    assert (len(both), len(left_out)) == (72, 20)
    differing: dict[str, int] = {}
    for key, prediction in both.items():
        fmt = get_format(key.fmt)
        codes = canonical(fmt.decode(recorded[key].view(np.uint16).astype(np.uint64)), fmt)
        found = compared(prediction, codes)
        assert found.unexplained_count == found.undecided == 0, (str(key), found)
        for name, count in found.explained.items():
            differing[name] = differing.get(name, 0) + count
    # The device does use its freedom: of one instruction alone, in 1 % of the results.
    assert differing.keys() == {"ex2.approx.f32", "ex2.approx.ftz.f32"}
    assert sum(differing.values()) == 47_524


def test_an_h200_returned_every_output_of_every_kernel_as_predicted() -> None:
    """Of 172 outputs of 20 kernels, gradients of parameters and the stable kernels among them.

    The three kernels of `--use_fast_math` apart: the device executed their usual code, out of NVRTC's cache.
    """
    predicted = Predictions.read(REPORTS / "h200" / "predicted_every_output.xz")
    with np.load(
        io.BytesIO(lzma.decompress((REPORTS / "h200" / "every_output.npz.xz").read_bytes()))
    ) as file:
        recorded = {Key.of(key): file[key] for key in file.files}
    assert recorded.keys() == predicted.entries.keys() and len(recorded) == 202
    kernels, differing = set(), {}
    for key, prediction in predicted.entries.items():
        if "fast-math" in key.implementation:
            usual = replace(key, implementation=key.implementation.removesuffix(" fast-math"))
            assert (recorded[key] == recorded[usual]).all()
            continue
        kernels.add(key.label)
        found = compared(prediction, recorded[key])
        assert found.unexplained_count == found.undecided == 0, (str(key), found)
        for name, count in found.explained.items():
            differing[name] = differing.get(name, 0) + count
    assert len(kernels) == 20
    assert differing == {"ex2.approx.f32": 76_643, "ex2.approx.ftz.f32": 34_565, SEVERAL: 1}
