"""Pictures and videos of frames with boxes."""
