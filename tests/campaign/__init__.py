"""Fault campaigns: the whole gateway under load while everything is killed, and then its books."""
