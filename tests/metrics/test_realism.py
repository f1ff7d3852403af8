"""``realism`` by hand on known cosines, and CMMD by a plain loop."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import pytest
import torch
from guidelens import PluginManager, Prompt, TextBatch, UsageError
from guidelens.metrics.distribution import cmmd_of
from guidelens.metrics.realism import PAIRS, Realism
from guidelens.testing import check_metric

COSINES = {"Good photo.": 0.30, "Bad photo.": 0.28, "Natural photo.": 0.2, "Synthetic photo.": 0.25}


class Cosines:
    """Gives each text its cosine, whatever the picture."""

    fingerprint, objectives = "cosines", frozenset({"itc"})

    def encode_text(self, prompts: Sequence[str]) -> TextBatch:
        return TextBatch(tuple(prompts), {"cosine": torch.tensor([COSINES[prompt] for prompt in prompts])})

    def losses(self, images: torch.Tensor, text: TextBatch, objectives: Collection[str]) -> dict[str, Any]:
        return {"itc": -text.tensors["cosine"] + 0 * images.mean((1, 2, 3))}


def test_mean_of_two_softmaxes() -> None:
    metric = Realism(Cosines(), "x")
    (found,) = metric.score(torch.zeros(1, 3, 4, 4), [Prompt("a dog")])
    wanted = [1 / (1 + math.exp(-100 * (COSINES[good] - COSINES[bad]))) for good, bad in PAIRS]
    assert found["realism@x"] == pytest.approx(sum(wanted) / 2, rel=1e-5)
    assert metric.columns[0].role == "realism"


def test_a_model_without_cosines() -> None:
    class Captioner(Cosines):
        objectives = frozenset({"cap"})

    with pytest.raises(UsageError, match="realism needs a model with itc, such as CLIP; x has cap"):
        Realism(Captioner(), "x")
    with pytest.raises(UsageError, match="scale must be positive, not 0"):
        Realism(Cosines(), "x", 0)


def test_the_component_keeps_the_contract() -> None:
    check_metric(PluginManager.load().build("metric", "realism:guidance=shapes"))


def test_cmmd_is_the_mean_over_all_pairs() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(5, 4).double(), torch.randn(7, 4).double() + 1
    a, b = (v / v.norm(dim=1, keepdim=True) for v in (x, y))

    def mean(first: torch.Tensor, second: torch.Tensor) -> float:
        values = [math.exp(-float((f - g).square().sum()) / 200) for f in first for g in second]
        return sum(values) / len(values)

    assert cmmd_of(x, y) == pytest.approx(1000 * (mean(a, a) + mean(b, b) - 2 * mean(a, b)), rel=1e-9)
    assert cmmd_of(x, x) == pytest.approx(0, abs=1e-9)
    assert cmmd_of(3 * x, y) == pytest.approx(cmmd_of(x, y))
