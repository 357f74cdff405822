"""A stranger's kernel in its own process: deaths are named, and everything else goes on.

The exhaustive run adds a hang that is met twice, which waits for four time limits.
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import pytest

from precision_lab.devices import CPU
from precision_lab.formats import BF16
from precision_lab.functions import RELU
from precision_lab.system.warm_start import server_pid
from precision_lab.verifying.verify import verify

pytest.importorskip("torch")

KERNELS = """
import os, sys, time
import torch

def good(x):
    return torch.relu(x)

def segfault_at(x):
    if (x == 1.5).any():
        import ctypes
        ctypes.string_at(0)
    return torch.relu(x)

def long_calls_abort(x):
    if x.numel() >= 4096:
        os.abort()
    return torch.relu(x)

def hangs(x):
    if (x == 1.5).any():
        time.sleep(3600)
    return torch.relu(x)

def killed(x):
    if x.requires_grad:
        os.kill(os.getpid(), 9)
    return torch.relu(x)

def leaves(x):
    os._exit(0)

def strided_crash(x):
    if not x.is_contiguous():
        os.abort()
    return torch.relu(x)

def prints(x):
    print("noise" * 10000, flush=True)
    return torch.relu(x)

def floods(x):
    for _ in range(64 if x.numel() > 4096 else 1):
        os.write(1, bytes(1 << 20))
    if (x == 1.5).any():
        os.abort()
    return torch.relu(x)

def closes(x):
    os.closerange(3, 256)
    return torch.relu(x)

def reuses(x):
    os.closerange(3, 256)
    for k in range(64):
        os.open(__file__ + ".own", os.O_CREAT | os.O_RDWR)
    return torch.relu(x)

def _pipes():
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink("/proc/self/fd/" + number)
        except FileNotFoundError:
            continue
        if int(number) > 2 and link.startswith("pipe"):
            found.append(int(number))
    return found

def _written(data):
    for fd in _pipes():
        try:
            os.write(fd, data)
        except OSError:
            pass

def garbage(x):
    _written(bytes(range(256)) * 16 + b"\\n")
    return torch.relu(x)

def nested(x):
    _written(b"[" * 50000 + b"\\n")
    return torch.relu(x)

def endless(x):
    part = b"x" * (1 << 20)
    for _ in range(2048):
        _written(part)
    return torch.relu(x)

def interrupts(x):
    raise KeyboardInterrupt

class Own(BaseException):
    pass

def raises_own(x):
    raise Own("mine")

def raises_later(x):
    import signal
    def handler(*_):
        raise Own("from a handler")
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.001)
    return torch.relu(x)


class Sleeps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return torch.relu(x)

    @staticmethod
    def backward(ctx, dy):
        time.sleep(3600)

def hangs_backward(x):
    return Sleeps.apply(x)

def reads(x):
    assert sys.stdin.read() == ""
    return torch.relu(x)
