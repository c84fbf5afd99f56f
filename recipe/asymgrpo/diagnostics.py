"""What a training step tells about its groups, as plain floats for a log.

A step's facts are kept as sums over its groups and rows (:class:`Sums`), because a trainer may call the estimator
several times before it logs once: sums of two calls add up to the sums of both. docs/metrics.md explains every key.

Shapes: B rows in the batch, N of them counted, P groups, T tokens.
"""

from __future__ import annotations

from collections import Counter, defaultdict

import torch
from torch import Tensor

from recipe.asymgrpo.groups import Groups
from recipe.asymgrpo.pass_at_k import pass_at_k

PREFIX = "asymgrpo/"
BINS = ("0_20", "20_40", "40_60", "60_80", "80_100")
"""Bins of the group accuracy p in percent: [0, 20), ..., [80, 100]."""


class Sums(defaultdict[str, float]):
    """Sums over groups and rows by name, 0 where there is none."""

    def __init__(self, **sums: float):
        super().__init__(float, **sums)

    def add(self, other: Sums) -> None:
        for name, value in other.items():
            self[name] += value


def bin_of(successes: Tensor, sizes: Tensor) -> Tensor:
    """(P,) int64 in [0, 5): the bin of each group's accuracy; in integers, so that 1/5 is never just below 0.2."""
    return torch.clamp(successes * len(BINS) // sizes, max=len(BINS) - 1)


def group_sums(groups: Groups, advantages: Tensor, rows: int) -> Sums:
    """The sums that one call of the estimator adds to its step.

    Args:
        groups: N counted rows in P groups.
        advantages: (N,) of the counted rows.
        rows: B, counted or not.
    """
    advantages = advantages.double()
    positive, negative = advantages.clamp(min=0), advantages.clamp(max=0)
    sums = Sums(
        groups=len(groups.sizes),
        none=int((groups.successes == 0).sum()),
        all=int((groups.successes == groups.sizes).sum()),
        accuracy=float((groups.successes / groups.sizes).sum()),
        rows=len(advantages),
        padding=rows - len(advantages),
        positive_rows=int((advantages > 0).sum()),
        negative_rows=int((advantages < 0).sum()),
        positive_mass=float(positive.sum()),
        negative_mass=-float(negative.sum()),
    )
    counts = torch.bincount(bin_of(groups.successes, groups.sizes), minlength=len(BINS))
    alike = Counter(zip(groups.sizes.tolist(), groups.successes.tolist(), strict=True))
    largest = max((n for n, _ in alike), default=0)
    for k in (1 << i for i in range(largest.bit_length())):  # powers of two: rejected samples make odd sizes
        enough = {pair: number for pair, number in alike.items() if pair[0] >= k}
        sums[f"pass_groups_{k}"] = sum(enough.values())
        sums[f"pass_{k}"] = sum(number * pass_at_k(*pair, k) for pair, number in enough.items())
    sums.update({f"bin_{name}": number for name, number in zip(BINS, counts.tolist(), strict=True)})
    return sums


def truncation_sums(groups: Groups, response_mask: Tensor, limit: int) -> Sums:
    """How many groups have a response that was cut off: whose last own token is the `limit`-th of the response.

    Args:
        groups: N counted rows in P groups.
        response_mask: (B, T), non-zero where a token is the model's.
        limit: verl's `data.max_response_length`.
    """
    if response_mask.shape[1] < limit:  # the batch is cut to its longest response
        cut = torch.zeros(len(groups.sizes), dtype=torch.bool)
    else:
        reached = (response_mask[:, limit - 1] != 0).cpu()[groups.rows]
        cut = torch.bincount(groups.ids[reached], minlength=len(groups.sizes)) > 0
    return Sums(truncated=int(cut.sum()), truncated_groups=len(groups.sizes))


def covariance_sums(groups: Groups, advantages: Tensor, log_probs: Tensor, response_mask: Tensor) -> Sums:
    """Covariance of log-probability and advantage in each group, summed over the groups of a bin of p.

    In a group of n responses, Cov(log pi(y), A(y)) with divisor n - 1, where log pi(y) is the sum over the response's
    own tokens: the entropy change of one step on that prompt is -eta times it to first order (arXiv 2604.04894,
    section on entropy dynamics). A group of one response has none, nor one with a response that its policy could not
    have sampled (-inf at a token, as top-k sampling and masked logits leave it).

    Args:
        groups: N counted rows in P groups.
        advantages: (N,) of the counted rows.
        log_probs: (B, T) of the sampled tokens in nats, under the policy before the update.
        response_mask: (B, T), non-zero where a token is the model's.
    """
    # The few row sums in float64, after one pass over B x T in the log-probabilities' own precision.
    x = torch.where(response_mask != 0, log_probs, 0.0).sum(-1).double().cpu()[groups.rows]
    y = advantages.double()
    count, size = len(groups.sizes), groups.sizes.double()

    def centred(values: Tensor) -> Tensor:
        mean = torch.zeros(count, dtype=torch.float64).index_add_(0, groups.ids, values) / size
        return values - mean[groups.ids]

    products = torch.zeros(count, dtype=torch.float64).index_add_(0, groups.ids, centred(x) * centred(y))
    pairs = (groups.sizes > 1) & products.isfinite()
    covariances = products[pairs] / (size[pairs] - 1)
    bins = bin_of(groups.successes, groups.sizes)[pairs]
    totals = torch.zeros(len(BINS), dtype=torch.float64).index_add_(0, bins, covariances)
    counts = torch.bincount(bins, minlength=len(BINS))
    sums = Sums()
    for name, total, number in zip(BINS, totals.tolist(), counts.tolist(), strict=True):
        sums[f"cov_{name}"], sums[f"cov_groups_{name}"] = total, number
    return sums


def metrics(sums: Sums) -> dict[str, float]:
    """The figures to log. A figure without anything to average over (no group, no group in a bin) is left out."""
    found: dict[str, float] = {"groups": sums["groups"], "padding_rows": sums["padding"]}
    if sums["groups"]:
        for key, name in (("none_solved", "none"), ("all_solved", "all"), ("group_accuracy", "accuracy")):
            found[key] = sums[name] / sums["groups"]
        found["some_solved"] = (sums["groups"] - sums["none"] - sums["all"]) / sums["groups"]
        found |= {f"p_hist/{name}": sums[f"bin_{name}"] / sums["groups"] for name in BINS}
        for name in list(sums):
            if name.startswith("pass_groups_") and sums[name]:
                k = name.rpartition("_")[2]
                found[f"pass_at/{k}"] = sums[f"pass_{k}"] / sums[name]
        found["zero_adv_rows"] = 1 - (sums["positive_rows"] + sums["negative_rows"]) / sums["rows"]
        for name, sign in (("positive", 1), ("negative", -1)):
            if sums[f"{name}_rows"]:
                found[f"adv_{name}"] = sign * sums[f"{name}_mass"] / sums[f"{name}_rows"]
        mass = sums["positive_mass"] + sums["negative_mass"]
        if mass:
            found["adv_mass_positive"] = sums["positive_mass"] / mass
    if sums["truncated_groups"]:
        found["truncated_groups"] = sums["truncated"] / sums["truncated_groups"]
    pairs = sum(sums[f"cov_groups_{name}"] for name in BINS)
    if pairs:
        found["cov_logprob_adv"] = sum(sums[f"cov_{name}"] for name in BINS) / pairs
        for name in BINS:
            if sums[f"cov_groups_{name}"]:
                found[f"cov_by_p/{name}"] = sums[f"cov_{name}"] / sums[f"cov_groups_{name}"]
    return {PREFIX + key: float(value) for key, value in found.items()}
