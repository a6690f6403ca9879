"""The services, one folder each; they share `shared` and never import one another."""
