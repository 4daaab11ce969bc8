"""Training in two stages, and evaluation with controls."""
