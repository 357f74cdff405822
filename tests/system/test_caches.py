"""No cache is ever needed: what is damaged, cut short, another's or cannot be written is made again."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from precision_lab.numeric.jit import entry
from precision_lab.running import inductor_cache
from precision_lab.running import torch_compile as compiling
from precision_lab.system import atomic_file
from precision_lab.system.cache_files import cache_directory, read_checked, write_checked


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PRECISION_LAB_CACHE", str(tmp_path / "lab"))
    return tmp_path / "lab"


def doubled(x: float) -> float:
    return x + x


def tripled(x: float) -> float:
    return x + x + x


def damages(content: bytes) -> list[bytes]:
    """One bit turned at 24 places, cut at 8, nothing, noise, and too much."""
    places = np.linspace(0, 8 * len(content) - 1, 24).astype(int)
    turned = []
    for place in places:
        data = bytearray(content)
        data[place // 8] ^= 1 << (place % 8)
        turned.append(bytes(data))
    cut = [content[:n] for n in np.linspace(0, len(content) - 1, 8).astype(int)]
    return [*turned, *cut, os.urandom(len(content)), content + b"\0", b"\x80\x04."]


def test_damaged_machine_code_is_compiled_again(folder: Path) -> None:
    assert entry(doubled)(21.0) == 42.0
    (file,) = (folder / "code").glob("doubled-*.code")
    whole = file.read_bytes()
    for damaged in damages(whole):
        file.write_bytes(damaged)
        again = entry(doubled)
        assert again(21.0) == 42.0
        assert again._cache_misses  # compiled, and not taken from the file
        assert read_checked(file, again._cache._place(*_asked(again))[1]) is not None
    kept = entry(doubled)
    assert kept(21.0) == 42.0 and kept._cache_hits and not kept._cache_misses


def _asked(dispatcher):  # type: ignore[no-untyped-def]
    return dispatcher.signatures[0], dispatcher.targetctx.codegen()


def test_machine_code_of_another_function_is_not_taken(folder: Path) -> None:
    entry(doubled)(1.0)
    entry(tripled)(1.0)
    (file,), (other,) = ((folder / "code").glob(f"{name}-*.code") for name in ("doubled", "tripled"))
    file.write_bytes(other.read_bytes())
    assert entry(doubled)(21.0) == 42.0


@pytest.mark.parametrize("place", ["a file in the way", "no rights", "no home"])
def test_without_a_folder_every_process_compiles_for_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    if place == "a file in the way":
        folder.write_text("")
    elif place == "no rights":
        monkeypatch.setattr(atomic_file.tempfile, "mkstemp", _refused(errno.EACCES))
    else:
        monkeypatch.delenv("PRECISION_LAB_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", _no_home)
        assert cache_directory() is None
    assert entry(doubled)(21.0) == 42.0


def _refused(number: int) -> Callable[..., None]:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def _no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_a_full_disk_leaves_nothing_half_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fdopen

    class Full:
        def __init__(self, handle: int, mode: str) -> None:
            self.file = real(handle, mode)

        def __enter__(self) -> Full:
            return self

        def write(self, data: bytes) -> None:
            self.file.write(data[: len(data) // 2])
            self.file.flush()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def __exit__(self, *_: object) -> None:
            self.file.close()

    monkeypatch.setattr(atomic_file.os, "fdopen", Full)
    write_checked(folder / "x", "key", b"content" * 100)
    assert list(folder.iterdir()) == []
    assert read_checked(folder / "x", "key") is None


def test_a_file_of_another_key_is_missing(folder: Path) -> None:
    write_checked(folder / "x", "key", b"content")
    assert read_checked(folder / "x", "key") == b"content"
    assert read_checked(folder / "x", "another") is None


def test_the_command_runs_without_a_home(tmp_path: Path) -> None:
    """No $HOME, and a user of whom the system knows nothing: as in a container started with another uid."""
    script = (
        "import pwd\n"
        "def unknown(uid): raise KeyError(uid)\n"
        "pwd.getpwuid = unknown\n"
        "from precision_lab.oracle.piecewise_tables import table\n"
        "table('silu', 1, False)\n"
        "from precision_lab.cli.main import main\n"
        "main()\n"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("HOME", "XDG_CACHE_HOME")}
    environment.pop("PRECISION_LAB_CACHE", None)
    command = [sys.executable, "-c", script, "selfcheck"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, cwd=tmp_path
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr


# -- torch.compile's ------------------------------------------------------------------------


def used(folder: Path) -> Path:
    """The compiler's folder as a new process gets it."""
    inductor_cache._verified.cache_clear()
    return inductor_cache.compiler_folder()


