"""verl's replay buffer with a short poll, for runs whose steps take seconds.

verl's polls every 2 s, longer than a whole generation of the quickstart, and has no key for it. Selected by
``trainer.v1.sampler.custom_sampler.path=pkg://verl_ext.cpu.replay_buffer`` and ``...name=FastPollReplayBuffer``.
"""

from typing import Any

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer


class FastPollReplayBuffer(ReplayBuffer):
    """:class:`verl.trainer.ppo.v1.replay_buffer.ReplayBuffer` that polls every 0.02 s."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.poll_interval = 0.02
