"""Run one heavy job at a time. Jobs wait in a queue, and a job is removed when its page is closed.

A job is a Python generator of events. It runs on the single worker thread, and its events are passed to the event loop
of their reader. If the reader stops reading, the job is cancelled and ends at its next event.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import closing
from typing import Any

from guidelens.errors import GuidelensError

logger = logging.getLogger("guidelens.explore")

Event = tuple[str, dict[str, Any]]
"""The name of an event, and its data."""

Work = Callable[[], Generator[Event, None, None]]

MAX_WAITING = 64
"""Maximum number of jobs in the queue."""


class Job:
    """One job in the queue, created on the event loop that reads its events."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.cancelled = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()

    def tell(self, event: Event | None) -> None:
        """Pass an event from any thread to the reader. None marks the end."""
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the loop is closed, so there is no reader
            self.cancelled.set()

    async def next(self) -> Event | None:
        """Return the next event."""
        return await self._events.get()


class JobQueue:
    """Run jobs one after the other, in the order of arrival.

    :param prepare: called before the first job. Its exceptions are ignored here, because the jobs will raise them
        again.
    """

    def __init__(self, prepare: Callable[[], object] = lambda: None) -> None:
        self._prepare = prepare
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._lock = threading.Condition()
        threading.Thread(target=self._run, name="guidelens-explore", daemon=True).start()

    @property
    def length(self) -> int:
        """Number of jobs that run or wait."""
        with self._lock:
            return len(self._waiting) + (self._running is not None)

    async def events(self, work: Work) -> AsyncGenerator[Event, None]:
        """Run a job and yield its events: first ``waiting`` with the number of jobs before it, then the job's own
        events.

        If the job fails, the last event is ``error`` with a ``message``. Closing this generator cancels the job.
        """
        job = Job(work)
        if not self._submit(job):
            yield "error", {"message": f"{MAX_WAITING} drawings are waiting already: try again in a minute"}
            return
        try:
            while (event := await job.next()) is not None:
                yield event
        finally:
            self._cancel(job)

    def _submit(self, job: Job) -> bool:
        """Add a job to the queue. Return False if the queue is full."""
        with self._lock:
            if len(self._waiting) >= MAX_WAITING:
                return False
            self._waiting.append(job)
            self._tell_places()
            self._lock.notify()
        return True

    def _cancel(self, job: Job) -> None:
        """Remove a waiting job, or end a running job at its next event."""
        job.cancelled.set()
        with self._lock:
            if job in self._waiting:
                self._waiting.remove(job)
                self._tell_places()

    def _tell_places(self) -> None:
        """Send each waiting job the number of jobs before it."""
        ahead = int(self._running is not None)
        for place, job in enumerate(self._waiting):
            job.tell(("waiting", {"ahead": place + ahead}))

    def _run(self) -> None:
        try:
            self._prepare()
        except Exception:
            logger.debug("preparing failed", exc_info=True)
        while True:
            with self._lock:
                self._running = None
                self._tell_places()
                while not self._waiting:
                    self._lock.wait()
                job = self._running = self._waiting.popleft()
                self._tell_places()
            _perform(job)


def _perform(job: Job) -> None:
    try:
        with closing(job.work()) as events:
            for event in events:
                if job.cancelled.is_set():
                    return
                job.tell(event)
    except GuidelensError as error:
        job.tell(("error", {"message": _one_line(error)}))
    except Exception as error:  # a bug in guidelens: the page shows it, and the next job runs
        logger.exception("a drawing failed")
        job.tell(("error", {"message": f"{type(error).__name__}: {_one_line(error)}"}))
    finally:
        job.tell(None)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
