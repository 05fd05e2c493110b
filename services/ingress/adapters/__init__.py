"""What the ingress talks to: request bodies, the store, the views, its own tables."""
