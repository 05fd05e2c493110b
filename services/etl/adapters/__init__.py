"""The bucket that is read, the tables that follow it, and the files that are written."""
