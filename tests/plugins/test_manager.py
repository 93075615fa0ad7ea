import subprocess
import sys

import pytest

from invkit.denoisers.spec import Affine, Denoiser
from invkit.errors import PluginError, UnknownNameError
from invkit.plugins.manager import PluginHost, default_host


def report_of(host, name):
    return next(report for report in host.reports() if report.name == name)


def test_a_plugin_is_found_by_its_entry_point(site, good):
    site.add("alpha", good("alpha"))
    host = PluginHost()
    assert host.denoisers()["alpha"].name == "alpha"
    report = report_of(host, "alpha")
    assert (report.status, report.reason, report.version) == ("ok", "", "1.0")
    assert dict(report.provides) == {"denoisers": ("alpha",)}
    assert host.owner("denoisers", "alpha") == "alpha"


BROKEN = {
    "raises": ("raise ValueError('no luck')", "ValueError: no luck"),
    "exits": ("import sys; sys.exit(3)", "sys.exit(3)"),
    "lacks-dependency": ("import surely_not_installed", "it needs the module 'surely_not_installed'"),
    "syntax": ("def (", "SyntaxError"),
    "recursion": ("def f(): f()\nf()", "RecursionError"),
    "raises-base": ("class Odd(BaseException): pass\nraise Odd('odd')", "Odd: odd"),
    "no-message": (
        "class Mute(Exception):\n    def __str__(self): raise RuntimeError\nraise Mute()",
        "its message cannot be shown",
    ),
    "empty": ("", "no function marked with @invkit.hookimpl"),
    "unmarked": ("def invkit_denoisers(): return []", "invkit_denoisers is not marked with @invkit.hookimpl"),
    "misspelt": (
        "import invkit\n@invkit.hookimpl\ndef invkit_denoiser(): return []",
        "there is no hook 'invkit_denoiser'; did you mean 'invkit_denoisers'?",
    ),
    "arguments": (
        "import invkit\n@invkit.hookimpl\ndef invkit_denoisers(config): return []",
        "config",
    ),
    "wrapper": (
        "import invkit\n@invkit.hookimpl(wrapper=True)\ndef invkit_denoisers():\n    return (yield)",
        "is a wrapper",
    ),
    "hook-raises": (
        "import invkit\n@invkit.hookimpl\ndef invkit_denoisers(): raise OSError('gone')",
        "invkit_denoisers must return a list of Denoiser: OSError: gone",
    ),
    "layers-of-another-kind": (
        "import invkit\n@invkit.hookimpl\ndef invkit_denoisers():\n"
        "    return [invkit.Denoiser('a', lambda: None, invkit.Affine(0, 1), layers=(('1', 'a'),))]",
        "denoiser a: layers must be a list or tuple of invkit.Layer, got (('1', 'a'),)",
    ),
    "hook-exits": (
        "import invkit, sys\n@invkit.hookimpl\ndef invkit_metrics(): sys.exit(1)",
        "sys.exit(1)",
    ),
    "hook-none": (
        "import invkit\n@invkit.hookimpl\ndef invkit_denoisers(): return None",
        "it returned a NoneType",
    ),
    "hook-raises-late": (
        "import invkit\n@invkit.hookimpl\ndef invkit_sources():\n    yield 1\n    raise KeyError('late')",
        "KeyError",
    ),
    "wrong-type": (
        "import invkit\n@invkit.hookimpl\ndef invkit_denoisers(): return ['chen']",
        "returned a str where a Denoiser must stand",
    ),
    "bad-name": (
        "import invkit\n@invkit.hookimpl\ndef invkit_metrics(): return [invkit.Metric('../x', len)]",
        "'../x' must match",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_is_listed_with_its_reason_and_breaks_nothing_else(fault, site, good):
    code, reason = BROKEN[fault]
    site.add("faulty", code)
    site.add("zulu", good("zulu"))
    host = PluginHost()
    report = report_of(host, "faulty")
    assert report.status == "broken"
    assert reason in report.reason
    assert "\n" not in report.reason
    assert report_of(host, "zulu").status == "ok"
    assert "zulu" in host.denoisers()


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("not_there_at_all", "not_there_at_all"),
        ("fake_lost:nothing", "nothing"),
        ("!!", "importing it failed"),
    ],
)
def test_an_entry_point_that_leads_nowhere_is_broken(entry, reason, site):
    site.add("lost", "x = 1", entry=entry)
    report = report_of(PluginHost(), "lost")
    assert report.status == "broken"
    assert reason in report.reason


