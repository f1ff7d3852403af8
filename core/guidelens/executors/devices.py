"""Compute a study on several devices of this machine, with one worker process per device.

A worker loads plugins and models once and computes the planned batches, so the pictures equal those of a single
process. Only plain data is exchanged. Only this process writes results.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TYPE_CHECKING

from guidelens.errors import UsageError
from guidelens.runs.execute import ComponentCache, Executor, Outcome, Outcomes, Task, TaskProgress

from .task_queue import TaskQueue, longest_first
from .worker_setup import WorkerSetup, compute_alike, make_component_cache, make_worker_setup

if TYPE_CHECKING:
    from guidelens.plugins import PluginManager

logger = logging.getLogger(__name__)

ALL_GPUS = "cuda:all"
"""The value of ``--device`` for all NVIDIA GPUs of this machine."""


def all_gpus() -> list[str]:
    """Return the names of this machine's CUDA devices.

    :raises UsageError: there is none.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        raise UsageError(f"no CUDA device is present (asked for {ALL_GPUS!r}); use --device cpu, or auto")
    return [f"cuda:{number}" for number in range(count)]


def devices_executor(plugins: PluginManager, devices: Sequence[str]) -> Callable[[ComponentCache], Executor]:
    """Return the argument ``executor`` of :func:`guidelens.studies.run.run_study` for several devices.

    :param plugins: the plugins of the run, including the study's own.
    :param devices: one worker each; a device may appear twice.
    :raises UsageError: a plugin cannot be loaded by another process.
    """
    setups = [make_worker_setup(plugins, device) for device in devices]
    return lambda cache: DevicesExecutor(setups)


class DevicesExecutor:
    """Computes tasks in one process per setup; see :class:`guidelens.runs.execute.Executor`."""

    def __init__(self, setups: Sequence[WorkerSetup]) -> None:
        self.setups = list(setups)

    def order(self, tasks: Sequence[Task]) -> list[Task]:
        """Return the tasks in the order in which they should be taken."""
        return longest_first(tasks)

    def outcomes(self, tasks: Iterable[Task], report: TaskProgress) -> Outcomes:
        """Compute tasks and yield each with its outcome, as they finish.

        If a worker is lost, another one computes its task. After several losses the cells of the task fail.
        """
        pool = _WorkerPool(self.setups)
        try:
            yield from pool.work(TaskQueue(tasks))
        finally:
            pool.close()


class _WorkerPool:
    """One process per setup. It is started for its first task."""

    def __init__(self, setups: Sequence[WorkerSetup]) -> None:
        self._setups = setups
        self._workers: dict[int, ProcessPoolExecutor] = {}
        self._free = list(range(len(setups)))
        self._busy: dict[Future[Outcome], tuple[int, Task]] = {}

    def work(self, queue: TaskQueue) -> Iterator[tuple[Task, Outcome]]:
        """Give tasks to workers, and yield outcomes until all tasks are done."""
        while True:
            while self._free and (task := queue.take()) is not None:
                self._start(self._free.pop(0), task)
            if not self._busy:
                return
            for future in wait(self._busy, return_when=FIRST_COMPLETED).done:
                number, task = self._busy.pop(future)
                self._free.append(number)
                try:
                    outcome: Outcome | None = future.result()
                except BrokenProcessPool as error:
                    logger.warning("a worker was lost: %s", error)
                    self._workers.pop(number).shutdown(wait=False)
                    outcome = queue.lost(task, str(error))
                if outcome is not None:
                    yield task, outcome

    def close(self) -> None:
        """End the workers after their current tasks."""
        for worker in self._workers.values():
            worker.shutdown(wait=True, cancel_futures=True)

    def _start(self, number: int, task: Task) -> None:
        if number not in self._workers:
            self._workers[number] = ProcessPoolExecutor(
                1, mp_context=get_context("spawn"), initializer=_ignore_interrupts
            )
        future = self._workers[number].submit(_compute, self._setups[number], task)
        self._busy[future] = number, task


def _ignore_interrupts() -> None:
    # Ctrl-C reaches every process of a terminal. Only the main process reacts: it lets running tasks finish.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


_COMPONENT_CACHES: dict[WorkerSetup, ComponentCache] = {}
"""The component cache of this worker process."""


def _compute(setup: WorkerSetup, task: Task) -> Outcome:
    if setup not in _COMPONENT_CACHES:
        _COMPONENT_CACHES[setup] = make_component_cache(setup)
    return compute_alike(task, _COMPONENT_CACHES[setup])
