"""Readers of the published prompt sets. They return prompts, with facts and wrong captions if the set has them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from guidelens.contracts import Fact, Prompt
from guidelens.errors import UsageError
from guidelens.prompts import read_prompts
from guidelens.prompts.facts import number_of
from guidelens.text import read_text, split_lines

Read = Callable[[Path, str], "list[Prompt]"]


def _explained(read: Read) -> Read:
    """Make a reader raise a one-line :class:`UsageError` if the file has another format or no prompts."""

    @wraps(read)
    def explained(path: Path, category: str) -> list[Prompt]:
        try:
            found = read(path, category)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            set_name = read.__name__.removeprefix("read_")
            raise UsageError(f"{path} does not have the format of {set_name}: {error!r}") from None
        if not found:
            raise UsageError(f"{path} holds no prompt")
        return found

    return explained


def read_lines(path: Path, category: str) -> list[Prompt]:
    """Return one prompt per line, all in the given category."""
    return [Prompt(prompt.text, category) for prompt in read_prompts(path)]


def read_coco(path: Path, category: str) -> list[Prompt]:
    """Return COCO's captions: column ``caption`` of a TSV. If there is a column ``file_name``, it is the picture."""
    rows = _table(path, "\t")
    if not rows or "caption" not in rows[0]:
        return read_prompts(path, "caption")  # raises an error that names the missing column
    captions = ((" ".join((row["caption"] or "").split()), row.get("file_name") or "") for row in rows)
    return [Prompt(text, picture=picture) for text, picture in captions if text]


@_explained
def read_geneval(path: Path, category: str) -> list[Prompt]:
    """Return GenEval's prompts, with facts from its metadata in the order in which the prompt names the objects.

    An object counts as present if it appears at least once, as in GenEval. Only prompts in the category ``counting``
    have facts about numbers.
    """
    return [_geneval(entry) for entry in _json_lines(path)]


def _geneval(entry: Mapping[str, Any]) -> Prompt:
    text, tag, include = entry["prompt"], entry["tag"], entry["include"]
    order = sorted(range(len(include)), key=lambda i: _mention(text, include[i]["class"]))
    place = {original: position for position, original in enumerate(order)}
    facts = [Fact("object", include[i]["class"]) for i in order]
    for i in order:
        item = include[i]
        own = (place[i],)
        if "color" in item:
            facts.append(Fact("attribute", item["class"], item["color"], needs=own))
        if tag == "counting":
            facts.append(Fact("count", item["class"], number=int(item["count"]), needs=own))
        if "position" in item:
            relation, other = item["position"]
            needs = (place[i], place[other])
            facts.append(Fact("relation", item["class"], relation, include[other]["class"], needs=needs))
    return Prompt(text, tag, facts=tuple(facts))


def _mention(text: str, noun: str) -> int:
    """Return the position of a noun, singular or plural, in a prompt. If it does not occur: the prompt's length."""
    found = re.search(rf"\b{re.escape(noun[:-1] if len(noun) > 3 else noun)}", text)
    return found.start() if found else len(text)


@_explained
def read_geneval2(path: Path, category: str) -> list[Prompt]:
    """Return GenEval 2's prompts, with facts from its questions. The category is the number of atoms."""
    return [_geneval2(entry) for entry in _json_lines(path)]


def _geneval2(entry: Mapping[str, Any]) -> Prompt:
    asked = [
        (question, answer, skill)
        for (question, answer), skill in zip(entry["vqa_list"], entry["skills"], strict=True)
    ]
    nouns = [_between("Are there any ", question) for question, _, skill in asked if skill == "object"]
    facts = [
        Fact("object", _singular(noun), question=f"Are there any {noun} in the image?") for noun in nouns
    ]
    for question, answer, skill in asked:
        if skill == "count":
            noun = _between("How many ", question, " are in the image?")
            facts.append(Fact("count", _singular(noun), number=_number(answer), needs=(nouns.index(noun),)))
        elif skill != "object":
            facts.append(_geneval2_statement(question, skill, nouns))
    return Prompt(entry["prompt"], f"{entry['atom_count']} atoms", facts=tuple(facts))


def _geneval2_statement(question: str, skill: str, nouns: Sequence[str]) -> Fact:
    """Return the attribute in ``Are the pigs green?``, or the relation in ``Is the cat behind the dog?``, as a fact."""
    body = re.sub(r"^(?:Is|Are) the ", "", question).rstrip("?")
    subject = _named(body, nouns)
    rest = body.removeprefix(_form(body, nouns[subject])).strip()
    if skill == "attribute":
        return Fact("attribute", _singular(nouns[subject]), rest, question=question, needs=(subject,))
    relation, _, other = rest.rpartition(" the ")
    target = _named(other, nouns)
    return Fact(
        "relation",
        _singular(nouns[subject]),
        relation,
        _singular(nouns[target]),
        question=question,
        needs=(subject, target),
    )


def _named(text: str, nouns: Sequence[str]) -> int:
    """Return the index of the noun that a text begins with. ``nouns`` are plurals; the text may have the singular."""
    return next(i for i, noun in enumerate(nouns) if _form(text, noun))


