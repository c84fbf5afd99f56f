from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from recipe.asymgrpo.groups import counted_rows, form_groups

NAN = math.nan


def group(scores, index, counted=None, threshold=0.5):
    scores = torch.tensor(scores)
    counted = torch.ones(len(scores), dtype=torch.bool) if counted is None else torch.tensor(counted)
    return form_groups(scores, counted, index, threshold)


def test_counts_per_group():
    groups = group([1.0, 0.0, 1.0, 1.0, 0.0], ["b", "a", "b", "a", "c"])
    assert groups.ids.tolist() == [0, 1, 0, 1, 2]
    assert groups.sizes.tolist() == [2, 2, 1]
    assert groups.successes.tolist() == [2, 1, 0]
    assert groups.success.tolist() == [True, False, True, True, False]


@pytest.mark.parametrize(
    "index",
    [
        np.array(["x", "y", "x"], dtype=object),
        np.array(["x", "y", "x"]),
        np.array([7, -3, 7]),
        np.array([2.5, 1.5, 2.5], dtype=object),
        np.array([("p", 1), ("p", 2), ("p", 1), None], dtype=object)[:3],
        torch.tensor([7, 3, 7]),
        [7, 3, 7],
        ("x", "y", "x"),
        ["7", 7, "7"],
    ],
    ids=lambda index: f"{type(index).__name__}-{getattr(index, 'dtype', '')}",
)
def test_any_hashable_id_will_do(index):
    groups = group([1.0, 0.0, 0.0], index)
    assert groups.ids.tolist() == [0, 1, 0]
    assert groups.sizes.tolist() == [2, 1]


def test_rows_that_do_not_count_form_no_group():
    groups = group([NAN, 1.0, math.inf, 0.0], ["pad", "a", "a", "a"], counted=[False, True, False, True])
    assert groups.rows.tolist() == [1, 3]
    assert groups.sizes.tolist() == [2]
    assert groups.successes.tolist() == [1]


def test_success_is_strictly_above_the_threshold():
    assert group([0.5, 0.5001, -1.0, 1.0], "abcd").success.tolist() == [False, True, False, True]
    assert group([0.5, -0.5], "ab", threshold=-1).success.tolist() == [True, True]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_score_equal_to_the_threshold_in_its_own_dtype_is_a_failure(dtype):
    groups = form_groups(torch.tensor([0.3, 0.1], dtype=dtype), torch.tensor([True, True]), ["a", "a"], 0.3)
    assert groups.success.tolist() == [False, False]  # although float32(0.3) > 0.3


def test_no_rows():
    for groups in (group([], []), group([NAN, 1.0], ["a", "b"], counted=[False, False])):
        assert groups.rows.shape == groups.ids.shape == groups.sizes.shape == groups.successes.shape == (0,)


def test_scores_that_are_not_finite_are_named():
    with pytest.raises(ValueError, match=r"3 of 4 responses is NaN or infinite \(uid 'a', 'b'\)"):
        group([NAN, math.inf, 1.0, -math.inf], ["a", "b", "b", "a"])


def test_of_many_bad_uids_the_first_are_named():
    with pytest.raises(ValueError, match=r"9 of 9 .*\(uid 'a', 'b', 'c', 'd', 'e' and 4 more\)"):
        group([NAN] * 9, list("abcdefghi"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.bool, torch.int64])
def test_a_row_counts_when_any_token_does(dtype):
    mask = torch.tensor([[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 1]]).to(dtype)
    assert counted_rows(mask).tolist() == [True, False, True, True]
    assert counted_rows(mask[[0, 3]]).tolist() == [True, True]


def test_no_tokens_no_rows_count():
    assert counted_rows(torch.zeros(3, 0)).tolist() == [False] * 3
    assert counted_rows(torch.zeros(0, 5)).tolist() == []
