"""From small runs to a plan: sweep, fit, plan."""
