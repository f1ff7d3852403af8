"""``guidelens compare`` and ``guidelens generate`` on a plugin that is one file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_world
from click.testing import CliRunner, Result
from guidelens.cli import cmd_compare, console
from guidelens.cli.main import cli
from guidelens.cli.progress import _PlainLines, duration
from guidelens.report.study_cells import cell_command, request_words
from guidelens.runs.drive import Progress
from guidelens.stats import Estimate
from PIL import Image
from rich.console import Console

Guidelens = Callable[..., Result]


@pytest.fixture
def guidelens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Guidelens:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["-p", tiny_world.__file__, *arguments], catch_exceptions=False)

    return run


def rows(directory: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(directory, "results.jsonl").read_text().splitlines()]


def test_compare_prints_a_table_and_the_page(guidelens: Guidelens) -> None:
    result = guidelens("compare", "a circle", "a dot above", "--steps", "3", "--seeds", "2", "--out", "run")
    assert result.exit_code == 0, result.output
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines[0] == "schedule bright above"
    assert lines[1].startswith("only-itc 0.")
    assert "n=4" in lines[1]
    assert "n=2" in lines[1]
    assert lines[2].startswith("turn 0.")
    assert lines[-2:] == ["8 pictures (8 drawn)", f"page: {Path('run', 'index.html')}"]
    assert "8 of 8 pictures" in result.stderr
    assert Path("run", "index.html").exists()
    assert {row["schedule"] for row in rows("run")} == {"only-itc", "turn"}


def test_a_narrow_terminal_gets_whole_rows_without_intervals(
    guidelens: Guidelens, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("compare", "a circle", "a dot above", "--steps", "2", "--seeds", "2", "--out", "run")
    assert "n: pictures" in guidelens(*command).stdout
    monkeypatch.setattr(console, "PLAIN_WIDTH", 26)
    lines = guidelens(*command).stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["schedule", "only-itc", "turn"]
    assert lines[3] == "[means over pictures; the page has the intervals of all columns]"


def test_compare_takes_everything_by_default(guidelens: Guidelens) -> None:
    assert guidelens("compare", "--steps", "2", "--out", "run").exit_code == 0
    assert len(rows("run")) == 3 * 2 * 4
    assert {row["category"] for row in rows("run")} == {"single", "relation"}
    again = guidelens("compare", "--steps", "2", "--out", "run")
    assert "24 pictures (0 drawn, 24 were there)" in again.stdout


def test_compare_limits_schedules_seeds_and_metrics(guidelens: Guidelens) -> None:
    result = guidelens(
        *("compare", "--prompts", "tiny-prompts", "--limit", "1", "--schedule", "turn", "--schedule", "turn"),
        *(
            "--seeds",
            "5,8-9",
            "--metric",
            "contrast",
            "--metric",
            "brightness",
            "--steps",
            "2",
            "--out",
            "run",
        ),
    )
    assert result.exit_code == 0, result.output
    assert [row["seed"] for row in rows("run")] == [5, 8, 9]
    assert set(rows("run")[0]["metrics"]) == {"contrast", "bright"}


def test_the_recorded_commands_repeat_the_run(guidelens: Guidelens) -> None:
    options = (
        "--seeds",
        "1",
        "--steps",
        "3",
        "--sampler",
        "ddim",
        "--eta",
        "0.5",
        "--objective-scale",
        "itc=2",
    )
    first = guidelens("compare", "--schedule", "turn", *options, "--out", "run", "--", "-a $dash 'quoted'")
    assert first.exit_code == 0, first.output
    config = json.loads(Path("run", "config.json").read_text())
    (command,) = config["commands"]
    program, *arguments = shlex.split(command)
    assert program == "guidelens"
    repeated = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert repeated.exit_code == 0, repeated.output
    assert "1 picture (0 drawn, 1 were there)" in repeated.stdout
    assert json.loads(Path("run", "config.json").read_text()) == config

    (row,) = rows("run")
    _, *words = shlex.split(cell_command(config["settings"], row, request_words(config["plugins"])))
    words[words.index("--out") + 1] = "one.png"
    assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0
    assert Path("one.png").read_bytes() == Path("run", row["image"]).read_bytes()


def test_notes_on_prompts_appear_once(guidelens: Guidelens) -> None:
    result = guidelens("compare", "a blorp", "--steps", "2", "--batch-size", "1", "--out", "run")
    assert result.stderr.count("'blorp'") == 1
    assert "warning: 'a blorp': does not know the word 'blorp'" in result.stderr
    single = guidelens("generate", "a blorp", "--schedule", "turn", "--steps", "2", "--out", "x.png")
    assert single.stderr.count("'blorp'") == 1


def test_interrupted_says_how_to_go_on(guidelens: Guidelens, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("compare", "--steps", "3", "--batch-size", "4", "--out", "run")
    real, calls = tiny_world.TinyGenerator.__call__, 0

    def interrupting(self: Any, x_t: Any, timesteps: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return real(self, x_t, timesteps)

    with monkeypatch.context() as patch:
        patch.setattr(tiny_world.TinyGenerator, "__call__", interrupting)
        result = guidelens(*arguments)
    assert result.exit_code == 130
    assert "interrupted: finished pictures are in run; run the same command again to resume" in result.stderr
    assert len(rows("run")) == 8
    assert "24 pictures (16 drawn, 8 were there)" in guidelens(*arguments).stdout


def test_a_failing_metric_ends_in_exit_code_1(guidelens: Guidelens) -> None:
    result = guidelens("compare", "a circle", "unscorable", "--steps", "2", "--seeds", "1", "--out", "run")
    assert result.exit_code == 1
    assert "error: metric brightness failed on 2 of 4 pictures: RuntimeError: cannot read" in result.stderr
    assert "page: run" in result.stdout
    single = guidelens("generate", "unscorable", "--schedule", "turn", "--steps", "2", "--out", "x.png")
    assert single.exit_code == 1
    assert "error: metric brightness failed: RuntimeError" in single.stderr
    assert Path("x.png").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("compare", "", "--out", "r"), 2, "prompt 1 of 1 is empty"),
        (("compare", "a", "--scale", "1,big", "--out", "r"), 2, "must be a finite number, got 'big'"),
        (("generate", "a", "--scale", "1,2", "--out", "x.png"), 2, "got '1,2'"),
        (
            ("compare", "a", "--prompts", "tiny-prompts", "--out", "r"),
            2,
            "either PROMPT or --prompts tiny-prompts",
        ),
        (("compare", "--prompts", "nope", "--out", "r"), 2, "'nope'"),
        (("compare", "a", "--schedule", "nope", "--out", "r"), 2, "'nope'"),
        (("compare", "a", "--schedule", "turn:speed=3", "--out", "r"), 2, "speed"),
        (
            ("compare", "a", "--schedule", "objective:name=clip", "--out", "r"),
            2,
            "needs the objective 'clip'",
        ),
        (("compare", "a", "--metric", "nope", "--out", "r"), 2, "'nope'"),
        (("compare", "a", "--generator", "nope", "--out", "r"), 2, "'nope'"),
        (("compare", "a", "--guidance", "nope", "--out", "r"), 2, "'nope'"),
        (("compare", "a", "--seeds", "x", "--out", "r"), 2, "cannot read the seeds 'x'"),
        (("compare", "a", "--seeds", "0", "--out", "r"), 2, "the number of seeds must be from 1"),
        (("compare", "a", "--steps", "1000", "--out", "r"), 2, "1000"),
        (("compare", "a", "--limit", "0", "--out", "r"), 2, "--limit"),
        (("compare", "a", "--out", "file.txt"), 2, "is a file"),
        (("compare", "a", "--out", "file.txt/run"), 1, "cannot use"),
        (("compare", "a", "--out", "foreign"), 2, "holds no guidelens run"),
        (("generate", " ", "--schedule", "turn", "--out", "x.png"), 2, "is empty"),
        (("generate", "a", "--schedule", "nope", "--out", "x.png"), 2, "'nope'"),
        (("generate", "a", "--schedule", "turn", "--out", "x.jpg"), 2, "the file name must end in .png"),
        (("generate", "a", "--schedule", "turn", "--out", "x.png", "--trajectory", "x.mp4"), 2, "'x.mp4'"),
        (("generate", "a", "--schedule", "turn", "--out", "file.txt/x.png"), 1, "cannot write"),
        (("generate", "a", "--schedule", "turn", "--seed", "-1", "--out", "x.png"), 2, "--seed"),
    ],
)
def test_bad_input_is_one_line(
    guidelens: Guidelens, arguments: tuple[str, ...], code: int, message: str
) -> None:
    Path("file.txt").write_text("mine")
    Path("foreign").mkdir()
    Path("foreign", "thesis.txt").write_text("mine")
    result = guidelens(*arguments)
    assert result.exit_code == code, result.output
    errors = [line for line in result.stderr.splitlines() if not line.startswith("warning:")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")
    assert message in errors[0]
    assert Path("file.txt").read_text() == "mine"
    assert [p.name for p in Path("foreign").iterdir()] == ["thesis.txt"]
    assert not Path("r").exists()
    assert not Path("x.png").exists()


def test_other_settings_are_refused(guidelens: Guidelens) -> None:
    guidelens("compare", "a", "--steps", "2", "--seeds", "1", "--out", "run")
    result = guidelens("compare", "a", "--steps", "3", "--seeds", "1", "--out", "run")
    assert result.exit_code == 2
    assert "error: --out holds a run with other settings: steps is 2 there and 3 here" in result.stderr


def test_generate_scores_by_the_metrics_that_are_named(guidelens: Guidelens) -> None:
    run = ("generate", "a dot above", "--schedule", "turn", "--steps", "2", "--out", "x.png")
    assert guidelens(*run).stdout.split()[0::2] == ["bright:", "above:", "picture:", "enlarged:"]
    named = guidelens(*run, "--metric", "contrast", "--metric", "brightness").stdout.splitlines()
    assert [line.partition(":")[0] for line in named] == [
        "contrast",
        "bright",
        "above",
        "picture",
        "enlarged",
    ]
    unknown = guidelens(*run, "--metric", "contrst")
    assert (unknown.exit_code, "did you mean 'contrast'" in unknown.stderr) == (2, True)
    twice = guidelens(*run, "--metric", "shapes", "--metric", "shapes:details=true")
    assert (twice.exit_code, "both have a column 'alignment'" in twice.stderr) == (2, True)


def test_steps_may_be_a_respacing(guidelens: Guidelens) -> None:
    """Its pictures are others than those of as many steps, under keys of their own, in both commands."""
    run = ("compare", "a circle", "--schedule", "turn", "--seeds", "1")
    for name, steps in (("even", "5"), ("strided", "ddim5"), ("sections", "3+2")):
        assert guidelens(*run, "--steps", steps, "--out", name).exit_code == 0
    found = [rows(name)[0] for name in ("even", "strided", "sections")]
    assert {row["steps"] for row in found} == {5}
    assert len({row["key"] for row in found}) == 3
    pictures = [Path(n, r["image"]).read_bytes() for n, r in zip(("even", "strided"), found, strict=False)]
    assert pictures[0] != pictures[1]
    (command,) = json.loads(Path("strided", "config.json").read_text())["commands"]
    assert "--steps ddim5" in command
    told = {name: "(respaced " in Path(name, "index.html").read_text("utf-8") for name in ("even", "strided")}
    assert told == {"even": False, "strided": True}
    again = guidelens(*run, "--steps", "ddim5", "--out", "strided")
    assert "(0 drawn, 1 were there)" in again.stdout
    refused = guidelens(*run, "--steps", "5", "--out", "strided")
    assert (refused.exit_code, "steps is 'ddim5' there and 5 here" in refused.stderr) == (2, True)
    alone = guidelens("generate", "a circle", "--schedule", "turn", "--steps", "ddim5", "--out", "x.png")
    assert alone.exit_code == 0, alone.output
    assert Path("x.png").read_bytes() == pictures[1]
    wrong = guidelens(*run, "--steps", "ddim37", "--out", "none")
    assert (wrong.exit_code, "no integer stride visits exactly 37 of 100" in wrong.stderr) == (2, True)


def test_generate_chooses_schedule_and_file_and_a_size_that_can_be_seen(guidelens: Guidelens) -> None:
    result = guidelens("generate", "A dot, above!", "--steps", "2", "--size", "50")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == "schedule: only-itc"
    assert result.stdout.splitlines()[-2:] == ["picture: a-dot-above.png", "enlarged: a-dot-above-48.png"]
    with Image.open("a-dot-above.png") as small, Image.open("a-dot-above-48.png") as large:
        assert (small.size, large.size) == ((8, 8), (48, 48))
        assert large.getpixel((47, 5)) == small.getpixel((7, 0))
    alone = guidelens("generate", "a dot", "--steps", "2", "--size", "0", "--json")
    data = json.loads(alone.stdout)
    assert data["scores"].keys() == {"bright"}
    assert (data["picture"], data["schedule"], "enlarged" in data) == ("a-dot.png", "only-itc", False)


def test_compare_sweeps_a_number(guidelens: Guidelens) -> None:
    """Each value has the run that it would have alone; the page has all of them."""
    words = ("compare", "a dot above", "--sampler", "ddim", "--steps", "3", "--seeds", "1")
    result = guidelens(*words, "--scale", "0.5, 2", "--eta", "1,0.5", "--out", "run")
    assert result.exit_code == 0, result.output
    labels = ["eta 1, scale 0.5", "eta 1, scale 2", "eta 0.5, scale 0.5", "eta 0.5, scale 2"]
    assert [line[:-1] for line in result.stdout.splitlines() if line.startswith("eta")] == labels
    page = Path("run", "index.html").read_text(encoding="utf-8")
    assert all(f'<p class="group variant">{label}</p>' in page for label in labels)
    assert "--eta 1,0.5 --scale 0.5,2" in page
    alone = guidelens(*words, "--scale", "2", "--eta", "0.5", "--out", "alone")
    assert alone.exit_code == 0
    assert [row["key"] for row in rows("run/eta-0.5_scale-2")] == [row["key"] for row in rows("alone")]
    again = guidelens(*words, "--scale", "0.5, 2", "--eta", "1,0.5", "--out", "run")
    assert again.stdout.count("(0 drawn, 2 were there)") == 4


def test_compare_sweeps_the_number_of_steps(guidelens: Guidelens) -> None:
    """A row of pictures for each, from the same noise; numbers by section have no commas."""
    words = ("compare", "a dot above", "--schedule", "turn", "--seeds", "1")
    result = guidelens(*words, "--steps", "2,ddim5,3+2", "--out", "run", "--json")
    assert result.exit_code == 0, result.output
    comparisons = json.loads(result.stdout)["comparisons"]
    assert list(comparisons) == ["steps 2", "steps ddim5", "steps 3+2"]
    found = [rows(comparison["directory"])[0] for comparison in comparisons.values()]
    assert [row["steps"] for row in found] == [2, 5, 5]
    assert len({row["key"] for row in found}) == 3
    alone = guidelens(*words, "--steps", "ddim5", "--out", "alone")
    assert alone.exit_code == 0
    assert rows("alone")[0]["key"] == found[1]["key"]
    page = " ".join(Path("run", "index.html").read_text(encoding="utf-8").split())
    assert all(f'<p class="group variant">steps {n}</p>' in page for n in ("2", "ddim5", "3+2"))
    assert "DDPM, steps 2, steps ddim5, steps 3+2." in page
    assert "over the 5 steps of the longest run" in page
    assert "--steps 2,ddim5,3+2" in page
    wrong = guidelens(*words, "--steps", "2,0", "--out", "none")
    assert (wrong.exit_code, "must be a number from 1 on" in wrong.stderr) == (2, True)
    one = guidelens("generate", "a dot", "--steps", "2,3")
    assert (one.exit_code, "numbers by section (10+10+5), got '2,3'" in one.stderr) == (2, True)


def test_compare_names_its_directory_after_the_command(guidelens: Guidelens) -> None:
    words = ("compare", "A dot above", "--steps", "2", "--seeds", "1")
    first = guidelens(*words).stdout.splitlines()[-1]
    (directory,) = Path("runs").iterdir()
    assert directory.name.startswith("a-dot-above-")
    assert first == f"page: {directory / 'index.html'}"
    assert "2 were there" in guidelens(*words).stdout
    guidelens(*words, "--scale", "2")
    assert len(list(Path("runs").iterdir())) == 2


def test_compare_prints_json_and_opens_the_page(
    guidelens: Guidelens, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    result = guidelens("compare", "a dot", "--steps", "2", "--seeds", "1", "--out", "r", "--json", "--open")
    data = json.loads(result.stdout)
    assert data["comparisons"][""]["pictures"] == 2
    bright = data["comparisons"][""]["estimates"]["turn"]["bright"]
    assert bright["n"] == 1
    assert bright["low"] is None  # one picture has no interval
    assert opened == [Path("r", "index.html").resolve().as_uri()]


def test_a_log_has_at_most_ten_lines_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 100_000, 60))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    printed: list[str] = []
    monkeypatch.setattr(
        "guidelens.cli.console.err", lambda: SimpleNamespace(print=lambda t, **_: printed.append(t))
    )
    report = _PlainLines()
    for run in range(2):
        for done in range(301):
            report(Progress(300, 0, float(done), {}, "", 0, done / 300))
        assert len(printed) == 10 * (run + 1)
    assert printed[0].startswith("30 of 300 pictures; ")
    assert printed[9].startswith("300 of 300 pictures; ")


def test_generate_writes_picture_and_trajectory(guidelens: Guidelens) -> None:
    result = guidelens(
        *("generate", "a dot above", "--schedule", "turn", "--seed", "3", "--steps", "4"),
        *("--out", "new/x.png", "--trajectory", "new/x.webp"),
    )
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["bright", "above", "picture", "enlarged", "trajectory"]
    with Image.open("new/x.png") as picture:
        assert picture.size == (8, 8)
        corner = picture.getpixel((0, 0))
    with Image.open("new/x.webp") as animation:
        # Four predictions and the picture; an encoder may merge a frame with an equal one before it.
        assert animation.n_frames in (4, 5)
        animation.seek(animation.n_frames - 1)
        assert animation.convert("RGB").getpixel((0, 0)) == corner
    gif = guidelens(
        "generate", "a", "--schedule", "turn", "--steps", "4", "--out", "y.png", "--trajectory", "y.gif"
    )
    assert gif.exit_code == 0
    with Image.open("y.gif") as animation:
        assert animation.format == "GIF"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (59.0, "59 s"), (60.0, "1 min 0 s"), (200.0, "3 min 20 s"), (7500.0, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_help_is_complete(guidelens: Guidelens) -> None:
    for command in ("compare", "generate"):
        result = guidelens(command, "--help")
        assert result.exit_code == 0
        for option in ("--schedule", "--out", "--generator", "--guidance", "--steps", "--scale", "Examples:"):
            assert option in result.stdout


@pytest.mark.parametrize(("width", "shown"), [(200, 6), (70, 6), (40, 3), (5, 1)])
def test_columns_that_do_not_fit_are_left_out(width: int, shown: int) -> None:
    scores = {f"column{k}": Estimate(0.5, 0.4, 0.6, 8, 4) for k in range(6)}
    result = SimpleNamespace(estimates={"itc": scores, "cap": scores})
    screen = Console(width=width, file=StringIO())
    table, legend = cmd_compare._fitting_table(result, screen)  # type: ignore[arg-type]
    names = [str(column.header) for column in table.columns if str(column.header).startswith("column")]
    assert names == list(scores)[:shown]
    more = {6: "", 3: "3 more columns and ", 1: "5 more columns and "}[shown]
    assert legend.endswith(f"the page has {more}the intervals of all columns")
