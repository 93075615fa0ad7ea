import tomllib

import pytest

from invkit.errors import ResourceError, UsageError
from invkit.plugins.manager import PluginHost
from invkit.plugins.skeleton import write_skeleton


def test_the_skeleton_is_a_working_plugin(tmp_path, site):
    project_file, module = write_skeleton("my-net", tmp_path / "made")
    project = tomllib.loads(project_file.read_text())["project"]
    site.add("my-net", requires=project["dependencies"])
    (site.folder / "fake_my_net.py").write_text(module.read_text())
    report = next(report for report in PluginHost().reports() if report.name == "my-net")
    assert report.status == "ok", report.reason
    assert project["entry-points"]["invkit"] == {"my-net": module.stem}
    assert report.provides == {"denoisers": ("my-net",)}


def test_nothing_is_overwritten(tmp_path):
    first, second = write_skeleton("mine", tmp_path)
    second.write_text("my work")
    first.unlink()
    with pytest.raises(UsageError, match="already exists and is not overwritten"):
        write_skeleton("mine", tmp_path)
    assert second.read_text() == "my work"


@pytest.mark.parametrize("name", ["", "../up", "Big", 'x"\ny', "a/b", "a\n"])
def test_a_name_that_is_none_is_refused(name, tmp_path):
    with pytest.raises(UsageError, match="must match"):
        write_skeleton(name, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_folder_that_cannot_be_made_is_a_resource_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot write into"):
        write_skeleton("mine", tmp_path / "file" / "made")
