"""The results of a check. They are saved after every case, and loaded to continue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from guidelens.errors import GuidelensError
from guidelens.files import check_writable, write_file

FORMAT = "guidelens-gpu-check-1"
JSON_FILE, MARKDOWN_FILE = "gpu-check.json", "gpu-check.md"

State = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class CaseResult:
    """The result of a case.

    :param state: ``failed``: a number was out of its range, or the case could not run.
    :param values: numbers and names, as JSON values.
    :param message: why it failed or was skipped; empty otherwise.
    :param seconds: duration of the case, including loading and compiling.
    """

    state: State
    values: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""
    seconds: float = 0.0


class CheckRecord:
    """The results so far, by name of the case; ``PART/...`` is in part PART.

    :param directory: holds the JSON file and the table.
    :param machine: see :func:`guidelens.bench.machine.describe_machine`.
    :param identity: see :meth:`CheckSettings.identity`; earlier results of another identity or machine are dropped.
    """

    def __init__(self, directory: Path, machine: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
        self.path = directory / JSON_FILE
        self.table_path = directory / MARKDOWN_FILE
        self.machine, self.identity = dict(machine), dict(identity)
        check_writable(self.path)
        self.results: dict[str, CaseResult] = self._earlier()

    def is_done(self, name: str) -> bool:
        """Whether a case has succeeded already. Others are repeated."""
        found = self.results.get(name)
        return found is not None and found.state == "ok"

    def add(self, name: str, result: CaseResult) -> None:
        """Add a result and save all results."""
        self.results[name] = result
        self.write()

    def write(self) -> None:
        """Write the JSON file and the table, each atomically."""
        from .table import markdown

        content = {
            "format": FORMAT,
            "machine": self.machine,
            "settings": self.identity,
            "results": {name: asdict(result) for name, result in self.results.items()},
        }
        write_file(self.path, (json.dumps(content, indent=1) + "\n").encode())
        write_file(self.table_path, markdown(self).encode())

    def _earlier(self) -> dict[str, CaseResult]:
        if not self.path.is_file():
            return {}
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            results = {name: CaseResult(**result) for name, result in content["results"].items()}
            same = content["machine"] == self.machine and content["settings"] == self.identity
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise GuidelensError(f"{self.path} is not a file of gpu-check: move it away") from error
        return results if same else {}
