"""Settings of Sphinx for these pages: MyST Markdown, the furo theme, docstrings by autodoc."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSION = (ROOT / "invkit" / "_version.py").read_text(encoding="utf-8").split('"')[-2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = PROJECT["name"]
author = PROJECT["authors"][0]["name"]
project_copyright = author
version = release = VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "plugins/example-gaussian"]
nitpicky = False

myst_enable_extensions = ["deflist", "fieldlist"]
myst_heading_anchors = 3

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_title = f"invkit {VERSION}"
html_show_sphinx = False
html_copy_source = False
