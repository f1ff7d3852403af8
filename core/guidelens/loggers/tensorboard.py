"""Write event files of TensorBoard."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guidelens.pictures import png_bytes
from guidelens.runs.logs import LoggedRun

from .curves import SHOWN, CurveLogger, require_package, settings_text

if TYPE_CHECKING:
    from PIL.Image import Image

FLUSH_SECONDS = 10


class TensorBoard(CurveLogger):
    """Writes a run of TensorBoard for each schedule, in its own folder of ``directory``.

    Look at it with ``tensorboard --logdir DIR``. A run that is logged again into the same directory replaces what was
    there: TensorBoard shows the last series of each schedule.

    :param directory: the parent of the folders.
    :param shown: the number of pictures (pairs of prompt and seed) that are logged with their own curves.
    :raises MissingPackageError: tensorboard is not installed.
    """

    def __init__(self, directory: str | Path, shown: int = SHOWN) -> None:
        require_package("tensorboard")
        super().__init__(shown)
        self.directory = Path(directory)
        self._settings = ""

    def __str__(self) -> str:
        return f"tensorboard:{self.directory}"

    def start(self, run: LoggedRun) -> None:
        """Begin a run: keep its settings, which each series has as text."""
        super().start(run)
        lines = json.dumps(settings_text(run.config), indent=2, ensure_ascii=False).splitlines()
        self._settings = "".join(f"    {line}\n" for line in lines)

    def _open(self, name: str) -> _EventWriter:
        writer = _EventWriter(self.directory / _file_name(name))
        if self._settings:
            writer.text("settings", self._settings)
        self.view = f"tensorboard --logdir {shlex.quote(str(self.directory))}"
        return writer


class _EventWriter:
    """Writes one event file."""

    def __init__(self, directory: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._file = EventFileWriter(str(directory), flush_secs=FLUSH_SECONDS)
        # Restart the run: TensorBoard drops what earlier event files in this folder have from step 0 on.
        start = SessionLog(status=SessionLog.START)
        self._file.add_event(Event(step=0, wall_time=time.time(), session_log=start))

    def scalars(self, values: Mapping[str, float], axis: str, at: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add((Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()), at)

    def image(self, tag: str, step: int, picture: Image) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        content = Summary.Image(
            encoded_image_string=png_bytes(picture),
            width=picture.width,
            height=picture.height,
            colorspace=len(picture.getbands()),
        )
        self._add([Summary.Value(tag=tag, image=content)], step)

    def text(self, tag: str, markdown: str) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.text.metadata import create_summary_metadata
        from tensorboard.util.tensor_util import make_tensor_proto

        metadata = create_summary_metadata(display_name=tag, description="")
        tensor = make_tensor_proto(markdown, dtype="string")
        self._add([Summary.Value(tag=tag, metadata=metadata, tensor=tensor)], 0)

    def close(self) -> None:
        self._file.close()

    def _add(self, values: Iterable[Any], step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._file.add_event(Event(step=step, wall_time=time.time(), summary=Summary(value=values)))


def _file_name(name: str) -> str:
    """Return the name of a series as the name of a folder, on any system."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]+', " ", name).strip(" .")[:150] or "run"
