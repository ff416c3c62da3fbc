"""What says the same thing twice."""
