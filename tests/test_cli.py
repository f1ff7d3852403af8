"""The command line's frame: plugins before the command, one-line errors, exit codes, listings."""

from __future__ import annotations

import json
import re
import shlex
import sys
from importlib import metadata
from pathlib import Path

import click
import guidelens
import pytest
from click.testing import CliRunner
from guidelens.cli.main import cli, split_plugin_options
from guidelens.cli.options import DTYPES, SectionedCommand, Setup, setup_options
from guidelens.errors import UsageError
from guidelens.plugins import PluginManager
from guidelens.sampling import Sampling
from plugin_worlds import SCHEDULE, run_cli, write_distribution, write_module

COMMANDS = """
    import click
    from guidelens import hookimpl
    from guidelens.errors import GuidelensError, UsageError

    @hookimpl
    def register_commands(cli):
        @cli.command()
        @click.argument("how", default="well")
        def act(how):
            "Do something."
            if how == "expected":
                raise GuidelensError("it went\\n  wrong")
            if how == "usage":
                raise UsageError("say it otherwise")
            if how == "bug":
                raise ZeroDivisionError("a bug")
            if how == "interrupt":
                raise KeyboardInterrupt
            if how == "abort":
                raise click.Abort
            click.echo(f"acted {how}")
"""


@pytest.fixture
def commands(tmp_path: Path) -> str:
    return str(write_module(tmp_path, "acting", COMMANDS))


# -- plugins before the command line


@pytest.mark.parametrize(
    ("args", "rest", "requests"),
    [
        ("-p a run -p b x", "run x", "a b"),
        ("run --plugin a --plugin=b -pc", "run", "a b c"),
        ("run -p no:a", "run", "no:a"),
        ("-p a run -- -p b", "run -- -p b", "a"),
        ("run --traceback --out x", "run --out x", ""),
        ("run --prompts x", "run --prompts x", ""),
    ],
)
def test_plugin_options_stand_anywhere(args: str, rest: str, requests: str) -> None:
    assert split_plugin_options(args.split()) == (rest.split(), requests.split())


def test_plugin_option_needs_a_value() -> None:
    with pytest.raises(UsageError, match="-p needs a value"):
        split_plugin_options(["run", "-p"])


def test_commands_of_a_plugin_run_and_show_in_help(commands: str) -> None:
    for args in (["-p", commands, "act"], ["act", "-p", commands], ["act", f"--plugin={commands}"]):
        done = CliRunner().invoke(cli, args)
        assert (done.exit_code, done.stdout) == (0, "acted well\n")
    shown = CliRunner().invoke(cli, ["--help", "-p", commands]).stdout
    assert re.search(r"Commands of plugins:\n(  .*\n)*  act +Do something\.", shown)
    assert "act" not in CliRunner().invoke(cli, ["--help"]).stdout.split()


def test_components_of_a_plugin_show_in_help(tmp_path: Path) -> None:
    path = str(write_module(tmp_path, "acme_help", SCHEDULE.format(name="acme-flat")))
    for args in (["compare", "--help"], ["generate", "--help"]):
        shown, without = (
            "".join(CliRunner().invoke(cli, words).stdout.split())  # lines may break at a hyphen
            for words in ([*args, "-p", path], args)
        )
        assert re.search(r"Oneof:[^.]*shift,[^.]*acme-flat\.", shown)
        assert "acme-flat" not in without


def test_the_environment_loads_plugins(commands: str) -> None:
    done = CliRunner().invoke(cli, ["act"], env={"GUIDELENS_PLUGINS": commands})
    assert done.stdout == "acted well\n"


def test_a_command_of_two_plugins_needs_its_plugin(tmp_path: Path, commands: str) -> None:
    other = str(write_module(tmp_path, "other", COMMANDS))
    both = ["-p", commands, "-p", other]
    done = CliRunner().invoke(cli, [*both, "act"])
    assert done.exit_code == 2
    assert done.stderr == "error: several plugins offer the command 'act'; write acting/act or other/act\n"
    assert CliRunner().invoke(cli, [*both, "other/act", "x"]).stdout == "acted x\n"


