"""Metrics of a world: read what a picture shows, and score it against the prompt."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from guidelens.contracts import ROLES, Column, Prompt
from numpy.typing import NDArray

from .description import Description, SceneItem
from .language import Language
from .scores import description_scores

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[np.float32]

logger = logging.getLogger("guidelens.worlds.metrics")


class Reading(Protocol):
    """What a world's parser reads in a picture."""

    @property
    def scene(self) -> Any:
        """The scene, with the nearest ground."""

    @property
    def ground(self) -> str | None:
        """The name of the ground, or None if no ground of the world is near enough."""

    @property
    def realism(self) -> float:
        """How much of the picture the scene explains, in [0, 1]."""


@dataclass(frozen=True)
class _WithoutGround:
    """The items of a scene whose ground cannot be read."""

    items: Sequence[SceneItem]
    ground: str = "none"
    sky: str = "none"


def columns(
    meanings: Mapping[str, str], roles: Mapping[str, str] | None = None, *, looks: str = ""
) -> tuple[Column, ...]:
    """Return columns in [0, 1]; higher is better.

    :param meanings: name -> meaning.
    :param roles: name -> role. A column that is not listed has the role of its name, if there is one.
    :param looks: how pictures with a high realism look.
    """
    named = {name: (roles or {}).get(name, name if name in ROLES else "") for name in meanings}
    return tuple(
        Column(name, meaning, named[name], 0.0, 1.0, looks=looks if named[name] == "realism" else "")
        for name, meaning in meanings.items()
    )


class SceneMetric(ABC):
    """Score what a picture shows of its prompt. All columns are in [0, 1]; higher is better.

    A prompt that is not of this world gets only the column for realism.
    """

    columns: tuple[Column, ...]
    world: ClassVar[str]
    language: ClassVar[Language]
    realism: ClassVar[str] = "realism"
    """Name of the column for realism."""

    @abstractmethod
    def parse(self, picture: Array) -> Reading:
        """Read a picture (3, H, W) in [-1, 1]."""

    @abstractmethod
    def further_scores(self, picture: Array, scene: Any, description: Description) -> dict[str, float]:
        """Return the scores that only this world has."""

    def score(self, images: Tensor, prompts: Sequence[Prompt]) -> list[dict[str, float]]:
        """Score images (B, 3, H, W) in [-1, 1]; see :class:`guidelens.contracts.Metric`."""
        pictures = images.detach().float().cpu().numpy()
        return [self._score(picture, prompt) for picture, prompt in zip(pictures, prompts, strict=True)]

    def _score(self, picture: Array, prompt: Prompt) -> dict[str, float]:
        reading = self.parse(picture)
        scores = {self.realism: reading.realism}
        description = self.language.read(prompt.target)
        if description is None:
            logger.warning(
                "%r is not a sentence of the %s world: only %s is scored",
                prompt.target,
                self.world,
                self.realism,
            )
            return scores
        scene = reading.scene if reading.ground is not None else _WithoutGround(reading.scene.items)
        scores |= description_scores(description, scene, self.language.holds)
        scores |= self.further_scores(picture, reading.scene, description)
        return {column.name: scores[column.name] for column in self.columns if column.name in scores}
