"""Text to pre-tokens, by compiled code."""
