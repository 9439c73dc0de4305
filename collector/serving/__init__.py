"""The processes that serve, and what is asked about them."""
