"""The small processes of Penstock, one folder each; they meet on topics and never import each other."""
