"""The methods of the study: what a user of verl types, Hydra overrides. All else of a training is the quickstart's."""

from __future__ import annotations

GRPO = "algorithm.asym_grpo.preset=grpo"
LOSS = "actor_rollout_ref.actor.policy_loss"
BONUS_10 = "actor_rollout_ref.actor.entropy_coeff=0.01"

METHODS: dict[str, tuple[str, ...]] = {
    "asymgrpo": ("+asymgrpo=paper",),
    "grpo": ("+asymgrpo=grpo",),
    "reinforce": ("+asymgrpo=reinforce",),
    "pos_only": ("+asymgrpo=pos_only",),
    "neg_only": ("+asymgrpo=neg_only",),
    "ent_decrease": ("+asymgrpo=ent_decrease",),
    "ent_increase": ("+asymgrpo=ent_increase",),
    "asymgrpo_clip_higher": ("+asymgrpo=clip_higher",),
    "grpo_clip_higher": ("+asymgrpo=clip_higher", GRPO),
    "grpo_entropy_bonus": ("+asymgrpo=entropy_bonus", GRPO),
    "grpo_entropy_bonus_10": ("+asymgrpo=entropy_bonus", GRPO, BONUS_10),
    "dr_grpo": ("+asymgrpo=dr_grpo",),
    "maxrl": ("+asymgrpo=maxrl",),
    "w_reinforce": ("+asymgrpo=w_reinforce",),
    "grpo_clip_cov": ("+asymgrpo=grpo", f"{LOSS}.loss_mode=clip_cov"),
    "grpo_kl_cov": ("+asymgrpo=grpo", f"{LOSS}.loss_mode=kl_cov"),
}
LOSS_CHOSEN = (0.1, 0.0)  # informative_coef and spurious_coef: best mean over both tasks of group `coefficients`


def coefficient_overrides(informative: float, spurious: float) -> tuple[str, ...]:
    """Our loss with these coefficients."""
    return ("+asymgrpo=modulated", f"{LOSS}.informative_coef={informative:g}", f"{LOSS}.spurious_coef={spurious:g}")


METHODS["modulated"] = coefficient_overrides(*LOSS_CHOSEN)
LONG_METHODS: dict[str, tuple[str, ...]] = {
    "grpo": METHODS["grpo"],
    "asymgrpo": METHODS["asymgrpo"],
    "modulated_0.3": coefficient_overrides(0.3, 0),
    "maxrl": METHODS["maxrl"],
    "grpo_modulated_0.3": (*coefficient_overrides(0.3, 0), GRPO),
    "grpo_entropy_bonus_10": METHODS["grpo_entropy_bonus_10"],
    "asymgrpo_entropy_bonus_10": ("+asymgrpo=entropy_bonus", BONUS_10),
    "grpo_clip_higher": METHODS["grpo_clip_higher"],
    "asymgrpo_clip_higher": METHODS["asymgrpo_clip_higher"],
    "modulated_1": coefficient_overrides(1, 0),
    "modulated_0.1": coefficient_overrides(0.1, 0),
    "modulated_0.3_0.1": coefficient_overrides(0.3, 0.1),
    "pos_only": METHODS["pos_only"],
    "grpo_entropy_bonus": METHODS["grpo_entropy_bonus"],
    "grpo_clip_cov": METHODS["grpo_clip_cov"],
    "grpo_kl_cov": METHODS["grpo_kl_cov"],
}
"""Of the long runs, in the order in which a seed runs them."""
OTHER_TASK_METHODS = (
    "grpo",
    "asymgrpo",
    "maxrl",
    "modulated_0.3",
    "grpo_modulated_0.3",
    "grpo_entropy_bonus_10",
    "asymgrpo_clip_higher",
    "grpo_clip_higher",
)
"""Of the long runs on another task than the two of the short ones."""
LARGE_METHODS = ("grpo", "asymgrpo", "modulated_0.3")
BASES = ("grpo", "asymgrpo")
WAYS = ("successes", "failures", "both", "bonus", "repo", "weights", "filter")
FLOORS = ("0.5", "0.4", "0.7", "fall")  # the step size is chosen at the first
CONTROL = "algorithm.asym_grpo.entropy_control"


def control_overrides(base: str, way: str, floor: str) -> tuple[str, ...]:
    """A method under an entropy floor, in shares of the first step's entropy; `fall`: from 1 to 0.4 over the run."""
    word = {"grpo": "grpo", "asymgrpo": "paper"}[base]
    levels = (f"{CONTROL}.floor=1", f"{CONTROL}.final_floor=0.4") if floor == "fall" else (f"{CONTROL}.floor={floor}",)
    return (f"+asymgrpo=[{word},entropy_floor]", f"{CONTROL}.way={way}", *levels)


CONTROL_METHODS: dict[str, tuple[str, ...]] = {
    f"{base}_{way}_{floor}": control_overrides(base, way, floor) for floor in FLOORS for base in BASES for way in WAYS
}
"""Of the entropy control, beside `grpo` and `asymgrpo` without it."""
LONGER_METHODS = LONG_METHODS | CONTROL_METHODS
"""All that runs longer than the short groups."""
CHANNELS = ("successes", "failures", "both")
CHANNEL_FLOORS = ("0.42", "0.5", "0.6", "0.75")  # above where the runs without a floor end, at 0.3 and 0.4
BONUSES = (0.05, 0.1, 0.3)  # too large
CEILINGS = {"_ceiling": "both", "_ceiling_bonus": "bonus"}  # the ways that are tried against them
HEADLINE = tuple(METHODS)[:9]  # these run in verl itself
LABELS = {
    "asymgrpo": "AsymGRPO",
    "grpo": "GRPO",
    "reinforce": "REINFORCE",
    "pos_only": "Pos-only",
    "neg_only": "Neg-only",
    "ent_decrease": "EntDecrease",
    "ent_increase": "EntIncrease",
    "asymgrpo_clip_higher": "AsymGRPO + clip-higher",
    "grpo_clip_higher": "GRPO + clip-higher",
    "grpo_entropy_bonus": "GRPO + entropy bonus 0.001",
    "grpo_entropy_bonus_10": "GRPO + entropy bonus 0.01",
    "dr_grpo": "Dr. GRPO",
    "maxrl": "MaxRL",
    "w_reinforce": "W-REINFORCE",
    "grpo_clip_cov": "GRPO + Clip-Cov",
    "grpo_kl_cov": "GRPO + KL-Cov",
    "modulated": "AsymGRPO + modulated loss",
    "modulated_0.1": "AsymGRPO + modulated 0.1",
    "modulated_0.3": "AsymGRPO + modulated 0.3",
    "modulated_1": "AsymGRPO + modulated 1",
    "modulated_0.3_0.1": "AsymGRPO + modulated 0.3, 0.1",
    "grpo_modulated_0.3": "GRPO + modulated 0.3",
    "asymgrpo_entropy_bonus_10": "AsymGRPO + entropy bonus 0.01",
}
LABELS |= {
    f"{base}_{way}_{floor}": f"{LABELS[base]}, {way} {floor}"
    for base in BASES
    for way in WAYS
    for floor in dict.fromkeys((*FLOORS, *CHANNEL_FLOORS))
}
LABELS["asymgrpo_modulated_0.3"] = LABELS["modulated_0.3"]
LABELS |= {
    f"grpo_bonus_{bonus:g}{held}": f"GRPO + entropy bonus {bonus:g}{words}"
    for bonus in BONUSES
    for held, words in (("", ""), *((end, f", ceiling 1 by `{way}`") for end, way in CEILINGS.items()))
}
