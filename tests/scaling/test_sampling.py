"""Sampling: draws from the model's own softmax, budgets kept exactly, and one pass that reads the whole grid."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import TASK, VOCAB, model, one_device, problems

from scaling import sampling
from scaling.batches import Batch
from scaling.learner import forward
from scaling.sampling import FIRST_SPAN, MARGIN, Rollout, choose, left_pad, padded, row_keys, sample, spans
from scaling.tasks import ANSWER, END, PAD

BUDGET, GROUP, PROMPTS = 6, 64, 8
BUDGETS = (0, 3, FIRST_SPAN + MARGIN + 2)


@cache
def prompts(count: int):
    return left_pad([p.prompt for p in problems(count)], TASK.prompt_tokens)


def draw(tokens, padding, keys, *, group: int, budgets: tuple[int, ...], temperature: float, chunk: int = 512):
    return sample(
        *model(),
        tokens,
        padding,
        keys,
        group=group,
        budgets=budgets,
        answer_tokens=TASK.answer_tokens,
        temperature=temperature,
        chunk=chunk,
        mesh=one_device(),
    )


@pytest.fixture(scope="module")
def drawn() -> Rollout:
    """512 completions, 64 of each prompt, at temperature 0.8."""
    keys = row_keys(0, 1, 0, np.arange(PROMPTS * GROUP))
    return draw(*prompts(PROMPTS), keys, group=GROUP, budgets=(BUDGET,), temperature=0.8)[0]


@pytest.fixture(scope="module")
def scored(drawn):
    """Log-probabilities and entropies that a teacher-forced forward pass gives to the drawn completions."""
    tokens, padding = (np.repeat(x, GROUP, axis=0) for x in prompts(PROMPTS))
    none = np.zeros(drawn.tokens_BxT.shape, np.float32)
    batch = Batch(tokens, padding, drawn.tokens_BxT, none, none, none)
    logp, entropy, likeliest = jax.jit(forward, static_argnums=(0, 3))(*model(), batch, 0.8)
    return np.asarray(logp), np.asarray(entropy), np.asarray(likeliest)


logits = st.lists(st.floats(-30, 30) | st.just(-1e30), min_size=2, max_size=12).filter(lambda x: max(x) > -1e30)


@settings(deadline=None)
@given(logits, st.sampled_from([0.5, 1.0, 2.0]))
def test_choose_inverts_the_cumulative_softmax(row, temperature):
    """Of n evenly spaced uniforms, token i gets its share of n, give or take one at either edge."""
    n = 1000
    row = np.array((row + [-1e30] * 12)[:12])  # one shape for all examples
    scaled = row / temperature
    probability = np.exp(scaled - scaled.max()) / np.exp(scaled - scaled.max()).sum()
    uniform = jnp.asarray((np.arange(n) + 0.5) / n, jnp.float32)
    tokens, logp = choose(jnp.tile(jnp.asarray(row, jnp.float32), (n, 1)), uniform, temperature)
    counts = np.bincount(tokens, minlength=len(row))
    assert np.abs(counts - n * probability).max() <= 1.1
    assert np.allclose(np.exp(logp), probability[tokens], rtol=1e-4)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 11))
def test_choose_never_draws_a_token_of_probability_zero(seed, excluded):
    """Not at the edges of [0, 1) either, nor on the steps of the cumulative distribution."""
    rng = np.random.default_rng(seed)
    row = rng.normal(size=12) * 3
    out = rng.choice(12, excluded, replace=False)
    row[out] = -1e30
    row = jnp.asarray(row, jnp.float32)
    steps = jnp.cumsum(jax.nn.softmax(row))
    uniform = jnp.concatenate([jnp.zeros(1), jnp.array([1 - 2**-23, 1 - 2**-24]), jnp.minimum(steps, 1 - 2**-23)])
    tokens, logp = choose(jnp.tile(row, (len(uniform), 1)), uniform, 1.0)
    assert not set(np.asarray(tokens).tolist()) & set(out.tolist())
    assert (np.asarray(logp) > -1e3).all()


@settings(deadline=None)
@given(logits, st.floats(0, 0.999))
def test_choose_takes_the_likeliest_at_temperature_zero(row, uniform):
    row = jnp.asarray((row + [-1e30] * 12)[:12], jnp.float32)
    token, logp = choose(row[None], jnp.array([uniform]), 0.0)
    assert token[0] == row.argmax()
    assert logp[0] == pytest.approx(float(jax.nn.log_softmax(row)[token[0]]), abs=1e-6)


def test_the_recorded_log_probability_is_the_models_own(drawn, scored):
    forced = np.zeros(drawn.tokens_BxT.shape, bool)
    forced[drawn.forced_B, BUDGET] = True
    real = (drawn.tokens_BxT != PAD) & ~forced
    gap = np.abs(drawn.logp_BxT - scored[0])[real].max()
    assert gap < 1e-4, f"sampler and trainer differ by {gap} nats"
    assert (drawn.logp_BxT[~real] == 0).all()


def test_tokens_are_drawn_as_often_as_the_model_says(drawn, scored):
    """−log p of a sampled token has the entropy as its mean: z-score over 512 first tokens and over the second."""
    for at in (0, 1):
        real = (drawn.tokens_BxT[:, at] != PAD) & ~(drawn.forced_B & (at == BUDGET))
        surprise = (-scored[0] - scored[1])[real, at]
        z = surprise.mean() / (surprise.std() / len(surprise) ** 0.5)
        assert abs(z) < 4, f"position {at}: {z} standard errors from the entropy"
    greedy = np.exp(scored[0])[scored[2]].mean()
    assert 0.2 < greedy < 0.95, "the model must be neither flat nor certain for this to mean anything"


def test_first_tokens_pass_a_chi_square_test(drawn):
    """For each prompt, 64 first tokens against the softmax there; 99.99% point of χ² summed over the prompts."""
    tokens, padding = prompts(PROMPTS)
    none = np.zeros((PROMPTS, 1), np.float32)
    statistic, freedom = 0.0, 0
    probability = np.stack(
        [
            np.exp(
                jax.jit(forward, static_argnums=(0, 3))(
                    *model(), Batch(tokens, padding, np.full((PROMPTS, 1), t, np.int32), none, none, none), 0.8
                )[0][:, 0]
            )
            for t in range(len(VOCAB))
        ],
        axis=1,
    )
    assert np.allclose(probability.sum(axis=1), 1, atol=1e-5)
    for p in range(PROMPTS):
        counts = np.bincount(drawn.tokens_BxT[p * GROUP : (p + 1) * GROUP, 0], minlength=len(VOCAB))
        expected = GROUP * probability[p]
        big = expected >= 3
        counts, expected = (
            np.append(counts[big], counts[~big].sum()),
            np.append(expected[big], expected[~big].sum()),
        )
        statistic += ((counts - expected)[expected > 0] ** 2 / expected[expected > 0]).sum()
        freedom += len(expected) - 1
    assert statistic < freedom + 3.72 * (2 * freedom) ** 0.5 + 10, (
        f"χ² = {statistic} at {freedom} degrees of freedom"
    )


def well_formed(row: np.ndarray, forced: bool, length: int, budget: int) -> str:
    """What is wrong with a completion, or nothing."""
    n = int((row != PAD).sum())
    if n != length or (row[n:] != PAD).any() or (row[:n] == PAD).any():
        return "padding inside, or a wrong length"
    over = np.flatnonzero((row == ANSWER) | (row == END))
    if not len(over) or over[0] > budget:
        return f"more than {budget} tokens of thinking"
    end = over[0]
    if forced != (end == budget and row[end] == ANSWER):
        return "the end of thinking is forced exactly at the budget, and only there"
    if row[end] == END:
        return "" if n == end + 1 else "tokens after the end"
    answer = row[end + 1 : n]
    if not 1 <= len(answer) <= TASK.answer_tokens:
        return f"{len(answer)} tokens of answer"
    if END in answer[:-1].tolist():
        return "tokens after the end"
    return "" if answer[-1] == END or len(answer) == TASK.answer_tokens else "stopped early"


def check_form(rollout: Rollout, budget: int) -> None:
    rows = zip(rollout.tokens_BxT, rollout.forced_B, rollout.length_B, strict=True)
    wrong = [
        (said, row.tolist()) for row, forced, n in rows if (said := well_formed(row, bool(forced), int(n), budget))
    ]
    assert not wrong, f"{len(wrong)} completions, the first: {wrong[0]}"


def test_budget_answer_and_end_are_kept(drawn):
    check_form(drawn, BUDGET)
    first = np.isin(drawn.tokens_BxT, (ANSWER, END)).argmax(axis=1)
    assert drawn.tokens_BxT.shape[1] == BUDGET + 1 + TASK.answer_tokens
    assert 0.05 < drawn.forced_B.mean() < 0.95
    assert (drawn.tokens_BxT[np.arange(len(first)), first] == END).any(), "some must end without an answer"


def test_a_row_does_not_depend_on_the_batch_around_it(drawn):
    """Prompts 5, 2, 5 with the keys of some of their rows, in a batch of another size and order."""
    rows = np.array(
        [[5 * GROUP + g for g in (3, 40)], [2 * GROUP, 2 * GROUP + 9], [5 * GROUP + g for g in (40, 7)]]
    )
    tokens, padding = (x[[5, 2, 5]] for x in prompts(PROMPTS))
    keys = row_keys(0, 1, 0, rows.reshape(-1))
    (again,) = draw(tokens, padding, keys, group=2, budgets=(BUDGET,), temperature=0.8)
    assert (again.tokens_BxT == drawn.tokens_BxT[rows.reshape(-1)]).all()
    assert np.allclose(again.logp_BxT, drawn.logp_BxT[rows.reshape(-1)], atol=1e-5)


def test_rows_and_places_have_their_own_randomness(drawn):
    assert len({tuple(row) for row in drawn.tokens_BxT[:GROUP]}) > GROUP // 3
    data = [
        tuple(np.asarray(jax.random.key_data(key)).tolist())
        for seed, stream, place in ((0, 1, 0), (0, 1, 1), (0, 2, 0), (1, 1, 0))
        for key in row_keys(seed, stream, place, np.arange(5))
    ]
    assert len(set(data)) == 20


@pytest.fixture(scope="module")
def grid() -> tuple[Rollout, ...]:
    """24 prompts at temperature 0 under all budgets, from one pass."""
    return draw(*prompts(24), row_keys(0, 1, 0, np.arange(24)), group=1, budgets=BUDGETS, temperature=0.0)


@pytest.mark.parametrize("place", range(len(BUDGETS)), ids=[f"budget_{b}" for b in BUDGETS])
def test_a_rewound_budget_is_what_that_budget_alone_gives(grid, place):
    budget, got = BUDGETS[place], grid[place]
    (alone,) = draw(*prompts(24), row_keys(7, 1, 0, np.arange(24)), group=1, budgets=(budget,), temperature=0.0)
    width = alone.tokens_BxT.shape[1]
    check_form(alone, budget)
    assert (got.tokens_BxT[:, width:] == PAD).all()
    assert (got.tokens_BxT[:, :width] == alone.tokens_BxT).all()
    assert np.allclose(got.logp_BxT[:, :width], alone.logp_BxT, atol=1e-4)
    assert (got.length_B == alone.length_B).all() and (got.forced_B == alone.forced_B).all()


def test_the_grid_holds_every_way_to_end(grid):
    """Or the test above would not say much: cut at some budgets and not at others, past a segment's edge too."""
    assert [bool(r.forced_B.all()) for r in grid] == [True, False, False]
    assert all(r.forced_B.any() for r in grid)
    assert (grid[0].forced_B & ~grid[-1].forced_B).any()