def test_metadata_that_cannot_be_read_break_only_their_distribution(site, good):
    site.add("garbled", "", entry_points="[invkit]\nno equals sign\n")
    site.add("badrequires", good("badrequires"), requires=("invkit >>> 3",))
    site.add("zulu", good("zulu"))
    host = PluginHost()
    for name in ("garbled", "badrequires"):
        assert report_of(host, name).status == "broken"
        assert "metadata cannot be read" in report_of(host, name).reason
    assert "zulu" in host.denoisers()


@pytest.mark.parametrize(
    "requirement", ["invkit>=99", "invkit<0.1", "Invkit==7.*", 'invkit>=99; python_version>"3"']
)
def test_a_plugin_for_another_invkit_is_not_imported(requirement, site):
    site.add("newer", "raise SystemError('was imported')", requires=("torch", requirement))
    report = report_of(PluginHost(), "newer")
    assert report.status == "incompatible"
    assert "this is invkit" in report.reason
    assert "was imported" not in report.reason


def test_a_requirement_that_does_not_apply_here_is_no_obstacle(site, good):
    requires = ('invkit>=99; python_version<"3"', 'invkit>=99; extra == "future"', "invkit-chen2017>=99")
    site.add("alpha", good("alpha"), requires=requires)
    assert report_of(PluginHost(), "alpha").status == "ok"


def test_of_two_with_one_name_the_later_is_refused_and_reported(site, good):
    site.add("alpha", good("same"))
    site.add(
        "beta",
        good("same", "invkit_denoisers = invkit.hookimpl(lambda: [denoiser('same'), denoiser('own')])"),
    )
    host = PluginHost()
    assert host.owner("denoisers", "same") == "alpha"
    report = report_of(host, "beta")
    assert report.status == "partial"
    assert "denoiser 'same' is refused: plugin 'alpha' has this name already" in report.reason
    assert dict(report.provides) == {"denoisers": ("own",)}


def test_what_is_good_in_a_faulty_plugin_is_used(site, good):
    more = """
    @invkit.hookimpl
    def invkit_metric():
        return []

    @invkit.hookimpl
    def invkit_backbones():
        raise RuntimeError("later")
    """
    site.add("alpha", good("alpha", more))
    host = PluginHost()
    report = report_of(host, "alpha")
    assert report.status == "partial"
    assert "did you mean 'invkit_metrics'?" in report.reason
    assert "RuntimeError: later" in report.reason
    assert "alpha" in host.denoisers()


def test_what_a_plugin_prints_is_kept_from_our_output(site, good, capsys):
    more = """
    import sys
    print("to stdout")
    print("to stderr", file=sys.stderr)
    """
    site.add("loud", good("loud", more))
    report = report_of(PluginHost(), "loud")
    assert report.status == "ok"
    assert report.printed == "to stdout\nto stderr\n"
    assert capsys.readouterr() == ("", "")


