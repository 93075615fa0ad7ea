"""tools/release_check.py finds what is missing from a wheel or an sdist, what has no place there, and what fails."""

import importlib
import sys
from pathlib import Path

import pytest

import invkit

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def check(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("release_check")


@pytest.fixture
def package(check):
    """A plugin of this checkout, its files in git, and the names of a wheel and an sdist that are right."""
    project = check.PLUGINS[0]
    name, kept = check.package_of(project), check.tracked(project)
    info = f"{name}-1.0.dist-info"
    wheel = {*kept, f"{info}/METADATA", f"{info}/licenses/LICENSE", f"{info}/RECORD"}
    sdist = {f"{name}-1.0/{each}" for each in (*kept, "pyproject.toml", "README.md", "LICENSE", "PKG-INFO")}
    return name, kept, wheel, sdist


def test_what_git_keeps_is_right(check, package):
    name, kept, wheel, sdist = package
    assert check.faults_of_wheel(wheel, kept, name, "1.0") == []
    assert check.faults_of_sdist(sdist, kept, name, "1.0") == []


def test_a_wheel_that_lacks_a_file_of_any_kind_is_found(check, package):
    name, kept, wheel, _ = package
    for path in kept:
        assert f"lacks {path}" in check.faults_of_wheel(wheel - {path}, kept, name, "1.0")
    assert check.faults_of_wheel(wheel - {f"{name}-1.0.dist-info/licenses/LICENSE"}, kept, name, "1.0")


@pytest.mark.parametrize(
    "stray", ["tests/test_a.py", "{name}/__pycache__/a.cpython-311.pyc", "{name}/.cache", "{name}/tests/a.py"]
)
def test_a_wheel_that_holds_more_is_found(check, package, stray):
    name, kept, wheel, _ = package
    path = stray.format(name=name)
    assert check.faults_of_wheel(wheel | {path}, kept, name, "1.0") == [f"holds {path}"]


def test_a_kind_of_file_that_git_has_lost_is_found(check, package):
    name, kept, wheel, _ = package
    weights = {path for path in kept if path.endswith(".safetensors")}
    assert weights
    found = check.faults_of_wheel(wheel - weights, kept - weights, name, "1.0")
    assert found == [f"has no {name}/trained/*.safetensors"]


def test_an_sdist_that_cannot_be_built_or_holds_caches_is_found(check, package):
    name, kept, _, sdist = package
    for needed in ("PKG-INFO", "LICENSE", f"{name}/py.typed"):
        assert check.faults_of_sdist(sdist - {f"{name}-1.0/{needed}"}, kept, name, "1.0") == [
            f"lacks {needed}"
        ]
    for stray in ("docs/_build/index.html", f"{name}/__pycache__/a.pyc", ".venv/bin/python", "../../a"):
        assert check.faults_of_sdist(sdist | {f"{name}-1.0/{stray}"}, kept, name, "1.0") == [f"holds {stray}"]


def test_every_kind_of_file_is_in_git(check):
    for project in (check.ROOT, *check.PLUGINS):
        name = check.package_of(project)
        kept = check.tracked(project)
        wheel = {*kept, f"{name}-1.0.dist-info/METADATA", f"{name}-1.0.dist-info/licenses/LICENSE"}
        assert check.faults_of_wheel(wheel, kept, name, "1.0") == []
        assert (project / "LICENSE").read_bytes() == (check.ROOT / "LICENSE").read_bytes()


def test_version_and_command_are_read_where_they_stand(check):
    assert check.version() == invkit.__version__
    assert check.first_command()[:2] == ["invkit", "analyze"]


def test_nothing_of_this_checkout_is_seen_by_what_was_installed(check, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(check.ROOT))
    monkeypatch.setenv("INVKIT_PLUGINS", "1")
    env = check.bare_environment(tmp_path)
    assert "PYTHONPATH" not in env
    assert {name: value for name, value in env.items() if name.startswith("INVKIT_")} == {
        "INVKIT_CACHE": str(tmp_path / "cache")
    }


def test_a_command_that_fails_is_an_error_with_all_that_it_printed(check):
    with pytest.raises(check.ReleaseError, match=r"returned 3:\nout\nerr"):
        check.run(
            sys.executable,
            "-c",
            "import sys; print('out', flush=True); print('err', file=sys.stderr); sys.exit(3)",
        )
    assert check.run(sys.executable, "-c", "print(1)").split() == ["1"]
