"""One step's experience: pure, honestly counted, and weighted as the recipe's paper says."""

from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import papers
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import CONFIG, MODEL, STEP, TASK, VOCAB, Toy, model, problems, toy_experiment, with_rl

from scaling import flops, rl
from scaling.objectives import kl_k3, policy_term
from scaling.recipes import MOST_DRAWS, RECIPES
from scaling.rl import Completions, Experience, collect, rewards, rollout_cost, think_lengths
from scaling.tasks import ANSWER, END, PAD, Verdict
from scaling.timing import Stopwatch
from scaling.verifying import verify

GROUP, BUDGET = CONFIG.rl.samples, CONFIG.rl.budgets[0]


def experience(config=CONFIG, step: int = 0, task=TASK) -> Experience:
    return collect(toy_experiment(config, task), model()[1], Stopwatch(), step)


@cache
def of_recipe(name: str, step: int = 0) -> Experience:
    return experience(with_rl(recipe=name), step)


@pytest.fixture
def rewards_used(monkeypatch) -> list[np.ndarray]:
    """The rewards that advantages were computed from, a P×G array a step."""
    seen, compute = [], rl.advantages
    monkeypatch.setattr(
        rl, "advantages", lambda rewards, recipe: (seen.append(rewards), compute(rewards, recipe))[1]
    )
    return seen


def same(a: Experience, b: Experience) -> bool:
    parts = [
        all((x == y).all() for x, y in zip(p, q, strict=True)) for p, q in zip(a.batches, b.batches, strict=True)
    ]
    return all(parts) and (a.metrics, a.flops, a.tokens, a.budget) == (b.metrics, b.flops, b.tokens, b.budget)


def test_experience_is_a_pure_function_of_seed_and_step():
    again = experience(with_rl(recipe="rloo"))
    assert same(of_recipe("rloo"), again)
    for other in (of_recipe("rloo", 1), experience(replace(with_rl(recipe="rloo"), seed=1))):
        assert other.batches[0].tokens_BxT.tolist() != again.batches[0].tokens_BxT.tolist()
        assert other.batches[0].prompts_BxN.tolist() != again.batches[0].prompts_BxN.tolist()


def test_budgets_take_turns():
    config = with_rl(budgets=(BUDGET, 2))
    assert [experience(config, step).budget for step in range(3)] == [BUDGET, 2, BUDGET]
    assert experience(config, 1).batches[0].tokens_BxT.shape[1] == 2 + 1 + TASK.answer_tokens


def test_seconds_go_to_the_phases_of_a_rollout():
    watch = Stopwatch()
    collect(toy_experiment(), model()[1], watch, 0)
    assert set(watch.take()) == {"rollout", "verify", "other", "compile"}


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_learnt_from_gives_the_papers_loss(name, rewards_used):
    """From the tokens alone: judged again, and put through the paper's loops at another policy's probabilities."""
    config = with_rl(recipe=name)
    got = experience(config)
    (part,) = got.batches
    rng = np.random.default_rng(0)
    own = part.tokens_BxT != PAD
    rewards, logp, old = [], [], []
    new_BxT = part.old_logp_BxT + rng.normal(size=own.shape).astype(np.float32)
    for i, row in enumerate(part.tokens_BxT):
        row = row[row != PAD].tolist()
        think = next(t for t, token in enumerate(row) if token in (ANSWER, END))
        forced = think == BUDGET
        own[i, think] &= not forced
        verdict = TASK.verify(None, row)  # pyright: ignore[reportArgumentType]
        ramp = RECIPES[name].overlong * BUDGET
        rewards.append(float(verdict.correct) + (papers.overlong(think, BUDGET, ramp) if ramp else 0.0))
        logp.append(new_BxT[i][own[i]].astype(float).tolist())
        old.append(part.old_logp_BxT[i][own[i]].astype(float).tolist())
    rewards, logp, old = ([x[i : i + GROUP] for i in range(0, len(x), GROUP)] for x in (rewards, logp, old))
    np.testing.assert_allclose(rewards_used[0], rewards)
    expected = papers.LOSSES[name](rewards, logp, logp, old, BUDGET + 1 + TASK.answer_tokens)
    term, _ = policy_term(new_BxT, part.old_logp_BxT, part.advantage_BxT, RECIPES[name])
    assert float(-(part.weight_BxT * term).sum()) == pytest.approx(expected, rel=1e-4, abs=1e-6)
    assert (part.weight_BxT[~own] == 0).all(), "a forced or padded token is not the model's own"
    kept = np.repeat(part.weight_BxT.reshape(-1, GROUP * own.shape[1]).any(axis=1), GROUP)
    assert (part.weight_BxT[kept][own[kept]] > 0).all()
    spread = [max(group) > min(group) for group in rewards]
    assert kept[::GROUP].tolist() == (spread if RECIPES[name].zero_variance != "keep" else [True] * len(spread))


