"""Simulated shifts: cameras, vocabularies, and fleets of devices with these shifts."""
