"""What the functions that are calling know and do not hand on: a trainer's objects, and V1's rows."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any


def frames() -> Iterator[FrameType]:
    """The calling functions, from the inside out, the one that asks first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


HOLDERS = 3  # of a function's snapshot that nobody else has: its frame, the name below, and the call that counts


def names(frame: FrameType) -> dict[str, Any]:
    """What a function has names for, by name.

    Before Python 3.13 a frame keeps the snapshot that it is asked for: in a trainer's loop, a whole batch until the
    next is made. So it is emptied, but not where somebody else has it, as who calls locals() there.
    """
    snapshot = frame.f_locals
    found = dict(snapshot)
    of_function = frame.f_code.co_flags & inspect.CO_OPTIMIZED
    if sys.version_info < (3, 13) and of_function and sys.getrefcount(snapshot) <= HOLDERS:
        snapshot.clear()
    return found


def objects(frame: FrameType) -> list[Any]:
    """What a function has names for."""
    return list(names(frame).values())


def attribute(holder: Any, name: str) -> Any:
    """Of anybody's object, which may do anything when it is asked; None where it has none."""
    try:
        return getattr(holder, name, None)
    except Exception:
        return None


def keys_of(frame: FrameType, rows: int) -> Sequence[str] | None:
    """Of V1's functions: the keys under which TransferQueue keeps the batch; None where there are not so many."""
    keys = names(frame).get("batch_keys")
    return keys if keys is not None and len(keys) == rows else None


def transfer_queue(keys: Sequence[str], field: str) -> Any:
    """A field of these rows of V1's training batch, as a TensorDict; raises what TransferQueue raises without it."""
    import transfer_queue as tq

    return tq.kv_batch_get(keys=list(keys), partition_id="train", select_fields=[field])