@pytest.mark.parametrize("name", RECIPES)
def test_metrics_are_in_range(name):
    for step in range(3):
        metrics = of_recipe(name, step).metrics
        shares = ("reward", "correct", "cut_fraction", "malformed", "stopped_accuracy", "slip_rate")
        by_difficulty = {k: v for k, v in metrics.items() if k.startswith("correct/")}
        for key in (*shares, "zero_variance_fraction", *by_difficulty):
            assert 0 <= metrics[key] <= 1, key
        assert metrics["correct"] == pytest.approx(metrics["reward"]), "of all that was drawn, learned from or not"
        assert 0 < metrics["think_tokens"] <= BUDGET
        assert 0 < metrics["answer_tokens"] <= TASK.answer_tokens + 1
        assert set(by_difficulty) <= {f"correct/{d}" for d in range(2, 6)} and by_difficulty
        assert 0 < metrics["reward"] < 1, "nothing to learn from"


def test_metrics_by_hand():
    """Recounted from the tokens of a recipe that keeps every completion."""
    got = of_recipe("rloo")
    rows = [row[row != PAD].tolist() for row in got.batches[0].tokens_BxT]
    think = [next(t for t, token in enumerate(row) if token in (ANSWER, END)) for row in rows]
    verdicts = [TASK.verify(None, row) for row in rows]  # pyright: ignore[reportArgumentType]
    forced = np.array([t == BUDGET for t in think])
    correct = np.array([v.correct for v in verdicts])
    groups = correct.reshape(-1, GROUP)
    lines = sum(v.lines for v in verdicts)
    lengths = [int((row != PAD).sum()) for row in got.batches[0].prompts_BxN][::GROUP]
    expected = {
        "reward": correct.mean(),
        "correct": correct.mean(),
        "zero_variance_fraction": (groups.max(axis=1) == groups.min(axis=1)).mean(),
        "think_tokens": np.mean(think),
        "answer_tokens": np.mean([len(row) - t for row, t in zip(rows, think, strict=True)]),
        "cut_fraction": forced.mean(),
        "malformed": np.mean([v.answer is None for v in verdicts]),
        "stopped_accuracy": correct[~forced].mean(),
        "slip_rate": sum(v.slips for v in verdicts) / lines,
    } | {f"correct/{d}": groups[np.array(lengths) == d].mean() for d in set(lengths)}
    assert got.metrics == pytest.approx(expected)


def test_shuffled_rewards_are_the_same_rewards_elsewhere(rewards_used):
    plain, shuffled = (experience(with_rl(recipe="rloo", shuffle_rewards=flag)) for flag in (False, True))
    assert (shuffled.batches[0].tokens_BxT == plain.batches[0].tokens_BxT).all()
    assert shuffled.metrics == plain.metrics, "what is reported is what was earned"
    earned, given_ = rewards_used
    assert sorted(earned.ravel()) == sorted(given_.ravel())
    assert (earned != given_).any()
    experience(with_rl(recipe="rloo", shuffle_rewards=True))
    assert (rewards_used[2] == given_).all(), "the same permutation again"
    experience(with_rl(recipe="rloo", shuffle_rewards=True), 1)
    experience(with_rl(recipe="rloo"), 1)
    assert sorted(rewards_used[3].ravel()) == sorted(rewards_used[4].ravel())