def _form(text: str, noun: str) -> str:
    """Return the form of a plural noun, itself or its singular, that a text begins with; else the empty text."""
    return next((form for form in (noun, _singular(noun)) if re.match(rf"{re.escape(form)}\b", text)), "")


def _singular(noun: str) -> str:
    """Return the singular of one of GenEval 2's plurals, which only add an s (even ``sheeps``)."""
    return noun.removesuffix("s")


def _between(before: str, text: str, after: str = " in the image?") -> str:
    """Return the part of a question between its beginning and its end.

    :raises ValueError: if the question has another form.
    """
    if not (text.startswith(before) and text.endswith(after)):
        raise ValueError(f"the question {text!r} does not begin with {before!r}")
    return text[len(before) : -len(after)]


def _number(word: str) -> int:
    number = number_of(word)
    if not number:
        raise ValueError(f"{word!r} is not a number")
    return number


_DSG_KINDS = {"entity": "object", "attribute": "attribute", "relation": "relation"}


@_explained
def read_dsg(path: Path, category: str) -> list[Prompt]:
    """Return DSG's prompts, each once, with facts from its tuples and questions. The category is the source."""
    items: dict[str, dict[str, list[dict[str, str]]]] = {}
    for row in _table(path, ","):
        items.setdefault(row["text"].strip(), {}).setdefault(row["item_id"], []).append(row)
    prompts = []
    for text, by_item in items.items():
        item, rows = next(iter(by_item.items()))
        prompts.append(Prompt(text, item.rpartition("_")[0], facts=tuple(_dsg_facts(rows))))
    return prompts


def _dsg_facts(rows: Sequence[Mapping[str, str]]) -> Iterable[Fact]:
    """Yield one fact per row. ``needs`` are the positions of the rows in the column ``dependency``."""
    places = {row["proposition_id"].strip(): position for position, row in enumerate(rows)}
    for position, row in enumerate(rows):
        named = [part.strip() for part in row["dependency"].split(",")]
        needs = tuple(sorted({places[part] for part in named if part in places} - {position}))
        yield _dsg_fact(row, needs)


def _dsg_fact(row: Mapping[str, str], needs: tuple[int, ...]) -> Fact:
    question = row["question_natural_language"].strip()
    inside = re.search(r"\((.*)\)\s*$", row["tuple"].strip(), re.DOTALL)
    parts = [part.strip() for part in inside[1].split(",")] if inside else []
    broad, detail = row["category_broad"].strip(), row["category_detailed"].strip()
    number = re.fullmatch(r"==\s*(\d+)", parts[-1]) if len(parts) > 1 else None
    if detail == "count" and number and int(number[1]):
        return Fact("count", parts[0], number=int(number[1]), question=question, needs=needs)
    kind = _DSG_KINDS.get(broad)
    if kind == "object" and parts:
        return Fact("object", ", ".join(parts), question=question, needs=needs)
    if kind == "attribute" and len(parts) > 1 and detail != "count":
        return Fact("attribute", parts[0], ", ".join(parts[1:]), question=question, needs=needs)
    if kind == "relation" and len(parts) > 2:
        return Fact("relation", parts[0], ", ".join(parts[2:]), parts[1], question=question, needs=needs)
    return Fact("other", parts[0] if parts else "", question=question, needs=needs)


@_explained
def read_sugarcrepe(path: Path, category: str) -> list[Prompt]:
    """Return SugarCrepe's captions, each with its wrong caption and the file name of its picture."""
    entries = json.loads(_text(path)).values()
    return [
        Prompt(e["caption"].strip(), category, foil=e["negative_caption"].strip(), picture=e["filename"])
        for e in entries
    ]


@_explained
def read_aro(path: Path, category: str) -> list[Prompt]:
    """Return ARO's captions, each with its wrong caption and a region of a picture, ``NAME#xywh=X,Y,W,H``."""
    return [
        Prompt(
            e["true_caption"].strip(),
            category,
            foil=e["false_caption"].strip(),
            picture=f"{e['image_path']}#xywh={e['bbox_x']},{e['bbox_y']},{e['bbox_w']},{e['bbox_h']}",
        )
        for e in json.loads(_text(path))
    ]


@_explained
def read_winoground(path: Path, category: str) -> list[Prompt]:
    """Return two prompts per entry of Winoground: the caption of each picture, with the other caption as the foil."""
    prompts = []
    for entry in _json_lines(path):
        captions = [entry["caption_0"].strip(), entry["caption_1"].strip()]
        for own in (0, 1):
            picture = f"{entry[f'image_{own}']}.png"
            prompts.append(
                Prompt(captions[own], entry["collapsed_tag"], foil=captions[1 - own], picture=picture)
            )
    return prompts


def _text(path: Path) -> str:
    return read_text(path, f"the prompts {path}")


def _json_lines(path: Path) -> list[Mapping[str, Any]]:
    return [json.loads(line) for line in split_lines(_text(path)) if line.strip()]


def _table(path: Path, delimiter: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(_text(path), newline=""), delimiter=delimiter))
