"""The analyst's page: files that a browser runs, served by the collector itself. What they show comes from the API alone."""
