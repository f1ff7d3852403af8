"""Study files: what they may say, and how mistakes are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from guidelens.errors import GuidelensError, UsageError
from guidelens.sampling import options
from guidelens.studies.file import load_study_file, parse_study
from guidelens.studies.keys import PromptSource
from guidelens.studies.line_numbers import find_lines, line_of

FULL = """\
name = "full"
summary = "all there is"
plugins = ["a.py", "b"]
metrics = ["m"]
dtype = "bfloat16"
device = "cpu"
batch_size = "auto"
snapshots = 3
perturbation_seed = 7
generator = "g"
guidance = ["a", "b"]
prompts = [
  "a [bracket] in a text",      # and ] in a comment
  { text = "b", category = "c", reference = "d" },
  { set = "shapes:limit=3", category = ["x", "y"], limit = 2 },
  { file = "p.csv", column = "caption" },
]
perturbations = "typo:edits=1"
schedules = ["itc", "shift"]
seeds = "0,3,7-9"
steps = [10, 50]
samplers = ["ddpm", "ddim"]
eta = 0.5
scales = [0.5, 1, 2]
objective_scales = [{ itc = 1 }, { itc = 2.5 }]
presets = ["none", "dps"]
options = { through = ["unet", "x0"], every = 2 }

[[grid]]
name = "first"
summary = "s"
claims = ["F1", "F5"]
steps = 3

[[grid]]
name = "second"
[grid.options]
every = 3
clip_norm = ["none", 1]

