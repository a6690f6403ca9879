"""Figures, not verdicts: the gateway beside its peers in one run, as a table and as var/bench.json.

Way of a measurement: `__main__` chooses scenarios, `servers` starts a server on one core, `load` opens clients on the
other, `publish` sends messages with the time in them; the server's CPU time over deliveries is what counts.
"""
