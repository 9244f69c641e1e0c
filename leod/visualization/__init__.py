"""Pictures and videos of events and boxes."""
