"""What runs Penstock: the stack with and without Docker, and the demo."""
