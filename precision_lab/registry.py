"""A mapping from names to the lab's own objects: formats, functions, implementations, recipes, remedies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import TypeVar, overload

from precision_lab.exceptions import DuplicateNameError, UsageError, nearest, unknown_name

T = TypeVar("T")
D = TypeVar("D")
_RAISE = object()  # no default: `get` raises


class Registry(Mapping[str, T]):
    """Objects of one type by name, in the order in which they were registered.

    Two entries of one name are a `DuplicateNameError`: a dict would keep the later one and say nothing.

    Args:
        kind: what an entry is, in messages: "format".
        of: the type of all entries.
        entries: the objects.
        key: the name of an entry, its attribute `name` by default.
        spellings: what entries are called elsewhere, for messages: the names of those that are meant.
    """

    def __init__(
        self,
        kind: str,
        of: type[T],
        entries: Iterable[T],
        key: Callable[[T], str] = attrgetter("name"),
        spellings: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.kind, self.of, self.spellings = kind, of, spellings or {}
        self._entries: dict[str, T] = {}
        for entry in entries:
            name = key(entry)
            if name in self._entries:
                raise DuplicateNameError(f"two entries are called {kind} {name!r}: names must differ")
            self._entries[name] = entry

    def __getitem__(self, name: str) -> T:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}, {list(self._entries)})"

    @overload
    def get(self, key: str | T, /) -> T: ...
    @overload
    def get(self, key: str | T, /, default: T | D) -> T | D: ...
    def get(self, key: str | T, /, default: object = _RAISE) -> object:
        """The entry of that name; an object of the type, registered or not, stands for itself.

        Unlike a dict's, it raises where there is neither the entry nor a default.

        Raises:
            ValueError: no entry of that name, naming the nearest ones; or neither a name nor an object
                of the type.
        """
        if isinstance(key, self.of):
            return key
        if isinstance(key, str):
            if key in self._entries:
                return self._entries[key]
            if default is _RAISE:
                raise unknown_name(self.kind, key, self._entries, self.spellings)
        if default is _RAISE:
            near = nearest(key, self._entries, self.spellings)
            hint = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
            raise UsageError(
                f"{self.kind}={key!r} is a {type(key).__name__}: expected a {self.of.__name__} or the name "
                f"of one{hint}"
            )
        return default
