"""The calibration runs what a run runs, leaves the caller's config alone, and gives a rate for every phase."""

from dataclasses import replace

import numpy as np
import pytest
from small_runs import small
from toy import MODEL, TASK, VOCAB, one_device, problems

from scaling import calibrate, costs
from scaling import config as configs
from scaling.model import build
from scaling.sampling import left_pad, row_keys, sample
from scaling.tasks import ANSWER, END, PAD, make_task


def said(params, ending: float, rows: int, budget: int):
    """Completions of a rambling policy."""
    graphdef = build(replace(MODEL, tied="unembedding" not in params), len(VOCAB), 0)[0]
    prompts, padding = left_pad([p.prompt for p in problems(rows // 2)], TASK.prompt_tokens)
    (found,) = sample(
        graphdef,
        calibrate.rambling(params, ending),
        prompts,
        padding,
        row_keys(0, 1, 0, np.arange(rows)),
        group=2,
        budgets=(budget,),
        answer_tokens=TASK.answer_tokens,
        temperature=1.0,
        chunk=rows,
        mesh=one_device(),
    )
    return found


@pytest.mark.parametrize("tied", [True, False])
def test_a_rambling_policy_ends_as_often_as_asked_and_else_at_its_budget(tied):
    _, params = build(replace(MODEL, tied=tied), len(VOCAB), 0)
    never = said(params, 0.0, 8, 9)
    thinking = never.tokens_BxT[:, :9]
    assert never.forced_B.all() and not np.isin(thinking, (PAD, END, ANSWER)).any()
    assert len(set(thinking.ravel().tolist())) > 3
    often = said(params, 0.1, 512, 12)
    assert not (often.tokens_BxT[:, :12] == END).any() or (often.tokens_BxT == ANSWER).any(axis=1).all()
    share, still = often.forced_B.mean(), 0.9**12
    assert abs(share - still) < 4 * (still * (1 - still) / 512) ** 0.5


def test_thinking_ends_as_often_as_demonstrations_do():
    config, budget = configs.load("demo"), 92
    task = make_task(config.task)
    rate = calibrate.ending_rate(config, task, budget)
    lengths = [tokens.index(ANSWER) for _, tokens in costs.last_taught(config, task, budget)]
    expected = (1 - (1 - rate) ** budget) / rate
    assert 0 < rate < 1 and expected == pytest.approx(np.mean(lengths), rel=0.2)
    assert calibrate.ending_rate(small("warm_start.stages=[]"), task, budget) == 0


@pytest.mark.slow
def test_every_phase_gets_a_rate():
    said = []
    config = small("rl.budgets=[5, 5]", "evaluation.budgets=[0, 4]", "evaluation.samples=[1, 2]")
    rates = calibrate.calibrate(config, said.append)
    assert len(rates.warm_start) == len(config.warm_start.stages)
    assert rates.rollout[0] == rates.rollout[1] and rates.update[0] == rates.update[1]
    for seconds in (*rates.warm_start, *rates.rollout, *rates.update, rates.evaluation, rates.checkpoint):
        assert seconds > 0
    assert len(said) == len(config.warm_start.stages) + 1 + 1
