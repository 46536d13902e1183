"""The decoder: one definition for training and for cached decoding.

Shapes: B batch, T tokens, S attended positions, W width, H query heads, K key-value heads, G = H / K, D head size,
F feed-forward, V vocabulary. Prompts are left-padded, so that every row of a batch stands at the same position;
rotary positions are relative, so the padding shifts nothing.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int

from scaling.config import ModelConfig
from scaling.tasks import PAD

Cache = list[tuple[jax.Array, jax.Array]]
"""Keys and values of each layer, both B×K×S×D: heads before time, or attention on a CPU is 30 times slower.

With one key-value head B×S×D: XLA takes an axis of one out of a product, and then the update of the cache is not
in place but four copies of it a step.
"""
HIDDEN = -1e30
"""Minus infinity, but a number: the score of a position that is not attended to, and the logit of padding."""


def rms_norm(x: jax.Array, scale: jax.Array) -> jax.Array:
    """Root-mean-square normalisation in float32 (Zhang & Sennrich 2019, arXiv 1910.07467)."""
    x32 = x.astype(jnp.float32)
    return (x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + 1e-6) * scale).astype(x.dtype)


def rotate(x_BxTxHxD: jax.Array, positions_T: jax.Array, base: float) -> jax.Array:
    """Rotary positions, halves paired (Su et al. 2021, arXiv 2104.09864)."""
    half = x_BxTxHxD.shape[-1] // 2
    angle_TxD = positions_T[:, None] * base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    cos_TxD, sin_TxD = jnp.cos(angle_TxD), jnp.sin(angle_TxD)
    cos_Tx1xD = jnp.concatenate([cos_TxD, cos_TxD], axis=-1)[:, None]
    sin_Tx1xD = jnp.concatenate([-sin_TxD, sin_TxD], axis=-1)[:, None]
    x32 = x_BxTxHxD.astype(jnp.float32)
    return (x32 * cos_Tx1xD + jnp.roll(x32, half, axis=-1) * sin_Tx1xD).astype(x_BxTxHxD.dtype)


class Block(nnx.Module):
    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.config = config
        c, queries, keys = config, config.heads * config.head_size, config.kv_heads * config.head_size

        def matrix(fan_in: int, fan_out: int, gain: float = 1.0) -> nnx.Param:
            return nnx.Param(jax.random.normal(rngs.params(), (fan_in, fan_out)) * gain * fan_in**-0.5)

        out_gain = (2 * c.layers) ** -0.5
        self.attention_norm = nnx.Param(jnp.ones(c.width))
        self.query = matrix(c.width, queries)
        self.key = matrix(c.width, keys)
        self.value = matrix(c.width, keys)
        self.out = matrix(queries, c.width, out_gain)
        self.ff_norm = nnx.Param(jnp.ones(c.width))
        self.up = matrix(c.width, c.ff)
        if c.feedforward == "gated":
            self.gate = matrix(c.width, c.ff)
        self.down = matrix(c.ff, c.width, out_gain)

    def __call__(self, x_BxTxW, positions_T, bias_BxTxS, cache, index, span):
        x_BxTxW, cache = self.attend(x_BxTxW, positions_T, bias_BxTxS, cache, index, span)
        return self.feed_forward(x_BxTxW), cache

    def attend(self, x_BxTxW, positions_T, bias_BxTxS, cache, index, span):
        """Shapes here are those of K heads; with one, its axis is missing from B×K×….

        Queries are scaled before the product and its weights normalised after theirs: T×D numbers instead of T×S.
        """
        c, (B, T, _) = self.config, x_BxTxW.shape
        lead = _lead(c, B)
        h_BxTxW = rms_norm(x_BxTxW, self.attention_norm[...])
        q, k, v = (h_BxTxW @ w[...].astype(h_BxTxW.dtype) for w in (self.query, self.key, self.value))
        q_BxTxHxD = rotate(q.reshape(B, T, c.heads, c.head_size), positions_T, c.rope_base) * c.head_size**-0.5
        k_BxTxKxD = rotate(k.reshape(B, T, c.kv_heads, c.head_size), positions_T, c.rope_base)
        v_BxTxKxD = v.reshape(B, T, c.kv_heads, c.head_size)
        q_BxKxGTxD = q_BxTxHxD.swapaxes(1, 2).reshape(*lead, -1, c.head_size)
        k_BxKxSxD, v_BxKxSxD = (x.swapaxes(1, 2).reshape(*lead, T, c.head_size) for x in (k_BxTxKxD, v_BxTxKxD))
        if cache is not None:
            cache = tuple(
                jax.lax.dynamic_update_slice(old, new, (*(0 for _ in lead), index, 0))
                for old, new in zip(cache, (k_BxKxSxD, v_BxKxSxD), strict=True)
            )
            k_BxKxSxD, v_BxKxSxD = (part[..., :span, :] for part in cache)
        s_BxKxGTxS = jnp.einsum("...qd,...sd->...qs", q_BxKxGTxD, k_BxKxSxD, preferred_element_type=jnp.float32)
        s_BxKxGxTxS = s_BxKxGTxS.reshape(*lead, -1, T, span) + jnp.expand_dims(bias_BxTxS, range(1, len(lead) + 1))
        most_BxKxGxTx1 = jax.lax.stop_gradient(s_BxKxGxTxS.max(axis=-1, keepdims=True))
        w_BxKxGTxS = jnp.exp(s_BxKxGxTxS - most_BxKxGxTx1).reshape(s_BxKxGTxS.shape)
        sum_BxKxGTx1 = w_BxKxGTxS.sum(axis=-1, keepdims=True)
        a_BxKxGTxD = jnp.einsum(
            "...qs,...sd->...qd", w_BxKxGTxS.astype(h_BxTxW.dtype), v_BxKxSxD, preferred_element_type=jnp.float32
        )
        a_BxHxTxD = (a_BxKxGTxD / sum_BxKxGTx1).astype(h_BxTxW.dtype).reshape(B, c.heads, T, c.head_size)
        return x_BxTxW + a_BxHxTxD.swapaxes(1, 2).reshape(B, T, -1) @ self.out[...].astype(h_BxTxW.dtype), cache

    def feed_forward(self, x_BxTxW):
        h_BxTxW = rms_norm(x_BxTxW, self.ff_norm[...])
        up_BxTxF = h_BxTxW @ self.up[...].astype(h_BxTxW.dtype)
        if self.config.feedforward == "gated":
            up_BxTxF = up_BxTxF * jax.nn.silu(h_BxTxW @ self.gate[...].astype(h_BxTxW.dtype))
        else:
            up_BxTxF = jnp.square(jax.nn.relu(up_BxTxF))
        return x_BxTxW + up_BxTxF @ self.down[...].astype(h_BxTxW.dtype)


def recomputed(block: Block, x_BxTxW, positions_T, bias_BxTxS, cache, index, span):
    """The block without a cache (it is None), its inside computed again in the backward pass.

    A plain closure: `nnx.remat` refuses parameters of another trace, such as those of a reference policy.
    """
    return jax.checkpoint(lambda x: block(x, positions_T, bias_BxTxS, cache, index, span)[0])(x_BxTxW), cache


class Decoder(nnx.Module):
    """Pre-norm decoder: RMSNorm, rotary positions, grouped-query attention, relu² or gated feed-forward."""

    def __init__(self, config: ModelConfig, vocab: int, rngs: nnx.Rngs):
        self.config = config
        self.embedding = nnx.Param(jax.random.normal(rngs.params(), (vocab, config.width)) * 0.1)
        self.blocks = nnx.List([Block(config, rngs) for _ in range(config.layers)])
        self.final_norm = nnx.Param(jnp.ones(config.width))
        if not config.tied:
            self.unembedding = nnx.Param(
                jax.random.normal(rngs.params(), (config.width, vocab)) * 0.1 * config.width**-0.5
            )

    def __call__(
        self,
        tokens_BxT: Int[Array, "B T"],
        padding_B: Int[Array, " B"],
        cache: Cache | None = None,
        index: int | jax.Array = 0,
        span: int | None = None,
    ) -> tuple[Float[Array, "B T V"], Cache | None]:
        """float32 logits of the token after each (padding is never one), and the cache with these tokens in it.

        `padding_B` counts the left-padding of each row. With a cache the tokens stand at positions
        index … index + T − 1 and attend to the first `span` (static) positions of the cache at most.
        """
        c, T = self.config, tokens_BxT.shape[1]
        positions_T = index + jnp.arange(T)
        S = T if cache is None else (span or cache[0][0].shape[-2])
        keys_S = jnp.arange(S)
        seen_BxTxS = (keys_S <= positions_T[:, None]) & (keys_S >= padding_B[:, None, None])
        bias_BxTxS = jnp.where(seen_BxTxS, 0.0, HIDDEN)
        x_BxTxW = self.embedding[...].astype(c.dtype)[tokens_BxT]
        call = recomputed if c.remat and cache is None else Block.__call__
        new_cache = []
        for i, block in enumerate(self.blocks):
            x_BxTxW, layer = call(block, x_BxTxW, positions_T, bias_BxTxS, cache and cache[i], index, S)
            new_cache.append(layer)
        x_BxTxW = rms_norm(x_BxTxW, self.final_norm[...])
        out_WxV = self.embedding[...].T if c.tied else self.unembedding[...]
        if c.tied:
            x_BxTxW = x_BxTxW * c.width**-0.5
        logits_BxTxV = jnp.einsum(
            "btw,wv->btv", x_BxTxW, out_WxV.astype(x_BxTxW.dtype), preferred_element_type=jnp.float32
        )
        logits_BxTxV = jnp.where(jnp.arange(logits_BxTxV.shape[-1]) == PAD, HIDDEN, logits_BxTxV)
        return logits_BxTxV, None if cache is None else new_cache


def _lead(config: ModelConfig, batch: int) -> tuple[int, ...]:
    """The first axes of keys and values: batch and heads, where there are several."""
    return (batch,) if config.kv_heads == 1 else (batch, config.kv_heads)


def empty_cache(config: ModelConfig, batch: int, positions: int) -> Cache:
    """A cache of nothing, with room for so many positions."""
    shape = (*_lead(config, batch), positions, config.head_size)
    return [(jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype)) for _ in range(config.layers)]


def build(config: ModelConfig, vocab: int, seed: int) -> tuple[nnx.GraphDef, nnx.State]:
    """The model split into its definition and its float32 parameters; merge them inside jit."""
    return nnx.split(Decoder(config, vocab, nnx.Rngs(params=seed)))


def abstract(config: ModelConfig, vocab: int) -> tuple[nnx.GraphDef, nnx.State]:
    """The same with shapes and types for parameters, nothing computed."""
    return nnx.split(nnx.eval_shape(lambda: Decoder(config, vocab, nnx.Rngs(params=0))))