def draws_cost(prompts_and_lengths) -> int:
    """FLOPs of completions of these lengths, each group's prompt read once."""
    prompts = sum(flops.prefill(MODEL, len(VOCAB), n) for n, _ in prompts_and_lengths)
    return prompts + sum(
        flops.decode(MODEL, len(VOCAB), n, t) for n, lengths in prompts_and_lengths for t in lengths
    )


def test_dapo_redraws_groups_without_variance():
    step = next(s for s in range(9) if of_recipe("rloo", s).metrics["zero_variance_fraction"] > 0)
    redrawn, once = of_recipe("dapo", step), of_recipe("rloo", step)
    (part,) = redrawn.batches
    assert len(part.padding_B) == CONFIG.rl.problems * GROUP, "the batch is full again"
    assert all(len(set(group)) > 1 for group in rewards_of(redrawn))
    prompts = [tuple(row) for row in part.prompts_BxN[::GROUP].tolist()]
    assert len(set(prompts)) == CONFIG.rl.problems
    kept = once.batches[0].rows(np.repeat([len(set(r)) > 1 for r in rewards_of(once)], GROUP))
    assert (part.tokens_BxT[: len(kept.padding_B)] == kept.tokens_BxT).all(), "the groups with variance are kept"
    assert redrawn.flops > once.flops and redrawn.tokens > once.tokens


def rewards_of(got: Experience) -> list[list[float]]:
    rows = [row[row != PAD].tolist() for row in got.batches[0].tokens_BxT]
    judged = [float(TASK.verify(None, row).correct) for row in rows]  # pyright: ignore[reportArgumentType]
    return [judged[i : i + GROUP] for i in range(0, len(judged), GROUP)]


@dataclass(frozen=True)
class Hopeless(Toy):
    """No answer is right; keeps the lengths of prompts and completions."""

    seen: dict[int, tuple[int, list[int]]] = field(default_factory=dict)

    def verify(self, problem, completion):
        self.seen.setdefault(problem.index, (len(problem.prompt), []))[1].append(len(completion))
        return replace(super().verify(problem, completion), correct=False)


@pytest.mark.parametrize(("name", "draws"), [("dapo", MOST_DRAWS), ("cispo", 1), ("grpo", 1)])
def test_rollouts_that_teach_nothing_are_paid_for_and_not_learnt_from(name, draws):
    task = Hopeless()
    got = experience(with_rl(recipe=name), task=task)
    assert got.metrics["reward"] == 0 and got.metrics["zero_variance_fraction"] == 1
    assert all((part.advantage_BxT == 0).all() for part in got.batches)
    assert len(got.batches) == (1 if name == "grpo" else 0)
    assert len(task.seen) == draws * CONFIG.rl.problems, "every draw has problems of its own"
    assert {len(lengths) for _, lengths in task.seen.values()} == {GROUP}
    assert got.flops == draws_cost(list(task.seen.values()))
    assert got.tokens == sum(prompt + sum(lengths) - len(lengths) for prompt, lengths in task.seen.values())


def test_a_step_costs_its_completions_and_each_prompt_once():
    got = of_recipe("rloo")
    (part,) = got.batches
    prompts = (part.prompts_BxN != PAD).sum(axis=1)[::GROUP].tolist()
    lengths = part.lengths().reshape(-1, GROUP).tolist()
    assert got.flops == draws_cost(list(zip(prompts, lengths, strict=True)))
    assert got.tokens == sum(prompts) + sum(n - 1 for group in lengths for n in group)


@given(st.data(), st.integers(1, 4), st.integers(1, 4))
def test_rollouts_cost_their_sum_less_the_shared_prompts(data, count, group):
    some = problems(count)
    lengths = data.draw(st.lists(st.integers(1, 200), min_size=count * group, max_size=count * group))
    cost, tokens = rollout_cost(MODEL, len(VOCAB), some, np.array(lengths))
    pairs = [(len(p.prompt), lengths[i * group : (i + 1) * group]) for i, p in enumerate(some)]
    assert type(cost) is int and cost == draws_cost(pairs)
    assert tokens == sum(len(p.prompt) for p in some) + sum(lengths) - len(lengths)


