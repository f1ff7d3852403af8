"""Comparisons end to end on a tiny world: resuming, growing, refusing, failing metrics."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from guidelens.comparison import Comparison, compare
from guidelens.contracts import Column, Prompt
from guidelens.errors import GuidelensError, UsageError
from guidelens.pictures import to_picture, to_tensor
from guidelens.runs import store as store_module
from guidelens.runs.drive import Progress
from guidelens.runs.notes import Note
from guidelens.runs.store import RunStore, read_rows
from guidelens.runs.telemetry import step_series
from guidelens.sampling import Sampling
from PIL import Image
from tiny_world import Brightness, Contrast, TinyGenerator, TinyGuidance, Weights

PROMPTS = ("a red circle", "a dot above a line")
Run = Callable[..., Comparison]


def run(out: Path, prompts: Any = PROMPTS, **changes: Any) -> Comparison:
    arguments: dict[str, Any] = {
        "generator": TinyGenerator(),
        "guidance": TinyGuidance(),
        "schedules": [Weights("itc", {"itc": 1.0}), Weights("shift", {"cap": 1.0}, {"itc": 1.0})],
        "metrics": [Brightness()],
        "seeds": 2,
        "sampling": Sampling(steps=3),
        "batch_size": 3,
        "device": "cpu",
    }
    return compare(prompts, out=out, **{**arguments, **changes})


def snapshot(directory: Path) -> dict[str, Any]:
    """All files of a run byte for byte, but for the seconds."""
    files: dict[str, Any] = {}
    for path in sorted(directory.rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(directory).as_posix()
        if name == "results.jsonl":
            files[name] = [
                {k: v for k, v in json.loads(line).items() if k != "seconds"}
                for line in path.read_text().splitlines()
            ]
        elif name == "index.html":
            files[name] = re.sub(r"<dt>time</dt><dd>.*?</dd>", "", path.read_text())
        else:
            files[name] = path.read_bytes()
    return files


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("reference") / "run"
    run(directory)
    return directory


@pytest.fixture
def copy(reference: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(reference, tmp_path / "copy"))


def test_a_run_has_the_files_and_fields_of_its_format(reference: Path) -> None:
    rows = [json.loads(line) for line in (reference / "results.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * 2 * 2
    expected = "key prompt schedule seed generator guidance steps sampler scale image metrics losses"
    expected += " nonfinite_steps seconds"
    for row in rows:
        assert set(expected.split()) <= row.keys()
        assert row["image"] == f"samples/{row['key']}.png"
        with Image.open(reference / row["image"]) as image:
            assert image.size == (8, 8)
        assert (row["generator"], row["guidance"], row["steps"], row["sampler"]) == (
            "tiny",
            "tiny-vl",
            3,
            "ddpm",
        )
        assert set(row["losses"]) == ({"itc"} if row["schedule"] == "itc" else {"itc", "cap"})
        series = step_series(reference, row)["losses"]
        assert all(len(values) == 3 for values in series.values())
        assert row["losses"] == {n: [v for v in values if v is not None][-1] for n, values in series.items()}
    shift = step_series(reference, next(row for row in rows if row["schedule"] == "shift"))
    assert shift["losses"]["itc"][0] is None
    assert shift["losses"]["cap"][2] is None
    config = json.loads((reference / "config.json").read_text())
    assert config["settings"]["generator"] == {"name": "tiny", "fingerprint": "tiny-generator-1"}
    assert config["settings"]["objective_scales"] == {"cap": 1.0, "itc": 1.0}
    assert (reference / "grid.png").exists()
    assert (reference / "index.html").exists()


def test_metrics_see_what_is_on_disk(reference: Path) -> None:
    for row in read_rows(reference / "results.jsonl")[0].values():
        with Image.open(reference / row["image"]) as image:
            assert row["metrics"]["bright"] == pytest.approx(float(to_tensor(image).mean() + 1) / 2, abs=1e-6)


def test_pictures_survive_the_round_trip() -> None:
    levels = torch.arange(192, dtype=torch.float32).reshape(3, 8, 8) / 127.5 - 1
    assert torch.equal(to_tensor(to_picture(levels)), levels)
    assert to_picture(torch.full((3, 2, 2), 7.0)).getpixel((0, 0)) == (255, 255, 255)
    assert to_picture(torch.full((1, 2, 2), float("nan"))).getpixel((0, 0)) == 0


def test_a_rerun_computes_nothing(copy: Path, reference: Path) -> None:
    generator = TinyGenerator()
    result = run(copy, generator=generator)
    assert (result.computed, result.reused, generator.evaluated) == (0, 8, 0)
    assert snapshot(copy) == snapshot(reference)


class Killed(BaseException):
    """Stands for a process that ends here."""


def test_killed_at_any_write_and_resumed_equals_uninterrupted(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dies before the n-th sync or replace, for every n; odd n leave a temporary file, as SIGKILL does."""
    expected = snapshot(reference)
    sync, replace, unlink = os.fsync, os.replace, Path.unlink
    for n in range(200):
        out = tmp_path / str(n)
        left = n

        def countdown() -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1

        def dying_sync(descriptor: int) -> None:
            countdown()
            sync(descriptor)

        def dying_replace(source: Any, target: Any) -> None:
            countdown()
            replace(source, target)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", dying_sync)
            patch.setattr(os, "replace", dying_replace)
            if n % 2:
                patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
            try:
                run(out)
            except Killed:
                pass
            else:
                assert n > 20
                return
        assert Path.unlink is unlink
        run(out)
        assert snapshot(out) == expected, f"killed at write {n}"
    pytest.fail("the run never ended")


