"""Budgets: the live limits and counters in Redis."""
