"""Sampling with a key-value cache, thinking budgets and log-probabilities.

At the thinking budget the end of thinking is forced (budget forcing, Muennighoff et al. 2025, arXiv 2501.19393):
`ANSWER` is injected and the model answers. A shorter budget is the same thinking cut earlier, so one pass at the
largest budget reads the whole grid: at each shorter one it stops, those that still think answer at once, and it
goes on as if they had not.

The batch follows the completions: the cache grows with them, and once half of them are over, the other half goes
on alone. What is compiled depends on the batch and the cache alone, so all budgets share it.

Shapes: P problems, B = P × group completions, R rows still decoded, N prompt tokens, S positions of the cache,
T generated tokens, W tokens of one call, V vocabulary.
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

from scaling.model import Cache, empty_cache
from scaling.sharding import batch_ways, fetch, keep_batch, keep_cache, place_batch
from scaling.tasks import ANSWER, END, PAD

FIRST_SPAN = 32
"""Generated positions that a cache starts with, and `MARGIN` more; it doubles when they are filled."""
MARGIN = 4
"""A completion is a round budget, the answer mark and a short answer."""
FEWEST_ROWS = 64
"""A batch of fewer rows a device is not halved: a decoding step hardly gets cheaper."""


class Rollout(NamedTuple):
    """Completions under one budget, on the host."""

    tokens_BxT: np.ndarray
    """int32, `PAD` after the end; T = budget + 1 + answer tokens."""
    logp_BxT: np.ndarray
    """float32 log-probability of each sampled token at the sampling temperature; 0 where forced or padded."""
    length_B: np.ndarray
    """int64 generated tokens, `END` and a forced `ANSWER` included."""
    forced_B: np.ndarray
    """bool: the thinking was cut by the budget."""


class Rows(NamedTuple):
    """The completions that are being decoded, on the devices."""

    logits_RxV: jax.Array
    cache: Cache
    padding_R: jax.Array
    answered_R: jax.Array
    """int32 position of `ANSWER`, or -1 while thinking."""
    alive_R: jax.Array


def left_pad(prompts: Sequence[Sequence[int]], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Prompts as int32 P×width with padding on the left, and the padding of each row."""
    tokens = np.full((len(prompts), width), PAD, np.int32)
    for row, prompt in zip(tokens, prompts, strict=True):
        row[width - len(prompt) :] = prompt
    return tokens, np.array([width - len(prompt) for prompt in prompts], np.int32)


def spans(length: int) -> list[int]:
    """The generated positions that the cache of completions of `length` tokens holds in turn.

    36, 68, 132, 260, …, the last of them with a quarter less where that suffices.
    """
    widths = [FIRST_SPAN]
    while widths[-1] + MARGIN < length:
        widths.append(2 * widths[-1])
    if len(widths) > 1 and length <= widths[-1] * 3 // 4 + MARGIN:
        widths[-1] = widths[-1] * 3 // 4
    return [width + MARGIN for width in widths]


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


def padded(rows: int, chunk: int) -> int:
    """The batch that so many rows are decoded in: `chunk`, or a half, a quarter, … of it that holds them."""
    size = max(rows, chunk)
    while size % 2 == 0 and size // 2 >= rows:
        size //= 2
    return size


