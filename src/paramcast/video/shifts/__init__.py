"""Simulated shifts: cameras, vocabularies, and fleets of devices that have them."""