"""


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kernels") / "reference.py"  # a name of users' own, of all things
    path.write_text(KERNELS, encoding="utf-8")
    return path


def run(kernels: Path, name: str, **options):
    options = {"fmts": ("bf16",), "outputs": ("forward",), "properties": False, **options}
    return verify(f"{kernels}:{name}", "relu", **options)


def test_a_right_kernel_passes_as_it_does_in_this_process(kernels: Path) -> None:
    isolated = run(kernels, "good", properties=True)
    here = run(kernels, "good", properties=True, isolate=False)
    assert isolated.passed
    assert isolated.measurements == here.measurements


def test_output_of_the_kernel_is_no_answer(kernels: Path) -> None:
    assert run(kernels, "prints").passed


def test_a_crash_names_the_signal_the_line_and_the_input_and_other_outputs_go_on(kernels: Path) -> None:
    verdict = run(kernels, "segfault_at", fmts=("bf16", "e4m3"), outputs=("forward",))
    fault = verdict.faults[0]
    assert fault.kind == "crashed"
    assert "illegal memory access (SIGSEGV) at reference.py, line 11 in segfault_at" in fault.message
    assert "x=1.5 (0x1.8000000000000p+0, bits 0x3fc0)" in fault.message
    assert {m.fmt for m in verdict.measurements} == {"bf16", "e4m3"}


def test_a_crash_of_long_calls_is_told_from_one_at_an_input(kernels: Path) -> None:
    (fault,) = run(kernels, "long_calls_abort").faults
    assert "aborted (SIGABRT)" in fault.message
    assert "with all inputs in one call, not in calls of 256 elements" in fault.message


def test_a_hang_ends_after_the_time_limit(kernels: Path) -> None:
    (fault,) = run(kernels, "hangs", time_limit=2.0).faults
    assert fault.kind == "hung"
    assert "no answer within 2 s" in fault.message
    assert "x=1.5" in fault.message


def test_a_kill_of_one_output_leaves_the_other(kernels: Path) -> None:
    verdict = run(kernels, "killed", outputs=("forward", "grad_x"))
    assert {fault.kind for fault in verdict.faults} == {"out_of_memory"}
    forward, gradient = sorted(verdict.measurements, key=lambda m: m.output)
    assert (forward.failure, forward.max_ulp, forward.n_inputs) == (None, 0.0, 1 << 16)
    assert gradient.failure is not None


def test_a_kernel_that_ends_the_process_without_a_word_is_no_pass(kernels: Path) -> None:
    (fault,) = run(kernels, "leaves").faults
    assert "ended with exit code 0 in the middle of its work" in fault.message


def test_a_crash_in_one_property_leaves_the_others(kernels: Path) -> None:
    verdict = run(kernels, "strided_crash", properties=("lengths", "strides", "positions"))
    (fault,) = verdict.faults
    assert fault.kind == "crashed"
    assert "while the property strides was examined" in fault.message
    assert verdict.measurements[0].failure is None


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("closes", "disturbs_report", "closed the descriptor"),
        ("reuses", "disturbs_report", "closed the descriptor"),
        ("garbage", "disturbs_report", "wrote"),
        ("nested", "disturbs_report", "wrote '[[[["),
        ("endless", "disturbs_report", "wrote 'xxxx"),
        ("interrupts", "raised", "KeyboardInterrupt"),
        ("raises_own", "raised", "Own: mine"),
        ("raises_later", "raised", "Own: from a handler"),
    ],
)
def test_what_a_kernel_does_to_the_report_is_named(kernels: Path, name: str, kind: str, words: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    verdict = run(kernels, name)
    assert {fault.kind for fault in verdict.faults} == {kind}
    assert all(words in fault.message for fault in verdict.faults)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 << 10  # KiB; it wrote 2 GiB


def test_a_kernel_that_reads_finds_nothing(kernels: Path) -> None:
    assert run(kernels, "reads").passed


@pytest.mark.slow
def test_a_backward_that_hangs_leaves_the_forward_and_is_left_alone(kernels: Path) -> None:
    verdict = run(kernels, "hangs_backward", outputs=None, properties=("shapes",), time_limit=2.0)
    forward, gradient = sorted(verdict.measurements, key=lambda m: m.output)
    assert forward.failure is None and forward.n_inputs == 1 << 16
    assert gradient.failure is not None and gradient.failure.kind == "hung"
    assert verdict.outcome == "fail"
    assert any("it has hung in 2 stages, and what is left was not run" in note for note in verdict.notes)


def test_only_a_target_can_be_isolated() -> None:
    with pytest.raises(ValueError, match="isolate=True needs a TARGET"):
        verify(lambda x: x, "relu", isolate=True)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_a_time_limit_must_be_positive(kernels: Path, limit: float) -> None:
    with pytest.raises(ValueError, match="time_limit="):
        run(kernels, "good", time_limit=limit)


def test_a_module_that_kills_its_process_on_import_is_wrong_use(tmp_path: Path) -> None:
    path = tmp_path / "bad.py"
    path.write_text("import os\nos.abort()\n", encoding="utf-8")
    with pytest.raises(ValueError, match="cannot be loaded: crashed: aborted"):
        run(path, "kernel")


def test_no_child_is_left_behind(kernels: Path) -> None:
    # Children of earlier tests, such as multiprocessing's resource tracker, may live on.
    before = children()
    run(kernels, "good")
    # The server from which kernels' processes are forked runs none and waits for the next.
    assert children() <= before | {str(server_pid())}
    grandchildren = children(server_pid())
    run(kernels, "good")
    assert children() <= before | {str(server_pid())}
    for _ in range(100):
        if not children(server_pid()) - grandchildren:
            break
        time.sleep(0.05)
    assert children(server_pid()) <= grandchildren


def children(pid: int | None = None) -> set[str]:
    folder = Path(f"/proc/{pid or os.getpid()}/task")
    found = [file.read_text().split() for file in folder.glob("*/children")]
    if not found:
        pytest.skip("the system does not list a process's children in /proc")
    return {pid for pids in found for pid in pids}


def test_the_child_runs_the_same_lab_as_its_parent(
    kernels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of the lab's name in the working folder, such as a checkout's, is not what is run."""
    (tmp_path / "precision_lab").mkdir()
    (tmp_path / "precision_lab" / "__init__.py").write_text("raise SystemExit('another lab')\n")
    (tmp_path / "beside.py").write_text("import torch\ndef relu(x):\n    return torch.relu(x)\n")
    monkeypatch.chdir(tmp_path)
    assert run(kernels, "good").passed
    options = {"fmts": ("bf16",), "outputs": ("forward",), "properties": False}
    assert verify("beside:relu", "relu", **options).passed, "what stands in the working folder is found"


