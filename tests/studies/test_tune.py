"""The search for objective scales, and studies that include what it found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from guidelens import load_study, run_study
from guidelens.cli.main import cli
from guidelens.errors import UsageError
from guidelens.plugins import PluginManager
from guidelens.sampling import Sampling
from guidelens.stats import Estimate
from guidelens.studies.file import load_study_file, parse_study, recorded_study
from guidelens.studies.tune import FIRST_SEED, Candidate, Search, _survivors, search_study, tune

WORLD = """
import torch
from guidelens.contracts import Column, Prompt
from guidelens.hookspecs import hookimpl


class Closeness:
    '''How near a picture's brightness is to 0.3: the best scale is neither the smallest nor the largest.'''

    columns = (
        Column("off", "distance", role="distance", higher_is_better=False),
        Column("near", "closeness", role="alignment"),
    )

    def score(self, images, prompts):
        far = [(image.mean() - 0.3).abs().item() for image in images]
        return [{"off": each, "near": 1 - each} for each in far]


@hookimpl
def register_metrics(register):
    register("closeness", Closeness, summary="closeness", default=True)


@hookimpl
def register_prompt_sets(register):
    prompts = [Prompt(f"prompt {n}") for n in range(6)]
    register("six", lambda: prompts, summary="six prompts", default=True)


class Bright:
    objectives = frozenset({"pull", "weak"})
    fingerprint = "bright"
    default_scales = {"weak": 2.0}

    def encode_text(self, prompts):
        from guidelens.contracts import TextBatch
        return TextBatch(tuple(prompts))

    def losses(self, images, text, objectives):
        known = {"pull": -200 * images.sum(dim=(1, 2, 3)), "weak": -20 * images.sum(dim=(1, 2, 3))}
        return {name: known[name] for name in objectives}


@hookimpl
def register_guidance_models(register):
    register("bright", Bright, summary="bright", default=True)
