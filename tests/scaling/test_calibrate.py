"""The calibration runs what a run runs, leaves the caller's config alone, and gives a rate for every phase."""

from dataclasses import replace

import numpy as np
import pytest
from small_runs import small
from toy import MODEL, TASK, VOCAB, one_device, problems

from scaling import calibrate
from scaling.model import build
from scaling.sampling import left_pad, row_keys, sample
from scaling.tasks import ANSWER, END, PAD


def test_a_talkative_policy_thinks_until_its_budget_ends_it():
    """Of tied embeddings; test_costs.py has one whose embeddings are not."""
    graphdef, params = build(replace(MODEL, tied=True), len(VOCAB), 0)
    prompts, padding = left_pad([p.prompt for p in problems(4)], TASK.prompt_tokens)
    (found,) = sample(
        graphdef,
        calibrate.talkative(params),
        prompts,
        padding,
        row_keys(0, 1, 0, np.arange(8)),
        group=2,
        budgets=(9,),
        answer_tokens=TASK.answer_tokens,
        temperature=1.0,
        chunk=8,
        mesh=one_device(),
    )
    thinking = np.asarray(found.tokens_BxT)[:, :9]
    assert found.forced_B.all() and not np.isin(thinking, (PAD, END, ANSWER)).any()
    assert len(set(thinking.ravel().tolist())) > 3


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
