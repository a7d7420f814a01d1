"""Losses under a tight limit: Redis forgets under load, and no budget is granted twice."""
