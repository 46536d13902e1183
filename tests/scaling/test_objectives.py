"""Every recipe against its paper's formula; the parts that recipes share against their laws."""

import jax
import jax.numpy as jnp
import numpy as np
import papers
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from scaling.objectives import (
    advantages,
    informative,
    kl_k3,
    overlong_penalty,
    policy_term,
    step_credit,
    token_logp,
    weights,
)
from scaling.recipes import RECIPES, Recipe

P, G, T = 4, 4, 6
LONGEST = 9
REWARDS = np.array([[1, 0, 0, 1], [1, 1, 1, 1], [0, 0, 1, 0.5], [0, 0, 0, 0.0]])
"""Groups with and without variance."""


class Case:
    """Completions of 1 to T tokens whose ratios to the old policy reach past both clips, cispo's too."""

    def __init__(self, seed: int):
        rng = np.random.default_rng(seed)
        self.mask = np.arange(T) < rng.integers(1, T + 1, P * G)[:, None]
        self.mask[0] = True
        self.logp = -rng.exponential(1.0, (P * G, T)) - 0.1
        self.log_ratio = rng.normal(size=(P * G, T)) * rng.choice([0.05, 0.4, 2.0], (P * G, T))
        for kink in np.log([0.8, 1.2, 1.28, 5.0]):  # finite differences must not cross one
            near = abs(self.log_ratio - kink) < 1e-2
            self.log_ratio[near] += 3e-2
        self.reference = self.logp + 0.3 * rng.normal(size=(P * G, T))

    @property
    def old(self) -> np.ndarray:
        return self.logp - self.log_ratio

    def nested(self, x_BxT: np.ndarray) -> list:
        """Row p·G + g as [p][g], cut to its length."""
        rows = [row[mask].tolist() for row, mask in zip(x_BxT, self.mask, strict=True)]
        return [rows[p * G : (p + 1) * G] for p in range(P)]


def our_loss(name: str, case: Case, logp: jax.Array, kl: float = 0.0) -> jax.Array:
    """The loss as training puts it together from this module."""
    recipe = RECIPES[name]
    kept = informative(REWARDS) if recipe.zero_variance != "keep" else np.ones(P, bool)
    weight = jnp.asarray(weights(case.mask, kept, recipe, LONGEST))
    advantage = np.repeat(advantages(REWARDS, recipe).reshape(-1, 1), T, axis=1)
    term, _ = policy_term(logp, case.old, advantage, recipe)
    return -(weight * (term - kl * kl_k3(logp, jnp.asarray(case.reference)))).sum()


def paper_loss(name: str, case: Case, logp: np.ndarray, kl: float = 0.0) -> float:
    fixed, old, reference = map(case.nested, (case.logp, case.old, case.reference))
    k = (kl, reference) if kl else None
    return papers.LOSSES[name](REWARDS.tolist(), case.nested(logp), fixed, old, LONGEST, k)


CASES = [(name, 0.0) for name in RECIPES] + [("grpo", 0.3)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "kl"), CASES)
def test_loss_is_the_papers(name, kl, seed):
    case = Case(seed)
    ours = float(our_loss(name, case, jnp.asarray(case.logp), kl))
    assert ours == pytest.approx(paper_loss(name, case, case.logp, kl), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("name", "kl"), CASES)
def test_gradient_is_the_papers(name, kl):
    """By central differences of the paper's loss; where the paper stops the gradient, so do they."""
    case, step = Case(3), 1e-5
    ours = np.asarray(jax.grad(lambda x: our_loss(name, case, x, kl))(jnp.asarray(case.logp)))
    theirs = np.zeros_like(case.logp)
    for at in zip(*np.nonzero(case.mask), strict=True):
        up, down = case.logp.copy(), case.logp.copy()
        up[at] += step
        down[at] -= step
        theirs[at] = (paper_loss(name, case, up, kl) - paper_loss(name, case, down, kl)) / (2 * step)
    np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    assert (ours[~case.mask] == 0).all()
    assert np.abs(ours).max() > 0.01


@pytest.mark.parametrize(
    ("ratio", "advantage", "clipped"),
    [
        (1.5, 1.0, True),
        (1.5, -1.0, False),
        (0.5, 1.0, False),
        (0.5, -1.0, True),
        (1.1, 1.0, False),
        (1.0, 0.0, False),
    ],
)
def test_clipping_acts_only_where_it_makes_the_term_smaller(ratio, advantage, clipped):
    def term(x):
        return policy_term(x, jnp.zeros(1), jnp.full(1, advantage), RECIPES["grpo"])[0].sum()

    logp = jnp.log(jnp.full(1, ratio))
    assert policy_term(logp, jnp.zeros(1), jnp.full(1, advantage), RECIPES["grpo"])[1].tolist() == [clipped]
    assert float(jax.grad(term)(logp)[0]) == pytest.approx(0.0 if clipped else ratio * advantage, abs=1e-6)


def test_cispo_goes_on_learning_from_clipped_tokens():
    logp = jnp.log(jnp.array([2.0, 9.0]))
    grad = jax.grad(lambda x: policy_term(x, jnp.zeros(2), -jnp.ones(2), RECIPES["cispo"])[0].sum())(logp)
    assert np.allclose(grad, [-2.0, -5.0])
    assert policy_term(logp, jnp.zeros(2), -jnp.ones(2), RECIPES["cispo"])[1].tolist() == [False, True]


groups = hnp.arrays(
    np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6), elements=st.floats(-1, 1)
)


