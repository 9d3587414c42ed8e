"""What is known: datasets, versions, slices and appends, in Postgres."""
