import dataclasses

import numpy as np

from evaluation.likelihood import packed_rows
from evaluation.samples import Opening, continued, openings
from tests.evaluation.packed import END, documents, table

VOCAB, CONTEXT = 50, 32
BYTES = np.where(np.arange(VOCAB) == END, 0, 1)
TEXTS = documents(60, VOCAB)
SOURCES = {f"{i:032x}": ("web", "code")[i % 2] for i in range(60)}


def chosen(texts=TEXTS, per_source=3) -> list[Opening]:
    rows = packed_rows(table(texts, CONTEXT).to_batches(), "validation")
    return list(
        openings(rows, SOURCES, BYTES, per_source=per_source, prompt_tokens=5, new_tokens=4)
    )


def test_prompt_and_truth_are_the_beginning_of_the_document():
    for opening in chosen():
        text = TEXTS[int(opening.doc_id, 16)].tolist()
        assert list(opening.prompt_ids + opening.truth_ids) == text[:10]
        assert len(opening.prompt_ids) == 6  # end of text, then five tokens
        assert opening.prompt_ids[0] == END


def test_every_source_shows_its_first_documents_by_identity():
    picked = chosen()
    assert [SOURCES[opening.doc_id] for opening in picked] == ["code"] * 3 + ["web"] * 3
    everything = [o.doc_id for o in chosen(per_source=100) if SOURCES[o.doc_id] == "web"]
    assert [o.doc_id for o in picked if SOURCES[o.doc_id] == "web"] == sorted(everything)[:3]
    assert len(everything) > 3


def test_where_a_document_stands_does_not_decide_whether_it_is_shown():
    rows = packed_rows(table(TEXTS, CONTEXT).to_batches(), "validation")
    backwards = dataclasses.replace(rows, doc_ids=rows.doc_ids[::-1])
    limits = {"prompt_tokens": 5, "new_tokens": 4}
    few = list(openings(backwards, SOURCES, BYTES, per_source=2, **limits))
    every = list(openings(backwards, SOURCES, BYTES, per_source=100, **limits))
    for source in ("code", "web"):
        shown, all_of_them = (
            [one.doc_id for one in some if SOURCES[one.doc_id] == source] for some in (few, every)
        )
        assert shown == sorted(all_of_them)[:2]


def test_a_prompt_never_runs_into_another_document():
    short = [np.array([END, *range(1, 6)], np.uint16)] * 60
    assert chosen(short) == []


def test_each_opening_goes_on_greedily_and_at_a_temperature():
    picked = chosen()

    def go_on(prompts, temperature):
        return [[len(prompt), int(10 * (temperature or 0))] for prompt in prompts]

    shown = list(continued(picked, go_on, temperature=0.8))
    assert [one.opening for one in shown] == picked
    assert all((one.greedy, one.sampled) == ((6, 0), (6, 8)) for one in shown)


def test_a_split_of_short_documents_shows_nothing():
    assert list(continued([], lambda prompts, temperature: 1 / 0, 0.8)) == []
