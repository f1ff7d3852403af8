"""docs/weights.md against the program: every file has its line, hashes are claimed where known, its code runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from guidelens.plugins import PluginManager
from guidelens.weights import WeightsFile, weights_home
from guidelens.weights.store import WeightsMissing

PAGE = (Path(__file__).parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")


def known() -> dict[str, WeightsFile]:
    return {file.name: file for _, file in PluginManager.load(environment={}).weights()}


def test_every_file_has_its_line() -> None:
    table = PAGE.partition("## What there is")[2].partition("\n## ")[0]
    named = {
        name
        for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
        for name in re.findall("`(.+?)`", row)
    }
    assert named == known().keys()


def test_hashes_are_claimed_where_they_are_known() -> None:
    claim = PAGE.partition("Published hashes are known for")[2].partition(".")[0]
    weights = [file for file in known().values() if "prompt set" not in file.component]
    assert set(re.findall("`(.+?)`", claim)) == {file.name for file in weights if file.sha256}


def test_the_example_asks_for_its_file() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, "weights.md", "exec"), names)
    with pytest.raises(WeightsMissing) as caught:
        names["acme"]()
    place = weights_home() / "acme-base" / "acme_base.safetensors"
    assert str(caught.value) == (
        "acme needs acme_base.safetensors (123 MB), not on this machine: run `guidelens weights "
        f"fetch acme-base`, or place the file at {place}, or give acme:checkpoint=FILE"
    )
    names["acme"](checkpoint="x")