def test_torn_row_is_dropped_and_computed_again(copy: Path, reference: Path) -> None:
    path = copy / "results.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    result = run(copy)
    assert (result.computed, result.reused) == (1, 7)
    assert snapshot(copy) == snapshot(reference)


def test_torn_row_that_ends_in_a_newline_is_dropped(copy: Path, reference: Path) -> None:
    path = copy / "results.jsonl"
    path.write_bytes(path.read_bytes()[:-40] + b"\n")
    assert run(copy).computed == 1
    assert snapshot(copy) == snapshot(reference)


def test_image_without_row_does_not_count(copy: Path, reference: Path) -> None:
    path = copy / "results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-2]))
    assert run(copy).computed == 2
    assert snapshot(copy) == snapshot(reference)


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty"])
def test_row_without_readable_image_does_not_count(copy: Path, reference: Path, damage: str) -> None:
    row = json.loads((copy / "results.jsonl").read_text().splitlines()[2])
    image = copy / row["image"]
    if damage == "missing":
        image.unlink()
    else:
        image.write_bytes(image.read_bytes()[:-30] if damage == "truncated" else b"")
    result = run(copy)
    assert (result.computed, result.reused) == (1, 7)
    assert snapshot(copy) == snapshot(reference)


def test_damage_in_the_middle_is_an_error(copy: Path) -> None:
    path = copy / "results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b"{broken\n", *lines[2:]]))
    before = path.read_bytes()
    with pytest.raises(GuidelensError, match="line 2 is not a result row"):
        run(copy)
    assert path.read_bytes() == before


def test_interrupted_by_the_user_leaves_whole_batches(tmp_path: Path, reference: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.done > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out", on_progress=stop)
    assert len(read_rows(tmp_path / "out" / "results.jsonl")[0]) == 2
    assert run(tmp_path / "out").reused == 2
    assert snapshot(tmp_path / "out") == snapshot(reference)


def test_asked_to_stop_it_finishes_the_batch_and_leaves_a_page(tmp_path: Path, reference: Path) -> None:
    asked = False

    def ask(progress: Progress) -> None:
        nonlocal asked
        asked = asked or progress.done > 2  # in the middle of the second batch

    part = run(tmp_path / "out", on_progress=ask, should_stop=lambda: asked)
    assert part.stopped
    assert [row["key"] for row in part.rows] == list(read_rows(tmp_path / "out" / "results.jsonl")[0])
    assert len(part.rows) == part.computed == 4
    assert part.page.exists()
    assert part.grid.exists()
    rest = run(tmp_path / "out")
    assert (rest.stopped, rest.reused) == (False, 4)
    assert snapshot(tmp_path / "out") == snapshot(reference)
    none = run(tmp_path / "none", should_stop=lambda: True)
    assert (none.stopped, none.rows, none.page.exists()) == (True, [], False)
    assert snapshot(run(tmp_path / "none").directory) == snapshot(reference)


def test_a_killed_process_is_resumed(tmp_path: Path, reference: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; import test_runs_compare as t\n"
        "def slow(p):\n  print(p.done, flush=True); time.sleep(0.2 if p.done > 2 else 0)\n"
        "t.run(Path(sys.argv[1]), on_progress=slow)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(out)], env=environment, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        while float(process.stdout.readline()) <= 2:
            pass
        with pytest.raises(GuidelensError, match="in use by another guidelens process"):
            run(out)
        process.send_signal(signal.SIGKILL)
    assert 0 < len(read_rows(out / "results.jsonl")[0]) < 8
    run(out)
    assert snapshot(out) == snapshot(reference)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": Sampling(steps=4)}, "steps is 3 there and 4 here"),
        ({"sampling": Sampling(steps=3, sampler="ddim")}, "sampler is 'ddpm' there and 'ddim' here"),
        ({"sampling": Sampling(steps=3, scale=2.0)}, "scale is 1.0 there and 2.0 here"),
        (
            {"sampling": Sampling(steps=3, objective_scales={"itc": 3.0})},
            "objective_scales.itc is 1.0 there and 3.0 here",
        ),
        (
            {"generator": TinyGenerator("other")},
            "generator.fingerprint is 'tiny-generator-1' there and 'other' here",
        ),
        ({"schedules": [Weights("itc", {"itc": 0.5})]}, "schedule itc: weights of itc is"),
    ],
)
def test_other_settings_are_refused_and_nothing_changes(
    copy: Path, changes: dict[str, Any], message: str
) -> None:
    before = snapshot(copy)
    with pytest.raises(UsageError, match="holds a run with other settings") as caught:
        run(copy, **changes)
    assert message in str(caught.value)
    assert snapshot(copy) == before


def test_a_grid_may_grow(copy: Path, reference: Path) -> None:
    before = snapshot(reference)["results.jsonl"]
    schedules = [Weights("itc", {"itc": 1.0}), Weights("cap", {"cap": 1.0})]
    grown = run(copy, (*PROMPTS, "rain"), schedules=schedules, seeds="0-2")
    assert (grown.reused, grown.computed) == (4, 14)
    assert len(grown.rows) == 18
    after = snapshot(copy)["results.jsonl"]
    assert after[: len(before)] == before
    config = json.loads((copy / "config.json").read_text())
    assert [p["text"] for p in config["prompts"]] == [*PROMPTS, "rain"]
    assert [s["name"] for s in config["schedules"]] == ["itc", "shift", "cap"]
    assert config["seeds"] == [0, 1, 2]


def test_a_directory_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="is not empty and holds no guidelens run"):
        run(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UsageError, match="not the configuration of a guidelens run"):
        run(tmp_path)
    with pytest.raises(UsageError, match="is a file"):
        run(tmp_path / "thesis.txt")


