import dataclasses
import json
import re

import numpy as np
import pytest

from datalake.config import Refusal
from evaluation.findings import Evaluation
from evaluation.pages.leaderboard import Leaderboard, leaderboard_page, rank, standing_chart, write
from evaluation.scorecard import ALL
from tests.evaluation.pages.test_page import Outline
from tests.evaluation.test_scorecard import card, sums


def evaluation(name="base", seed=0, gain=0.2, noise=0.0):
    found, sources = sums(gain=gain)
    random = np.random.default_rng(seed)
    model = found.nats["model"] + noise * random.normal(size=40) * found.num_bytes
    found = dataclasses.replace(found, nats=found.nats | {"model": model})
    return Evaluation(phase="base", card=card(seed=seed, name=name), sums=found, sources=sources)


def names(board: Leaderboard, source=ALL):
    standing = next(s for s in board.standings if s.source == source)
    return [(place.place, place.name) for place in standing.places]


def test_the_better_model_comes_first_and_the_baseline_counts_once():
    board = rank([evaluation("base", gain=0.2), evaluation("better", seed=1, gain=0.9)])
    assert names(board) == [(1, "better"), (2, "base"), (3, "bigram")]
    assert [standing.source for standing in board.standings] == [ALL, "code", "web"]


def test_a_model_alone_has_the_intervals_of_its_scorecard():
    found = evaluation()
    for standing in rank([found]).standings:
        scores = found.card.of(standing.source).scores
        for place in standing.places:
            scorer = "bigram" if place.baseline else "model"
            assert place.bits_per_byte == scores[scorer].bits_per_byte


def test_the_order_of_evaluations_changes_nothing():
    given = [evaluation(f"m{i}", seed=i, gain=0.1 * i, noise=0.1) for i in range(4)]
    assert rank(given).standings == rank(given[::-1]).standings


def test_models_whose_intervals_overlap_are_tied_though_pairing_tells_them_apart():
    board = rank([evaluation("base", gain=0.2), evaluation("close", seed=1, gain=0.21)])
    first, second, _ = board.standings[0].places
    assert (first.name, second.name) == ("close", "base")
    assert first.place == second.place == 1
    assert first.tied and second.tied
    assert first.behind is None
    assert second.behind.value == pytest.approx(0.01)
    assert second.behind.excludes_zero


def test_only_shared_documents_are_compared():
    less = evaluation("less", seed=1)
    fewer = dataclasses.replace(
        less, sums=less.sums.only(np.arange(40) < 30), sources=less.sources[:30]
    )
    board = rank([evaluation(), fewer])
    assert board.standings[0].num_documents == 30
    assert board.left_out == {"base": 10, "less": 0}
    scored = {place.name: place.bits_per_byte for place in board.standings[0].places}
    assert scored["base"] == scored["less"]


def test_models_of_one_name_are_told_apart_by_their_weights():
    board = rank([evaluation(seed=1, gain=0.3), evaluation(seed=2 << 240, gain=0.2)])
    assert {name for _, name in names(board)} == {"base 00000000", "base 00020000", "bigram"}


def test_evaluations_without_common_documents_are_refused():
    found = evaluation()
    longer = dataclasses.replace(found.sums, num_bytes=found.sums.num_bytes + 1)
    other = dataclasses.replace(found, sums=longer)
    with pytest.raises(Refusal) as refusal:
        rank([evaluation(), other])
    assert str(refusal.value) == "evaluations must share at least 2 documents, got 0"
    with pytest.raises(Refusal, match="evaluations must share at least 2 documents, got 0"):
        rank([])


def test_the_page_shows_every_score_and_marks_ties():
    models = [evaluation("base"), evaluation("<i>close</i>", seed=1, gain=0.21)]
    board = rank(models)
    document = leaderboard_page(board, models, "Board")
    outline = Outline(document)
    assert sum(tag == "svg" for tag, _ in outline.tags) == 3
    assert "<i>" not in document
    assert document.count('<span class="tag">tied</span>') == 6
    for standing in board.standings:
        for place in standing.places:
            assert f"{place.bits_per_byte.value:.3f}" in document


def test_the_chart_sets_models_apart_from_baselines():
    drawn = standing_chart(rank([evaluation()]).standings[0])
    dots = re.findall(r'<circle [^>]*class="(\w+)"', drawn)
    assert dots == ["first", "other"]  # base, then the bigram


def test_the_file_beside_the_page_holds_the_same_standings(tmp_path):
    models = [evaluation()]
    board = rank(models)
    write(tmp_path, board, models, "Board")
    read = json.loads((tmp_path / "leaderboard.json").read_text())
    assert read["standings"][0]["places"][0]["name"] == "base"
    assert Leaderboard.model_validate_json((tmp_path / "leaderboard.json").read_bytes()) == board
    assert (tmp_path / "index.html").read_text() == leaderboard_page(board, models, "Board")
