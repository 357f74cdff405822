"""Tables of a real device's results: got back bit by bit, damaged ones refused, wrong results named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from precision_lab.emulator import device_measure, device_table, nominal
from precision_lab.emulator.device_measure import (
    file_of,
    measure_all_on_cuda,
    measure_on_cuda,
    source,
    tabled,
)
from precision_lab.emulator.device_table import DeviceTable, Header, Violation, write
from precision_lab.exceptions import DamagedFileError

pytestmark = pytest.mark.slow  # `tox -e exhaustive`

EX2 = Header("a device", "9.0", "13.0", "ex2.approx.f32", True, 0x3F7F0000, 0x3F810000)


class StandIn:
    """A device that returns the nominal result moved by a number of floats, or what else it is told."""

    device, capability, driver = "stand-in", "9.0", "12.8"

    def __init__(self, op: str, ftz: bool, change: Callable[[Any, Any], Any] | int = 0) -> None:
        self._op, self._ftz, self._change = op, ftz, change
        self.launches: list[tuple[int, int]] = []

    def run(self, source: str, start: int, count: int, dtype: np.dtype[Any]) -> Any:
        assert f"{self._op.split('.')[0]}.approx" in source
        self.launches.append((start, count))
        x = np.arange(start, start + count, dtype=np.uint64).astype(dtype)
        if isinstance(self._change, int):
            return nominal.evaluate(self._op, self._ftz, self._change, x)
        return self._change(x, nominal.evaluate(self._op, self._ftz, 0, x)).astype(dtype)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_table, "CHUNK", 1 << 12)


def pieces(codes: Any) -> Iterator[Any]:
    for start in range(0, codes.size, 5000):  # no multiple of a chunk, nor the other way round
        yield codes[start : start + 5000]


def test_any_codes_whatsoever_are_got_back_bit_by_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = EX2.inputs(EX2.start, EX2.stop - EX2.start)
    codes = nominal.evaluate("ex2.approx.f32", True, 0, x)
    odd = rng.choice(codes.size, 3000, replace=False)
    codes[odd] = rng.integers(0, 1 << 32, 3000, dtype=np.uint32)
    codes[odd[:6]] = np.uint32([0x7FFFFFFF, 0xFFC00001, 0x80000000, 0, 0x7F800000, 0xFF800000])
    write(tmp_path / "t", EX2, pieces(codes))
    table = DeviceTable.load(tmp_path / "t")
    assert table.header == EX2
    assert (table.evaluate(x) == codes).all()
    order = rng.permutation(x.size)[:999].reshape(3, -1)
    assert (table.evaluate(x[order]) == codes[order]).all()


@pytest.mark.parametrize("op", ["tanh.approx.bf16", "ex2.approx.f16"])
def test_signs_of_zeros_and_every_code_of_16_bits_survive(op: str, tmp_path: Path) -> None:
    header = Header("a device", "9.0", "13.0", op, False, 0, 1 << 16)
    codes = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16)[::-1].copy()
    write(tmp_path / "t", header, pieces(codes))
    assert (DeviceTable.load(tmp_path / "t").evaluate(header.inputs(0, 1 << 16)) == codes).all()


def test_results_next_to_the_rounded_ones_take_a_twentieth_of_their_size(tmp_path: Path) -> None:
    measure_on_cuda(
        "ex2.approx.f32", True, tmp_path / "t", StandIn("ex2.approx.f32", True, 1), EX2.start, EX2.stop
    )
    assert (tmp_path / "t").stat().st_size < 4 * (EX2.stop - EX2.start) / 20


def test_a_conforming_device_has_no_violation_and_one_float_more_is_one(tmp_path: Path) -> None:
    path = tmp_path / "t"
    for k in (-4, 0, 2):
        measure_on_cuda("ex2.approx.f32", True, path, StandIn("ex2.approx.f32", True, k), EX2.start, EX2.stop)
        assert DeviceTable.load(path).violations() == []

    def beyond(x: Any, y: Any) -> Any:
        return y + np.where(x == 0x3F800010, 3, 0)

    measure_on_cuda(
        "ex2.approx.f32", True, path, StandIn("ex2.approx.f32", True, beyond), EX2.start, EX2.stop
    )
    y = int(nominal.evaluate("ex2.approx.f32", True, 0, np.uint32([0x3F800010]))[0])
    assert DeviceTable.load(path).violations() == [Violation(0x3F800010, y + 3, y - 2, y + 2)]


@pytest.mark.parametrize(
    ("op", "x", "returned"),
    [
        ("ex2.approx.f32", 0x00000000, 0x3F800001),  # 2^0 is 1
        ("ex2.approx.f32", 0x7F800000, 0x7FFFFFFF),  # NaN for a number
        ("ex2.approx.f32", 0x7FC00000, 0x3F800000),  # a number for NaN
        ("rcp.approx.f32", 0x80000000, 0x7F800000),  # 1/−0 is −∞
        ("sin.approx.f32", 0x80000000, 0x00000000),  # sin −0 is −0
    ],
)
def test_what_the_manual_tabulates_is_held_to_the_letter(
    op: str, x: int, returned: int, tmp_path: Path
) -> None:
    def change(codes: Any, y: Any) -> Any:
        return np.where(codes == x, np.uint32(returned), y)

    measure_on_cuda(op, False, tmp_path / "t", StandIn(op, False, change), x, x + 100)
    (found,) = DeviceTable.load(tmp_path / "t").violations()
    assert (found.bits, found.returned) == (x, returned)


def test_where_nothing_is_promised_nothing_is_violated(tmp_path: Path) -> None:
    start = int(np.float32(1e9).view(np.uint32))
    stand_in = StandIn("sin.approx.f32", False, lambda x, y: np.full(x.shape, 0x42000000))
    measure_on_cuda("sin.approx.f32", False, tmp_path / "t", stand_in, start, start + 5000)
    assert DeviceTable.load(tmp_path / "t").violations() == []
    start = int(np.float32(10).view(np.uint32))
    measure_on_cuda("sin.approx.f32", False, tmp_path / "t", stand_in, start, start + 5000)
    assert len(DeviceTable.load(tmp_path / "t").violations(most=7)) == 7


def test_launches_are_of_the_asked_size_and_cover_every_input_once(tmp_path: Path) -> None:
    stand_in = StandIn("tanh.approx.f16", False)
    header = measure_on_cuda("tanh.approx.f16", False, tmp_path / "t", stand_in, step=30_000)
    assert stand_in.launches == [(0, 30_000), (30_000, 30_000), (60_000, 5_536)]
    assert (header.start, header.stop, header.device, header.driver) == (0, 1 << 16, "stand-in", "12.8")


def test_every_byte_of_a_file_counts(tmp_path: Path) -> None:
    path = tmp_path / "t"
    header = replace(EX2, stop=EX2.start + 10_000)
    write(path, header, [nominal.evaluate("ex2.approx.f32", True, 1, header.inputs(header.start, 10_000))])
    data = path.read_bytes()
    for at in [*range(0, len(data), 7), len(data) - 1]:
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(DamagedFileError):
            DeviceTable.load(path)
    for length in range(0, len(data), 11):
        path.write_bytes(data[:length])
        with pytest.raises(DamagedFileError):
            DeviceTable.load(path)


def test_a_chunk_that_changes_after_loading_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "t"
    x = EX2.inputs(EX2.start, EX2.stop - EX2.start)
    write(path, EX2, [nominal.evaluate("ex2.approx.f32", True, 0, x)])
    table, other = DeviceTable.load(path), tmp_path / "other"
    write(other, EX2, [nominal.evaluate("ex2.approx.f32", True, 1, x)])
    path.write_bytes(other.read_bytes())
    with pytest.raises(DamagedFileError, match="chunk 0"):
        table.evaluate(x[:1])


def test_a_table_that_fails_half_way_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "t"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match="results for inputs up to 0x3f7f1388 only"):
        write(path, EX2, [np.zeros(5000, np.uint32)])
    with pytest.raises(ValueError, match="results for inputs up to 0x3f8"):
        write(path, EX2, [np.zeros(1 << 18, np.uint32)])
    with pytest.raises(ValueError, match="a row of uint32; got float32"):
        write(path, EX2, [np.zeros(5000, np.float32)])
    assert [p.name for p in tmp_path.iterdir()] == ["t"] and path.read_bytes() == b"before"


def test_inputs_that_were_not_measured_are_named(tmp_path: Path) -> None:
    header = replace(EX2, stop=EX2.start + 100)
    write(tmp_path / "t", header, [np.zeros(100, np.uint32)])
    table = DeviceTable.load(tmp_path / "t")
    with pytest.raises(ValueError, match="from 0x3f7f0000 to 0x3f7f0063 only; bits=0x3f7f0064"):
        table.evaluate(np.uint32([EX2.start, EX2.start + 100]))
    with pytest.raises(ValueError, match="takes uint32; got uint16"):
        table.evaluate(np.uint16([1]))


@pytest.mark.parametrize("op", ["div.full.f32", "rcp.approx.f64", "sinh.approx.f32"])
def test_there_is_no_table_of_what_has_more_inputs_than_32_bits(op: str) -> None:
    with pytest.raises(ValueError, match="one operand of 16 or 32 bits"):
        replace(EX2, op=op)


def test_a_machine_without_a_cuda_device_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch sees none here"):
        measure_on_cuda("ex2.approx.f32", True, tmp_path / "t")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("op", "ftz"),
    [
        (op, ftz)
        for op in nominal.OPERATIONS
        for ftz in (False, True)
        if nominal.supports(op, ftz) and not op.startswith("div") and not op.endswith("f64")
    ],
)
def test_the_kernel_compiles_and_holds_the_one_instruction(op: str, ftz: bool) -> None:
    """By NVRTC, for a machine without a GPU too: an instruction that does not exist is refused by it."""
    pytest.importorskip("cuda.bindings.nvrtc")
    from precision_lab.numeric.nvrtc import compile_cubin

    text = source(op, ftz)
    assert text.count("asm volatile") == 1
    try:
        cubin = compile_cubin(text, "measure.cu", "sm_90")
    except ImportError as error:
        pytest.skip(str(error))
    assert cubin[:4] == b"\x7fELF"


@pytest.mark.gpu
def test_the_device_at_hand_conforms_where_its_results_are_nearest_to_the_bound(tmp_path: Path) -> None:
    for op in ("ex2.approx.f32", "rcp.approx.f32", "rsqrt.approx.f32"):
        measure_on_cuda(op, True, tmp_path / "t", start=0x3F800000, stop=0x40800000)
        assert DeviceTable.load(tmp_path / "t").violations() == [], op


def test_the_launcher_for_cuda_asks_for_one_kernel_and_gives_unsigned_codes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without a GPU: the program is a stand-in, and the device the CPU."""
    import torch

    asked: list[Any] = []

    class Program:
        def __init__(self, text: str, name: str, device: torch.device) -> None:
            asked.append(text)

        def launch(self, name: str, blocks: int, threads: int, arguments: list[Any]) -> None:
            out, start, count = arguments
            assert name == "measure" and blocks * threads >= count > (blocks - 1) * threads
            out.copy_(torch.arange(start, start + count).to(out.dtype))

    from precision_lab.numeric import nvrtc

    monkeypatch.setattr(nvrtc, "CudaProgram", Program)
    launcher = object.__new__(device_measure.CudaLauncher)
    launcher._torch, launcher._at, launcher._programs = torch, torch.device("cpu"), {}
    for dtype, start in ((np.uint32, 0xFFFFFF00), (np.uint16, 0xFF00)):
        found = launcher.run("text", start, 200, np.dtype(dtype))
        assert found.dtype == dtype and found.tolist() == list(range(start, start + 200))
    assert asked == ["text"]


