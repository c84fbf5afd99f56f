"""Finds what the reward function returned beside the score, in the trainer that is calling the estimator.

verl's reward functions may return a dict; its other entries (`acc`, ...) are kept with the batch but are not handed to
estimators: by the legacy trainer and its descendants in the batch's ``non_tensor_batch``, by V1 in TransferQueue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from verl_ext.callers import attribute, frames, keys_of, objects, transfer_queue


def of_caller(key: str, rows: int) -> Sequence[Any] | None:
    """The value of `key` for each of the batch's rows, or None where the calling functions have none.

    Looked for from the inside out: verl's `compute_advantage` has the batch, V1's function around it the keys under
    which TransferQueue keeps the rows.

    Args:
        key: name of an entry of the reward function's dict.
        rows: how many rows the estimator was given; a batch of another size is not the one.
    """
    batch: dict[str, Any] | None = None  # the innermost is the one; V1's does not have it
    for frame in frames():
        for holder in objects(frame):
            named = attribute(holder, "non_tensor_batch")
            if batch is None and isinstance(named, dict) and len(named.get("uid", ())) == rows:
                batch = named
                if key in batch:
                    return batch[key]
        keys = keys_of(frame, rows)
        if keys is not None:
            return _from_transfer_queue(key, keys)
    return None


def _from_transfer_queue(key: str, keys: Sequence[str]) -> Sequence[Any] | None:
    """Where V1 keeps it: in a rollout's extra fields, or, if a reward model scored the batch, as a field of its own."""
    rows = transfer_queue(keys, "extra_fields")["extra_fields"]
    fields = [getattr(row, "data", row) or {} for row in list(rows)]
    infos = [of_row.get("reward_extra_info") or {} for of_row in fields]
    if any(key in info for info in infos):  # what fills a batch up has none, and does not count
        return [info.get(key) for info in infos]
    try:
        return transfer_queue(keys, key)[key].tolist()
    except Exception:  # TransferQueue's own, for a field that no row has
        return None