@given(groups, st.sampled_from(list(RECIPES.values())))
def test_advantages_of_a_group_sum_to_zero_and_keep_the_order(rewards, recipe):
    got = advantages(rewards, recipe)
    assert np.isfinite(got).all()
    assert np.allclose(got.sum(axis=1), 0, atol=1e-6 * max(abs(got).max(), 1))
    order = np.argsort(rewards, axis=1, kind="stable")
    assert (np.diff(np.take_along_axis(got, order, axis=1), axis=1) >= 0).all()


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_group_of_one_is_refused(recipe):
    with pytest.raises(ValueError, match=r"rl\.samples: 1 "):
        advantages(np.ones((3, 1)), recipe)


def test_equal_rewards_teach_nothing():
    for recipe in RECIPES.values():
        assert advantages(np.full((2, 4), 0.7), recipe) == pytest.approx(0)
    assert informative(REWARDS).tolist() == [True, False, True, False]


@given(st.integers(0, 40), st.integers(1, 40))
def test_overlong_penalty_is_dapos(thinking, budget):
    got = overlong_penalty(np.array([thinking]), budget, RECIPES["dapo"])[0]
    assert got == pytest.approx(papers.overlong(thinking, budget, 0.2 * budget), abs=1e-9)
    for name in ("rloo", "grpo", "dr_grpo", "cispo"):
        assert overlong_penalty(np.array([thinking]), budget, RECIPES[name])[0] == 0


def test_overlong_penalty_without_a_budget_is_none():
    assert overlong_penalty(np.array([0, 0]), 0, RECIPES["dapo"]).tolist() == [0, 0]


AGGREGATES = ("sequence_sum", "sequence_mean", "constant", "token_mean", "prompt_mean")


@given(st.data(), st.sampled_from(AGGREGATES), st.integers(1, 4), st.integers(2, 4))
def test_weights_sum_to_what_their_mean_says(data, aggregate, prompts, group):
    lengths = np.array(data.draw(st.lists(st.integers(1, T), min_size=prompts * group, max_size=prompts * group)))
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=prompts, max_size=prompts)))
    mask = np.arange(T) < lengths[:, None]
    got = weights(mask, kept, Recipe("", "group_mean", "none", "reinforce", aggregate), LONGEST)
    used = mask & np.repeat(kept, group)[:, None]
    assert ((got > 0) == used).all()
    if not kept.any():
        return
    samples, tokens = kept.sum() * group, used.sum()
    expected = {"sequence_sum": tokens / samples, "constant": tokens / (samples * LONGEST)}.get(aggregate, 1.0)
    assert got.sum() == pytest.approx(expected)
    by_sequence, by_prompt = got.sum(axis=1)[np.repeat(kept, group)], got.reshape(prompts, -1).sum(axis=1)[kept]
    if aggregate == "sequence_mean":
        assert np.allclose(by_sequence, 1 / samples)
    if aggregate == "prompt_mean":
        assert np.allclose(by_prompt, 1 / kept.sum())
    if aggregate != "sequence_mean":  # within a prompt every token weighs the same
        for rows in np.split(got, prompts):
            assert len(set(rows[rows > 0].tolist())) <= 1


tokens = hnp.arrays(np.int32, st.tuples(st.integers(1, 4), st.integers(1, 8)), elements=st.integers(0, 5))


@given(tokens, st.floats(0.05, 1.0))
def test_step_credit_rises_to_one_at_the_outcome(tokens, discount):
    got = step_credit(tokens, (3, 4), discount)
    assert got.shape == tokens.shape
    assert (np.diff(got, axis=1) >= 0).all() and (got > 0).all() and (got <= 1).all()
    after_last = ~np.isin(tokens, (3, 4))[:, ::-1].cumsum(axis=1).astype(bool)[:, ::-1]
    assert (got[after_last] == 1).all()
    assert (step_credit(tokens, (3, 4), 1.0) == 1).all()
    assert (step_credit(tokens, (), discount) == 1).all()


def test_step_credit_by_hand():
    """Two steps, each ended by token 3, then the answer: the first step is two steps from the outcome."""
    got = step_credit(np.array([[7, 3, 8, 8, 3, 2, 9, 1, 0]]), (3,), 0.5)
    assert got.tolist() == [[0.25, 0.25, 0.5, 0.5, 0.5, 1, 1, 1, 1]]


@settings(deadline=None)
@given(st.floats(-8, 0), st.floats(-8, 0))
def test_k3_is_never_negative_and_zero_only_at_the_reference(logp, reference):
    got = float(kl_k3(jnp.float32(logp), jnp.float32(reference)))
    assert got == pytest.approx(papers.k3(logp, reference), rel=1e-4, abs=1e-5)
    assert got >= -1e-6
    assert float(kl_k3(jnp.float32(logp), jnp.float32(logp))) == 0
    assume(abs(logp - reference) > 0.1)
    assert got > 1e-3


def test_k3_has_the_kl_as_its_mean():
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    mean = float((p * kl_k3(jnp.log(p), jnp.log(q))).sum())
    assert mean == pytest.approx((p * np.log(p / q)).sum(), abs=1e-6)


def test_token_log_probabilities_and_entropies():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(2, 3, 5)) * 4, rng.integers(1, 5, (2, 3))
    logits[..., 0] = -1e30
    picked, entropy = token_logp(jnp.asarray(logits, jnp.float32), jnp.asarray(targets))
    for b in range(2):
        for t in range(3):
            probability = np.exp(logits[b, t]) / np.exp(logits[b, t]).sum()
            assert float(picked[b, t]) == pytest.approx(np.log(probability[targets[b, t]]), abs=1e-4)
            expected = -sum(p * np.log(p) for p in probability if p > 0)
            assert float(entropy[b, t]) == pytest.approx(expected, abs=1e-4)
