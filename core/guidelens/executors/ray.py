"""Computing a study on a Ray cluster, in this machine or beyond it: one actor per GPU or per few cores.

An actor loads plugins and models once and computes batches as they were planned, so that pictures are those of
one process. Only plain data travels; this process alone writes results.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from guidelens.errors import GuidelensError, UsageError
from guidelens.runs.execute import ComponentCache, Executor, Outcome, Outcomes, Task, TaskProgress

from .task_queue import TaskQueue, longest_first
from .worker_setup import WorkerSetup, compute_alike, make_component_cache, make_worker_setup

if TYPE_CHECKING:
    from guidelens.plugins import PluginManager

logger = logging.getLogger(__name__)

LOCAL = "local"
START_TIMEOUT = 300.0
"""Seconds to wait for the first worker, and for the next one when all were lost."""
FAILED_STARTS = 3
"""Workers that may be lost while starting, one after the other, before no more are started."""
POLL = 0.5
"""Seconds between looks at whether something happened."""

_STORE_BYTES = 256 * 2**20  # of a local cluster: tasks and outcomes are small
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # else workers wait behind all that runs on the machine, unlike one process
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default; without it, it warns
}
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Whatever the system, this makes Ray take 127.0.0.1 for the address of the machine."""


@dataclass(frozen=True)
class RayOptions:
    """How to spread work.

    :param workers: actors; None: as many as the cluster has room for.
    :param threads: cores per actor, and threads of each.
    :param address: of a running cluster (``auto``, ``HOST:PORT``, ``ray://HOST:PORT``); ``local`` starts one
        on this machine and ends it afterwards.
    """

    workers: int | None = None
    threads: int = 1
    address: str = LOCAL

    def __post_init__(self) -> None:
        for what, value in (("workers", self.workers), ("threads per worker", self.threads)):
            if value is not None and value < 1:
                raise UsageError(f"{value} {what}: give at least 1")


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

        cores = float(options.threads)
        gpus = _gpus(setup.device, ray.cluster_resources())
        device = setup.device if gpus or setup.device != "auto" else "cpu"
        self._setup = WorkerSetup(setup.requests, device, setup.version, setup.torch)
        self._threads = options.threads
        self._actor = ray.remote(_Worker).options(
            num_cpus=cores, num_gpus=float(gpus), max_restarts=0, scheduling_strategy="SPREAD"
        )
        self._starting: dict[Any, Any] = {}
        self._free: list[Any] = []
        self._busy: dict[Any, tuple[Any, Task]] = {}
        self._failed_starts = 0
        self._reason = "none was placed: does the cluster have room?"
        self._waiting_since = time.monotonic()
        for _ in range(options.workers or _room(ray.nodes(), cores, gpus)):
            self._start()

    def work(self, first: Task, queue: TaskQueue) -> Iterator[tuple[Task, Outcome]]:
        """Hand out tasks and yield outcomes until there are no more."""
        import ray

        upcoming: Task | None = first
        while True:
            while self._free and (task := upcoming or queue.take()) is not None:
                upcoming = None
                actor = self._free.pop()
                self._busy[actor.compute.remote(task)] = actor, task
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
        """End all actors."""
        import ray

        for actor in [*self._starting.values(), *self._free, *(actor for actor, _ in self._busy.values())]:
            ray.kill(actor)

    def _start(self) -> None:
        actor: Any = self._actor.remote(self._threads)
        self._starting[actor.prepare.remote(self._setup)] = actor

    def _started(self, ref: Any) -> None:
        import ray

        actor = self._starting.pop(ref)
        try:
            trouble = ray.get(ref)
        except ray.exceptions.RayError as error:
            self._failed_starts += 1
            self._reason = _in_short(error)
            if self._failed_starts < FAILED_STARTS:
                self._start()
            return
        if trouble:
            raise GuidelensError(f"a worker cannot start: {trouble}")
        self._failed_starts = 0
        self._free.append(actor)

    def _finished(self, ref: Any, queue: TaskQueue) -> Outcome | None:
        """Return what came of a task; None where it is to be computed again."""
        import ray

        actor, task = self._busy.pop(ref)
        try:
            outcome: Outcome = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:  # the actor, its machine, or what it had returned is lost
            reason = _in_short(error)
            logger.warning("a worker was lost: %s", reason)
            ray.kill(actor)
            self._start()
            self._waiting_since = time.monotonic()
            return queue.lost(task, reason)
        self._free.append(actor)
        return outcome

    def _check(self) -> None:
        if self._busy or self._free:
            self._waiting_since = time.monotonic()
        elif not self._starting or time.monotonic() - self._waiting_since > START_TIMEOUT:
            raise GuidelensError(f"no worker could be started on the cluster: {self._reason}")


class _Worker:
    """The actor: a component cache of its own, with a fixed number of threads."""

    def __init__(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)

    def prepare(self, setup: WorkerSetup) -> str:
        """Load plugins; return what is amiss, or nothing."""
        try:
            self._component_cache = make_component_cache(setup)
        except GuidelensError as error:
            return str(error)
        return ""

    def compute(self, task: Task) -> Outcome:
        """Compute a task; see :func:`guidelens.runs.execute.compute`."""
        return compute_alike(task, self._component_cache)


@contextmanager
def connection(options: RayOptions) -> Iterator[None]:
    """Connect to a cluster, or start one on this machine, and leave it at the end.

    A connection that the caller has already is used and left as it is.

    :raises GuidelensError: for a cluster that cannot be reached or started.
    """
    local = options.address == LOCAL
    with _environment({**_QUIET, **(_LOOPBACK if local else {})}):
        import ray  # reads some of these when it is imported

    if ray.is_initialized():
        yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if local:
        cores = os.cpu_count() or 1
        wanted = (options.workers or max(1, cores // options.threads)) * options.threads
        quiet |= {
            "num_cpus": wanted,
            "include_dashboard": False,
            "object_store_memory": _STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }
    else:
        _knock(options.address)
    with _environment({**_QUIET, **(_LOOPBACK if local else {})}):
        try:
            ray.init(address=options.address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise _no_cluster(options.address, error) from error
        try:
            yield
        finally:
            ray.shutdown()


def _knock(address: str) -> None:
    """Raise where nothing listens at an address: Ray would try for minutes, and then end the process."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    if not port.isdecimal():
        return  # "auto", or a name that Ray knows
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: BaseException) -> GuidelensError:
    return GuidelensError(
        f"no Ray cluster at {address!r}: {_in_short(error)}; "
        "`ray start --head` starts one, and without --address this machine is used"
    )


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables that are not set, for processes started meanwhile."""
    added = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _gpus(device: str, resources: dict[str, float]) -> int:
    """Return how many GPUs a worker takes: one where the cluster has some and the device lets it."""
    there = resources.get("GPU", 0) >= 1
    if device == "cuda" and not there:
        raise UsageError("device cuda: the cluster has no GPU; say cpu, or auto")
    return int(there and device in ("auto", "cuda"))


def _room(nodes: Iterable[dict[str, Any]], cores: float, gpus: int) -> int:
    """Return how many workers fit into the machines of a cluster; at least 1, which may have to wait."""
    room = 0
    for node in nodes:
        if node["Alive"]:
            has = node["Resources"]
            fit = has.get("CPU", 0) // cores
            room += int(min(fit, has.get("GPU", 0)) if gpus else fit)
    return max(room, 1)


def _in_short(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