def test_a_future_format_is_refused(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "guidelens_format": 99}))
    with pytest.raises(UsageError, match="has format 99"):
        run(copy)


def test_a_place_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GuidelensError, match=r"cannot use .*file.run"):
        run(tmp_path / "file" / "run")


def test_a_full_disk_is_one_clear_error_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: Path
) -> None:
    real, calls = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            GuidelensError, match="No space left on device; free some space and run the same command again"
        ):
            run(tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.tmp~"))
    kept = read_rows(tmp_path / "out" / "results.jsonl")[0]
    assert run(tmp_path / "out").reused == len(kept) > 0
    assert snapshot(tmp_path / "out") == snapshot(reference)


def test_a_row_on_a_full_disk_is_taken_back_whole(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (copy / "results.jsonl").read_bytes()
    with RunStore(copy) as store:

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(store_module.os, "fsync", full)
        with pytest.raises(GuidelensError, match="No space left"):
            store.add({}, [{"key": "x"}])
    assert (copy / "results.jsonl").read_bytes() == before


def test_a_failing_metric_costs_only_its_own_scores(tmp_path: Path) -> None:
    prompts = ["a red circle", "something unscorable"]
    result = run(tmp_path / "out", prompts, metrics=[Brightness(), Contrast()])
    reason = "RuntimeError: cannot read the picture of something unscorable"
    assert result.failures == [("brightness", reason, 4)]
    for row in result.rows:
        failed = row["prompt"] == prompts[1]
        assert row["metric_errors"] == ({"brightness": reason} if failed else {})
        assert set(row["metrics"]) == ({"contrast"} if failed else {"bright", "contrast"})
    assert result.estimates["itc"]["bright"].n == 2
    assert result.estimates["itc"]["contrast"].n == 4
    mended = run(tmp_path / "out", prompts, metrics=[Brightness(fails_on="never"), Contrast()])
    assert mended.computed == 0
    assert mended.failures == []
    assert mended.estimates["itc"]["bright"].n == 4


def test_a_metric_may_be_added_later_without_sampling(copy: Path) -> None:
    generator = TinyGenerator()
    result = run(copy, generator=generator, metrics=[Contrast()])
    assert generator.evaluated == 0
    assert all({"bright", "contrast"} <= set(row["metrics"]) for row in result.rows)
    both = run(copy.parent / "both", metrics=[Brightness(), Contrast()])
    for later, at_once in zip(result.rows, both.rows, strict=True):
        assert later["metrics"] == pytest.approx(at_once["metrics"])


class Broken(Brightness):
    name = "broken"
    columns = (Column("broken", "what it is told to say"),)

    def __init__(self, answer: list[dict[str, float]]) -> None:
        super().__init__()
        self.answer = answer

    def score(self, images: Any, prompts: Any) -> list[dict[str, float]]:
        return self.answer * len(prompts)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ([{"broken": float("nan")}], "broken is nan, not a finite number"),
        ([{"other": 1.0}], "column 'other' is not among its columns broken"),
        ([], "returned 0 results for 1 picture"),
    ],
)
def test_metrics_are_held_to_their_contract(
    tmp_path: Path, answer: list[dict[str, float]], reason: str
) -> None:
    result = run(tmp_path / "out", metrics=[Broken(answer)])
    assert [(name, why) for name, why, _ in result.failures] == [("broken", f"ValueError: {reason}")]


