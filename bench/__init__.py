"""How fast is a put, against what this machine allows, measured in the same run."""
