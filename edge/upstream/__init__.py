"""Other servers behind a route: spoken to over HTTP/1.1, balanced, and watched."""
