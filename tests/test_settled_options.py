"""Options that the length of a run decides: decided once per directory, recorded, and used to draw again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from guidelens import compare
from guidelens.errors import UsageError
from guidelens.hookspecs import Register, RunLength, hookimpl
from guidelens.plugins import PluginManager
from guidelens.sampling import Sampling
from guidelens.studies.redraw import redraw
from guidelens_guided_diffusion.plugin import COMPILATION_PAYS, guided_diffusion, settle_compile
from tiny_world import TinyGenerator, TinyGuidance, Weights
from torch import Tensor

BUILT: list[str] = []


class Rounding(TinyGenerator):
    """Computes a little differently in its fast way."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        BUILT.append(way)

    def __call__(self, x_t: Tensor, timesteps: Tensor, /) -> Tensor:
        out = super().__call__(x_t, timesteps)
        return out * 1.05 if self.way == "fast" else out


def rounding(way: Literal["slow", "fast", "auto"] = "slow", unused: int = 0) -> Rounding:
    """Build it."""
    assert way != "auto"
    return Rounding(way)


def settle(options: Mapping[str, Any], length: RunLength) -> Mapping[str, Any]:
    if options.get("way") != "auto":
        return {}
    assert length.device == "cpu"
    return {"way": "fast" if length.pictures * length.steps >= 24 else "slow"}


class World:
    @hookimpl
    def register_generators(self, register: Register) -> None:
        register("rounding", rounding, summary="rounds", settle=settle)

    @hookimpl
    def register_guidance_models(self, register: Register) -> None:
        register("tiny-vl", TinyGuidance, summary="tiny")


def plugins() -> PluginManager:
    return PluginManager.load([World()])


def draw(out: Path, seeds: int, generator: str = "rounding:way=auto,unused=1") -> list[dict[str, Any]]:
    BUILT.clear()
    return compare(
        "a red circle",
        out=out,
        schedules={"itc": Weights("itc", {"itc": 1.0})},
        seeds=seeds,
        sampling=Sampling(steps=3),
        generator=generator,
        guidance="tiny-vl",
        metrics=(),
        device="cpu",
        plugins=plugins(),
    ).rows


@pytest.mark.parametrize(
    ("first", "then", "spelled"),
    [(2, 9, "rounding:unused=1"), (8, 9, "rounding:way=fast,unused=1"), (8, 1, "rounding:way=fast,unused=1")],
)
def test_a_directory_keeps_what_was_decided(tmp_path: Path, first: int, then: int, spelled: str) -> None:
    """Also when the comparison grows beyond the length that decides, or only a few of its pictures are asked for."""
    assert {row["generator"] for row in draw(tmp_path, first)} == {spelled}
    assert {row["generator"] for row in draw(tmp_path, then)} == {spelled}
    assert set(BUILT) == {"fast" if "fast" in spelled else "slow"}


def test_a_picture_is_drawn_again_as_it_was(tmp_path: Path) -> None:
    """Even after the user has continued the run in another way."""
    (row,) = draw(tmp_path, 1, "rounding:way=fast")
    later = draw(tmp_path, 2, "rounding")
    assert [each["generator"] for each in later] == ["rounding:way=fast", "rounding"]
    for each in (row, later[1]):
        assert redraw(tmp_path, each["key"], plugins=plugins()).same


def test_compile_auto() -> None:
    def decided(device: str, pictures: int, **options: str) -> Mapping[str, Any]:
        return settle_compile(options, RunLength(pictures, 50, device))

    enough = COMPILATION_PAYS // 50
    assert decided("cuda", enough, compile="auto") == {"compile": "true"}
    assert decided("cuda", enough - 1, compile="auto") == {"compile": "false"}
    assert decided("cpu", enough, compile="auto") == {"compile": "false"}
    assert decided("cuda", enough, compile="true") == {}
    assert decided("cuda", enough) == {}


def test_elsewhere_auto_is_one_line() -> None:
    with pytest.raises(UsageError, match=r"compile=auto is decided by guidelens compare.*compile=true or"):
        guided_diffusion(untrained=True, compile="auto")
    component = PluginManager.load().resolve("generator", "guided-diffusion:untrained=true,compile=auto")
    assert component.settled(RunLength(1, 50, "cuda")).spec == "guided-diffusion:untrained=true"
