"""FLOPs: the closed forms equal sums of per-token costs; the ledger only ever grows and survives JSON."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling import flops
from scaling.config import ModelConfig


@st.composite
def models(draw: st.DrawFn) -> ModelConfig:
    kv_heads = draw(st.integers(1, 4))
    return ModelConfig(
        width=draw(st.integers(1, 4096)),
        layers=draw(st.integers(1, 64)),
        heads=kv_heads * draw(st.integers(1, 4)),
        kv_heads=kv_heads,
        head_size=2 * draw(st.integers(1, 64)),
        ff=draw(st.integers(1, 16384)),
        feedforward=draw(st.sampled_from(["relu2", "gated"])),
        tied=draw(st.booleans()),
    )


vocabs = st.integers(3, 200_000)
lengths = st.integers(0, 10**6)


def test_parameters_of_a_model_counted_by_hand():
    model = ModelConfig(
        width=8, layers=2, heads=4, kv_heads=2, head_size=6, ff=32, feedforward="relu2", tied=False
    )
    attention = 8 * 24 + 8 * 12 + 8 * 12 + 24 * 8
    assert flops.matmul_params(model, 10) == 2 * (attention + 2 * 8 * 32) + 8 * 10
    assert flops.matmul_params(replace(model, feedforward="gated"), 10) == 2 * (attention + 3 * 8 * 32) + 8 * 10
    assert flops.total_params(model, 10) == flops.matmul_params(model, 10) + 80 + 5 * 8
    tied = replace(model, tied=True)
    assert flops.matmul_params(tied, 10) == flops.matmul_params(model, 10)
    assert flops.total_params(model, 10) - flops.total_params(tied, 10) == 80


@given(models(), vocabs, st.integers(0, 60), st.integers(0, 60))
def test_sequence_is_the_sum_of_its_tokens(model, vocab, start, length):
    expected = sum(flops.token(model, vocab, t) for t in range(start + 1, start + length + 1))
    assert flops.sequence(model, vocab, start, start + length) == expected


@given(models(), vocabs, lengths, lengths, lengths)
def test_sequence_adds_over_splits_and_rises(model, vocab, a, b, c):
    a, b, c = sorted((a, b, c))
    whole = flops.sequence(model, vocab, a, c)
    assert whole == flops.sequence(model, vocab, a, b) + flops.sequence(model, vocab, b, c)
    assert type(whole) is int
    assert flops.sequence(model, vocab, a, c + 1) > whole >= 0


@given(models(), vocabs, st.integers(1, 10**5), st.integers(0, 10**5))
def test_rollout_feeds_every_token_but_the_last(model, vocab, prompt, generated):
    fed = prompt + max(generated - 1, 0)
    alone = flops.prefill(model, vocab, prompt) + flops.decode(model, vocab, prompt, generated)
    assert alone == flops.sequence(model, vocab, 0, fed)
    assert flops.train_sequence(model, vocab, fed) == 3 * alone


def test_whole_sequence_matches_the_published_form():
    model, n, t = ModelConfig(), flops.matmul_params(ModelConfig(), 50), 37
    published = 2 * n * t + 2 * model.layers * flops.d_attn(model) * t * (t + 1)
    assert flops.sequence(model, 50, 0, t) == published


@pytest.mark.parametrize(("start", "stop"), [(3, 2), (-1, 2)])
def test_positions_out_of_order_are_an_error(start, stop):
    with pytest.raises(ValueError, match="0 <= start <= stop"):
        flops.sequence(ModelConfig(), 50, start, stop)


entries = st.tuples(
    st.sampled_from(flops.PHASES), st.integers(0, 10**22), st.integers(0, 10**12), st.floats(0, 1e6)
)


@given(st.lists(entries, max_size=12))
def test_ledger_sums_by_phase_and_survives_json(spent):
    ledger = flops.Ledger()
    for phase, amount, tokens, seconds in spent:
        compute = phase in flops.COMPUTE_PHASES
        ledger = ledger.add(phase, flops=amount * compute, tokens=tokens * compute, seconds=seconds)
    by_phase = {p: sum(e[1] for e in spent if e[0] == p) for p in flops.COMPUTE_PHASES}
    assert ledger.flops == by_phase
    assert ledger.train_flops == sum(by_phase.values())
    assert ledger.train_flops - ledger.rl_flops == by_phase["warm_start"]
    assert flops.Ledger.from_dict(json.loads(json.dumps(ledger.to_dict()))) == ledger


def test_adding_leaves_the_old_ledger_alone():
    old = flops.Ledger()
    old.add("rollout", flops=5, tokens=1, seconds=1.0)
    assert old == flops.Ledger()


@pytest.mark.parametrize(
    ("phase", "amounts", "message"),
    [
        ("rolout", {"flops": 1}, "'rolout' is not a phase"),
        ("verify", {"flops": 1}, "seconds only"),
        ("update", {"flops": -1}, "must not be negative"),
        ("update", {"seconds": float("nan")}, "must not be negative"),
    ],
)
def test_wrong_entries_are_refused(phase, amounts, message):
    with pytest.raises(ValueError, match=message):
        flops.Ledger().add(phase, **amounts)


def test_a_damaged_ledger_is_refused():
    good = flops.Ledger().to_dict()
    for bad in (
        {},
        good | {"flops": {"rollout": 1.5}},
        good | {"tokens": {"verify": 3}},
        good | {"seconds": None},
    ):
        with pytest.raises(ValueError, match=r"ledger|phase"):
            flops.Ledger.from_dict(bad)
