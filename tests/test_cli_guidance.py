"""The flags of guidance: every option has one, presets give way to them, and all of it can be repeated."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
import tiny_world
from click.testing import CliRunner, Result
from guidelens.cli.main import cli
from guidelens.cli.options import SectionedCommand, Setup, setup_options
from guidelens.errors import UsageError
from guidelens.sampling import PRESETS, Preset, Sampling
from test_guidance_options import CHANGED, NEEDS

SPELLED = {
    "objective_scales": ("--objective-scale", "near=2.0"),
    "clip_denoised": ("--no-clip-denoised",),
    "clip_after_guidance": ("--clip-after-guidance",),
}


@click.command(cls=SectionedCommand)
@setup_options
@click.pass_context
def probe(ctx: click.Context, setup: Setup) -> None:
    ctx.obj.append(setup)


def ask(*args: str) -> Setup:
    got: list[Setup] = []
    done = CliRunner().invoke(probe, list(args), obj=got)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return got[0]


def spelled(values: dict[str, Any]) -> list[str]:
    words: list[str] = []
    for name, value in values.items():
        words += SPELLED.get(name, (f"--{name.replace('_', '-')}", str(value)))
    return words


def test_every_option_is_a_flag_of_its_name() -> None:
    flags = {flag for parameter in probe.params for flag in parameter.opts}
    for part in fields(Sampling):
        assert (
            SPELLED.get(part.name, (f"--{part.name.replace('_', '-')}",))[0].replace("--no-", "--") in flags
        )


@pytest.mark.parametrize("name", list(CHANGED))
def test_a_flag_sets_its_option_and_no_other(name: str) -> None:
    values = {**NEEDS.get(name, {}), name: CHANGED[name]}
    request = ask(*spelled(values))
    assert request.sampling == Sampling(**values)
    assert ask(*request.arguments()) == request


def test_no_flag_is_the_default() -> None:
    assert ask() == Setup()
    assert Setup().arguments() == []


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_brings_its_options_and_its_sampler(name: str) -> None:
    request = ask("--preset", name)
    assert request.sampling == Sampling.preset(name)
    assert request.arguments() == ["--preset", name]


def test_flags_override_a_preset_even_with_a_default() -> None:
    request = ask(
        "--preset", "freedom", "--recurrence", "1", "--into", "score", "--sampler", "ddim", "--eta", "0.5"
    )
    options = request.sampling
    assert (options.recurrence, options.into, options.normalize) == (1, "score", "noise")
    assert (options.sampler, options.eta) == ("ddim", 0.5)
    assert ask(*request.arguments()) == request
    back = ask("--preset", "universal", "--sampler", "ddpm")
    assert (back.sampling.sampler, back.sampling.eta) == ("ddpm", 0.0)
    assert ask(*back.arguments()) == back


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--start", "0.6", "--stop", "0.4"], "start .* must not exceed stop"),
        (["--augmentations", "3"], "augmentations without a kind"),
    ],
)
def test_values_that_do_not_fit_are_named(args: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ask(*args)


@pytest.mark.parametrize(
    "args",
    [
        ["--preset", "adm"],
        ["--into", "mean"],
        ["--augment", "flip"],
        ["--clip-norm", "-1"],
        ["--augment-strength", "9"],
        ["--range-scale", "inf"],
        ["--every", "0"],
        ["--recurrence", "0"],
        ["--smoothing", "-1"],
        ["--batch-size", "many"],
        ["--batch-size", "-3"],
    ],
)
def test_values_that_click_refuses(args: list[str]) -> None:
    assert CliRunner().invoke(probe, args, obj=[]).exit_code == 2


def test_batch_sizes() -> None:
    assert ask("--batch-size", "auto").batch_size == "auto"
    assert ask("--batch-size", "7").batch_size == 7
    assert ask("--batch-size", "auto").arguments() == ["--batch-size", "auto"]


def test_options_reach_a_run_its_configuration_and_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def guidelens(*arguments: str) -> Result:
        words = ["-p", tiny_world.__file__, "compare", "a circle", "--steps", "3", "--seeds", "2", *arguments]
        return CliRunner().invoke(cli, words, catch_exceptions=False)

    assert guidelens("--out", "plain", "--batch-size", "auto").exit_code == 0
    assert guidelens("--out", "run", "--preset", "dps", "--recurrence", "2").exit_code == 0
    config = json.loads(Path("run", "config.json").read_text(encoding="utf-8"))
    settings = config["settings"]
    assert {name: settings[name] for name in ("into", "normalize", "scale", "recurrence")} == {
        "into": "sample",
        "normalize": "loss",
        "scale": 0.3,
        "recurrence": 2,
    }
    assert "--preset dps" in config["commands"][0]
    assert "--recurrence 2" in config["commands"][0]
    plain = json.loads(Path("plain", "config.json").read_text(encoding="utf-8"))
    assert {name: plain["settings"][name] for name in ("into", "recurrence")} == {
        "into": "score",
        "recurrence": 1,
    }
    assert 1 <= plain["batch_size"] <= 64
    keys = [{path.name for path in Path(run, "samples").iterdir()} for run in ("run", "plain")]
    assert not keys[0] & keys[1]
    refused = guidelens("--out", "run", "--preset", "dps", "--recurrence", "3")
    assert refused.exit_code == 2
    assert "recurrence is 2 there and 3 here" in refused.stderr


def test_an_eta_of_zero_overrides_that_of_a_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "noisy", Preset("no one", {"sampler": "ddim", "eta": 0.5}))
    assert Sampling.preset("noisy").eta == 0.5
    still = Sampling.preset("noisy", eta=0.0)
    assert (still.sampler, still.eta) == ("ddim", 0.0)
    assert Setup(preset="noisy", sampling=still).arguments() == ["--preset", "noisy", "--eta", "0.0"]
    assert Sampling.preset("noisy", sampler="ddpm").eta == 0.0
