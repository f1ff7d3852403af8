"""What `guidelens plugins list` and `show` tell: statuses, missing packages, links, options in words."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from guidelens.cli import plugin_views
from guidelens.cli.main import cli
from guidelens.plugins import PluginManager
from plugin_worlds import SCHEDULE, write_distribution, write_module

NEEDY = """
    from guidelens import hookimpl

    guidelens_contract = 1

    @hookimpl
    def register_metrics(register):
        register("needy", dict, summary="a needy one", requires={requires!r}{more})
"""

TOLD = '''
    from typing import Literal
    from guidelens import hookimpl

    guidelens_docs = "https://example.org/told"

    class Told:
        """A schedule.

        :param start: where to begin,
            or ``none`` for :class:`~somewhere.Else`.
        :param how: the manner.
        """

        def __init__(self, start: str | None = None, how: Literal["slow", "fast"] = "slow", bare: int = 3):
            pass

        def weights(self, progress):
            return {"itc": 1.0}

    @hookimpl
    def register_schedules(register):
        register("told", Told, summary="told in full")
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def invoke(*args: str) -> str:
    done = CliRunner().invoke(cli, list(args))
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.parametrize(
    ("requires", "more", "stated", "command"),
    [
        (["acme_absent"], "", (), "pip install acme-absent"),
        (["acme_absent"], "", ("acme-absent>=2",), 'pip install "acme-absent>=2"'),
        (["acme_absent"], "", ("Acme.Absent>=2; extra == 'all'",), 'pip install "acme-needy[all]"'),
        (
            ["acme_absent"],
            "",
            ("acme-absent>=2; extra == 'all'", "acme-absent>=1"),
            'pip install "acme-absent>=1"',
        ),
        (
            ["acme_absent.sub", "acme_gone"],
            "",
            ("acme-absent; extra == 'all'", "acme-gone; extra == 'all'"),
            'pip install "acme-needy[all]"',
        ),
        (["acme_absent"], ", install=['other-name>1', 'more']", (), 'pip install "other-name>1" more'),
    ],
)
def test_the_command_that_installs_what_is_missing(
    requires: list[str], more: str, stated: tuple[str, ...], command: str, site: Path
) -> None:
    write_module(site, "acme_needy", NEEDY.format(requires=requires, more=more))
    write_distribution(site, "acme-needy", {"needy": "acme_needy"}, requires=stated)
    manager = PluginManager.load(environment={})
    plugin = manager.plugin("needy")
    names = ", ".join(requires)
    assert (plugin.status, plugin.message) == ("missing dependency", f"needs {names}: {command}")
    with pytest.raises(Exception, match="not installed here") as caught:
        manager.build("metric", "needy")
    assert str(caught.value).endswith(command)
    assert f"    needs {names}: {command}\n" in invoke("plugins", "list")
    assert f"  not installed: {names}; {command}\n" in invoke("plugins", "show", "needy")


def test_install_is_a_sequence(site: Path) -> None:
    path = write_module(site, "acme_text", NEEDY.format(requires=["x"], more=", install='y'"))
    with pytest.raises(Exception, match="'needy': install must be a sequence of names, not one text"):
        PluginManager.load([str(path)], environment={})


def test_options_in_words_and_the_link(site: Path) -> None:
    path = str(write_module(site, "told", TOLD))
    shown = invoke("-p", path, "plugins", "show", "told")
    assert "    documentation: https://example.org/told\n" in shown
    assert "  start=none or text  default: none\n      where to begin, or none for somewhere.Else.\n" in shown
    assert "  how=slow|fast       default: slow\n      the manner.\n" in shown
    assert shown.endswith("  bare=int            default: 3\n")
    listed = {p["name"]: p for p in json.loads(invoke("-p", path, "plugins", "list", "--json"))}
    assert (listed["told"]["found"], listed["told"]["documentation"]) == ("file", "https://example.org/told")
    (component,) = listed["told"]["components"]
    assert [o["help"] for o in component["options"]][1:] == ["the manner.", None]


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        (["Project-URL: Homepage, https://a", "Project-URL: Documentation, https://b"], "https://b"),
        (["Project-URL: Source Code, https://c", "Project-URL: Changelog, https://d"], "https://c"),
        (["Home-page: https://e"], "https://e"),
        (["Project-URL: Changelog, https://d"], None),
        ([], None),
    ],
)
def test_the_link_of_a_distribution(lines: list[str], address: str | None, site: Path) -> None:
    dist = f"acme-linked-{len(''.join(lines))}"  # metadata is remembered by name
    write_module(site, "acme_linked", SCHEDULE.format(name="linked"))
    write_distribution(site, dist, {"linked": "acme_linked"})
    metadata = site / f"{dist.replace('-', '_')}-1.5.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text() + "".join(f"{line}\n" for line in lines))
    (plugin,) = [p for p in PluginManager.load(environment={}).plugins if p.name == "linked"]
    assert (plugin.docs or None) == address


def test_show_a_component_by_name(site: Path) -> None:
    for name in ("acme_one", "acme_two"):
        write_module(site, name, SCHEDULE.format(name="shift"))
    write_distribution(site, "acme-many", {"one": "acme_one", "two": "acme_two"})
    shown = invoke("plugins", "show", "shift")
    for owner in ("'one' (acme-many 1.5)", "'two' (acme-many 1.5)", "'schedules' (guidelens "):
        assert f"\nschedule shift, of plugin {owner}" in shown
    one = invoke("plugins", "show", "one/shift")
    assert one.count("schedule shift") == 1
    assert "always the same" in one
    assert invoke("plugins", "show", "one/shift:key=value") == one  # as it is spelled where it is used
    (found,) = json.loads(invoke("plugins", "show", "schedules/shift", "--json"))
    assert (found["plugin"], found["name"], found["kind"]) == ("schedules", "shift", "schedule")


def test_show_only_one_kind() -> None:
    shown = invoke("plugins", "show", "shapes", "--kind", "metric")
    assert "\nmetric shapes" in shown
    assert "\ngenerator shapes" not in shown
    for args, message in (
        (["schedules", "--kind", "metric"], "offers no component of the kind 'metric'"),
        (["shift", "--kind", "metric"], "no plugin or component 'shift'"),
        (["shfit"], "no plugin or component 'shfit' (did you mean 'shift'?)"),
    ):
        done = CliRunner().invoke(cli, ["plugins", "show", *args])
        assert done.exit_code == 2
        assert message in done.stderr


def test_the_table_on_a_terminal(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It wraps in its columns; what is to be copied stands below it in one line."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    needed = [f"acme_absent_{k}" for k in range(12)]
    path = write_module(site, "acme_wide", NEEDY.format(requires=needed, more=""))
    manager = PluginManager.load([str(path), "no:blip"], environment={})
    commands = {plugin: ["act"] if plugin.name == "schedules" else [] for plugin in manager.plugins}
    plugin_views.print_table(manager.plugins, commands)
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert lines[0].split() == ["plugin", "from", "offers", "status"]
    assert f"acme_wide: needs {', '.join(needed)}: pip install {' '.join(needed).replace('_', '-')}" in lines
    assert "blip: blocked by no:blip" in lines
    for said in ("missing dependency", "blocked", "command: act", "metric: needy", "acme_wide.py"):
        assert said in shown.replace("\n", " ") or said in lines[-1], said


def test_hooks_that_do_not_exist(site: Path) -> None:
    source = "import guidelens\n@guidelens.hookimpl\ndef {hook}(register): ..."
    for hook, message in (
        ("register_shedules", r"there is no such hook \(did you mean 'register_schedules'\?\)"),
        ("zzz", "there is no such hook; the hooks are register_generators, .*, register_commands"),
    ):
        path = write_module(site, f"hook_{hook}", source.format(hook=hook))
        with pytest.raises(Exception, match=f"marks '{hook}' as a hook, and {message}"):
            PluginManager.load([str(path)], environment={})
