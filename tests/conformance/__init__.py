"""The conformance suite: what the embedded server and INN must both do."""
