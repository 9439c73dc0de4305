"""Bytes of a file -> events as they are sent."""
