"""Two studies side by side: where they first differ, in what, and whether it matters."""
