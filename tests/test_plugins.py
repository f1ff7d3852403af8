"""The plugin manager: finding, loading, choosing, and every way in which a plugin can be at fault."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

import guidelens
import pytest
from guidelens import PluginManager, UsageError
from guidelens.contracts import CONTRACT_VERSION
from guidelens.hookspecs import Register, RegisterReportSections, hookimpl
from guidelens.plugins.manager import PluginError
from plugin_worlds import SCHEDULE, write_distribution, write_module

NO_ENV: dict[str, str] = {}
BLOCK_BUILT_IN = [
    f"no:{point.name}"
    for point in metadata.entry_points(group="guidelens")
    if point.dist is not None and point.dist.name == "guidelens"
]


class Flat:
    def weights(self, progress: float) -> dict[str, float]:
        return {"itc": 1.0}


class Offers:
    """A plugin that is an object: offers what it is told to."""

    def __init__(self, name: str, *, default: bool = False, **offers: list[str]) -> None:
        self.__name__ = name
        self._offers, self._default = offers, default

    def _register(self, kind: str, register: Register) -> None:
        for position, name in enumerate(self._offers.get(kind, [])):
            register(name, Flat, summary=f"{name} of {self.__name__}", default=self._default and not position)

    @hookimpl
    def register_generators(self, register: Register) -> None:
        self._register("generators", register)

    @hookimpl
    def register_schedules(self, register: Register) -> None:
        self._register("schedules", register)

    @hookimpl
    def register_metrics(self, register: Register) -> None:
        self._register("metrics", register)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the search path; modules imported from it are forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def bare(*plugins: object) -> PluginManager:
    """Load ``plugins`` without the built-in ones."""
    return PluginManager.load([*BLOCK_BUILT_IN, *plugins], environment=NO_ENV)


def status(manager: PluginManager, name: str) -> tuple[str, str]:
    (plugin,) = [plugin for plugin in manager.plugins if plugin.name == name]
    return plugin.status, plugin.message


# -- finding


def test_the_built_in_plugins_come_through_entry_points() -> None:
    found = {p.name: p.source.dist for p in PluginManager.load(environment=NO_ENV).plugins}
    assert {"blip", "guided-diffusion", "schedules", "shapes"} <= found.keys()
    assert found["schedules"] == "guidelens"


def test_an_installed_distribution_is_found(site: Path) -> None:
    write_module(site, "acme_lens", SCHEDULE.format(name="flat"))
    write_distribution(site, "acme-lens", {"acme": "acme_lens"})
    manager = PluginManager.load(environment=NO_ENV)
    assert manager.resolve("schedule", "flat").build().weights(0.5) == {"itc": 1.0}
    info = manager.resolve("schedule", "acme-lens/flat").info
    assert (info.plugin, info.dist) == ("acme", "acme-lens")
    assert manager.versions()["acme"].startswith("acme-lens 1.5, sha256 ")


def test_a_class_and_an_object_are_plugins_too(site: Path) -> None:
    source = """
    from guidelens import hookimpl

    class Flat:
        def weights(self, progress):
            return {"itc": 1.0}

    class Plugin:
        @hookimpl
        def register_schedules(self, register):
            register("flat", Flat, summary="flat")

    instance = Plugin()
    """
    write_module(site, "acme_classes", source)
    for attribute in ("Plugin", "instance"):
        folder = site / attribute
        folder.mkdir()
        sys.path.insert(0, str(folder))
        try:
            write_distribution(folder, f"acme-{attribute}", {"acme": f"acme_classes:{attribute}"})
            assert PluginManager.load(environment=NO_ENV).resolve("schedule", "flat").spec == "flat"
        finally:
            sys.path.remove(str(folder))


def test_a_module_by_name(site: Path) -> None:
    write_module(site, "acme_module", SCHEDULE.format(name="flat"))
    manager = bare("acme_module")
    assert manager.resolve("schedule").spec == "flat"
    assert status(manager, "acme_module") == ("ok", "")


def test_a_file_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(tmp_path, "json", SCHEDULE.format(name="flat"))  # a name that is taken
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    import json

    manager = bare("json.py")
    assert manager.resolve("schedule", "json/flat").build().weights(0) == {"itc": 1.0}
    assert sys.path == before
    assert sys.modules["json"] is json
    assert bare(str(tmp_path / "json.py")).resolve("schedule").spec == "flat"


def test_two_files_of_one_name(tmp_path: Path) -> None:
    for folder, schedule in (("a", "one"), ("b", "two")):
        (tmp_path / folder).mkdir()
        write_module(tmp_path / folder, "mine", SCHEDULE.format(name=schedule))
    manager = bare(str(tmp_path / "a/mine.py"), str(tmp_path / "b/mine.py"))
    assert [info.name for info in manager.components("schedule")] == ["one", "two"]
    assert len({plugin.name for plugin in manager.plugins}) == len(manager.plugins)


def test_nothing_is_imported_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_module(tmp_path, "lurking", "raise RuntimeError('imported')")
    monkeypatch.chdir(tmp_path)
    PluginManager.load(environment=NO_ENV)
    with pytest.raises(UsageError, match=r"for the file write -p lurking\.py"):
        PluginManager.load(["lurking"], environment=NO_ENV)


def test_a_plugin_asked_for_in_two_ways_is_loaded_once(site: Path) -> None:
    path = write_module(site, "acme_twice", SCHEDULE.format(name="flat"))
    write_distribution(site, "acme-twice", {"acme": "acme_twice"})
    for spellings in (["acme", "acme_twice"], ["acme_twice", str(path)], ["acme-twice/acme"]):
        manager = PluginManager.load(spellings, environment=NO_ENV)
        assert manager.resolve("schedule", "flat").spec == "flat"
        assert manager.resolve("schedule").spec == "flat", spellings


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ("shedules", r"no plugin 'shedules' \(did you mean 'schedules'\?\)"),
        ("no.such.module", "no plugin 'no.such.module'; installed: .*schedules"),
        ("json.nothing_here", "no plugin 'json.nothing_here'"),
        ("./nothing.py", "no plugin file './nothing.py'"),
        ("/etc/hostname.txt", "should end in .py"),
        ("two words", "no plugin 'two words'"),
    ],
)
def test_what_names_no_plugin(request_: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PluginManager.load([request_], environment=NO_ENV)


# -- blocking and the environment


def test_a_blocked_plugin_is_not_imported(site: Path) -> None:
    write_module(site, "acme_blocked", "raise RuntimeError('imported')")
    write_distribution(site, "acme-blocked", {"acme": "acme_blocked"})
    for name in ("acme", "acme_blocked", "acme-blocked/acme"):
        manager = PluginManager.load([f"no:{name}"], environment=NO_ENV)
        assert status(manager, "acme") == ("blocked", f"blocked by no:{name}")
    assert "acme_blocked" not in sys.modules


def test_a_component_of_a_blocked_plugin_says_so() -> None:
    manager = PluginManager.load(["no:schedules"], environment=NO_ENV)
    with pytest.raises(UsageError, match=r"unknown schedule 'shift'.*blocked: schedules"):
        manager.resolve("schedule", "shift")


def test_the_last_request_decides() -> None:
    manager = PluginManager.load(["schedules"], environment={"GUIDELENS_PLUGINS": "no:schedules"})
    assert status(manager, "schedules")[0] == "ok"
    manager = PluginManager.load(["no:schedules"], environment={"GUIDELENS_PLUGINS": "schedules"})
    assert status(manager, "schedules")[0] == "blocked"


def test_the_environment_lists_plugins(site: Path) -> None:
    write_module(site, "acme_env", SCHEDULE.format(name="flat"))
    manager = PluginManager.load(environment={"GUIDELENS_PLUGINS": " acme_env , no:blip,"})
    assert manager.resolve("schedule").spec == "flat"
    assert status(manager, "blip")[0] == "blocked"


def test_blocking_nothing_is_told(caplog: pytest.LogCaptureFixture) -> None:
    PluginManager.load(["no:shedules"], environment=NO_ENV)
    assert "no:shedules blocks nothing" in caplog.text
    assert "did you mean 'schedules'?" in caplog.text


# -- faults

FAULTS = {
    "import": (
        "import acme_missing_module_x",
        "missing dependency",
        "needs the module 'acme_missing_module_x'",
    ),
    "syntax": ("def (:", "broken", "failed to load: SyntaxError"),
    "exit": ("raise SystemExit(3)", "broken", "failed to load: SystemExit: 3"),
    "raise": ("raise ValueError('two\\nlines')", "broken", "failed to load: ValueError: two lines"),
    "no hook": ("x = 1", "broken", "implements no hook"),
    "misspelt": (
        "import guidelens\n@guidelens.hookimpl\ndef register_shedules(register): ...",
        "broken",
        "marks 'register_shedules' as a hook, and there is no such hook (did you mean 'register_schedules'?)",
    ),
    "argument": (
        "import guidelens\n@guidelens.hookimpl\ndef register_schedules(registrar): ...",
        "broken",
        "has an invalid hook: PluginValidationError",
    ),
    "hook raises": (
        "import guidelens\n@guidelens.hookimpl\ndef register_schedules(register):\n"
        "    register('ghost', dict, summary='s')\n    raise RuntimeError('late')",
        "broken",
        "failed in register_schedules: RuntimeError: late",
    ),
    "bad name": (
        "import guidelens\n@guidelens.hookimpl\ndef register_schedules(register):\n"
        "    register('No Good', dict, summary='s')",
        "broken",
        "schedule name 'No Good': use lower-case letters",
    ),
    "twice": (
        "import guidelens\n@guidelens.hookimpl\ndef register_schedules(register):\n"
        "    register('a', dict, summary='s')\n    register('a', dict, summary='s')",
        "broken",
        "schedule 'a' is registered twice",
    ),
    "requires text": (
        "import guidelens\n@guidelens.hookimpl\ndef register_schedules(register):\n"
        "    register('a', dict, summary='s', requires='torch')",
        "broken",
        "requires must be a sequence",
    ),
    "no factory": (
        "import guidelens\n@guidelens.hookimpl\ndef register_schedules(register):\n"
        "    register('a', 3, summary='s')",
        "broken",
        "the factory of schedule 'a' is a int",
    ),
    "newer contract": (
        f"guidelens_contract = {CONTRACT_VERSION + 1}",
        "broken",
        f"is written for contract version {CONTRACT_VERSION + 1}, not {CONTRACT_VERSION}: upgrade guidelens",
    ),
    "older contract": ("guidelens_contract = 0", "broken", "upgrade the plugin"),
    "odd contract": ("guidelens_contract = '1.x'", "broken", "declares guidelens_contract = '1.x'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_plugin(fault: str, site: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It leaves everything else working, is named once in one line, and is an error for who asks for it."""
    source, expected_status, message = FAULTS[fault]
    module = f"acme_{fault.replace(' ', '_')}"
    (site / f"{module}.py").write_text(source)
    write_distribution(site, "acme-faulty", {"faulty": module})

    with caplog.at_level(logging.WARNING):
        manager = PluginManager.load(environment=NO_ENV)
    assert manager.resolve("schedule", "shift").build().weights(1.0)["itc"] == 1.0
    assert status(manager, "faulty")[0] == expected_status
    assert message in status(manager, "faulty")[1]
    lines = [record.getMessage() for record in caplog.records if "'faulty'" in record.getMessage()]
    assert len(lines) == 1
    assert "plugin 'faulty' (acme-faulty 1.5)" in lines[0]
    assert "\n" not in lines[0]
    for spelling in ("faulty", module, str(site / f"{module}.py")):
        sys.modules.pop(module, None)
        with pytest.raises(PluginError) as caught:
            PluginManager.load([spelling], environment=NO_ENV)
        assert message in str(caught.value)
        assert not isinstance(caught.value, UsageError)


