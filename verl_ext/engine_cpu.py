"""verl's FSDP2 engine for the platform ``cpu``; loaded by ``actor_rollout_ref.model.external_lib=verl_ext.engine_cpu``.

The engine is verl's own; it is registered for a device that verl does not list. The rollout is verl's as well, under
its name `vllm`, with a weight sync of its own (:mod:`verl_ext.rollout_cpu`).
"""

from __future__ import annotations

import os
from typing import Any

from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.rollout import base as rollouts

from verl_ext.platform_cpu import OWN_SOCKET


class CPUEngineWithLMHead(FSDPEngineWithLMHead):
    """FSDP2 language-model engine on gloo."""

    def _build_fsdp_module(self, module: Any) -> Any:
        """Build the sharded module; a reference model (``forward_only``) without offloading to pinned memory.

        Pinned memory needs an accelerator, and the parameters are in host memory as it is.
        """
        config = self.engine_config
        if config.strategy != "fsdp2":
            raise ValueError(
                f"actor_rollout_ref.actor.strategy={config.strategy!r}: FSDP1 needs an accelerator; "
                "on the platform `cpu` set actor_rollout_ref.actor.strategy=fsdp2"
            )
        forward_only = config.forward_only
        try:
            object.__setattr__(config, "forward_only", False)
            return super()._build_fsdp_module(module)
        finally:
            object.__setattr__(config, "forward_only", forward_only)


if "cpu" not in EngineRegistry._engines.get("language_model", {}).get("fsdp2", {}):
    EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu")(CPUEngineWithLMHead)

# By its path, as verl has it: only the process that needs it imports vLLM. The variable goes on to vLLM's processes.
rollouts._ROLLOUT_REGISTRY["vllm", "async"] = "verl_ext.rollout_cpu.CPUServerAdapter"
os.environ[OWN_SOCKET] = "1"
