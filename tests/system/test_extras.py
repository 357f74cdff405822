"""The line that installs an extra names what an index has, and the clone's pins where there is a clone."""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from pathlib import Path

import pytest

from precision_lab.system import extras
from precision_lab.system.extras import clone_of, install_line
from precision_lab.system.near_files import no_such_file

METADATA = """Metadata-Version: 2.4
Name: precision-lab
Version: 0.1.0
Requires-Dist: numpy>=2.0
Requires-Dist: triton>=3.4; sys_platform != 'nowhere' and extra == 'emulated'
Requires-Dist: cuda-bindings>=12.8; extra == 'emulated'
Requires-Dist: elsewhere>=1; sys_platform == 'nowhere' and extra == 'emulated'
Requires-Dist: transformer-engine[pytorch]>=2.4; extra == 'te'
"""


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, url: dict[str, object] | None) -> None:
    about = folder / "precision_lab-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(METADATA, encoding="utf-8")
    if url is not None:
        (about / "direct_url.json").write_text(json.dumps(url), encoding="utf-8")
    found = metadata.PathDistribution(about)
    monkeypatch.setattr(extras.metadata, "distribution", lambda name: found)


def clone(folder: Path) -> Path:
    folder.mkdir()
    (folder / "pyproject.toml").touch()
    (folder / "constraints.txt").write_text(
        "# pins\ncuda_bindings==13.5.0\ntriton==3.9.0\n", encoding="utf-8"
    )
    return folder


def test_of_a_wheel_the_extras_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path, monkeypatch, {"url": "file:///lab.whl", "archive_info": {}})
    assert install_line("emulated") == "`pip install 'triton>=3.4' 'cuda-bindings>=12.8'`"
    assert install_line("te") == "`pip install 'transformer-engine[pytorch]>=2.4'`"


@pytest.mark.parametrize("about", [{"editable": True}, {}])
def test_of_a_clone_its_pins_go_along_where_they_name_all(
    about: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = clone(tmp_path / "a clone")
    installed(tmp_path, monkeypatch, {"url": place.as_uri(), "dir_info": about})
    words = shlex.split(install_line("emulated").strip("`"))
    pins = str(place / "constraints.txt")
    assert words == ["pip", "install", "-c", pins, "triton>=3.4", "cuda-bindings>=12.8"]
    assert install_line("te") == "`pip install 'transformer-engine[pytorch]>=2.4'`"  # no pin of it


def test_an_extra_younger_than_what_is_installed_is_had_from_the_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = clone(tmp_path / "clone")
    installed(tmp_path, monkeypatch, {"url": place.as_uri(), "dir_info": {}})
    assert install_line("new") == f"`pip install '{place}[new]'`"


def test_without_an_installed_lab_the_folder_it_runs_from_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(extras.metadata, "distribution", none)
    assert install_line("jax") == f"`pip install '{Path(extras.__file__).parents[2]}[jax]'`"


@pytest.mark.parametrize("url", [None, {"url": "https://x.org/a.git", "vcs_info": {}}, {"dir_info": {}}])
def test_what_is_no_folder_is_no_clone(
    url: dict[str, object] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, monkeypatch, url)
    assert clone_of(extras.metadata.distribution("precision-lab")) is None


def test_a_missing_file_is_answered_with_those_it_may_have_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("kernels.py", "kernels.txt", "other.py"):
        Path(name).touch()
    assert no_such_file(Path("kernel.py")) == "does not exist; did you mean kernels.py?"
    assert no_such_file(Path("zebra.py")) == f"does not exist in {tmp_path}"
    assert no_such_file(Path("no/kernels.py")) == "does not exist: there is no folder 'no'"
    assert no_such_file(tmp_path / "zebra.py") == "does not exist"
