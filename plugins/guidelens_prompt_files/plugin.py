"""Register the prompt sets ``drawbench``, ``coco`` and ``file``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.hookspecs import Register, hookimpl
from guidelens.prompts import read_prompts, select

FOLDER = "GUIDELENS_PROMPTS"
"""Environment variable: the folder in which files are looked for that no path is given for."""

DRAWBENCH, COCO = "drawbench.csv", "coco_captions.tsv"

_WHERE = {
    DRAWBENCH: (
        "DrawBench is a sheet that the authors of Imagen (Saharia et al. 2022) link at imagen.research.google; "
        "export it as CSV with the header Prompts,Category"
    ),
    COCO: (
        "COCO captions come from cocodataset.org (2014 val annotations); a TSV with a column caption, such as the "
        "5,000 captions that text-to-image models are evaluated on"
    ),
}


def _file(
    path: Path, column: str = "", category: str = "", limit: int | None = None, seed: int | None = None
) -> Sequence[Prompt]:
    """Read prompts from a file.

    :param path: CSV or TSV with a header, or text, one prompt a line; - is standard input.
    :param column: the column with the prompts; empty: prompt, prompts, caption, captions or text.
    :param category: only prompts of these categories, joined by ``+``.
    :param limit: number of prompts; None: all.
    :param seed: None takes the first prompts; a number draws ``limit`` at random.
    """
    return select(
        read_prompts(path, column), categories=_categories(category), limit=limit, seed=seed, name=str(path)
    )


def _drawbench(
    path: Path | None = None, category: str = "", limit: int | None = None, seed: int | None = None
) -> Sequence[Prompt]:
    """Read DrawBench: 200 prompts in 11 categories.

    :param path: the CSV file; none looks for drawbench.csv in the folder that GUIDELENS_PROMPTS names.
    :param category: only prompts of these categories, joined by ``+`` (``Colors+Counting``).
    :param limit: number of prompts; None: all.
    :param seed: None takes the first prompts; a number draws ``limit`` at random.
    """
    return _file(path or _found(DRAWBENCH), "", category, limit, seed)


def _coco(path: Path | None = None, limit: int | None = None, seed: int | None = None) -> Sequence[Prompt]:
    """Read captions of COCO's pictures.

    :param path: the TSV file; none looks for coco_captions.tsv in the folder that GUIDELENS_PROMPTS names.
    :param limit: number of prompts; None: all.
    :param seed: None takes the first prompts; a number draws ``limit`` at random.
    """
    return _file(path or _found(COCO), "caption", "", limit, seed)


def _categories(text: str) -> list[str]:
    return [part.strip() for part in text.split("+") if part.strip()]


def _found(name: str) -> Path:
    folder = os.environ.get(FOLDER, "")
    path = Path(folder).expanduser() / name
    if folder and path.is_file():
        return path
    looked = f"{path} is not there" if folder else f"no path, and {FOLDER} names no folder"
    stem = name.partition(".")[0].partition("_")[0]
    raise UsageError(f"{stem}: {looked}; say {stem}:path=FILE. {_WHERE[name]}")


@hookimpl
def register_prompt_sets(register: Register) -> None:
    """Offer ``drawbench``, ``coco`` and ``file``."""
    register("drawbench", _drawbench, summary="DrawBench, 200 prompts in 11 categories, from its CSV")
    register("coco", _coco, summary="captions of COCO pictures, from a TSV")
    register("file", _file, summary="any CSV, TSV or text file with prompts, or standard input")
