"""What the pages say about answers: places, verdicts, safety, and the story of a chat model."""

import dataclasses

import pytest

from evaluation import findings
from evaluation.findings import Evaluation, Findings
from evaluation.intervals import Interval
from evaluation.pages import phase_sections, task_charts, task_sections
from evaluation.pages.page import page
from evaluation.pages.phase_sections import PhaseRecord, Story
from tests.evaluation.pages.test_page import Outline
from tests.evaluation.test_findings import model

BASE = model("tiny base", "0" * 80, "base", gain=0.3)
SFT = model("tiny sft", "1110" * 20, "sft", gain=0.2, drawn="10" * 20, later="0" * 40)
CONTROL = model("tiny chat control: more SFT", "1111" * 15 + "1110" * 5, "chat-control")
CHAT = model(
    "tiny chat",
    "1111" * 2 + "1110" * 18,
    "chat",
    gain=0.1,
    drawn="1110" * 10,
    later="10" * 20,
)
ALL_FOUR = (BASE, SFT, CHAT, CONTROL)


def rate(value: float, half: float) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def record(asset: str, name: str, made_from: str, **changes: object) -> PhaseRecord:
    fields = {"num_tokens": 1000, "num_steps": 10, "flops": 1e12, "seconds": 5.0} | changes
    return PhaseRecord(asset=asset, name=name, made_from=made_from, **fields)


def story() -> Story:
    compared = (
        findings.comparison(CHAT, SFT),
        findings.comparison(CHAT, CONTROL),
    )
    return Story(
        findings=(
            Findings(models=(BASE,)),
            Findings(models=(SFT,), comparisons=(findings.comparison(SFT, BASE),)),
            Findings(models=(CHAT, CONTROL), comparisons=compared, left_out=("No dpo.",)),
        ),
        records=(
            record("base_model", "tiny base", ""),
            record("sft_model", "tiny sft", "tiny base", curve_tokens=[1, 2], curve=[3.0, 1.0]),
            record("chat_model", "tiny chat", "tiny sft"),
        ),
        reward=None,
        costs=(("tiny base", 3e12, 30.0), ("tiny sft", 1e12, 10.0)),
    )


def test_places_are_shared_by_all_whom_the_best_of_a_group_does_not_beat():
    found = task_sections.places([rate(0.5, 0.05), rate(0.9, 0.05), rate(0.85, 0.05)])
    assert [(one.place, one.tied) for one in found] == [(2, False), (1, True), (1, True)]
    alone = task_sections.places([rate(0.9, 0.01), rate(0.5, 0.01)])
    assert [(one.place, one.tied) for one in alone] == [(1, False), (2, False)]


def test_being_tied_is_not_passed_on():
    chain = [rate(0.9, 0.06), rate(0.8, 0.06), rate(0.7, 0.06)]
    found = task_sections.places(chain)
    assert [(one.place, one.tied) for one in found] == [(1, True), (1, True), (2, False)]


def test_models_are_listed_by_new_wordings_and_one_that_was_asked_nothing_is_not():
    silent = dataclasses.replace(SFT, tasks=None)
    ranked = [m.name for m, _ in task_sections.asked((BASE, silent, CHAT, CONTROL))]
    assert ranked == ["tiny chat control: more SFT", "tiny chat", "tiny base"]


def whole_page(models: tuple[Evaluation, ...] = ALL_FOUR) -> str:
    told = story()
    parts = [
        *task_sections.accuracy(models),
        *task_sections.comparisons(told.comparisons, told.left_out),
        *task_sections.safety(models),
        *task_sections.style(models),
        task_sections.text(models),
    ]
    return page("Page", parts)


def test_sections_say_gains_losses_and_what_was_not_compared():
    document = whole_page()
    Outline(document)
    assert "+75.0 points [" in document
    assert "significant loss: -" in document
    assert "<li>No dpo.</li>" in document
    assert "No model was asked to do harm." in document
    assert "No item has a style." in document


def test_drawn_answers_stand_beside_the_greedy_ones():
    document = whole_page()
    assert ">Drawn at temperature 1, %</th>" in document
    assert "75.0\u00a0[" in document  # of the chat model
    assert "tiny chat against tiny sft, drawn at temperature 1</th><td>+25.0 points [" in document
    for chart in (task_charts.gain_chart(story().comparisons), task_charts.accuracy_chart([CHAT])):
        assert "drawn at temperature 1" in chart
    assert "Drawn at temperature 1, %" in "".join(phase_sections.phases(story()))
    silent = whole_page((BASE,))
    assert ">Drawn, %</th>" in silent and "<td>–</td>" in silent


