"""Create a survey from the directory of a study or comparison: select and blind pictures, draw the design."""

from __future__ import annotations

import random
import re
import secrets
import struct
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens import __version__
from guidelens.errors import UsageError
from guidelens.pictures import png_bytes
from guidelens.studies.results import CellRecord, StudyResults, flat, load_study

from . import wording
from .design import CHECK, KINDS, Plan, Rules, Unit, draw, most_items
from .store import FORMAT, StoredItem, SurveyFile, new_token, write_survey

if TYPE_CHECKING:
    from PIL.Image import Image

_END = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
_PADDING = b"paDd"
"""A PNG chunk of our own, which decoders skip: ancillary, private, safe to copy."""


def create_survey(
    directory: str | Path,
    path: str | Path,
    *,
    design: str = "pairwise",
    questions: Sequence[str] = ("realism", "alignment"),
    items: int | None = None,
    raters: int = 10,
    repeats: int | None = None,
    checks: int | None = None,
    overlap: int = 3,
    seed: int = 0,
    compare: str = "schedule",
    where: Mapping[str, str] | None = None,
    title: str = "Pictures and sentences",
    consent: str = wording.CONSENT,
    contact: str = "",
    rules: Mapping[str, Any] | None = None,
) -> SurveyFile:
    """Draw a survey of a run's pictures and write its file.

    Pictures are encoded again without metadata, padded to equal length, and stored under random names.

    :param directory: of ``guidelens compare`` or ``guidelens study run``.
    :param path: the new file.
    :param design: ``pairwise`` (two pictures, ties allowed), ``rating`` (one picture, 1 to 5) or
        ``forced-choice`` (a picture of every condition, one is chosen).
    :param questions: names of known questions, or ``name=Text?``.
    :param items: items per rater, without repeats and checks. Default: 20, or as many as there are.
    :param repeats: number of items that are asked twice. Default: a tenth.
    :param checks: number of attention checks. Default: 3, or 1 with fewer than 10 items.
    :param overlap: intended number of raters per item. Agreement needs at least two.
    :param compare: column of the study's table whose values are the conditions.
    :param where: column -> value of the cells to take.
    :param rules: values of :class:`guidelens_survey.design.Rules` that differ from its defaults.
    :raises UsageError: the pictures do not suffice for the survey, or the file exists.
    """
    if not consent.strip():
        raise UsageError("the consent text is empty: write what raters agree to")
    study = load_study(directory)
    word = wording.looks(study.config["metrics"])
    asked = wording.questions(questions, design, word) if design in KINDS else []
    table = select(study, compare, where or {})
    conditions = list(dict.fromkeys(name for cells in table.values() for name in cells))
    units = [unit for unit, cells in table.items() if len(cells) == len(conditions)]
    items = min(20, most_items(design, conditions, units)) if items is None else items
    counts = _counts(items, raters, repeats, checks)
    excluded = Rules(**{"failed_checks": counts["checks"] // 3, **(rules or {})})
    plan = draw(design, conditions, units, **counts, overlap=overlap, seed=seed)
    about = {"study": study.name, "design": design, "compare": compare, "where": dict(where or {})}
    asking = {"conditions": conditions, "questions": [question.as_dict() for question in asked]}
    chances = {**counts, "overlap": overlap, "seed": seed}
    shown = {"title": title, "consent": consent, "contact": contact}
    config = {**_identity(), **about, **asking, **chances, **shown, "rules": asdict(excluded)}
    images, tokens = _images(study, plan, table)
    write_survey(Path(path), config, images, _stored(plan, tokens))
    return SurveyFile(path)


def _counts(items: int, raters: int, repeats: int | None, checks: int | None) -> dict[str, int]:
    return {
        "items": items,
        "raters": raters,
        "repeats": items // 10 if repeats is None else repeats,
        "checks": (3 if items >= 10 else 1) if checks is None else checks,
    }


def _identity() -> dict[str, Any]:
    """Return the random identity of a survey: its name, the key that signs forms, the token of the open link."""
    return {
        "format": FORMAT,
        "guidelens": __version__,
        "id": secrets.token_hex(8),
        "secret": secrets.token_hex(32),
        "open": new_token(),
        "created": time.time(),
    }


def select(study: StudyResults, compare: str, where: Mapping[str, str]) -> dict[Unit, dict[str, CellRecord]]:
    """Return unit -> condition -> the cell that shows it.

    :raises UsageError: a column is unknown, or a unit and condition have no cell or several.
    """
    cells = [(cell, _columns(cell)) for cell in study.cells if cell["status"] == "done"]
    if not cells:
        raise UsageError(f"{study.directory} has no finished pictures")
    for name in (compare, *where):
        if name not in cells[0][1]:
            known = ", ".join(n for n in cells[0][1] if "." not in n or n.startswith("option."))
            raise UsageError(f"no column {name!r} in {study.directory}; there are {known}")
    chosen = [
        (cell, columns)
        for cell, columns in cells
        if all(_text(columns.get(name)) == value for name, value in where.items())
    ]
    if not chosen:
        raise UsageError(f"no picture has {', '.join(f'{n}={v}' for n, v in where.items())}")
    table: dict[Unit, dict[str, CellRecord]] = {}
    for cell, columns in chosen:
        there = table.setdefault(Unit(cell["prompt"], cell["seed"]), {})
        other = there.setdefault(_text(columns[compare]), cell)
        if other["key"] != cell["key"]:
            first = _columns(other)
            vary = [n for n in columns if _is_setting(n) and columns[n] != first.get(n)]
            raise UsageError(
                f"several pictures of {cell['prompt']!r} under {_text(columns[compare])}: they differ in "
                f"{', '.join(vary) or 'settings'}; choose with --where, for instance {vary[0]}={columns[vary[0]]}"
                if vary
                else f"several pictures of {cell['prompt']!r} under {_text(columns[compare])}"
            )
    return table


def _columns(cell: CellRecord) -> dict[str, Any]:
    return flat(cell)


def _is_setting(name: str) -> bool:
    measured = ("metric", "loss", "gradient_norm", "cosine", "metric_error")
    return name.partition(".")[0] not in measured and name not in (
        "key", "seconds", "image", "notes", "settings", "status", "reason", "pair", "nonfinite_steps", "category",
    )  # fmt: skip


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _images(
    study: StudyResults, plan: Plan, table: Mapping[Unit, Mapping[str, CellRecord]]
) -> tuple[list[tuple[Any, ...]], dict[tuple[Unit, str], str]]:
    """Return the rows of pictures, in random order, and the token of each."""
    wanted = dict.fromkeys((item.unit, name) for seat in plan.seats for item in seat for name in item.shown)
    pictures = {place: study.image(table[place[0]][place[1]]["key"]) for place in wanted}
    encoded = {place: encode(picture) for place, picture in pictures.items()}
    longest = max(map(len, encoded.values()))
    tokens = {place: new_token() for place in wanted}
    rows = [
        (tokens[place], table[place[0]][place[1]]["key"], place[1], place[0].prompt, place[0].seed,
         *pictures[place].size, pad(encoded[place], longest + 12))
        for place in wanted
    ]  # fmt: skip
    random.SystemRandom().shuffle(rows)
    return rows, tokens


def encode(picture: Image) -> bytes:
    """Return a picture's pixels as PNG, without metadata."""
    from PIL import Image as images

    plain = images.new("RGB", picture.size)
    plain.paste(picture.convert("RGB"))
    return png_bytes(plain)


def pad(png: bytes, length: int) -> bytes:
    """Pad a PNG to ``length`` bytes (at least 12 more than it has), so that its size reveals nothing."""
    content = bytes(length - len(png) - 12)
    chunk = struct.pack(">I", len(content)) + _PADDING + content
    chunk += struct.pack(">I", zlib.crc32(_PADDING + content))
    assert png.endswith(_END)
    return png[: -len(_END)] + chunk + _END


def _stored(plan: Plan, tokens: Mapping[tuple[Unit, str], str]) -> list[StoredItem]:
    """Number the items at random, so that an id reveals nothing about the conditions."""
    places = [(s, p) for s, seat in enumerate(plan.seats) for p in range(len(seat))]
    ids = dict(zip(places, random.SystemRandom().sample(range(1, len(places) + 1), len(places)), strict=True))
    stored = []
    for seat, position in places:
        item = plan.seats[seat][position]
        is_check = item.kind == CHECK
        stored.append(
            StoredItem(
                ids[seat, position],
                seat,
                position,
                item.kind,
                item.unit.prompt,
                item.unit.seed,
                item.shown,
                tuple(tokens[item.unit, name] for name in item.shown),
                None if item.repeats < 0 else ids[seat, item.repeats],
                item.expected if is_check else None,
            )
        )
    return sorted(stored, key=lambda item: item.repeats is not None)  # a repeat refers to an earlier row


def read_where(spellings: Sequence[str]) -> dict[str, str]:
    """Read ``COLUMN=VALUE`` words.

    :raises UsageError: a word has another form.
    """
    found = {}
    for word in spellings:
        match = re.fullmatch(r"([^=]+)=(.*)", word, re.DOTALL)
        if match is None:
            raise UsageError(f"--where {word!r}: write COLUMN=VALUE")
        found[match[1].strip()] = match[2].strip()
    return found
