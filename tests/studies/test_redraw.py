"""Cells of runs drawn again: the same bytes, or what differs in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_world
import torch
from click.testing import CliRunner, Result
from guidelens.cli.main import cli
from guidelens.comparison import compare
from guidelens.errors import GuidelensError, UsageError
from guidelens.plugins import PluginManager
from guidelens.runs.store import RESULTS
from guidelens.sampling import Sampling
from guidelens.studies.redraw import redraw
from study_worlds import rows_of
from tiny_world import TinyGenerator, TinyGuidance, Weights


@pytest.fixture(scope="module")
def tiny() -> PluginManager:
    return PluginManager.load([tiny_world.__file__], environment={})


@pytest.fixture
def run(tiny: PluginManager, tmp_path: Path) -> Path:
    """A comparison of two batches of three cells."""
    compare(
        ["a circle", "a dot above", "a red circle"],
        out=tmp_path / "run",
        schedules=["turn"],
        seeds=2,
        sampling=Sampling(steps=3, scale=3.0),
        batch_size=3,
        device="cpu",
        plugins=tiny,
    )
    return tmp_path / "run"


def change_row(run: Path, key: str, **changes: Any) -> None:
    rows = [{**row, **(changes if row["key"] == key else {})} for row in rows_of(run)]
    (run / RESULTS).write_text("".join(json.dumps(row) + "\n" for row in rows))


def files(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_a_cell_from_the_middle_of_a_batch(run: Path, tiny: PluginManager) -> None:
    batches = json.loads((run / "config.json").read_text())["batches"]
    assert [len(batch) for batch in batches] == [3, 3]
    key, before = batches[1][1], files(run)
    again = redraw(run, key, plugins=tiny)
    assert (again.png, again.batch, again.same, again.changes) == (before[f"samples/{key}.png"], 3, True, ())
    assert str(again) == f"{key}: the run's picture, bit for bit (in a batch of 3)"
    assert files(run) == before


def test_the_batch_is_computed_whole_and_with_its_threads(
    run: Path, tiny: PluginManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiny networks round alike in any batch, so what is computed is looked at."""
    seen: list[tuple[int, int]] = []
    inner = TinyGenerator.__call__

    def spy(self: TinyGenerator, x_t: torch.Tensor, timesteps: torch.Tensor, /) -> torch.Tensor:
        seen.append((len(x_t), torch.get_num_threads()))
        return inner(self, x_t, timesteps)

    monkeypatch.setattr(TinyGenerator, "__call__", spy)
    threads = torch.get_num_threads()
    key = rows_of(run)[1]["key"]
    change_row(run, key, threads=threads + 1)
    assert redraw(run, key, plugins=tiny).same
    assert set(seen) == {(3, threads + 1)}
    assert torch.get_num_threads() == threads


def test_rows_say_where_they_were_computed(run: Path) -> None:
    for row in rows_of(run):
        assert row["threads"] == torch.get_num_threads()
        assert row["device"].startswith("cpu ")
        assert set(row["versions"]) == {"python", "guidelens", "torch", "numpy", "plugins"}
        assert set(row["versions"]["plugins"]) == {"tiny_world"}
        assert row["versions"]["plugins"]["tiny_world"].startswith("sha256 ")


def test_a_difference_is_one_line_with_its_size_and_what_changed(run: Path, tiny: PluginManager) -> None:
    row, other = rows_of(run)[1], rows_of(run)[4]
    (run / row["image"]).write_bytes((run / other["image"]).read_bytes())
    hashes = {**row["sha256"], "image": other["sha256"]["image"]}
    change_row(
        run, row["key"], versions={**row["versions"], "torch": "1.0"}, device="cpu OTHER", sha256=hashes
    )
    again = redraw(run, row["key"], plugins=tiny)
    assert not again.same
    assert 0 < again.largest <= 255
    assert 0 < again.share <= 1
    line = str(again)
    assert line.startswith(
        f"{row['key']}: differs from the run's picture by up to {again.largest} of 255 levels"
    )
    assert f"torch was 1.0, is {torch.__version__.partition('+')[0]}" in line
    assert "device was cpu OTHER, is cpu " in line
    assert "\n" not in line


def test_studies(toy: Path) -> None:
    for row in rows_of(toy)[::7]:
        assert redraw(toy, row["key"]).same


