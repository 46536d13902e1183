"""Wall time by phase: every second is counted once, and compilation apart from the phase that waited for it."""

from time import perf_counter, sleep

import jax
import jax.numpy as jnp
import pytest

from scaling.timing import Stopwatch


def test_phases_add_up_to_the_time_that_passed():
    watch, start = Stopwatch(), perf_counter()
    with watch("rollout"):
        sleep(0.03)
    with watch("update"):
        sleep(0.01)
    with watch("rollout"):
        sleep(0.02)
    elapsed, taken = perf_counter() - start, watch.take()
    assert set(taken) == {"rollout", "update", "compile"}
    assert taken["rollout"] >= 0.05 and taken["update"] >= 0.01 and taken["compile"] == 0
    assert sum(taken.values()) <= elapsed


def test_compilation_is_taken_out_of_the_phase_that_waited_for_it():
    watch, start = Stopwatch(), perf_counter()

    @jax.jit
    def slow_to_compile(x):
        for i in range(60):
            x = jnp.sin(x @ x + i)
        return x

    x = jnp.ones((8, 8))
    with watch("update"):
        slow_to_compile(x).block_until_ready()
    elapsed, first = perf_counter() - start, watch.take()
    assert first["compile"] > 0
    assert first["update"] >= 0 and sum(first.values()) <= elapsed
    with watch("update"):
        slow_to_compile(x).block_until_ready()
    assert watch.take()["compile"] == 0, "compiled already"


def test_taking_starts_again():
    watch = Stopwatch()
    with watch("other"):
        sleep(0.005)
    assert watch.take()["other"] >= 0.005
    assert watch.take() == {}


def test_a_block_that_raises_is_counted_too():
    watch = Stopwatch()
    with pytest.raises(KeyError), watch("verify"):
        sleep(0.005)
        raise KeyError
    assert watch.take()["verify"] >= 0.005
