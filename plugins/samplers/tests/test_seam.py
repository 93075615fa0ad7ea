"""The samplers are built from public names alone, and nothing in invkit knows them."""

import ast
import subprocess
import sys
from pathlib import Path

import invkit_samplers
import pytest

import invkit
import invkit.samplers

HERE = Path(invkit_samplers.__file__).parent
CORE = Path(invkit.__file__).parent
PUBLIC = {"invkit": set(invkit.__all__), "invkit.samplers": set(invkit.samplers.__all__)}


def imports(path):
    """Every module that a file imports from, inside functions too, and the names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module, alias.name) for alias in node.names)


def private(path):
    """What a file imports of invkit that is no public name."""
    return [
        (module, name)
        for module, name in imports(path)
        if module.split(".")[0] == "invkit"
        and (module not in PUBLIC if name is None else name not in PUBLIC.get(module, ()))
    ]


@pytest.mark.parametrize(
    "path", sorted(HERE.rglob("*.py")), ids=lambda path: path.relative_to(HERE).as_posix()
)
def test_a_module_imports_public_names_alone(path):
    assert private(path) == []


@pytest.mark.parametrize(
    "line",
    [
        "from invkit.flow.cinn import CINN",
        "import invkit.flow",
        "from invkit.samplers import family",
        "from invkit import flow",
    ],
)
def test_a_private_name_is_found(line, tmp_path):
    path = tmp_path / "module.py"
    path.write_text(line)
    assert len(private(path)) == 1


def test_every_public_name_of_samplers_is_used_or_is_part_of_the_contract():
    used = {
        name for path in HERE.rglob("*.py") for module, name in imports(path) if module == "invkit.samplers"
    }
    contract = {"Family", "ImageSampler", "LayerConfig", "SampleModel", "Scalable", "ScaledLayer", "Target"}
    assert PUBLIC["invkit.samplers"] - used == contract


def test_nothing_in_invkit_imports_the_samplers():
    found = [
        path
        for path in CORE.rglob("*.py")
        for module, _ in imports(path)
        if (module or "").split(".")[0] == "invkit_samplers"
    ]
    assert found == []


def test_asking_for_them_imports_no_torch():
    code = "import sys, invkit_samplers; invkit_samplers.invkit_samplers(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
