"""Registers AsymGRPO with verl: ``VERL_USE_EXTERNAL_MODULES=recipe.asymgrpo.register``.

verl imports this module in every process that imports verl: in the driver; in the TaskRunner, which asks for
``algorithm.adv_estimator=asym_grpo``; and in the workers, which ask for the loss ``entropy_modulated``. verl itself is
half imported then, so nothing is imported here that needs more of it than the two tables.
"""

from verl.trainer.ppo.core_algos import register_adv_est, register_policy_loss

from recipe.asymgrpo.advantage import compute_asym_grpo_advantage
from recipe.asymgrpo.policy_loss import compute_policy_loss_entropy_modulated

register_adv_est("asym_grpo")(compute_asym_grpo_advantage)
register_policy_loss("entropy_modulated")(compute_policy_loss_entropy_modulated)