def test_a_component_of_a_broken_plugin_fails_with_its_cause(site: Path) -> None:
    (site / "acme_late.py").write_text(FAULTS["hook raises"][0])
    write_distribution(site, "acme-late", {"late": "acme_late"})
    manager = PluginManager.load(environment=NO_ENV)
    for spelling in ("ghost", "late/anything", "late"):
        with pytest.raises(PluginError, match=r"plugin 'late' .* RuntimeError: late") as caught:
            manager.resolve("schedule", spelling)
        assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(UsageError, match=r"not usable: .*late"):
        manager.resolve("schedule", "something-else")


def test_the_contract_of_today_is_accepted(site: Path) -> None:
    write_module(site, "acme_contract", SCHEDULE.format(name="flat"))
    with (site / "acme_contract.py").open("a") as file:
        file.write(f"\nguidelens_contract = {CONTRACT_VERSION}\n")
    assert bare("acme_contract").resolve("schedule").spec == "flat"


def test_optional_hooks_may_be_unknown() -> None:
    class Future(Offers):
        @hookimpl(optionalhook=True)
        def register_dreams(self, register: Register) -> None: ...

    assert bare(Future("future", schedules=["a"])).resolve("schedule").spec == "a"


def test_missing_requirements_are_told_before_use() -> None:
    class Needy:
        @hookimpl
        def register_schedules(self, register: Register) -> None:
            register("needy", Flat, summary="s", requires=["acme_absent"])
            register("free", Flat, summary="s")

    manager = bare(Needy())
    assert status(manager, "Needy") == ("missing dependency", "needs acme_absent: pip install acme-absent")
    assert manager.build("schedule", "free")
    with pytest.raises(guidelens.GuidelensError, match="pip install acme-absent"):
        manager.build("schedule", "needy")