@given(st.integers(1, 5000))
def test_spans_double_and_the_last_holds_the_whole_completion(length):
    found = spans(length)
    assert found[-1] >= length and all(a < length for a in found[:-1])
    assert found[:-1] == [FIRST_SPAN * 2**i + MARGIN for i in range(len(found) - 1)]
    assert found[-1] - MARGIN in (FIRST_SPAN * 2 ** (len(found) - 1), FIRST_SPAN * 2 ** (len(found) - 1) * 3 // 4)


@given(st.integers(1, 700), st.integers(0, 10))
def test_a_batch_is_padded_to_a_half_of_a_half_of_the_chunk(rows, power):
    chunk = 2**power
    size = padded(rows, chunk)
    if rows > chunk:
        assert size == rows or (size >= rows and rows % 2 == 0)
    else:
        assert rows <= size < 2 * rows and chunk % size == 0


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [2, 6, 16, 1000])
def test_completions_do_not_depend_on_how_many_are_decoded_at_once(chunk):
    """One prompt, three, eight or all at once, at a temperature, under several budgets."""
    keys = row_keys(0, 1, 0, np.arange(48))
    options = dict(group=2, budgets=(0, 3, 9), temperature=0.8)
    whole, parts = (draw(*prompts(24), keys, chunk=size, **options) for size in (48, chunk))
    for a, b in zip(whole, parts, strict=True):
        assert (a.tokens_BxT == b.tokens_BxT).all() and (a.forced_B == b.forced_B).all()
        assert np.allclose(a.logp_BxT, b.logp_BxT, atol=1e-5)


