"""``detect``: rules for boxes and colours on pictures of the shapes world, and a tiny OWLv2."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from guidelens import Fact, PluginManager, Prompt, UsageError
from guidelens.errors import GuidelensError
from guidelens.testing import check_metric
from guidelens_transformers.boxes import COLOURS, Box, can_check, colour_indices, colour_shares, holds
from guidelens_transformers.detect import DetectMetric

PALETTE = {  # of the shapes world, and some more
    "red": (214, 40, 40),
    "green": (46, 160, 67),
    "blue": (38, 84, 214),
    "yellow": (245, 205, 40),
    "purple": (140, 60, 190),
    "orange": (245, 130, 30),
    "white": (245, 245, 245),
    "black": (25, 25, 25),
    "gray": (150, 150, 150),
    "pink": (250, 170, 195),
    "brown": (120, 72, 30),
}


def filled(colour: str, size: int = 32) -> torch.Tensor:
    return (torch.tensor(PALETTE[colour]).float() / 127.5 - 1)[:, None, None].repeat(1, size, size)


@pytest.mark.parametrize("colour", PALETTE)
def test_colours_have_their_names(colour: str) -> None:
    assert COLOURS[int(colour_indices(filled(colour))[0, 0])] == colour


def test_the_middle_of_a_box_counts() -> None:
    image = filled("green")
    image[:, 8:16, 8:16] = filled("red")[:, :8, :8]
    assert colour_shares(image, Box(8, 8, 15, 15))["red"] == 1.0
    assert colour_shares(image)["red"] == pytest.approx(64 / 1024)
    assert colour_shares(image, Box(-5, -5, 90, 90))["green"] > 0.5


LEFT, RIGHT, LOW = Box(0, 10, 8, 18), Box(20, 10, 28, 18), Box(1, 24, 9, 32)


@pytest.mark.parametrize(
    ("relation", "one", "other", "wanted"),
    [
        ("left of", LEFT, RIGHT, True),
        ("left of", RIGHT, LEFT, False),
        ("right of", RIGHT, LEFT, True),
        ("above", LEFT, LOW, True),
        ("below", LOW, LEFT, True),
        ("above", LEFT, RIGHT, False),
        ("left of", LEFT, Box(1, 10, 9, 18), False),  # by less than a tenth of their sizes
    ],
)
def test_places(relation: str, one: Box, other: Box, wanted: bool) -> None:
    fact = Fact("relation", "cat", relation, "dog")
    assert holds(fact, {"cat": [one], "dog": [other]}, filled("white")) == wanted


def test_an_object_is_not_beside_itself() -> None:
    fact = Fact("relation", "book", "left of", "book")
    assert not holds(fact, {"book": [LEFT]}, filled("white"))
    assert holds(fact, {"book": [LEFT, RIGHT]}, filled("white"))


def test_what_boxes_can_check() -> None:
    assert can_check(Fact("attribute", "car", "grey"))
    assert not can_check(Fact("attribute", "car", "wooden"))
    assert not can_check(Fact("relation", "man", "riding", "horse"))
    assert not can_check(Fact("other", question="Is it dark?"))


def test_scores_of_a_picture() -> None:
    """A red cat left of a green dog; the prompt wants two dogs, a blue one, and something that cannot be checked."""
    image = filled("white")
    image[:, 10:18, 0:8] = filled("red")[:, :8, :8]
    image[:, 10:18, 20:28] = filled("green")[:, :8, :8]
    there = {"cat": [LEFT], "dog": [RIGHT]}
    asked: list[str] = []

    def detector(picture: torch.Tensor, noun: str) -> Sequence[Box]:
        asked.append(noun)
        return there.get(noun, [])

    metric = DetectMetric(detector)
    prompt = Prompt("a red cat left of two blue dogs on a wooden bench")
    (found,) = metric.score(image[None], [prompt])
    assert asked == ["cat", "dog", "bench"]
    assert found["detect_recall"] == pytest.approx(2 / 3)
    assert found["detect_recall_main"] == found["detect_detail_main"] == 1.0
    assert found["detect_binding"] == 0.5  # the dog is green
    assert found["detect_binding_shown"] == 1.0  # blue appears nowhere
    assert found["detect_count"] == 0.0
    assert found["detect_relation"] == 1.0  # "on" is not decided by boxes
    assert found["detect_alignment"] == pytest.approx(4 / 7)


def test_a_tiny_grounding_dino(tmp_path: Path) -> None:
    """Boxes are those of the model's own forward pass for the noun in lower case with a full stop, in pixels."""
    from tiny_families import make

    folder = make("grounding-dino", tmp_path / "dino")
    metric = PluginManager.load().build("metric", f"detect:model={folder},threshold=0.01,device=cpu")
    height, width = 24, 40
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1
    boxes = metric.detector(image, "Traffic light")
    processor, model = metric.detector.processor, metric.detector.model
    shown = ((image + 1) * 127.5).round().to(torch.uint8)
    with torch.no_grad():
        outputs = model(**processor(text="a traffic light.", images=shown, return_tensors="pt"))
    x, y, w, h = outputs.pred_boxes[0, outputs.logits.sigmoid().amax(dim=2)[0].argmax()].tolist()
    best = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
    found = [boxes[0].left, boxes[0].top, boxes[0].right, boxes[0].bottom]
    assert found == pytest.approx(best, abs=1e-3)
    (scores,) = metric.score(image[None], [Prompt("a red car left of two dogs")])
    assert scores["detect_recall"] == 1.0
    assert set(scores) >= {"detect_binding", "detect_count", "detect_relation"}


def test_a_tiny_owlv2(folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    from tiny_families import make

    folder = make("owlv2", tmp_path / "owlv2")
    metric = PluginManager.load().build("metric", f"detect:model={folder},threshold=0.01,device=cpu")
    check_metric(metric, skip=["none-left-out"])
    boxes = metric.detector(filled("red"), "dog")
    assert boxes
    assert all(box.right >= box.left and box.bottom >= box.top for box in boxes)
    with pytest.raises(
        GuidelensError, match="is a clip of transformers, which does not find objects by name"
    ):
        PluginManager.load().build("metric", f"detect:model={folder_of('clip')}")
    with pytest.raises(UsageError, match="threshold must be between 0 and 1, not 2"):
        PluginManager.load().build("metric", f"detect:model={folder},threshold=2")
    with pytest.raises(GuidelensError, match="download=true: detect:model=acme/owl,download=true"):
        PluginManager.load().build("metric", "detect:model=acme/owl")
