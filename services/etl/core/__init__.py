"""What a dataset is, and how bytes become its rows."""
