"""What each training and inference step reads."""