def test_ctrl_c_is_contained_where_a_plugin_raises_it_itself_and_nowhere_else(site, tmp_path):
    site.add("stopped", "raise KeyboardInterrupt")
    assert report_of(PluginHost(), "stopped").reason == "importing it failed: KeyboardInterrupt"
    (tmp_path / "stopped.py").write_text("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        PluginHost(installed=False).add_file(tmp_path / "stopped.py")


def test_only_the_plugin_that_is_needed_is_imported(site, good):
    for name in ("alpha", "beta"):
        site.add(name, good(name))
    host = PluginHost()
    assert {"alpha", "beta"} <= set(host.names("denoisers"))
    assert [report_of(host, name).status for name in ("alpha", "beta")] == ["ok", "ok"]
    assert not {"fake_alpha", "fake_beta"} & sys.modules.keys()
    assert host.denoiser("beta")[0].name == "beta"
    assert {"fake_alpha", "fake_beta"} & sys.modules.keys() == {"fake_beta"}
    assert host.denoisers()["alpha"].name == "alpha"


def test_a_plugin_that_fails_only_here_is_reported_and_costs_no_other(site, good):
    site.add(
        "twofaced",
        good("twofaced", "import os\nif 'INVKIT_ASKED' not in os.environ: raise OSError('not here')\n"),
    )
    site.add("zulu", good("zulu"))
    host = PluginHost()
    assert report_of(host, "twofaced").status == "ok"
    with pytest.raises(
        UnknownNameError, match=r"no denoiser 'twofaced'.*\(twofaced\): `invkit plugins` says why"
    ):
        host.denoiser("twofaced")
    report = report_of(host, "twofaced")
    assert (report.status, dict(report.provides)) == ("broken", {})
    assert "importing it failed: OSError: not here" in report.reason
    assert "zulu" in host.denoisers() and "twofaced" not in host.denoisers()


def test_a_plugin_may_ask_the_host_while_it_is_loaded(site, good):
    site.add("alpha", good("alpha"))
    site.add("asking", good("asking", "invkit.default_host().denoisers()"))
    default_host.cache_clear()
    try:
        assert {"alpha", "asking"} <= default_host().denoisers().keys()
    finally:
        default_host.cache_clear()


def test_a_class_instance_can_be_a_plugin(site, good):
    more = """
    class Plugin:
        @invkit.hookimpl
        def invkit_denoisers(self):
            return (denoiser(name) for name in ("one", "two"))

    plugin = Plugin()
    """
    site.add("alpha", good("alpha", more), entry="fake_alpha:plugin")
    assert report_of(PluginHost(), "alpha").provides["denoisers"] == ("one", "two")


def test_the_first_of_two_copies_of_a_distribution_counts(site, good, tmp_path, monkeypatch):
    site.add("alpha", good("alpha"))
    shadow = tmp_path / "shadow" / "alpha-0.5.dist-info"
    shadow.mkdir(parents=True)
    (shadow / "METADATA").write_text("Metadata-Version: 2.1\nName: Alpha\nVersion: 0.5\n")
    (shadow / "entry_points.txt").write_text("[invkit]\nalpha = fake_alpha\n")
    monkeypatch.syspath_prepend(str(shadow.parent))
    assert [report.version for report in PluginHost().reports() if report.distribution == "alpha"] == ["0.5"]


def test_names_resolve_with_and_without_a_tag(site, good):
    more = """
    @invkit.hookimpl
    def invkit_denoisers():
        tag = invkit.Weights("bundled", "weights.safetensors", "0" * 64, "phantoms", "CC0")
        return [invkit.Denoiser("alpha", build, invkit.Affine(0.0, 1.0), weights=(tag,))]
    """
    site.add("alpha", good("alpha", more))
    host = PluginHost()
    assert host.denoiser("alpha") == (host.denoisers()["alpha"], None)
    assert host.denoiser("alpha.bundled") == (host.denoisers()["alpha"], "bundled")
    with pytest.raises(UnknownNameError, match="no weights of alpha 'bundle'; did you mean 'bundled'"):
        host.denoiser("alpha.bundle")


def test_an_unknown_name_is_answered_with_what_there_is(site, good):
    site.add("alpha", good("alpha"))
    site.add("faulty", "raise ValueError")
    with pytest.raises(UnknownNameError, match="no denoiser 'alhpa'; did you mean 'alpha'") as caught:
        PluginHost().denoiser("alhpa")
    assert "faulty" in str(caught.value)
    assert "invkit plugins" in str(caught.value)
    with pytest.raises(UnknownNameError, match="There are: phantoms"):
        PluginHost(installed=False).source("ct")


def test_the_built_ins_are_an_ordinary_plugin():
    host = PluginHost(installed=False)
    assert [report.name for report in host.reports()] == ["builtins"]
    assert host.source("phantoms").name == "phantoms"
    assert {"vgg19", "hed-vgg16"} <= host.backbones().keys()
    assert all(name.startswith("oracle-") for name in host.denoisers())


def test_what_the_host_gives_cannot_be_changed():
    with pytest.raises(TypeError):
        PluginHost(installed=False).denoisers()["x"] = None


def test_an_object_can_be_added_by_hand():
    host = PluginHost(installed=False)
    spec = Denoiser("mine", lambda: None, Affine(0.0, 1.0))
    host.add_object(spec)
    assert host.denoiser("mine") == (spec, None)
    with pytest.raises(PluginError, match="'mine' is refused"):
        host.add_object(Denoiser("mine", lambda: None, Affine(0.0, 1.0)))


def test_asking_for_names_imports_no_torch():
    code = (
        "import sys; from invkit.plugins.manager import PluginHost; host = PluginHost(installed=False); "
        "host.denoisers(), host.sources(), host.backbones(), host.reports(); "
        "print(sorted({'torch', 'numpy', 'pydantic', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
