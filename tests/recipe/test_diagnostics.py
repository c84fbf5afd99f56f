from __future__ import annotations

import statistics
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recipe.asymgrpo.diagnostics import Sums, bin_of, covariance_sums, group_sums, metrics, truncation_sums
from recipe.asymgrpo.groups import form_groups

READ_AS_OTHERS = ("max", "min", "sum", "total")  # verl's aggregators reduce such names differently


def make(rows):
    """Groups and advantages from (uid, solved, advantage); a row whose uid is None is padding."""
    scores = torch.tensor([float(solved) for _, solved, _ in rows])
    counted = torch.tensor([uid is not None for uid, _, _ in rows])
    groups = form_groups(scores, counted, [uid for uid, _, _ in rows], 0.5)
    return groups, torch.tensor([a for uid, _, a in rows if uid is not None], dtype=torch.float64), len(rows)


def test_metrics_of_a_batch_by_hand():
    rows = [("a", 1, 2.0), ("a", 0, -1.0), ("a", 0, -1.0), ("a", 0, -1.0)]  # p = 1/4
    rows += [("b", 0, 0.0), ("b", 0, 0.0)]  # none
    rows += [("c", 1, 0.0), ("c", 1, 0.0)]  # all
    rows += [(None, 0, 0.0)] * 3
    found = metrics(group_sums(*make(rows)))
    expected = {
        "groups": 3,
        "padding_rows": 3,
        "none_solved": 1 / 3,
        "all_solved": 1 / 3,
        "some_solved": 1 / 3,
        "group_accuracy": 1.25 / 3,
        "zero_adv_rows": 0.5,
        "adv_positive": 2.0,
        "adv_negative": -1.0,
        "adv_mass_positive": 0.4,
        "p_hist/0_20": 1 / 3,
        "p_hist/20_40": 1 / 3,
        "p_hist/40_60": 0,
        "p_hist/60_80": 0,
        "p_hist/80_100": 1 / 3,
        "pass_at/1": 1.25 / 3,
        "pass_at/2": 1.5 / 3,  # 1 - C(3,2)/C(4,2) = 1/2 in a
        "pass_at/4": 1.0,  # only a has four
    }
    assert found == pytest.approx({f"asymgrpo/{key}": value for key, value in expected.items()})


@pytest.mark.parametrize(
    ("successes", "size", "expected"),
    [(0, 5, 0), (1, 5, 1), (2, 5, 2), (3, 5, 3), (4, 5, 4), (5, 5, 4), (1, 8, 0), (3, 10, 1), (7, 10, 3)],
)
def test_bins_are_closed_below(successes, size, expected):
    assert bin_of(torch.tensor([successes]), torch.tensor([size])).tolist() == [expected]


def test_nothing_to_average_over_is_left_out():
    assert metrics(group_sums(*make([(None, 0, 0.0)]))) == {"asymgrpo/groups": 0, "asymgrpo/padding_rows": 1}
    only_zero = metrics(group_sums(*make([("a", 0, 0.0)])))
    assert "asymgrpo/adv_mass_positive" not in only_zero
    assert "asymgrpo/adv_positive" not in only_zero


ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "d", None]), st.booleans(), st.floats(-3, 3, allow_subnormal=False)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_always_finite_and_no_name_that_verl_reduces_differently(rows):
    groups, advantages, count = make(rows)
    sums = group_sums(groups, advantages, count)
    mask = torch.ones(count, 4)
    sums.add(truncation_sums(groups, mask, 4))
    sums.add(covariance_sums(groups, advantages, -torch.rand(count, 4), mask))
    found = metrics(sums)
    assert all(type(value) is float and abs(value) < float("inf") for value in found.values())
    for key in found:
        assert not any(word in key for word in READ_AS_OTHERS)
        assert not key.endswith("lr")
    shares = [value for key, value in found.items() if key.startswith("asymgrpo/p_hist/")]
    assert not shares or sum(shares) == pytest.approx(1)


@settings(max_examples=100, deadline=None)
@given(ROWS, ROWS)
def test_two_calls_add_up_to_one_over_both(one, two):
    both = Sums()
    both.add(group_sums(*make(one)))
    both.add(group_sums(*make(two)))
    other = [(uid and uid + "2", solved, advantage) for uid, solved, advantage in two]
    together = group_sums(*make(one + other))
    assert metrics(both) == pytest.approx(metrics(together))


def test_truncated_groups():
    groups, _, _ = make([("a", 1, 0.0), ("a", 0, 0.0), ("b", 1, 0.0), (None, 0, 0.0)])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0]])
    assert metrics(truncation_sums(groups, mask, 3))["asymgrpo/truncated_groups"] == 0.5
    assert metrics(truncation_sums(groups, mask, 8))["asymgrpo/truncated_groups"] == 0  # cut to its longest response


@settings(max_examples=100, deadline=None)
@given(ROWS, st.integers(0, 1000))
def test_covariance_is_the_textbooks_in_each_group(rows, seed):
    groups, advantages, count = make(rows)
    generator = torch.Generator().manual_seed(seed)
    log_probs = -torch.rand(count, 5, generator=generator)
    lengths = torch.randint(1, 6, (count,), generator=generator)
    mask = (torch.arange(5) < lengths[:, None]).long()
    log_probs[mask == 0] = float("nan")  # must not be read
    found = metrics(covariance_sums(groups, advantages, log_probs, mask))

    pairs, solved = defaultdict(list), defaultdict(list)
    for row, (uid, success, advantage) in enumerate(rows):
        if uid is not None:
            pairs[uid].append((sum(log_probs[row, : lengths[row]].double().tolist()), advantage))
            solved[uid].append(success)
    bins, every = defaultdict(list), []
    for uid, group in pairs.items():
        if len(group) > 1:
            value = statistics.covariance(*zip(*group, strict=True))
            low = min(20 * (100 * sum(solved[uid]) // len(group) // 20), 80)
            bins[f"asymgrpo/cov_by_p/{low}_{low + 20}"].append(value)
            every.append(value)
    expected = {key: statistics.fmean(values) for key, values in bins.items()}
    if every:
        expected["asymgrpo/cov_logprob_adv"] = statistics.fmean(every)
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert set(found) - set(expected) == {"asymgrpo/groups", "asymgrpo/padding_rows"}


def test_covariance_leaves_out_a_group_with_an_impossible_token():
    groups, advantages, _ = make([("a", 1, 0.5), ("a", 0, -0.5), ("b", 1, 1.0), ("b", 0, -2.0)])
    log_probs, mask = -torch.rand(4, 3), torch.ones(4, 3)
    alone = covariance_sums(*make([("b", 1, 1.0), ("b", 0, -2.0)])[:2], log_probs[2:], mask[2:])
    log_probs[0, 1] = float("-inf")
    assert covariance_sums(groups, advantages, log_probs, mask) == alone
