"""The query language of ``q``: Lucene syntax → a tree → conditions with bound values."""
