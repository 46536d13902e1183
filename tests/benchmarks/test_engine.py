"""Both sides of the engine's benchmarks do the same work, and the whole grid costs little more than one cell."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import engine, peers
from scaling.config import ModelConfig
from scaling.tasks import PAD

SMALL = ModelConfig(width=16, layers=1, heads=2, kv_heads=1, head_size=8, ff=16)
VOCAB = 20
CONFIG = replace(engine.default(), model=SMALL, microbatch=4)


@pytest.fixture(scope="module")
def uneven() -> engine.Rows:
    config = replace(CONFIG, rl=replace(CONFIG.rl, problems=3, samples=4))
    return engine.experience(config, 44)


def test_peers_get_every_token_and_padding_for_the_rest(uneven):
    parts = uneven.padded()
    assert len({part.shape[1] for part in parts}) == 1 and sum(map(len, parts)) == 12
    real = sum(int((part != PAD).sum()) for part in parts)
    assert real == uneven.tokens + 12, "all but the last token of a row are fed"
    assert uneven.tokens < 12 * (parts[0].shape[1] - 1)


def test_full_rows_hold_no_padding():
    rows = engine.full(8, VOCAB, 5, 12, 4)
    assert rows.tokens == 8 * 12 and not any((part == PAD).any() for part in rows.padded())


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["gelu", "relu2"])
def test_a_step_of_ours_and_of_flax_count_the_same_tokens(activation):
    rows = engine.full(8, VOCAB, 5, 12, 4)
    steps = engine.our_step(CONFIG, rows), peers.flax_step(SMALL, VOCAB, rows.padded(), activation)
    assert [engine.stepping(step, rows)() for step in steps] == [96, 96]


def prompts(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(3, VOCAB, (count, 5), np.int32)


def test_completions_that_never_end_use_their_whole_budget():
    """And three tokens of answer after its mark."""
    made = engine.our_sampler(CONFIG, prompts(4), 2, (20,), ends=False)()
    assert made == 8 * (20 + 1 + 3)
    assert engine.our_sampler(CONFIG, prompts(4), 2, (20,), ends=True)() < made


@pytest.mark.slow
def test_the_whole_grid_costs_at_most_a_quarter_more_tokens_than_its_largest_cell():
    """Of the default experiment's budgets: a law of counting, whatever the model."""
    budgets = CONFIG.evaluation.budgets

    def decoded(some: tuple[int, ...]) -> int:
        return engine.our_sampler(CONFIG, prompts(2), 2, some, ends=False)()

    whole, largest = decoded(budgets), decoded(budgets[-1:])
    assert largest < whole <= 1.25 * largest
    assert sum(decoded((budget,)) for budget in budgets) > 1.5 * whole


def test_the_better_of_the_peers_is_the_peer():
    sides = {"ours": lambda: 30, "slow": lambda: sum(range(200_000)) * 0 + 10, "fast": lambda: 10}
    row = engine.against_best("row", sides, "work")
    assert row.ratio == pytest.approx(row.ours / row.peer) and row.unit == "tokens/s"
    assert row.note.startswith("work; slow ") and ", fast " in row.note
