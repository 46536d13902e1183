"""A verifier that fails is named with the problem and the completion, and so is one that hangs."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from toy import TASK, Toy, problems

from scaling import verifying
from scaling.tasks import END, PAD
from scaling.verifying import TaskError, verify

TOKENS = np.array([[5, END, PAD], [6, END, PAD], [7, 8, END], [END, PAD, PAD]])


class Fails(Toy):
    """Fails at the third completion."""

    def verify(self, problem, completion):
        if completion[0] == 7:
            self.fail()
        return super().verify(problem, completion)

    def fail(self):
        raise ZeroDivisionError("division by zero")


class Hangs(Fails):
    def fail(self):
        while True:
            pass


def test_a_verifier_that_raises_is_a_line_with_task_problem_completion_and_place():
    with pytest.raises(TaskError) as error:
        verify(Fails(), problems(2), TOKENS)
    line = str(error.value)
    assert line.startswith("task test_verifying: its verifier raises ZeroDivisionError: division by zero (test_")
    assert f"at problem {problems(2)[1].index}, completion 0: " in line and "\n" not in line


def test_a_verifier_that_hangs_ends(monkeypatch):
    monkeypatch.setattr(verifying, "PATIENCE_SECONDS", 0.05)
    with pytest.raises(TaskError, match=r"takes more than 0\.05 s over problem 1, completion 0"):
        verify(Hangs(), [replace(p, index=i) for i, p in enumerate(problems(2))], TOKENS)


def test_many_completions_may_take_long_together(monkeypatch):
    monkeypatch.setattr(verifying, "PATIENCE_SECONDS", 0.2)

    class Slow(Toy):
        def verify(self, problem, completion):
            time.sleep(0.08)
            return super().verify(problem, completion)

    assert len(verify(Slow(), problems(2), np.repeat(TOKENS, 2, axis=0))) == 8


def test_outside_the_main_thread_nothing_is_watched():
    found = []
    thread = threading.Thread(target=lambda: found.extend(verify(TASK, problems(2), TOKENS)))
    thread.start()
    thread.join()
    assert len(found) == 4
