"""How much a tenant may send, and what it has sent."""
