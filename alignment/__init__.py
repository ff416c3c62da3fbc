"""What a model prefers to say. Nothing below this room imports it."""
