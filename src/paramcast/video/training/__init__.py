"""Training and evaluation on clips, with simulated devices."""
