"""The files on this machine against what the store has of them."""
