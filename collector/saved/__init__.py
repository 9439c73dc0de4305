"""Searches that a tenant keeps under a name."""
