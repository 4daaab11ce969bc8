"""The base models of the tasks."""
