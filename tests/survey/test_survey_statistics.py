"""Statistics against closed forms, published numbers, a general optimiser, and raters with planted preferences."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from guidelens_survey.design import Rules, Unit, draw
from guidelens_survey.statistics import (
    Answer,
    agreement,
    analyse,
    bradley_terry,
    bradley_terry_moves,
    canonical,
    draw_weights,
    luce,
    luce_moves,
    rater_reports,
    results,
    share,
    tabulate,
    weighted,
)
from guidelens_survey.store import SurveyFile
from scipy import optimize

NAMES = ("a", "b", "c", "d")
STRENGTH = {"a": 0.8, "b": 0.2, "c": -0.3, "d": -0.7}


def planted(
    kind: str,
    rng: np.random.Generator,
    *,
    raters: int = 20,
    items: int = 24,
    prompts: int = 12,
    of_rater: float = 0.0,
    of_prompt: float = 0.0,
    ties: float = 0.0,
) -> list[Answer]:
    """Answers of raters who follow Bradley-Terry (or Luce, or a rating around 3 + strength), with deviations of their
    own and of each prompt, normal with the given standard deviations."""
    units = [Unit(f"p{p}", s) for p in range(prompts) for s in range(2)]
    seed = int(rng.integers(1 << 30))
    plan = draw(kind, NAMES, units, items=items, raters=raters, repeats=0, checks=0, seed=seed)
    prompt = {f"p{p}": dict(zip(NAMES, rng.normal(0, of_prompt, 4), strict=True)) for p in range(prompts)}
    given = []
    for rater, seat in enumerate(plan.seats):
        own = dict(zip(NAMES, rng.normal(0, of_rater, 4), strict=True))
        for item in seat:
            values = np.array([STRENGTH[n] + own[n] + prompt[item.unit.prompt][n] for n in item.shown])
            if kind == "rating":
                answer = int(np.clip(np.rint(3 + values[0] + rng.normal(0, 0.7)), 1, 5))
            elif rng.random() < ties:
                answer = 0
            else:
                answer = 1 + int(np.argmax(values + rng.gumbel(size=len(values))))
            given.append(Answer(rater, item.unit.prompt, item.unit.seed, "q", item.shown, answer))
    return given


def test_two_conditions_have_a_closed_form() -> None:
    wins = np.array([[[0.0, 30.0], [10.0, 0.0]]])
    (theta,) = bradley_terry(wins, prior=0.0)
    assert theta[0] - theta[1] == pytest.approx(math.log(3), abs=1e-5)
    assert theta.sum() == pytest.approx(0)


def test_bradley_terry_is_the_maximum_of_its_likelihood() -> None:
    rng = np.random.default_rng(3)
    wins = rng.integers(1, 20, (5, 4, 4)).astype(float) * (1 - np.eye(4))
    found = bradley_terry(wins, prior=0.0)
    for table, theta in zip(wins, found, strict=True):

        def loss(free: np.ndarray, table: np.ndarray = table) -> float:
            full = np.append(free, -free.sum())
            return float((table * np.logaddexp(0, full[None, :] - full[:, None])).sum())

        best = optimize.minimize(loss, np.zeros(3), method="BFGS", options={"gtol": 1e-8}).x
        np.testing.assert_allclose(theta[:3], best, atol=1e-4)


def test_bradley_terry_is_that_of_choix() -> None:
    choix = pytest.importorskip("choix")
    rng = np.random.default_rng(4)
    wins = rng.integers(1, 9, (5, 5)) * (1 - np.eye(5, dtype=int))
    games = [(i, j) for i in range(5) for j in range(5) for _ in range(wins[i, j])]
    (theta,) = bradley_terry(wins[None].astype(float), prior=0.0)
    np.testing.assert_allclose(theta, choix.mm_pairwise(5, games), atol=1e-5)
    np.testing.assert_allclose(theta, choix.opt_pairwise(5, games, alpha=0.0), atol=1e-4)


@pytest.mark.parametrize("kind", ["pairwise", "forced-choice"])
def test_moves_are_derivatives(kind: str) -> None:
    """What a cell contributes is how fast the scores change as its answers come to count for more."""
    sums, _, wins = tabulate(
        kind, NAMES, planted(kind, np.random.default_rng(8), raters=6, prompts=5, items=10)
    )
    table = wins if kind == "pairwise" else sums
    fit = (lambda t: bradley_terry(t, tolerance=1e-13)) if kind == "pairwise" else luce
    (theta,) = fit(table.sum((0, 1))[None])
    moves = bradley_terry_moves(wins, theta) if kind == "pairwise" else luce_moves(sums)
    step = 1e-4
    for rater, prompt in ((0, 0), (3, 2), (5, 4)):
        (up,), (down,) = (fit((table.sum((0, 1)) + s * table[rater, prompt])[None]) for s in (step, -step))
        np.testing.assert_allclose(moves[rater, prompt], (up - down) / (2 * step), rtol=0.05, atol=2e-4)


def test_shares_have_closed_forms() -> None:
    """Raters alone: V_r is P times V_c, V_p nothing. Noise alone: the three are alike."""
    raters = np.random.default_rng(0).normal(size=(9, 1, 2))
    raters -= raters.mean(0)
    np.testing.assert_allclose(share(np.repeat(raters, 7, 1)), math.sqrt(7 / 8))
    np.testing.assert_allclose(share(np.repeat(raters, 7, 1).swapaxes(0, 1)), math.sqrt(7 / 8))
    noise = np.random.default_rng(1).normal(size=(200, 200, 1))
    np.testing.assert_allclose(share(noise), math.sqrt(1 / 3), rtol=0.06)
    assert share(noise[:1]).tolist() == share(noise[:, :1]).tolist() == [1.0]
    assert share(np.zeros((3, 3, 1))).tolist() == [1.0]


def test_one_that_always_wins_has_a_finite_score() -> None:
    (theta,) = bradley_terry(np.array([[[0.0, 9.0], [0.0, 0.0]]]))
    assert 1 < theta[0] < 10


def test_luce_is_the_log_of_the_share() -> None:
    (theta,) = luce(np.array([[60.0, 30.0, 10.0]]), prior=0.0)
    assert theta[0] - theta[2] == pytest.approx(math.log(6))


def test_ties_are_half_a_win_for_each() -> None:
    given = [Answer(0, "p", 0, "q", ("a", "b"), 0), Answer(0, "p", 0, "q", ("b", "a"), 1)]
    sums, counts, wins = tabulate("pairwise", ("a", "b"), given)
    assert sums[0, 0].tolist() == [0.5, 1.5]
    assert counts[0, 0].tolist() == [2, 2]
    assert wins[0, 0].tolist() == [[0, 0.5], [1.5, 0]]


def test_sides_do_not_matter_for_what_is_meant() -> None:
    assert canonical("pairwise", NAMES, ("a", "c"), 1) == canonical("pairwise", NAMES, ("c", "a"), 2) == -1
    assert canonical("pairwise", NAMES, ("a", "c"), 0) == 0
    assert canonical("forced-choice", NAMES, ("d", "a", "c", "b"), 3) == 2
    assert canonical("rating", NAMES, ("a",), 4) == 4


def test_agreement_is_krippendorffs_published_example() -> None:
    """Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", example C: ordinal alpha is 0.815."""
    table = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    given = [
        Answer(rater, f"unit {unit}", 0, "q", ("a",), value)
        for rater, values in enumerate(table)
        for unit, value in enumerate(values)
        if value is not None
    ]
    assert agreement("rating", ("a",), given) == pytest.approx(0.815, abs=5e-4)


