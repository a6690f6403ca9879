"""The dashboard in a real browser on real servers."""
