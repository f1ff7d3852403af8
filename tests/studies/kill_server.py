"""Starts studies in processes of their own and kills some of them: one process that has imported everything.

It reads commands from stdin, one a line, and answers each with one line. ``run DIR`` lets a run end, and answers
with the ticks that it took. ``kill DIR TICKS`` kills it after so many, and answers ``killed`` or ``done``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from guidelens.plugins import PluginManager
from guidelens.studies.file import parse_study
from guidelens.studies.run import run_study
from study_worlds import EXPLOSIVE, TOY_PLUGINS

TICK = 0.001


def start(directory: str, plugins: PluginManager) -> int:
    """Fork a process that runs the study, and return its id."""
    child = os.fork()
    if child == 0:
        run_study(parse_study(EXPLOSIVE, label="s.toml"), out=directory, plugins=plugins)
        os._exit(0)
    return child


def wait(child: int, ticks: int | None) -> int | None:
    """Wait for a process to end, at most so many ticks; return how many it took, None if it goes on."""
    waited = 0
    while ticks is None or waited < ticks:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0, f"the run ended with {status}"
            return waited
        time.sleep(TICK)
        waited += 1
    return None


def main() -> None:
    plugins = PluginManager.load(TOY_PLUGINS, environment={})
    import guidelens.engine  # noqa: F401  # and torch with it: once, and not in each process

    print("ready", flush=True)
    for line in sys.stdin:
        command, directory, *rest = line.split()
        child = start(directory, plugins)
        took = wait(child, int(rest[0]) if command == "kill" else None)
        if took is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        print("killed" if took is None else took if command == "run" else "done", flush=True)


if __name__ == "__main__":
    main()
