"""Statistics of the votes: means and Bradley-Terry scores with intervals, agreement, consistency, exclusions, power.

Raters and prompts are both samples: each rater answers many items, and each prompt is rated by many raters. Intervals
therefore resample both (Owen 2007, "The pigeonhole bootstrap"). Raters and prompts are drawn with replacement,
independently of each other. The weight of an answer is the number of draws of its rater times the number of draws of
its prompt. This counts the noise of single answers three times, so the intervals are then shortened to the variance of
two-way clusters (:func:`share`).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from guidelens.errors import GuidelensError
from guidelens.shown import data_frame
from guidelens.stats import CONFIDENCE, expanded_level
from guidelens.words import plural

from .design import CHECK, FORCED_CHOICE, PAIRWISE, RATING, REAL, REPEAT, TIE, Rules
from .store import StoredItem, SurveyFile

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

RESAMPLES = 2000
PRIOR = 0.1
"""Wins added to each condition of a pair, so that a condition that always wins has a finite score."""

_NO_ALPHA = "no item has two raters yet, or all answers are the same"
_POWER = 0.8
_REACH = 1.959964 + 0.841621
"""Size, in standard errors, of an effect that a two-sided test at 5 % finds with a probability of 80 %."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval (NaN if there is none)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Answer:
    """One answer that counts."""

    rater: int
    prompt: str
    seed: int
    question: str
    shown: tuple[str, ...]
    answer: int

    @property
    def chosen(self) -> str | None:
        """The condition chosen, or None for a tie. Not for ratings."""
        return None if self.answer == TIE else self.shown[self.answer - 1]


@dataclass(frozen=True)
class RaterReport:
    """Statistics of a rater, and the reasons for exclusion, if any."""

    rater: int
    source: str
    answered: int
    asked: int
    finished: bool
    checks_passed: int
    checks: int
    consistency: float | None
    """Share of repeated questions answered alike (ratings: up to one apart)."""
    median_seconds: float | None
    excluded: tuple[str, ...]


@dataclass(frozen=True)
class Power:
    """The size of the next study, estimated from the spread of this one.

    :param detectable: the smallest difference of two conditions' means that a study of this size finds with a
        probability of 80 % (two-sided test at 5 %).
    :param raters: difference -> raters needed to find it with the same prompts, or None if only more prompts help.
    """

    detectable: float
    raters: dict[str, int | None]


@dataclass(frozen=True)
class QuestionResult:
    """The answers to one question.

    :param means: condition -> share of comparisons won (ties are half), share of choices, or mean rating.
    :param scores: condition -> Bradley-Terry log-strength, zero on average (for forced choice Luce's: the log of the
        share); None for ratings.
    :param wins: ``wins[i][j]``: how often condition i was preferred to j. A tie counts half for each.
    :param alpha: Krippendorff's alpha, or None.
    :param no_alpha: the reason if alpha could not be computed, else empty.
    """

    name: str
    text: str
    n: int
    means: dict[str, Interval]
    scores: dict[str, Interval] | None
    wins: list[list[float]] | None
    alpha: float | None
    power: Power | None
    no_alpha: str = ""


@dataclass(frozen=True)
class SurveyResults:
    """All results of a survey."""

    title: str
    design: str
    conditions: list[str]
    rules: Rules
    raters: list[RaterReport]
    questions: list[QuestionResult]
    chance: float | None
    """The mean that conditions would have if they did not matter; None for ratings."""
    prompts: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def included(self) -> list[RaterReport]:
        """Raters who are included."""
        return [rater for rater in self.raters if not rater.excluded]

    @property
    def excluded(self) -> list[RaterReport]:
        """Raters who are excluded."""
        return [rater for rater in self.raters if rater.excluded]

    @property
    def consistency(self) -> float | None:
        """Mean share of consistent repeats over the included raters, or None without repeats."""
        shares = [rater.consistency for rater in self.included if rater.consistency is not None]
        return statistics.fmean(shares) if shares else None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; NaN becomes None."""
        found: dict[str, Any] = _plain(asdict(self))
        return found

    def save(self, path: str | Path) -> Path:
        """Write the results, and return the path.

        :param path: its ending chooses what is written: .html (the page), .png or .svg (the figure), or .json.
        :raises GuidelensError: for another ending, or if the file cannot be written.
        """
        from .exchange import save_results

        return save_results(self, Path(path))

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per question and condition: the mean and the Bradley-Terry score, each with its interval.

        :raises GuidelensError: if pandas is not installed.
        """
        from .exchange import result_rows

        return data_frame(result_rows(self))

    def _repr_png_(self) -> bytes:
        from .drawing import figure_png

        return figure_png(self)

    def _repr_html_(self) -> str:
        from .figure import section

        return str(section(self))


