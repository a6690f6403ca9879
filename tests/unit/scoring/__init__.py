"""Mirrors scoring."""
