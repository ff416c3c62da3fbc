"""Token tables to batches."""