def test_an_object_whose_hook_raises_was_asked_for() -> None:
    class Bad(Offers):
        @hookimpl
        def register_generators(self, register: Register) -> None:
            raise RuntimeError("no")

    with pytest.raises(PluginError, match="'bad' failed in register_generators: RuntimeError: no"):
        bare(Offers("one", generators=["a"]), Bad("bad"))


# -- choosing


def test_two_plugins_with_one_name(site: Path) -> None:
    for dist in ("acme-one", "acme-two"):
        module = dist.replace("-", "_")
        write_module(site, module, SCHEDULE.format(name="shift"))
        write_distribution(site, dist, {module: module})
    manager = PluginManager.load(environment=NO_ENV)
    with pytest.raises(UsageError, match="several plugins offer the schedule 'shift'") as caught:
        manager.resolve("schedule", "shift")
    for owner in ("acme_one (acme-one)", "acme_two (acme-two)", "schedules/shift"):
        assert owner in str(caught.value)
    assert manager.resolve("schedule", "acme_one/shift").info.dist == "acme-one"
    assert manager.resolve("schedule", "Acme_Two/shift").info.dist == "acme-two"
    ours = manager.resolve("schedule", "schedules/shift:start=itm")
    assert ours.spec == "schedules/shift:start=itm"
    assert manager.resolve("schedule", ours.spec).options == ours.options
    assert manager.resolve("schedule", "itc").spec == "itc"


