"""Clips, collections, frames and features."""
