"""Probing: losses, margins and gradients against closed forms; pictures of pairs; the command and its page."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from guidelens import GuidelensError, JointGuidance, Prompt, TextBatch, UsageError
from guidelens.analysis.pair_pictures import picture_source
from guidelens.analysis.probe import probe
from guidelens.cli.main import cli
from guidelens.pictures import to_picture
from guidelens.plugins import PluginManager
from guidelens_worlds.shapes.language import read, true_of
from PIL import Image
from torch import Tensor

SHAPE = (3, 2, 2)


class Quadratic:
    """L_k(x, c) = |x - a_k(c)|^2 / 2: the gradient towards a caption is a_k(c) - x, exactly."""

    fingerprint = "quadratic"
    objectives = frozenset({"near", "far"})

    def encode_text(self, prompts: Sequence[str]) -> TextBatch:
        return TextBatch(tuple(prompts), {"target": torch.tensor([[float(p)] for p in prompts])})

    def losses(self, images: Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Tensor]:
        signs = {"near": 1.0, "far": -1.0}
        flat = images.flatten(1)
        return {k: (flat - signs[k] * text.tensors["target"]).square().sum(1) / 2 for k in objectives}


def zeros(prompt: Prompt) -> Tensor:
    return torch.zeros(SHAPE)


def ramp(prompt: Prompt) -> Tensor:
    return torch.linspace(-1, 1, 12).reshape(SHAPE)


def test_margins_and_cosines_are_those_of_the_closed_form() -> None:
    found = probe(Quadratic(), [Prompt("1", "a", foil="-2"), Prompt("3", "b", foil="2")], zeros)
    opposed, alike = found.measures
    assert opposed.right["near"] == pytest.approx(12 * 1 / 2)
    assert opposed.margin("near") == pytest.approx(12 * (4 - 1) / 2)
    assert opposed.cosines == pytest.approx({"near": -1.0, "far": -1.0})
    assert opposed.gains["near"] == pytest.approx(1 + 2)  # <g, g - h> / |g|^2 with g = 1, h = -2
    assert alike.cosines["near"] == pytest.approx(1.0)
    assert alike.gains["near"] == pytest.approx(1 - 2 / 3)
    assert alike.margin("near") == pytest.approx(12 * (4 - 9) / 2)
    assert opposed.agreement["far|near"] == pytest.approx(-1.0)
    assert found.accuracy("near").mean == 0.5
    assert found.accuracy("near", "b").mean == 0
    assert found.moves_away("far").mean == 0.5
    assert found.raises_margin("near", "b").mean == 1
    assert found.conflicts("far|near").mean == 1
    assert found.margin("near").mean == pytest.approx(6 * (3 - 5) / 2)


def test_cosines_of_a_picture_that_is_not_flat() -> None:
    (measures,) = probe(Quadratic(), [Prompt("1", foil="0")], ramp).measures
    x = [-1 + 2 * i / 11 for i in range(12)]
    g, h = [1 - v for v in x], [-v for v in x]
    cosine = sum(a * b for a, b in zip(g, h, strict=True)) / (math.hypot(*g) * math.hypot(*h))
    assert measures.cosines["near"] == pytest.approx(cosine, rel=1e-6)


def test_a_gradient_of_zero_and_ties() -> None:
    found = probe(Quadratic(), [Prompt("0", foil="0")], zeros)
    assert found.measures[0].cosines == {"near": 0.0, "far": 0.0}
    assert found.accuracy("near").mean == 0.5


def test_batches_do_not_change_anything() -> None:
    sizes = [(3, 2, 2), (3, 2, 2), (3, 4, 2), (3, 2, 2), (3, 2, 2)]
    pairs = [Prompt(str(i), foil=str(-i - 1), picture=str(i)) for i in range(5)]
    alone = probe(Quadratic(), pairs, lambda p: torch.full(sizes[int(p.picture)], 0.3), batch_size=1)
    steps: list[int] = []
    together = probe(
        Quadratic(),
        pairs,
        lambda p: torch.full(sizes[int(p.picture)], 0.3),
        batch_size=4,
        show=lambda done, total: steps.append(done),
    )
    assert together.measures == alone.measures
    assert steps == [2, 3, 5]


def test_what_cannot_be_probed() -> None:
    with pytest.raises(UsageError, match="at least one pair"):
        probe(Quadratic(), [], zeros)
    with pytest.raises(UsageError, match="'1' has no wrong caption"):
        probe(Quadratic(), [Prompt("1")], zeros)
    noisy = Quadratic()
    noisy.reads = "x_t"  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match="reads noisy images"):
        probe(noisy, [Prompt("1", foil="2")], zeros)


def test_pictures_from_a_folder(tmp_path: Path) -> None:
    image = torch.zeros(3, 4, 6)
    image[:, 1:3, 2:5] = 1.0
    to_picture(image).save(tmp_path / "a.png")
    source = picture_source([], tmp_path)
    assert source(Prompt("x", picture="a.png")).shape == (3, 4, 6)
    part = source(Prompt("x", picture="a.png#xywh=2,1,3,2"))
    assert part.shape == (3, 2, 3)
    assert bool((part == 1).all())
    with pytest.raises(GuidelensError, match=r"has 6x4 pixels; a\.png#xywh=2,1,5,2 is outside"):
        source(Prompt("x", picture="a.png#xywh=2,1,5,2"))
    with pytest.raises(GuidelensError, match=r"cannot read the picture .*b\.png"):
        source(Prompt("x", picture="b.png"))
    with pytest.raises(UsageError, match="'x' names no picture"):
        source(Prompt("x"))
    with pytest.raises(UsageError, match="give their folder with --images"):
        picture_source([], None)


def test_large_pictures_are_reduced(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1500), "red").save(tmp_path / "a.jpg")
    Image.new("L", (5000, 2)).save(tmp_path / "b.png")
    source = picture_source([], tmp_path)
    image = source(Prompt("x", picture="a.jpg"))
    assert image.shape == (3, 512, 1024)
    assert image[:, 9, 9].tolist() == pytest.approx([1, -1, -1], abs=0.02)
    assert source(Prompt("x", picture="b.png")).shape == (3, 1, 1024)
    assert source(Prompt("x", picture="a.jpg#xywh=0,0,40,30")).shape == (3, 30, 40)


def test_pairs_of_the_shapes_world_are_right_and_wrong() -> None:
    pairs = PluginManager.load(environment={}).build("prompts", "shapes-pairs:limit=6,seed=3")
    assert [pair.category for pair in pairs[::6]] == ["colour", "shape", "swap", "relation"]
    for pair in pairs:
        scene = pairs._scenes[pair.picture]
        assert true_of(read(pair.text), scene)
        assert not true_of(read(pair.foil), scene)
        assert pairs.picture_of(pair).shape == (3, 32, 32)
        if pair.category == "swap":
            assert sorted(pair.text.replace("an ", "a ").split()) == sorted(
                pair.foil.replace("an ", "a ").split()
            )


def test_the_command(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["probe", "shapes-pairs:limit=2", "--limit", "8", "--device", "cpu", "--out", str(out)]
    shown = CliRunner().invoke(cli, words)
    assert shown.exit_code == 0, shown.output
    assert [line.split()[0] for line in shown.stdout.splitlines()] == [
        "objective",
        "cap",
        "itc",
        "itm",
        "page:",
    ]
    written = json.loads((out / "probe.json").read_text())
    assert len(written["pairs"]) == 8
    assert written["objectives"] == ["cap", "itc", "itm"]
    assert set(written["summary"]) == {"", "colour", "shape", "swap", "relation"}
    first = written["pairs"][0]
    for name in written["objectives"]:
        margin = first["losses_wrong"][name] - first["losses_right"][name]
        assert first["margins"][name] == pytest.approx(margin)
    page = (out / "index.html").read_text()
    assert page.count("<li>") == 8
    assert page.count('class="chart"') == 4
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


def test_several_models_are_one_probe(tmp_path: Path) -> None:
    """Measures are those of each model alone; the table and the page have a row for each objective of each model."""
    two = probe(JointGuidance({"a": Quadratic(), "b": Opposite()}), [Prompt("1", foil="-2")], ramp)
    alone = [probe(model, [Prompt("1", foil="-2")], ramp) for model in (Quadratic(), Opposite())]
    assert two.objectives == ("a/far", "b/far", "a/near", "b/near")
    assert two.by_model["near"] == {"a": "a/near", "b": "b/near"}
    for name, single in zip("ab", alone, strict=True):
        assert two.cosine(f"{name}/near").mean == pytest.approx(single.cosine("near").mean)
        assert two.measures[0].right[f"{name}/far"] == pytest.approx(single.measures[0].right["far"])
    assert two.measures[0].agreement["a/near|b/near"] == pytest.approx(
        alone[0].measures[0].agreement["far|near"]
    )

    out = tmp_path / "out"
    words = ["probe", "shapes-pairs:limit=1", "--guidance", "shapes", "--guidance", "shapes:variant=clean"]
    shown = CliRunner().invoke(cli, [*words, "--device", "cpu", "--out", str(out)])
    assert shown.exit_code == 0, shown.output
    lines = [line.split()[:2] for line in shown.stdout.splitlines()]
    assert lines[:4] == [["objective", "model"], ["cap", "shapes"], ["cap", "shapes2"], ["itc", "shapes"]]
    written = json.loads((out / "probe.json").read_text())
    assert written["models"] == {"shapes": "shapes", "shapes2": "shapes:variant=clean"}
    page = (out / "index.html").read_text()
    assert "<b>shapes2</b> is <code>shapes:variant=clean</code>" in page
    assert page.count('<tr><th scope="row">itc</th>') == 1
    assert "--guidance shapes --guidance shapes:variant=clean" in page


class Opposite(Quadratic):
    """The two objectives of :class:`Quadratic` with their names exchanged."""

    def losses(self, images: Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Tensor]:
        other = {"near": "far", "far": "near"}
        found = super().losses(images, text, [other[k] for k in objectives])
        return {k: found[other[k]] for k in objectives}


def test_the_command_probes_files(tmp_path: Path) -> None:
    to_picture(torch.zeros(3, 32, 32)).save(tmp_path / "a.png")
    (tmp_path / "pairs.csv").write_text("prompt,foil,picture\na red circle,a blue circle,a.png\n")
    words = ["probe", f"file:path={tmp_path / 'pairs.csv'}", "--out", str(tmp_path / "out")]
    shown = CliRunner().invoke(cli, words)
    assert shown.exit_code == 2
    assert "--images" in shown.output
    shown = CliRunner().invoke(cli, [*words, "--images", str(tmp_path), "--device", "cpu"])
    assert shown.exit_code == 0, shown.output
