"""Composes and checks a training's whole configuration, prints the plan, and starts nothing.

    python -m verl_ext.dry_run [--absent-ok FOLDER] -- OVERRIDE...

The overrides are those of ``python -m verl.trainer.main_ppo``, whose own Hydra entry composes them and whose own
``validate_config`` judges them, with this package's knobs (`verl_ext.early_check`); instead of training, the numbers
are checked that verl meets only after minutes: batches, lengths, files, GPUs. Exit status 0, or 1 and one line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from verl_ext.models import Model, PlanError, describe_model

GIB = 2**30


def _multiple(total: int, part: int, what: str, of: str, remedy: str) -> None:
    if part < 1 or total % part:
        raise PlanError(f"{what} ({total}) is not a multiple of {of} ({part}); {remedy}")


def check_files(files: Any, key: str, absent_ok: Path | None) -> str:
    """Rows of the parquet files under one key, in words.

    Raises:
        PlanError: a file is missing or has no prompts as verl wants them.
    """
    names = [files] if isinstance(files, str) else list(files)
    rows = 0
    for name in names:
        path = Path(str(name)).expanduser()
        if not path.is_file():
            if absent_ok is not None and path.parent == absent_ok:
                return "not here yet; the script gets it first"
            raise PlanError(
                f"{key}: there is no {path}; python -m recipe.asymgrpo.data prepare --out {path.parent} makes it"
            )
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(path)
        except Exception as error:
            raise PlanError(f"{key}: {path} is not a parquet file ({error})") from error
        missing = {"prompt", "data_source", "reward_model"} - set(file.schema_arrow.names)
        if missing:
            raise PlanError(f"{key}: {path} has no column {', '.join(sorted(missing))}, which verl reads")
        rows += file.metadata.num_rows
    return f"{rows} prompts"


def plan(config: Any, absent_ok: Path | None = None) -> list[tuple[str, str]]:
    """What a training of this configuration would do, as (topic, words).

    Args:
        config: verl's configuration, composed, and valid by `validate_config`.
        absent_ok: a folder whose files need not exist yet.

    Raises:
        PlanError: it could not work.
    """
    data, worker, trainer = config.data, config.actor_rollout_ref, config.trainer
    actor, rollout = worker.actor, worker.rollout
    nodes, per_node = trainer.nnodes, trainer.n_gpus_per_node
    gpus = nodes * per_node
    if nodes < 1 or per_node < 1:
        raise PlanError(f"trainer.nnodes={nodes} and trainer.n_gpus_per_node={per_node}: both must be at least 1")
    prompts, n, mini = data.train_batch_size, rollout.n, actor.ppo_mini_batch_size
    fsdp = actor.get("fsdp_config")  # Megatron's actor has none
    parallel = (fsdp or {}).get("ulysses_sequence_parallel_size", 1) or 1
    tensor = rollout.tensor_model_parallel_size
    lines: list[tuple[str, str]] = []

    from recipe.asymgrpo.entropy_control import EntropyControlConfig

    algorithm = config.algorithm
    method = str(algorithm.adv_estimator)
    if method == "asym_grpo":
        from recipe.asymgrpo.config import AsymGRPOConfig

        knobs = AsymGRPOConfig.from_algorithm(algorithm)
        if algorithm.use_kl_in_reward and knobs.success_key is None:
            penalty = "algorithm.use_kl_in_reward=True: a success is told by a sum that has the KL penalty in it; "
            lines.append(("warning", penalty + "actor_rollout_ref.actor.use_kl_loss=True leaves the reward as it is"))
        if n < 2:
            lines.append(("warning", f"actor_rollout_ref.rollout.n={n}: of one response p is 0 or 1"))
        curve = ", ".join(f"{key} {value:g}" for key, value in sorted(knobs.curve_knobs.items()))
        method += f", preset {knobs.preset}" + (f" ({curve})" if curve else "")
    low, high = (actor.clip_ratio if x is None else x for x in (actor.clip_ratio_low, actor.clip_ratio_high))
    loss = f"{actor.policy_loss.loss_mode}, clip {low:g} / {high:g}, {actor.loss_agg_mode}"
    if actor.entropy_coeff:
        loss += f", entropy bonus {actor.entropy_coeff:g}"
    lines += [("method", method), ("loss", loss)]
    control = EntropyControlConfig.from_algorithm(algorithm)
    if control is not None:
        lines.append(("entropy", f"entropy control, {control.summary}"))

    if mini > prompts:
        raise PlanError(f"actor.ppo_mini_batch_size ({mini}) is more than data.train_batch_size ({prompts})")
    _multiple(prompts, mini, "data.train_batch_size", "actor.ppo_mini_batch_size", "change one of them")
    _multiple(gpus, parallel, f"{nodes} x {per_node} GPUs", "fsdp_config.ulysses_sequence_parallel_size", "lower it")
    ranks = gpus // parallel if fsdp is not None else 1
    _multiple(
        mini * n,
        ranks,
        f"a mini-batch of {mini} prompts x {n} responses",
        "the data-parallel ranks",
        "change actor.ppo_mini_batch_size, rollout.n or the number of GPUs",
    )
    _multiple(gpus, tensor, f"{nodes} x {per_node} GPUs", "rollout.tensor_model_parallel_size", "change it")
    if tensor > per_node:
        raise PlanError(f"rollout.tensor_model_parallel_size={tensor} is more than the {per_node} GPUs of a node")
    trained = f"{ranks} FSDP ranks" if fsdp is not None else "Megatron, whose ranks and memory are not checked"
    lines.append(("GPUs", f"{nodes} x {per_node}: {trained}, {gpus // tensor} vLLM engines of {tensor}"))
    lines.append(
        (
            "batch",
            f"{prompts} prompts x {n} = {prompts * n} responses a step, {prompts // mini} updates of {mini} x {n} = "
            f"{mini * n}" + (f", {mini * n // ranks} on each rank" if fsdp is not None else ""),
        )
    )

    length = data.max_prompt_length + data.max_response_length
    model = describe_model(worker.model.path)
    if rollout.max_model_len is not None and rollout.max_model_len < length:
        raise PlanError(f"rollout.max_model_len={rollout.max_model_len} is less than prompt + response = {length}")
    if model is not None:
        if length > model.context:
            raise PlanError(
                f"data.max_prompt_length + max_response_length = {length} is longer than the context of "
                f"{worker.model.path}, {model.context}; lower one of them"
            )
        _multiple(model.heads, tensor, "the model's attention heads", "rollout.tensor_model_parallel_size", "change it")
    if not actor.use_dynamic_bsz and actor.ppo_micro_batch_size_per_gpu is None:
        raise PlanError("actor.ppo_micro_batch_size_per_gpu is not set; set it, or actor.use_dynamic_bsz=True")
    micro = actor.ppo_max_token_len_per_gpu if actor.use_dynamic_bsz else actor.ppo_micro_batch_size_per_gpu * length
    if actor.use_dynamic_bsz and micro * parallel < length:
        raise PlanError(f"actor.ppo_max_token_len_per_gpu={micro} is less than one prompt + response = {length}")
    responses = prompts * n
    lines.append(
        (
            "tokens",
            f"at most {data.max_prompt_length} + {data.max_response_length} each, so at most "
            f"{responses * length:,} a step, of which {responses * data.max_response_length:,} are generated",
        )
    )

    train = check_files(data.train_files, "data.train_files", absent_ok)
    held_out = check_files(data.val_files, "data.val_files", absent_ok)
    if train.split()[0].isdigit() and int(train.split()[0]) < prompts:
        raise PlanError(f"data.train_files has {train}, less than one step's {prompts} (data.train_batch_size)")
    samples = rollout.val_kwargs.n
    lines += [
        ("training", train),
        ("validation", f"{held_out}; {samples} responses to each, every {trainer.test_freq} steps"),
    ]

    if model is None:
        lines.append(("memory", f"{worker.model.path} is not on this disk, so its context and memory are not checked"))
    elif fsdp is not None:
        lines.append(("memory", memory_floor(config, model, ranks * parallel, tensor, micro)))
    name = f"{trainer.project_name}/{trainer.experiment_name}"
    lines.append(("run", f"{trainer.total_training_steps} steps of {name}; checkpoints in {trainer.default_local_dir}"))
    return lines


def memory_floor(config: Any, model: Model, shards: int, tensor: int, micro_tokens: int) -> str:
    """The least memory that each GPU needs, in words: what cannot be avoided, without activations and fragmentation.

    Training: weights, gradients and two Adam moments in float32 (16 bytes a parameter, over the FSDP shards), and the
    logits of one micro-batch with their gradient (bfloat16, 4 bytes). Generation: vLLM's weights in bfloat16 and, where
    they are not offloaded, the sharded weights and moments (12 bytes). With LoRA only the weights (4 bytes): what its
    adapters need is not counted.

    Raises:
        PlanError: this machine's GPUs have less.
    """
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    lora = (config.actor_rollout_ref.model.get("lora_rank") or 0) > 0
    training = (4 if lora else 16) * model.parameters / shards + 4 * micro_tokens * model.vocabulary
    resident = 4 * (not actor.fsdp_config.param_offload) + 8 * (not actor.fsdp_config.optimizer_offload and not lora)
    generation = 2 * model.parameters / tensor + resident * model.parameters / shards
    floor = max(training, generation)
    words = (
        f"at least {floor / GIB:.3g} GiB a GPU for {model.parameters / 1e9:.3g} B parameters (training "
        f"{training / GIB:.3g}, generation {generation / GIB:.3g} before its KV cache), activations "
        f"{'and adapters ' if lora else ''}not counted"
    )
    import torch

    if config.trainer.device == "cuda" and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        if floor > total:
            raise PlanError(
                f"{words}; the GPU here has {total / GIB:.3g} GiB. More GPUs, a smaller ppo_max_token_len_per_gpu, or "
                "actor.fsdp_config.{param,optimizer}_offload=True would help"
            )
        words += f"; the GPU here has {total / GIB:.3g}"
    return words + f"; vLLM takes {rollout.gpu_memory_utilization:g} of it while it generates"


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["-h"], ["--help"]):
        print(__doc__)
        return 0
    absent_ok = None
    if arguments[:1] == ["--absent-ok"]:
        absent_ok = Path(arguments[1])
        del arguments[:2]
    if arguments[:1] == ["--"]:
        del arguments[0]
    lines: list[tuple[str, str]] = []

    def instead_of_training(config: Any, task_runner_class: Any = None) -> None:
        lines.extend(plan(config, absent_ok))

    # Hydra must raise its errors here, and leave no folder behind.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    dry = ["hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null", "hydra.run.dir=."]
    before = sys.argv
    try:
        from verl.trainer import main_ppo

        main_ppo.run_ppo, original = instead_of_training, main_ppo.run_ppo
        sys.argv = ["main_ppo", *arguments, *dry]
        try:
            main_ppo.main()
        finally:
            main_ppo.run_ppo = original
    except Exception as error:
        text = " ".join(part.strip() for part in str(error).strip().splitlines() if part.strip())
        print(f"error: {text or type(error).__name__}", file=sys.stderr)
        return 1
    finally:
        sys.argv = before
    width = max(len(topic) for topic, _ in lines)
    for topic, words in lines:
        print(f"{topic:<{width}}  {words}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