"""
FACTORS = (0.01, 0.1, 0.3, 1.0, 10.0)


@pytest.fixture
def manager(tmp_path: Path) -> PluginManager:
    (tmp_path / "world.py").write_text(WORLD)
    return PluginManager.load([str(tmp_path / "world.py"), "guidelens.testing.tiny"])


def search_of(**changes):
    options = {
        "prompts": "six",
        "count": 4,
        "objectives": ("pull", "weak"),
        "scales": {"pull": 1.0, "weak": 2.0},
        "generator": "tiny",
        "guidance": "bright",
        "sampling": Sampling(steps=4, scale=0.5),
        "factors": FACTORS,
        "metrics": ("closeness",),
    }
    return Search(**{**options, **changes})


@pytest.mark.parametrize("halving", [True, False], ids=["halving", "grid"])
def test_each_objective_gets_its_own_best_scale(manager, tmp_path, halving):
    found = tune(search_of(halving=halving), out=tmp_path / "out", plugins=manager, device="cpu")
    assert set(found.best) == {"pull", "weak"}
    for name, candidates in found.candidates.items():
        assert [each.scale for each in candidates] == pytest.approx(
            [f * (1 if name == "pull" else 2) for f in FACTORS]
        )
        scores = {each.scale: each.score.mean for each in candidates}
        assert scores[found.best[name]] == max(scores.values())
        assert min(scores) < found.best[name] < max(scores)
    # "weak" pulls a tenth as much.
    assert found.best["weak"] > found.best["pull"]
    drawn = {name: [each.prompts for each in candidates] for name, candidates in found.candidates.items()}
    if halving:
        assert sorted(drawn["pull"]) == [1, 1, 2, 4, 4]
        assert load_study(tmp_path / "out" / "search").cells  # a study like any other
    else:
        assert drawn == {"pull": [4] * 5, "weak": [4] * 5}


def test_a_column_of_which_less_is_better(manager, tmp_path):
    more = tune(search_of(), out=tmp_path / "a", plugins=manager, device="cpu")
    less = tune(search_of(column="off"), out=tmp_path / "b", plugins=manager, device="cpu")
    assert (more.column, less.column) == ("near", "off")
    assert more.best == less.best
    with pytest.raises(UsageError, match="no metric has the column 'other'; there are off, near"):
        tune(search_of(column="other"), out=tmp_path / "c", plugins=manager, device="cpu")


def test_it_continues_and_draws_nothing_twice(manager, tmp_path):
    search, pictures = search_of(), tmp_path / "out" / "search" / "samples"
    calls = iter([False, False, True])
    stopped = tune(
        search,
        out=tmp_path / "out",
        plugins=manager,
        device="cpu",
        batch_size=2,
        should_stop=lambda: next(calls, True),
    )
    assert stopped.file is None
    assert not (tmp_path / "out" / "tuned.toml").exists()
    before = {path.name: path.stat().st_mtime_ns for path in pictures.iterdir()}
    whole = tune(search, out=tmp_path / "out", plugins=manager, device="cpu", batch_size=2)
    assert before
    assert all((pictures / name).stat().st_mtime_ns == at for name, at in before.items())
    again = tune(search, out=tmp_path / "out", plugins=manager, device="cpu", batch_size=2)
    assert again.best == whole.best
    assert str(again.candidates) == str(whole.candidates)


def test_the_best_at_the_edge_is_noted(manager, tmp_path):
    found = tune(search_of(factors=(0.001, 0.002)), out=tmp_path / "out", plugins=manager, device="cpu")
    assert "the largest that was tried: widen --factors" in found.notes[0]


STUDY = """
include = "tuning/tuned.toml"
generator = "tiny"
guidance = "bright"
prompts = { set = "six" }
schedules = ["objective:name=pull", "blend:pull=0.5,weak=0.5"]
seeds = 2
steps = 4
metrics = ["closeness"]
"""


@pytest.fixture
def tuned(manager, tmp_path):
    return tune(search_of(), out=tmp_path / "tuning", plugins=manager, device="cpu")


def test_a_study_includes_the_scales_and_leaves_out_what_they_were_found_on(manager, tmp_path, tuned):
    (tmp_path / "study.toml").write_text(STUDY)
    done = run_study(tmp_path / "study.toml", out=tmp_path / "run", plugins=manager, device="cpu")
    results = load_study(tmp_path / "run")
    assert {cell["prompt"] for cell in results.cells} == {"prompt 4", "prompt 5"}
    assert {cell["seed"] for cell in results.cells} == {0, 1}
    assert all(cell["objective_scales"] == tuned.best for cell in results.cells)
    assert all(cell["scale"] == 0.5 for cell in results.cells)
    (note,) = [note.text for note in done.notes if "search" in note.text]
    assert note.startswith("4 prompts of the search for scales (include) left out")
    assert note in (tmp_path / "run" / "config.json").read_text()


def test_a_recorded_study_needs_no_included_file(manager, tmp_path, tuned):
    (tmp_path / "study.toml").write_text(STUDY)
    run_study(tmp_path / "study.toml", out=tmp_path / "run", plugins=manager, device="cpu")
    tuned.file.unlink()
    again = recorded_study(tmp_path / "run")
    assert again.search_prompts == {f"prompt {n}" for n in range(4)}
    assert again.search_seeds == {FIRST_SEED, FIRST_SEED + 1}
    done = run_study(again, out=tmp_path / "run", plugins=manager, device="cpu")
    assert (done.computed, done.reused) == (0, 8)


def test_the_study_goes_before_what_it_includes(tmp_path):
    (tmp_path / "a.toml").write_text("steps = 7\nscales = 3\nobjective_scales = { itc = 2 }\n")
    study = parse_study(
        'include = "a.toml"\nsteps = 9\n[[grid]]\nname = "g"\nscales = [1, 2]\n', base=tmp_path
    )
    (grid,) = study.grids
    assert grid.sampling["steps"] == (9,)
    assert grid.sampling["scale"] == (1.0, 2.0)
    assert grid.sampling["objective_scales"] == ({"itc": 2.0},)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prompts = 'x'\n", "a.toml, line 1: an included file has no key 'prompts'"),
        ("\nsteps = 0.5\n", "a.toml, line 2: steps"),
        ("[search]\nseeds = -1\n", "a.toml, line 2: seeds"),
        ("x = [", "a.toml, line 1"),
    ],
)
def test_mistakes_in_an_included_file_are_named(tmp_path, content, message):
    (tmp_path / "a.toml").write_text(content)
    with pytest.raises(UsageError, match=message):
        parse_study('include = "a.toml"\n', base=tmp_path)


def test_an_included_file_that_is_not_there(tmp_path):
    (tmp_path / "s.toml").write_text('include = "gone.toml"\n')
    with pytest.raises(UsageError, match=r"cannot read gone\.toml, which .* includes: No such file"):
        load_study_file(tmp_path / "s.toml")
    with pytest.raises(UsageError, match="line 1: include: "):
        parse_study("include = 3\n", base=tmp_path)


def test_a_study_of_tuned_prompts_alone_has_no_cells(manager, tmp_path, tuned):
    text = STUDY.replace('{ set = "six" }', '["prompt 1"]')
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(UsageError, match="prompts and seeds of an included search are left out"):
        run_study(tmp_path / "study.toml", out=tmp_path / "run", plugins=manager, device="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"factors": (1.0,)}, "two different factors"),
        ({"factors": (1.0, -1.0)}, "above 0"),
        ({"sampling": Sampling(normalize="unit")}, "normalize=unit divides by the gradient's length"),
        ({"sampling": Sampling(scale=0)}, "unguided"),
    ],
)
def test_searches_that_make_no_sense(changes, message):
    with pytest.raises(UsageError, match=message):
        search_of(**changes)


def test_candidates_that_are_as_good_as_the_last_go_on():
    def candidates(*scores):
        return {
            float(k): Candidate(float(k), Estimate(score, 0, 1, 2, 2), 2) for k, score in enumerate(scores)
        }

    assert _survivors([0.0, 1.0, 2.0], candidates(0.5, 0.5, 0.5), 2, True) == [0.0, 1.0, 2.0]
    assert _survivors([0.0, 1.0, 2.0], candidates(0.1, 0.9, 0.5), 2, True) == [1.0, 2.0]
    assert _survivors([0.0, 1.0, 2.0], candidates(0.1, 0.9, 0.5), 1, False) == [0.0]
    assert _survivors([2.0, 1.0], {}, 1, True) == [1.0, 2.0]


def test_rounds():
    assert search_of(count=16).rounds() == [(4, 5), (8, 3), (16, 2)]
    assert search_of(count=16, halving=False).rounds() == [(16, 5)]
    assert search_of(count=3, factors=(1, 2)).rounds() == [(3, 2)]


def test_every_option_reaches_the_search():
    sampling = Sampling(
        steps="10+5",
        sampler="ddim",
        eta=0.5,
        scale=2.0,
        clip_denoised=False,
        augment="crop",
        augmentations=2,
        recurrence=2,
        dtype="float64",
        objective_scales={"weak": 5.0},
    )
    study = search_study(search_of(sampling=sampling), {"pull": [1.0, 2.0]}, 2)
    (grid,) = study.grids
    assert grid.sampling["objective_scales"] == ({"weak": 5.0, "pull": 1.0}, {"weak": 5.0, "pull": 2.0})
    given = {name: value for name, value in grid.sampling.items() if name != "objective_scales"}
    assert all(len(value) == 1 for value in given.values())
    drawn = Sampling.of({**{name: value[0] for name, value in given.items()}, "dtype": study.dtype})
    assert drawn.as_dict() == {**sampling.as_dict(), "objective_scales": {}}


def test_texts_with_any_characters():
    prompts = ('a "red" circle\\ ', "tab\there", "späti 🙂", "del \x7f")
    study = search_study(search_of(prompts=prompts), {"pull": [1.0]}, 4)
    assert [source.text for source in study.grids[0].prompts] == [prompt.strip() for prompt in prompts]


def test_the_command(manager, tmp_path):
    words = ["-p", str(tmp_path / "world.py"), "-p", "guidelens.testing.tiny", "tune", "--generator", "tiny"]
    words += ["--guidance", "bright", "--prompts", "six", "--limit", "2", "--steps", "3", "--scale", "0.5"]
    words += ["--metric", "closeness", "--objective", "pull", "--factors", "0.01,0.1,1", "--search", "grid"]
    done = CliRunner().invoke(cli, [*words, "--out", str(tmp_path / "out"), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert "pull 0.1: near" in done.output
    text = (tmp_path / "out" / "tuned.toml").read_text()
    assert text.startswith(
        "# Written by guidelens tune: 2 prompts, 2 seeds, 3 steps of ddpm, judged by near."
    )
    assert 'prompts = ["prompt 0", "prompt 1"]' in text
    config = json.loads((tmp_path / "out" / "search" / "config.json").read_text())
    assert config["kind"] == "study"
    wrong = CliRunner().invoke(cli, [*words, "--objective", "itc", "--out", str(tmp_path / "no")])
    assert wrong.exit_code == 2
    assert "'itc', unknown to the guidance model; it has pull, weak" in wrong.output
