"""Tiny models of many architectures, each sent the whole road through the public API."""
