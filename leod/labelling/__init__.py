"""Which moments a person should label, their pictures, and the way back of what the person drew."""
