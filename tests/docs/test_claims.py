import importlib.util
import re

import pytest
from docs_pages import DOCS, ROOT, page, pages

import invkit
from invkit import errors
from invkit.measures.table import known
from invkit.parts.preset_file import PRESETS
from invkit.training.processes import allocator
from invkit.verdict.measures import REFERENCES

CODE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "invkit").rglob("*.py")))
FIGURE = re.compile(r"<!-- (end )?figure: ([\w-]+) -->")
EMPTY = "Not measured yet."


def rows(text):
    """Return the cells of every table row."""
    return [
        [cell.strip() for cell in line.strip()[1:-1].split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


def coded(text):
    return set(re.findall(r"`([^`]+)`", text))


def test_environment_variables_are_those_that_the_code_reads():
    table = page("files.md").text.partition("## Environment variables")[2]
    named = {name for row in rows(table) for name in coded(row[0])}
    read = set(re.findall(r"\bINVKIT_[A-Z0-9]+\b", CODE)) | set(
        re.findall(r"environ\.get\(\"([A-Z_]+)\"", CODE)
    )
    # The first is torch's, the others are glibc's.
    assert named <= read | {"OMP_NUM_THREADS", *allocator.SETTINGS}
    assert set(allocator.SETTINGS) <= named
    assert {name for name in read if name.startswith("INVKIT_")} <= named


def test_schemas_are_those_that_the_code_writes():
    written = set(re.findall(r"\"(invkit\.[a-z.]+/\d+)\"", CODE))
    named = {
        name for found in pages() for name in coded(found.prose) if re.fullmatch(r"invkit\.[a-z.]+/\d+", name)
    }
    assert named == written


def test_exit_codes_are_those_of_the_errors():
    table = page("cli.md").text.partition("## Exit codes")[2].partition("\n## ")[0]
    stated = {name: int(row[0]) for row in rows(table)[2:] for name in coded(row[2] if len(row) > 2 else "")}
    assert stated == {
        name: getattr(errors, name).exit_code
        for name in errors.__all__
        if name.endswith("Error") and name != "InvkitError"
    }


def test_every_public_name_is_in_the_api_page():
    text = page("api.md").text
    missing = [name for name in invkit.__all__ if not re.search(rf"\binvkit\.{name}\b|`{name}`", text)]
    assert set(missing) <= {"__version__"}


def test_the_tables_of_measures_are_the_figures_with_their_units():
    stated = {}
    for table in re.findall(
        r"^\| key \| unit \|.*\n\| *-.*\n((?:\|.*\n)+)", page("measures.md").text, re.MULTILINE
    ):
        for key, unit, definition, *_ in rows(table):
            assert definition, key
            assert key.strip("`") not in stated, key
            stated[key.strip("`")] = unit
    assert stated == {key: figure.unit for key, figure in known().items()}
    assert {f"fiber_error.{name}" for name in REFERENCES} <= stated.keys()


def test_presets_exist():
    text = page("training.md").text
    for name in {name for names in PRESETS.values() for name in names}:
        assert f"`{name}`" in text


def test_recipes_have_the_presets_that_the_pages_name():
    from invkit.plugins.manager import PluginHost

    host = PluginHost()
    text = page("training.md").text.partition("## A denoiser")[2].partition("\n## ")[0]
    named = {name for row in rows(text)[2:] for name in coded(row[0])}
    for model in ("chen2017", "chen2017-k3", "yang2018"):
        recipe = host.denoiser(model)[0].recipe
        assert {*recipe.presets, "default"} == named


@pytest.mark.parametrize("model", ["chen2017", "yang2018"])
def test_the_layers_of_a_plugin_are_those_of_its_page(model):
    from invkit.plugins.manager import PluginHost

    text = (ROOT / "plugins" / model / "README.md").read_text(encoding="utf-8")
    spec = PluginHost().denoiser(model)[0]
    table = rows(text.partition("## Architecture")[2].partition("\n## ")[0])
    ends = {(tuple(sorted(coded(row[0]))), tuple(sorted(coded(row[1])))) for row in table if coded(row[0])}
    for keys, modules in ends:
        for key, module in zip(keys, modules, strict=True):
            assert next(layer.module for layer in spec.layers if layer.key == key) == module
    named = {key for keys, _ in ends for key in keys}
    assert {spec.layers[0].key, spec.layers[-1].key} <= named


@pytest.fixture
def measure(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("measure")


def test_measured_figures_are_marked_and_can_be_measured_again(measure):
    marked = []
    for found in pages():
        marks = FIGURE.findall(found.text)
        assert [name for end, name in marks if not end] == [name for end, name in marks if end], found.name
        assert not marks or found.name in measure.PAGES
        marked += [name for end, name in marks if not end]
    assert set(marked) == set(measure.figures(None))


def test_filling_a_figure_in_leaves_the_rest_of_a_page(measure):
    text = "a\n<!-- figure: one -->\nold\n<!-- end figure: one -->\nb\n"
    assert measure.replaced(text, "one", "new") == text.replace("old", "new")


def test_the_sha256_of_bundled_files_are_those_that_the_page_states():
    text = page("bundled.md").text.partition("<!-- figure: bundled-files -->")[2].partition("<!-- end")[0]
    assert EMPTY not in text
    from invkit.artifacts import sha256_file

    stated = set(re.findall(r"`([0-9a-f]{12})`", text))
    folders = [ROOT / "invkit" / "bundled", *(ROOT / "plugins").glob("*/invkit_*")]
    found = {sha256_file(path)[:12] for folder in folders for path in folder.rglob("*.safetensors")}
    assert stated == found


@pytest.mark.parametrize("found", pages(), ids=lambda found: found.name)
def test_no_page_calls_a_sample_an_invariance_that_is_proven(found):
    assert not re.search(
        r"(?i)(?<!not )(?<!no )(?<!never )\bproven invarianc(?!e\.\*\*)",
        found.prose.replace("Not a proven", ""),
    )


@pytest.mark.parametrize("found", pages(), ids=lambda found: found.name)
def test_no_page_names_a_path_of_the_machine_it_was_written_on(found):
    assert not re.search(r"/(work|root|tmp)/", found.text)
