"""The page of names that samplers are built from."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import invkit.samplers
from invkit.samplers import __all__ as names


def test_the_names_are_listed_once():
    assert len(set(names)) == len(names) > 50
    assert set(names) <= set(dir(invkit.samplers))


@pytest.mark.parametrize("name", names)
def test_a_public_name_is_what_its_home_calls_so(name):
    home = importlib.import_module(invkit.samplers._HOME[name])
    assert getattr(invkit.samplers, name) is getattr(home, name)


def test_the_guide_lists_every_name_once():
    page = (Path(__file__).parents[2] / "docs" / "plugins" / "samplers.md").read_text(encoding="utf-8")
    table = page.partition("## The public names")[2]
    listed = [
        name
        for row in re.findall(r"^\| [a-z ]+ \| (`.*`) \|$", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", row)
    ]
    assert sorted(listed) == sorted(names)


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'invkit\.samplers' has no attribute 'Families'"):
        _ = invkit.samplers.Families


def test_the_page_itself_imports_no_torch():
    code = "import sys, invkit.samplers; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
