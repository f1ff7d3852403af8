"""The shapes plugin: what it registers, its vocabulary, and the commands of ``guidelens shapes``."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from guidelens.cli.main import cli
from guidelens.contracts import Prompt
from guidelens.plugins import PluginManager
from guidelens_worlds.shapes.files import FILES
from guidelens_worlds.shapes.language import describe, read, true_of, wording
from guidelens_worlds.shapes.parse import parse
from guidelens_worlds.shapes.prompts import PROMPTS
from pictures import scenes


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli, ["shapes", *map(str, args)])


def test_components_are_defaults() -> None:
    manager = PluginManager.load()
    plugin = manager.plugin("shapes")
    offered = {(c.kind, c.name): c for c in plugin.components}
    kinds = {"generator", "guidance", "metric", "prompts"}
    named = {(kind, "shapes") for kind in kinds}
    assert offered.keys() == named | {("prompts", "shapes-pairs")}
    assert {key for key, component in offered.items() if component.default} == named
    options = {kind: [o.name for o in offered[kind, "shapes"].options] for kind in kinds}
    assert options["prompts"] == ["category", "limit", "seed", "split"]
    assert options["guidance"] == ["variant", "weights", "itm", "label_smoothing", "clean"]
    assert options["generator"] == ["weights"]
    assert options["metric"] == ["details"]


def test_the_prompt_set_is_built_with_its_options() -> None:
    component = next(c for c in PluginManager.load().plugin("shapes").components if c.kind == "prompts")
    built = component.configure({"category": "counting", "limit": "3", "seed": "2"}).build()
    assert built == PROMPTS.draw("counting", 3, seed=2)
    assert all(isinstance(prompt, Prompt) for prompt in built)


def test_the_vocabulary_has_every_letter_and_every_word() -> None:
    tokens = FILES.vocab.read_text(encoding="utf-8").split()
    assert len(set(tokens)) == len(tokens)
    assert set(string.ascii_lowercase + string.digits) <= set(tokens)
    assert {f"##{c}" for c in string.ascii_lowercase + string.digits} <= set(tokens)
    assert {"[PAD]", "[UNK]", "[CLS]", "[SEP]"} <= set(tokens)
    rng = random.Random(0)
    words = {
        word.strip(",")
        for scene in scenes(500, seed=0)
        for word in wording(describe(scene, rng, full=rng.random() < 0.5), rng).split()
    }
    assert words <= set(tokens), words - set(tokens)


# --- commands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("category", ["demo", "misspellings", "long"])
def test_prompts_are_printed_one_a_line(category: str) -> None:
    result = run("prompts", "--category", category, "--limit", 4, "--seed", 3, "--split", "sweep")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [p.text for p in PROMPTS.draw(category, 4, 3, "sweep")]


def test_draw_shows_what_the_sentence_says(tmp_path: Path) -> None:
    from guidelens.pictures import to_tensor
    from PIL import Image

    for i, sentence in enumerate(
        (
            "a red circle above a blue square",
            "three small crosses",
            "a large white circle on a pink background",
        )
    ):
        out = tmp_path / f"{i}.png"
        result = run("draw", sentence, "--out", out, "--seed", i)
        assert result.exit_code == 0, result.output
        scene = parse(to_tensor(Image.open(out)).numpy()).scene
        said = read(sentence)
        assert said is not None
        assert true_of(said, scene)
        shown = read(result.stdout.splitlines()[0].removeprefix("shown: "))
        assert shown is not None
        assert true_of(shown, scene)


def test_draw_is_seeded(tmp_path: Path) -> None:
    pictures = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run("draw", "a red circle", "--out", tmp_path / f"{name}.png", "--seed", seed)
        pictures.append((tmp_path / f"{name}.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["draw", "an elephant", "--out", "x.png"], "'an elephant' is not a sentence of the shapes world"),
        (["draw", "a red circle", "--out", "x.jpg"], "the file name must end in .png"),
        (["draw", "two circles, two squares and two crosses", "--out", "x.png"], "at most 3 objects"),
        (["draw", "a red circle"], "Missing option '--out'"),
        (["prompts", "--category", "animals"], "'animals' is not one of 'demo', 'single'"),
        (["prompts", "--limit", "0"], "0 is not in the range x>=1"),
        (["prompts", "--category", "single", "--limit", "99999"], "has only"),
        (["train-generator", "--out", "d", "--images", "3", "--batch-size", "4"], "less than one batch of 4"),
        (["train-blip", "--out", "d", "--batch-size", "4"], "4 is not in the range x>=16"),
        (["train-blip", "--out", "d", "--pairs", "10"], "--pairs 10 is less than one batch of 64"),
        (
            ["train-blip", "--out", "d", "--x0-share", "0.5"],
            "--x0 FILE and --x0-share above 0 need each other",
        ),
        (["train-blip", "--out", "d", "--x0", "f"], "--x0 FILE and --x0-share above 0 need each other"),
        (["train-blip", "--out", "d", "--degraded-share", "1.5"], "1.5 is not in the range 0.0<=x<=1.0"),
        (["train-blip", "--out", "d", "--init", "absent.pt"], "--init absent.pt: No such file"),
        (["evaluate-blip", "--count", "10"], "10 is not in the range x>=200"),
        (["evaluate-blip", "--clean-only", "--generator", "g"], "exclude each other"),
        (["evaluate-generator", "--steps", "0"], "0 is not in the range 1<=x<=1000"),
        (["sweep", "--scale", "itc"], "--scale 'itc': write OBJECTIVE=C,C,... such as itc=300,1000"),
    ],
)
def test_bad_values_are_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == 2, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert message in line
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train-generator", "--out", "file/d"], "cannot write"),
        (["predict-x0", "--generator", "file", "--out", "x0.safetensors"], "cannot read file"),
        (["evaluate-generator", "--weights", "absent"], "absent"),
        (["train-blip", "--out", "d", "--init", "file"], "--init file cannot be read as a checkpoint"),
        (["train-blip", "--out", "d", "--x0", "file", "--x0-share", "0.5"], "as a set of x0 predictions"),
        (["evaluate-blip", "--clean-only", "--weights", "absent"], "no BLIP checkpoint at absent"),
    ],
)
def test_unusable_files_are_one_line_and_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"not what you think")
    result = run(*args)
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert message in line


def test_an_interrupted_training_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from guidelens_worlds.training import generator

    def interrupted(*_: object, **__: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(generator, "train_generator", interrupted)
    result = run("train-generator", "--out", tmp_path / "gen")
    assert result.exit_code == 130
    assert "starts from the beginning, because there is no checkpoint yet" in result.stderr
    (tmp_path / "gen" / "last.pt").touch()
    result = run("train-generator", "--out", tmp_path / "gen")
    assert "resumes from the last checkpoint" in result.stderr


def test_scales_and_schedules_are_scored(tmp_path: Path) -> None:
    few = ("--limit", 1, "--steps", 2)
    result = run("sweep", "--scale", "itc=100,500", *few)
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["rows"]
    assert [(row["objective"], row["scale"]) for row in rows] == [("itc", 100), ("itc", 500)]
    assert all({"alignment_single", "alignment_positional", "fidelity"} <= set(row) for row in rows)
    out = tmp_path / "scores.json"
    result = run("score", "--category", "single", "--schedule", "itc", "--seeds", 1, *few, "--out", out)
    assert result.exit_code == 0, result.output
    scores = json.loads(out.read_text())
    assert scores == json.loads(result.stdout)
    assert 0 <= scores["single"]["itc"]["alignment"] <= 1


@pytest.mark.slow
def test_the_commands_work_together(tmp_path: Path) -> None:
    """Full-size networks, a step or two each."""
    generator, x0, blip = (
        tmp_path / "gen" / "generator.safetensors",
        tmp_path / "x0.safetensors",
        tmp_path / "blip",
    )
    few = ["--pairs", 16, "--batch-size", 16]
    phase = ["--init", tmp_path / "sight" / "last.pt", "--x0", x0, "--x0-share", 0.25]
    scored = ["--count", 2, "--steps", 2, "--out", tmp_path / "g.json"]
    steps = [
        ("train-generator", "--out", generator.parent, "--images", 2, "--batch-size", 2, "--threads", 1),
        ("predict-x0", "--generator", generator, "--out", x0, "--count", 4),
        ("train-blip", "--out", tmp_path / "sight", "--vision-only", *few),
        ("train-blip", "--out", blip, *few, *phase),
        ("evaluate-generator", "--weights", generator, *scored),
    ]
    for args in steps:
        result = run(*args)
        assert result.exit_code == 0, result.output + str(result.exception)
        if args[0].startswith("train"):
            assert "1 of 1 steps; " in result.stderr
            assert result.stdout.startswith("weights: ")
    scores = json.loads((tmp_path / "g.json").read_text())
    assert scores == json.loads(result.stdout)
    assert scores["samples"] == 2
