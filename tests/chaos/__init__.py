"""Processes are killed while a checker counts every event: small in `make test`, large in `make chaos`."""
