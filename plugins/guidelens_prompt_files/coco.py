"""COCO's annotation files: captions with the annotated objects of their pictures as facts.

The format is that of https://cocodataset.org/#format-data: ``captions_SPLIT.json`` and ``instances_SPLIT.json`` list
``images`` and ``annotations``, and the latter also ``categories``.
"""

from __future__ import annotations

import json
import logging
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from guidelens.contracts import Fact, Prompt
from guidelens.errors import UsageError
from guidelens.prompts.english import parse_prompt
from guidelens.prompts.facts import NUMBERS, plural_of
from guidelens.text import read_text

logger = logging.getLogger("guidelens.prompts")

Objects = Literal["mentioned", "all"]
"""``mentioned``: the annotated objects that the caption names. ``all``: every annotated object of its picture."""

_T = TypeVar("_T")

_OTHER_WORDS = {
    "airplane": "plane jet aeroplane aircraft",
    "backpack": "bag rucksack",
    "baseball bat": "bat",
    "baseball glove": "glove mitt",
    "bicycle": "bike",
    "bird": "duck goose seagull gull parrot pigeon owl",
    "boat": "ship sailboat canoe kayak ferry",
    "cat": "kitten kitty",
    "cell phone": "phone cellphone smartphone",
    "couch": "sofa loveseat",
    "cow": "cattle bull calf",
    "cup": "mug",
    "dining table": "table",
    "dog": "puppy",
    "donut": "doughnut",
    "handbag": "purse bag",
    "horse": "pony",
    "laptop": "computer",
    "motorcycle": "motorbike bike moped scooter",
    "person": (
        "man woman boy girl child kid baby toddler lady guy adult gentleman pedestrian player batter rider skier "
        "surfer skater skateboarder snowboarder"
    ),
    "potted plant": "plant houseplant",
    "refrigerator": "fridge",
    "remote": "controller",
    "sheep": "lamb ram ewe",
    "skateboard": "board",
    "skis": "ski",
    "snowboard": "board",
    "sports ball": "ball football basketball baseball",
    "suitcase": "luggage bag",
    "surfboard": "board",
    "teddy bear": "teddy",
    "tennis racket": "racket racquet",
    "tie": "necktie",
    "traffic light": "stoplight",
    "train": "locomotive",
    "truck": "pickup lorry",
    "tv": "television",
    "wine glass": "glass",
}
"""Words of captions for COCO's categories, separated by spaces. A word counts only if its category is annotated."""


@dataclass(frozen=True)
class AnnotatedObject:
    """The instances of one category in a picture.

    :param number: how many there are; 0 if some are annotated as a crowd, which is not counted.
    :param area: in pixels, of all of them.
    """

    category: str
    number: int
    area: float


def read_annotations(
    captions: Path, instances: Path | None = None, objects: Objects = "mentioned"
) -> list[Prompt]:
    """Return a prompt for each caption, in the order of the file, with the file name of its picture.

    The facts are objects, in the order of mention; objects that the caption does not name follow by size. A number is a
    fact if it is annotated, and stated by the caption or, with ``all``, at most ten.

    :param captions: ``captions_SPLIT.json``.
    :param instances: ``instances_SPLIT.json``; None: the one beside ``captions``. Without it, prompts have no facts.
    :raises UsageError: a file has another format or no captions.
    """
    beside = captions.with_name(captions.name.replace("captions", "instances", 1))
    if instances is None and (beside == captions or not beside.is_file()):
        logger.warning("coco: no %s beside the captions, so prompts get no annotated objects", beside.name)
        annotated: Mapping[int, Sequence[AnnotatedObject]] = {}
    else:
        annotated = _read(instances or beside, "instances", _objects)
    found = _read(captions, "captions", _captions)
    prompts = [
        Prompt(text, picture=picture, facts=tuple(_facts(text, annotated.get(image, ()), objects)))
        for text, picture, image in found
        if text
    ]
    if not prompts:
        raise UsageError(f"{captions} holds no caption")
    return prompts


def _read(path: Path, kind: str, of: Callable[[Any], _T]) -> _T:
    """Read a JSON file and convert it.

    :raises UsageError: it is not JSON, or has another format.
    """
    try:
        return of(json.loads(read_text(path, f"the prompts {path}")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(f"{path} does not have the format of COCO's {kind}: {reason}") from None


def _captions(content: Any) -> list[tuple[str, str, int]]:
    """Return text, file name and id of the picture of each caption."""
    pictures = {image["id"]: image["file_name"] for image in content["images"]}
    return [
        (" ".join(entry["caption"].split()), pictures[entry["image_id"]], entry["image_id"])
        for entry in content["annotations"]
    ]


def _objects(content: Any) -> dict[int, list[AnnotatedObject]]:
    """Return the annotated objects of each picture, the largest first."""
    names = {category["id"]: category["name"] for category in content["categories"]}
    grouped: dict[int, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for entry in content["annotations"]:
        grouped[entry["image_id"]][names[entry["category_id"]]].append(entry)
    return {
        image: sorted(
            (_object(name, entries) for name, entries in by_category.items()), key=lambda found: -found.area
        )
        for image, by_category in grouped.items()
    }


def _object(category: str, entries: Sequence[Mapping[str, Any]]) -> AnnotatedObject:
    crowd = any(entry.get("iscrowd", 0) for entry in entries)
    area = sum(float(entry.get("area", 0.0)) for entry in entries)
    return AnnotatedObject(category, 0 if crowd else len(entries), area)


def _facts(caption: str, annotated: Sequence[AnnotatedObject], objects: Objects) -> list[Fact]:
    """Return the facts of a caption's picture: objects, then numbers."""
    text = caption.lower()
    places = {found.category: _mention(text, found.category) for found in annotated}
    named = sorted(
        (found for found in annotated if places[found.category] >= 0), key=lambda f: places[f.category]
    )
    if objects == "all":
        shown = named + [found for found in annotated if places[found.category] < 0]
        counted = {found.category for found in shown if found.number < len(NUMBERS)}
    else:
        stated = _stated_numbers(caption, list(places))
        shown, counted = named, {f.category for f in named if stated.get(f.category) == f.number}
    counts = [
        Fact("count", found.category, number=found.number, needs=(position,))
        for position, found in enumerate(shown)
        if found.number and found.category in counted
    ]
    return [Fact("object", found.category) for found in shown] + counts


def _mention(text: str, category: str) -> int:
    """Return the first position of a word for the category in a text in lower case, or -1."""
    found = re.search(rf"\b(?:{'|'.join(map(re.escape, _words(category)))})\b", text)
    return found.start() if found else -1


def _words(category: str) -> list[str]:
    """Return the words for a category, in singular and plural."""
    nouns = [category, *_OTHER_WORDS.get(category, "").split()]
    return [form for noun in nouns for form in (noun, plural_of(noun))]


def _stated_numbers(caption: str, categories: Sequence[str]) -> dict[str, int]:
    """Return the numbers that a caption states, by category: 2 for ``two men`` and the category ``person``."""
    stated = [(fact.subject, fact.number) for fact in parse_prompt(caption).facts if fact.kind == "count"]
    return {
        category: number for category in categories for noun, number in stated if noun in _words(category)
    }
