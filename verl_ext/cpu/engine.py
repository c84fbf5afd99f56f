"""verl's FSDP2 engine for the platform ``cpu``; loaded by ``actor_rollout_ref.model.external_lib=verl_ext.cpu.engine``.

The engine is verl's own; it is registered for a device that verl does not list. The rollout is verl's as well, under
its name `vllm`, with a weight sync of its own (:mod:`verl_ext.cpu.rollout`).
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead
from verl.workers.rollout import base as rollouts

from verl_ext.cpu.platform import OWN_SOCKET


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

    def prepare_model_inputs(self, micro_batch: TensorDict) -> tuple[dict[str, Any], dict[str, Any]]:
        """As verl's, but the model computes logits only where a response token follows.

        In verl's padded path a row of the vocabulary is computed for every prompt token as well, and not used; with a
        real vocabulary and short responses that is much of a step. Where it cannot be avoided, nothing changes.
        """
        inputs, output_args = super().prepare_model_inputs(micro_batch)
        skipped = self._positions_without_logits(micro_batch)
        if skipped:
            inputs["logits_to_keep"] = torch.arange(skipped, inputs["input_ids"].shape[1])
            output_args["positions_without_logits"] = skipped
        return inputs, output_args

    def _positions_without_logits(self, micro_batch: TensorDict) -> int:
        """How many leading positions of every sequence are before the last prompt token."""
        if any(
            tensordict_utils.get_non_tensor_data(data=micro_batch, key=key, default=default)
            for key, default in (
                ("use_remove_padding", True), ("use_fused_kernels", False), ("distillation_use_topk", False),
            )
        ):  # fmt: skip
            return 0
        prompts = micro_batch.get("prompts")  # a supervised loss has none, and may want those log-probabilities
        if prompts is None or not prompts.is_nested:
            return 0
        if "logits_to_keep" not in inspect.signature(self.module.forward).parameters:
            return 0
        return int(prompts.offsets().diff().min()) - 1

    def prepare_model_outputs(
        self, output: Any, output_args: dict[str, Any], micro_batch: TensorDict, logits_processor_func: Callable | None
    ) -> dict[str, Any]:
        """As verl's: nested tensors over prompts and responses, 0 at the positions whose logits were not computed."""
        skipped = output_args.get("positions_without_logits", 0)
        if not skipped:
            return super().prepare_model_outputs(output, output_args, micro_batch, logits_processor_func)
        input_ids = micro_batch["input_ids"]
        tokens, offsets = input_ids.values(), input_ids.offsets()
        lengths = offsets.diff()
        kept = torch.arange(len(tokens)) - offsets[:-1].repeat_interleave(lengths) >= skipped
        kept_offsets = torch.nn.functional.pad((lengths - skipped).cumsum(0), (1, 0))
        shorter = micro_batch.copy()
        shorter["input_ids"] = torch.nested.nested_tensor_from_jagged(tokens[kept], kept_offsets)
        output_args = output_args | {"input_ids_rmpad_rolled": output_args["input_ids_rmpad_rolled"][kept]}
        found = super().prepare_model_outputs(output, output_args, shorter, logits_processor_func)
        return {
            name: torch.nested.nested_tensor_from_jagged(
                torch.zeros(len(tokens), dtype=values.dtype).masked_scatter(kept, values.values()), offsets
            )
            for name, values in found.items()
        }


if "cpu" not in EngineRegistry._engines.get("language_model", {}).get("fsdp2", {}):
    EngineRegistry.register(model_type="language_model", backend=["fsdp", "fsdp2"], device="cpu")(CPUEngineWithLMHead)

# By its path, as verl has it: only the process that needs it imports vLLM. The variable goes on to vLLM's processes.
rollouts._ROLLOUT_REGISTRY["vllm", "async"] = "verl_ext.cpu.rollout.CPUServerAdapter"
os.environ[OWN_SOCKET] = "1"
