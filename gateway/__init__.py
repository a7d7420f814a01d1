"""The gateway that stops an agent from spending money it was not given."""
