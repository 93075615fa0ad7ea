"""The plugin host: asks plugins what they bring, keeps who returned what, and contains what goes wrong."""

from __future__ import annotations

__all__ = ["PluginHost", "default_host"]

import functools
import hashlib
import inspect
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from invkit._version import __version__
from invkit.denoisers.spec import Denoiser
from invkit.denoisers.weights.installed import with_installed
from invkit.errors import PluginError, UnknownNameError
from invkit.plugins import builtins
from invkit.plugins.ask import ASKED, ask
from invkit.plugins.beside import import_file
from invkit.plugins.containment import attempt
from invkit.plugins.discovery import FoundPlugin, find_plugins
from invkit.plugins.files import at_home, denoisers_of, parse_reference, plugin_files, public_names
from invkit.plugins.hooks import HOOKS, Survey, has_hooks, survey
from invkit.plugins.records import Artifact, Backbone, Metric, Sampler, Section, Source
from invkit.plugins.reports import PluginReport, Status, listing, unknown

BUILTINS = "builtins"
FOLDERS = "INVKIT_PLUGINS"  # names folders of plugins, separated as in PATH


class PluginHost:
    """All plugins of a process. They are asked what they bring at the first query, and imported when it is needed.

    Args:
        installed: also query installed distributions and the folders of `INVKIT_PLUGINS`, not only the built-ins.
    """

    def __init__(self, *, installed: bool = True) -> None:
        self._installed = installed
        self._asked = False
        self._records: dict[str, dict[str, Any]] = {kind: {} for kind, _, _ in HOOKS.values()}
        self._owners: dict[tuple[str, str], str] = {}
        self._reports: list[PluginReport] = []
        self._waiting: dict[
            tuple[str, str], FoundPlugin
        ] = {}  # what plugins bring that were not imported yet
        self._files: dict[tuple[Path, str | None], PluginReport] = {}

    def denoisers(self) -> Mapping[str, Denoiser]:
        """Return every denoiser by name."""
        return self._all("denoisers")

    def sources(self) -> Mapping[str, Source]:
        """Return every data source by name."""
        return self._all("sources")

    def metrics(self) -> Mapping[str, Metric]:
        """Return every metric by name."""
        return self._all("metrics")

    def sections(self) -> Mapping[str, Section]:
        """Return every report section by name, in the order of the plugins."""
        return self._all("sections")

    def artifacts(self) -> tuple[Artifact, ...]:
        """Return every trained VAE and cINN that plugins provide."""
        return tuple(self._all("artifacts").values())

    def backbones(self) -> Mapping[str, Backbone]:
        """Return every perceptual backbone by name."""
        return self._all("backbones")

    def samplers(self) -> Mapping[str, Sampler]:
        """Return every sampler by name."""
        return self._all("samplers")

    def names(self, kind: str) -> tuple[str, ...]:
        """Return the names of all records of a kind (`"denoisers"`, `"metrics"`, ...); no plugin is imported for that."""
        self._ask()
        return tuple(key for of, key in self._owners if of == kind)

    def sampler(self, name: str) -> Sampler:
        """Return a sampler.

        Raises:
            UnknownNameError: there is none of this name.
        """
        found: Sampler = self.find("samplers", name)
        return found

    def reports(self) -> list[PluginReport]:
        """Return one report per plugin: built-ins, installed ones, files in the order they were added."""
        self._ask()
        return list(self._reports)

    def code(self) -> dict[str, str]:
        """Return which code samplers, metrics and sections of reports come from, besides the built-in ones.

        The version of a distribution, or the sha256 of a file, by the plugin's name.
        """
        self._ask()
        files = {report.name: path for (path, _), report in self._files.items()}
        return {
            report.name: hashlib.sha256(files[report.name].read_bytes()).hexdigest()
            if report.name in files
            else report.version
            for report in self._reports
            if report.name != BUILTINS and report.provides.keys() & {"samplers", "metrics", "sections"}
        }

    def owner(self, kind: str, name: str) -> str:
        """Return which plugin provided a record, e.g. `owner("denoisers", "chen2017")`."""
        self._ask()
        return self._owners[kind, name]

    def denoiser(self, name: str) -> tuple[Denoiser, str | None]:
        """Resolve `arch` or `arch.tag` to a denoiser and the tag of its weights (`None`: its default).

        A tag is the plugin's, or one that the user added; a bare name never means added weights.

        Raises:
            UnknownNameError: there is no such denoiser or tag; the message lists all.
        """
        arch, dot, tag = name.partition(".")
        spec = self.find("denoisers", arch)
        if not dot:
            return spec, None
        spec = with_installed(spec)
        tags = [weights.tag for weights in spec.weights]
        if tag not in tags:
            raise UnknownNameError(unknown(f"weights of {arch}", tag, tags))
        return spec, tag

    def source(self, name: str) -> Source:
        """Return a data source.

        Raises:
            UnknownNameError: there is none of this name.
        """
        found: Source = self.find("sources", name)
        return found

    def backbone(self, name: str) -> Backbone:
        """Return a perceptual backbone.

        Raises:
            UnknownNameError: there is none of this name.
        """
        found: Backbone = self.find("backbones", name)
        return found

    def find(self, kind: str, name: str) -> Any:
        """Return the record of a kind (`"denoisers"`, `"metrics"`, ...) and name.

        Raises:
            UnknownNameError: there is none; the message lists all, and which plugins are broken.
        """
        self._ask()
        if (kind, name) in self._waiting:
            self._import(self._waiting[kind, name])
        if name in self._records[kind]:
            return self._records[kind][name]
        message = unknown(kind.removesuffix("s"), name, self.names(kind))
        broken = [report.name for report in self._reports if report.status != "ok"]
        if broken:
            message += f". Not everything could be loaded ({', '.join(broken)}): `invkit plugins` says why"
        raise UnknownNameError(message)

    def add_file(self, reference: str | Path) -> PluginReport:
        """Add a file, `my.py`, or the folder of a package, with its hooks, or one object in it, `my.py:attribute`.

        The attribute is a Denoiser, a list of them, an nn.Module, its class, or a function that returns
        one of these. The same reference again changes nothing.

        Raises:
            PluginError: the file cannot be imported, or anything in it is refused.
        """
        self._ask()
        path, attribute = parse_reference(str(reference))
        if (path, attribute) not in self._files:
            name = path.parent.name if path.name == "__init__.py" else path.name
            imported = attempt(lambda: import_file(path))
            if imported.error:
                raise PluginError(f"{name} cannot be imported: {imported.error}")
            thing: object = imported.value
            if attribute is not None:
                if not hasattr(thing, attribute):
                    raise PluginError(f"{name} has no {attribute!r}; it has: {listing(public_names(thing))}")
                thing = getattr(thing, attribute)
            report = self._add(thing, attribute or path.stem, name, imported.printed)
            for key in report.provides.get("denoisers", ()):
                self._records["denoisers"][key] = at_home(self._records["denoisers"][key], path)
            self._files[path, attribute] = report
        return self._files[path, attribute]

    def add_folder(self, folder: str | Path) -> list[PluginReport]:
        """Add every plugin of a folder: its Python files and packages in which the word `hookimpl` stands.

        One that cannot be used is reported as broken, as an installed one is, and costs no other.

        Raises:
            PluginError: there is no such folder.
        """
        self._ask()
        path = Path(folder)
        if not path.is_dir():
            raise PluginError(f"there is no folder of plugins {str(folder)!r}")
        return [self._add_mildly(file) for file in plugin_files(path.resolve())]

    def _add_mildly(self, file: Path) -> PluginReport:
        known = len(self._reports)
        try:
            return self.add_file(file)
        except PluginError as error:
            if len(self._reports) == known:  # else it was partly used, and its report is the last
                name = file.parent.name if file.name == "__init__.py" else file.name
                self._reports.append(PluginReport(name, status="broken", reason=str(error)))
            return self._reports[-1]

    def add_object(self, thing: object, *, name: str = "module") -> PluginReport:
        """Add an object with hooks, a Denoiser, a list of them, an nn.Module, its class, a function for one.

        Args:
            thing: what to add.
            name: for a denoiser made from a bare nn.Module.

        Raises:
            PluginError: it is none of these, or its name is taken.
        """
        self._ask()
        return self._add(thing, name, name)

    def _add(self, thing: object, name: str, plugin: str, printed: str = "") -> PluginReport:
        """Add what a user asked for by hand, where a fault is an error and not a line in a list."""
        if has_hooks(thing):
            found = survey(thing)
            report = PluginReport(plugin, printed=printed + found.printed)
        elif inspect.ismodule(thing):
            raise PluginError(
                f"{plugin} has no function marked with @invkit.hookimpl. "
                f"Name what to use, as in {plugin}:NAME; it has: {listing(public_names(thing))}"
            )
        else:
            made = attempt(lambda: denoisers_of(thing, name))
            if made.value is None:
                raise PluginError(f"{plugin}: {made.error}")
            found = Survey(tuple(("denoisers", one.name, one) for one in made.value))
            report = PluginReport(plugin, printed=printed + made.printed)
        report = self._take(report, found)
        if report.status != "ok":
            raise PluginError(f"{plugin}: {report.reason}")
        return report

    def _all(self, kind: str) -> Mapping[str, Any]:
        """Return all records of a kind, in the order of their plugins; those plugins are imported."""
        self._ask()
        for found in dict.fromkeys(one for (of, _), one in self._waiting.items() if of == kind):
            self._import(found)
        records = self._records[kind]
        return MappingProxyType(
            {key: records[key] for of, key in self._owners if of == kind and key in records}
        )

    def _ask(self) -> None:
        """Ask every plugin once what it brings. A plugin that asks us while it is loaded sees what came before it."""
        if self._asked:
            return
        self._asked = True
        self._take(PluginReport(BUILTINS, "invkit", __version__), survey(builtins))
        for found in find_plugins() if self._installed and not os.environ.get(ASKED) else ():
            report = PluginReport(found.name, found.distribution, found.version)
            if found.problem or found.entry_point is None:
                status: Status = "incompatible" if found.incompatible else "broken"
                self._reports.append(replace(report, status=status, reason=found.problem))
                continue
            answer = ask(found)
            report = replace(report, printed=answer.printed)
            if answer.error:
                self._reports.append(replace(report, status="broken", reason=answer.error))
            else:
                names = tuple((kind, key, None) for kind, key in answer.names)
                taken = self._take(report, Survey(names, answer.problems))
                self._waiting |= {(kind, key): found for kind, keys in taken.provides.items() for key in keys}
        for folder in os.environ.get(FOLDERS, "").split(os.pathsep) if self._installed else ():
            if folder and not os.environ.get(ASKED):
                self.add_folder(folder)

    def _import(self, found: FoundPlugin) -> None:
        """Import a plugin into this process, and keep the records that it said it would bring."""
        claimed = [place for place, one in self._waiting.items() if one is found]
        for place in claimed:
            del self._waiting[place]  # first, since a plugin may ask us while it is loaded
        assert found.entry_point is not None
        loaded = attempt(found.entry_point.load)
        brought = Survey() if loaded.error else survey(loaded.value)
        for kind, key, record in brought.records:
            if (kind, key) in claimed:
                self._records[kind][key] = record
        lacking = [place for place in claimed if place[1] not in self._records[place[0]]]
        if not lacking:
            return
        for place in lacking:
            del self._owners[place]
        why = f"importing it failed: {loaded.error}" if loaded.error else "; ".join(brought.problems)
        self._reports = [
            replace(
                report,
                status="broken",
                reason=why or f"it no longer brings {listing(key for _, key in lacking)}",
                provides=MappingProxyType({}),
            )
            if (report.name, report.distribution) == (found.name, found.distribution)
            else report
            for report in self._reports
        ]

    def _take(self, report: PluginReport, found: Survey) -> PluginReport:
        """Take in what has a name that is free, and append the report; a record that is `None` comes later."""
        provides: dict[str, tuple[str, ...]] = {}
        problems = list(found.problems)
        unique = {kind: field for kind, _, field in HOOKS.values()}
        for kind, key, record in found.records:
            if (kind, key) in self._owners:
                problems.append(
                    f"{kind.removesuffix('s')} {key!r} is refused: "
                    f"plugin {self._owners[kind, key]!r} has this {unique[kind]} already"
                )
                continue
            self._owners[kind, key] = report.name
            if record is not None:
                self._records[kind][key] = record
            provides[kind] = (*provides.get(kind, ()), key)
        status: Status = "ok" if not problems else "partial" if provides else "broken"
        report = replace(
            report, status=status, reason="; ".join(problems), provides=MappingProxyType(provides)
        )
        self._reports.append(report)
        return report


@functools.cache
def default_host() -> PluginHost:
    """Return the host of this process, made at the first call."""
    return PluginHost()