def test_agreement_knows_no_sides() -> None:
    same = [
        Answer(r, f"p{p}", 0, "q", shown, 1 + shown.index("ab"[p % 2]))
        for r, shown in enumerate([("a", "b"), ("b", "a")])
        for p in range(6)
    ]
    assert agreement("pairwise", ("a", "b"), same) == pytest.approx(1.0)
    assert agreement("forced-choice", ("a", "b"), same) == pytest.approx(1.0)
    assert agreement("pairwise", ("a", "b"), same[:6]) is None  # one rater


def test_weighted_is_the_sum_it_says() -> None:
    rng = np.random.default_rng(0)
    table = rng.random((3, 4, 2, 2))
    by_rater, by_prompt = draw_weights(3, 4, 5, rng)
    assert (by_rater.sum(1) == 3).all()
    assert (by_prompt.sum(1) == 4).all()
    expected = np.einsum("br,bp,rpij->bij", by_rater, by_prompt, table)
    np.testing.assert_allclose(weighted(table, by_rater, by_prompt), expected)


@pytest.mark.parametrize("kind", ["pairwise", "forced-choice"])
def test_planted_strengths_come_back(kind: str) -> None:
    given = planted(kind, np.random.default_rng(1), raters=150, items=24, prompts=12)
    found = analyse("q", "?", kind, NAMES, given, 200)
    assert found.scores is not None
    for name, strength in STRENGTH.items():
        assert found.scores[name].value == pytest.approx(strength, abs=0.12)
    assert found.n == len(given) == 150 * 24
    assert found.wins is not None
    assert sum(map(sum, found.wins)) == len(given) * (1 if kind == "pairwise" else 3)


