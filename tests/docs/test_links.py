import re
from pathlib import Path

import pytest
from docs_pages import DOCS, ROOT, pages, published

TOCTREE = re.compile(r"^```\{toctree\}\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")


def entries():
    """Return every page that stands in a toctree."""
    found = []
    for page in published():
        for tree in TOCTREE.findall(page.text):
            names = [line.strip() for line in tree.splitlines() if line.strip() and not line.startswith(":")]
            found += [(page.path.parent / f"{name}.md").resolve() for name in names]
    return found


def slug(heading):
    """Return the anchor that MyST and GitHub give a heading."""
    plain = re.sub(r"[`*]", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def anchors(path):
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#{1,3} (.+)$", text, re.MULTILINE)}


def test_every_page_is_in_one_toctree_and_every_entry_is_a_page():
    listed = entries()
    assert len(listed) == len(set(listed))
    assert {*listed, DOCS / "index.md"} == {page.path for page in published()}


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_internal_links_lead_somewhere(page):
    for target in LINK.findall(page.prose):
        if re.match(r"https?:|mailto:", target):
            assert target.startswith("https:"), target
            continue
        name, _, anchor = target.partition("#")
        path = (page.path.parent / name).resolve() if name else page.path
        assert path.is_relative_to(ROOT), target
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), target
        if DOCS in page.path.parents:
            # Sphinx knows these pages alone
            assert path in {other.path for other in published()}, target


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    for name in re.findall(r"`((?:invkit|docs|tests|plugins)/[\w./-]+)`", page.prose):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_included_files_exist(page):
    for name in re.findall(r"^```\{(?:include|literalinclude)\} (\S+)", page.text, re.MULTILINE):
        assert Path(page.path.parent, name).is_file(), name