def test_answers_in_a_second_turn_stand_beside_those_of_a_first():
    document = whole_page()
    assert ">In a second turn, %</th>" in document
    assert "50.0\u00a0[" in document  # of the chat model
    assert "tiny chat against tiny sft, in a second turn</th><td>+50.0 points [" in document
    for chart in (task_charts.gain_chart(story().comparisons), task_charts.accuracy_chart([CHAT])):
        assert "in a second turn" in chart
    assert "In a second turn, %" in "".join(phase_sections.phases(story()))
    said = list(phase_sections.limits(story()))
    assert any("asked at most two questions in a conversation." in limit for limit in said)
    assert any(
        "right on 50.0 % of items that follow another exchange, and on 100.0 %" in limit
        for limit in said
    )
    alone = dataclasses.replace(story(), findings=(Findings(models=(BASE,)),))
    told = list(phase_sections.limits(alone))
    assert any("one question at a time." in limit for limit in told)
    assert not any("follow another exchange" in limit for limit in told)


def test_sections_without_models_or_comparisons_say_so():
    assert list(task_sections.accuracy(())) == ["<p>No model was asked anything.</p>"]
    alone = list(task_sections.comparisons((), ()))
    assert alone == ["<p>There is one model, so nothing is compared.</p>"]


def test_what_a_model_says_cannot_become_markup():
    evil = "<script>alert('x')</script>"
    assert SFT.tasks is not None
    rows = SFT.tasks.answers.to_pylist()
    for row in rows:
        row["text"] = row["prompt"] = row["wanted"] = row["reason"] = evil
    table = SFT.tasks.answers.from_pylist(rows, SFT.tasks.answers.schema)
    said = dataclasses.replace(SFT, tasks=dataclasses.replace(SFT.tasks, answers=table))
    document = page("Page", phase_sections.answers(said))
    assert "script" not in {tag for tag, _ in Outline(document).tags}
    assert "&lt;script&gt;" in document


def test_answers_are_the_first_right_and_wrong_ones_by_identity():
    document = "".join(phase_sections.answers(SFT))
    assert "sort: 60 of 80 right" in document
    assert document.count('class="answer right"') == phase_sections.SAMPLES
    assert document.count('class="answer wrong"') == phase_sections.SAMPLES


def test_the_story_says_what_each_phase_came_from_cost_and_brought():
    document = "".join(phase_sections.phases(story()))
    assert "tiny base → tiny sft: it learns to say demonstrations" in document
    assert document.count("<svg") == 1  # the one phase with a curve
    assert "1e+12 FLOPs, 5 s." in document
    assert "significant loss" in document  # of the chat model against its control


def test_limits_of_a_chat_model_are_read_off_its_figures():
    said = list(phase_sections.limits(story()))
    assert any(
        limit.startswith("tiny chat is worse than more fine-tuning of equal compute: -")
        for limit in said
    )
    assert any("the base model" in limit and "worse model of text" in limit for limit in said)
    assert any("A new wording costs it" in limit for limit in said)
    assert "No dpo." in said
    good = dataclasses.replace(
        story(), findings=(Findings(models=(BASE,)), Findings(models=(SFT,)))
    )
    assert not any("not shown" in limit for limit in phase_sections.limits(good))


def test_costs_add_up():
    (document,) = phase_sections.costs(story().costs)
    assert "4.00e+12" in document and "75.0" in document and ">40<" in document
    untimed = [*story().costs, ("preferences (sampling)", 1e12, None)]
    (document,) = phase_sections.costs(untimed)
    row = document[document.index("preferences (sampling)") :]
    assert "<td>1.00e+12</td><td>20.0</td>" in row and row.index("</td></tr>") < row.index(">40<")


def test_a_reward_model_stands_beside_the_guesses_that_need_no_training():
    numbers = {"loss": 0.5, "pairs": 40.0, "accuracy": 0.775, "longer wins": 0.5}
    numbers |= {"sft log-prob": 0.787, "accuracy/sort": 0.6, "pairs/sort": 10.0}
    judge = record("reward_model", "reward model", "tiny sft", numbers=numbers)
    document = "".join(phase_sections.reward_model(judge))
    for words in ("Longer wins, %", "77.5", "78.7", ">sort</th>", ">40<", ">10<"):
        assert words in document


@pytest.mark.parametrize(
    "chart",
    [
        task_charts.family_chart(ALL_FOUR),
        task_charts.accuracy_chart(ALL_FOUR),
        task_charts.gain_chart(story().comparisons),
    ],
)
def test_charts_name_every_model_in_words(chart):
    words = chart[chart.index("<desc>") : chart.index("</desc>")]
    assert "tiny chat" in words and "tiny sft" in words
