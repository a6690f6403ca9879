"""The contract every service shares: events, wire messages, subjects, the way to NATS and the producer SDK.

The way of an event, module by module: a source yields an `events.Item`; a role turns items into an `events.Trend`
or `events.Story`; `broadcaster` publishes it to the durable subject that `channels` names; one of the `streams`
stores it and republishes it to the live subject; a gateway that has a client on that channel receives it and
writes the `wire` message to every such client. Nothing in here imports a service.
"""
