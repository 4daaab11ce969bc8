"""Tiny models of many architectures, each taken through the whole public API."""
