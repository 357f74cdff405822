"""What is measured of a package: `published/NAME.toml`, beside its adapters in `published/NAME.py`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from precision_lab.results import Finding

PUBLISHED = Path(__file__).parent / "published"
CODE = ("uses", "reproduction")  # whose line breaks count

T = TypeVar("T")


@dataclass(frozen=True)
class Kernel:
    """An activation or a gated unit.

    Attributes:
        target: its adapter's name; with a space the name of a registered implementation.
        function: what it computes, as the lab calls it.
        of: its name in the package.
        formats: those that it is asked for.
        outputs: those that it gives; none named, all of the function's.
    """

    target: str
    function: str
    of: str
    formats: tuple[str, ...] = ("bf16", "fp16")
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quantiser:
    """A kernel that gives codes and scales.

    Attributes:
        format: of the codes, as the lab calls it; "int8" for integers to 127.
        block: rows and columns that share a scale; 0 for all of them.
        scale: the rule that the package states for it, one of `quantisers.RULES`.
        dtypes: of the tensors that it takes.
        eps: what a smaller amax counts as.
        rows, columns: of the matrices that it is given, multiples of these.
        device: what its code is for.
        packed: codes of four bits lie two in a byte.
    """

    target: str
    of: str
    format: str
    block: tuple[int, int]
    scale: str
    dtypes: tuple[str, ...] = ("bf16", "fp32")
    eps: float = 0.0
    rows: int = 1
    columns: int = 256
    device: str = "sm_90"
    packed: bool = True


@dataclass(frozen=True)
class Note:
    """The cause of findings, of which one bug report is made.

    Attributes:
        kernel, codes, outputs, formats: whose findings it explains; none named, all. Of a quantiser `codes`
            are what was judged: scales, codes, ties, zeros, nonfinite or nan.
        cases: of a quantiser's blocks.
        regions: of the worst error.
        title: as a maintainer would have it. Notes of one package that share it make one report for upstream.
        cause: in the source's own terms, with file and line.
        suggestion: what to change, in words.
        by_design: why it is meant so; "" where it is a defect.
        uses, call: statements that import the kernel, and an expression of x (and of what else the function
            takes) that calls it: of these and the witness a reproduction is made.
        reproduction: a whole one, where calling the kernel at the witness does not show it. Its last line
            prints "computed … expected …".
        shows: what it prints, where that is not what was computed at the witness; a regular expression.
        severity: by its reproduction, where what was measured met it at harmless inputs only.
        not_claimed: what a maintainer might read into it and nobody has said.
    """

    title: str
    cause: str
    suggestion: str = ""
    by_design: str = ""
    kernel: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    cases: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    uses: str = ""
    call: str = ""
    reproduction: str = ""
    shows: str = ""
    severity: str = ""
    not_claimed: str = ""

    def explains(self, kernel: frozenset[str], finding: Finding) -> bool:
        wanted = (
            (self.kernel, kernel), (self.codes, {finding.code, finding.output}),
            (self.outputs, {finding.output}), (self.formats, {finding.fmt}),
            (self.cases, {finding.params_name}), (self.regions, {finding.region}),
        )  # fmt: skip
        return all(not names or values & set(names) for names, values in wanted)


@dataclass(frozen=True)
class Unmeasured:
    """What else of the kind there is in the package, and why it is not measured."""

    of: str
    reason: str


@dataclass(frozen=True)
class Package:
    """A pinned package.

    Attributes:
        name: of its files here.
        package: in the index.
        dependencies: it is installed with what it depends on; else with what `needs` names alone.
        needs: what else is installed, pinned.
        triton: the version that it needs, where that is not the lab's.
        unpacked: its source distribution is put on the path as it is, since to build it takes a GPU's tools.
        inside: a folder of that distribution which is put on the path instead.
        library: a file of its wheel, of which nothing else is kept or installed: machine code.
        imports: modules that its adapters import, which take long: once, and not for each kernel's process.
    """

    name: str
    package: str
    version: str
    dependencies: bool = False
    needs: tuple[str, ...] = ()
    triton: str = ""
    unpacked: bool = False
    inside: str = ""
    library: str = ""
    imports: tuple[str, ...] = ()
    kernels: tuple[Kernel, ...] = ()
    quantisers: tuple[Quantiser, ...] = ()
    notes: tuple[Note, ...] = ()
    unmeasured: tuple[Unmeasured, ...] = ()

    @property
    def adapters(self) -> str:
        """Of its kernels, from the root of the repository."""
        return f"tests/field/published/{self.name}_kernels.py"

    def target(self, name: str) -> str:
        """TARGET of a kernel."""
        return name if " [" in name else f"{self.adapters}:{name}"


def load(path: Path) -> Package:
    """
    Raises:
        ValueError: a key that is not known, or one that is missing.
    """
    data = tomllib.loads(path.read_text(encoding="utf-8"))
    parts = {"kernels": Kernel, "quantisers": Quantiser, "notes": Note, "unmeasured": Unmeasured}
    for key, kind in parts.items():
        data[key] = tuple(_made(kind, row, f"{path.name}: {key}") for row in data.get(key, ()))
    return _made(Package, {"name": path.stem, **data}, path.name)


def _made(kind: type[T], row: dict[str, Any], where: str) -> T:
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := row.keys() - known:
        raise ValueError(
            f"{where}: unknown {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}"
        )
    given = {name: value if name in CODE else _plain(value) for name, value in row.items()}
    if isinstance(given.get("kernel"), str):
        given["kernel"] = (given["kernel"],)
    try:
        return kind(**given)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def _plain(value: Any) -> Any:
    """A list as a tuple, and text without the list's line breaks."""
    if isinstance(value, list):
        return tuple(value)
    return " ".join(value.split()) if isinstance(value, str) else value


def packages(names: list[str] | None = None, folder: Path = PUBLISHED) -> list[Package]:
    """Those of the list, or the named ones of them.

    Raises:
        ValueError: as `load`, or none of that name.
    """
    found = {path.stem: load(path) for path in sorted(folder.glob("*.toml"))}
    by_name = {one.package: one for one in found.values()} | found
    if unknown := [name for name in names or () if name not in by_name]:
        raise ValueError(f"package {unknown[0]!r} is not in the list: {', '.join(found)}")
    return [by_name[name] for name in names] if names else list(found.values())
