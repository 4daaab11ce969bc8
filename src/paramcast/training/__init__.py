"""Training of any module, and evaluation with controls."""
