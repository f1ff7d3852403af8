"""Keys, requests for seeds and prompts, plans."""

from __future__ import annotations

from dataclasses import replace

import pytest
from guidelens.contracts import Prompt
from guidelens.errors import UsageError
from guidelens.runs.config import Cell, ModelId, RunSettings, as_prompts, differences
from guidelens.runs.plan import all_cells, check_schedules, make_plan
from guidelens.sampling import Sampling, join_steps, split_steps
from guidelens.schedules import NamedSchedule, read_schedules
from guidelens.seeds import parse_seeds, read_seeds
from tiny_world import Weights

# Of a resolved run: every default that the models decide is filled in.
SAMPLING = Sampling(steps=5, clip_denoised=True)
SETTINGS = RunSettings(ModelId("g", "g1"), ModelId("v", "v1"), (3, 8, 8), SAMPLING)


def changed(**options: object) -> RunSettings:
    return replace(SETTINGS, sampling=replace(SETTINGS.sampling, **options))


ITC = NamedSchedule("itc", Weights("itc", {"itc": 1.0}))
CAP = NamedSchedule("cap", Weights("cap", {"cap": 1.0}))


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("1", (0,)),
        ("4", (0, 1, 2, 3)),
        ("0,3,7-9", (0, 3, 7, 8, 9)),
        ("7-7", (7,)),
        ("3,1,3", (3, 1)),
        (" 2 ", (0, 1)),
    ],
)
def test_seeds_are_a_number_or_a_list(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


def test_seeds_in_all_their_spellings() -> None:
    assert read_seeds(2) == read_seeds("2") == read_seeds([0, 1]) == read_seeds(range(2)) == (0, 1)
    for wrong in ([], [-1], [1.5], True, None, [2**63]):
        with pytest.raises(UsageError) as caught:
            read_seeds(wrong)  # type: ignore[arg-type]
        assert caught.value.setting in ("seed", "seeds")


def test_schedules_in_all_their_spellings() -> None:
    def no_plugins() -> object:
        raise AssertionError("objects need no plugin")

    one = ITC.schedule
    for given in (one, [one], (one, one), {"itc": one}):
        (found,) = read_schedules(given, no_plugins)  # type: ignore[arg-type]
        assert (found.name, found.schedule) == ("itc", one)
    with pytest.raises(UsageError, match="3 is not a schedule: give a name"):
        read_schedules([3], no_plugins)  # type: ignore[arg-type, list-item]


@pytest.mark.parametrize("text", ["", "0", "-1", "a", "1.5", "9-7", "1,,2", "0-99999999", "5-", "1,-2"])
def test_bad_seeds_are_named(text: str) -> None:
    with pytest.raises(UsageError, match="seeds"):
        parse_seeds(text)


@pytest.mark.parametrize(
    ("text", "steps", "canonical"),
    [
        (50, (50, ""), 50),
        ("50", (50, ""), 50),
        (" 50 ", (50, ""), 50),
        ("ddim25", (25, "ddim"), "ddim25"),
        ("10+ 10+5", (25, "10+10+5"), "10+10+5"),
    ],
)
def test_steps_are_a_number_or_a_respacing(
    text: int | str, steps: tuple[int, str], canonical: int | str
) -> None:
    assert split_steps(text) == steps
    assert join_steps(*steps) == canonical
    assert split_steps(canonical) == steps


@pytest.mark.parametrize(
    "text", ["", "0", 0, -3, "ddim", "ddim0", "ddim5+5", "5++5", "5+0", "10,10,5", "2.5", True, "x"]
)
def test_bad_steps_are_named(text: int | str) -> None:
    with pytest.raises(UsageError, match=r"sampling steps: give a number from 1 on, ddim and a number"):
        split_steps(text)


def test_steps_name_as_many_timesteps_as_they_say() -> None:
    """Held to what the sampler makes of the same spelling."""
    from guidelens.diffusion.process import space_timesteps

    chosen = [space_timesteps(100, steps) for steps in (20, "ddim20", "10+10")]
    assert [len(timesteps) for timesteps in chosen] == [split_steps(s)[0] for s in (20, "ddim20", "10+10")]
    assert len({tuple(timesteps) for timesteps in chosen}) == 3  # so each needs a key of its own


def test_key_depends_on_everything_that_a_picture_depends_on() -> None:
    cell = Cell(Prompt("a red circle"), ITC, 0)
    others = [
        Cell(Prompt("a red circl"), ITC, 0).key(SETTINGS),
        Cell(Prompt("a red circle", reference="a circle"), ITC, 0).key(SETTINGS),
        Cell(cell.prompt, CAP, 0).key(SETTINGS),
        Cell(cell.prompt, NamedSchedule("itc", Weights("itc", {"itc": 0.5})), 0).key(SETTINGS),
        Cell(cell.prompt, NamedSchedule("other", ITC.schedule), 0).key(SETTINGS),
        Cell(cell.prompt, ITC, 1).key(SETTINGS),
        cell.key(replace(SETTINGS, generator=ModelId("g", "g2"))),
        cell.key(replace(SETTINGS, guidance=ModelId("v", "v2"))),
        *(cell.key(changed(steps=steps)) for steps in (6, "ddim5", "3+2")),
        cell.key(changed(sampler="ddim")),
        cell.key(changed(eta=0.5)),
        cell.key(changed(dtype="bfloat16")),
        cell.key(changed(scale=2.0)),
    ]
    assert len({cell.key(SETTINGS), *others}) == 1 + len(others)


def test_key_does_not_depend_on_what_changes_nothing() -> None:
    key = Cell(Prompt("a red circle"), ITC, 0).key(SETTINGS)
    assert Cell(Prompt("a red circle", category="single"), ITC, 0).key(SETTINGS) == key
    # A whole number is the same setting as the float, a table the same schedule.
    assert Cell(Prompt("a red circle"), ITC, 0).key(changed(scale=1)) == key
    assert Cell(Prompt("a red circle"), ITC.tabulated(5), 0).key(SETTINGS) == key
    assert len(key) == 20


def test_key_is_stable_across_versions() -> None:
    # Old runs resume only as long as this does not move; if it must, raise FORMAT with it.
    assert Cell(Prompt("a red circle"), ITC, 0).key(SETTINGS) == "d7cf2b158b6c9fa8426b"


def test_prompts_are_checked_and_repetitions_dropped() -> None:
    assert [p.text for p in as_prompts(["b", Prompt("a"), "b"])] == ["b", "a"]
    assert as_prompts("one") == (Prompt("one"),)
    with pytest.raises(UsageError, match="prompt 2 of 2 is empty"):
        as_prompts(["a", "  "])
    with pytest.raises(UsageError, match="no prompts"):
        as_prompts([])


def test_differences_are_named_with_both_values() -> None:
    old = {"generator": {"name": "a", "fingerprint": "1"}, "steps": 50, "scale": 1.0}
    assert differences(old, old) == []
    assert differences(old, {**old, "steps": 20, "scale": 2.0})[0] == ("steps", 50, 20)
    new = {"generator": {"name": "a", "fingerprint": "2"}, "steps": 20, "scale": 1.0}
    assert differences(old, new)[0] == ("generator.fingerprint", "1", "2")
    assert differences(old, {**old, "extra": 1})[0] == ("extra", None, 1)
    assert differences({**old, "gone": 1}, old)[0] == ("gone", 1, None)


def test_schedules_are_held_to_the_guidance_model() -> None:
    with pytest.raises(
        UsageError, match=r"schedule 'cap' needs the objective 'cap', which toy lacks \(it has itc, itm\)"
    ):
        check_schedules([ITC, CAP], {"itc", "itm"}, "toy", 5)
    with pytest.raises(UsageError, match="two schedules have the name 'itc'"):
        check_schedules([ITC, ITC], {"itc"}, "toy", 5)
    with pytest.raises(
        UsageError, match="the weight of 'itc' at progress 0 must be a finite number, got nan"
    ):
        check_schedules([NamedSchedule("bad", Weights("bad", {"itc": float("nan")}))], {"itc"}, "toy", 5)


def test_plan_fills_batches_of_one_schedule_evenly_and_in_turn() -> None:
    cells = all_cells([Prompt("a"), Prompt("b"), Prompt("c")], [ITC, CAP], range(3), SETTINGS)
    plan = make_plan(cells, [], (), 8)
    assert plan.batches == plan.todo
    assert sorted(key for batch in plan.batches for key in batch) == sorted(cells)
    assert [cells[batch[0]].schedule.name for batch in plan.batches] == [
        "itc",
        "cap",
        "itc",
        "cap",
    ]
    assert all(len({cells[key].schedule.name for key in batch}) == 1 for batch in plan.batches)
    assert [len(batch) for batch in plan.batches] == [4, 4, 5, 5]
    assert len(make_plan(cells, [], (), 18).batches) == 1


def test_plan_repeats_an_interrupted_batch_in_its_old_make_up() -> None:
    cells = all_cells([Prompt("a"), Prompt("b")], [ITC], range(4), SETTINGS)
    first = make_plan(cells, [], (), 4)
    done = set(first.batches[0][:2])
    second = make_plan(cells, first.batches, done, 4)
    assert second.batches == first.batches
    assert second.todo == first.batches
    assert make_plan(cells, first.batches, set(first.batches[0]), 4).todo == [first.batches[1]]


def test_plan_takes_apart_a_batch_that_no_longer_fits() -> None:
    cells = all_cells([Prompt("a"), Prompt("b")], [ITC], range(4), SETTINGS)
    old = [list(cells)]
    smaller = make_plan(cells, old, (), 3)
    assert [len(batch) for batch in smaller.todo] == [3, 2, 3]
    fewer = all_cells([Prompt("a")], [ITC], range(4), SETTINGS)
    part = make_plan(fewer, old, (), 16)
    assert part.todo == [list(fewer)]
    assert sorted(key for batch in part.batches for key in batch) == sorted(cells)


def test_plan_of_a_grown_grid_leaves_what_is_there() -> None:
    few = all_cells([Prompt("a")], [ITC], range(2), SETTINGS)
    first = make_plan(few, [], (), 4)
    more = all_cells([Prompt("a"), Prompt("b")], [ITC], range(3), SETTINGS)
    grown = make_plan(more, first.batches, set(few), 4)
    assert grown.batches[:1] == first.batches
    assert sorted(key for batch in grown.todo for key in batch) == sorted(more.keys() - few.keys())
