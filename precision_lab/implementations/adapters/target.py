"""Finds the kernel that a TARGET on the command line names."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from precision_lab.emulator.sass.fat_binary import holds_kernels
from precision_lab.exceptions import KernelError, UsageError, first_line, nearest, place_of
from precision_lab.functions import FUNCTIONS
from precision_lab.implementations.adapters.launch_description import KERNEL
from precision_lab.implementations.adapters.offers import (
    Offer,
    in_cuda_file,
    in_library,
    in_module,
    misspelt,
    unnamed,
)
from precision_lab.implementations.contract import CallContract
from precision_lab.implementations.guard import guarded
from precision_lab.implementations.inductor import Compiled
from precision_lab.system.extras import install_line
from precision_lab.system.near_files import no_such_file

if TYPE_CHECKING:
    from precision_lab.formats import FloatFormat
    from precision_lab.functions import Activation
    from precision_lab.implementations import Implementation

T = TypeVar("T")

LIBRARIES = (".so", ".dylib", ".dll")
CUDA_SUFFIXES = (".cu", ".ptx", ".cubin", ".fatbin", ".so")


def is_registered_name(target: str) -> bool:
    """Whether a TARGET is the name of a registered implementation, which needs no isolation."""
    return ":" not in target and not is_place(target)


def is_place(target: str) -> bool:
    """Whether a TARGET without a name behind a colon is a file or a module: it names no kernel."""
    from precision_lab.implementations import IMPLEMENTATIONS

    if ":" in target or target.partition(" [")[0] in {i.name for i in IMPLEMENTATIONS.values()}:
        return False  # a folder may be called as an implementation is
    if target.endswith((".py", *LIBRARIES, *CUDA_SUFFIXES)) or "/" in target or os.path.lexists(target):
        return True
    if not all(part.isidentifier() for part in target.split(".")):
        return False
    return "." in target or Path(f"{target}.py").is_file()


def unnamed_target(place: str, function: str = "") -> UsageError:
    """What to say of a TARGET that is a file or a module alone, of a function where one was given.

    Raises:
        ValueError: as `_offers`.
    """
    return unnamed(place, _offers(place), function, tuple(FUNCTIONS))


def _offers(place: str) -> list[Offer]:
    """What a file or a module has that a TARGET can name.

    Raises:
        ValueError: it is a folder, is not there, or does not import.
    """
    path = Path(place)
    if path.is_dir():
        inside = sorted(file.name for file in path.glob("*.py"))
        has = f"; it has {', '.join(inside[:8])}" if inside else ""
        raise UsageError(
            f"TARGET {place!r} is a folder: name a file in it and its kernel, such as "
            f"{path / (inside[0] if inside else 'kernels.py')}:NAME{has}"
        )
    if place.endswith((*LIBRARIES, *CUDA_SUFFIXES)):
        if not path.is_file():
            raise _no_file(path)
        if path.suffix in LIBRARIES and not holds_kernels(path):
            return in_library(path)
        return in_cuda_file(path)
    return in_module(_module(place))


def _no_file(path: Path) -> UsageError:
    return UsageError(f"TARGET file {str(path)!r} {no_such_file(path)}")


def cuda_parts(target: str) -> tuple[str, str, str]:
    """File, kernel and launch of a TARGET such as `my.cu:silu<float>`, `my.ptx:silu(x, y, n) block=128` or
    `my.cu:silu block=128`; empty ones of any other, such as a function of a library without GPU code.
    """
    for suffix in CUDA_SUFFIXES:
        before, mark, rest = target.partition(f"{suffix}:")
        if mark and (suffix != ".so" or holds_kernels(Path(before + suffix))):
            found = KERNEL.match(rest)
            symbol, launch = (found.group(), rest[found.end() :].strip()) if found else (rest, "")
            return before + suffix, symbol, symbol + launch if launch.startswith("(") else launch
    return "", "", ""


def kernel_of(target: str) -> str:
    """What a TARGET calls its kernel, without its file or module, or how it is launched."""
    return cuda_parts(target)[1] or target.rpartition(":")[2]


def stamp_of(target: str) -> str:
    """What tells the contents of a TARGET's file from others; "" where there is no file to be read.

    What the file itself imports or includes is not part of it.
    """
    place = cuda_parts(target)[0] or target.rpartition(":")[0]
    module = sys.modules.get(place)
    path = Path(getattr(module, "__file__", None) or place)
    if path.suffix == ".so" and holds_kernels(path):  # half a gigabyte is not read for it
        about = path.stat()
        return f"size:{about.st_size} modified:{about.st_mtime_ns}"
    try:
        return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    except OSError:
        return ""


def with_launch(target: str, launch: str | None) -> str:
    """The TARGET of the same kernel that says how it is launched, too.

    Raises:
        ValueError: it is no kernel of a .cu or .ptx file or of machine code, or says so already; or nothing
            is said.
    """
    if launch is None:
        return target
    if not launch.strip():
        raise UsageError(
            f"--launch {launch!r}: expected how a kernel is launched, such as 'x, y, n block=256'"
        )
    file, symbol, already = cuda_parts(target)
    if not file:
        raise UsageError(
            f"--launch {launch!r}: TARGET {target!r} is no kernel of a .cu or .ptx file, nor machine code"
        )
    if already:
        raise UsageError(f"--launch {launch!r}: TARGET {target!r} says how it is launched already")
    return f"{file}:{symbol} {launch}"


def find(
    target: str,
    function: Activation,
    formats: Sequence[FloatFormat],
    *,
    framework: str | None = None,
    compiled: Compiled = False,
) -> Implementation:
    """The implementation of `function` that a TARGET names.

    Args:
        target: `package.module:attr`, `path/to/file.py:attr`, `path/to/lib.so:symbol`,
            `FILE:kernel` with FILE ending in .cu or .ptx, or machine code: .cubin, .fatbin, or a .so that
            holds some (and how it is launched, where the file does not say that, as in
            `launch_description`), or a registered name such as "stable" or "naive [upcast]".
        framework: "torch", "numpy", "jax" or "mlx" where it is not recognised.
        compiled: run a torch kernel through torch.compile; a mapping is of Inductor's settings.

    Raises:
        ValueError: it cannot be imported or called, has no such attribute, or wants arguments
            that the function does not have.
    """
    from precision_lab.implementations import (
        as_implementation,
        from_cuda,
        from_library,
        implementations_for,
        resolve,
    )

    if is_place(target):
        raise unnamed_target(target, function.name)
    file, symbol, launch = cuda_parts(target)
    if file:
        if framework or compiled is not False:
            raise UsageError(
                f"TARGET {target!r} is a CUDA kernel: neither a framework nor torch.compile applies"
            )
        return from_cuda(Path(file), symbol, function, target=target, launch=launch)
    place, _, attribute = target.rpartition(":")
    if is_registered_name(target):
        if framework or compiled is not False:
            raise UsageError(f"TARGET {target!r} is registered: its execution is part of its name")
        try:
            return resolve(target, function, formats[0])
        except UsageError as error:
            if nearest(target.partition(" [")[0], [i.name for i in implementations_for(function)]):
                raise
            words = f"{error}; a kernel of your own is named with its file or module, as my_kernels.py:NAME"
            raise UsageError(words) from None
    if Path(place).suffix in LIBRARIES:
        if framework or compiled is not False:
            raise UsageError(
                f"TARGET {target!r} is a C function: neither a framework nor torch.compile applies"
            )
        return from_library(Path(place), attribute, function, target=target)
    kernel = load_target(target)

    def sibling(name: str) -> Any:
        return getattr(_module(place), name, None)

    try:
        return as_implementation(
            kernel, function, tuple(formats), framework=framework, siblings=sibling, target=target,
            compiled=compiled,
        )  # fmt: skip
    except TypeError as error:
        raise UsageError(
            f"TARGET {target!r} is of type {type(kernel).__name__} and cannot be called"
        ) from error


@dataclass(frozen=True)
class Called:
    """A TARGET and how it is called: what another process needs to load a kernel."""

    target: str
    framework: str | None = None
    compiled: Compiled = False
    contract: CallContract = field(default_factory=CallContract)

    def load(self, function: Activation, formats: Sequence[FloatFormat]) -> Implementation:
        """
        Raises:
            ValueError: as `find`.
        """
        found = find(self.target, function, formats, framework=self.framework, compiled=self.compiled)
        return replace(found, contract=self.contract)


def target_of(kernel: Any) -> str:
    """The TARGET that names an object given to the lab directly; "" where no command can reach it."""
    name = getattr(kernel, "__qualname__", "")
    home = getattr(kernel, "__module__", None)
    module = sys.modules.get(home or "")
    if not name or "<" in name or module is None:
        return ""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not kernel:
        return ""
    file = getattr(module, "__file__", None)
    if module.__name__ == "__main__" or (file and not getattr(module, "__package__", "")):
        if not file or not Path(file).is_file():
            return ""
        path = Path(file).resolve()
        here = Path.cwd()
        return f"{path.relative_to(here) if path.is_relative_to(here) else path}:{name}"
    return f"{module.__name__}:{name}"


def handed_over(kernel: Any, device: str) -> str:
    """The name by which another process finds a kernel given directly: a TARGET or a registered one.

    Raises:
        ValueError: none can reach it.
    """
    from precision_lab.implementations import IMPLEMENTATIONS, Implementation

    if isinstance(kernel, str):
        return kernel
    if isinstance(kernel, Implementation):
        same = (i.kernel is kernel.kernel and i.label == kernel.label for i in IMPLEMENTATIONS.values())
        found = kernel.target or (kernel.label if any(same) else "")
    else:
        found = target_of(kernel) or _named_by_module(kernel)
    if not found:
        raise UsageError(
            f"device={device!r}: kernels run there in a process of their own, which cannot find {kernel!r}; "
            "give it a name of its own in a module or a file, or hand over a TARGET such as 'my.py:xielu'"
        )
    return found


def _named_by_module(kernel: Any) -> str:
    """The TARGET of an object without a name of its own, such as a module's instance or a compiled kernel."""
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        for name, value in list(vars(module).items()) if file else ():
            if value is kernel and not name.startswith("_"):
                if module.__name__ == "__main__" or not getattr(module, "__package__", ""):
                    return f"{Path(str(file)).resolve()}:{name}"
                return f"{module.__name__}:{name}"
    return ""


