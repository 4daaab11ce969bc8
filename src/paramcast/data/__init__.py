"""Clips, collections, simulated devices and their shifts, features, and the generated demo world."""