def test_no_plugin_replaces_a_command_of_ours(tmp_path: Path) -> None:
    path = write_module(tmp_path, "greedy", COMMANDS.replace("def act", "def plugins"))
    assert "schedules" in CliRunner().invoke(cli, ["-p", str(path), "plugins", "list"]).stdout
    assert CliRunner().invoke(cli, ["-p", str(path), "greedy/plugins"]).stdout == "acted well\n"


def test_failing_commands_leave_components(tmp_path: Path) -> None:
    source = (
        SCHEDULE.format(name="flat") + "\n    @hookimpl\n    def register_commands(cli):\n        1 / 0\n"
    )
    write_module(tmp_path, "acme_half", source)
    write_distribution(tmp_path, "acme-half", {"half": "acme_half"})
    listed = run_cli("plugins", "list", "--json", path=tmp_path)
    (half,) = [plugin for plugin in json.loads(listed.stdout) if plugin["name"] == "half"]
    assert half["status"] == "broken"
    assert half["message"] == "failed in register_commands: ZeroDivisionError: division by zero"
    assert [component["name"] for component in half["components"]] == ["flat"]
    assert listed.stderr.count("'half'") == 1
    assert run_cli("--help", path=tmp_path).returncode == 0


# -- errors


@pytest.mark.parametrize(
    ("how", "code", "shown"),
    [
        ("expected", 1, "error: it went wrong\n"),
        ("usage", 2, "error: say it otherwise\n"),
        ("abort", 1, "error: aborted\n"),
    ],
)
def test_expected_errors_are_one_line(commands: str, how: str, code: int, shown: str) -> None:
    done = CliRunner().invoke(cli, ["-p", commands, "act", how])
    assert (done.exit_code, done.stdout, done.stderr) == (code, "", shown)


def test_interrupt() -> None:
    @click.command()
    def stop() -> None:
        raise KeyboardInterrupt

    class Plugin:
        @guidelens.hookimpl
        def register_commands(self, cli: click.Group) -> None:
            cli.add_command(stop)

    with pytest.MonkeyPatch.context() as patch:
        real = PluginManager.load
        patch.setattr(PluginManager, "load", lambda requests=(): real([*requests, Plugin()], environment={}))
        done = CliRunner().invoke(cli, ["stop"])
    assert done.exit_code == 130
    assert done.stderr.strip() == "error: interrupted"


def test_bugs_keep_their_traceback(commands: str) -> None:
    done = run_cli("-p", commands, "act", "bug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError: a bug" in done.stderr


def test_traceback_on_request(commands: str) -> None:
    for args, env in ((["--traceback"], {}), ([], {"GUIDELENS_TRACEBACK": "1"})):
        done = CliRunner().invoke(cli, ["-p", commands, "act", "expected", *args], env=env)
        assert done.exit_code == 1
        assert "Traceback" in done.stderr
        assert done.stderr.endswith("error: it went wrong\n")
    done = CliRunner().invoke(cli, ["-p", commands, "act", "expected"], env={"GUIDELENS_TRACEBACK": "0"})
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["plugin"],
            "unknown command 'plugin' (did you mean 'plugins'?); known: compare, generate, ",
        ),
        (["--bad"], "No such option '--bad'. (see `guidelens --help`)"),
        (["plugins", "show"], "Missing argument 'NAME'. (see `guidelens plugins show --help`)"),
        (["plugins", "show", "shedules"], "no plugin or component 'shedules' (did you mean 'schedules'?)"),
        (["-p", "shedules", "plugins", "list"], "no plugin 'shedules' (did you mean 'schedules'?)"),
        (["plugins", "list", "-p"], "-p needs a value"),
    ],
)
def test_usage_errors(args: list[str], message: str) -> None:
    done = CliRunner().invoke(cli, args, prog_name="guidelens")
    assert done.exit_code == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"error: {message}")
    assert "Usage:" not in done.stderr