def load_target(target: str) -> Any:
    """The Python object at `package.module:attr` or `path/to/file.py:attr`; a bare name stays a name.

    Raises:
        ValueError: the file or module cannot be imported or has no such attribute.
    """
    place, colon, attribute = target.rpartition(":")
    if not colon:
        return target
    if Path(place).is_dir():
        _offers(place)  # which says that it is none
    module = _module(place)
    found: Any = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            hint = misspelt(place, attribute, in_module(module))
            raise UsageError(f"TARGET {target!r}: {place} has no attribute {attribute!r}; {hint}")
        found = getattr(found, name)
    return found


def _module(place: str) -> Any:
    """A file or a module, imported; a file may be named without its ending, or with its folders' dots."""
    if place.endswith(".py"):
        return _from_file(Path(place))
    if not all(part.isidentifier() for part in place.split(".")):
        with_ending = Path(f"{place}.py")
        if with_ending.is_file():
            raise UsageError(f"TARGET file {place!r} does not exist; did you mean {with_ending}?")
        raise UsageError(
            f"TARGET {place!r} is neither a Python file, whose name ends in .py, nor a module, whose name is "
            "like package.module"
        )
    return _from_module(place)


def _from_module(name: str) -> Any:
    return _imported(f"module {name!r}", lambda: importlib.import_module(name), name)


