"""The Arrow Flight door: parse, authenticate, call the floors below, answer."""