def test_a_broken_plugin_on_the_command_line(tmp_path: Path) -> None:
    write_module(tmp_path, "acme_broken", "raise RuntimeError('on\\nimport')")
    write_distribution(tmp_path, "acme-broken", {"acme": "acme_broken"})
    done = run_cli("plugins", "show", "schedules", path=tmp_path)
    assert done.returncode == 0
    lines = [line for line in done.stderr.splitlines() if "acme" in line]
    assert len(lines) == 1
    assert lines[0].startswith(
        "warning: plugin 'acme' (acme-broken 1.5) failed to load: RuntimeError: on import;"
    )
    asked = run_cli("-p", "acme", "plugins", "list", path=tmp_path)
    assert asked.returncode == 1
    assert asked.stderr == "error: plugin 'acme' (acme-broken 1.5) failed to load: RuntimeError: on import\n"
    told = run_cli("plugins", "list", "-v", path=tmp_path)
    assert "    failed to load: RuntimeError: on import\n" in told.stdout
    assert "raise RuntimeError('on\\nimport')" in told.stdout


def test_the_working_directory_is_not_searched(tmp_path: Path) -> None:
    for name in ("json", "click", "guidelens_blip", "lurking"):
        write_module(tmp_path, name, "raise RuntimeError('imported from the working directory')")
    write_distribution(tmp_path, "lurking", {"lurking": "lurking"})
    done = run_cli("plugins", "list", cwd=tmp_path)
    assert done.returncode == 0
    assert "lurking" not in done.stdout + done.stderr
    missing = run_cli("-p", "lurking", "plugins", "list", cwd=tmp_path)
    assert missing.returncode == 2
    assert "write -p lurking.py" in missing.stderr


# -- what is shown


def test_version() -> None:
    """For scripts in the first line, for bug reports in the second; torch need not load for it."""
    first, second = CliRunner().invoke(cli, ["--version"]).stdout.splitlines()
    assert first == f"guidelens {guidelens.__version__}"
    assert f"Python {sys.version.split()[0]}, torch {metadata.version('torch')}, " in second
    assert "`guidelens doctor`" in second


@pytest.mark.parametrize("args", [[], ["study"], ["plugins"]])
def test_without_a_command_help_is_shown_in_lines(args: list[str]) -> None:
    """On stderr or stdout, as the version of click has it, and not as an error."""
    shown = CliRunner().invoke(cli, args).output.splitlines()
    assert shown[0].startswith("Usage: ")
    assert "Commands:" in shown


def test_help_is_grouped_and_its_examples_parse() -> None:
    shown = CliRunner().invoke(cli, ["-h"]).stdout
    for name in ("compare", "generate", "plugins"):
        assert re.search(rf"^  {name} ", shown, flags=re.MULTILINE)
    examples = re.findall(r"^    guidelens (.+)$", shown, flags=re.MULTILINE)
    assert len(examples) >= 3
    context = click.Context(cli, obj=PluginManager.load(environment={}))
    for example in examples:
        name, *args = split_plugin_options(shlex.split(example))[0]
        command = cli.get_command(context, name)
        assert command is not None
        command.make_context(name, args, parent=context)  # parses, and does not run


def test_plugins_list_json(tmp_path: Path) -> None:
    write_module(tmp_path, "acme_json", "import acme_json_needs")
    write_distribution(
        tmp_path, "acme-json", {"needy": "acme_json"}, requires=("acme-json-needs>=3 ; extra == 'x'",)
    )
    done = run_cli("plugins", "list", "--json", "-p", "no:blip", path=tmp_path)
    listed = {plugin["name"]: plugin for plugin in json.loads(done.stdout)}
    assert listed["needy"]["status"] == "missing dependency"
    assert listed["needy"]["message"] == "needs the module 'acme_json_needs': pip install \"acme-json[x]\""
    assert listed["blip"]["status"] == "blocked"
    schedules = listed["schedules"]
    assert (schedules["distribution"], schedules["version"]) == ("guidelens", guidelens.__version__)
    assert schedules["origin"] == "guidelens_schedules.plugin"
    assert schedules["hooks"] == ["register_schedules"]
    assert (schedules["found"], schedules["commands"]) == ("entry point", [])
    (shift,) = [component for component in schedules["components"] if component["name"] == "shift"]
    assert shift == {
        "kind": "schedule",
        "name": "shift",
        "summary": "linear change from one objective to another; default: from cap to itc",
        "default": False,
        "requires": [],
        "missing": [],
        "options": [
            {
                "name": "start",
                "type": "text",
                "required": False,
                "default": "cap",
                "help": "the objective at t = 0.",
            },
            {
                "name": "end",
                "type": "text",
                "required": False,
                "default": "itc",
                "help": "the objective at t = 1.",
            },
        ],
    }


