"""Hints for near misses: a part of a name, a file in place of a component, a seed in place of a number of seeds."""

from __future__ import annotations

from pathlib import Path

import pytest
from guidelens import PluginManager
from guidelens.errors import UsageError
from guidelens.plugins.spelling import nearest
from guidelens.runs.config import MAX_SEEDS, parse_seeds


@pytest.fixture(scope="module")
def plugins() -> PluginManager:
    return PluginManager.load(environment={})


@pytest.mark.parametrize(
    ("kind", "text", "hint"),
    [
        ("guidance", "clip", "did you mean 'open-clip'"),
        ("guidance", "CLIP", "did you mean 'open-clip'"),
        ("guidance", "openclip", "did you mean 'open-clip'"),
        ("guidance", "classifier", "did you mean 'noisy-classifier'"),
        ("metric", "clip", "did you mean 'clip-score'"),
    ],
)
def test_a_part_of_a_name_finds_it(plugins: PluginManager, kind: str, text: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        plugins.resolve(kind, text)


def test_an_ambiguous_part_is_no_hint() -> None:
    assert nearest("a", ["a-x", "a-y"]) is None
    assert nearest("x", ["a-x", "a-y"]) == "a-x"


def test_a_file_says_how_it_is_spelled(
    plugins: PluginManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mine.csv", "x.pt"):
        Path(name).touch()
    with pytest.raises(UsageError, match=r"'mine.csv'; it is a file here: write file:path=mine.csv$"):
        plugins.resolve("prompts", "mine.csv")
    with pytest.raises(UsageError, match=r"it is a file here: write .*guided-diffusion:checkpoint=x.pt"):
        plugins.resolve("generator", "x.pt")
    with pytest.raises(UsageError, match=r"it is a file here: write .*open-clip:checkpoint=x.pt"):
        plugins.resolve("guidance", "x.pt")
    with pytest.raises(UsageError, match=r"unknown generator 'y\.pt'; choose"):
        plugins.resolve("generator", "y.pt")


def test_a_large_number_of_seeds_is_a_seed() -> None:
    with pytest.raises(UsageError, match="for the one seed 3012672161 write 3012672161-3012672161"):
        parse_seeds("3012672161")
    assert parse_seeds("3012672161-3012672161") == (3012672161,)
    assert len(parse_seeds(str(MAX_SEEDS))) == MAX_SEEDS
    with pytest.raises(UsageError, match="the number of seeds must be from 1 to") as caught:
        parse_seeds("9" * 5000)
    assert len(str(caught.value)) < 200
    with pytest.raises(UsageError):
        parse_seeds("0," + "9" * 5000)
