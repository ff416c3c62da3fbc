"""Text out of a checkpoint."""