@pytest.mark.parametrize("op", ["tanh.approx.f32", "ex2.approx.f16"])
def test_variants_that_are_refused_here_are_refused_by_the_assembler(op: str) -> None:
    pytest.importorskip("cuda.bindings.nvrtc")
    from precision_lab.numeric.nvrtc import compile_cubin

    opcode = op.split(".")[0]
    text = source(op, False).replace(f"{opcode}.approx.", f"{opcode}.approx.ftz.")
    with pytest.raises(ValueError, match=r"Illegal modifier '\.ftz'"):
        try:
            compile_cubin(text, "measure.cu", "sm_90")
        except ImportError as error:
            pytest.skip(str(error))


def test_a_folder_has_a_table_of_each_instruction_and_what_is_there_stays(tmp_path: Path) -> None:
    narrow = [entry for entry in tabled() if not entry[0].endswith(".f32")]
    assert ("ex2.approx.f32", True) in tabled() and not any("div" in op or "f64" in op for op, _ in tabled())
    assert 2 <= len(narrow) < len(tabled())

    class Any_(StandIn):
        """Whatever it is asked for, read off the source."""

        def __init__(self) -> None:
            super().__init__("", False)

        def run(self, source: str, start: int, count: int, dtype: np.dtype[Any]) -> Any:
            op, ftz = next(entry for entry in narrow if device_measure.source(*entry) == source)
            self.launches.append((start, count))
            x = np.arange(start, start + count, dtype=np.uint64).astype(dtype)
            return nominal.evaluate(op, ftz, 0, x)

    device = Any_()
    made = list(measure_all_on_cuda(tmp_path, narrow, device))
    assert [measured for _, measured in made] == [True] * len(narrow)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(file_of(*entry) for entry in narrow)
    launches = len(device.launches)
    broken = tmp_path / file_of(*narrow[0])
    broken.write_bytes(broken.read_bytes()[:-1])
    again = list(measure_all_on_cuda(tmp_path, narrow, device))
    assert [measured for _, measured in again] == [True] + [False] * (len(narrow) - 1)
    assert len(device.launches) == launches + 1 and DeviceTable.load(broken).header == again[0][0]