def test_columns_that_are_not_declared_are_refused_in_one_line(tmp_path: Path) -> None:
    undeclared = Brightness()
    undeclared.columns = ("bright",)  # type: ignore[assignment]
    with pytest.raises(GuidelensError) as caught:
        run(tmp_path / "out", metrics=[undeclared])
    assert str(caught.value) == (
        "metric 'brightness' is unusable: its columns contain 'bright', a str; "
        "declare each as guidelens.Column(name, meaning)"
    )


def test_two_metrics_with_one_column_are_refused(copy: Path) -> None:
    clash = Brightness()
    clash.name = "clash"  # type: ignore[misc]
    with pytest.raises(UsageError, match="'brightness' and 'clash' both have a column 'bright'"):
        run(copy, metrics=[clash])


def test_schedules_share_their_noise(tmp_path: Path) -> None:
    nothing = [Weights("one", {"itc": 0.0}), Weights("two", {})]
    rows = run(tmp_path / "out", ["a"], schedules=nothing, seeds=3).rows
    pictures = {(r["schedule"], r["seed"]): (tmp_path / "out" / r["image"]).read_bytes() for r in rows}
    for seed in range(3):
        assert pictures["one", seed] == pictures["two", seed]
    assert pictures["one", 0] != pictures["one", 1]


def test_notes_are_returned_and_handed_over_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Note] = []
    with caplog.at_level(logging.WARNING):
        done = run(tmp_path / "out", ["a blorp", "a circle"], on_note=seen.append, batch_size=1)
    assert seen == list(done.notes) == [Note("a blorp", "does not know the word 'blorp'")]
    assert str(seen[0]) == "'a blorp': does not know the word 'blorp'"
    assert not caplog.records


def test_progress_arrives(tmp_path: Path) -> None:
    seen: list[Progress] = []
    run(tmp_path / "out", on_progress=seen.append)
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (0, 8, 8)
    assert seen[-1].column == "bright"
    assert {name: n for name, (_, n) in seen[-1].means.items()} == {"itc": 4, "shift": 4}


def test_reference_prompts_are_scored_against_the_clean_text(tmp_path: Path) -> None:
    rows = run(tmp_path / "out", [Prompt("a dot abov a line", reference="a dot above a line")]).rows
    assert all("above" in row["metrics"] for row in rows)
    assert {row["reference"] for row in rows} == {"a dot above a line"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompts": []}, "no prompts"),
        ({"prompts": [" "]}, "prompt 1 of 1 is empty"),
        ({"seeds": []}, "give at least one"),
        ({"seeds": [-1]}, "a seed must be a whole number from 0"),
        ({"seeds": "x"}, "number of seeds"),
        ({"schedules": []}, "no schedules"),
        ({"schedules": [Weights("w", {"clip": 1.0})]}, "needs the objective 'clip', which tiny-vl lacks"),
    ],
)
def test_bad_requests_leave_no_directory(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_growth_is_resumable_like_a_first_run(tmp_path: Path, reference: Path) -> None:
    grown, cut = tmp_path / "grown", tmp_path / "cut"
    for out in (grown, cut):
        shutil.copytree(reference, out)
    run(grown, (*PROMPTS, "rain"), seeds=3)

    def stop(progress: Progress) -> None:
        if progress.done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(cut, (*PROMPTS, "rain"), seeds=3, on_progress=stop)
    run(cut, (*PROMPTS, "rain"), seeds=3)
    assert snapshot(cut) == snapshot(grown)


def test_the_same_weights_under_another_name_are_the_same_run(copy: Path) -> None:
    """A path is part of a model's name; its fingerprint says which weights they are."""
    moved = TinyGenerator()
    moved.name = "tiny:checkpoint=elsewhere.pt"
    done = run(copy, generator=moved)
    assert (done.computed, done.reused) == (0, 8)
    with pytest.raises(UsageError, match=r"generator.name is .*elsewhere.pt' there and 'tiny' here"):
        run(copy, generator=TinyGenerator("tiny-generator-2"))
