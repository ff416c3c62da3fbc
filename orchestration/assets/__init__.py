"""The lineage graph as a list to read: one file per group, in order of dependence."""

from orchestration.assets import (
    alignment,
    curation,
    evaluation,
    ingestion,
    pretraining,
    scaling,
    tokens,
)

STEPS = (
    *ingestion.STEPS,
    *curation.STEPS,
    *tokens.STEPS,
    *scaling.STEPS,
    *pretraining.STEPS,
    *alignment.STEPS,
    *evaluation.STEPS,
)