def left() -> None:
    """What happens at the end of a process that used it: its lock goes with its last descriptor."""
    inductor_cache.leave()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{number}").endswith(inductor_cache._LOCK):
                os.close(int(number))


@pytest.fixture
def compiler(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not Path("/proc/self/fd").exists():
        pytest.skip("the system has no /proc")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setattr(inductor_cache, "_at_end", contextlib.ExitStack())
    made = used(folder)
    assert made == folder / "inductor"
    (made / "ab").mkdir()
    for name in ("ab/one.so", "ab/two.so"):
        (made / name).write_bytes(name.encode() * 1000)
    left()
    return made


def test_what_the_compiler_made_is_kept(compiler: Path) -> None:
    assert used(compiler.parent) == compiler
    assert {path.name for path in compiler.glob("ab/*")} == {"one.so", "two.so"}
    left()


def test_what_nobody_vouches_for_is_removed_from_the_compilers_folder(compiler: Path) -> None:
    whole = (compiler / "ab" / "one.so").read_bytes()
    for damaged in damages(whole):
        (compiler / "ab" / "one.so").write_bytes(damaged)
        (compiler / "ab" / "planted.so").write_bytes(b"another's")
        assert used(compiler.parent) == compiler
        assert {path.name for path in compiler.glob("ab/*")} == {"two.so"}
        (compiler / "ab" / "one.so").write_bytes(whole)  # compiled again
        left()


def test_a_damaged_list_vouches_for_nothing(compiler: Path) -> None:
    for seal in (compiler / "seals").iterdir():
        seal.write_bytes(seal.read_bytes()[:-1])
    used(compiler.parent)
    assert not list(compiler.glob("ab/*"))
    left()


def test_a_damaged_folder_that_another_process_uses_is_left_to_it(compiler: Path) -> None:
    used(compiler.parent)  # one that stays
    (compiler / "ab" / "three.so").write_bytes(b"being made")
    assert used(compiler.parent) == compiler
    (compiler / "ab" / "one.so").write_bytes(b"damaged")
    own = used(compiler.parent)
    assert own != compiler and own.is_dir()
    assert (compiler / "ab" / "three.so").exists()
    left()
    assert not own.exists()


def test_a_folder_of_the_users_choice_is_taken_as_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(folder / "own"))
    assert inductor_cache.compiler_folder() == folder / "own"


def test_compiling_leaves_the_process_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._dynamo
    import torch._functorch.config

    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    # Another test may have compiled outside of such a block, which changes the process for good.
    monkeypatch.setattr(compiling._Process, "changed", False)
    before = torch._dynamo.config.recompile_limit, torch._functorch.config.donated_buffer
    with compiling.compiler_settings_kept():
        with compiling.compiler_settings_kept():
            compiling.compile_kernel(abs)
        assert "TORCHINDUCTOR_CACHE_DIR" in os.environ
        assert torch._dynamo.config.recompile_limit >= compiling.RECOMPILE_LIMIT
    assert "TORCHINDUCTOR_CACHE_DIR" not in os.environ
    assert before == (torch._dynamo.config.recompile_limit, torch._functorch.config.donated_buffer)
