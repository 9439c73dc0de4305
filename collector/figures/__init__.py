"""Figures over the events that match: over time, by value, by field."""