[[exclude]]
schedule = "itc"
steps = [10]
"""


def test_everything_is_read() -> None:
    study = parse_study(FULL, base=Path("/b"))
    assert (study.name, study.plugins, study.metrics) == ("full", ("a.py", "b"), ("m",))
    assert (study.dtype, study.device, study.batch_size) == ("bfloat16", "cpu", "auto")
    assert (study.snapshots, study.perturbation_seed) == ((0.0, 0.5, 1.0), 7)
    first, second = study.grids
    assert first.guidance == ("a", "b")
    assert first.prompts == (
        PromptSource(text="a [bracket] in a text"),
        PromptSource(text="b", categories=("c",), reference="d"),
        PromptSource(set="shapes:limit=3", categories=("x", "y"), limit=2),
        PromptSource(file="p.csv", column="caption"),
    )
    assert (first.seeds, first.sampling["steps"], second.sampling["steps"]) == (
        (0, 3, 7, 8, 9),
        (3,),
        (10, 50),
    )
    assert first.sampling["scale"] == (0.5, 1.0, 2.0)
    assert first.sampling["objective_scales"] == ({"itc": 1.0}, {"itc": 2.5})
    assert first.claims == ("F1", "F5")
    assert {name: first.sampling[name] for name in ("through", "every")} == {
        "through": ("unet", "x0"),
        "every": (2,),
    }
    assert {name: second.sampling[name] for name in ("through", "every", "clip_norm")} == {
        "through": ("unet", "x0"),
        "every": (3,),
        "clip_norm": (None, 1.0),
    }
    (rule,) = study.rules
    assert rule.conditions == {"schedule": ("itc",), "steps": (10,)}


def test_without_grids_there_is_one() -> None:
    (grid,) = parse_study("steps = 3\nscales = 2").grids
    assert (grid.name, grid.sampling) == ("main", {"steps": (3,), "scale": (2.0,)})


def test_every_guidance_option_may_be_given() -> None:
    for option in options():
        if option.name == "dtype":
            continue  # holds for the whole study
        written = '"none"' if option.default is None else json.dumps(option.default)
        key = option.study_key or f"options.{option.name}"
        (grid,) = parse_study(f"{key} = {written}").grids
        assert grid.sampling == {option.name: (option.default,)}, option.name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nschedule = 1", "line 2: a study has no key 'schedule' (did you mean 'schedules'?)"),
        ("steps = 3\nfoo = 1", "line 2: a study has no key 'foo'; there are name, include, summary, plugins"),
        ('[[grid]]\nname = "a"\n\nmetrics = ["x"]', "line 4: metrics holds for the whole study: write it at"),
        ('claims = "F1"', "line 1: claims belongs to one grid: write it below a [[grid]]"),
        (
            '[[grid]]\nname = "a"\nsampler = "x"',
            "line 3: a grid has no key 'sampler' (did you mean 'samplers'?)",
        ),
        ("[[grid]]", 'line 1: the grid has no name; add name = "..."'),
        ('[[grid]]\nname="a"\n[[grid]]\nname="a"', "line 4: two grids have the name 'a'"),
        ("[grid]\nname = 1", "line 1: grid must be written as [[grid]], a table for each"),
        ('name = "a b"', "line 1: the name 'a b' may only have letters"),
        (
            "steps = [5, 0]",
            "or numbers by section (10+10+5), got 0",
        ),
        ("steps = 2.5", "or numbers by section (10+10+5), got 2.5"),
        ("steps = []", "line 1: steps: the list is empty"),
        ("steps = true", "or numbers by section (10+10+5), got True"),
        ('scales = "1"', "line 1: scales: must be a finite number, got '1'"),
        ("scales = nan", "line 1: scales: must be a finite number, got nan"),
        ("\n\nseeds = [0, -1]", "line 3: seeds: expected a whole number from 0 on, not -1"),
        ('seeds = "5-3"', "line 1: seeds: cannot read the seeds '5-3': '5-3' is not a rising range"),
        (f"seeds = [{2**63}]", "line 1: seeds: a seed is a whole number from 0 to 2**63 - 1"),
        (
            'prompts = { text = "a", category = ["b", "c"] }',
            "prompts: a text has one category, not ['b', 'c']",
        ),
        (
            'samplers = "ddpn"',
            "line 1: samplers: must be one of ddpm, ddim, dpm++, got 'ddpn' (did you mean 'ddpm'?)",
        ),
        ('presets = "fredom"', "not 'fredom' (did you mean 'freedom'?)"),
        (
            "objective_scales = 3",
            "line 1: objective_scales: must be numbers by name, such as {'itc': 500}, got 3",
        ),
        ('objective_scales = { itc = "a" }', "objective_scales: must be finite numbers, got 'a' for 'itc'"),
        ('dtype = "float"', "dtype: must be one of float32, bfloat16, float16, float64, got 'float'"),
        ("snapshots = [0.5, 2]", "snapshots: progress runs from 0"),
        ("batch_size = 0", "batch_size: expected a whole number from 1 on, not 0"),
        ("prompts = 3", "prompts: expected a text, or a table with text, set or file, not 3"),
        ('prompts = ["a",\n "  "]', "line 1: prompts: expected a text, not '  '"),
        ('prompts = { tex = "a" }', "prompts have no 'tex' (did you mean 'text'?)"),
        ('prompts = { set = "a", file = "b" }', "expected exactly one of text, set and file"),
        ('prompts = { set = "a", column = "b" }', "column does not go with set"),
        ("options = 3", 'options: expected a table such as { through = "x0" }, not 3'),
        (
            'steps = 3\n[options]\nthrogh = "x0"',
            "line 3: options: there is no option 'throgh' (did you mean 'through'?)",
        ),
        (
            '[options]\nevery = 1\nthrough = "x1"',
            "line 3: options: through must be one of unet, x0, got 'x1'",
        ),
        ("options.clip_denoised = 1", "line 1: options: clip_denoised must be true or false, got 1"),
        ("options.scale = 1", "options: scale is not a key of options: write scales = ... beside it"),
        (
            '[[grid]]\nname = "a"\n[grid.options]\nevery = "x"',
            "line 4: options: every must be a whole number",
        ),
        (
            'steps = 1\n[[exclude]]\nschedul = "a"',
            "line 3: in [[exclude]], cells have no 'schedul' (did you mean",
        ),
        ("[[exclude]]", "line 1: in [[exclude]], the rule names no column, so it would exclude everything"),
        ("steps = [1,\n2", "study, line 2: Unclosed array"),
        ("steps = 3\nsteps = 4", "study, line 2: Cannot overwrite a value"),
    ],
)
def test_mistakes_are_told_with_their_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_study(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(GuidelensError, match=r"cannot read the study .*gone\.toml: No such file"):
        load_study_file(tmp_path / "gone.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(GuidelensError, match=r"cannot read the study .*latin\.toml"):
        load_study_file(tmp_path / "latin.toml")


def test_a_file_names_itself_in_messages_and_gives_the_study_its_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xef\xbb\xbfsteps = 3\r\n\r\n[options]\r\nevery = 2\r\n")
    study = load_study_file(path)
    assert (study.name, study.base, study.grids[0].sampling["every"]) == ("mine", tmp_path, (2,))
    path.write_bytes(b"steps = 3\r\n\r\nstep = 4\r\n")
    with pytest.raises(UsageError, match=r"mine\.toml, line 3: a study has no key 'step'"):
        load_study_file(path)


def test_lines_of_keys() -> None:
    text = '''a = """
b = 1
[x]
"""
c = [
  "d = 2",  # ] }
  { e = 3 },
]
'f g' = 1
h.i = 2
[table]
j = 1
[table.inner]
k = [[1, 2], [3]]
[[list]]
l = 1
[list.sub]
m = 1
[[list]]
[[list.deep]]
n = 1
'''
    lines = find_lines(text)
    assert lines == {
        (): 1,
        ("a",): 1,
        ("c",): 5,
        ("f g",): 9,
        ("h",): 10,
        ("h", "i"): 10,
        ("table",): 11,
        ("table", "j"): 12,
        ("table", "inner"): 13,
        ("table", "inner", "k"): 14,
        ("list", 0): 15,
        ("list", 0, "l"): 16,
        ("list", 0, "sub"): 17,
        ("list", 0, "sub", "m"): 18,
        ("list", 1): 19,
        ("list", 1, "deep", 0): 20,
        ("list", 1, "deep", 0, "n"): 21,
    }
    assert line_of(lines, ("list", 0, "sub", "gone", 3)) == 17
    assert line_of(lines, ("gone",)) == 1
