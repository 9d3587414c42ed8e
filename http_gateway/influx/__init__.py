"""InfluxDB's line protocol: parsed exactly, and made into one append for each measurement."""