def layout(prompts: int, group: int, chunk: int) -> tuple[int, int]:
    """How many of these prompts are read at once, and the batch that their completions are decoded in."""
    each = min(max(chunk // group, 1), prompts)
    return each, padded(each * group, chunk)


@partial(jax.jit, static_argnames=("graphdef", "group", "batch", "span", "mesh"))
def prefill(
    graphdef: nnx.GraphDef,
    params: nnx.State,
    prompts_PxN: jax.Array,
    padding_P: jax.Array,
    *,
    group: int,
    batch: int,
    span: int,
    mesh: Mesh,
) -> Rows:
    """The prompts read once, each for its whole group, with a cache for `span` generated positions.

    Rows past those of the prompts, up to `batch`, are over before they begin.
    """
    model = nnx.merge(graphdef, params)
    prompts, prompt = prompts_PxN.shape
    empty = empty_cache(model.config, prompts, prompt + span)
    logits_PxNxV, cache = model(prompts_PxN, padding_P, empty, 0, prompt)
    logits_BxV, cache, padding_B = jax.tree.map(
        lambda x: jnp.repeat(x, group, axis=0, total_repeat_length=batch), (logits_PxNxV[:, -1], cache, padding_P)
    )
    alive_B = jnp.arange(batch) < prompts * group
    return _keep(Rows(logits_BxV, cache, padding_B, jnp.full(batch, -1, jnp.int32), alive_B), mesh)


def _keep(rows: Rows, mesh: Mesh) -> Rows:
    """Inside jit: the rows split as batches are, and the cache by its own rule."""
    return keep_batch(rows._replace(cache=[]), mesh)._replace(cache=keep_cache(rows.cache, mesh))


@partial(
    jax.jit,
    static_argnames=("graphdef", "prompt", "answer_tokens", "temperature", "mesh"),
    donate_argnames=("rows",),
)
def decode(
    graphdef: nnx.GraphDef,
    params: nnx.State,
    rows: Rows,
    uniform_RxW: jax.Array,
    start: int | jax.Array,
    stop: int | jax.Array,
    budget: int | jax.Array,
    enough: int | jax.Array,
    *,
    prompt: int,
    answer_tokens: int,
    temperature: float,
    mesh: Mesh,
) -> tuple[Rows, jax.Array, jax.Array, jax.Array]:
    """Generated positions `start` to `stop` − 1, at most W of them, thinking forced to end at `budget`.

    Ends early once no device has more than `enough` rows alive. Returns the rows, their int32 tokens and float32
    log-probabilities (both R×W, `PAD` and 0 where none were drawn) and how many positions were decoded.
    """
    model = nnx.merge(graphdef, params)
    width = uniform_RxW.shape[1]
    ways = batch_ways(mesh, len(uniform_RxW))

    def go_on(carry) -> jax.Array:
        i, rows, *_ = carry
        most = rows.alive_R.reshape(ways, -1).sum(axis=1).max()
        return (i < width) & (start + i < stop) & (most > enough)

    def body(carry):
        i, (logits_RxV, cache, padding_R, answered_R, alive_R), tokens_RxW, logp_RxW = carry
        t = start + i
        sampled_R, logp_R = choose(logits_RxV, uniform_RxW[:, i], temperature)
        thinking_R = answered_R < 0
        force_R = alive_R & thinking_R & (t == budget)
        token_R = jnp.where(force_R, ANSWER, sampled_R)
        tokens_RxW = tokens_RxW.at[:, i].set(jnp.where(alive_R, token_R, PAD))
        logp_RxW = logp_RxW.at[:, i].set(jnp.where(alive_R & ~force_R, logp_R, 0.0))
        answered_R = jnp.where(alive_R & thinking_R & (token_R == ANSWER), t, answered_R)
        full_R = (answered_R >= 0) & (t - answered_R >= answer_tokens)
        logits_RxTxV, cache = model(token_R[:, None], padding_R, cache, prompt + t)
        alive_R = alive_R & (token_R != END) & ~full_R
        return i + 1, Rows(logits_RxTxV[:, 0], cache, padding_R, answered_R, alive_R), tokens_RxW, logp_RxW

    nothing = jnp.full(uniform_RxW.shape, PAD, jnp.int32), jnp.zeros(uniform_RxW.shape, jnp.float32)
    start_ = jnp.int32(0), _keep(rows, mesh), *keep_batch(nothing, mesh)
    done, rows, tokens_RxW, logp_RxW = jax.lax.while_loop(go_on, body, start_)
    tokens_RxW, logp_RxW = keep_batch((tokens_RxW, logp_RxW), mesh)
    return _keep(rows, mesh), tokens_RxW, logp_RxW, done


@partial(jax.jit, static_argnames=("positions", "mesh"))
def grow(cache: Cache, *, positions: int, mesh: Mesh) -> Cache:
    """The cache with room for more positions."""
    more = positions - cache[0][0].shape[-2]
    wider = jax.tree.map(lambda x: jnp.pad(x, [*[(0, 0)] * (x.ndim - 2), (0, more), (0, 0)]), cache)
    return keep_cache(wider, mesh)


@partial(jax.jit, static_argnames=("mesh",))
def pick(rows: Rows, kept_DxK: jax.Array, *, mesh: Mesh) -> Rows:
    """K rows of each of D equal parts of the batch, by their place in the part: nothing moves between devices."""
    parts, kept = kept_DxK.shape

    def leaf(x):
        split = x.reshape(parts, -1, *x.shape[1:])
        return jax.vmap(lambda part, index: part[index])(split, kept_DxK).reshape(parts * kept, *x.shape[1:])

    return _keep(jax.tree.map(leaf, rows), mesh)


@partial(jax.jit, static_argnames=("length",))
def uniforms(keys_B: jax.Array, budget: int | jax.Array, *, length: int) -> jax.Array:
    """float32[B, length] in [0, 1): the randomness of each row under a budget, by position."""
    return jax.vmap(lambda key: jax.random.uniform(jax.random.fold_in(key, budget), (length,)))(keys_B)


class _Pass:
    """One pass over some prompts: rows on the devices, and what they have said so far on the host."""

    def __init__(self, graphdef, params, prompts_PxN, padding_P, keys_B, budgets, group, batch, mesh, **options):
        self.graphdef, self.params, self.mesh = graphdef, params, mesh
        self.keys_B = place_batch(keys_B[np.minimum(np.arange(batch), len(keys_B) - 1)], mesh)
        self.budgets, self.prompt = budgets, prompts_PxN.shape[1]
        self.options = {**options, "prompt": self.prompt, "mesh": mesh}
        self.length = budgets[-1] + 1 + options["answer_tokens"]
        self.spans = spans(self.length)
        self.span = self.spans[0]
        placed = place_batch((prompts_PxN, padding_P), mesh)
        self.rows = prefill(graphdef, params, *placed, group=group, batch=batch, span=self.span, mesh=mesh)
        self.place_R = np.arange(batch)
        """Which completion each row is."""
        self.alive_R = self.place_R < len(keys_B)
        self.tokens_BxT = np.full((batch, self.length), PAD, np.int32)
        self.logp_BxT = np.zeros((batch, self.length), np.float32)

    def uniforms(self, budget: int) -> np.ndarray:
        return fetch(uniforms(self.keys_B, budget, length=FIRST_SPAN * 2 ** len(self.spans)))

    def decode(self, uniform_BxT, start: int, stop: int, budget: int, enough: int):
        """Tokens, log-probabilities and number of the positions from `start` on, as far as one call goes."""
        room = next(span for span in self.spans if span > start)
        if room > self.span:
            self.span = room
            cache = grow(self.rows.cache, positions=self.prompt + room, mesh=self.mesh)
            self.rows = self.rows._replace(cache=cache)
        before = max((span for span in self.spans if span < room), default=0)
        part = uniform_BxT[self.place_R, start : start + room - before]
        uniform_RxW = np.pad(part, ((0, 0), (0, room - before - part.shape[1])))
        self.rows, tokens_RxW, logp_RxW, done = decode(
            self.graphdef,
            self.params,
            self.rows,
            place_batch(uniform_RxW, self.mesh),
            *map(np.int32, (start, min(stop, room), budget, enough)),
            **self.options,
        )
        width = int(done)
        return fetch(tokens_RxW)[:, :width], fetch(logp_RxW)[:, :width], width

    def think(self, uniform_BxT, start: int, stop: int) -> int:
        """Go on to `stop`, or until no row is alive; where it stands then."""
        while start < stop and self.alive_R.any():
            ways = batch_ways(self.mesh, len(self.place_R))
            half = len(self.place_R) // ways // 2
            splits = half >= FEWEST_ROWS and len(self.place_R) % (2 * ways) == 0
            enough = half if splits else 0
            tokens_RxW, logp_RxW, width = self.decode(uniform_BxT, start, stop, self.budgets[-1], enough)
            self.tokens_BxT[self.place_R, start : start + width] = tokens_RxW
            self.logp_BxT[self.place_R, start : start + width] = logp_RxW
            start += width
            self.alive_R = fetch(self.rows.alive_R)
            alive_DxR = self.alive_R.reshape(ways, -1)
            if splits and alive_DxR.sum(axis=1).max() <= half:
                kept_DxK = np.sort(np.argsort(~alive_DxR, axis=1, kind="stable")[:, :half], axis=1)
                self.rows = pick(self.rows, place_batch(kept_DxK, self.mesh), mesh=self.mesh)
                for name in ("place_R", "alive_R"):
                    parts = getattr(self, name).reshape(ways, -1)
                    setattr(self, name, np.take_along_axis(parts, kept_DxK, axis=1).reshape(-1))
        return start

    def answer(self, budget: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows that still think at `budget`, made to answer there: which they are, tokens, log-probabilities.

        The rows go on as if nothing had been asked: what was written into the cache past the budget is
        overwritten before it is attended to.
        """
        asked_R = self.alive_R & (fetch(self.rows.answered_R) < 0)
        rows, stop = self.rows, budget + 1 + self.options["answer_tokens"]
        kept = jax.tree.map(jnp.copy, rows._replace(cache=[]))
        self.rows = rows._replace(alive_R=place_batch(asked_R, self.mesh))
        uniform_BxT, at = self.uniforms(budget), budget
        parts = []
        while at < stop:
            tokens_RxW, logp_RxW, width = self.decode(uniform_BxT, at, stop, budget, 0)
            parts.append((tokens_RxW[asked_R], logp_RxW[asked_R]))
            if width == 0:
                break
            at += width
        self.rows = kept._replace(cache=self.rows.cache)
        tokens, logp = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
        return self.place_R[asked_R], tokens, logp


def sample(
    graphdef: nnx.GraphDef,
    params: nnx.State,
    prompts_PxN: np.ndarray,
    padding_P: np.ndarray,
    keys_B: jax.Array,
    *,
    group: int,
    budgets: tuple[int, ...],
    answer_tokens: int,
    temperature: float,
    chunk: int,
    mesh: Mesh,
) -> tuple[Rollout, ...]:
    """`group` completions of each prompt under each budget (rising), from one pass at the largest.

    A row's tokens depend on its key and its prompt alone, not on the batch around it. Prompts are read once and
    their cache shared by the group. Row p·group + g belongs to prompt p. At most `chunk` completions are decoded
    at once, and always one prompt's; all chunks have one shape, and it hardly depends on the group.
    """
    each, batch = layout(len(prompts_PxN), group, chunk)
    parts = []
    for first in range(0, len(prompts_PxN), each):
        chosen_P = np.minimum(np.arange(first, first + each), len(prompts_PxN) - 1)
        chosen_B = (chosen_P[:, None] * group + np.arange(group)).reshape(-1)
        prompts = prompts_PxN[chosen_P], padding_P[chosen_P], keys_B[chosen_B]
        options = {"answer_tokens": answer_tokens, "temperature": temperature}
        got = _rollouts(_Pass(graphdef, params, *prompts, budgets, group, batch, mesh, **options))
        used = (min(first + each, len(prompts_PxN)) - first) * group
        parts.append([Rollout(*(x[:used] for x in rollout)) for rollout in got])
    by_budget = zip(*parts, strict=True)
    return tuple(Rollout(*map(np.concatenate, zip(*found, strict=True))) for found in by_budget)


def _rollouts(going: _Pass) -> list[Rollout]:
    """Run a pass to its end; a rollout for each of its budgets."""
    *shorter, largest = going.budgets
    uniform_BxT, at, answers = going.uniforms(largest), 0, []
    for budget in shorter:
        at = going.think(uniform_BxT, at, budget)
        answers.append(going.answer(budget) if going.alive_R.any() else None)
    going.think(uniform_BxT, at, going.length)
    rollouts = []
    for budget, answer in zip(shorter, answers, strict=True):
        width = budget + 1 + going.options["answer_tokens"]
        tokens_BxT, logp_BxT = going.tokens_BxT[:, :width].copy(), going.logp_BxT[:, :width].copy()
        if answer is not None:
            place, tokens, logp = answer
            for whole, new, none in ((tokens_BxT, tokens, PAD), (logp_BxT, logp, 0.0)):
                whole[place, budget:] = none
                whole[place, budget : budget + new.shape[1]] = new
        rollouts.append(_rollout(tokens_BxT, logp_BxT, budget))
    return [*rollouts, _rollout(going.tokens_BxT, going.logp_BxT, largest)]


def _rollout(tokens_BxT: np.ndarray, logp_BxT: np.ndarray, budget: int) -> Rollout:
    over_BxT = np.isin(tokens_BxT[:, :budget], (ANSWER, END))
    return Rollout(tokens_BxT, logp_BxT, (tokens_BxT != PAD).sum(axis=1), np.logical_not(over_BxT.any(axis=1)))


def row_keys(seed: int, stream: int, place: int, rows: np.ndarray) -> jax.Array:
    """A key for each row: a pure function of (seed, stream, place, row)."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream), place)
    return jax.vmap(partial(jax.random.fold_in, key))(jnp.asarray(rows, jnp.uint32))