@pytest.mark.parametrize("updates", [2, 3, 6])
def test_updates_share_out_whole_groups(updates):
    whole = of_recipe("rloo").batches[0]
    parts = experience(with_rl(recipe="rloo", updates=updates)).batches
    assert len(parts) == updates
    assert all(len(part.padding_B) == len(whole.padding_B) // updates for part in parts)
    for name in ("prompts_BxN", "padding_B", "tokens_BxT", "advantage_BxT", "old_logp_BxT"):
        assert (np.concatenate([getattr(part, name) for part in parts]) == getattr(whole, name)).all()
    for part in parts:  # each is a mean over its own samples
        size = len(part.padding_B)
        np.testing.assert_allclose(part.weight_BxT[part.weight_BxT > 0], 1 / size, rtol=1e-6)
        groups = part.prompts_BxN.reshape(-1, GROUP, TASK.prompt_tokens)
        assert (groups == groups[:, :1]).all(), "a group is whole"


def test_step_discount_scales_the_advantage_of_early_steps():
    whole, discounted = (
        of_recipe("rloo").batches[0],
        experience(with_rl(recipe="rloo", step_discount=0.5)).batches[0],
    )
    steps = (whole.tokens_BxT == STEP)[:, ::-1].cumsum(axis=1)[:, ::-1]
    np.testing.assert_allclose(discounted.advantage_BxT, whole.advantage_BxT * 0.5**steps, rtol=1e-5)
    assert steps.max() > 1


def test_a_wrong_answer_costs_where_the_model_stands_by_it_or_it_cannot_be_read():
    right, wrong, unread = Verdict(True, "2"), Verdict(False, "1"), Verdict(False, None)
    nothing, forced = np.zeros((6, 1)), np.array([True, False] * 3)
    done = Completions([], nothing, nothing, forced, [right, right, wrong, wrong, unread, unread])
    assert rewards(done, 0.5).tolist() == [1.0, 1.0, 0.0, -0.5, -0.5, -0.5]
    assert rewards(done, 0.0).tolist() == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_the_slip_penalty_falls_on_the_first_false_token_of_a_false_line_alone():
    plain, fined = (experience(with_rl(recipe="rloo", slip_penalty=p)).batches[0] for p in (0.0, 0.5))
    difference = plain.advantage_BxT - fined.advantage_BxT
    slips = 0
    for row, taken in zip(fined.tokens_BxT, difference, strict=True):
        verdict = TASK.verify(problems(1)[0], [t for t in row.tolist() if t != PAD])
        assert np.flatnonzero(taken).tolist() == list(verdict.slip_at)
        assert np.allclose(taken[list(verdict.slip_at)], 0.5)
        slips += verdict.slips
    assert slips > 0


def test_thinking_ends_at_the_first_answer_or_end():
    rows = [[5, 6, ANSWER, 7, END], [END, PAD, PAD, PAD, PAD], [5, 5, 5, 5, 5], [5, END, PAD, PAD, PAD]]
    assert think_lengths(np.array(rows)).tolist() == [2, 0, 5, 1]


def test_completions_are_judged_by_their_own_problem_without_padding():
    asked = []

    class Asks(Toy):
        def verify(self, problem, completion):
            asked.append((problem.index, tuple(completion)))
            return super().verify(problem, completion)

    tokens = np.array([[5, END, PAD], [ANSWER, 4, END], [6, 7, 8], [END, PAD, PAD]])
    verdicts = verify(Asks(), problems(2), tokens)
    assert asked == [(0, (5, END)), (0, (ANSWER, 4, END)), (1, (6, 7, 8)), (1, (END,))]
    assert [v.correct for v in verdicts] == [False, True, False, False]


def test_the_reference_penalty_is_left_to_the_learner():
    """Advantages and weights do not depend on `rl.kl`."""
    assert same(of_recipe("rloo"), experience(with_rl(recipe="rloo", kl=0.5)))
    assert float(kl_k3(np.float32(-1), np.float32(-1))) == 0
