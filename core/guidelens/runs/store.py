"""A run's directory on disk: a lock, atomic files, and rows that are valid only with their picture and telemetry."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from guidelens.errors import GuidelensError, UsageError
from guidelens.files import TEMPORARY, explained, write_file
from guidelens.pictures import is_whole_png, open_picture
from guidelens.runs.config import FORMAT
from guidelens.runs.integrity import is_unchanged, recorded_hash
from guidelens.runs.schema import COMPARISON_CONFIG, FAILED, ROW, STUDY_CONFIG, explain, shortened
from guidelens.runs.telemetry import FOLDER as TELEMETRY
from guidelens.runs.telemetry import is_whole
from guidelens.words import plural

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

CONFIG, RESULTS, SAMPLES, LOCK = "config.json", "results.jsonl", "samples", ".lock"
FAILURES = "failures.jsonl"
COMPARISON, STUDY = "comparison", "study"
"""The kinds of runs, as ``kind`` in ``config.json``. A configuration without it is a comparison."""

LOCK_PATIENCE = 0.5
"""Seconds to wait for a directory in use: `status` takes the lock briefly."""


class RunStore:
    """The files of one run. A lock is held while the context is open.

    A cell is finished once ``samples/KEY.png``, the telemetry of its batch and its row in ``results.jsonl`` are on
    disk and readable. On entry the directory is repaired after an interruption: temporary files, an incomplete last
    row, and rows with a missing or damaged picture or telemetry file are removed.

    :raises UsageError: the directory holds something other than a run.
    :raises GuidelensError: another process uses it, or it cannot be read or written.
    """

    def __init__(self, directory: str | Path, kind: str = COMPARISON) -> None:
        self.directory = Path(directory)
        self.kind = kind
        self.config: dict[str, Any] | None = None
        """The content of ``config.json`` on entry; None for a new run."""
        self.rows: dict[str, dict[str, Any]] = {}
        """The rows of finished cells, by key, in the order of the file."""
        self.failures: dict[str, dict[str, Any]] = {}
        """Cells that could not be computed, by key: the rows of ``failures.jsonl``."""
        self._replaced = False
        self._lock: FileLock | None = None

    def __enter__(self) -> RunStore:
        with explained(f"cannot use {self.directory}"):
            refuse_foreign(self.directory)
            for folder in (SAMPLES, TELEMETRY):
                (self.directory / folder).mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(self.directory / LOCK)
            try:
                self._lock.acquire(timeout=LOCK_PATIENCE, poll_interval=0.05)
            except Timeout:
                raise GuidelensError(
                    f"{self.directory} is in use by another guidelens process; wait for it, "
                    "or choose another --out"
                ) from None
        try:
            with explained(f"cannot use {self.directory}"):
                self.config = read_config(self.directory, self.kind)
                self._sweep()
                self._load_rows()
                self.failures = read_failures(self.directory)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.release()

    def path(self, name: str) -> Path:
        """Return the path of a file of the run."""
        return self.directory / name

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Replace ``config.json`` if it would change."""
        if config != self.config:
            self.write(CONFIG, json.dumps(config, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
            self.config = dict(config)

    def write(self, name: str, content: str | bytes) -> Path:
        """Replace a file of the run atomically and return its path."""
        path = self.path(name)
        write_file(path, content.encode() if isinstance(content, str) else content)
        return path

    def add(
        self,
        pictures: Mapping[str, bytes],
        rows: Sequence[Mapping[str, Any]],
        telemetry: Mapping[str, bytes] | None = None,
    ) -> None:
        """Write pictures (PNG, by key) and telemetry (by file name), then their rows. Files whose rows were not
        written because of an interruption are ignored.
        """
        for key, content in pictures.items():
            self.write(image_name(key), content)
        for name, content in (telemetry or {}).items():
            self.write(name, content)
        if rows:
            self._append(rows)
        self.replace_failures([f for key, f in self.failures.items() if key not in self.rows])

    def replace_failures(self, failures: Iterable[Mapping[str, Any]]) -> None:
        """Replace ``failures.jsonl`` atomically if it would change. Without failures the file is removed."""
        new = {failure["key"]: dict(failure) for failure in failures}
        if list(new.items()) == list(self.failures.items()):
            return
        if new:
            self.write(FAILURES, b"".join(map(_line, new.values())))
        else:
            with explained(f"cannot remove {self.path(FAILURES)}"):
                self.path(FAILURES).unlink(missing_ok=True)
        self.failures = new

    def replace_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Replace all of ``results.jsonl`` atomically if its rows or their order would change."""
        new = {row["key"]: dict(row) for row in rows}
        if self._replaced or list(new.items()) != list(self.rows.items()):
            self.write(RESULTS, b"".join(map(_line, new.values())))
            self.rows, self._replaced = new, False

    def update(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Replace single rows by appending them, without rewriting the file. The last row with a key is valid.
        :meth:`replace_rows` removes the older ones, and so does the next opening of the directory.
        """
        self._replaced = True
        self._append(rows)

    def load_image(self, key: str) -> Image:
        """Return the picture of a cell, fully read."""
        return open_picture(self.path(image_name(key)))

    def _has_picture(self, key: str, sha256: str) -> bool:
        path = self.path(image_name(key))
        if not sha256:
            return is_whole_png(path)
        return is_unchanged(path, sha256)

    def _append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        path = self.path(RESULTS)
        with explained(f"cannot write {path}"), open(path, "ab") as file:
            size = file.tell()
            try:
                file.write(b"".join(map(_line, rows)))
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                # The disk may have become full within a row: remove the incomplete row.
                with suppress(OSError):
                    os.truncate(path, size)
                raise
        self.rows.update((row["key"], dict(row)) for row in rows)

    def _sweep(self) -> None:
        for folder in (self.directory, self.directory / SAMPLES, self.directory / TELEMETRY):
            for leftover in folder.glob(f".*{TEMPORARY}"):
                leftover.unlink(missing_ok=True)

    def _load_rows(self) -> None:
        path = self.path(RESULTS)
        rows, damaged = read_rows(path)
        files = {(row["telemetry"], recorded_hash(row, "telemetry")) for row in rows.values()}
        whole = {file for file in files if is_whole(self.path(file[0]), file[1])}
        kept = {
            key: row
            for key, row in rows.items()
            if (row["telemetry"], recorded_hash(row, "telemetry")) in whole
            and self._has_picture(key, recorded_hash(row, "image"))
        }
        if len(kept) < len(rows):
            lost = len(rows) - len(kept)
            logger.warning(
                "%s: %s with a missing or damaged picture or telemetry; computed again",
                path,
                plural(lost, "row"),
            )
        if damaged or len(kept) < len(rows):
            self.write(RESULTS, b"".join(map(_line, kept.values())))
        self.rows = kept


def image_name(key: str) -> str:
    """Return the path of a cell's picture, relative to the run's directory."""
    return f"{SAMPLES}/{key}.png"


def read_config(directory: Path, kind: str | None = None) -> dict[str, Any] | None:
    """Return the content of ``config.json``, or None if there is no such file.

    :param kind: the required kind, :data:`COMPARISON` or :data:`STUDY`; None: either.
    :raises UsageError: it is not a configuration of this kind, or has another format version.
    """
    path = directory / CONFIG
    if not path.exists():
        return None
    with explained(f"cannot read {path}"):
        content = path.read_bytes()
    try:
        stated = from_json(content, allow_inf_nan=False)
    except ValueError:
        stated = None
    if not isinstance(stated, dict) or "guidelens_format" not in stated:
        raise UsageError(f"{path} is not the configuration of a guidelens run; choose another --out")
    if stated["guidelens_format"] != FORMAT:
        raise UsageError(
            f"{path} has format {shortened(stated['guidelens_format'])}, this version reads {FORMAT}; "
            "choose another --out"
        )
    found = STUDY if stated.get("kind", COMPARISON) == STUDY else COMPARISON
    if kind is not None and found != kind:
        raise UsageError(f"{directory} holds a {found}, not a {kind}; choose another --out")
    schema = STUDY_CONFIG if found == STUDY else COMPARISON_CONFIG
    try:
        config: dict[str, Any] = schema.validate_json(content)
    except ValidationError as error:
        raise UsageError(
            f"{path} is damaged: {explain(error)}; restore the file, or choose another --out"
        ) from None
    return config


def earlier_config(directory: Path, kind: str) -> dict[str, Any] | None:
    """Return the configuration of the run in ``directory``; None for an absent or empty directory.

    :raises UsageError: the directory holds something else.
    """
    with explained(f"cannot use {_named(directory)}"):
        refuse_foreign(directory)
        return read_config(directory, kind) if directory.is_dir() else None


def _named(path: Path) -> str:
    """Return a path for a message, shortened."""
    text = str(path)
    return text if len(text) <= 200 else f"{text[:200]}..."


def read_rows(path: Path) -> tuple[dict[str, dict[str, Any]], bool]:
    """Return the rows of a ``results.jsonl`` by key, and whether the file should be rewritten. It should be if its
    last line is incomplete (and left out), or if a row replaces an earlier one.

    :raises GuidelensError: a line before the last is not a row.
    """
    return _read_lines(path, ROW, "a result row")


def read_failures(directory: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of ``failures.jsonl`` by key; a torn last line is left out.

    :raises GuidelensError: when another line is not such a row.
    """
    return _read_lines(directory / FAILURES, FAILED, "a row of a failure")[0]


def _read_lines(path: Path, schema: TypeAdapter[Any], what: str) -> tuple[dict[str, dict[str, Any]], bool]:
    if not path.exists():
        return {}, False
    with explained(f"cannot read {path}"):
        lines = path.read_bytes().split(b"\n")
    whole, rest = lines[:-1], lines[-1]
    rows: dict[str, dict[str, Any]] = {}
    for i, line in enumerate(whole):
        try:
            row = schema.validate_json(line)
        except ValidationError as error:
            # An interruption can only damage the last line. A rerun must not hide other damage.
            if i == len(whole) - 1 and not rest and error.errors()[0]["type"] == "json_invalid":
                return rows, True
            raise GuidelensError(
                f"{path}, line {i + 1} is not {what}: {explain(error)}; remove the line and run the same command again"
            ) from None
        rows[row["key"]] = row
    return rows, bool(rest) or len(rows) < len(whole)


def refuse_foreign(directory: Path) -> None:
    """Raise UsageError unless ``directory`` is absent, empty or a run's."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise UsageError(f"{directory} is a file; --out must name a directory")
    ours = {LOCK, SAMPLES, TELEMETRY}
    found = sorted(
        p.name for p in directory.iterdir() if p.name not in ours and not p.name.endswith(TEMPORARY)
    )
    if found and CONFIG not in found:
        raise UsageError(
            f"{directory} is not empty and holds no guidelens run (found {found[0]}); choose another --out"
        )
    samples = directory / SAMPLES
    if not found and samples.is_dir() and any(samples.iterdir()):
        raise UsageError(f"{directory} holds pictures but no {CONFIG}; choose another --out")


def _line(row: Mapping[str, Any]) -> bytes:
    text = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="replace")  # a plugin's message may hold half a character
