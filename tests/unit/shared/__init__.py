"""Mirrors shared."""
