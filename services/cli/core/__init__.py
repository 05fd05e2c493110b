"""What the console decides, without any outside system."""
