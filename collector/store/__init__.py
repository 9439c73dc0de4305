"""The engine, embedded or served: tables, and one set of calls."""
