"""A person at a terminal who looks for events: speaks HTTP to any collector, needs nothing of it on this machine."""
