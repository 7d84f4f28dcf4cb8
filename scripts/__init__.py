"""Programs that serve the project: checks, the demonstration, a private INN."""
