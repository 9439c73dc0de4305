"""Answers that go on: exports of whole results, and tails of what is committed."""
