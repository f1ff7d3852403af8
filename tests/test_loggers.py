"""Loggers: event files read back by TensorBoard's own reader, a stand-in for wandb, and loggers that fail."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tiny_world
from click.testing import CliRunner
from guidelens.cli.main import cli
from guidelens.comparison import Comparison, compare, compare_sweep
from guidelens.engine import Engine, Sample
from guidelens.errors import GuidelensError, UsageError
from guidelens.loggers import LoggedPicture, LoggedRun, TensorBoard, WeightsAndBiases, read_logger
from guidelens.plugins import PluginManager
from guidelens.runs.logs import variants
from guidelens.runs.store import read_rows
from guidelens.runs.telemetry import load_telemetry
from guidelens.sampling import Sampling
from guidelens.studies.file import parse_study
from guidelens.studies.run import run_study
from PIL import Image
from tiny_world import Brightness, TinyGenerator, TinyGuidance, Weights

PROMPTS = ("a red circle", "a dot above a line")
FIRST = "picture 01 a red circle, seed 0"


def options(**changes: Any) -> dict[str, Any]:
    return {
        "generator": TinyGenerator(),
        "guidance": TinyGuidance(),
        "schedules": [Weights("itc", {"itc": 1.0}), Weights("shift", {"cap": 1.0}, {"itc": 1.0})],
        "metrics": [Brightness()],
        "seeds": 2,
        "batch_size": 3,
        "device": "cpu",
        **changes,
    }


def run(out: Path, **changes: Any) -> Comparison:
    return compare(PROMPTS, out=out, **{**options(sampling=Sampling(steps=3)), **changes})


class Events:
    """The series of a folder, as TensorBoard reads them."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        everything = {"scalars": 0, "images": 0, "tensors": 0}
        self._read = EventAccumulator(str(folder), size_guidance=everything)
        self._read.Reload()
        self.tags = self._read.Tags()

    def scalars(self, tag: str) -> dict[int, float]:
        events = self._read.Scalars(tag)
        assert len({event.step for event in events}) == len(events), "a step was written twice"
        return {event.step: event.value for event in events}

    def image(self, tag: str) -> Any:
        (event,) = self._read.Images(tag)
        return event

    def text(self, tag: str) -> str:
        return str(self._read.Tensors(tag)[0].tensor_proto.string_val[0].decode())


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a comparison with its log in ``tensorboard``."""
    out = tmp_path_factory.mktemp("logged") / "run"
    run(out, loggers=[TensorBoard(out / "tensorboard", shown=2)])
    return out


def test_curves_are_the_telemetry(logged: Path) -> None:
    events = Events(logged / "tensorboard" / "shift")
    rows = [row for row in read_rows(logged / "results.jsonl")[0].values() if row["schedule"] == "shift"]
    recorded = [load_telemetry(logged, row) for row in rows]
    assert len(recorded) == 4
    for kind, name in (("loss", "cap"), ("gradient_norm", "itc"), ("cosine", "cap|itc")):
        tables = [getattr(each, {"loss": "losses"}.get(kind, f"{kind}s"))[name] for each in recorded]
        shown = events.scalars(f"{FIRST}/{kind} {name}")
        active = {step: value for step, value in enumerate(tables[0].tolist()) if math.isfinite(value)}
        assert shown == pytest.approx(active)
        for step, mean in events.scalars(f"{kind}/{name}").items():
            assert mean == pytest.approx(sum(table[step] for table in tables) / 4)
    assert events.scalars("loss/cap").keys() == {0, 1}, (
        "CAP has no loss at the last step, where its weight is 0"
    )


def test_scores_have_the_picture_on_the_x_axis(logged: Path) -> None:
    rows = [row for row in read_rows(logged / "results.jsonl")[0].values() if row["schedule"] == "itc"]
    scores = {
        number: next(
            row["metrics"]["bright"] for row in rows if (row["prompt"], row["seed"]) == (prompt, seed)
        )
        for number, (prompt, seed) in enumerate(((p, s) for p in PROMPTS for s in (0, 1)), 1)
    }
    events = Events(logged / "tensorboard" / "itc")
    assert events.scalars("score/bright") == pytest.approx(scores)
    assert events.scalars("mean_score/bright")[4] == pytest.approx(sum(scores.values()) / 4)
    assert events.scalars("score/above").keys() == {3, 4}, "the column does not apply to the first prompt"


def test_the_number_of_pictures_is_bounded(logged: Path) -> None:
    events = Events(logged / "tensorboard" / "itc")
    assert events.tags["images"] == [FIRST, "picture 02 a red circle, seed 1"]
    titles = {tag.split("/")[0] for tag in events.tags["scalars"] if tag.startswith("picture")}
    assert titles == set(events.tags["images"])
    image = events.image(FIRST)
    assert (image.step, image.width, image.height) == (3, 128, 128)


def test_settings_are_text(logged: Path) -> None:
    text = Events(logged / "tensorboard" / "itc").text("settings")
    assert all(line.startswith("    ") for line in text.splitlines())
    assert '"fingerprint": "tiny-generator-1"' in text
    assert "batches" not in text


def test_a_log_changes_no_result(logged: Path, tmp_path: Path) -> None:
    plain = run(tmp_path / "plain")
    with_log = read_rows(logged / "results.jsonl")[0]
    assert [{**row, "seconds": 0} for row in plain.rows] == [
        {**with_log[row["key"]], "seconds": 0} for row in plain.rows
    ]
    for row in plain.rows:
        assert (tmp_path / "plain" / row["image"]).read_bytes() == (logged / row["image"]).read_bytes()


def test_a_repeated_run_logs_what_was_there_and_replaces_the_log(tmp_path: Path) -> None:
    run(tmp_path / "run", seeds=1)
    for _ in range(2):
        run(tmp_path / "run", loggers=[TensorBoard(tmp_path / "log")])
    events = Events(tmp_path / "log" / "itc")
    assert events.scalars("score/bright").keys() == {1, 2, 3, 4}
    assert events.scalars("loss/itc").keys() == {0, 1, 2}
    assert events.scalars(f"{FIRST}/loss itc").keys() == {0, 1, 2}


def test_a_sweep_has_a_series_for_each_value(tmp_path: Path) -> None:
    samplings = {f"steps {n}": Sampling(steps=n) for n in (2, 3)}
    log = TensorBoard(tmp_path / "log")
    assert log.view == ""
    compare_sweep(PROMPTS, out=tmp_path / "run", samplings=samplings, loggers=[log], **options(seeds=1))
    folders = {path.name for path in (tmp_path / "log").iterdir()}
    assert folders == {f"{s}, steps {n}" for s in ("itc", "shift") for n in (2, 3)}
    assert Events(tmp_path / "log" / "itc, steps 3").scalars("loss/itc").keys() == {0, 1, 2}
    assert log.view == f"tensorboard --logdir {tmp_path / 'log'}"


def test_a_study_has_a_series_for_each_setting_and_its_snapshots(tmp_path: Path) -> None:
    text = """
