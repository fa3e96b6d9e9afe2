"""The winner: the simplest configuration among those nearly as good as the best."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import StudyError
from coldray.experiments.results import FoldMetrics, TrialResult
from coldray.experiments.selection import select
from coldray.experiments.space import SelectionConfig

METRIC = "ndcg@10"


def trial(number, values, status="finished", error=None, **config):
    """Return a trial with one fold for each of `values`."""
    values = values if isinstance(values, tuple) else (values,)
    folds = tuple(FoldMetrics(seed=42, split=split, metrics={METRIC: value}) for split, value in enumerate(values))
    return TrialResult(f"t{number}", number, config, folds, status, error)


def chosen(trials, tolerance=0.02, simplest=()):
    return select(trials, SelectionConfig(metric=METRIC, tolerance=tolerance, simplest=simplest))


def test_without_a_rule_the_best_mean_wins():
    selection = chosen([trial(0, (0.1, 0.5)), trial(1, (0.3, 0.4)), trial(2, (0.2, 0.2))])
    assert selection.winner.number == selection.best.number == 1
    assert selection.rule == ()
    assert selection.metric == METRIC


def test_a_simpler_trial_within_the_tolerance_wins():
    trials = [trial(0, 0.500, order=2), trial(1, 0.495, order=1), trial(2, 0.480, order=1)]
    selection = chosen(trials, 0.02, ({"order": "low"},))
    assert selection.best.number == 0
    assert selection.winner.number == 1
    assert [t.number for t in selection.within_tolerance] == [1, 0]
    assert selection.tolerance == 0.02
    assert selection.rule == ("order: low",)
    assert chosen(trials, 0.05, ({"order": "low"},)).winner.number == 1
    assert chosen(trials, 0.005, ({"order": "low"},)).winner.number == 0


def test_the_edge_of_the_tolerance_belongs_to_it():
    trials = [trial(0, 0.5, order=2), trial(1, 0.25, order=1)]
    assert chosen(trials, 0.5, ({"order": "low"},)).winner.number == 1


def test_tolerance_zero_takes_the_best_whatever_is_simpler():
    trials = [trial(0, 0.5, order=2), trial(1, 0.4999, order=1)]
    assert chosen(trials, 0.0, ({"order": "low"},)).winner.number == 0


def test_tolerance_zero_still_breaks_an_exact_tie_by_the_rule():
    trials = [trial(0, 0.5, order=2), trial(1, 0.5, order=1)]
    selection = chosen(trials, 0.0, ({"order": "low"},))
    assert (selection.best.number, selection.winner.number) == (0, 1)


def test_the_first_entry_of_the_rule_decides_before_the_second():
    trials = [trial(0, 0.5, order=2, n=1), trial(1, 0.5, order=1, n=9), trial(2, 0.5, order=1, n=8)]
    assert chosen(trials, 0.1, ({"order": "low"}, {"n": "low"})).winner.number == 2
    assert chosen(trials, 0.1, ({"n": "low"}, {"order": "low"})).winner.number == 0
    assert chosen(trials, 0.1, ({"n": "high"},)).winner.number == 1


def test_a_list_prefers_its_earlier_values_and_unlisted_ones_come_last():
    trials = [trial(0, 0.5, learner="ridge"), trial(1, 0.5, learner="b"), trial(2, 0.5, learner="a")]
    selection = chosen(trials, 0.1, ({"learner": ["a", "b"]},))
    assert [t.number for t in selection.within_tolerance] == [2, 1, 0]
    assert selection.rule == ("learner: a before b",)


def test_a_list_may_hold_mappings_and_lists():
    by_attribute = {"genres": 1.0, "actors": 2.0}
    trials = [trial(0, 0.5, delta=5.0), trial(1, 0.5, delta=dict(reversed(by_attribute.items())))]
    assert chosen(trials, 0.1, ({"delta": [by_attribute, 5.0]},)).winner.number == 1


def test_equally_simple_trials_are_ordered_by_mean_then_by_number():
    trials = [trial(0, 0.49, order=1), trial(3, 0.50, order=1), trial(2, 0.50, order=1)]
    assert [t.number for t in chosen(trials, 0.1, ({"order": "low"},)).within_tolerance] == [2, 3, 0]
    assert chosen(trials, 0.1).best.number == 2


def test_trials_that_did_not_finish_cannot_win():
    trials = [
        trial(0, (0.9,), "pruned", order=1),
        trial(1, (0.9, 0.9), "failed", "SingularMatrixError: no", order=1),
        trial(2, (0.2, 0.2), order=2),
    ]
    selection = chosen(trials, 0.99, ({"order": "low"},))
    assert selection.winner.number == 2
    assert [t.number for t in selection.within_tolerance] == [2]


def test_nothing_finished_names_the_first_failure():
    trials = [
        trial(0, (0.9,), "pruned"),
        trial(1, (), "failed", "SingularMatrixError: lambda_1 is too small"),
        trial(2, (), "failed", "another"),
    ]
    with pytest.raises(StudyError, match=r"None of the 3 trials.*SingularMatrixError: lambda_1 is too small") as caught:
        chosen(trials)
    assert "another" not in str(caught.value)


def test_no_trial_at_all_is_an_error():
    with pytest.raises(StudyError, match="None of the 0 trials"):
        chosen([])


def test_a_number_rule_on_words_says_so():
    with pytest.raises(StudyError, match="'regression' as a number; list the values"):
        chosen([trial(0, 0.5, learner="regression")], 0.1, ({"learner": "low"},))


STATUSES = st.sampled_from(["finished", "finished", "pruned", "failed"])


def trials_of(statuses):
    values = st.lists(st.floats(0, 1), min_size=1, max_size=3)
    drawn = st.tuples(statuses, values, st.integers(1, 3), st.sampled_from("abz"))
    return st.lists(drawn, min_size=1, max_size=12).map(
        lambda trials: [
            trial(number, tuple(values), status, "broken" if status == "failed" else None, order=order, learner=learner)
            for number, (status, values, order, learner) in enumerate(trials)
        ]
    )


TRIALS = trials_of(STATUSES).filter(lambda trials: any(one.status == "finished" for one in trials))
UNFINISHED = trials_of(st.sampled_from(["pruned", "failed"]))
RULES = st.sampled_from([(), ({"order": "low"},), ({"order": "high"},), ({"learner": ["b", "a"]}, {"order": "low"})])


def simplicity(one, rule):
    ranks = []
    for entry in rule:
        for name, preference in entry.items():
            value = one.config[name]
            if preference in ("low", "high"):
                ranks.append(value if preference == "low" else -value)
            else:
                ranks.append([*preference, value].index(value))
    return ranks


@given(UNFINISHED, st.floats(0, 0.99), RULES)
def test_of_trials_none_of_which_finished_none_wins(trials, tolerance, rule):
    with pytest.raises(StudyError, match=f"None of the {len(trials)} trials"):
        chosen(trials, tolerance, rule)


@given(TRIALS, st.floats(0, 0.99), RULES)
def test_the_winner_is_good_enough_and_nothing_good_enough_is_simpler(trials, tolerance, rule):
    finished = [one for one in trials if one.status == "finished"]
    selection = chosen(trials, tolerance, rule)
    best = max(one.mean(METRIC) for one in finished)
    floor = best * (1 - tolerance)
    assert selection.winner in finished
    assert selection.best.mean(METRIC) == best
    assert selection.winner.mean(METRIC) >= floor
    inside = [one for one in finished if one.mean(METRIC) >= floor]
    assert sorted(t.number for t in selection.within_tolerance) == [t.number for t in inside]
    assert all(simplicity(selection.winner, rule) <= simplicity(one, rule) for one in inside)


@given(TRIALS, st.floats(0, 0.99), RULES, st.randoms(use_true_random=False))
def test_the_order_in_which_trials_ended_does_not_matter(trials, tolerance, rule, random):
    shuffled = list(trials)
    random.shuffle(shuffled)
    first, second = chosen(trials, tolerance, rule), chosen(shuffled, tolerance, rule)
    assert first.winner.number == second.winner.number
    assert first.best.number == second.best.number
