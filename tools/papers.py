"""Every published method that is here, and the command that runs it: the table of docs/papers.md.

    python tools/papers.py

Papers, names and knobs come from the presets and from the ways of the entropy control; what differs is written here.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that a checkout needs no installation

from recipe.asymgrpo.curves import PRESETS
from recipe.asymgrpo.entropy_control import WAYS

TITLES = {
    "2604.04894": "AsymGRPO",
    "2402.03300": "GRPO (DeepSeekMath)",
    "2602.02710": "MaxRL",
    "2506.01347": "Negative sample reinforcement",
    "2503.20783": "Dr. GRPO",
    "2402.14740": "RLOO",
    "2602.06717": "F-GRPO",
    "2607.01490": "FADE",
    "2602.05548": "A-GRAE",
    "2602.11128": "sqrt-R curves",
    "2509.22611": "Quantile advantage (QAE)",
    "2508.10751": "Pass@k training",
    "2503.14476": "DAPO",
    "2505.22312": "Skywork-OR1",
    "2603.11682": "REPO",
    "2511.15248": "EntroPIC",
    "2604.26326": "Entrocraft",
    "2505.22617": "Clip-Cov, KL-Cov",
}
CONTROL = "algorithm.asym_grpo.entropy_control"
LOSS = "actor_rollout_ref.actor.policy_loss.loss_mode"
WORDS = (  # (paper, name, command): what is neither a preset nor a way
    ("2604.04894", "AsymGRPO, whole", "+asymgrpo=paper"),
    ("2604.04894", "AsymGRPO + clip-higher", "+asymgrpo=clip_higher"),
    ("2604.04894", "AsymGRPO + entropy bonus", "+asymgrpo=entropy_bonus"),
    ("2503.14476", "clip-higher on GRPO", "+asymgrpo=clip_higher algorithm.asym_grpo.preset=grpo"),
    ("2505.22617", "Clip-Cov", f"+asymgrpo=grpo {LOSS}=clip_cov"),
    ("2505.22617", "KL-Cov", f"+asymgrpo=grpo {LOSS}=kl_cov"),
)
DIFFERS = {
    "asymgrpo": "the rule where all or none succeed is ours: the paper states none",
    "grpo": "population instead of sample deviation, no epsilon",
    "ent_decrease": "base and rule at the boundary are our reading",
    "ent_increase": "base and rule at the boundary are our reading",
    "dr_grpo": "its loss without length normalisation is "
    "`actor_rollout_ref.actor.loss_agg_mode=seq-mean-token-sum-norm`",
    "fade": 'constant alpha and delta. Its authors call their static ablation f = 1 - p, g = p / delta "AsymGRPO": '
    "`fade_alpha=1` here, not the method of 2604.04894",
    "fade_dynamic": "P and H of the batch instead of running averages, whose coefficient is open in the source that we "
    "know; H* as a share of the first step's entropy",
    "a_grae": "the paper's equations; its released code has another weight, in a branch that its scripts do not reach. "
    "Population deviation",
    "AsymGRPO + clip-higher": "the paper states no ratios; these are DAPO's",
    "AsymGRPO + entropy bonus": "the paper states no coefficient; 0.001 is ours",
    "clip-higher on GRPO": "of DAPO only its clip; its sampling is verl's `algorithm.filter_groups`",
    "Clip-Cov": "verl's own loss",
    "KL-Cov": "verl's own loss",
    "bonus": "an advantage instead of a loss term: its expected gradient in the first update of a batch. Answers in "
    "the same step; bound 0.5 as in the code's configuration, step 0.005 as in TRL's `use_adaptive_entropy`; the "
    "scripts have 0.005 and 0.0001",
    "repo": "no public code: bounds and first value from SkyRL's pull request #1896; log-probabilities of the policy "
    "that sampled; the paper's target is the first step's entropy (`floor=1 ceiling=1`)",
    "weights": "once a step instead of a micro-batch and rank; tokens of the policy that sampled; clipped by PPO",
    "filter": "Algorithm 1; the mean is over all rollouts, as in the code. The paper's band is `floor=0.6 ceiling=0.7 "
    "final_floor=0.1 final_ceiling=0.2 unit=nats`",
}


def rows() -> list[tuple[str, str, str, str]]:
    """(arXiv id, name, overrides, what differs) of each."""
    found = [(preset.arxiv, f"`{name}`: {preset.doc}", f"+asymgrpo={name}", name) for name, preset in PRESETS.items()]
    found += [(arxiv, name, command, name) for arxiv, name, command in WORDS]
    for name, way in WAYS.items():
        if way.arxiv:
            command = f"'+asymgrpo=[grpo,entropy_floor]' {CONTROL}.way={name}"
            found.append((way.arxiv, f"`{name}`: {way.doc}", command, name))
    order = list(TITLES)
    found.sort(key=lambda one: order.index(one[0]))
    return [(arxiv, name, command, DIFFERS.get(key, "")) for arxiv, name, command, key in found]


def markdown() -> str:
    lines = ["| paper | method | after `python -m verl.trainer.main_ppo` | what differs |", "|---|---|---|---|"]
    for arxiv, name, command, differs in rows():
        lines.append(f"| {TITLES[arxiv]} [{arxiv}](https://arxiv.org/abs/{arxiv}) | {name} | `{command}` | {differs} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0]).parse_args(argv)
    print(markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
