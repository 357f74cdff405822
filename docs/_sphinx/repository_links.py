"""Links of the repository's Markdown that MyST does not know: to folders, and to anchors written as HTML.

`[the examples](examples)` names a folder: it leads to the folder's README where that is a page, and is plain
text where it is not. `[17](#report-17)` names an anchor `<a id="report-17">`, as generated pages have them.
What is neither stays for MyST, which reports it; with `-W` the build then fails.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform

_ID = re.compile(r"<[a-zA-Z][^<>]*\s(?:id|name)=[\"']([^\"']+)[\"']")


def _anchors(environment: BuildEnvironment) -> dict[str, set[str]]:
    """Anchors written as HTML, by page."""
    if not hasattr(environment, "written_anchors"):
        environment.written_anchors = {}  # type: ignore[attr-defined]
    found: dict[str, set[str]] = environment.written_anchors
    return found


def note(app: Sphinx, doctree: nodes.document) -> None:
    """Keeps a page's own anchors."""
    written = "\n".join(node.astext() for node in doctree.findall(nodes.raw))
    _anchors(app.env)[app.env.docname] = set(_ID.findall(written))


def forget(app: Sphinx, environment: BuildEnvironment, docname: str) -> None:
    """A page is read anew."""
    _anchors(environment).pop(docname, None)


def merge(
    app: Sphinx, environment: BuildEnvironment, docnames: Iterable[str], other: BuildEnvironment
) -> None:
    """What a parallel reader has found."""
    _anchors(environment).update({name: _anchors(other)[name] for name in docnames})


class RepositoryLinks(SphinxPostTransform):
    """Resolves such links before MyST looks at what is left."""

    default_priority = 8  # MyST's is 9

    def run(self, **kwargs: Any) -> None:
        for node in list(self.document.findall(pending_xref)):
            if node["reftype"] != "myst":
                continue
            page = node.get("refdoc", self.env.docname)
            if node["refdomain"] == "doc":
                self._to_anchor(node, page, node["reftarget"], node["reftargetid"])
            elif node["reftarget"] in _anchors(self.env).get(page, ()):
                self._to_anchor(node, page, page, node["reftarget"])
            else:
                self._to_folder(node, page)

    def _to_anchor(self, node: pending_xref, page: str, target: str, anchor: str | None) -> None:
        if anchor in _anchors(self.env).get(target, ()):
            self._link(node, page, target, f"#{anchor}")

    def _to_folder(self, node: pending_xref, page: str) -> None:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(page), node["reftarget"]))
        if target.startswith("..") or not Path(self.env.srcdir, target).is_dir():
            return
        readme = f"{target}/README"
        if readme in self.env.all_docs:
            self._link(node, page, readme, "")
        else:
            node.replace_self(node.children)

    def _link(self, node: pending_xref, page: str, target: str, anchor: str) -> None:
        where = "" if page == target and anchor else self.app.builder.get_relative_uri(page, target)
        node.replace_self(nodes.reference("", "", *node.children, internal=True, refuri=where + anchor))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", note)
    app.connect("env-purge-doc", forget)
    app.connect("env-merge-info", merge)
    app.add_post_transform(RepositoryLinks)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
