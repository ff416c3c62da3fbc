"""From the corpus to token rows on Spark, and back from a training step to its documents."""
