"""Run the cases of a check one by one, until all are done or the time limit is reached."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from guidelens.bench.machine import describe_machine
from guidelens.errors import GuidelensError
from guidelens.memory import is_out_of_memory
from guidelens.plugins import PluginManager

from .cases import Case, cases
from .context import CheckContext
from .record import CaseResult, CheckRecord
from .settings import CheckSettings


def check(
    manager: PluginManager,
    settings: CheckSettings,
    directory: Path,
    *,
    on_case: Callable[[str, CaseResult | None], None] = lambda name, result: None,
) -> tuple[CheckRecord, list[str]]:
    """Run every case that has not succeeded yet. Return the results, and the cases that did not run for lack of time.

    A case that fails or raises does not stop the others. Results of an earlier run with the same settings on the
    same machine are kept.

    :param on_case: called with the name of a case, first with None and then with its result.
    :raises UsageError: the device does not exist.
    :raises GuidelensError: if the results cannot be written.
    """
    record = CheckRecord(directory, describe_machine(torch.device(settings.device)), settings.identity())
    context = CheckContext(manager, settings, directory)
    deadline = time.monotonic() + 60 * settings.minutes
    left = []
    for case in cases(context):
        if record.is_done(case.name):
            continue
        if time.monotonic() > deadline:
            left.append(case.name)
            continue
        on_case(case.name, None)
        result = _result(case)
        record.add(case.name, result)
        on_case(case.name, result)
    record.write()
    return record, left


def _result(case: Case) -> CaseResult:
    began = time.monotonic()
    try:
        found = case.run()
    except Exception as error:  # an error must not stop the other cases
        known = isinstance(error, GuidelensError) or is_out_of_memory(error)
        message = " ".join(str(error).split()) if known else f"{type(error).__name__}: {error}"
        found = CaseResult("failed", message=message[:500])
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return replace(found, seconds=round(time.monotonic() - began, 2))
