"""How what a store says looks on a terminal, as JSON and as CSV."""