def test_two_distributions_with_one_plugin_name(site: Path) -> None:
    for dist in ("acme-left", "acme-right"):
        module = dist.replace("-", "_")
        write_module(site, module, SCHEDULE.format(name="flat"))
        write_distribution(site, dist, {"same": module})
    with pytest.raises(
        UsageError, match="several distributions register a plugin 'same'; say acme-left/same or"
    ):
        PluginManager.load(["same"], environment=NO_ENV)
    manager = PluginManager.load(["acme-right/same"], environment=NO_ENV)
    assert manager.resolve("schedule").info.dist == "acme-right"
    with pytest.raises(UsageError, match="say acme-left/flat or acme-right/flat"):
        manager.resolve("schedule", "same/flat")
    with pytest.raises(UsageError, match="several plugins offer"):
        manager.resolve("schedule", "flat")


def test_unknown_component_names_the_nearest() -> None:
    manager = PluginManager.load(environment=NO_ENV)
    with pytest.raises(
        UsageError, match=r"unknown schedule 'shfit' \(did you mean 'shift'\?\); choose .*blend"
    ):
        manager.resolve("schedule", "shfit:start=itc")
    with pytest.raises(UsageError, match="no plugin offers a generator"):
        bare().resolve("generator", "x")


def test_defaults() -> None:
    marked = Offers("marked", default=True, generators=["m", "n"])
    one = Offers("one", generators=["a"])
    two = Offers("two", generators=["b", "c"])
    three = Offers("three", generators=["d"])
    assert bare(marked).resolve("generator").spec == "m"
    assert bare(one).resolve("generator").spec == "a"
    with pytest.raises(UsageError, match="no single generator to use; choose with --generator: b, c"):
        bare(two).resolve("generator")
    with pytest.raises(UsageError, match="choose with --generator: a, d"):
        bare(one, three).resolve("generator")
    with pytest.raises(UsageError, match=r"no plugin offers a generator; blocked: .*shapes"):
        bare().resolve("generator")


