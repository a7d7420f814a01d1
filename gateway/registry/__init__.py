"""Orgs, agents, keys, limits and credits: Postgres first, then Redis."""
