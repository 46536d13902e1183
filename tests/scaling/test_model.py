"""The decoder: cached decoding is the training forward, later tokens change nothing, costs are as counted."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from toy import MODEL, VOCAB, model, one_device

from scaling import flops
from scaling.batches import Batch
from scaling.config import ModelConfig
from scaling.learner import SUPERVISED, accumulate
from scaling.model import Decoder, empty_cache
from scaling.tasks import PAD

PROMPT, LENGTH = 5, 12
FORMS = {
    "grouped": replace(MODEL, layers=2),
    "multi_head": replace(MODEL, kv_heads=4, feedforward="gated", tied=True),
    "multi_query": replace(MODEL, kv_heads=1, tied=True),
    "gated": replace(MODEL, kv_heads=1, feedforward="gated"),
}


@partial(jax.jit, static_argnames="graphdef")
def forward(graphdef, params, tokens_BxT, padding_B):
    return nnx.merge(graphdef, params)(tokens_BxT, padding_B)[0]


@partial(jax.jit, static_argnames=("graphdef", "span"))
def extend(graphdef, params, tokens_BxT, padding_B, cache, index, span):
    return nnx.merge(graphdef, params)(tokens_BxT, padding_B, cache, index, span)


def rows(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random sequences whose prompts carry 0, 1, 2 and 3 positions of left-padding."""
    tokens, padding = np.random.default_rng(seed).integers(1, len(VOCAB), (4, LENGTH)), np.arange(4)
    tokens[np.arange(LENGTH) < padding[:, None]] = PAD
    return tokens.astype(np.int32), padding.astype(np.int32)


def largest_gap(a, b, padding) -> float:
    """Greatest difference of logits at real positions."""
    real = np.arange(LENGTH) >= padding[:, None]
    return float(np.abs(np.asarray(a) - np.asarray(b))[real].max())


@pytest.mark.parametrize("config", FORMS.values(), ids=FORMS)
def test_decoding_with_a_cache_gives_the_logits_of_training(config):
    (graphdef, params), (tokens, padding) = model(config), rows()
    expected = forward(graphdef, params, tokens, padding)
    cache = empty_cache(config, 4, LENGTH)
    part, cache = extend(graphdef, params, tokens[:, :PROMPT], padding, cache, 0, PROMPT)
    parts = [part]
    for index in range(PROMPT, LENGTH):
        span = 8 if index < 8 else LENGTH
        part, cache = extend(graphdef, params, tokens[:, index : index + 1], padding, cache, index, span)
        parts.append(part)
    gap = largest_gap(jnp.concatenate(parts, axis=1), expected, padding)
    assert gap < 1e-4, f"cached logits are off by {gap}"
    assert np.ptp(expected[..., 1:]) > 1, "the logits must differ for this to mean anything"


@pytest.mark.parametrize("config", FORMS.values(), ids=FORMS)
def test_a_later_token_changes_no_earlier_logit(config):
    (graphdef, params), (tokens, padding) = model(config), rows()
    before = np.asarray(forward(graphdef, params, tokens, padding))
    for at in (4, LENGTH - 1):
        changed = tokens.copy()
        changed[:, at] = changed[:, at] % (len(VOCAB) - 1) + 1
        after = np.asarray(forward(graphdef, params, changed, padding))
        real = np.arange(LENGTH) >= padding[:, None]
        assert (before[:, :at] == after[:, :at])[real[:, :at]].all(), f"position {at} reaches back"
        assert (before[:, at] != after[:, at]).any(axis=-1).all(), f"position {at} has no effect"


def test_every_real_token_reaches_the_last_logit():
    (graphdef, params), (tokens, padding) = model(), rows()
    last = np.asarray(forward(graphdef, params, tokens, padding))[:, -1]
    for at in range(3, LENGTH):
        changed = tokens.copy()
        changed[:, at] = changed[:, at] % (len(VOCAB) - 1) + 1
        gap = np.abs(np.asarray(forward(graphdef, params, changed, padding))[:, -1] - last).max(axis=1)
        assert (gap > 1e-4).all(), f"position {at} is not attended to"


@pytest.mark.parametrize("config", FORMS.values(), ids=FORMS)
def test_padding_on_the_left_changes_no_logit(config):
    (graphdef, params), (tokens, _) = model(config), rows()
    none = np.zeros(4, np.int32)
    plain = np.asarray(forward(graphdef, params, tokens, none))
    for shift in (1, 4):
        shifted = np.concatenate([np.full((4, shift), PAD, np.int32), tokens[:, :-shift]], axis=1)
        padded = np.asarray(forward(graphdef, params, shifted, none + shift))
        gap = np.abs(padded[:, shift:] - plain[:, :-shift]).max()
        assert gap < 1e-4, f"{shift} positions of padding move logits by {gap}"
        junk = np.where(np.arange(LENGTH) < shift, 7, shifted).astype(np.int32)
        assert largest_gap(forward(graphdef, params, junk, none + shift), padded, none + shift) == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_logits_are_float32_and_padding_is_never_chosen(dtype):
    (graphdef, params), (tokens, padding) = model(replace(MODEL, dtype=dtype)), rows()
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    logits = forward(graphdef, params, tokens, padding)
    assert logits.dtype == jnp.float32
    assert (jax.nn.softmax(logits)[..., PAD] == 0).all()
    assert (logits.argmax(axis=-1) != PAD).all()
    exact = forward(*model(), tokens, padding)
    assert largest_gap(logits[..., 1:], exact[..., 1:], padding) < 0.15, "bfloat16 is rounding, not another model"
    cached = nnx.merge(graphdef, params).config
    assert {x.dtype for x in jax.tree.leaves(empty_cache(cached, 1, 1))} == {jnp.dtype(dtype)}