@pytest.mark.parametrize(
    ("code", "words", "target", "kind", "said"),
    [
        (-11, "at k.py, line 3", "k.py:f", "crashed", "illegal memory access (SIGSEGV) at k.py, line 3"),
        (-6, "having said 'no'", "k.py:f", "crashed", "aborted (SIGABRT) having said 'no'"),
        (-8, "", "k.py:f", "crashed", "arithmetic trap (SIGFPE)"),
        (-15, "", "k.py:f", "crashed", "killed (SIGTERM)"),
        (-9, "", "k.py:f", "out_of_memory",
         "the process was killed (SIGKILL), as the system does when memory runs out"),
        (3, "", "k.py:f", "crashed", "the process ended with exit code 3 in the middle of its work"),
        (0, "", "k.py:f", "crashed", "the process ended with exit code 0 in the middle of its work"),
        (86, "having said 'f destroyed the context'", "k.py:f", "crashed", "f destroyed the context"),
        (88, "having said 'RuntimeError: late'", "k.py:f", "raised", "RuntimeError: late"),
        (87, "", "k.py:f", "disturbs_report", "the kernel closed the descriptor of the lab's own report"),
        (None, "", "k.py:f", "disturbs_report", "the kernel closed the descriptor of the lab's own report"),
        (-11, "having said 'x'", "a/lib.so:f", "crashed", "illegal memory access (SIGSEGV) in f of lib.so"),
        (-11, "at k.py, line 3", "libk.so:f", "crashed", "illegal memory access (SIGSEGV) at k.py, line 3"),
    ],
)  # fmt: skip
def test_the_end_of_a_process_is_named_by_its_cause(
    code: int | None, words: str, target: str, kind: str, said: str
) -> None:
    from precision_lab.verifying.child import death

    failure = death(code, words, target)
    assert (failure.kind, failure.message) == (kind, said)


@pytest.mark.parametrize(
    ("stage", "where", "examined"),
    [
        ("property bf16 init strides", "while the property strides was examined", "strides"),
        ("laws bf16 init", "while the laws were checked", "laws"),
        ("against bf16 init", "while torch was measured", None),
        ("plain call bf16 init", "in a plain call on a few thousand inputs", None),
    ],
)
def test_a_death_outside_a_measurement_says_where_and_breaks_what_was_examined(
    stage: str, where: str, examined: str | None
) -> None:
    from precision_lab.results import Failure
    from precision_lab.verifying.isolation import _property_died
    from precision_lab.verifying.plan import Plan

    plan = Plan(RELU, (BF16,), None, {"init": {}}, against="torch")
    found = _property_died(plan, "lib/k.py:mine", stage, Failure("hung", "no answer"))
    (fault,) = found.faults
    assert (fault.kind, fault.implementation, fault.fmt, fault.params_name) == (
        "hung",
        "mine",
        "bf16",
        "init",
    )
    assert fault.message == f"no answer, {where}"
    if examined is None:
        assert found.examination is None
    else:
        assert found.examination is not None
        assert (found.examination.property, found.examination.state) == (examined, "broken")


def test_what_a_kernel_prints_takes_no_more_than_its_end_is_worth(
    kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from precision_lab.verifying import child as its

    sizes = []
    listen = its.Child._listen

    def noted(child) -> bool:  # type: ignore[no-untyped-def]
        found = listen(child)
        sizes.append(len(child._said))
        return found

    monkeypatch.setattr(its.Child, "_listen", noted)
    (measured,) = run(kernels, "floods", time_limit=60.0).measurements
    assert its.NOISE < max(sizes) <= 2 * its.NOISE
    assert measured.failure is not None
    assert "aborted (SIGABRT) at reference.py" in measured.failure.message
    assert "0x1.8000000000000p+0" in measured.failure.message


def job(target: str) -> dict[str, object]:
    """What a child is told."""
    from precision_lab.verifying.plan import Plan
    from precision_lab.verifying.wire import packed

    plan = Plan(RELU, (BF16,), None, {"init": {}})
    return {"target": target, "plan": packed(plan), "framework": None, "compiled": False, "device": "cpu"}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system has no /proc")
def test_a_child_that_ended_by_itself_leaves_nothing_open() -> None:
    from precision_lab.verifying.child import Child

    with Child(
        job("no such file.py:kernel"), CPU
    ) as child:  # from now on there is a server, for the next too
        assert "error" in (child.line(300.0) or {})
    before = sorted(os.listdir("/proc/self/fd"))
    with Child(job("no such file.py:kernel"), CPU) as child:
        assert "error" in (child.line(300.0) or {})
        child._process.wait()
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ProcessLookupError):  # nor does what it started go on
        for _ in range(100):
            os.killpg(child._process.pid, 0)
            time.sleep(0.05)


def test_what_a_child_compiled_is_vouched_for_before_its_parent_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed as soon as it has said that it is at its end."""
    from precision_lab.running import inductor_cache
    from precision_lab.verifying.child import Child

    monkeypatch.setenv("PRECISION_LAB_CACHE", str(tmp_path / "lab"))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    source = """
import torch
from precision_lab.running.inductor_cache import compiler_folder
def kernel(x):
    (compiler_folder() / "made.so").write_bytes(bytes(1 << 26))
    return torch.relu(x)
"""
    (tmp_path / "compiles.py").write_text(source, encoding="utf-8")
    narrow = {"narrow": ["bf16", "init", "forward"], "size": 1 << 16, "window": None}  # nothing is scored
    with Child({**job(f"{tmp_path / 'compiles.py'}:kernel"), **narrow}, CPU) as child:
        while "end" not in (child.line(300.0) or {"end": True}):
            pass
    assert "made.so" in inductor_cache._sealed(tmp_path / "lab" / "inductor")
