"""How Sphinx makes the site: `tox -e docs` writes it to build/site.

The whole repository is the source, so that a link from a page to a report, to CONTRIBUTING.md or to a
derivation is a link from one page of the site to another, and one to something that is not there fails the
build. Nothing is fetched from elsewhere when the site is read: formulas are written as text, and no font or
script is remote.
"""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

from pygments.lexers.markup import TexLexer
from sphinx.highlighting import lexers

sys.path.insert(0, str(Path(__file__).parent / "_sphinx"))

project = "precision_lab"
version = release = version_of("precision-lab")
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "reference/**",
    "reports/**",
    "tests/README.md",
]
exclude_patterns = ["reports/out/**", "docs/_templates/**"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "command_line",
    "docstrings",
    "repository_links",
]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["deflist", "fieldlist"]
myst_heading_anchors = 4
# Reports begin where their generators say; every other fault of a page's structure is an error.
suppress_warnings = ["myst.header"]

# Equations of reports are LaTeX, which is shown as it stands: what sets it would be fetched from elsewhere.
lexers["math"] = TexLexer()

# Types in signatures are shown as they are written; no inventory of another project is fetched to link them.
smartquotes = False  # a quoted name is to be pasted back
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
default_role = "code"  # docstrings have one backtick around what is code
maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False

# What is copied from a block with prompts are its commands.
copybutton_prompt_text = "$ "
copybutton_line_continuation_character = "\\"

templates_path = ["_templates"]
html_theme = "furo"
html_title = f"precision_lab {release}"
html_static_path = ["_sphinx/static"]
html_css_files = ["site.css"]
html_additional_pages = {"index": "start_page.html"}
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
