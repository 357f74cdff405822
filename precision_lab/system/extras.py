"""The `pip install` line of an extra that works today: the lab is on no index."""

from __future__ import annotations

import json
import shlex
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

DISTRIBUTION = "precision-lab"
_HERE = Path(__file__).parents[2]  # the folder of the package: a clone, or site-packages


def install_line(extra: str) -> str:
    """The command that installs what an extra needs, in backticks.

    It names the packages themselves, so that it is the same for a clone and a wheel; the clone's pins go
    along where they name all of them.
    """
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:  # run out of a clone that was never installed
        return f"`pip install {shlex.quote(f'{_HERE}[{extra}]')}`"
    wanted = _requirements(distribution, extra)
    if not wanted:  # installed before the extra was there
        return f"`pip install {shlex.quote(f'{clone_of(distribution) or _HERE}[{extra}]')}`"
    clone = clone_of(distribution)
    pins = None if clone is None else clone / "constraints.txt"
    pinned = pins is not None and pins.is_file() and set(wanted) <= _pinned(pins)
    words = ["pip", "install", *(["-c", str(pins)] if pinned else []), *wanted.values()]
    return f"`{shlex.join(words)}`"


def clone_of(distribution: metadata.Distribution) -> Path | None:
    """The folder that a distribution was installed from, as its direct_url.json has it; None of a wheel."""
    try:
        about = json.loads(distribution.read_text("direct_url.json") or "{}")
        place = urlsplit(about["url"]) if "dir_info" in about else None
    except (ValueError, KeyError, TypeError):
        return None
    if place is None or place.scheme != "file":
        return None
    folder = Path(url2pathname(place.path))
    return folder if (folder / "pyproject.toml").is_file() else None


def _requirements(distribution: metadata.Distribution, extra: str) -> dict[str, str]:
    """What an extra adds on this platform: the requirement by the package's normal name."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, str] = {}
    for text in distribution.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": ""}) or not marker.evaluate({"extra": extra}):
            continue
        requirement.marker = None
        found[canonicalize_name(requirement.name)] = str(requirement)
    return found


def _pinned(constraints: Path) -> set[str]:
    """The packages that a file of pins names."""
    from packaging.utils import canonicalize_name

    lines = constraints.read_text(encoding="utf-8").splitlines()
    return {canonicalize_name(line.partition("==")[0].strip()) for line in lines if "==" in line}
