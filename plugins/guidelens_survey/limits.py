"""Rate limits: token buckets in memory, one per rater or address."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Requests per second, and burst size: per rater; per network address, for the open link and wrong links; and for
    new raters, per network address."""

    rater_rate: float = 10.0
    rater_burst: int = 60
    address_rate: float = 2.0
    address_burst: int = 120
    join_rate: float = 0.05
    join_burst: int = 30


class Buckets:
    """Token buckets: allow ``burst`` requests of a name at once, then ``rate`` per second. Only the latest names are
    kept."""

    def __init__(self, rate: float, burst: int, *, remember: int = 10_000) -> None:
        self.rate, self.burst, self.remember = rate, burst, remember
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def allow(self, name: str, now: float | None = None) -> bool:
        """Count one request of ``name``. Return False if there are too many."""
        now = time.monotonic() if now is None else now
        with self._lock:
            level, then = self._levels.pop(name, (float(self.burst), now))
            level = min(float(self.burst), level + (now - then) * self.rate)
            allowed = level >= 1
            self._levels[name] = (level - 1 if allowed else level, now)
            while len(self._levels) > self.remember:
                self._levels.popitem(last=False)
        return allowed
