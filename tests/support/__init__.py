"""What several tests need: makers of items, running services, recording clients."""
