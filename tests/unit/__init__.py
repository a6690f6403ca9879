"""Pure parts, without sockets or sleeps."""
