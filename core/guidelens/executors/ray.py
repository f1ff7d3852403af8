"""Computing a study on a Ray cluster, in this machine or beyond it: one actor per GPU or per few cores.

An actor loads plugins and models once and computes batches as they were planned, so that pictures are those of
one process. Only plain data travels; this process alone writes results.
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
"""Seconds to wait for the first worker, and for the next one when all were lost."""
FAILED_STARTS = 3
"""Workers that may be lost while starting, one after the other, before no more are started."""
POLL = 0.5
"""Seconds between looks at whether something happened."""
GROWTH_SECONDS = 2.0
"""Seconds between looks at whether machines joined the cluster."""


def ray_executor(
    plugins: PluginManager, options: RayOptions | None = None
) -> Callable[[ComponentCache], Executor]:
    """Return what :func:`guidelens.studies.run.run_study` takes as ``executor``, to compute on a Ray cluster.

    :param plugins: those of the run, the study's own included.
    :raises UsageError: without Ray, or for plugins that no other process can load.
    """
    if find_spec("ray") is None:
        raise UsageError('the executor ray needs Ray: pip install "guidelens[ray]"')
    chosen = options or RayOptions()

    def make(cache: ComponentCache) -> Executor:
        return RayExecutor(make_worker_setup(plugins, cache.device), chosen)

    return make


class RayExecutor:
    """Computes tasks on actors; see :class:`guidelens.runs.execute.Executor`.

    Ray is started, or connected to, when the first outcome is asked for, and left when the last was given or
    the iterator is closed.
    """

    def __init__(self, setup: WorkerSetup, options: RayOptions) -> None:
        if ":" in setup.device:
            raise UsageError(f"device {setup.device!r}: with Ray each worker has a GPU of its own; say cuda")
        self.setup, self.options = setup, options

    def order(self, tasks: Sequence[Task]) -> list[Task]:
        """Return the order in which tasks are to be handed over."""
        return longest_first(tasks)

    def outcomes(self, tasks: Iterable[Task], report: TaskProgress) -> Outcomes:
        """Compute tasks and yield each with its outcome, as they finish.

        A task whose worker is lost is computed by another; after a few its cells fail.

        :raises GuidelensError: where no worker can be started.
        """
        queue = TaskQueue(tasks)
        first = queue.take()
        if first is None:  # nothing to do: Ray need not be started
            return
        with connection(self.options):
            pool = _ActorPool(self.setup, self.options)
            try:
                yield from pool.work(first, queue)
            finally:
                pool.close()


class _ActorPool:
    """The actors of a run: those that start, those that are free, and those that compute."""

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
        self._reason = "none was placed: does the cluster have room?"
        self._waiting_since = self._looked = time.monotonic()
        self._nodes = _alive(ray.nodes())
        for _ in range(options.workers or self._room()):
            self._start()

    def _room(self) -> int:
        import ray

        return _room(ray.nodes(), self._cores, self._gpus)

    def work(self, first: Task, queue: TaskQueue) -> Iterator[tuple[Task, Outcome]]:
        """Hand out tasks and yield outcomes until there are no more."""
        import ray

        upcoming: Task | None = first
        while True:
            while self._free and (task := upcoming or queue.take()) is not None:
                upcoming = None
                actor = self._free.pop()
                self._busy[actor.compute.remote(task, files_of(task))] = actor, task
            if not self._busy and upcoming is None and self._free:
                return  # someone was free, and there was nothing to do
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
        """End all actors. Without a head nobody could be told, and they end by themselves."""
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
        if trouble:  # this machine is not used; the others go on
            logger.warning("a worker cannot start: %s", trouble)
            self._reason = trouble
            ray.kill(actor)
            return
        self._failed_starts = 0
        self._free.append(actor)

    def _finished(self, ref: Any, queue: TaskQueue) -> Outcome | None:
        """Return what came of a task; None where it is to be computed again."""
        import ray

        actor, task = self._busy.pop(ref)
        try:
            outcome: Outcome | MissingFiles = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:  # the actor, its machine, or what it had returned is lost
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
                f"the head of the Ray cluster {self._options.address!r} is gone; what was finished is kept, and the "
                "same command continues"
            )
        self._grow()
        if self._busy or self._free:
            self._waiting_since = time.monotonic()
        elif not self._starting or time.monotonic() - self._waiting_since > START_TIMEOUT:
            raise GuidelensError(f"no worker could be started on the cluster: {self._reason}")

    def _grow(self) -> None:
        """Start workers on machines that joined the cluster, unless their number was given."""
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
    """The actor: a component cache of its own, with a fixed number of threads."""

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
    """Return how many GPUs a worker takes: one where the cluster has some and the device lets it."""
    there = resources.get("GPU", 0) >= 1
    if device == "cuda" and not there:
        raise UsageError("device cuda: the cluster has no GPU; say cpu, or auto")
    return int(there and device in ("auto", "cuda"))


def _alive(nodes: Iterable[dict[str, Any]]) -> set[str]:
    """Return the names of the machines that are in a cluster now."""
    return {node["NodeID"] for node in nodes if node["Alive"]}


def _room(nodes: Iterable[dict[str, Any]], cores: float, gpus: int) -> int:
    """Return how many workers fit into the machines of a cluster; at least 1, which may have to wait."""
    room = 0
    for node in nodes:
        if node["Alive"]:
            has = node["Resources"]
            fit = has.get("CPU", 0) // cores
            room += int(min(fit, has.get("GPU", 0)) if gpus else fit)
    return max(room, 1)
