"""The bench: how fast the gateway is, next to others that do the same work."""
