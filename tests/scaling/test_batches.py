"""Batches: every sequence that counts is learnt from once, and only the model's own words count."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import MODEL, TASK, VOCAB, Toy, problems

from scaling import flops
from scaling.batches import Batch, bucket, demonstrations, microbatches, update_cost
from scaling.config import StageConfig
from scaling.tasks import ANSWER, PAD, Demonstration

STAGE = StageConfig(demo="count", batch=40, budget=4)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Rows told apart by their first prompt token; some weigh nothing."""
    rows, width = draw(st.integers(1, 12)), draw(st.sampled_from([1, 5, 20, 40]))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    lengths = rng.integers(1, width + 1, rows)
    real = np.arange(width) < lengths[:, None]
    padding = rng.integers(0, 4, rows).astype(np.int32)
    prompts = rng.integers(1, 9, (rows, 5)).astype(np.int32)
    prompts[:, 4] = 100 + np.arange(rows)
    floats = rng.random((3, rows, width)).astype(np.float32) * real
    weight = floats[0] * rng.integers(0, 2, rows)[:, None]
    return Batch(prompts, padding, np.where(real, 5, PAD).astype(np.int32), weight, floats[1], floats[2])


def cut(row: np.ndarray, width: int) -> list:
    """The row at another width; what falls away must be empty."""
    assert not row[width:].any()
    return np.pad(row, (0, max(width - len(row), 0)))[:width].tolist()


@given(st.integers(0, 5000), st.integers(0, 5000))
def test_a_width_holds_its_length_with_little_padding_and_there_are_few(length, other):
    width = bucket(length)
    assert length <= width <= max(20, 1.5 * length + 4)
    assert bucket(width) == width
    assert bucket(min(length, other)) <= bucket(max(length, other))
    assert len({bucket(n) for n in range(length, 2 * length + 1)}) <= 4


@given(batches(), st.integers(1, 5))
def test_microbatches_hold_every_weighted_row_once(batch, size):
    parts = list(microbatches(batch, size))
    seen = []
    for part in parts:
        width = part.tokens_BxT.shape[1]
        assert width == bucket(int(part.lengths().max()))
        assert [x.shape[0] for x in part] == [size] * len(part)
        assert [x.dtype for x in part] == [x.dtype for x in batch]
        for i in range(size):
            if not part.weight_BxT[i].any():  # filled up
                assert not part.tokens_BxT[i].any()
                continue
            row = int(part.prompts_BxN[i, 4]) - 100
            seen.append(row)
            assert (part.prompts_BxN[i] == batch.prompts_BxN[row]).all()
            assert part.padding_B[i] == batch.padding_B[row]
            for name in Batch._fields[2:]:
                assert getattr(part, name)[i].tolist() == cut(getattr(batch, name)[row], width)
    assert sorted(seen) == np.flatnonzero(batch.weight_BxT.any(axis=1)).tolist()
    assert sum(p.weight_BxT.sum(dtype=float) for p in parts) == pytest.approx(batch.weight_BxT.sum(dtype=float))
    assert len(parts) == -(-len(seen) // size), "no more parts than needed"
    assert (np.diff([p.lengths().max() for p in parts]) >= 0).all(), "sequences of like length are together"


@dataclass(frozen=True)
class Recording(Toy):
    """The toy task that keeps what it demonstrated."""

    made: list[tuple[int, Demonstration]] = field(default_factory=list)

    def demonstrate(self, problem, kind, budget, rng):
        demo = super().demonstrate(problem, kind, budget, rng)
        self.made.append((budget, demo))
        return demo


def test_demonstrations_teach_every_word_of_the_models_own_alike():
    task = Recording()
    batch = demonstrations(task, problems(40), STAGE, "seed")
    assert len(task.made) == 40
    weight = batch.weight_BxT.max()
    assert batch.weight_BxT.sum() == pytest.approx(1) and set(np.unique(batch.weight_BxT)) == {0, weight}
    for i, (_, demo) in enumerate(task.made):
        left_out = {demo.forced, *demo.given}
        length = len(demo.tokens)
        assert batch.tokens_BxT[i, :length].tolist() == list(demo.tokens)
        assert (batch.tokens_BxT[i, length:] == PAD).all()
        trained = np.flatnonzero(batch.weight_BxT[i]).tolist()
        assert trained == [t for t in range(length) if t not in left_out]
        if demo.forced is not None:
            assert batch.tokens_BxT[i, demo.forced] == ANSWER and batch.weight_BxT[i, demo.forced] == 0
    assert any(demo.forced is not None for _, demo in task.made)
    assert any(demo.forced is None for _, demo in task.made)
    assert any(demo.given for _, demo in task.made)
    for i, problem in enumerate(problems(40)):
        assert batch.prompts_BxN[i, batch.padding_B[i] :].tolist() == list(problem.prompt)
    assert (batch.advantage_BxT == 1).all() and (batch.old_logp_BxT == 0).all()


def test_half_of_the_demonstrations_are_cut_earlier():
    task = Recording()
    demonstrations(task, problems(400), STAGE, "seed")
    budgets = [budget for budget, _ in task.made]
    assert set(budgets) == set(range(STAGE.budget + 1))
    at_full = np.mean([b == STAGE.budget for b in budgets])
    assert at_full == pytest.approx(0.5 + 0.5 / (STAGE.budget + 1), abs=0.1)


def test_demonstrations_are_a_pure_function_of_their_seed():
    first, again, other = (demonstrations(TASK, problems(8), STAGE, seed) for seed in ("0/1", "0/1", "0/2"))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert first.tokens_BxT.tolist() != other.tokens_BxT.tolist()


@given(batches())
def test_an_update_costs_the_real_tokens_of_the_rows_that_weigh(batch):
    cost = fed = 0
    for row in range(len(batch.padding_B)):
        if batch.weight_BxT[row].any():
            prompt = batch.prompts_BxN.shape[1] - int(batch.padding_B[row])
            tokens = prompt + int((batch.tokens_BxT[row] != PAD).sum()) - 1  # nothing is predicted after the last
            fed += tokens
            cost += 3 * sum(flops.token(MODEL, len(VOCAB), t) for t in range(1, tokens + 1))
    assert update_cost(batch, MODEL, len(VOCAB)) == (cost, fed)


@given(batches(), st.integers(1, 5))
def test_an_update_costs_the_same_however_it_is_split(batch, size):
    parts = [update_cost(part, MODEL, len(VOCAB)) for part in microbatches(batch, size)]
    assert (sum(c for c, _ in parts), sum(n for _, n in parts)) == update_cost(batch, MODEL, len(VOCAB))
