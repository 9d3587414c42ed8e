"""The way in: validate, route, digest, land, commit, seal and sweep."""
