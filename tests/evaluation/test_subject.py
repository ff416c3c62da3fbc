import numpy as np

from evaluation.subject import continuing
from tests.evaluation.test_likelihood import VOCAB, small_model

PROMPTS = [[0, 3, 5], [0, 7], [0, 9, 11, 13]]


def go_on(bytes_per_token, temperature=1.0, seed=0):
    model = small_model()
    found = continuing(model, bytes_per_token, new_tokens=8, top_p=1.0, seed=seed)
    return found(PROMPTS, temperature)


def test_a_continuation_ends_before_the_special_token_that_ends_the_text():
    lengths = np.arange(VOCAB) % 3  # every third token is special
    continuations = go_on(lengths)
    assert all(lengths[i] for ids in continuations for i in ids)
    assert any(len(ids) < 8 for ids in continuations)
    without = go_on(np.ones(VOCAB, np.int64))
    for ids, whole in zip(continuations, without, strict=True):
        assert whole[: len(ids)] == ids


def test_no_temperature_is_greedy_whatever_the_seed():
    everything = np.ones(VOCAB, np.int64)
    assert go_on(everything, None, seed=1) == go_on(everything, None, seed=2)
    assert go_on(everything, 1.0, seed=1) != go_on(everything, 1.0, seed=2)
    assert go_on(everything, 1.0, seed=1) == go_on(everything, 1.0, seed=1)
