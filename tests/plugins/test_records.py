import dataclasses

import pytest

from invkit.errors import ArtifactError, PluginError
from invkit.plugins.records import Artifact, Backbone, Metric, Section, Source

NAMED = {Source: "open", Metric: "compute", Section: "render", Backbone: "build"}
SHA = "0" * 64


@pytest.mark.parametrize("record", NAMED)
def test_a_record_is_frozen_and_checks_itself(record):
    made = record("good-name_1", len)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.name = "other"
    for name in ("", "Upper", "../x", "a/b", "a.b", "a\n", "<img>", "[/oops]", "\x1b[31m", None, 3):
        with pytest.raises(PluginError, match="must match"):
            record(name, len)
    with pytest.raises(PluginError, match=f"{NAMED[record]} must be a function, got str"):
        record("good", "no function")


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "denoiser"},
        {"sha256": "12"},
        {"sha256": "G" * 64},
        {"path": "package:thing"},
        {"path": "package:thing/../../etc/passwd"},
        {"path": "package:/etc/passwd"},
        {"path": "../up.safetensors"},
        {"path": "a\0b/c"},
    ],
)
def test_an_artifact_refuses_what_it_cannot_be(fields):
    with pytest.raises(PluginError):
        Artifact(**{"kind": "vae", "path": "package:thing/vae.safetensors", "sha256": SHA, **fields})


def test_an_artifact_is_found_in_a_package_without_importing_it(site):
    package = site.folder / "fake_package"
    (package / "trained").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "trained" / "vae.safetensors").write_bytes(b"data")
    found = Artifact("vae", "package:fake_package/trained/vae.safetensors", SHA, meta={"d": 3}).locate()
    assert found == package / "trained" / "vae.safetensors"
    for path in (
        "package:fake_package/other",
        "package:fake_nowhere/vae",
        "package:os.path/vae",
        str(site.folder / "x"),
    ):
        with pytest.raises(ArtifactError, match="Reinstall the plugin"):
            Artifact("vae", path, SHA).locate()
    assert Artifact("cinn", str(found), SHA).locate() == found
