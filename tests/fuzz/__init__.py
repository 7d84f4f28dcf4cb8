"""Programs that feed parsers with what nobody would send, for as long as they are given."""