def test_plugins_list_and_show() -> None:
    listed = CliRunner().invoke(cli, ["plugins", "list"]).stdout
    assert re.search(
        r"^schedules +guidelens [\d.]+ +ok +entry point +guidelens_schedules\.plugin$",
        listed,
        flags=re.MULTILINE,
    )
    assert "    schedules: none, itc, itm, cap, objective, shift, blend, curve\n" in listed
    shown = CliRunner().invoke(cli, ["plugins", "show", "schedules"]).stdout
    assert re.search(r"^  start=text +default: cap$", shown, flags=re.MULTILINE)
    assert re.search(r"^  name=text +needed$", shown, flags=re.MULTILINE)
    assert re.search(r"^  NAME=float +for any NAME$", shown, flags=re.MULTILINE)
    one = json.loads(CliRunner().invoke(cli, ["plugins", "show", "schedules", "--json"]).stdout)
    assert one["name"] == "schedules"


def test_pipes_get_no_colour() -> None:
    done = CliRunner().invoke(cli, ["plugins", "list"], env={"FORCE_COLOR": "", "CLICOLOR_FORCE": ""})
    assert "\x1b" not in done.stdout + done.stderr


# -- shared options


@click.command(cls=SectionedCommand)
@click.argument("word")
@setup_options
def probe(word: str, setup: Setup) -> None:
    click.echo(f"{word} {setup!r}")


def ask(*args: str) -> str:
    done = CliRunner().invoke(probe, ["w", *args])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_options_arrive_as_one_setup() -> None:
    assert ask() == f"w {Setup()!r}\n"
    sampling = Sampling(
        steps=7,
        sampler="ddim",
        eta=0.5,
        scale=-2.5,
        objective_scales={"itc": 1.5, "cap": 0.0},
        through="x0",
        see="blend",
        dtype="bfloat16",
    )
    wanted = Setup(generator="a:b=1", guidance="c", sampling=sampling, device="cpu", batch_size=3)
    assert ask(*wanted.arguments()) == f"w {wanted!r}\n"
    assert wanted.arguments()[:4] == ["--generator", "a:b=1", "--guidance", "c"]
    assert Setup().arguments() == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--objective-scale", "itc"], "write NAME=NUMBER"),
        (["--objective-scale", "=1"], "write NAME=NUMBER"),
        (["--objective-scale", "itc=inf"], "objective_scales must be finite numbers"),
        (["--objective-scale", "itc=1", "--objective-scale", "itc=2"], "names 'itc' twice"),
    ],
)
def test_bad_numbers(args: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ask(*args)


@pytest.mark.parametrize(
    "args",
    [["--steps", "0"], ["--scale", "nan"], ["--batch-size", "0"], ["--eta", "1.5"], ["--sampler", "euler"]],
)
def test_values_out_of_range(args: list[str]) -> None:
    assert CliRunner().invoke(probe, ["w", *args]).exit_code == 2


def test_sections_in_help() -> None:
    titles = re.findall(r"^(\w+):$", ask("--help"), flags=re.MULTILINE)
    assert titles == ["Models", "Sampling", "Guidance", "Computing", "Options"]


def test_the_dtypes_and_samplers_offered_are_those_there_are() -> None:
    from guidelens.networks import DTYPES as KNOWN

    assert set(DTYPES) == {str(dtype).removeprefix("torch.") for dtype in KNOWN.values()}