def results(survey: SurveyFile, *, resamples: int = RESAMPLES, seed: int = 0) -> SurveyResults:
    """Compute the results of a survey from its file. The survey may still be running."""
    items = {item.id: item for item in survey.items()}
    reports = rater_reports(survey, items)
    kept = {report.rater for report in reports if not report.excluded}
    counted = [
        Answer(vote["rater"], item.prompt, item.seed, vote["question"], item.shown, vote["answer"])
        for vote in survey.votes()
        for item in [items[vote["item"]]]
        if item.kind == REAL and vote["rater"] in kept
    ]
    conditions = survey.conditions
    asked = []
    for question in survey.questions:
        mine = [answer for answer in counted if answer.question == question.name]
        asked.append(analyse(question.name, question.text, survey.kind, conditions, mine, resamples, seed))
    chance = {PAIRWISE: 0.5, FORCED_CHOICE: 1 / len(conditions), RATING: None}[survey.kind]
    prompts = {answer.prompt for answer in counted}
    return SurveyResults(
        survey.meta["title"],
        survey.kind,
        conditions,
        survey.rules,
        reports,
        asked,
        chance,
        len(prompts),
        ["there is only one prompt, so the intervals do not cover other prompts"]
        if len(prompts) == 1
        else [],
    )


def analyse(
    name: str,
    text: str,
    kind: str,
    conditions: Sequence[str],
    given: Sequence[Answer],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> QuestionResult:
    """Analyse the answers to one question."""
    import numpy as np

    if not given:
        none = Interval(math.nan, math.nan, math.nan)
        return QuestionResult(
            name, text, 0, dict.fromkeys(conditions, none), None, None, None, None, _NO_ALPHA
        )
    sums, counts, wins = tabulate(kind, conditions, given)
    weights = draw_weights(sums.shape[0], sums.shape[1], resamples, np.random.default_rng(seed))
    with np.errstate(invalid="ignore", divide="ignore"):
        means = sums.sum((0, 1)) / counts.sum((0, 1))
        drawn = weighted(sums, *weights) / weighted(counts, *weights)
    level = _level(sums.shape[0], sums.shape[1])
    scores = None
    if kind != RATING:
        fit = bradley_terry if kind == PAIRWISE else luce
        table, tables = (wins, wins) if kind == PAIRWISE else (sums, sums)
        theta = fit(table.sum((0, 1))[None])[0]
        moves = bradley_terry_moves(wins, theta) if kind == PAIRWISE else luce_moves(sums)
        scores = intervals(conditions, theta, fit(weighted(tables, *weights)), level, share(moves))
    try:
        alpha, no_alpha = agreement(kind, conditions, given), _NO_ALPHA
    except GuidelensError as error:  # the other results do not need that library
        alpha, no_alpha = None, str(error)
    return QuestionResult(
        name,
        text,
        len(given),
        intervals(conditions, means, drawn, level, share((sums - means * counts) / counts.sum((0, 1)))),
        scores,
        None if kind == RATING else wins.sum((0, 1)).tolist(),
        alpha,
        power(kind, sums, counts, np.random.default_rng(seed)),
        "" if alpha is not None else no_alpha,
    )


def tabulate(kind: str, conditions: Sequence[str], given: Sequence[Answer]) -> tuple[Array, Array, Array]:
    """Return sums and counts (raters, prompts, K), and wins (raters, prompts, K, K), of K conditions."""
    import numpy as np

    place = {name: i for i, name in enumerate(conditions)}
    raters = {name: i for i, name in enumerate(dict.fromkeys(a.rater for a in given))}
    prompts = {name: i for i, name in enumerate(dict.fromkeys(a.prompt for a in given))}
    shape = (len(raters), len(prompts), len(conditions))
    sums, counts, wins = np.zeros(shape), np.zeros(shape), np.zeros((*shape, len(conditions)))
    for answer in given:
        cell = raters[answer.rater], prompts[answer.prompt]
        shown = [place[condition] for condition in answer.shown]
        for i in shown:
            counts[cell][i] += 1
        if kind == RATING:
            sums[cell][shown[0]] += answer.answer
        elif answer.chosen is None:
            for i in shown:
                sums[cell][i] += 1 / len(shown)
                wins[cell][i][[j for j in shown if j != i]] += 0.5
        else:
            i = place[answer.chosen]
            sums[cell][i] += 1
            wins[cell][i][[j for j in shown if j != i]] += 1
    return sums, counts, wins


def draw_weights(raters: int, prompts: int, resamples: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return the numbers of draws of each rater (resamples, raters) and of each prompt (resamples, prompts)."""
    import numpy as np

    def draw(count: int) -> Array:
        return rng.multinomial(count, np.full(count, 1 / count), resamples).astype(float)

    return draw(raters), draw(prompts)


def weighted(table: Array, by_rater: Array, by_prompt: Array) -> Array:
    """Return sum over raters r and prompts p of by_rater[b, r] by_prompt[b, p] table[r, p, ...], for each b."""
    import numpy as np

    raters, prompts = table.shape[:2]
    rest = table.reshape(raters, prompts, -1)
    parts = []
    step = max(1, 4_000_000 // (prompts * rest.shape[2]))
    for start in range(0, len(by_rater), step):
        some = slice(start, start + step)
        drawn = (by_rater[some] @ rest.reshape(raters, -1)).reshape(-1, prompts, rest.shape[2])
        parts.append(np.einsum("bpk,bp->bk", drawn, by_prompt[some]))
    return np.concatenate(parts).reshape(len(by_rater), *table.shape[2:])


def bradley_terry(wins: Array, *, prior: float = PRIOR, tolerance: float = 1e-7) -> Array:
    """Return log-strengths theta (batch, K), zero on average, of wins (batch, K, K).

    P(i beats j) = 1 / (1 + exp(theta_j - theta_i)) (Bradley & Terry 1952), fitted by the minorisation-maximisation of
    Hunter (2004, eq. 3). A tie counts half a win for each.
    """
    import numpy as np

    k = wins.shape[-1]
    won = wins + prior * (1 - np.eye(k))
    met = won + won.swapaxes(1, 2)
    total = won.sum(2)
    theta = np.zeros(total.shape)
    for _ in range(5000):
        strength = np.exp(theta)
        new = np.log(total) - np.log((met / (strength[:, :, None] + strength[:, None, :])).sum(2))
        new -= new.mean(1, keepdims=True)
        if np.abs(new - theta).max() < tolerance:
            return new
        theta = new
    return theta


def luce(chosen: Array, *, prior: float = PRIOR) -> Array:
    """Return log-strengths (batch, K) from counts of choices (batch, K) among all K at once.

    P(i) = exp(theta_i) / sum_j exp(theta_j) (Luce 1959). The maximum-likelihood estimate of theta is the log of the
    share.
    """
    import numpy as np

    theta = np.log(chosen + prior)
    return np.asarray(theta - theta.mean(1, keepdims=True))


def bradley_terry_moves(wins: Array, theta: Array) -> Array:
    """Return how far each cell's answers move :func:`bradley_terry`'s scores, to first order: (raters, prompts, K).

    This is the inverse of the log-likelihood's curvature times its gradient at ``theta`` (K,), for each cell of the
    wins (raters, prompts, K, K).
    """
    import numpy as np

    chance = 1 / (1 + np.exp(theta[None, :] - theta[:, None]))
    met = wins + wins.swapaxes(2, 3)
    slope = (wins - met * chance).sum(3)
    each = met.sum((0, 1)) * chance * chance.T
    curvature = np.diag(each.sum(1)) - each
    return np.asarray(slope @ np.linalg.pinv(curvature))


def luce_moves(chosen: Array) -> Array:
    """Return the same for :func:`luce`, from choices (raters, prompts, K)."""
    total = chosen.sum((0, 1)) + PRIOR
    shares = total / total.sum()
    moves = (chosen - chosen.sum(2, keepdims=True) * shares) / total
    return moves - moves.mean(2, keepdims=True)


def share(moves: Array) -> Array:
    """Return the factors (K,), at most 1, that shorten intervals from resampling to the right length.

    ``moves`` (raters, prompts, K) has the contributions of each rater's answers to each prompt to an estimate. Let V_r,
    V_p and V_c be the sums of squares by rater, by prompt and by cell. Resampling both has the variance V_r + V_p + V_c
    (Owen 2007). Two-way clusters have V_r + V_p - V_c (Cameron, Gelbach & Miller 2011, "Robust inference with multiway
    clustering"), here at least V_r and at least V_p. With one rater or one prompt the factors are 1.
    """
    import numpy as np

    if min(moves.shape[:2]) < 2:
        return np.ones(moves.shape[2])
    of_raters, of_prompts = (moves.sum(1) ** 2).sum(0), (moves.sum(0) ** 2).sum(0)
    of_cells = (moves**2).sum((0, 1))
    clustered = np.maximum(of_raters + of_prompts - of_cells, np.maximum(of_raters, of_prompts))
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = clustered / (of_raters + of_prompts + of_cells)
    return np.sqrt(np.where(np.isfinite(ratio), ratio, 1.0))


def intervals(
    names: Sequence[str], values: Array, drawn: Array, level: float, factors: Array
) -> dict[str, Interval]:
    """Return percentile intervals of resamples (B, K) around ``values`` (K,). Both arms are multiplied by ``factors``
    (K,)."""
    import numpy as np

    found = {}
    for i, name in enumerate(names):
        usable = drawn[:, i][np.isfinite(drawn[:, i])]
        low, high = math.nan, math.nan
        if math.isfinite(level) and len(usable) > 1 and usable.min() < usable.max():
            ends = np.quantile(usable, [(1 - level) / 2, (1 + level) / 2])
            low, high = (float(values[i] + factors[i] * (end - values[i])) for end in ends)
        found[name] = Interval(float(values[i]), low, high)
    return found


def _level(raters: int, prompts: int) -> float:
    """Return the level of percentiles, widened for few raters or prompts as in :mod:`guidelens.stats`."""
    sizes = [n for n in (raters, prompts) if n > 1]
    return expanded_level(CONFIDENCE, min(sizes)) if sizes else math.nan


def agreement(kind: str, conditions: Sequence[str], given: Sequence[Answer]) -> float | None:
    """Return Krippendorff's alpha. It is ordinal for pairs (one, no difference, the other) and ratings, else nominal.

    :raises GuidelensError: the library is missing.
    """
    import numpy as np

    try:
        import krippendorff
    except ModuleNotFoundError:
        raise GuidelensError(
            'inter-rater agreement needs krippendorff: pip install "guidelens[survey]"'
        ) from None
    raters = {name: i for i, name in enumerate(dict.fromkeys(a.rater for a in given))}
    units: dict[Any, int] = {}
    for answer in given:
        units.setdefault((answer.prompt, answer.seed, frozenset(answer.shown)), len(units))
    data = np.full((len(raters), len(units)), np.nan)
    for answer in given:
        unit = units[answer.prompt, answer.seed, frozenset(answer.shown)]
        data[raters[answer.rater], unit] = canonical(kind, conditions, answer.shown, answer.answer)
    paired = data[:, (~np.isnan(data)).sum(0) > 1]
    if not paired.size or len(np.unique(paired[~np.isnan(paired)])) < 2:
        return None
    measure: Literal["nominal", "ordinal"] = "nominal" if kind == FORCED_CHOICE else "ordinal"
    return float(krippendorff.alpha(reliability_data=paired, level_of_measurement=measure))


def canonical(kind: str, conditions: Sequence[str], shown: Sequence[str], answer: int) -> int:
    """Return an answer in terms of conditions instead of places, so that two raters of one item can agree."""
    if kind == RATING:
        return answer
    if answer == TIE:
        return 0
    chosen = shown[answer - 1]
    if kind == FORCED_CHOICE:
        return list(conditions).index(chosen)
    return -1 if chosen == min(shown, key=list(conditions).index) else 1


def power(kind: str, sums: Array, counts: Array, rng: np.random.Generator) -> Power | None:
    """Estimate the size of the next study, for the difference of two conditions' means (median over pairs).

    Resampling only raters gives the variance V_r, and resampling only prompts gives V_p. With R' raters the variance is
    taken to be V_r R / R' + V_p. That is slightly too large, because the noise of single answers is in both terms. None
    with one rater or one prompt.
    """
    import numpy as np

    raters, prompts, k = sums.shape
    if min(raters, prompts) < 2:
        return None
    by_rater, by_prompt = draw_weights(raters, prompts, 1000, rng)
    ones = np.ones_like
    variances = []
    for weights in ((by_rater, ones(by_prompt)), (ones(by_rater), by_prompt)):
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn = weighted(sums, *weights) / weighted(counts, *weights)
        pairs = [drawn[:, i] - drawn[:, j] for i in range(k) for j in range(i)]
        spread = [float(np.nanvar(pair)) for pair in pairs if np.isfinite(pair).sum() > 1]
        if not spread:
            return None
        variances.append(statistics.median(spread))
    of_raters, of_prompts = variances
    needed: dict[str, int | None] = {}
    for effect in (0.25, 0.5, 1.0) if kind == RATING else (0.05, 0.1, 0.2):
        left = (effect / _REACH) ** 2 - of_prompts
        needed[f"{effect:g}"] = max(2, math.ceil(of_raters * raters / left)) if left > 0 else None
    return Power(_REACH * math.sqrt(of_raters + of_prompts), needed)


def rater_reports(survey: SurveyFile, items: Mapping[int, StoredItem]) -> list[RaterReport]:
    """Return a report on every rater who consented, with the rules applied."""
    by_rater: dict[int, dict[int, list[dict[str, Any]]]] = {}
    for vote in survey.votes():
        by_rater.setdefault(vote["rater"], {}).setdefault(vote["item"], []).append(vote)
    sizes: dict[int | None, int] = {}
    for item in items.values():
        sizes[item.seat] = sizes.get(item.seat, 0) + 1
    reports = []
    for rater in survey.raters():
        if rater.consented is None and rater.id not in by_rater:
            continue
        given = by_rater.get(rater.id, {})
        asked = sizes.get(rater.seat, len(given))
        screens = {
            items[item]: ({v["question"]: v["answer"] for v in votes}, votes[0]["seconds"])
            for item, votes in given.items()
        }
        found = _report(survey, rater.id, rater.source, rater.finished is not None, asked, screens)
        reports.append(found)
    return reports


def _report(
    survey: SurveyFile,
    rater: int,
    source: str,
    finished: bool,
    asked: int,
    screens: Mapping[StoredItem, tuple[Mapping[str, int], float | None]],
) -> RaterReport:
    kind, rules = survey.kind, survey.rules
    checks = [(i, a) for i, (a, _) in screens.items() if i.kind == CHECK]
    passed = sum(all(value == item.expected for value in given.values()) for item, given in checks)
    alike = list(_repeats(kind, survey.conditions, {i: a for i, (a, _) in screens.items()}))
    consistency = statistics.fmean(alike) if alike else None
    times = [seconds for _, seconds in screens.values() if seconds is not None]
    median = statistics.median(times) if times else None
    flat = [value for item, (given, _) in screens.items() if item.kind != CHECK for value in given.values()]
    most = max(map(flat.count, set(flat)), default=0) / max(1, len(flat))
    failed = len(checks) - passed
    excluded = [
        reason
        for holds, reason in (
            (failed > rules.failed_checks, f"failed {failed} of {plural(len(checks), 'attention check')}"),
            (median is not None and median < rules.seconds, f"median of {median or 0:.1f} s per screen"),
            (len(screens) < rules.answered * asked, f"answered {len(screens)} of {plural(asked, 'screen')}"),
            (len(flat) >= 10 and most > rules.same_answer, f"one answer in {most:.0%} of cases"),
            (
                consistency is not None and consistency < rules.consistency,
                f"repeated answers agree in {consistency or 0:.0%} of cases",
            ),
        )
        if holds
    ]
    return RaterReport(
        rater,
        source,
        len(screens),
        asked,
        finished,
        passed,
        len(checks),
        consistency,
        median,
        tuple(excluded),
    )


def _repeats(
    kind: str, conditions: Sequence[str], screens: Mapping[StoredItem, Mapping[str, int]]
) -> list[bool]:
    """Return, for each question of each repeated item, whether both answers agree."""
    by_id = {item.id: item for item in screens}
    alike = []
    for item in screens:
        if item.kind == REPEAT and item.repeats in by_id:
            first = by_id[item.repeats]
            for name, answer in screens[item].items():
                now = canonical(kind, conditions, item.shown, answer)
                before = canonical(kind, conditions, first.shown, screens[first][name])
                alike.append(abs(now - before) <= 1 if kind == RATING else now == before)
    return alike


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value
