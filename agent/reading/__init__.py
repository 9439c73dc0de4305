"""Files in, records appended to the spool."""