name = "toy"
schedules = ["only-itc"]
prompts = ["a red circle"]
metrics = ["brightness"]
seeds = 1
snapshots = 2
device = "cpu"
[[grid]]
name = "steps"
steps = [3, 4]
"""
    plugins = PluginManager.load([tiny_world.__file__], environment={})
    study = parse_study(text, label="s.toml")
    run_study(study, out=tmp_path / "run", plugins=plugins, loggers=[TensorBoard(tmp_path / "log")])
    series = {path.name for path in (tmp_path / "log").iterdir() if path.is_dir()}
    assert series == {"only-itc, steps 3", "only-itc, steps 4"}
    events = Events(tmp_path / "log" / "only-itc, steps 4")
    assert [image.step for image in events._read.Images(FIRST)] == [0, 3, 4]


def test_the_callback_takes_the_results_of_an_engine(tmp_path: Path) -> None:
    engine = Engine(TinyGenerator(), TinyGuidance(), Sampling(steps=3), device="cpu")
    samples = [Sample("a red circle", Weights("itc", {"itc": 1.0}), seed) for seed in (0, 1)]
    results = []
    with TensorBoard(tmp_path) as log:
        for result in engine.run([*samples, Sample("", None, 0, label="unguided")]):
            log(result, {"bright": float(result.image.mean())})
            results.append(result)
    events = Events(tmp_path / "itc")
    assert list(events.scalars(f"{FIRST}/loss itc").values()) == pytest.approx(results[0].losses["itc"])
    assert events.scalars("score/bright")[2] == pytest.approx(float(results[1].image.mean()))
    assert Events(tmp_path / "unguided").tags["images"] == ["picture 03 , seed 0"]


class Failing:
    """A logger that fails in one of its methods."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.calls: list[str] = []

    def _called(self, method: str) -> None:
        self.calls.append(method)
        if method == self.method:
            raise OSError(28, "No space left\non device")

    def start(self, run: LoggedRun) -> None:
        self._called("start")

    def picture(self, picture: LoggedPicture) -> None:
        self._called("picture")

    def finish(self) -> None:
        self._called("finish")

    def __str__(self) -> str:
        return "failing"


