"""Figures say what they show in text, and equal content gives equal bytes."""

import xml.etree.ElementTree as ET

from tests.training.test_fit import hoffmann, table
from training.charts import law_chart, loss_chart
from training.models.presets.own import tarn
from training.scaling.fit import Prediction, fit
from training.scaling.plan import Plan
from training.schedule import OptimizerConfig

PLAN = Plan(
    flops=9e12,
    model=tarn(vocab_size=64, context_length=16, d_model=32, num_layers=2, num_heads=2),
    optimizer=OptimizerConfig(),
    batch_rows=8,
    num_steps=100,
    num_tokens=12_800,
    epochs=1.0,
    num_params=1,
    num_matmul_params=1,
    best_params=1.0,
    predicted=Prediction(loss=1.5, low=1.4, high=1.7),
)


def _words(svg: str) -> str:
    return " ".join("".join(ET.fromstring(svg).itertext()).split())


def test_the_law_is_drawn_with_its_rule_and_its_prediction() -> None:
    law = fit(table(hoffmann, noise=0.002))
    svg = law_chart(law, PLAN)
    words = _words(svg)
    assert f"{law.rule.kind.replace('_', ' ')} (chosen)" in words
    assert "1.500 [1.400, 1.700] expected" in words
    assert f"N* ~ C^{law.iso_flops.exponent:.2f}" in words
    assert len(svg) < 100_000
    assert law_chart(law, PLAN) == svg
    assert "expected" not in _words(law_chart(law))


def test_the_loss_is_drawn_beside_what_was_predicted() -> None:
    lines = [{"tokens": 1e5 * k, "loss": 6 / k} for k in range(1, 500)]
    svg = loss_chart(lines, PLAN, realised=1.55)
    assert "1.500 and 1.550" in _words(svg)
    assert len(svg) < 100_000
    assert loss_chart(lines, PLAN, realised=1.55) == svg
