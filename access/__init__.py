"""Who calls, and what they may: principals, grants, tokens, JWT. Knows neither Flight nor HTTP."""
