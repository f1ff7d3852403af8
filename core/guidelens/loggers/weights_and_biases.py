"""Log to Weights & Biases, online or offline."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from guidelens.errors import GuidelensError
from guidelens.runs.logs import LoggedRun

from .curves import PICTURE, SHOWN, STEP, CurveLogger, require_package, settings_text

if TYPE_CHECKING:
    from PIL.Image import Image

DEFAULT_PROJECT = "guidelens"

_AXES = {
    STEP: ("loss/*", "gradient_norm/*", "cosine/*", "picture *"),
    PICTURE: ("score/*", "mean_score/*"),
}
"""The metrics of each x-axis."""

_INIT_SECONDS = 30
"""How long to wait for the server when a run begins. After that the log fails."""


class WeightsAndBiases(CurveLogger):
    """Makes a run of Weights & Biases for each schedule. All of them are one group, named after the run's directory.

    wandb reads its own settings: the environment variable ``WANDB_MODE=offline`` writes to the folder ``wandb`` without
    a network, and ``wandb sync`` uploads it later. A run that is logged again makes new runs.

    :param project: the project.
    :param shown: the number of pictures (pairs of prompt and seed) that are logged with their own curves.
    :raises MissingPackageError: wandb is not installed.
    """

    def __init__(self, project: str = DEFAULT_PROJECT, shown: int = SHOWN) -> None:
        require_package("wandb")
        super().__init__(shown)
        self.project = project
        self._folders: list[str] = []
        self._group: str | None = None
        self._config: dict[str, Any] = {}

    def __str__(self) -> str:
        return f"wandb:{self.project}"

    def start(self, run: LoggedRun) -> None:
        """Begin a run: keep its settings for the runs of its schedules.

        :raises GuidelensError: if W&B is online and has no key. It never asks for one.
        """
        import wandb

        wandb.setup(wandb.Settings(silent=True))
        offline = wandb.setup().settings.mode not in (None, "online", "shared")
        if not offline and not wandb.login(prompt=False, verify=False):
            raise GuidelensError("not logged in; run `wandb login`, or set WANDB_MODE=offline")
        super().start(run)
        self._group = run.directory.name
        self._config = settings_text(run.config)

    def _open(self, name: str) -> _RunWriter:
        import wandb

        run = wandb.init(
            project=self.project,
            name=name,
            group=self._group,
            config=self._config,
            reinit="create_new",  # the runs of all schedules are open at once
            settings=wandb.Settings(silent=True, console="off", init_timeout=_INIT_SECONDS),
        )
        for axis, metrics in _AXES.items():
            run.define_metric(axis)
            for metric in metrics:
                run.define_metric(metric, step_metric=axis)
        if run.offline:
            self._folders.append(shlex.quote(run.settings.sync_dir))
            self.view = f"wandb sync {' '.join(self._folders)}"
        else:
            self.view = str(run.project_url)
        return _RunWriter(run)


class _RunWriter:
    """Writes one run."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def scalars(self, values: Mapping[str, float], axis: str, at: int) -> None:
        self._run.log({axis: at, **values})

    def image(self, tag: str, step: int, picture: Image) -> None:
        import wandb

        self._run.log({STEP: step, tag: wandb.Image(picture)})

    def close(self) -> None:
        self._run.finish()
