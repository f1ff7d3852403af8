"""From a study to its cells: keys shared with comparisons and between grids, pairs, exclusions, perturbations."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_world
from guidelens.comparison import compare
from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.plugins import PluginManager
from guidelens.runs.notes import Note
from guidelens.sampling import Sampling
from guidelens.studies.expand import Expansion, _Expander, expand, pair_id
from guidelens.studies.file import parse_study
from guidelens.studies.run import plugin_component_cache
from study_worlds import drop_letters

Expand = Callable[..., Expansion]
BASE = 'schedules = ["only-itc", "turn"]\nprompts = ["a dot", "rain"]\nseeds = 2\ndevice = "cpu"\n'


@pytest.fixture(scope="module")
def plugins() -> PluginManager:
    return PluginManager.load([tiny_world.__file__], environment={})


@pytest.fixture
def expanded(plugins: PluginManager, tmp_path: Path) -> Expand:
    def expanded(text: str, **extra: Any) -> Expansion:
        study = parse_study(text, label="s.toml", base=tmp_path)
        return expand(study, plugins, plugin_component_cache(plugins, study.device), **extra)

    return expanded


def column(expansion: Expansion, name: str, **conditions: Any) -> list[Any]:
    return [m[name] for m in expansion.members if all(m[k] == v for k, v in conditions.items())]


def test_the_order_is_that_of_the_file(expanded: Expand) -> None:
    members = expanded(BASE + "steps = [3, 2]").members
    seen = [(m["steps"], m["prompt"], m["schedule"], m["seed"]) for m in members]
    assert len(seen) == 16
    assert seen[:5] == [
        (3, "a dot", "only-itc", 0),
        (3, "a dot", "only-itc", 1),
        (3, "a dot", "turn", 0),
        (3, "a dot", "turn", 1),
        (3, "rain", "only-itc", 0),
    ]
    assert expanded(BASE + "steps = [3, 2]").members == members


def test_keys_are_those_of_a_comparison(expanded: Expand, plugins: PluginManager, tmp_path: Path) -> None:
    text = BASE + 'steps = 3\nscales = 0.5\nsamplers = "ddim"\neta = 0.3\noptions = { through = "x0" }\n'
    study = expanded(text + "objective_scales = { cap = 2 }\nguidance = 'tiny-vl'")
    rows = compare(
        ["a dot", "rain"],
        sampling=Sampling(
            steps=3, sampler="ddim", eta=0.3, scale=0.5, objective_scales={"cap": 2.0}, through="x0"
        ),
        out=tmp_path / "out",
        schedules=["only-itc", "turn"],
        seeds=2,
        guidance="tiny-vl",
        plugins=plugins,
        device="cpu",
    ).rows
    assert column(study, "key") == [row["key"] for row in rows]


def test_what_grids_share_is_one_cell(expanded: Expand) -> None:
    text = (
        BASE + 'guidance = "tiny-vl"\n[[grid]]\nname = "a"\nsteps = [2, 3]\n[[grid]]\nname = "b"\nsteps = 3\n'
    )
    study = expanded(text + "options = { every = [1, 2] }")
    assert study.sizes() == {"a": 16, "b": 16}
    assert len(study.prompts) == 24
    assert sum(len(group.cells) for group in study.groups) == 24
    assert set(column(study, "key", grid="a", steps=3)) == {
        m["key"] for m in study.members if m["grid"] == "b" and m["options"] == {"every": 1}
    }


def test_a_pair_is_a_clean_prompt_and_a_seed(expanded: Expand) -> None:
    study = expanded(BASE + 'steps = 2\nperturbations = ["typo:edits=1"]', perturb=drop_letters)
    texts = dict(zip(column(study, "prompt"), column(study, "clean"), strict=True))
    assert texts == {"a dot": "a dot", "a do": "a dot", "rain": "rain"}  # rain stays as it is: no second cell
    for member in study.members:
        assert member["pair"] == pair_id(member["clean"], member["seed"])
        clean = member["prompt"] == member["clean"]
        assert (member["perturbation"], member["edits"]) == (("none", 0) if clean else ("typo:edits=1", 1))
        assert member["reference"] == (None if clean else "a dot")
    assert len(set(column(study, "pair"))) == 4


def test_a_perturbed_prompt_is_scored_against_the_target_of_the_clean_one(expanded: Expand) -> None:
    text = (
        'prompts = { text = "a dto", reference = "a dot", category = "c" }\nschedules = "turn"\nseeds = 1\n'
    )
    study = expanded(text + 'steps = 2\nperturbations = ["none", "typo:edits=2"]', perturb=drop_letters)
    assert list(study.prompts.values()) == [Prompt("a dto", "c", "a dot"), Prompt("a d", "c", "a dot")]
    assert column(study, "pair") == [pair_id("a dot", 0)] * 2


def test_exclusions(expanded: Expand, caplog: pytest.LogCaptureFixture) -> None:
    rules = """
        [[exclude]]
        schedule = "turn"
        steps = [2, 5]
        [[exclude]]
        through = "x0"
        seed = 1
        [[exclude]]
        schedule = "only-itc"
        through = "unet"
        prompt = "nowhere"
    """
    study = expanded(BASE + 'steps = [2, 3]\noptions = { through = ["unet", "x0"] }\n' + rules)
    kept = {(m["schedule"], m["steps"], m["options"]["through"], m["seed"]) for m in study.members}
    everything = {
        (schedule, steps, through, seed)
        for schedule in ("only-itc", "turn")
        for steps in (2, 3)
        for through in ("unet", "x0")
        for seed in (0, 1)
    }
    assert kept == {
        c for c in everything if not (c[0] == "turn" and c[1] == 2) and not (c[2] == "x0" and c[3] == 1)
    }
    assert "line 14: this [[exclude]] excludes nothing" in caplog.text


def test_options_at_their_default_can_be_excluded(expanded: Expand) -> None:
    with pytest.raises(UsageError, match="the grid 'main' has no cells left after exclusions"):
        expanded(BASE + 'steps = 2\n[[exclude]]\nthrough = "unet"')


def test_presets_bring_their_options_scale_and_sampler(expanded: Expand) -> None:
    study = expanded(BASE + 'steps = 2\npresets = ["none", "freedom", "mpgd"]')
    shown = {(m["preset"], m["sampler"], m["scale"]) for m in study.members}
    presets = {name: Sampling.preset(name) for name in ("freedom", "mpgd")}
    own = {(name, sampling.sampler, sampling.scale) for name, sampling in presets.items()}
    assert shown == {("none", "ddpm", 1.0), *own}
    assert {s.sampling.recurrence for s in study.settings.values()} == {1, 10}
    changed = expanded(
        BASE + 'steps = 2\npresets = "freedom"\nscales = 3\nsamplers = "ddim"\noptions = { recurrence = 2 }'
    )
    (settings,) = changed.settings.values()
    sampling = settings.sampling
    assert (sampling.sampler, sampling.scale, sampling.recurrence) == ("ddim", 3.0, 2)


def test_a_matched_dose_is_the_plain_one_at_its_reference(expanded: Expand) -> None:
    study = expanded(BASE + 'steps = [2, 4]\noptions = { dose = ["plain", "matched"], dose_steps = 4 }')
    keys = {
        (m["steps"], m["options"]["dose"]): m["key"]
        for m in study.members
        if (m["prompt"], m["schedule"], m["seed"]) == ("rain", "turn", 0)
    }
    assert keys[4, "plain"] == keys[4, "matched"]
    assert keys[2, "plain"] != keys[2, "matched"]
    without = expanded(BASE + "steps = [2, 4]")
    assert set(column(without, "key")) == {m["key"] for m in study.members if m["options"]["dose"] == "plain"}


def test_steps_may_be_respacings(expanded: Expand, plugins: PluginManager, tmp_path: Path) -> None:
    """A column tells them apart, by which they can be left out; a matched dose is another than at as many steps."""
    text = BASE + 'guidance = "tiny-vl"\nsteps = [5, "ddim5", "3+2"]\n'
    study = expanded(text)
    assert {(m["steps"], m["respacing"]) for m in study.members} == {(5, ""), (5, "ddim"), (5, "3+2")}
    assert len({m["key"] for m in study.members}) == len(study.members) == 3 * 8
    rest = expanded(text + '[[exclude]]\nrespacing = ["ddim", "3+2"]').members
    assert {m["key"] for m in rest} == set(column(study, "key", respacing=""))
    rows = compare(
        ["a dot", "rain"],
        sampling=Sampling(steps="ddim5"),
        out=tmp_path / "out",
        schedules=["only-itc", "turn"],
        seeds=2,
        guidance="tiny-vl",
        plugins=plugins,
        device="cpu",
    ).rows
    assert column(study, "key", respacing="ddim") == [row["key"] for row in rows]
    dosed = expanded(text + 'options = { dose = ["plain", "matched"], dose_steps = 5 }')
    keys = [{m["key"] for m in dosed.members if m["respacing"] == r} for r in ("", "ddim")]
    assert [len(found) for found in keys] == [8, 16]
    with pytest.raises(UsageError, match=r"line 2: steps: must be a number from 1 on, .*, got 'ddim'"):
        expanded('seeds = 1\nsteps = [5, "ddim"]')


def test_prompts_come_from_files_and_sets(expanded: Expand, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("one\n\n two \n")
    (tmp_path / "p.csv").write_text('Prompts,Category\n"a, b",x\nc,"y "\n')
    (tmp_path / "p.tsv").write_text("id\tcaption\tcategory\n1\td\tx\n2\t\tx\n")
    sources = '{file="p.txt"}, {file="p.csv", category="y"}, {file="p.tsv", column="caption"}, '
    sources += '{set="tiny-prompts", category="single", limit=1}, "one"'
    study = expanded(f'prompts = [{sources}]\nschedules = "turn"\nseeds = 1\nsteps = 2')
    found = list(zip(column(study, "prompt"), column(study, "category"), strict=True))
    assert found == [("one", ""), ("two", ""), ("c", "y"), ("d", "x"), ("a red circle", "single")]


def test_prompts_may_come_from_standard_input(expanded: Expand, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("prompt,category\na dot,x\nrain,y\n"))
    study = expanded('steps = 2\nseeds = 1\nguidance = "tiny-vl"\nprompts = { file = "-", category = "y" }')
    assert set(column(study, "prompt")) == {"rain"}
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(UsageError, match="line 2: standard input holds no prompt"):
        expanded('steps = 2\nprompts = { file = "-" }')


def test_parts_that_nobody_names_are_the_defaults_of_plugins(expanded: Expand) -> None:
    study = expanded('guidance = "tiny-vl"\nsteps = 2\nseeds = 1\ndevice = "cpu"')
    assert set(column(study, "prompt")) == {"a red circle", "a dot above a line", "rain"}
    assert set(column(study, "schedule")) == {"only-itc", "turn"}
    assert [metric.name for metric in study.metrics] == ["brightness"]
    assert expanded(BASE + "steps = 2\nmetrics = []").metrics == []


def test_notes_of_the_text_encoder_go_with_the_cells(expanded: Expand) -> None:
    study = expanded('prompts = ["a blorp", "rain"]\nschedules = "turn"\nseeds = 1\nsteps = 2')
    assert column(study, "notes") == [["does not know the word 'blorp'"], []]
    assert study.notes == [Note("a blorp", "does not know the word 'blorp'")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('\nschedules = ["tur"]', "line 2: unknown schedule 'tur' (did you mean 'turn'?)"),
        ('\n\nguidance = "nothing"', "line 3: unknown guidance model 'nothing'"),
        ('steps = 2\nmetrics = ["brightnes"]', "line 2: unknown metric 'brightnes' (did you mean"),
        ('prompts = { set = "tiny-prompts", category = "x" }', "line 1: tiny-prompts has no category 'x'; it has"),
        ('steps = 2\nprompts = { file = "gone.txt" }', "line 2: cannot read the prompts"),
        ('[[grid]]\nname = "a"\nschedules = "turn"\nsteps = 200', "line 4: grid 'a': 200 sampling steps"),
        ('seeds = 1\nsteps = [\n2,\n200,\n]', "line 2: grid 'main': 200 sampling steps"),
        ('[[grid]]\nname = "a"\noptions = { start = 0.5, stop = 0.1 }', "line 3: grid 'a': start (0.5) must not"),
        ('[options]\ndose = "matched"\ndose_steps = 900', "line 3: grid 'main': dose_steps (900) exceeds"),
        ('steps = 9\n[options]\nevery = 1\n[[grid]]\nname = "a"\noptions = { start = 2 }', "line 6: options: start"),
        ('[[grid]]\nname = "a"\neta = 0.5', "line 3: grid 'a': eta (0.5) belongs"),
        ('seeds = 1\nobjective_scales = { clip = 1 }', "line 2: grid 'main': the objective scales"),
        ('seeds = 1\nsteps = 2\ndevice = "tpu"', "line 3: "),
        ('seeds = 1\ngenerator = "nothing"', "s.toml, line 2: unknown generator 'nothing'"),
        ('steps = 2\n[[exclude]]\nschedule = "tun"', "line 3: unknown schedule 'tun' (did you mean 'turn'?)"),
        ('\nperturbations = "typos"', "line 2: unknown perturbation 'typos' (did you mean 'typo'?)"),
    ],
)  # fmt: skip
def test_mistakes_that_only_plugins_can_tell_have_their_line(
    expanded: Expand, text: str, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        expanded(text)
    assert str(caught.value).count("s.toml, line") == 1
    assert message in str(caught.value)


def test_an_objective_that_the_model_lacks_is_told_with_its_line(
    plugins: PluginManager, expanded: Expand
) -> None:
    with pytest.raises(
        UsageError, match=r"line 1: schedule 'itm' needs the objective 'itm', which tiny-vl lacks"
    ):
        expanded('schedules = "itm"\nsteps = 2')


def test_a_warning_is_given_once(expanded: Expand, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        study = expanded(BASE + "steps = [2, 3]")
    assert len(study.settings) == 2
    assert not caplog.records


def test_paths_of_models_are_relative_to_the_file(tmp_path: Path) -> None:
    plugins = PluginManager.load(environment={})
    text = 'generator = "guided-diffusion:checkpoint=weights/a.pt"\n'
    expander = _Expander(
        parse_study(text, base=tmp_path), plugins, plugin_component_cache(plugins, "cpu"), None
    )
    spec = expander._spec("generator", "guided-diffusion:checkpoint=weights/a.pt")
    assert spec == f"guided-diffusion:checkpoint={tmp_path / 'weights/a.pt'}"
    assert expander._spec("generator", spec) == spec
    given = expander.study.with_models(generator="guided-diffusion:checkpoint=a.pt")
    cli = _Expander(given, plugins, plugin_component_cache(plugins, "cpu"), None)
    assert cli._spec("generator", "guided-diffusion:checkpoint=a.pt") == "guided-diffusion:checkpoint=a.pt"


def test_curves_are_read_beside_the_file_and_named_as_it_names_them(expanded: Expand, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"itc": [[0, 0], [1, 1]]}')
    text = 'schedules = "curve:file=mine.json"\nprompts = ["rain"]\nseeds = 1\ndevice = "cpu"\nsteps = 3\n'
    found = expanded(text)
    assert column(found, "schedule") == ["curve:file=mine.json"]
    assert found.schedules[("curve:file=mine.json", 3)] == {"itc": [0.0, 0.5, 1.0]}
