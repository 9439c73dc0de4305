"""Records out of the spool, over HTTP, until each has a final outcome."""
