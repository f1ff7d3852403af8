"""Guidance models as judges: minus their losses, against the clean prompt, in columns that name the model."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.metrics.judge import Judge
from guidelens.plugins import PluginManager

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tiny world

import tiny_world
from tiny_world import TinyGuidance


@pytest.fixture(scope="module")
def plugins() -> PluginManager:
    return PluginManager.load([tiny_world.__file__], environment={})


PROMPTS = [Prompt("a red circle"), Prompt("a rd crcle", reference="a red circle"), Prompt("dot")]


def expected(images: torch.Tensor, targets: list[str], objective: str) -> list[float]:
    model = TinyGuidance()
    return [
        -float(model.losses(image[None], model.encode_text([target]), [objective])[objective])
        for image, target in zip(images, targets, strict=True)
    ]


def test_scores_are_minus_the_losses_against_the_clean_prompt() -> None:
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    judge = Judge(TinyGuidance(), "tiny", ["cap", "itc"])
    assert [column.name for column in judge.columns] == ["cap@tiny", "itc@tiny"]
    assert {column.role for column in judge.columns} == {"judgement"}
    rows = judge.score(images, PROMPTS)
    targets = ["a red circle", "a red circle", "dot"]
    for objective in ("cap", "itc"):
        found = [row[f"{objective}@tiny"] for row in rows]
        assert found == pytest.approx(expected(images, targets, objective), rel=1e-6)
    likely = Judge(TinyGuidance(), "tiny", ["itc"], probability=True).score(images, PROMPTS)
    assert [row["p-itc@tiny"] for row in likely] == pytest.approx([math.exp(row["itc@tiny"]) for row in rows])


def test_facts_are_judged_one_by_one() -> None:
    """Column and questions: the losses of the captions "a red car", "a dog", ...; their mean."""
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1
    judge = Judge(TinyGuidance(), "tiny", ["cap", "itc"], facts=True)
    prompts = [Prompt("a red car and a dog"), Prompt("dgo", reference="a dog")]
    first, second = judge.score_questions(images, prompts)
    texts = ["a car", "a dog", "a red car"]
    for objective in ("cap", "itc"):
        single = expected(images[:1].expand(3, -1, -1, -1), texts, objective)
        assert [(q.text, q.score) for q in first[1] if q.by == objective] == [
            (text, pytest.approx(value)) for text, value in zip(texts, single, strict=True)
        ]
        assert first[0][f"{objective}-facts@tiny"] == pytest.approx(sum(single) / 3)
        whole = expected(images, ["a red car and a dog", "a dog"], objective)
        assert [scores[f"{objective}@tiny"] for scores, _ in (first, second)] == pytest.approx(whole)
    assert second[0]["itc-facts@tiny"] == second[0]["itc@tiny"]
    likely = Judge(TinyGuidance(), "tiny", ["itc"], facts=True, probability=True).score(images, prompts)
    assert likely[1]["p-itc-facts@tiny"] == pytest.approx(math.exp(second[0]["itc@tiny"]))
    plain = Judge(TinyGuidance(), "tiny").score_questions(images, prompts)
    assert all(not asked for _, asked in plain)


def test_many_pictures_are_paired_with_their_prompts() -> None:
    images = torch.rand(70, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    targets = [f"{'x' * (i % 9)} end" for i in range(70)]
    rows = Judge(TinyGuidance(), "t", ["itc"]).score(images, [Prompt(t) for t in targets])
    assert [row["itc@t"] for row in rows] == pytest.approx(expected(images, targets, "itc"), rel=1e-5)


def test_a_closer_picture_scores_higher() -> None:
    model = TinyGuidance()
    colour = model.encode_text(["a red circle"]).tensors["colour"][0]
    right = colour[:, None, None].expand(3, 8, 8)
    rows = Judge(model, "t").score(torch.stack([right, -right]), [Prompt("a red circle")] * 2)
    assert rows[0]["itc@t"] == pytest.approx(0, abs=1e-9)
    assert rows[0]["itc@t"] > rows[1]["itc@t"]


def test_mistakes() -> None:
    with pytest.raises(UsageError, match=r"t has no objective 'itm'; it has cap, itc"):
        Judge(TinyGuidance(), "t", ["itm"])

    class Noisy(TinyGuidance):
        reads = "x_t"

    with pytest.raises(UsageError, match="reads noisy images"):
        Judge(Noisy(), "t")


def test_the_plugin_builds_any_guidance_model(plugins: PluginManager) -> None:
    metric = plugins.build("metric", "judge:guidance=tiny-vl,objectives=itc + cap,device=cpu")
    assert [column.name for column in metric.columns] == ["itc@tiny-vl", "cap@tiny-vl"]
    chosen = plugins.resolve("metric", "judge:guidance=shapes:variant=x0,objectives=itm")
    assert chosen.spec == "judge:guidance=shapes,objectives=itm"  # the default variant is left out
    quoted = plugins.resolve("metric", "judge:guidance='shapes:variant=clean,itm=margin'")
    assert plugins.resolve("metric", quoted.spec).spec == quoted.spec
    with pytest.raises(UsageError, match=r"unknown guidance model 'shape' .did you mean 'shapes'"):
        plugins.resolve("metric", "judge:guidance=shape")
    with pytest.raises(UsageError, match="cannot do without guidance="):
        plugins.resolve("metric", "judge")
