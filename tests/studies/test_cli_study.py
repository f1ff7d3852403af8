"""``guidelens study`` as users call it, interrupted processes included."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import brittle_world
import pytest
import tiny_world
from click.testing import CliRunner, Result
from guidelens.cli.main import cli
from study_worlds import EXPLOSIVE, TOY, rows_of, snapshot

Guidelens = Callable[..., Result]
WORLDS = ("-p", tiny_world.__file__, "-p", brittle_world.__file__)


@pytest.fixture
def guidelens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guidelens:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.toml").write_text(TOY)
    (tmp_path / "explosive.toml").write_text(EXPLOSIVE)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, [*WORLDS, *arguments])

    return run


def test_run_status_export_resume(guidelens: Guidelens, toy: Path) -> None:
    done = guidelens("study", "run", "toy.toml")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        "study toy: 24 of 24 cells (24 drawn)",
        f"results: {Path('runs', 'toy')}",
        f"report: {Path('runs', 'toy', 'report.html')}",
    ]
    assert "24 of 24 pictures" in done.stderr
    assert "bright: only-itc" in done.stderr
    assert {r["key"] for r in rows_of(Path("runs/toy"))} == {r["key"] for r in rows_of(toy)}

    shown = guidelens("study", "status", "runs/toy").stdout.splitlines()
    assert shown[0] == "study toy"
    assert [" ".join(line.split()) for line in shown[1:]] == [
        "steps 16 of 16 cells",
        "through 16 of 16 cells",
        "in all 24 of 24 cells",
    ]
    told = json.loads(guidelens("study", "status", "runs/toy", "--json").stdout)
    assert told["total"] == {"all": 24, "done": 24, "failed": 0, "unscored": 0}

    assert guidelens("study", "export", "runs/toy").stdout == f"32 rows: {Path('runs', 'toy', 'cells.csv')}\n"
    assert len(Path("runs/toy/cells.csv").read_text().splitlines()) == 33
    piped = guidelens("study", "export", "runs/toy", "--out", "-")
    assert piped.stdout.splitlines() == Path("runs/toy/cells.csv").read_text().splitlines()
    assert (
        guidelens("study", "export", "runs/toy", "--format", "parquet", "--out", "x.parquet").exit_code == 0
    )
    assert Path("x.parquet").read_bytes()[:4] == b"PAR1"

    listed = guidelens("study", "ls").stdout
    assert f"{Path('runs', 'toy')}  toy: 24 of 24 cells" in listed


def test_resume_needs_no_plugins_named_again(guidelens: Guidelens) -> None:
    assert guidelens("study", "run", "toy.toml", "--out", "out", "--batch-size", "4").exit_code == 0
    before = snapshot(Path("out"))
    again = CliRunner().invoke(cli, ["study", "resume", "out", "--batch-size", "4"])
    assert again.exit_code == 0, again.output
    assert "24 of 24 cells (0 drawn, 24 were there)" in again.stdout
    assert snapshot(Path("out")) == before


def test_a_study_may_be_asked_of_other_models(guidelens: Guidelens) -> None:
    done = guidelens("study", "run", "toy.toml", "--guidance", "tiny-vl", "--out", "other")
    assert done.exit_code == 0, done.output
    assert {row["guidance"] for row in rows_of(Path("other"))} == {"tiny-vl"}
    (command,) = json.loads(Path("other/config.json").read_text())["commands"]
    assert command == "guidelens study run toy.toml --out other --guidance tiny-vl"
    assert "24 of 24 cells (0 drawn, 24 were there)" in guidelens("study", "resume", "other").stdout
    refused = guidelens("study", "run", "toy.toml", "--out", "other")
    assert refused.exit_code == 2
    assert "other holds the study 'toy' with guidance tiny-vl; choose another --out" in refused.stderr


def test_dry_run_writes_nothing(guidelens: Guidelens) -> None:
    dry = guidelens("study", "run", "toy.toml", "--dry-run")
    assert dry.exit_code == 0, dry.output
    lines = [" ".join(line.split()) for line in dry.stdout.splitlines()]
    assert lines[:3] == [
        "steps 16 cells",
        "through 16 cells",
        "in all 24 cells (8 of these are shared between grids)",
    ]
    assert lines[3].startswith("time: ")
    assert " for 88 steps of a picture, on cpu, 3 pictures at once" in lines[3]
    assert lines[4].startswith("memory: ")
    assert not Path("runs").exists()
    guidelens("study", "run", "explosive.toml", "--out", "out")
    before = snapshot(Path("out"))
    assert (
        "0 of these are missing, 12 failed before"
        in guidelens("study", "run", "explosive.toml", "--out", "out", "--dry-run").stdout
    )
    again = guidelens("study", "run", "explosive.toml", "--out", "out", "--dry-run", "--retry-failed").stdout
    assert "12 of these are missing\n" in again
    assert " for 0 steps" not in again
    assert snapshot(Path("out")) == before
    other = guidelens("study", "run", "toy.toml", "--out", "out", "--dry-run", "--guidance", "tiny-vl")
    assert (other.exit_code, "choose another --out" in other.stderr) == (2, True)
    for_ray = guidelens("study", "run", "toy.toml", "--dry-run", "--workers", "2")
    assert (for_ray.exit_code, for_ray.stderr) == (2, "error: --workers is for --executor ray\n")


def test_a_forecast_of_batches_that_fit_says_how_many(guidelens: Guidelens) -> None:
    """What fits is asked of the engine, as by the run itself, and kept to where the directory has begun."""
    forecast = guidelens(
        "study", "run", "toy.toml", "--out", "out", "--dry-run", "--batch-size", "auto"
    ).stdout
    assert guidelens("study", "run", "toy.toml", "--out", "out", "--batch-size", "auto").exit_code == 0
    size = json.loads(Path("out/config.json").read_text())["batch_size"]
    assert f" {size} pictures at once" in forecast
    assert guidelens("study", "run", "toy.toml", "--out", "five", "--batch-size", "5").exit_code == 0
    begun = guidelens("study", "run", "toy.toml", "--out", "five", "--dry-run", "--batch-size", "auto").stdout
    assert " 5 pictures at once" in begun


def test_failures_are_told_with_the_exit_code(guidelens: Guidelens) -> None:
    done = guidelens("study", "run", "explosive.toml", "--out", "out")
    assert done.exit_code == 1
    assert "error: 12 of 36 cells: guidance model 'brittle'" in done.stderr
    assert "failed in losses(): RuntimeError: it exploded" in " ".join(done.stderr.split())
    assert "guidelens study resume out --retry-failed tries them again" in " ".join(done.stderr.split())
    assert "12 failed" in guidelens("study", "status", "out").stdout
    assert guidelens("study", "resume", "out", "--retry-failed").exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "toy.toml", "--device", "tpu"), "error: unknown device 'tpu'"),
        (("run", "toy.toml", "--guidance", "no"), "error: unknown guidance model 'no'"),
        (("run", "toy.toml", "--dry-run", "--generator", "no"), "error: unknown generator 'no'"),
        (("run", "gone.toml"), "cannot read the study gone.toml: No such file"),
        (("run", "nothing"), "unknown study 'nothing'"),
        (("resume", "gone"), "gone holds no study; guidelens study run FILE --out DIR starts one"),
        (("status", "gone"), "gone holds no study"),
        (("export", "gone"), "gone holds neither a study nor a comparison"),
        (("run", "toy.toml", "--batch-size", "0"), "'0' is neither a number from 1 on nor auto"),
        (("run", "toy.toml", "--device", "abacus"), "unknown device 'abacus'"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(guidelens: Guidelens, arguments: tuple[str, ...], message: str) -> None:
    done = guidelens("study", *arguments)
    assert done.exit_code in (1, 2)
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not Path("runs").exists()


SLOW = """
import sys, time
from tiny_world import TinyGenerator
real = TinyGenerator.__call__
def slow(self, *arguments):
    time.sleep(0.05)
    print("step", flush=True)
    return real(self, *arguments)
