"""The WebSocket gateway: subscribes to NATS on demand and delivers to every browser that asked.

Way in of a client: `upgrade` → `handshake` → `engine` → `gateway` → `session`. Way out of an event: `subscriptions` →
`gateway` → `envelope` → `hub` → `engine`.
"""
