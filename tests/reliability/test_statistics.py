"""Numbers that must not move: when a unit, an order or a copy changes; when rewards say nothing."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.fit import fit_series
from analysis.series import series_of
from analysis.table import read
from scaling.config import TaskConfig
from scaling.tasks import make_task
from tests.scaling.small_runs import begin, go, small

pytestmark = pytest.mark.reliability

COMPUTE = 10.0 ** np.linspace(9, 12, 9)
ACCURACY = 0.15 + 0.6 / (1 + (3e10 / COMPUTE) ** 1.2)
EASY = (
    *("rl.flops=3e9", "rl.learning_rate=1e-2", "rl.problems=8", "rl.samples=8", "rl.budgets=[4]"),
    *("warm_start.stages=[]", "schedule.rl_first=1e11", "schedule.first=1e11"),
)
DIFFICULTIES = [("root_search", 2, 3), ("operator_search", 2, 7), ("recurrence", 4, 64)]


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    """One curve: as it is, in another unit, in another order, and with every row twice; fitted in one call."""
    order = np.random.default_rng(0).permutation(len(COMPUTE))
    tables = {
        "as it is": (COMPUTE, ACCURACY),
        "in exaFLOPs": (COMPUTE / 1e18, ACCURACY),
        "in another order": (COMPUTE[order], ACCURACY[order]),
        "twice": (np.tile(COMPUTE, 2), np.tile(ACCURACY, 2)),
    }
    series = []
    for compute, accuracy in tables.values():
        path = tmp_path_factory.mktemp("t") / "curve.csv"
        pl.DataFrame({"compute": compute, "accuracy": accuracy, "n": 2000.0}).write_csv(path)
        (one,) = series_of(read(path)[0])
        series.append(one)
    return dict(zip(tables, fit_series(series, replicates=40), strict=True))


@pytest.mark.parametrize("name", ["in exaFLOPs", "in another order", "twice"])
def test_the_answer_does_not_depend_on_the_unit_of_compute_the_order_of_rows_or_copies(fits, name):
    unit = 1e-18 if name == "in exaFLOPs" else 1.0
    one, other = fits["as it is"], fits[name]
    at = np.array([1e11, 1e12, 1e13])
    assert other.quantiles(at * unit) == pytest.approx(one.quantiles(at), abs=3e-3)  # read off between nodes
    assert other.answer.verdict == one.answer.verdict
    assert other.answer.probability == pytest.approx(one.answer.probability, abs=1e-3)
    assert other.answer.asymptote.median == pytest.approx(one.answer.asymptote.median, rel=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(DIFFICULTIES), st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1), st.integers(0, 10**9))
def test_no_training_problem_of_any_seed_is_a_held_out_problem_of_any_seed(case, one, other, first):
    task = make_task(TaskConfig(*case))
    trained = [task.problem(one, "train", first + i) for i in range(40)]
    held_out = [task.problem(other, "eval", first + i) for i in range(20)]
    assert not {p.key for p in trained} & {p.key for p in held_out}
    assert not {p.prompt for p in trained} & {p.prompt for p in held_out}


@pytest.mark.slow
def test_rewards_that_say_something_are_learned_and_shuffled_ones_are_not(tmp_path):
    """The same run twice, rewarded for an odd first token: told which completions had it, and told at random."""

    def reward(shuffled: bool) -> float:
        """Mean of the last ten steps; the first ones are at a half."""
        config, path = small(*EASY, f"rl.shuffle_rewards={shuffled}"), tmp_path / str(shuffled)
        assert go(path, config) == "done"
        got = [row["metrics"]["reward"] for row in begin(path, config).train_rows()]
        assert abs(float(np.mean(got[:4])) - 0.5) < 0.1
        return float(np.mean(got[-10:]))

    assert reward(shuffled=False) > 0.9
    assert abs(reward(shuffled=True) - 0.5) < 0.15
