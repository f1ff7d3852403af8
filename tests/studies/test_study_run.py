"""Studies run: resumable, tolerant of what fails in one cell, growing, refusing what is not theirs."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_world
from brittle_world import BrittleGuidance
from filelock import FileLock
from guidelens.comparison import compare
from guidelens.errors import GuidelensError, UsageError
from guidelens.plugins import PluginManager
from guidelens.runs import execute
from guidelens.runs.drive import Progress
from guidelens.sampling import Sampling
from guidelens.studies.file import parse_study, recorded_study
from guidelens.studies.run import StudyRun, find_study, run_study
from study_worlds import EXPLOSIVE, TOY, rows_of, snapshot

Run = Callable[..., StudyRun]


@pytest.fixture
def copy(toy: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy, tmp_path / "copy"))


def test_the_directory_says_everything(toy: Path) -> None:
    rows, members = rows_of(toy), rows_of(toy, "cells.jsonl")
    assert (len(rows), len(members)) == (24, 32)
    assert {m["key"] for m in members} == {r["key"] for r in rows}
    config = json.loads((toy / "config.json").read_text())
    assert [(g["name"], g["cells"]) for g in config["grids"]] == [("steps", 16), ("through", 16)]
    assert config["study"]["text"] == TOY
    for member in members:
        settings = config["settings"][member["settings"]]
        assert settings["steps"] == member["steps"]
        assert settings["through"] == member["options"].get("through", "unet")
    assert sorted(key for batch in config["batches"] for key in batch) == sorted(r["key"] for r in rows)
    for row in rows:
        assert (toy / row["image"]).exists()
        assert (toy / row["telemetry"]).exists()


def test_a_cell_is_that_of_a_comparison(toy: Path, tmp_path: Path) -> None:
    """Not only the key: the same batch gives the same picture, bit for bit."""
    plugins = PluginManager.load([tiny_world.__file__], environment={})
    row = next(r for r in rows_of(toy) if r["steps"] == 3)
    names = json.loads((toy / "config.json").read_text())
    batch = next(b for b in names["batches"] if row["key"] in b)
    mates = [r for r in rows_of(toy) if r["key"] in batch]
    made = compare(
        [r["prompt"] for r in mates],
        sampling=Sampling(steps=3),
        out=tmp_path / "out",
        guidance=BrittleGuidance(),
        schedules=[mates[0]["schedule"]],
        seeds=sorted({r["seed"] for r in mates}),
        batch_size=3,
        plugins=plugins,
        metrics=["brightness"],
        device="cpu",
    )
    ours = {r["key"]: (tmp_path / "out" / r["image"]).read_bytes() for r in made.rows}
    assert all(ours[r["key"]] == (toy / r["image"]).read_bytes() for r in mates)


def test_a_rerun_computes_nothing_and_changes_nothing(copy: Path, toy: Path, run: Run) -> None:
    done = run(TOY, copy)
    assert (done.computed, done.reused, done.complete) == (0, 24, True)
    assert snapshot(copy) == snapshot(toy)


WHO = "guidance model 'brittle' of plugin 'brittle_world'"


class Killed(BaseException):
    """Stands for a process that ends here."""


def test_ended_at_any_write_and_resumed_equals_undisturbed(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ends before the n-th replace or sync, for every n, with a cell that fails among the others."""
    text = (
        EXPLOSIVE.replace("steps = [3, 4]", "steps = 3")
        .replace("seeds = 2", "seeds = 1")
        .split('[[grid]]\nname = "through"')[0]
    )
    run(text, tmp_path / "undisturbed")
    expected = snapshot(tmp_path / "undisturbed")
    assert len(rows_of(tmp_path / "undisturbed", "failures.jsonl")) == 2
    sync, replace = os.fsync, os.replace
    for n in range(200):
        left = n

        def dying(call: Callable[..., None]) -> Callable[..., None]:
            def do(*arguments: Any) -> None:
                nonlocal left
                if left == 0:
                    raise Killed
                left -= 1
                call(*arguments)

            return do

        out = tmp_path / str(n)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", dying(sync))
            patch.setattr(os, "replace", dying(replace))
            try:
                run(text, out)
            except Killed:
                pass
            else:
                assert n > 20
                return
        run(text, out)
        assert snapshot(out) == expected, f"ended at write {n}"
    pytest.fail("the run never ended")


