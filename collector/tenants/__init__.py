"""Who is calling: tenants, keys, and what each may do."""
