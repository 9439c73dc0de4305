"""What comes in: agents' records and events of the JSON API, from body to answer."""
