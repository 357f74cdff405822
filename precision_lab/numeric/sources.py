"""What compiled code is made of, as a digest: known without compiling anything."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from precision_lab.system.cache_files import source_digest

# The rooms in which functions stand that others, compiled too, take into themselves.
COMPILED_ROOMS = ("formats", "numeric", "oracle", "scoring")


@lru_cache(maxsize=1)
def source_stamp() -> str:
    """Digest of everything that the lab's compiled code is made of."""
    package = Path(__file__).parents[1]
    return source_digest(*(package / room for room in COMPILED_ROOMS))


__all__ = ["source_stamp"]
