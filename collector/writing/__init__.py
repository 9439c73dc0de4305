"""Group commit: from parcels to rows that are stored."""