@pytest.mark.slow
def test_rows_that_are_over_leave_the_batch_and_change_nothing(monkeypatch):
    keys, sizes = row_keys(0, 1, 0, np.arange(64)), []
    options = dict(group=4, budgets=(0, 3, BUDGETS[-1]), temperature=0.8)
    whole = draw(*prompts(16), keys, **options)
    decoded = sampling.decode

    def recorded(*args, **kwargs):
        sizes.append(len(args[3]))
        return decoded(*args, **kwargs)

    monkeypatch.setattr(sampling, "decode", recorded)
    monkeypatch.setattr(sampling, "FEWEST_ROWS", 4)
    halved = draw(*prompts(16), keys, **options)
    assert sizes[0] == 64 and sizes[-1] < 64 and sizes == sorted(sizes, reverse=True)
    for a, b in zip(whole, halved, strict=True):
        assert (a.tokens_BxT == b.tokens_BxT).all() and (a.length_B == b.length_B).all()
        assert np.allclose(a.logp_BxT, b.logp_BxT, atol=1e-5)


def test_left_padding():
    tokens, padding = left_pad([(5, 6), (7,), (8, 9, 10)], 3)
    assert tokens.tolist() == [[PAD, 5, 6], [PAD, PAD, 7], [8, 9, 10]] and tokens.dtype == np.int32
    assert padding.tolist() == [1, 2, 0] and padding.dtype == np.int32