TinyGenerator.__call__ = slow
from guidelens.cli.main import main
main()
"""


def _started(tmp_path: Path) -> subprocess.Popen[str]:
    (tmp_path / "toy.toml").write_text(TOY)
    path = os.pathsep.join([str(Path(tiny_world.__file__).parent), str(Path(__file__).parent)])
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, *WORLDS, "study", "run", "toy.toml", "--out", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _after(process: subprocess.Popen[str], steps: int) -> None:
    assert process.stdout is not None
    for _ in range(steps):
        assert process.stdout.readline() == "step\n"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_interrupt_finishes_the_batch(tmp_path: Path, toy: Path, number: signal.Signals) -> None:
    with _started(tmp_path) as process:
        _after(process, 4)  # in the second batch of three steps
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "finishing the pictures in flight; Ctrl-C again stops at once" in err
    assert "interrupted: finished pictures are in out; run the same command again to resume" in err
    assert len(rows_of(tmp_path / "out")) == 4
    assert out.count("step") <= 2
    assert CliRunner().invoke(cli, ["study", "resume", str(tmp_path / "out")]).exit_code == 0
    ours, theirs = snapshot(tmp_path / "out"), snapshot(toy)
    assert "report.html" in ours
    del ours["config.json"], theirs["config.json"]  # which names the command and the file
    ours = {
        name: content for name, content in ours.items() if not name.startswith(("report", "trajectories"))
    }
    assert ours == theirs


@pytest.mark.slow
def test_a_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    with _started(tmp_path) as process:
        _after(process, 4)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        while "finishing" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: finished pictures are in out" in err
    assert len(rows_of(tmp_path / "out")) == 2
