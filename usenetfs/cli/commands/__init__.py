"""What the commands do: one module each, taking plain values and the common options."""
