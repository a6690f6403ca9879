"""Trust scores: `scorer` takes stories from NATS, `evidence` → `signals` → `score` say how far each can be trusted."""
