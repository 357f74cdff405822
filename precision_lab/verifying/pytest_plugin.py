"""pytest plugin, found by its entry point: `assert_accurate`, a marker and `--precision-report`.

pytest loads this in every session of an environment that has precision_lab, so that it imports
nothing but pytest and the standard library until somebody asks for a measurement.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_MARKER = "precision"
_ARGUMENTS = (
    "function", "formats", "outputs", "max_ulp", "bound", "params", "inputs", "properties", "against", "laws",
    "framework", "device", "multiple_of", "shapes", "finite", "budget",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("precision_lab")
    group.addoption(
        "--precision-report", metavar="DIR", default=None,
        help="write what assert_accurate and the precision marker measured to DIR",
    )  # fmt: skip
    group.addoption(
        "--precision-device", metavar="NAME", default=None,
        help="make torch's cuda:0 of this session an emulated GPU, such as sm_90",
    )  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """A session is a device's before any `conftest.py` asks torch whether there is a GPU."""
    if (name := early_config.known_args_namespace.precision_device) is not None:
        _become(name)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(function, formats=['bf16'], max_ulp=1, ...): the test returns a kernel, which must be "
        "accurate; the other arguments are those of precision_lab.verify",
    )
    if (name := config.getoption("--precision-device")) is not None:
        _become(name)  # nothing new, unless a `conftest.py` has loaded this plugin
    directory = config.getoption("--precision-report")
    if directory is not None:
        config.pluginmanager.register(_Report(Path(directory), config), "precision_lab_report")


def _become(name: str) -> None:
    """This process is an emulated device's, and its children too."""
    from precision_lab.devices import get_device
    from precision_lab.exceptions import MissingPackageError, PrecisionLabError, UsageError

    try:
        device = get_device(name)
        if not device.own_process:
            raise pytest.UsageError(f"--precision-device {name}: no emulated GPU, such as sm_90")
        device.check()
        for variable, value in device.variables().items():
            os.environ.pop(variable, None)
            if value is not None:
                os.environ[variable] = value
        device.require()
    except (MissingPackageError, PrecisionLabError, UsageError) as error:
        raise pytest.UsageError(f"--precision-device {name}: {error}") from error


@pytest.fixture
def assert_accurate() -> Callable[..., Any]:
    """`precision_lab.assert_accurate`."""
    from precision_lab.verifying.verify import assert_accurate

    return assert_accurate


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """A marked test is called for its kernel; the kernel is then verified."""
    __tracebackhide__ = True
    marker = pyfuncitem.get_closest_marker(_MARKER)
    if marker is None:
        return None
    arguments = _checked(marker)
    names = pyfuncitem._fixtureinfo.argnames
    kernel = pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})
    if kernel is None:
        pytest.fail(
            f"a test marked {_MARKER} returns the kernel to be verified, and this one returned None",
            pytrace=False,
        )
    from precision_lab.exceptions import UsageError
    from precision_lab.verifying.summary import explanation
    from precision_lab.verifying.verify import verify

    function = arguments.pop("function")
    formats = arguments.pop("formats", ("bf16",))
    fmts = (formats,) if isinstance(formats, str) else tuple(formats)
    try:
        verdict = verify(kernel, function, fmts=fmts, **arguments)
    except UsageError as error:  # where in the lab it was noticed is nothing to the reader
        pytest.fail(f"@pytest.mark.{_MARKER}: {error}", pytrace=False)
    if verdict.left_out:
        print(f"precision_lab: {function}: left out: {'; '.join(verdict.left_out)}")
    if not verdict.passed:
        pytest.fail(explanation(verdict), pytrace=False)
    return True


def _checked(marker: pytest.Mark) -> dict[str, Any]:
    """The marker's arguments; a wrong one is an error of the test, named as such."""
    arguments = dict(marker.kwargs)
    if len(marker.args) == 1 and "function" not in arguments:
        arguments["function"] = marker.args[0]
    elif marker.args:
        raise pytest.UsageError(
            f"@pytest.mark.{_MARKER} takes the function's name and keywords: {marker.args!r}"
        )
    unknown = sorted(set(arguments) - set(_ARGUMENTS))
    if unknown:
        raise pytest.UsageError(
            f"@pytest.mark.{_MARKER} has no argument {unknown[0]!r}; it has {', '.join(_ARGUMENTS)}"
        )
    if "function" not in arguments:
        raise pytest.UsageError(f"@pytest.mark.{_MARKER} needs function=, such as 'xielu'")
    return arguments