def test_what_a_requested_plugin_alone_offers_comes_before_the_default(site: Path) -> None:
    source = """
    from guidelens import hookimpl

    @hookimpl
    def register_generators(register):
        for name in {names!r}:
            register(name, dict, summary="s", default={default})
    """
    for module, names, default in (
        ("acme_std", ["std"], True),
        ("acme_one", ["mine"], False),
        ("acme_b", "xy", False),
    ):
        write_module(site, module, source.format(names=list(names), default=default))
    write_distribution(site, "acme-many", {"std": "acme_std", "one": "acme_one", "two": "acme_b"})

    def default(*requests: str) -> str:
        return PluginManager.load([*BLOCK_BUILT_IN, *requests], environment=NO_ENV).resolve("generator").spec

    assert default() == "std"
    assert default("one") == "mine"
    assert default("two") == "std"  # it offers two, so neither is meant
    with pytest.raises(UsageError, match="choose with --generator: mine, std"):
        default("one", "std")


def test_the_default_beside_a_generator_is_its_namesake(site: Path) -> None:
    manager = PluginManager.load(environment=NO_ENV)
    for name, expected in (("shapes", "shapes"), ("things", "things"), ("pixels", "shapes")):
        generator = manager.resolve("generator", name)
        for kind in ("guidance", "prompts"):
            assert manager.resolve(kind, beside=generator).spec == expected
    assert manager.resolve("guidance", "shapes", beside=generator).spec == "shapes"
    source = """
    from guidelens import hookimpl

    @hookimpl
    def register_guidance_models(register):
        register("mine", dict, summary="s")
    """
    manager = PluginManager.load([str(write_module(site, "mine", source))], environment=NO_ENV)
    assert manager.resolve("guidance", beside=manager.resolve("generator", "things")).spec == "mine"


def test_two_defaults_are_no_default() -> None:
    with pytest.raises(UsageError, match="choose with --generator: a, b"):
        bare(
            Offers("x", default=True, generators=["a"]), Offers("y", default=True, generators=["b"])
        ).resolve("generator")


def test_companions_are_of_the_same_plugin() -> None:
    manager = bare(Offers("one", generators=["a"], metrics=["m", "n"]), Offers("two", metrics=["o"]))
    chosen = manager.resolve("generator", "a")
    assert [info.name for info in manager.companions(chosen, "metric")] == ["m", "n"]
    assert manager.companions(chosen, "schedule") == ()


def test_plugin_by_name() -> None:
    manager = PluginManager.load(environment=NO_ENV)
    assert manager.plugin("guidelens/schedules").name == "schedules"
    assert manager.plugin("guidelens_schedules.plugin").name == "schedules"
    with pytest.raises(UsageError, match="did you mean 'schedules'"):
        manager.plugin("schedule")
    with pytest.raises(UsageError, match="'json' is not loaded; add -p json"):
        manager.plugin("json")


def test_a_module_object_is_a_plugin() -> None:
    module = ModuleType("handmade")
    module.register_schedules = Offers("x", schedules=["a"]).register_schedules  # type: ignore[attr-defined]
    assert bare(module).resolve("schedule").info.plugin == "handmade"
    with pytest.raises(PluginError, match="implements no hook"):
        bare(SimpleNamespace())


class Reporting:
    """A plugin with a report section of a given name."""

    def __init__(self, name: str) -> None:
        self._name = name

    @hookimpl
    def register_report_sections(self, register: RegisterReportSections) -> None:
        register(self._name, lambda study: [], title="Mine")


def test_report_sections_have_names_of_their_own() -> None:
    found = PluginManager.load([Reporting("acme")]).report_sections()
    assert [(s.name, s.title) for s in found if s.name == "acme"] == [("acme", "Mine")]
    twice = PluginManager.load([Reporting("acme"), Reporting("acme")])
    with pytest.raises(PluginError, match="report section 'acme' is offered by plugin"):
        twice.report_sections()
    shouting = PluginManager.load([Reporting("A B")])
    with pytest.raises(PluginError, match="report section name 'A B': use lower-case"):
        shouting.report_sections()
