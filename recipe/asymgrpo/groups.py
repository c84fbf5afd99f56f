"""From responses to groups: which rows count, which group each belongs to, how many of a group succeed.

Shapes: B rows in the batch, N of them counted, P groups (prompts), T tokens.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import compress, count
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Groups:
    """Counted rows and the groups they form, on the CPU."""

    rows: Tensor
    """(N,) int64: position in the batch of each counted row."""
    scores: Tensor
    """(N,) score of each counted row."""
    success: Tensor
    """(N,) bool: the score is above the threshold."""
    ids: Tensor
    """(N,) int64 in [0, P): the group of each counted row, numbered by first appearance."""
    successes: Tensor
    """(P,) int64: number of successes in each group."""
    sizes: Tensor
    """(P,) int64: number of counted rows in each group, at least 1."""


def counted_rows(response_mask: Tensor) -> Tensor:
    """(B,) bool from a (B, T) floating mask: the row has at least one token.

    A row without one is padding (verl V1 pads a batch) or was rejected; it belongs to no group.
    """
    # Nearly every response starts with a token of its own: one column answers, without a pass over B x T.
    counted = response_mask[:, :1].any(-1)
    return counted if bool(counted.all()) else response_mask.sum(-1) != 0  # `any` over all is several times slower


def form_groups(scores: Tensor, counted: Tensor, index: Any, success_threshold: float, score: str = "reward") -> Groups:
    """Groups the counted rows by their uid.

    Args:
        scores: (B,) one score a row; may be anything on rows that do not count.
        counted: (B,) bool.
        index: (B,) group id of each row: numpy array (verl's `uid`, of objects), tensor or sequence of hashables.
        success_threshold: success means score > this.
        score: what the scores are called, for the error.

    Raises:
        ValueError: a counted row's score is NaN or infinite.
    """
    # A few numbers a row: the CPU is as fast, and float64 and bincount work there whatever the accelerator.
    counted = counted.cpu()
    rows = counted.nonzero().squeeze(-1)
    scores = scores.cpu()[rows]
    uids = list(compress(_to_list(index), counted.tolist()))
    _check_finite(scores, uids, score)

    number: defaultdict[Any, int] = defaultdict(count().__next__)  # uid -> 0, 1, 2, ... by first appearance
    ids = torch.tensor(list(map(number.__getitem__, uids)), dtype=torch.int64)
    success = scores > success_threshold
    return Groups(
        rows=rows,
        scores=scores,
        success=success,
        ids=ids,
        successes=torch.bincount(ids[success], minlength=len(number)),
        sizes=torch.bincount(ids, minlength=len(number)),
    )


def _to_list(index: Any) -> list:
    # Python's own hashing of the ids is twice as fast as np.unique, which sorts them as strings.
    return index.tolist() if hasattr(index, "tolist") else list(index)


def _check_finite(scores: Tensor, uids: Sequence, score: str) -> None:
    bad = ~scores.isfinite()
    if not bool(bad.any()):
        return
    named = list(dict.fromkeys(compress(uids, bad.tolist())))
    shown = ", ".join(repr(uid) for uid in named[:5]) + (f" and {len(named) - 5} more" if len(named) > 5 else "")
    raise ValueError(
        f"asym_grpo: the {score} of {int(bad.sum())} of {len(uids)} responses is NaN or infinite (uid {shown}). "
        f"Look at the reward function for these prompts; a response that cannot be scored must get a finite {score}."
    )
