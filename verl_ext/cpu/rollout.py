"""verl's vLLM rollout for the platform ``cpu``, whose weight sync no other training on the machine can join.

verl names the socket between trainer and vLLM by Ray's job id, and in every cluster that a training starts for itself
that is 1: two trainings at a time would connect to each other and wait without end, or sample from the other's weights.
"""

from __future__ import annotations

from typing import Any

import ray
from verl.workers.rollout.vllm_rollout import ServerAdapter

from verl_ext.cpu.platform import job_id_on_machine


class CPUServerAdapter(ServerAdapter):
    """verl's adapter with a socket of its own; vLLM's side is in :func:`verl_ext.cpu.platform.prepare_vllm`."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        job = ray.get_runtime_context().get_job_id()
        self.zmq_handle = self.zmq_handle.replace(f"-{job}-", f"-{job_id_on_machine(job)}-", 1)