def test_rematerialisation_changes_no_gradient():
    tokens, padding = rows()

    def grad(config):
        graphdef, params = model(config)

        @jax.jit
        @jax.grad
        def loss(params):
            logits, _ = nnx.merge(graphdef, params)(tokens, padding)
            return (jax.nn.log_softmax(logits)[..., 1:] ** 2).mean()

        return jax.tree.leaves(loss(params))

    plain, remat = grad(MODEL), grad(replace(MODEL, remat=True))
    assert max(float(jnp.abs(x).max()) for x in plain) > 0.1
    for a, b in zip(plain, remat, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", FORMS.values(), ids=FORMS)
def test_parameters_are_as_many_as_counted(config):
    abstract = nnx.state(nnx.eval_shape(lambda: Decoder(config, 60, nnx.Rngs(params=0))))
    assert sum(x.size for x in jax.tree.leaves(abstract)) == flops.total_params(config, 60)


def xla_flops(lowered) -> float:
    return lowered.compile().cost_analysis()["flops"]


def abstract_model(config: ModelConfig, vocab: int):
    return nnx.split(nnx.eval_shape(lambda: Decoder(config, vocab, nnx.Rngs(params=0))))


def masked_half(config: ModelConfig, tokens: int) -> int:
    """FLOPs of the attention map above its diagonal, which XLA computes and the model does not need."""
    return 2 * config.layers * flops.d_attn(config) * tokens * (tokens - 1)


def int32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


WIDE = ModelConfig(width=256, layers=2, heads=4, kv_heads=2, head_size=32, ff=1024)
LONG = ModelConfig(width=128, layers=2, heads=2, kv_heads=1, head_size=128, ff=128)
VOCAB_SIZE = 512


@pytest.mark.parametrize(
    "config", [WIDE, replace(WIDE, feedforward="gated", tied=True, kv_heads=4)], ids=["relu2", "gated"]
)
def test_forward_flops_agree_with_xla_where_attention_is_small(config):
    """Unrolled layers, 16 tokens ≪ width: the causal count alone is within 5%."""
    graphdef, params = abstract_model(config, VOCAB_SIZE)
    counted = 2 * flops.sequence(config, VOCAB_SIZE, 0, 16)
    assert xla_flops(forward.lower(graphdef, params, int32(2, 16), int32(2))) == pytest.approx(counted, rel=0.05)


def test_forward_flops_agree_with_xla_where_attention_is_large():
    """512 tokens, four times the width: the causal count plus the masked half that XLA computes is within 5%."""
    graphdef, params = abstract_model(LONG, VOCAB_SIZE)
    causal, masked = flops.sequence(LONG, VOCAB_SIZE, 0, 512), masked_half(LONG, 512)
    assert masked > 0.2 * causal, "attention must matter here"
    assert xla_flops(forward.lower(graphdef, params, int32(1, 512), int32(1))) == pytest.approx(
        causal + masked, rel=0.05
    )


def test_flops_of_one_cached_token_agree_with_xla():
    """The last token of a span attends to all of it: nothing is masked."""
    graphdef, params = abstract_model(LONG, VOCAB_SIZE)
    cache = jax.eval_shape(lambda: empty_cache(LONG, 1, 512))
    lowered = extend.lower(graphdef, params, int32(1, 1), int32(1), cache, 511, 512)
    assert xla_flops(lowered) == pytest.approx(flops.token(LONG, VOCAB_SIZE, 512), rel=0.05)


def test_a_training_step_costs_three_forward_passes_to_xla():
    graphdef, params = abstract_model(WIDE, VOCAB_SIZE)
    float32 = jax.ShapeDtypeStruct((2, 16), jnp.float32)
    batch = Batch(int32(2, 1), int32(2), int32(2, 16), float32, float32, float32)  # 1 + 16 − 1 tokens are fed
    zero = jax.ShapeDtypeStruct((), jnp.float32)
    names = ("tokens", "entropy", "clip_fraction", "mismatch", "accuracy", "kl", "loss")
    total = params, dict.fromkeys(names, zero)
    lowered = accumulate.lower(
        graphdef, params, None, total, batch, mesh=one_device(), recipe=SUPERVISED, temperature=1.0, kl=0.0
    )
    counted = 2 * flops.train_sequence(WIDE, VOCAB_SIZE, 16)
    assert xla_flops(lowered) == pytest.approx(counted, rel=0.05)
