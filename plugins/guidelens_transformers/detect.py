"""``detect``: facts checked by an open-vocabulary detector of transformers (OWL-ViT, OWLv2, Grounding DINO)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from guidelens.contracts import Prompt, QuestionedScores, QuestionScore
from guidelens.errors import GuidelensError
from guidelens.metrics.facts import check_facts, fact_columns, fact_scores
from guidelens.metrics.questions import FactReader
from guidelens.prompts.facts import statement, with_article
from torch import Tensor
from torchvision.ops import nms

from .boxes import LEAST_SHARE_SHOWN, Box, can_check, colour_of, colour_shares, holds
from .loading import check_version, read_config, reading

Detector = Callable[[Tensor, str], Sequence[Box]]
"""Finds a noun in an image (3, H, W) in [-1, 1]."""

OVERLAP = 0.5
"""If two boxes of one noun overlap more than this (intersection over union), only the better one is kept."""


class DetectMetric:
    """Facts by boxes and pixels: a :class:`guidelens.contracts.Metric` in the manner of GenEval.

    An object appears if the detector finds it. A count is the number of boxes. Left, right, above and below follow from
    the boxes' centres, and a colour from the pixels in the middle of a box. Facts of other kinds (a material, "riding")
    cannot be checked and do not count. Facts come with the prompt or from the parser of English.
    """

    def __init__(self, detector: Detector) -> None:
        """Check facts with ``detector``."""
        self.detector, self.facts = detector, FactReader()
        self.columns = fact_columns("detect", "", "by the boxes of a detector")

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Score images (B, 3, H, W) in [-1, 1]; see :class:`guidelens.contracts.Metric`."""
        return [scores for scores, _ in self.score_questions(images, prompts)]

    def score_questions(self, images: Tensor, prompts: Sequence[Prompt]) -> list[QuestionedScores]:
        """Return the scores, and each fact that boxes can check: 1 if it holds by itself."""
        return [self._one(image, prompt) for image, prompt in zip(images, prompts, strict=True)]

    def _one(self, image: Tensor, prompt: Prompt) -> QuestionedScores:
        facts = self.facts(prompt)
        checked = [fact for fact in facts if can_check(fact)]
        nouns = dict.fromkeys(noun for fact in checked for noun in (fact.subject, fact.object) if noun)
        boxes = {noun: self.detector(image, noun) for noun in nouns}
        texts = [statement(fact) if can_check(fact) else "" for fact in facts]
        found = [
            float(bool(text) and holds(fact, boxes, image)) for fact, text in zip(facts, texts, strict=True)
        ]
        shares = colour_shares(image)
        shown = {
            fact.value
            for fact in checked
            if fact.kind == "attribute" and shares[colour_of(fact.value) or ""] >= LEAST_SHARE_SHOWN
        }
        answers = check_facts(facts, texts, found, 0.5)
        named = {f"detect_{name}": value for name, value in fact_scores(answers, shown).items()}
        return named, [QuestionScore(a.text, a.probability, "boxes", a.holds) for a in answers if a.text]


class TransformersDetector:
    """A zero-shot detector of transformers. Each noun is searched separately, so all boxes are its boxes."""

    def __init__(self, model: Any, processor: Any, threshold: float, device: torch.device) -> None:
        """Use ``model`` on ``device``. Boxes with a score of at least ``threshold`` count."""
        self.model = model.eval().requires_grad_(False).to(device)
        self.processor, self.threshold, self.device = processor, threshold, device
        self._phrase = "{}" if "dino" in model.config.model_type else "a photo of {}"

    @torch.no_grad()
    def __call__(self, image: Tensor, noun: str) -> list[Box]:
        """Return the boxes of a noun, without those that overlap a better one."""
        height, width = image.shape[1:]
        picture = ((image.detach().cpu().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        text = self._phrase.format(with_article(noun))
        inputs: Mapping[str, Tensor] = self.processor(text=[[text]], images=picture, return_tensors="pt")
        on_device = {name: value.to(self.device) for name, value in inputs.items()}
        outputs = self.model(**on_device)
        (found,) = self.processor.post_process_grounded_object_detection(
            outputs, threshold=self.threshold, target_sizes=[(height, width)]
        )
        boxes = found["boxes"].float()
        kept = nms(boxes, found["scores"].float(), OVERLAP)
        return [Box(*values) for values in boxes[kept].cpu().tolist()]


def load_detector(
    directory: Path, threshold: float, device: torch.device, *, source: str
) -> TransformersDetector:
    """Load a detector and its processor from a directory.

    :param source: the model, as error messages name it.
    :raises GuidelensError: a file is missing or unreadable, or the model is not a zero-shot detector.
    """
    check_version()
    import transformers
    from transformers.models.auto import modeling_auto

    kind = read_config(directory, source)["model_type"]
    if kind not in modeling_auto.MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING_NAMES:
        raise GuidelensError(
            f"{source} is a {kind} of transformers, which does not find objects by name; choose an OWLv2 or Grounding "
            "DINO"
        )
    with reading(source):
        processor = transformers.AutoProcessor.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
        model = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False, dtype=torch.float32
        )
    return TransformersDetector(model, processor, threshold, device)
