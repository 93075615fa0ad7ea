"""The shape of the code and of what is built from it: no circles, however hidden; one list of floors; one version."""

import ast
import re
import tomllib
from collections import Counter
from importlib import metadata
from pathlib import Path

import pytest

import invkit

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "invkit"
MOST_MODULES = 15
LONGEST_MODULE = 400


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path):
    """Every module of the package that a file imports, inside functions and for type checkers alike."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def test_every_import_is_of_a_module_that_exists():
    """Tools that look into an installation elsewhere may find what is gone here."""
    missing = [
        (path.relative_to(ROOT).as_posix(), node.module)
        for folder in ("invkit", "tests", "benchmarks", "docs", "plugins")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").split(".")[0] == "invkit"
        and node.module not in MODULES
    ]
    assert missing == []


def circles(graph):
    """The modules that are left when those that import none of the others are taken away, again and again."""
    left = {name: set(found) - {name} for name, found in graph.items()}
    while free := [name for name, found in left.items() if not found & left.keys()]:
        for name in free:
            del left[name]
    return sorted(left)


def test_no_module_imports_itself_by_way_of_others():
    # The package's own page of public names points to all of them, which nothing below may import.
    graph = {name: list(imports(path)) for name, path in MODULES.items() if name != "invkit"}
    assert circles(graph) == []
    assert sum(map(len, graph.values())) > 1000


def test_a_circle_is_found():
    assert circles({"a": ["b"], "b": ["c"], "c": ["b"], "d": ["a"]}) == ["a", "b", "c", "d"]


def folders():
    return sorted({path.parent for path in MODULES.values()})


@pytest.mark.parametrize("folder", folders(), ids=name_of)
def test_a_folder_can_be_taken_in_at_a_glance(folder):
    names = [path.stem for path in folder.glob("*.py") if path.stem not in ("__init__", "__main__")]
    assert len(names) <= MOST_MODULES
    prefixes = Counter(name.split("_")[0] for name in names if not name.startswith("_"))
    assert {prefix: count for prefix, count in prefixes.items() if count > 2} == {}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is_and_is_not_long(name):
    text = MODULES[name].read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_MODULE
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring, "a module opens with one line that says what it is"


def floors():
    """The floors from the top, those side by side in one string, as import-linter is told them."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return next(c["layers"] for c in contracts if c["containers"] == ["invkit"])


def test_contributing_shows_the_floors():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = re.search(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]
    assert " ".join(block.split()) == " < ".join(reversed(floors()))


def test_the_docs_show_the_floors():
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    table = text.split("## Floors")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*`) \|", table, re.MULTILINE)
    shown = [" | ".join(re.findall(r"`(\w+)`", row)) for row in rows]
    assert shown == floors()


def projects():
    return [ROOT / "pyproject.toml", *sorted((ROOT / "plugins").glob("*/pyproject.toml"))]


@pytest.mark.parametrize("path", projects(), ids=lambda path: path.parent.name)
def test_core_and_plugins_have_one_version(path):
    settings = tomllib.loads(path.read_text(encoding="utf-8"))
    assert "version" not in settings["project"]
    source = path.parent / settings["tool"]["hatch"]["version"]["path"]
    assert source.resolve() == (PACKAGE / "_version.py").resolve()
    assert metadata.version(settings["project"]["name"]) == invkit.__version__


def test_the_citation_has_that_version():
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", text, re.MULTILINE)[1] == invkit.__version__


@pytest.mark.parametrize("path", projects(), ids=lambda path: path.parent.name)
def test_a_package_is_marked_as_typed(path):
    name = tomllib.loads(path.read_text(encoding="utf-8"))["project"]["name"]
    assert (path.parent / name.replace("-", "_") / "py.typed").is_file()


# What people call with keywords, and the commands, whose options are their parameters.
FACADES = {"analyze", "analyze_series", "evaluate", "train_denoiser", "train_vae", "train_cinn"}
MOST_PARAMETERS = 8


def parameters(function):
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return [name for name in names if name not in ("self", "cls")]


def test_nothing_below_the_facades_takes_many_parameters():
    found = {
        f"{name}.{node.name}": len(parameters(node))
        for name, path in MODULES.items()
        if not name.startswith("invkit.cli")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name not in FACADES
    }
    assert {name: count for name, count in found.items() if count > MOST_PARAMETERS} == {}


# Folders of tests about what is not in the package; support holds what several tests share.
BESIDE = {"benchmarks", "docs", "tools"}


def strays(paths):
    """The tests, named from the folder of tests, whose folder is none of the package, nor one beside it."""
    return [
        str(path)
        for path in sorted(paths)
        if not (path.parts[0] in BESIDE and (ROOT / path.parent).is_dir())
        and not ((PACKAGE / path.parent).is_dir() and "support" not in path.parts)
    ]


def test_tests_mirror_the_source():
    tests = [path.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(tests) > 150
    assert strays(tests) == []


def test_a_test_that_is_left_behind_is_found():
    there, gone = Path("flow/test_cinn.py"), Path("metrics/test_cinn.py")
    nested, shared = Path("tools/old/test_a.py"), Path("support/test_a.py")
    assert strays([there, gone, nested, shared]) == [str(gone), str(shared), str(nested)]
