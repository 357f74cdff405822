"""The environment's self-check, against processes that really do alter arithmetic."""

from __future__ import annotations

import subprocess
import sys

import pytest
from altered_arithmetic import NEEDS_UPWARD, ROUND_UPWARD

from precision_lab.exceptions import EnvironmentAltersResultsError
from precision_lab.running import selfcheck
from precision_lab.system import ieee


def run(code: str) -> str:
    """Output of `code` in a process of its own, whose floating-point switches are not ours."""
    found = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


def flushing(code: str) -> str:
    return run(
        "import torch\n"
        "from precision_lab.running import selfcheck\n"
        "if not torch.set_flush_denormal(True):\n"
        "    print('unsupported'); raise SystemExit\n" + code
    )


def test_this_process_computes_ieee_arithmetic() -> None:
    failed = [check.name for check in selfcheck.check() if check.ok is False]
    assert failed == []
    selfcheck.require_ieee()


def test_flush_to_zero_is_detected() -> None:
    out = flushing(
        "from precision_lab.running import selfcheck\n"
        "print([c.name for c in selfcheck.check(with_torch=False) if c.ok is False])\n"
        "print(selfcheck.environment()['flush to zero'])\n"
    )
    if out.strip() == "unsupported":
        pytest.skip("this processor has no flush-to-zero switch that torch knows")
    assert "subnormals are kept (main thread)" in out
    assert "outputs and inputs" in out


def test_measuring_refuses_while_subnormals_are_flushed() -> None:
    out = flushing(
        "import precision_lab as pl\n"
        "from precision_lab.exceptions import EnvironmentAltersResultsError\n"
        "try:\n"
        "    pl.measure('naive', 'xielu', fmt='bf16')\n"
        "except EnvironmentAltersResultsError as error:\n"
        "    print('refused:', error)\n"
    )
    if out.strip() == "unsupported":
        pytest.skip("this processor has no flush-to-zero switch that torch knows")
    assert out.startswith("refused: this process flushes subnormal outputs")
    assert "torch.set_flush_denormal(False)" in out


def test_a_kernel_that_switches_flushing_on_does_not_get_a_measurement() -> None:
    out = run(
        "import numpy as np, torch\n"
        "import precision_lab as pl\n"
        "from precision_lab.exceptions import EnvironmentAltersResultsError\n"
        "def kernel(x):\n"
        "    torch.set_flush_denormal(True)\n"
        "    return torch.relu(x)\n"
        "try:\n"
        "    pl.measure(kernel, 'relu', fmt='bf16', inputs=np.array([1.0, 2.0**-130]))\n"
        "    print('measured')\n"
        "except EnvironmentAltersResultsError:\n"
        "    print('refused')\n"
        "torch.set_flush_denormal(False)\n"
        "print(pl.measure('torch', 'relu', fmt='bf16').max_ulp)\n"
    )
    assert out.split() == ["refused", "0.0"]


@NEEDS_UPWARD
def test_a_rounding_mode_other_than_to_nearest_is_detected() -> None:
    out = run(
        "from precision_lab.running import selfcheck\n"
        + ROUND_UPWARD
        + "print([c.name for c in selfcheck.check(with_torch=False) if c.ok is False])\n"
        "try:\n"
        "    selfcheck.require_ieee()\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    assert "rounding is to nearest, ties to even" in out
    assert "EnvironmentAltersResultsError" in out
    assert "rounding mode" in out


def test_contraction_is_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check's own numbers: a fused multiply-add leaves 2^-60, two roundings leave 0."""
    from fractions import Fraction

    a, c = Fraction(1) + Fraction(1, 2**30), Fraction(1) + Fraction(1, 2**29)
    assert a * a - c == Fraction(1, 2**60)
    assert float(a * a) - float(c) == 0.0
    monkeypatch.setattr(selfcheck, "_numpy_contracts", lambda: True)
    assert [c.name for c in selfcheck.check(with_torch=False) if c.ok is False] == [
        "numpy does not contract a*b+c"
    ]


def test_require_ieee_names_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ieee, "flushes", lambda: "outputs")
    with pytest.raises(EnvironmentAltersResultsError, match=r"set_flush_denormal\(True\)"):
        selfcheck.require_ieee()
    monkeypatch.setattr(ieee, "flushes", lambda: "")
    monkeypatch.setattr(ieee, "rounds_to_nearest", lambda: False)
    with pytest.raises(EnvironmentAltersResultsError, match="rounding mode"):
        selfcheck.require_ieee()


def test_tf32_is_read_whichever_switch_was_set() -> None:
    """The legacy names raise once the new ones were used."""
    out = run(
        "import torch\n"
        "from precision_lab.devices.cuda import _tf32\n"
        "from precision_lab.running import selfcheck\n"
        "matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn\n"
        "print(_tf32(matmul, matmul), _tf32(None, cudnn) in ('on', 'off'))\n"
        "if not hasattr(matmul, 'fp32_precision'):\n"
        "    print('on CUDA: tf32'); raise SystemExit\n"
        "matmul.fp32_precision = 'tf32'\n"
        "print(_tf32(matmul, matmul), selfcheck._matmul_precision())\n"
        "assert selfcheck.check()\n"
    )
    assert out.split()[:2] == ["off", "True"]
    assert out.splitlines()[1] in ("on CUDA: tf32", "on high"), out


def test_the_record_names_versions_and_switches_but_no_paths() -> None:
    import torch

    record = selfcheck.environment()
    assert record["torch"] == torch.__version__
    assert record["flush to zero"] == "off"
    assert {"python", "system", "cpu", "cores", "numpy", "mpmath"} <= set(record)
    # x86 names contain "CPU @ 2.50GHz", never a slash that starts a path.
    assert not any(value.startswith("/") or "/home" in value for value in record.values())


def test_the_record_is_readable_without_torch() -> None:
    out = run(
        "import sys\n"
        "from precision_lab.running import selfcheck\n"
        "selfcheck.require_ieee()\n"
        "print('torch threads' in selfcheck.environment(), 'torch' in sys.modules)\n"
    )
    assert out.split() == ["False", "False"]