@pytest.mark.parametrize("method", ["start", "picture", "finish"])
def test_a_logger_that_fails_costs_one_line(
    method: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failing, other = Failing(method), Failing("")
    done = run(tmp_path / "run", loggers=[failing, other])
    assert (done.computed, done.page.is_file()) == (8, True)
    (record,) = caplog.records
    assert record.getMessage() == (
        "the log failing failed: OSError: [Errno 28] No space left on device; the run goes on without it"
    )
    assert failing.calls.count(method) == (2 if method == "finish" else 1)
    assert failing.calls[-1] == "finish"
    assert other.calls == ["start", *["picture"] * 8, "finish"]


def test_a_logger_is_finished_when_the_run_fails(tmp_path: Path) -> None:
    class Broken(TinyGuidance):
        def losses(self, images: Any, text: Any, objectives: Any) -> Any:
            raise RuntimeError("broken")

    logger = Failing("")
    with pytest.raises(GuidelensError, match="broken"):
        run(tmp_path / "run", guidance=Broken(), loggers=[logger])
    assert logger.calls == ["start", "finish"]


def test_variants_name_what_differs() -> None:
    base = {"generator": {"name": "a", "fingerprint": "x"}, "steps": 10, "sampler": "ddpm"}
    assert variants([base]) == [""]
    other = {**base, "generator": {"name": "b", "fingerprint": "y"}, "sampler": "ddim"}
    assert variants([base, other]) == ["generator a", "generator b"]
    assert variants([base, other, {**base, "steps": 20}]) == [
        "generator a, steps 10",
        "generator b, steps 10",
        "generator a, steps 20",
    ]


class FakeRun:
    """What the logger needs of a run of wandb."""

    def __init__(self, **wanted: Any) -> None:
        self.wanted = wanted
        self.axes: dict[str, str] = {}
        self.history: list[dict[str, Any]] = []
        self.finished = 0
        self.offline = True
        self.settings = SimpleNamespace(sync_dir=f"wandb/offline-{wanted['name']}")

    def define_metric(self, name: str, step_metric: str = "") -> None:
        self.axes[name] = step_metric

    def log(self, values: dict[str, Any]) -> None:
        self.history.append(values)

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stand-in for wandb, which is too large for the tests."""
    fake: Any = ModuleType("wandb")
    fake.runs, fake.mode, fake.asked = [], "offline", []

    def init(**wanted: Any) -> FakeRun:
        fake.runs.append(FakeRun(**wanted))
        return fake.runs[-1]

    def login(**wanted: Any) -> bool:
        fake.asked.append(wanted)
        return False

    fake.init, fake.login = init, login
    fake.Settings = lambda **settings: settings
    fake.setup = lambda settings=None: SimpleNamespace(settings=SimpleNamespace(mode=fake.mode))
    fake.Image = lambda picture: ("image", picture.size)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_weights_and_biases_has_a_run_for_each_schedule(wandb: Any, tmp_path: Path) -> None:
    log = WeightsAndBiases("lens", shown=1)
    done = run(tmp_path / "run", loggers=[log])
    assert [fake.wanted["name"] for fake in wandb.runs] == ["itc", "shift"]
    itc = wandb.runs[0]
    assert (itc.wanted["project"], itc.wanted["group"], itc.finished) == ("lens", "run", 1)
    assert itc.wanted["config"]["settings"]["steps"] == 3
    assert itc.wanted["reinit"] == "create_new"
    row = next(row for row in done.rows if row["schedule"] == "itc")
    curve = [entry for entry in itc.history if f"{FIRST}/loss itc" in entry]
    assert [entry["step"] for entry in curve] == [0, 1, 2]
    assert [entry[f"{FIRST}/loss itc"] for entry in curve] == pytest.approx(
        load_telemetry(done.directory, row).losses["itc"].tolist()
    )
    assert [entry[FIRST] for entry in itc.history if FIRST in entry] == [("image", (128, 128))]
    known = tuple(name.removesuffix("*") for name in itc.axes if "*" in name)
    for entry in itc.history:
        axis = "picture" if "picture" in entry else "step"
        for tag in entry.keys() - {axis}:
            assert tag.startswith(known), f"{tag} has no x-axis"
            assert itc.axes[next(f"{name}*" for name in known if tag.startswith(name))] == axis
    assert log.view == "wandb sync wandb/offline-itc wandb/offline-shift"


def test_weights_and_biases_never_asks_for_a_key(
    wandb: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wandb.mode = None
    assert run(tmp_path / "run", loggers=[WeightsAndBiases()]).computed == 8
    (record,) = caplog.records
    assert "not logged in; run `wandb login`, or set WANDB_MODE=offline" in record.getMessage()
    assert wandb.asked == [{"prompt": False, "verify": False}]
    assert not wandb.runs


def test_the_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wandb: Any) -> None:
    assert str(read_logger("tensorboard:logs/tb", tmp_path)) == f"tensorboard:{Path('logs/tb')}"
    assert str(read_logger("tensorboard", tmp_path)) == f"tensorboard:{tmp_path / 'tensorboard'}"
    assert str(read_logger("wandb:lens", tmp_path)) == "wandb:lens"
    assert str(read_logger("wandb", tmp_path)) == "wandb:guidelens"
    with pytest.raises(UsageError, match=r"unknown log 'tensorbord:x' \(did you mean 'tensorboard'\?\)"):
        read_logger("tensorbord:x", tmp_path)
    monkeypatch.setattr("guidelens.loggers.curves.is_installed", lambda module: False)
    for name in ("tensorboard", "wandb"):
        with pytest.raises(
            GuidelensError, match=rf'needs the package {name}: pip install "guidelens\[{name}\]"'
        ):
            read_logger(name, tmp_path)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["-p", tiny_world.__file__, "compare", "a circle", "--steps", "2", "--seeds", "1"]
    done = CliRunner().invoke(cli, [*words, "--out", "run", "--log", "tensorboard"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-2] == f"log: tensorboard --logdir {Path('run', 'tensorboard')}"
    assert Events(Path("run", "tensorboard", "turn")).scalars("loss/cap")
    assert "--log" not in Path("run", "config.json").read_text()
    wrong = CliRunner().invoke(cli, [*words, "--out", "other", "--log", "mlflow"])
    assert wrong.exit_code == 2
    assert not Path("other").exists()


def test_the_command_of_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text(
        'name = "s"\nschedules = ["turn"]\nprompts = ["a circle"]\nseeds = 1\nsteps = 2\nmetrics = []\n'
        '[[grid]]\nname = "all"\n'
    )
    words = ["-p", tiny_world.__file__, "study", "run", "s.toml", "--out", "run", "--log", "tensorboard:log"]
    done = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "log: tensorboard --logdir log" in done.stdout.splitlines()
    assert Events(Path("log", "turn")).scalars("loss/cap")


def test_small_pictures_are_enlarged_without_smoothing(logged: Path) -> None:
    import io

    encoded = Events(logged / "tensorboard" / "itc").image(FIRST).encoded_image_string
    shown = Image.open(io.BytesIO(encoded))
    row = next(iter(read_rows(logged / "results.jsonl")[0].values()))
    original = Image.open(logged / row["image"])
    assert shown.resize(original.size, Image.Resampling.NEAREST).tobytes() == original.tobytes()