def test_a_cell_that_fails_costs_only_itself(tmp_path: Path, run: Run, toy: Path) -> None:
    done = run(EXPLOSIVE, tmp_path)
    assert (done.total, done.computed, done.failed, done.complete) == (36, 24, 12, False)
    assert done.reasons == [(f"{WHO} failed in losses(): RuntimeError: it exploded", 12)]
    failures = rows_of(tmp_path, "failures.jsonl")
    assert {(f["prompt"], f["reason"], f["error"]) for f in failures} == {
        ("explode", f"{WHO} failed in losses(): RuntimeError: it exploded", "RuntimeError")
    }
    healthy = {r["key"]: r["metrics"]["bright"] for r in rows_of(toy)}
    assert {r["key"]: r["metrics"]["bright"] for r in rows_of(tmp_path)} == pytest.approx(healthy, abs=0.01)


def test_failed_cells_are_retried_on_request(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(EXPLOSIVE, tmp_path)
    again = run(EXPLOSIVE, tmp_path)
    assert (again.computed, again.failed) == (0, 12)
    monkeypatch.setattr(BrittleGuidance, "healed", True)
    assert run(EXPLOSIVE, tmp_path).failed == 12
    mended = run(EXPLOSIVE, tmp_path, retry_failed=True)
    assert (mended.computed, mended.failed, mended.complete) == (12, 0, True)
    assert not (tmp_path / "failures.jsonl").exists()


def test_a_sample_that_diverges_fails_alone(tmp_path: Path, run: Run) -> None:
    text = TOY.replace('name = "steps"\nsteps = [3, 4]', 'name = "steps"\nsteps = 4\nscales = [1, 1e38]')
    done = run(text.split('[[grid]]\nname = "through"')[0], tmp_path)
    assert (done.computed, done.failed) == (8, 8)
    ((reason, _), *_) = done.reasons
    assert "finite" in reason
    assert {f["steps"] for f in rows_of(tmp_path, "failures.jsonl")} == {4}


def test_a_metric_that_fails_is_recorded_and_retried_on_request(tmp_path: Path, run: Run) -> None:
    text = TOY.replace('"a red circle"', '"something unscorable"')
    done = run(text, tmp_path)
    assert (done.computed, done.failed, done.unscored, done.complete) == (24, 0, 12, False)
    assert done.reasons == [
        ("metric brightness: RuntimeError: cannot read the picture of something unscorable", 12)
    ]
    assert run(text, tmp_path).unscored == 12

    class Mended(tiny_world.Brightness):
        def __init__(self) -> None:
            super().__init__(fails_on="never")

    healed = PluginManager.load([_plugin_with(Mended)], environment={})
    assert run(text, tmp_path, plugins=healed).unscored == 12
    mended = run(text, tmp_path, plugins=healed, retry_failed=True)
    assert (mended.computed, mended.unscored) == (0, 0)
    assert all("bright" in row["metrics"] for row in rows_of(tmp_path))
    assert len(rows_of(tmp_path)) == 24


def _plugin_with(metric: type) -> object:
    """Return the brittle and the tiny world as one plugin, with another metric under the old name."""
    from guidelens import hookimpl

    class Plugin:
        register_generators = staticmethod(tiny_world.register_generators)
        register_schedules = staticmethod(tiny_world.register_schedules)

        @hookimpl
        def register_guidance_models(self, register: Any) -> None:
            register("brittle", BrittleGuidance, summary="as above")

        @hookimpl
        def register_metrics(self, register: Any) -> None:
            register("brightness", metric, summary="mended", default=True)

    return Plugin()


def test_rescoring_survives_an_end_in_the_middle(
    copy: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TOY.replace('["brightness"]', '["brightness", "contrast"]')
    real, calls = tiny_world.Contrast.score, 0

    def dying(self: Any, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise Killed
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(tiny_world.Contrast, "score", dying)
        with pytest.raises(Killed):
            run(text, copy)
    assert len(rows_of(copy)) == 24 + 9  # three batches of three were scored, and are on disk
    counted: list[int] = []
    monkeypatch.setattr(
        tiny_world.Contrast,
        "score",
        lambda self, images, p: counted.append(len(images)) or real(self, images, p),
    )
    assert run(text, copy).complete
    assert sum(counted) == 24 - 9
    assert len(rows_of(copy)) == 24
    assert all({"bright", "contrast"} <= set(row["metrics"]) for row in rows_of(copy))


def test_asked_to_stop_it_scores_no_further_batch(copy: Path, run: Run) -> None:
    """Scoring what is there by a new metric may take as long as drawing it."""
    text = TOY.replace('["brightness"]', '["brightness", "contrast"]')
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 3

    part = run(text, copy, should_stop=stop)
    assert (part.stopped, part.complete) == (True, False)
    assert sum("contrast" in row["metrics"] for row in rows_of(copy)) == 9  # three batches of three
    rest = run(text, copy)
    assert (rest.complete, rest.computed) == (True, 0)
    assert all("contrast" in row["metrics"] for row in rows_of(copy))


def test_asked_to_stop_it_finishes_the_batch(tmp_path: Path, run: Run, toy: Path) -> None:
    asked = False

    def ask(progress: Progress) -> None:
        nonlocal asked
        asked = asked or progress.done > 2  # in the middle of the second batch

    part = run(TOY, tmp_path / "out", on_progress=ask, should_stop=lambda: asked)
    assert part.stopped
    assert not part.complete
    sizes = [len(b) for b in json.loads((tmp_path / "out" / "config.json").read_text())["batches"]]
    assert part.computed == sum(sizes[:2]) < 24
    rest = run(TOY, tmp_path / "out")
    assert (rest.reused, rest.computed) == (part.computed, 24 - part.computed)
    assert snapshot(tmp_path / "out") == snapshot(toy)


def test_a_study_may_grow_and_change(copy: Path, toy: Path, run: Run) -> None:
    grown = run(TOY.replace("seeds = 2", "seeds = 3").replace("steps = [3, 4]", "steps = [4, 5]"), copy)
    assert (grown.reused, grown.total) == (16, 36)
    kept = {r["key"]: r["seconds"] for r in rows_of(toy)}
    now = {r["key"]: r["seconds"] for r in rows_of(copy)}
    assert now.items() >= kept.items()  # those that the study no longer asks for are left alone


@pytest.mark.parametrize("damage", ["picture", "telemetry", "row"])
def test_what_is_damaged_is_computed_again(copy: Path, toy: Path, run: Run, damage: str) -> None:
    row = rows_of(copy)[5]
    if damage == "row":
        path = copy / "results.jsonl"
        path.write_bytes(path.read_bytes()[:-30])
    else:
        path = copy / row["image" if damage == "picture" else "telemetry"]
        path.write_bytes(path.read_bytes()[:-20])
    done = run(TOY, copy)
    mates = sum(r["telemetry"] == row["telemetry"] for r in rows_of(toy))
    assert done.computed == (mates if damage == "telemetry" else 1)
    assert snapshot(copy) == snapshot(toy)


def test_what_is_no_study_of_this_name_is_refused(copy: Path, tmp_path: Path, run: Run) -> None:
    before = snapshot(copy)
    with pytest.raises(UsageError, match="holds the study 'toy', not 'other'; choose another --out"):
        run(TOY.replace('"toy"', '"other"'), copy)
    with pytest.raises(UsageError, match="holds a study, not a comparison; choose another --out"):
        compare("x", out=copy, guidance=BrittleGuidance(), generator=tiny_world.TinyGenerator())
    assert snapshot(copy) == before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="is not empty and holds no guidelens run"):
        run(TOY, tmp_path / "thesis")
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["thesis.txt"]


def test_a_second_process_is_told(copy: Path, run: Run) -> None:
    with FileLock(copy / ".lock"), pytest.raises(GuidelensError, match="in use by another guidelens process"):
        run(TOY, copy)


def test_a_full_disk_ends_the_run_in_one_line_and_loses_nothing(
    tmp_path: Path, run: Run, toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(GuidelensError, match="No space left on device; free some"):
            run(TOY, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.tmp~"))
    assert run(TOY, tmp_path / "out").reused > 0
    assert snapshot(tmp_path / "out") == snapshot(toy)


def test_an_unwritable_place_is_one_clear_error(tmp_path: Path, run: Run) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GuidelensError, match=r"cannot use .*file.run"):
        run(TOY, tmp_path / "file" / "run")


def test_progress_counts_failures_and_weighs_steps(tmp_path: Path, run: Run) -> None:
    seen: list[Progress] = []
    run(EXPLOSIVE, tmp_path, on_progress=seen.append)
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert [p.share for p in seen] == sorted(p.share for p in seen)
    assert (seen[0].share, seen[-1].share, seen[-1].done, seen[-1].failed) == (0, 1, 24, 12)
    assert set(seen[-1].means) == {"only-itc", "turn"}


def test_models_are_let_go_of_and_built_again(plugins: PluginManager) -> None:
    built: list[tuple[str, str]] = []

    def build(kind: str, name: str) -> object:
        built.append((kind, name))
        return object()

    cache = execute.ComponentCache(build)
    first = cache.model("generator", "a")
    assert cache.model("generator", "b") is not cache.model("generator", "a") is first
    cache.model("guidance", "a")
    cache.model("generator", "c")  # b goes, as the one used longest ago
    assert cache.model("generator", "a") is first
    cache.model("generator", "b")
    assert [name for kind, name in built if kind == "generator"] == ["a", "b", "c", "b"]


def test_another_executor_may_compute_in_any_order(tmp_path: Path, run: Run, toy: Path) -> None:
    """Tasks and outcomes go through pickle, as between processes; all files come out the same."""
    import pickle

    class Backwards:
        def __init__(self, cache: execute.ComponentCache) -> None:
            self.cache = cache

        def outcomes(self, tasks: Any, report: Any) -> Any:
            for task in reversed(list(tasks)):
                sent = pickle.loads(pickle.dumps(task))
                report(sent, 0.5)
                yield sent, pickle.loads(pickle.dumps(execute.compute(sent, self.cache)))

    seen: list[Progress] = []
    assert run(TOY, tmp_path, executor=Backwards, on_progress=seen.append).complete
    assert max(p.done for p in seen) == seen[-1].done == 24
    assert snapshot(tmp_path) == snapshot(toy)


def test_studies_are_found_by_file_and_by_name(tmp_path: Path) -> None:
    from guidelens import hookimpl

    path = tmp_path / "x.toml"
    path.write_text(TOY)

    class Plugin:
        @hookimpl
        def register_studies(self, register: Any) -> None:
            register("mine", path, summary="my study")

    class Other(Plugin):
        pass

    plugins = PluginManager.load([Plugin()], environment={})
    (info,) = [study for study in plugins.studies() if study.path == path]
    assert (info.name, info.path, info.summary) == ("mine", path, "my study")
    assert find_study("mine", plugins).name == find_study(path, plugins).name == "toy"
    with pytest.raises(UsageError, match=r"unknown study 'mien' \(did you mean 'mine'\?\); there are .*mine"):
        find_study("mien", plugins)
    two = PluginManager.load([Plugin(), Other()], environment={})
    with pytest.raises(UsageError, match="several plugins offer the study 'mine'; say "):
        find_study("mine", two)


def test_a_directory_remembers_its_study_and_plugins(tmp_path: Path) -> None:
    (tmp_path / "world.py").write_text(Path(tiny_world.__file__).read_text())
    text = 'name = "t"\nplugins = ["world.py"]\nsteps = 2\nseeds = 1\ndevice = "cpu"\n'
    (tmp_path / "t.toml").write_text(text)
    given = PluginManager.load(["no:shapes"], environment={})
    done = run_study(tmp_path / "t.toml", out=tmp_path / "out", plugins=given)
    assert done.complete
    recorded = recorded_study(tmp_path / "out")
    assert recorded == done.study
    assert json.loads((tmp_path / "out" / "config.json").read_text())["plugins"] == given.requests()
    assert "no:shapes" in given.requests()
    again = run_study(recorded, out=tmp_path / "out", plugins=given)
    assert (again.reused, again.computed) == (done.computed, 0)
    broken = parse_study(text.replace("world.py", "wold.py"), label="s.toml", base=tmp_path)
    with pytest.raises(UsageError, match=r"s.toml, line 2: .*wold\.py"):
        run_study(broken, out=tmp_path / "other", plugins=given)
