"""Tests of what a Redis may forget, by its profile."""
