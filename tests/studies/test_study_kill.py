"""Kill -9 at random moments: nothing is corrupted or computed twice, and the end is the same bit for bit."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from study_worlds import rows_of, snapshot

KILLS = 50
Ask = Callable[..., str]


@pytest.fixture
def ask() -> Iterator[Ask]:
    script = Path(__file__).with_name("kill_server.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(script)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"

        def ask(*words: object) -> str:
            assert server.stdin is not None
            assert server.stdout is not None
            print(*words, file=server.stdin, flush=True)
            return server.stdout.readline().strip()

        yield ask
        server.stdin.close()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_killed_at_random_moments_it_ends_like_an_undisturbed_run(tmp_path: Path, ask: Ask) -> None:
    ticks = int(ask("run", tmp_path / "undisturbed"))
    expected = snapshot(tmp_path / "undisturbed")
    assert len(expected["results.jsonl"]) == 24
    assert len(rows_of(tmp_path / "undisturbed", "failures.jsonl")) == 12
    moments = random.Random(0)
    kills, partial = 0, 0
    for directory in range(10 * KILLS):
        out = tmp_path / str(directory)
        before: dict[str, float] = {}
        while kills < KILLS and ask("kill", out, moments.randint(0, ticks)) == "killed":
            kills += 1
            rows = _whole_rows(out)
            # What was there is there still, untouched: the seconds would tell if it had been computed again.
            assert rows.items() >= before.items()
            partial += 0 < len(rows) < 24
            before = rows
        ask("run", out)
        assert {row["key"]: row["seconds"] for row in rows_of(out)}.items() >= before.items()
        assert snapshot(out) == expected
        if kills == KILLS:
            break
    assert kills == KILLS
    assert partial > KILLS / 5, "the moments were not those that matter"


def _whole_rows(directory: Path) -> dict[str, float]:
    """Return key -> seconds of the rows that the next run will find, without touching anything."""
    from guidelens.runs.store import read_rows

    return {key: row["seconds"] for key, row in read_rows(directory / "results.jsonl")[0].items()}
