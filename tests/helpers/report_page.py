"""A report's page as its reader may have it: with all that is folded put in, and what may be chosen."""

from __future__ import annotations

import base64
import json
import re
import zlib
from html import unescape

FOLDED = re.compile(
    r'<details([^>]*?) data-part="(\d+)"><summary>(.*?)</summary><p class="muted">.*?</p></details>', re.S
)


def packed(page: str) -> list[str]:
    """The parts that the page's script puts in, by their numbers."""
    found = re.search(r'<script type="text/plain" id="packed">([^<]*)</script>', page)
    return [] if found is None else zlib.decompress(base64.b64decode(found[1])).decode().split("\0")


def unfolded(page: str) -> str:
    """The page after "Unfold everything", without what its script needs."""
    parts = packed(page)
    shown = re.sub(r"<script.*?</script>", "", page, flags=re.S)
    while FOLDED.search(shown):
        shown = FOLDED.sub(
            lambda found: (
                f"<details{found[1]} open><summary>{found[3]}</summary>{parts[int(found[2])]}</details>"
            ),
            shown,
        )
    return shown


def variants(page: str) -> dict[tuple[str, ...], str]:
    """What each choice on the unfolded page may show, by the values of its controls."""
    parts, found = packed(page), {}
    for numbers in re.findall(r'data-variants="([^"]*)"', unfolded(page)):
        for key, number in json.loads(unescape(numbers)).items():
            found[tuple(key.split("\n"))] = parts[number]
    return found
