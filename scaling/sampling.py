"""Sampling with a key-value cache, thinking budgets and log-probabilities.

At the thinking budget the end of thinking is forced (budget forcing, Muennighoff et al. 2025, arXiv 2501.19393):
`ANSWER` is injected and the model answers. A shorter budget is the same thinking cut earlier, so one pass at the
largest budget, rewound to each shorter one, reads the whole grid.

Shapes: P problems, B = P × group completions, N prompt tokens, T generated tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from scaling.model import empty_cache
from scaling.sharding import keep_cache
from scaling.tasks import ANSWER, END, PAD

SEGMENT = 32
"""Positions decoded per compiled segment; each attends only to the cache filled by its end."""
MOST_SEGMENTS = 8
"""Segments of one decode: each is compiled, so that a budget of thousands takes longer ones."""


class Rollout(NamedTuple):
    """Completions under one budget."""

    tokens_BxT: jax.Array
    """int32, `PAD` after the end."""
    logp_BxT: jax.Array
    """float32 log-probability of each sampled token at the sampling temperature; 0 where forced or padded."""
    length_B: jax.Array
    """int32 generated tokens, `END` and a forced `ANSWER` included."""
    forced_B: jax.Array
    """bool: the thinking was cut by the budget."""


class State(NamedTuple):
    t: jax.Array
    logits_BxV: jax.Array
    cache: list
    tokens_BxT: jax.Array
    logp_BxT: jax.Array
    answered_B: jax.Array
    """int32 position of `ANSWER`, or -1 while thinking."""
    alive_B: jax.Array
    forced_B: jax.Array


def left_pad(prompts: Sequence[Sequence[int]], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts as int32 P×width with padding on the left, and the padding of each row."""
    tokens = np.full((len(prompts), width), PAD, np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[width - len(prompt) :] = prompt
    return tokens, np.array([width - len(prompt) for prompt in prompts], np.int32)


def choose(logits_BxV: jax.Array, uniform_B: jax.Array, temperature: float) -> tuple[jax.Array, jax.Array]:
    """A token a row by inverting the cumulative distribution, and its log-probability; argmax at temperature 0.

    One uniform number a row instead of one Gumbel a logit: random bits cost half of a decode step on a CPU.
    """
    scaled = logits_BxV / (temperature or 1.0)
    logp_BxV = jax.nn.log_softmax(scaled)
    if temperature == 0:
        token_B = jnp.argmax(logits_BxV, axis=-1)
    else:
        vocab = logits_BxV.shape[-1]
        upper_VxV = jnp.triu(jnp.ones((vocab, vocab)))
        # Accelerators round the factors of a float32 product to 8 or 11 bits unless told not to.
        cumulative_BxV = jnp.matmul(jnp.exp(logp_BxV), upper_VxV, precision="highest")
        point_B = uniform_B * cumulative_BxV[:, -1]
        token_B = jnp.minimum((cumulative_BxV <= point_B[:, None]).sum(axis=-1), vocab - 1)
    return token_B.astype(jnp.int32), jnp.take_along_axis(logp_BxV, token_B[:, None], axis=-1)[:, 0]


def _decode(
    model, padding_B, prompt, state: State, start: int, budget: int, answer_tokens: int, uniform_BxT, temperature
) -> State:
    """Run every row that is alive to its end, from generated position `start` on."""

    def body(span, state: State) -> State:
        t = state.t
        sampled_B, logp_B = choose(state.logits_BxV, uniform_BxT[:, t], temperature)
        thinking_B = state.answered_B < 0
        force_B = state.alive_B & thinking_B & (t == budget)
        token_B = jnp.where(force_B, ANSWER, sampled_B)
        free_B = state.alive_B & ~force_B
        answered_B = jnp.where(state.alive_B & thinking_B & (token_B == ANSWER), t, state.answered_B)
        full_B = (answered_B >= 0) & (t - answered_B >= answer_tokens)
        alive_B = state.alive_B & (token_B != END) & ~full_B
        logits_BxV, cache = model(token_B[:, None], padding_B, state.cache, prompt + t, span)
        return State(
            t + 1,
            logits_BxV[:, 0],
            cache,
            # A row that is over keeps what it has: an answer given within a shorter budget may reach past it.
            state.tokens_BxT.at[:, t].set(jnp.where(state.alive_B, token_B, state.tokens_BxT[:, t])),
            state.logp_BxT.at[:, t].set(jnp.where(free_B, logp_B, state.logp_BxT[:, t])),
            answered_B,
            alive_B,
            state.forced_B | force_B,
        )

    stop = budget + 1 + answer_tokens
    state = state._replace(t=jnp.int32(start))
    width = max(SEGMENT, -(-stop // MOST_SEGMENTS))
    edges = [*range(start - start % width + width, stop, width), stop]
    for edge in edges:
        state = jax.lax.while_loop(
            lambda s, edge=edge: (s.t < edge) & s.alive_B.any(), partial(body, prompt + edge), state
        )
    return state


@partial(jax.jit, static_argnames=("graphdef", "group", "budgets", "answer_tokens", "temperature", "mesh"))
def sample(
    graphdef: nnx.GraphDef,
    params: nnx.State,
    prompts_PxN: jax.Array,
    padding_P: jax.Array,
    row_keys_B: jax.Array,
    *,
    group: int,
    budgets: tuple[int, ...],
    answer_tokens: int,
    temperature: float,
    mesh: Mesh | None = None,
) -> tuple[Rollout, ...]:
    """`group` completions of each prompt under each budget (rising), from one pass at the largest.

    A row's tokens depend on its key and its prompt alone, not on the batch around it. Prompts are read once and
    their cache shared by the group, on a mesh split by the rule there. Row p·group + g belongs to prompt p.
    """
    model = nnx.merge(graphdef, params)
    config = model.config
    prompts, prompt = prompts_PxN.shape
    largest = budgets[-1]
    length = largest + 1 + answer_tokens
    cache = empty_cache(config, prompts, prompt + length)
    logits_PxNxV, cache = model(prompts_PxN, padding_P, cache, 0, prompt)
    assert cache is not None
    logits_BxV, cache = jax.tree.map(lambda x: jnp.repeat(x, group, axis=0), (logits_PxNxV[:, -1], cache))
    cache = keep_cache(cache, mesh) if mesh is not None else cache
    padding_B = jnp.repeat(padding_P, group)
    batch = prompts * group
    state = State(
        jnp.int32(0),
        logits_BxV,
        cache,
        jnp.full((batch, length), PAD, jnp.int32),
        jnp.zeros((batch, length)),
        jnp.full(batch, -1, jnp.int32),
        jnp.ones(batch, bool),
        jnp.zeros(batch, bool),
    )

    def decode(state: State, start: int, budget: int) -> State:
        keys_B = jax.vmap(jax.random.fold_in, (0, None))(row_keys_B, budget)
        uniform_BxT = jax.vmap(lambda key: jax.random.uniform(key, (length,)))(keys_B)
        return _decode(model, padding_B, prompt, state, start, budget, answer_tokens, uniform_BxT, temperature)

    full = decode(state, 0, largest)
    rollouts = [_rollout(full)]
    ended_B = jnp.where(full.answered_B >= 0, full.answered_B, (full.tokens_BxT != PAD).sum(-1) - 1)
    rewound = full
    for budget in reversed(budgets[:-1]):
        # The cache below the cut still holds the prefix: answers were written above it.
        cut_B = ended_B >= budget
        keep_BxT = ~cut_B[:, None] | (jnp.arange(length) < budget)
        rewound = decode(
            rewound._replace(
                tokens_BxT=jnp.where(keep_BxT, full.tokens_BxT, PAD),
                logp_BxT=jnp.where(keep_BxT, full.logp_BxT, 0.0),
                answered_B=jnp.where(cut_B, -1, full.answered_B),
                alive_B=cut_B,
                forced_B=jnp.zeros(batch, bool),
            ),
            budget,
            budget,
        )
        rollouts.append(_rollout(rewound))
    return tuple(reversed(rollouts))


def _rollout(state: State) -> Rollout:
    return Rollout(state.tokens_BxT, state.logp_BxT, (state.tokens_BxT != PAD).sum(-1), state.forced_B)


def row_keys(seed: int, stream: int, place: int, rows: np.ndarray) -> jax.Array:
    """A key for each row: a pure function of (seed, stream, place, row)."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream), place)
    return jax.vmap(partial(jax.random.fold_in, key))(jnp.asarray(rows, jnp.uint32))
