"""What a study costs: measured speeds of a machine, and the estimate made of them."""
