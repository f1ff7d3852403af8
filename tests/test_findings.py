"""docs/findings.md: its tables are those of the recorded studies, and no verdict stands anywhere else."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))  # the tiny world

import tiny_world
from guidelens import PluginManager, load_study
from guidelens.studies.file import parse_study
from guidelens.studies.run import run_study

DOCS = Path(__file__).parents[1] / "docs"

STUDY = """
name = "toy"
schedules = ["only-itc", "turn"]
prompts = ["one", "two", "three", "four", "five", "six", "seven"]
seeds = 1
steps = 3
device = "cpu"
metrics = ["brightness"]
[[grid]]
name = "schedules"
claims = ["F6"]
"""


@pytest.fixture(scope="module")
def findings() -> ModuleType:
    sys.path.insert(0, str(DOCS / "site"))
    try:
        import findings
    finally:
        sys.path.remove(str(DOCS / "site"))
    return findings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("findings") / "toy"
    plugins = PluginManager.load((tiny_world.__file__,), environment={})
    assert run_study(parse_study(STUDY), out=out, plugins=plugins).complete
    return out


def test_the_tables_are_those_of_the_record(findings: ModuleType) -> None:
    text = findings.PAGE.read_text(encoding="utf-8")
    assert findings.page(text, json.loads(findings.RECORD.read_text(encoding="utf-8"))) == text
    assert {name for _, name, _ in findings.BLOCK.findall(text)} == {
        "agreed",
        "agreed-shapes",
        "claims",
        "questions",
        "means",
        "rounding",
    }


def test_agreed_are_the_questions_decided_alike_whatever_the_rounding(findings: ModuleType) -> None:
    def study(world: str, **verdicts: str) -> dict[str, object]:
        questions = [
            {"question": name, "text": f"text of {name}", "verdict": verdict, "mean": 0.25}
            for name, verdict in verdicts.items()
        ]
        return {"world": world, "claims": [{"questions": questions}]}

    first = study("shapes", a="supported", b="undecided", c="contradicted", d="supported", e="supported")
    second = study("shapes", a="supported", b="undecided", c="contradicted", d="contradicted", e="supported")
    rounding = {"first": {"changed": ["e: supported, undecided"]}}
    third = study("things", a="undecided", b="supported", c="contradicted", d="supported", e="supported")
    found = {"studies": {"first": first, "second": second, "third": third}, "rounding": rounding}
    text = findings.page("<!-- generated: agreed-shapes -->\n<!-- end -->", found)
    assert "**supported**: text of a (`a`: +0.25, +0.25)" in text
    assert "**contradicted**: text of c" in text
    assert not re.search(r"text of [bde]", text)
    text = findings.page("<!-- generated: agreed -->\n<!-- end -->", found)
    assert "**contradicted**: text of c (`c`: +0.25, +0.25, +0.25)" in text
    assert not re.search(r"text of [abde]", text)


def test_no_verdict_stands_outside_the_tables(findings: ModuleType) -> None:
    prose = findings.BLOCK.sub("", findings.PAGE.read_text(encoding="utf-8"))
    assert not re.findall(r"\b(?:un)?(?:supported|contradicted|decided)\b", prose)


def test_a_finished_run_becomes_tables(findings: ModuleType, run: Path) -> None:
    found = findings.record([run], {"studies": {}})
    assert found["studies"]["toy"]["pictures"] == 14
    json.dumps(found, allow_nan=False)
    text = findings.page(
        "<!-- generated: claims -->\n<!-- end -->\n<!-- generated: questions -->\n<!-- end -->", found
    )
    assert "| F6 | SHIFT beats ITC" in text
    assert "**not measured**<br>not measured: shift-itc.realism" in text
    assert "| `F6.conflict` |" in text
    assert "F6.conflict.mean" not in text
    means = findings.page("<!-- generated: means -->\n<!-- end -->", found)
    assert "| schedules | turn | 3 | 0 |" in means


def test_an_unfinished_run_is_not_recorded(findings: ModuleType, run: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(run, half)
    rows = (half / "results.jsonl").read_text().splitlines(keepends=True)
    (half / "results.jsonl").write_text("".join(rows[:5]))
    with pytest.raises(SystemExit, match="lacks 9 pictures"):
        findings.record([half], {})


def test_what_rounding_changes(findings: ModuleType, run: Path, tmp_path: Path) -> None:
    """One score and one picture of a copy are changed: the median picture is not."""
    other = tmp_path / "other"
    shutil.copytree(run, other)
    rows = [json.loads(line) for line in (other / "results.jsonl").read_text().splitlines()]
    path = other / rows[0]["image"]
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    rows[0]["metrics"]["bright"] += 0.5
    rows[0]["sha256"]["image"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (other / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told = findings.rounding(load_study(run), load_study(other))
    assert (told["pictures"], told["scores"], told["pixels"], told["changed"]) == (14, 1, 0, [])
    assert "1 have some score" in findings.page(
        "<!-- generated: rounding -->\n<!-- end -->", {"rounding": {"toy": told}}
    )