@pytest.mark.parametrize("kind", ["pairwise", "rating"])
def test_intervals_cover_what_was_planted(kind: str) -> None:
    """95 % intervals hold the truth in about 95 of 100 studies, though raters and prompts differ among themselves;
    intervals that took answers for independent would hold it far less often (checked beside them)."""
    rng = np.random.default_rng(5)
    truth = truths(kind)
    held, naive, n = 0, 0, 0
    for _ in range(60):
        given = planted(kind, rng, raters=12, items=24, prompts=12, of_rater=0.5, of_prompt=0.5)
        found = analyse("q", "?", kind, NAMES, given, 400, seed=int(rng.integers(1 << 30)))
        for name in NAMES:
            values = np.array([answer_of(kind, a, name) for a in given if name in a.shown])
            error = 1.96 * values.std() / math.sqrt(len(values))
            interval = found.means[name]
            held += interval.low <= truth[name] <= interval.high
            naive += abs(values.mean() - truth[name]) <= error
            n += 1
    print(f"{kind}: {held / n:.3f} of {n} intervals hold the truth, {naive / n:.3f} of naive ones")
    assert 0.92 <= held / n <= 0.98
    assert naive / n < 0.85


def answer_of(kind: str, answer: Answer, name: str) -> float:
    if kind == "rating":
        return float(answer.answer)
    return 0.5 if answer.chosen is None else float(answer.chosen == name)


def truths(kind: str) -> dict[str, float]:
    """The means of infinitely many raters and prompts, by a large simulation of the same raters."""
    rng = np.random.default_rng(11)
    count = 400_000
    spread = math.sqrt(0.5)  # rater and prompt together: 0.5² + 0.5²
    value = {n: STRENGTH[n] + rng.normal(0, spread, count) for n in NAMES}
    if kind == "rating":
        return {
            n: float(np.clip(np.rint(3 + value[n] + rng.normal(0, 0.7, count)), 1, 5).mean()) for n in NAMES
        }
    chance = lambda i, j: float((1 / (1 + np.exp(value[j] - value[i]))).mean())  # noqa: E731
    return {i: sum(chance(i, j) for j in NAMES if j != i) / 3 for i in NAMES}


def test_power_foresees_the_spread_of_studies() -> None:
    """What one study says it detects is what the scatter of many such studies gives, or a little more."""
    rng = np.random.default_rng(2)
    differences, foreseen = [], []
    for _ in range(60):
        given = planted("pairwise", rng, raters=12, items=24, prompts=12, of_rater=0.5, of_prompt=0.3)
        found = analyse("q", "?", "pairwise", NAMES, given, 50)
        differences.append(found.means["a"].value - found.means["b"].value)
        assert found.power is not None
        foreseen.append(found.power.detectable)
    actual = 2.8016 * float(np.std(differences))
    print(f"detectable {np.median(foreseen):.3f}, by the scatter of studies {actual:.3f}")
    assert 0.8 * actual <= float(np.median(foreseen)) <= 1.7 * actual
    needed = found.power.raters if found.power is not None else {}
    counts = [n for n in needed.values() if n is not None]
    assert counts == sorted(counts, reverse=True)


def test_no_answers_give_no_numbers(make: Callable[..., SurveyFile]) -> None:
    found = results(make())
    assert found.raters == []
    assert math.isnan(found.questions[0].means["itc"].value)
    assert found.as_dict()["questions"][0]["means"]["itc"]["value"] is None


def answer_all(
    survey: SurveyFile, seat: int, choose: Callable, seconds: float = 5.0, part: float = 1.0
) -> int:  # type: ignore[type-arg]
    rater = survey.join(f"visit {seat}")
    assert rater is not None
    items = survey.items(rater.seat)
    for item in items[: round(part * len(items))]:
        survey.vote(rater, item, dict.fromkeys(("realism", "alignment"), choose(item)), seconds=seconds)
    return rater.id


def test_raters_are_left_out_by_the_rules_alone(make: Callable[..., SurveyFile]) -> None:
    survey = make(items=10, repeats=2, checks=3, raters=7, rules={"consistency": 0.5})
    assert survey.rules == Rules(failed_checks=1, consistency=0.5)

    def good(item):  # type: ignore[no-untyped-def]
        return item.expected or 1 + item.shown.index(min(item.shown))

    kept = answer_all(survey, 0, good)
    careless = answer_all(survey, 1, lambda item: 3 - item.expected if item.expected else good(item))
    hasty = answer_all(survey, 2, good, seconds=0.2)
    gone = answer_all(survey, 3, good, part=0.4)
    left = answer_all(survey, 4, lambda item: item.expected or 1)
    torn = answer_all(
        survey, 5, lambda item: 1 + item.shown.index(max(item.shown)) if item.kind == "repeat" else good(item)
    )
    reports = {r.rater: r for r in rater_reports(survey, {i.id: i for i in survey.items()})}
    assert reports[kept].excluded == ()
    assert (reports[kept].consistency, reports[kept].checks_passed) == (1.0, 3)
    assert reports[careless].excluded == ("failed 3 of 3 attention checks",)
    assert reports[hasty].excluded == ("median of 0.2 s per screen",)
    assert reports[gone].excluded == ("answered 6 of 15 screens",)
    assert "one answer in 100% of cases" in reports[left].excluded
    assert reports[torn].excluded == ("repeated answers agree in 0% of cases",)
    found = results(survey)
    assert [r.rater for r in found.included] == [kept]
    assert found.questions[0].n == 10  # no repeats, no checks
