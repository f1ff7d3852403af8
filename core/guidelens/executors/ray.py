"""Compute a study on a Ray cluster of one or more machines, with one actor per GPU or per few cores.

An actor loads plugins and models once and computes the planned batches, so the pictures equal those of a single
process. Only plain data is exchanged. Only this process writes results.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from guidelens.errors import GuidelensError, UsageError
from guidelens.runs.execute import ComponentCache, Executor, Outcome, Outcomes, Task, TaskProgress

from .ray_cluster import LOCAL, HeadWatch, RayOptions, connection, in_short, leave_with_head
from .sent_files import FileReceiver, FileSender, MissingFiles, SentFile, files_of
from .task_queue import TaskQueue, longest_first
from .worker_setup import WorkerSetup, compute_alike, make_component_cache, make_worker_setup

if TYPE_CHECKING:
    from guidelens.plugins import PluginManager

__all__ = ["LOCAL", "RayExecutor", "RayOptions", "connection", "ray_executor"]

logger = logging.getLogger(__name__)

START_TIMEOUT = 300.0
"""Seconds to wait for the first worker, and for a new one after all were lost."""
FAILED_STARTS = 3
"""After this number of workers that failed to start in a row, no more are started."""
POLL = 0.5
"""Seconds between polls for finished tasks."""
GROWTH_SECONDS = 2.0
"""Seconds between checks for new machines in the cluster."""


def ray_executor(
    plugins: PluginManager, options: RayOptions | None = None
) -> Callable[[ComponentCache], Executor]:
    """Return the argument ``executor`` of :func:`guidelens.studies.run.run_study` for a Ray cluster.

    :param plugins: the plugins of the run, including the study's own.
    :raises UsageError: Ray is missing, or a plugin cannot be loaded by another process.
    """
    if find_spec("ray") is None:
        raise UsageError('the executor ray needs Ray: pip install "guidelens[ray]"')
    chosen = options or RayOptions()

    def make(cache: ComponentCache) -> Executor:
        return RayExecutor(make_worker_setup(plugins, cache.device), chosen)

    return make


class RayExecutor:
    """Computes tasks on actors; see :class:`guidelens.runs.execute.Executor`.

    The connection to Ray opens with the first outcome, and closes after the last one or when the iterator is closed.
    """

    def __init__(self, setup: WorkerSetup, options: RayOptions) -> None:
        if ":" in setup.device:
            raise UsageError(f"device {setup.device!r}: with Ray each worker has its own GPU; use cuda")
        self.setup, self.options = setup, options

    def order(self, tasks: Sequence[Task]) -> list[Task]:
        """Return the tasks in the order in which they should be taken."""
        return longest_first(tasks)

    def outcomes(self, tasks: Iterable[Task], report: TaskProgress) -> Outcomes:
        """Compute tasks and yield each with its outcome, as they finish.

        If a worker is lost, another one computes its task. After several losses the cells of the task fail.

        :raises GuidelensError: no worker can be started.
        """
        queue = TaskQueue(tasks)
        first = queue.take()
        if first is None:  # nothing to do, so do not start Ray
            return
        with connection(self.options):
            pool = _ActorPool(self.setup, self.options)
            try:
                yield from pool.work(first, queue)
            finally:
                pool.close()


class _ActorPool:
    """The actors of a run: starting, idle and computing ones."""

    def __init__(self, setup: WorkerSetup, options: RayOptions) -> None:
        import ray

        self._options = options
        self._cores = float(options.threads)
        self._gpus = _gpus(setup.device, ray.cluster_resources())
        device = setup.device if self._gpus or setup.device != "auto" else "cpu"
        self._setup = replace(setup, device=device)
        self._actor = ray.remote(_Worker).options(
            num_cpus=self._cores, num_gpus=float(self._gpus), max_restarts=0, scheduling_strategy="SPREAD"
        )
        client = options.address.startswith("ray://")
        self._head = HeadWatch(options.address if client else ray.get_runtime_context().gcs_address)
        self._head_is_gone = False
        self._sender = FileSender()
        self._starting: dict[Any, Any] = {}
        self._free: list[Any] = []
        self._busy: dict[Any, tuple[Any, Task]] = {}
        self._failed_starts = 0
        self._reason = "Ray placed none; does the cluster have free resources?"
        self._waiting_since = self._looked = time.monotonic()
        self._nodes = _alive(ray.nodes())
        for _ in range(options.workers or self._room()):
            self._start()

    def _room(self) -> int:
        import ray

        return _room(ray.nodes(), self._cores, self._gpus)

    def work(self, first: Task, queue: TaskQueue) -> Iterator[tuple[Task, Outcome]]:
        """Give tasks to workers, and yield outcomes until all tasks are done."""
        import ray

        upcoming: Task | None = first
        while True:
            while self._free and (task := upcoming or queue.take()) is not None:
                upcoming = None
                actor = self._free.pop()
                self._busy[actor.compute.remote(task, files_of(task))] = actor, task
            if not self._busy and upcoming is None and self._free:
                return  # an actor was idle, and there was no task
            ready, _ = ray.wait([*self._busy, *self._starting], num_returns=1, timeout=POLL)
            for ref in ready:
                if ref in self._starting:
                    self._started(ref)
                    continue
                task = self._busy[ref][1]
                outcome = self._finished(ref, queue)
                if outcome is not None:
                    yield task, outcome
            self._check()

    def close(self) -> None:
        """End all actors. Without a head they cannot be reached, and end by themselves."""
        import ray

        if self._head_is_gone:
            return
        for actor in [*self._starting.values(), *self._free, *(actor for actor, _ in self._busy.values())]:
            ray.kill(actor)

    def _start(self) -> None:
        actor: Any = self._actor.remote(self._options.threads)
        self._starting[actor.prepare.remote(self._setup)] = actor

    def _started(self, ref: Any) -> None:
        import ray

        actor = self._starting.pop(ref)
        try:
            trouble = ray.get(ref)
        except ray.exceptions.RayError as error:
            self._failed_starts += 1
            self._reason = in_short(error)
            if self._failed_starts < FAILED_STARTS:
                self._start()
            return
        if trouble:  # this machine is not used; the others continue
            logger.warning("a worker cannot start: %s", trouble)
            self._reason = trouble
            ray.kill(actor)
            return
        self._failed_starts = 0
        self._free.append(actor)

    def _finished(self, ref: Any, queue: TaskQueue) -> Outcome | None:
        """Return the outcome of a task, or None if it must be computed again."""
        import ray

        actor, task = self._busy.pop(ref)
        try:
            outcome: Outcome | MissingFiles = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:  # the actor, its machine or its result is lost
            reason = in_short(error)
            logger.warning("a worker was lost: %s", reason)
            ray.kill(actor)
            self._start()
            self._waiting_since = time.monotonic()
            return queue.lost(task, reason)
        if isinstance(outcome, MissingFiles):
            sent = [self._sender.send(path) for path in outcome.paths]
            self._busy[actor.compute.remote(task, files_of(task), sent)] = actor, task
            return None
        self._free.append(actor)
        return outcome

    def _check(self) -> None:
        if self._head.is_gone():
            self._head_is_gone = True
            raise GuidelensError(
                f"the head of the Ray cluster {self._options.address!r} is gone; finished cells are kept, and the "
                "same command continues"
            )
        self._grow()
        if self._busy or self._free:
            self._waiting_since = time.monotonic()
        elif not self._starting or time.monotonic() - self._waiting_since > START_TIMEOUT:
            raise GuidelensError(f"no worker could be started on the cluster: {self._reason}")

    def _grow(self) -> None:
        """Start workers on new machines of the cluster, unless the number of workers was given."""
        import ray

        if self._options.workers is not None or time.monotonic() - self._looked < GROWTH_SECONDS:
            return
        self._looked = time.monotonic()
        here = ray.nodes()
        joined = _alive(here) - self._nodes
        self._nodes |= joined
        if joined:
            new = [node for node in here if node["NodeID"] in joined]
            wanted = _room(new, self._cores, self._gpus)
            logger.info("%d machines joined the cluster: starting %d workers", len(joined), wanted)
            for _ in range(wanted):
                self._start()


class _Worker:
    """The actor. It has its own component cache and a fixed number of threads."""

    def __init__(self, threads: int) -> None:
        import ray
        import torch

        torch.set_num_threads(threads)
        self._files = FileReceiver()
        leave_with_head(ray.get_runtime_context().gcs_address)

    def prepare(self, setup: WorkerSetup) -> str:
        """Load plugins; return what keeps this machine from computing the study, or nothing."""
        try:
            self._component_cache = make_component_cache(setup, self._files.spelled)
        except GuidelensError as error:
            return f"{socket.gethostname()}: {error}"
        return ""

    def compute(
        self, task: Task, files: Sequence[str], sent: Sequence[SentFile] = ()
    ) -> Outcome | MissingFiles:
        """Compute a task; see :func:`guidelens.runs.execute.compute`.

        :param files: paths that its components name.
        :param sent: those that this worker said were missing.
        """
        for file in sent:
            self._files.receive(file)
        missing = self._files.missing(files)
        return MissingFiles(missing) if missing else compute_alike(task, self._component_cache)


def _gpus(device: str, resources: dict[str, float]) -> int:
    """Return the number of GPUs of a worker: one if the cluster has GPUs and the device is not cpu."""
    there = resources.get("GPU", 0) >= 1
    if device == "cuda" and not there:
        raise UsageError("device cuda: the cluster has no GPU; use cpu or auto")
    return int(there and device in ("auto", "cuda"))


def _alive(nodes: Iterable[dict[str, Any]]) -> set[str]:
    """Return the names of the current machines of a cluster."""
    return {node["NodeID"] for node in nodes if node["Alive"]}


def _room(nodes: Iterable[dict[str, Any]], cores: float, gpus: int) -> int:
    """Return how many workers fit on the machines of a cluster, at least 1. A single worker may have to wait."""
    room = 0
    for node in nodes:
        if node["Alive"]:
            has = node["Resources"]
            fit = has.get("CPU", 0) // cores
            room += int(min(fit, has.get("GPU", 0)) if gpus else fit)
    return max(room, 1)
