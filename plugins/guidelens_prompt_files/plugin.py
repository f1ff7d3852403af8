"""Register the prompt set ``file`` and the published ones of :mod:`.published`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from guidelens.contracts import Prompt
from guidelens.errors import GuidelensError, UsageError
from guidelens.hookspecs import Register, RegisterWeights, hookimpl
from guidelens.prompts import read_prompts, select
from guidelens.weights import WeightsFile, locate

from .coco import Objects, read_annotations
from .published import COCO, SETS, PublishedSet

FOLDER = "GUIDELENS_PROMPTS"
"""Environment variable that names a folder of published sets. It is searched before the cache."""

_OTHER_NAMES = {COCO.files[0].filename: "coco_captions.tsv"}
"""Alternative file names in that folder, by published file name."""


def _file(
    path: Path, column: str = "", category: str = "", limit: int | None = None, seed: int | None = None
) -> Sequence[Prompt]:
    """Read prompts from a file.

    :param path: CSV, TSV, JSON, JSON lines, or text with one prompt per line; - reads standard input.
    :param column: the column with the prompts; default: prompt, prompts, caption, captions or text.
    :param category: only prompts of these categories, joined by ``+``.
    :param limit: number of prompts; default: all.
    :param seed: draw ``limit`` prompts at random with this seed; default: take the first ones.
    """
    return select(
        read_prompts(path, column), categories=_categories(category), limit=limit, seed=seed, name=str(path)
    )


def _factory(published: PublishedSet) -> Callable[..., Sequence[Prompt]]:
    """Return the function that builds a published set from its options."""

    def build(
        path: Path | None = None, category: str = "", limit: int | None = None, seed: int | None = None
    ) -> Sequence[Prompt]:
        """Read a published prompt set from the cache, where ``guidelens weights fetch`` puts it.

        :param path: its file, or the folder of its files; default: the folder GUIDELENS_PROMPTS, then the cache.
        :param category: only prompts of these categories, joined by ``+`` (``Colors+Counting``).
        :param limit: number of prompts; default: all.
        :param seed: draw ``limit`` prompts at random with this seed; default: take the first ones.
        """
        prompts: list[Prompt] = []
        for file, name in _located(published, path):
            prompts += published.read(file, name)
        return select(prompts, categories=_categories(category), limit=limit, seed=seed, name=published.name)

    return build


def _coco(
    path: Path | None = None,
    instances: Path | None = None,
    objects: Objects = "mentioned",
    limit: int | None = None,
    seed: int | None = None,
) -> Sequence[Prompt]:
    """Read captions of COCO: the published selection, or COCO's own annotation files, with facts.

    :param path: the published file or its folder, or captions_SPLIT.json of COCO; default: as for other published sets.
    :param instances: instances_SPLIT.json, for the facts of captions_SPLIT.json; default: the one beside it.
    :param objects: facts for the annotated objects that the caption mentions, or for all of its picture.
    :param limit: number of prompts; default: all.
    :param seed: draw ``limit`` prompts at random with this seed; default: take the first ones.
    """
    if path is not None and path.suffix == ".json":
        prompts = read_annotations(path, instances, objects)
    elif instances is not None:
        raise UsageError("coco: instances= needs path=captions_SPLIT.json, the captions of the same pictures")
    else:
        prompts = [prompt for file, name in _located(COCO, path) for prompt in COCO.read(file, name)]
    return select(prompts, limit=limit, seed=seed, name=COCO.name)


def _categories(text: str) -> list[str]:
    return [part.strip() for part in text.split("+") if part.strip()]


def _located(published: PublishedSet, path: Path | None) -> list[tuple[Path, str]]:
    """Return the paths of a set's files, each with its category (empty if the rows have their own).

    :raises GuidelensError: if a file is missing. Unless ``path`` was given, the message states the origin, the licence
        and the command that fetches it.
    """
    if path is not None and (path.suffix or not path.is_dir()) and len(published.files) == 1:
        return [(path, published.parts[0][1])]
    folder = path or (Path(os.environ[FOLDER]).expanduser() if os.environ.get(FOLDER) else None)
    found = [(_placed(file, folder, path is None), category) for file, category in published.parts]
    missing = [file for (place, _), file in zip(found, published.files, strict=True) if place is None]
    if missing and path is not None:
        raise GuidelensError(f"{published.name}: {path} has no {missing[0].filename}")
    if missing:
        raise GuidelensError(_how_to_get(published))
    return [(place, category) for place, category in found if place is not None]


def _placed(file: WeightsFile, folder: Path | None, or_cache: bool) -> Path | None:
    """Return where a file is: in the folder, else (if allowed) in the cache; None if it is in neither."""
    if folder is not None:
        for name in (file.filename, _OTHER_NAMES.get(file.filename, file.filename)):
            if (folder / name).is_file():
                return folder / name
    return locate(file) if or_cache else None


def _how_to_get(published: PublishedSet) -> str:
    first, name = published.files[0], published.name
    place = "FILE" if len(published.files) == 1 else "FOLDER"
    return (
        f"{name} is not on this machine: run `guidelens weights fetch {name}` (from {first.origin}; "
        f"licence: {first.licence}), or give {name}:path={place}"
    )


@hookimpl
def register_prompt_sets(register: Register) -> None:
    """Register ``file`` and the published sets."""
    register(
        "file", _file, summary="any CSV, TSV, JSON, JSON lines or text file with prompts, or standard input"
    )
    for published in SETS:
        factory = _coco if published is COCO else _factory(published)
        register(published.name, factory, summary=published.summary)


@hookimpl
def register_weights(register: RegisterWeights) -> None:
    """Register the files of the published sets, so that ``guidelens weights fetch`` finds them."""
    for published in SETS:
        for file in published.files:
            register(file)