class _Report:
    """Collects every verdict of a session; with pytest-xdist, those of its workers too."""

    def __init__(self, directory: Path, config: pytest.Config) -> None:
        self._directory = directory
        self._entries: list[dict[str, Any]] = []
        self._worker: dict[str, Any] | None = getattr(config, "workeroutput", None)
        if self._worker is None:
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise pytest.UsageError(
                    f"--precision-report {str(directory)!r} cannot be made: {error.strerror}"
                ) from error

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        from precision_lab.verifying.collect import LISTENERS
        from precision_lab.verifying.summary import verdict_json
        from precision_lab.verifying.verdict import Verdict

        def listen(found: Verdict) -> None:
            self._entries.append({"test": item.nodeid, **verdict_json(found)})

        LISTENERS.append(listen)
        try:
            return (yield)
        finally:
            LISTENERS.remove(listen)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker of pytest-xdist is done."""
        self._entries += json.loads(getattr(node, "workeroutput", {}).get(_MARKER, "[]"))

    def pytest_sessionfinish(self) -> None:
        if self._worker is not None:
            self._worker[_MARKER] = json.dumps(self._entries)
            return
        from precision_lab.results import strict_json

        self._entries.sort(key=lambda entry: str(entry["test"]))
        (self._directory / "precision.json").write_text(strict_json(self._entries) + "\n", encoding="utf-8")
        (self._directory / "precision.md").write_text(_markdown(self._entries), encoding="utf-8")

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.write_line(f"precision report: {self._directory / 'precision.md'}")


def _markdown(entries: list[dict[str, Any]]) -> str:
    """A table of all measured outputs, and below it what failed."""
    lines = [
        "# Precision of the kernels under test", "",
        "| test | function | output | format | inputs | max ulp | wrong sign | inf/NaN | verdict |",
        "|---|---|---|---|--:|--:|--:|--:|---|",
    ]  # fmt: skip
    for entry in entries:
        faulty = {(f["fmt"], f["output"], f["params_name"]) for f in entry["faults"]}
        for m in entry["measurements"]:
            failed = (m["fmt"], m["output"], m["params_name"]) in faulty
            figures = (
                [m["failure"]["kind"], "", "", ""]
                if m["failure"]
                else [
                    f"{m['n_inputs']}",
                    f"{float(m['max_ulp']):.4g}",
                    m["wrong_sign"],
                    m["nonfinite_mismatch"],
                ]
            )
            cells = [
                entry["test"],
                m["function"],
                m["output"],
                m["fmt"],
                *figures,
                "failed" if failed else "undecided" if m["undecided"] else "passed",
            ]
            lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |")
    missing = [
        (entry["test"], words)
        for entry in entries
        for words in (
            *(f"left out: {what}" for what in entry["left_out"]),
            *(f"{g['what']} [{g['fmt']}, {g['params_name']}]: {g['reason']}" for g in entry["not_examined"]),
            *(f"accepted: {f['kind']}: {f['message']}" for f in entry["known"]),
        )
    ]
    if missing:
        lines += ["", "## Not examined, left out or accepted", ""]
        lines += [f"- `{test}`: {words}" for test, words in missing]
    failures = [(entry["test"], failure) for entry in entries for failure in entry["failures"]]
    failures += [
        (entry["test"], f"inconclusive: {reason}") for entry in entries for reason in entry["reasons"]
    ]
    if failures:
        lines += ["", "## Faults", ""]
        lines += [f"- `{test}`: {failure}" for test, failure in failures]
    steps = dict.fromkeys(
        f"- `{entry['test']}`: {finding['severity']}, {finding['code']}: {finding['next_step']}"
        for entry in entries
        for finding in entry["findings"]
    )
    if steps:
        lines += ["", "## Next steps", "", *steps]
    return "\n".join(lines) + "\n"
