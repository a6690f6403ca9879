"""Mirrors publisher."""
