"""How fast Timestore is, against what the machine allows and against other systems, measured in the same run."""
