"""Which files there are, same file or not, and what they hold."""