def test_other_weights_are_refused(run: Path, tiny: PluginManager) -> None:
    with pytest.raises(GuidelensError, match=r"fingerprint other here and tiny-generator-1 in the run"):
        redraw(run, rows_of(run)[0]["key"], plugins=tiny, generator=TinyGenerator("other"))


def test_a_batch_that_is_no_longer_described_is_refused(run: Path, tiny: PluginManager) -> None:
    rows = rows_of(run)
    (run / RESULTS).write_text("".join(json.dumps(row) + "\n" for row in rows[1:]))
    with pytest.raises(GuidelensError, match=rf"batch of 3 cells.* no longer describes {rows[0]['key']}"):
        redraw(run, rows[1]["key"], plugins=tiny)
    with pytest.raises(UsageError, match=f"has no cell '{rows[0]['key']}'"):
        redraw(run, rows[0]["key"], plugins=tiny)


def test_models_that_were_objects_are_given_again(tmp_path: Path) -> None:
    models: dict[str, Any] = {"generator": TinyGenerator(), "guidance": TinyGuidance()}
    done = compare(
        ["a circle"], out=tmp_path, schedules=Weights("itc", {"itc": 1.0}), metrics=(), seeds=2, device="cpu",
        sampling=Sampling(steps=2), **models,
    )  # fmt: skip
    key = done.rows[1]["key"]
    with pytest.raises(UsageError, match="were Python objects, which a command cannot build"):
        redraw(tmp_path, key)
    assert redraw(tmp_path, key, **models).same


def test_the_command(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the page gives it: in the folder of the run, with no plugin named."""

    def guidelens(*arguments: str) -> Result:
        return CliRunner().invoke(cli, list(arguments), catch_exceptions=False)

    row = rows_of(run)[1]
    assert f"guidelens redraw . {row['key']}" in (run / "index.html").read_text()
    monkeypatch.chdir(run)
    done = guidelens("redraw", ".", row["key"], "--out", str(tmp_path / "again.png"))
    assert (done.exit_code, done.output.splitlines()[0]) == (
        0,
        f"{row['key']}: the run's picture, bit for bit (in a batch of 3)",
    )
    assert (tmp_path / "again.png").read_bytes() == Path(row["image"]).read_bytes()
    other = rows_of(run)[4]
    Path(row["image"]).write_bytes(Path(other["image"]).read_bytes())
    damaged = guidelens("redraw", ".", row["key"])
    assert damaged.exit_code == 1
    assert "it has changed since it was written" in damaged.output
    change_row(run, row["key"], sha256={**row["sha256"], "image": other["sha256"]["image"]})
    differs = guidelens("redraw", ".", row["key"])
    assert differs.exit_code == 1
    assert "versions, threads and device are as they were" in differs.output
    assert guidelens("redraw", ".", "nothing").exit_code == 2
    assert guidelens("redraw", ".", row["key"], "--out", "x.jpg").exit_code == 2


def test_an_upgrade_between_two_starts_is_a_warning(
    run: Path, tiny: PluginManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old rows and config.json keep their versions, new rows have the new one."""
    before = json.loads((run / "config.json").read_text())["versions"]
    old = before["plugins"]["tiny_world"]
    upgraded = PluginManager.load([tiny_world.__file__], environment={})
    monkeypatch.setattr(type(upgraded.plugin("tiny_world").source), "code_hash", "sha256 new")
    notes: list[str] = []

    def go_on(prompts: list[str]) -> None:
        compare(
            prompts,
            out=run,
            schedules=["turn"],
            seeds=2,
            sampling=Sampling(steps=3, scale=3.0),
            batch_size=3,
            device="cpu",
            plugins=upgraded,
            on_note=lambda note: notes.append(str(note)),
        )

    go_on(["a circle"])
    metric = "metric brightness: 6 pictures scored by tiny_world"
    assert notes == [f"{metric} {old}; scored again by tiny_world sha256 new"]  # nothing is drawn
    notes.clear()
    go_on(["a new circle"])
    assert notes == [
        f"stored pictures were drawn with other versions: 6 pictures with tiny_world {old} (now sha256 new). "
        "New pictures may differ from them"
    ]
    assert json.loads((run / "config.json").read_text())["versions"] == before
    assert {row["scorers"]["brightness"] for row in rows_of(run)} == {"tiny_world sha256 new"}
    found = [row["versions"]["plugins"]["tiny_world"] for row in rows_of(run)]
    assert found == [old] * 6 + ["sha256 new"] * 2
