"""Training: a recipe becomes a plan, a loop, a run folder."""
