"""verl's FSDP2 engine for the platform ``cpu``; loaded by ``actor_rollout_ref.model.external_lib=verl_ext.engine_cpu``.

The engine is verl's own; it is registered for a device that verl does not list.
"""

from __future__ import annotations

from typing import Any

from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead


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
