import ast
import doctest
import importlib
import importlib.util
import json
import subprocess
import sys
import tomllib

import pytest
from docs_pages import ROOT, page, pages

SOURCES = sorted((ROOT / "invkit").rglob("*.py"))
EXAMPLES = [path for path in SOURCES if ">>> " in path.read_text(encoding="utf-8")]
LONG = ROOT / "invkit" / "analysis" / "analyze.py"


def prompts(text):
    return [block for block in text if ">>> " in block]


def run(examples, name):
    test = doctest.DocTestParser().get_doctest(examples, {}, name, name, 0)
    told = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=told.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(told)


@pytest.mark.parametrize(
    "found", [page for page in pages() if prompts(page.blocks("python"))], ids=lambda found: found.name
)
def test_examples_of_a_page_run(found, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("\n".join(prompts(found.blocks("python"))), found.name)


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.slow if path == LONG else ()) for path in EXAMPLES],
    ids=[path.stem for path in EXAMPLES],
)
def test_examples_of_a_docstring_run(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    tests = doctest.DocTestFinder().find(importlib.import_module(name), name)
    runner = doctest.DocTestRunner()
    for test in tests:
        runner.run(test)
    assert runner.tries > 0
    assert runner.failures == 0


@pytest.mark.parametrize("found", pages(), ids=lambda found: found.name)
def test_other_snippets_are_well_formed(found):
    for block in found.blocks("python"):
        if ">>> " not in block:
            ast.parse(block)
    for block in found.blocks("json"):
        json.loads(block)
    for block in found.blocks("toml"):
        tomllib.loads(block)


@pytest.mark.slow
def test_the_first_example_of_readme_and_api_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = readme.partition("```python\n")[2].partition("```")[0]
    assert 'layer="3")' in block
    variables = {}
    exec(compile(block.replace('layer="3")', 'layer="3", samples=4)'), "README.md", "exec"), variables)
    assert (tmp_path / "report.html").is_file()
    assert (variables["y"] == variables["f"](variables["result"].x)).all()
    block = next(block for block in page("api.md").blocks("python") if "analyze(" in block)
    exec(compile(block.replace("samples=250", "samples=4"), "api.md", "exec"), {})
    assert (tmp_path / "run" / "manifest.json").is_file()


def test_importing_invkit_imports_no_torch():
    code = "import invkit, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_worked_example_of_a_new_figure_prints_what_the_page_says(capsys):
    found = page("design.md")
    (code,) = (block for block in found.blocks("python") if "def figures" in block)
    exec(compile(code, "design.md", "exec"), {"__name__": "example"})
    assert capsys.readouterr().out == found.blocks("text")[-1]
