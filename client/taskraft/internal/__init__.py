"""What the nodes say among themselves; no part of the public contract."""
