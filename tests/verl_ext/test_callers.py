"""What is asked of the functions that are calling."""

import weakref

from verl_ext import callers


def ask():
    for frame in callers.frames():
        callers.objects(frame)


def test_a_loop_does_not_keep_the_batch_before():
    class Batch:
        pass

    batch = Batch()
    gone = weakref.ref(batch)
    assert [found for frame in callers.frames() for found in callers.objects(frame) if found is batch]
    ask()
    batch = Batch()
    assert gone() is None
    assert isinstance(batch, Batch)


def test_locals_that_somebody_has_stay():
    value = 1
    mine = locals()
    ask()
    assert mine["value"] == value
