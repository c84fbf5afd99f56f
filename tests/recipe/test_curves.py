"""Every preset against an oracle written from the paper, in exact fractions, sharing no code with `curves.py`."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from recipe.asymgrpo.config import AsymGRPOConfig
from recipe.asymgrpo.curves import PRESETS, curves

GROUP_SIZES = [1, 2, 8, 64]


def mean_std(c: int, n: int, reward: int) -> float:
    """(r - mean) / population std of n rewards of which c are 1; 0 where all are equal."""
    mean = Fraction(c, n)
    variance = Fraction(c * (n - c), n * n)
    return 0.0 if variance == 0 else float(reward - mean) / math.sqrt(variance)


def paper_power(c: int, n: int, reward: int, beta: float) -> float:
    if c in (0, n):
        return 0.0  # positive exponents
    log_odds = math.log(n - c) - math.log(c)
    return math.exp(beta * log_odds) if reward else -math.exp(-beta * log_odds)


def oracle(preset: str, c: int, n: int, reward: int) -> float:
    """The advantage of a response with this reward in a group of n with c successes."""
    match preset, reward:
        case "asymgrpo", 1:
            return paper_power(c, n, 1, 0.9)
        case "asymgrpo", 0:
            return paper_power(c, n, 0, 0.4)
        case ("grpo", _) | ("pos_only", 1) | ("neg_only", 0) | ("ent_increase", 1) | ("ent_decrease", 0):
            return mean_std(c, n, reward)
        case ("reinforce", 1) | ("neg_only", 1):
            return 1.0
        case ("reinforce", 0) | ("pos_only", 0):
            return -1.0
        case "ent_decrease", 1:  # GRPO's positive curve with p and 1 - p exchanged
            return mean_std(n - c, n, 1)
        case "ent_increase", 0:
            return mean_std(n - c, n, 0)
        case "maxrl", 1:
            return float(Fraction(n - c, c))
        case "maxrl", 0:
            return -1.0 if c else 0.0
    raise AssertionError(preset)


def test_the_presets_are_those_of_the_paper_and_maxrl():
    names = ["asymgrpo", "grpo", "reinforce", "pos_only", "neg_only", "ent_decrease", "ent_increase", "maxrl"]
    assert list(PRESETS) == names
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert preset.doc
        assert preset.arxiv
        assert all(hasattr(AsymGRPOConfig(), knob) for knob in preset.knobs)
    assert all("our reading" in PRESETS[name].doc for name in ("ent_decrease", "ent_increase"))


@pytest.mark.parametrize("n", GROUP_SIZES)
@pytest.mark.parametrize("preset", PRESETS)
def test_closed_form_at_every_count(preset, n):
    counts = torch.arange(n + 1)
    f, g = curves(AsymGRPOConfig(preset), counts, torch.full((n + 1,), n))
    assert f.dtype == g.dtype == torch.float64
    for c in range(n + 1):
        if c > 0:  # a success exists
            assert f[c].float().item() == pytest.approx(oracle(preset, c, n, 1), rel=1e-6, abs=0)
        if c < n:
            assert -g[c].float().item() == pytest.approx(oracle(preset, c, n, 0), rel=1e-6, abs=0)


@pytest.mark.parametrize(("beta", "at_boundary"), [(2.5, 0.0), (1e-9, 0.0), (0.0, 1.0), (-1e-9, 0.0), (-2.5, 0.0)])
def test_boundary_is_the_formula_where_finite_and_zero_where_it_diverges(beta, at_boundary):
    config = AsymGRPOConfig(beta_pos=beta, beta_neg=beta)
    f, g = curves(config, torch.tensor([8, 0]), torch.tensor([8, 8]))
    assert f[0] == at_boundary  # p = 1: what a success gets
    assert g[1] == at_boundary  # p = 0: what a failure gets


def test_all_curves_pass_through_one_at_one_half():
    for preset in PRESETS:
        f, g = curves(AsymGRPOConfig(preset), torch.tensor([4]), torch.tensor([8]))
        assert (f.item(), g.item()) == (1.0, 1.0)


def test_a_negative_exponent_mirrors_p():
    counts, sizes = torch.arange(1, 8), torch.full((7,), 8)
    f, g = curves(AsymGRPOConfig(beta_pos=-0.7, beta_neg=-0.2), counts, sizes)
    mirrored_f, mirrored_g = curves(AsymGRPOConfig(beta_pos=0.7, beta_neg=0.2), sizes - counts, sizes)
    torch.testing.assert_close(f, mirrored_f)
    torch.testing.assert_close(g, mirrored_g)


def test_explicit_exponents_keep_the_presets_boundary():
    config = AsymGRPOConfig("maxrl", beta_neg=-1.0, beta_pos=2.0)
    f, g = curves(config, torch.tensor([0, 2]), torch.tensor([8, 8]))
    assert f[1] == 9.0
    assert g.tolist() == [0.0, 3.0]
    assert curves(AsymGRPOConfig("maxrl", beta_neg=0.0), torch.tensor([0]), torch.tensor([8]))[1] == 0.0


def test_a_large_power_of_finite_odds_is_not_mistaken_for_a_pole():
    f, _ = curves(AsymGRPOConfig(beta_pos=1000.0), torch.tensor([1]), torch.tensor([64]))
    assert f.item() == math.inf  # the estimator bounds it


def test_no_groups_give_no_curves():
    f, g = curves(AsymGRPOConfig(), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    assert f.shape == g.shape == (0,)
