"""The HTTP door: parse, authenticate, call the floors below, answer. No rule of the domain lives here."""