def _imported(what: str, load: Callable[[], T], own: str = "") -> T:
    """What importing a stranger's module gives; it may raise anything, and its author is told what.

    Args:
        own: the module's name, whose absence is no missing dependency.
    """
    try:
        return guarded(load)
    except KernelError as error:
        cause = error.__cause__ or error
        words = f"TARGET {what} does not import: {type(cause).__name__}: {first_line(cause)}{place_of(cause)}"
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            words += f"; {_missing(cause.name, own)}"
        raise UsageError(words) from cause


def _missing(module: str, own: str) -> str:
    """What to do about a module that is not there."""
    if module == own or own.startswith(f"{module}."):
        file = Path(*own.split(".")).with_suffix(".py")
        looked = f"it is looked for in {Path.cwd()} and among what {sys.executable} has installed"
        return f"did you mean {file}?" if file.is_file() else f"{looked}; a file is named with its .py"
    root = module.partition(".")[0]
    if root in ("triton", "jax", "transformers", "hypothesis", "ml_dtypes", "mlx"):
        return install_line({"ml_dtypes": "numpy", "triton": "emulated"}.get(root, root))
    return f"install it for the Python that runs the lab, {sys.executable}"


def _from_file(path: Path) -> Any:
    if not path.is_file():
        raise _no_file(path)
    # A name of its own, so that it neither hides nor is hidden by an installed module.
    name = f"_precision_lab_target_{abs(hash(path.resolve())):x}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"TARGET file {str(path)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # What stands beside it can be imported, as from a script; last, so that it hides nothing.
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        _imported(f"file {str(path)!r}", partial(spec.loader.exec_module, module))
    except UsageError:
        del sys.modules[name]
        raise
    return module
