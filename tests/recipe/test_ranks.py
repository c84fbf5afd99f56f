"""On four FSDP2 ranks, what the estimator and the loss say to the other ranks: nothing that verl's own do not."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

RANKS = 4


def work(rank: int, store: str) -> None:
    """One rank: a training step with either loss, and the collectives of each as `CommDebugMode` counts them."""
    from torch import distributed, nn
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor.debug import CommDebugMode
    from verl.trainer.ppo.core_algos import compute_policy_loss_vanilla
    from verl.workers.config import FSDPActorConfig

    from recipe.asymgrpo.advantage import compute_asym_grpo_advantage
    from recipe.asymgrpo.loss_config import EntropyModulatedLossConfig
    from recipe.asymgrpo.policy_loss import compute_policy_loss_entropy_modulated

    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=RANKS)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(17, 32), nn.Linear(32, 17))
    fully_shard(model, mesh=init_device_mesh("cpu", (RANKS,)))
    tokens, mask, rewards = torch.randint(17, (8, 16)), torch.ones(8, 16, dtype=torch.int64), torch.zeros(8, 16)
    rewards[: 1 + rank, -1] = 1
    config = FSDPActorConfig(
        strategy="fsdp2",
        ppo_micro_batch_size_per_gpu=1,
        rollout_n=8,
        use_torch_compile=False,
        policy_loss=EntropyModulatedLossConfig(informative_coef=0.3, spurious_coef=0.1),
    )
    counts = {}
    with CommDebugMode() as mode:
        advantages, _ = compute_asym_grpo_advantage(rewards, mask, np.array(["one"] * 8, dtype=object), {})
    counts["estimator"] = mode.get_comm_counts()
    for loss_fn in (compute_policy_loss_vanilla, compute_policy_loss_entropy_modulated):
        with CommDebugMode() as mode:
            log_prob = model(tokens).log_softmax(-1).gather(-1, tokens[..., None]).squeeze(-1)
            loss, _ = loss_fn(log_prob.detach() - 0.1, log_prob, advantages, mask, "token-mean", config)
            loss.backward()
        counts[loss_fn.__name__] = mode.get_comm_counts()
    with open(f"{store}-{rank}.json", "w") as file:
        json.dump({part: {str(op): count for op, count in ops.items()} for part, ops in counts.items()}, file)
    distributed.destroy_process_group()


@pytest.mark.ci
def test_no_communication_is_added(tmp_path):
    store = tmp_path / "store"
    done = subprocess.run([sys.executable, __file__, store], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for rank in range(RANKS):
        counts = json.loads((tmp_path / f"store-{rank}.json").read_text())
        assert counts["estimator"] == {}
        assert counts["compute_policy_loss_entropy_modulated"] == counts["compute_policy_loss_vanilla"]
        assert sum(counts["compute_policy_loss_vanilla"].values()) > 0, "nothing was counted"


if __name__ == "__main__":
    torch.multiprocessing.spawn(work, (sys.argv[1],), nprocs=RANKS)
