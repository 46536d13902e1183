"""Memory that runs out: fewer completions at once, found once, said, and the same in the end."""

import pytest
from toy import CONFIG, model, toy_experiment, with_rl

from scaling import rl, room
from scaling.rl import collect
from scaling.room import within_memory
from scaling.timing import Stopwatch


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(room, "_found", {})


def roomy(most: int, tried: list[int], error: type[Exception] = MemoryError):
    def draw(chunk: int) -> int:
        tried.append(chunk)
        if chunk > most:
            raise error("RESOURCE_EXHAUSTED: Out of memory, really")
        return chunk

    return draw


@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_the_chunk_is_halved_until_it_fits_and_that_holds_for_the_process(error):
    tried, said = [], []
    assert within_memory(roomy(20, tried, error), "rl.chunk", 64, 4, said.append) == 16
    assert within_memory(roomy(20, tried), "rl.chunk", 64, 4, said.append) == 16
    assert tried == [64, 32, 16, 16]
    assert [line.partition("): ")[2] for line in said] == [
        "rl.chunk is 32 from here on; results differ by rounding alone",
        "rl.chunk is 16 from here on; results differ by rounding alone",
    ]
    assert within_memory(roomy(20, tried), "rl.chunk", 8, 4, said.append) == 8, "never more than was asked for"


def test_where_the_fewest_do_not_fit_the_error_stands():
    tried = []
    with pytest.raises(MemoryError):
        within_memory(roomy(3, tried), "rl.chunk", 64, 4, print)
    assert tried == [64, 32, 16, 8, 4]


def test_other_errors_are_not_tried_again():
    tried = []

    def draw(chunk: int) -> None:
        tried.append(chunk)
        raise RuntimeError("shapes differ")

    with pytest.raises(RuntimeError, match="shapes differ"):
        within_memory(draw, "rl.chunk", 64, 4, print)
    assert tried == [64]


def test_experience_is_the_same_with_the_chunk_that_fits(monkeypatch):
    """The sampler itself refuses more than one problem's group at once."""
    honest = rl.sample

    def cramped(*args, **options):
        if options["chunk"] > CONFIG.rl.samples:
            raise MemoryError
        return honest(*args, **options)

    def go(chunk: int) -> list:
        got = collect(toy_experiment(with_rl(chunk=chunk)), model()[1], Stopwatch(), 0)
        return [part.tokens_BxT.tolist() for part in got.batches] + [got.metrics, got.flops]

    free = go(64)
    monkeypatch.setattr(rl, "sample", cramped)
    assert within_memory(go, "rl.chunk", 64, CONFIG.rl.samples, print) == free
