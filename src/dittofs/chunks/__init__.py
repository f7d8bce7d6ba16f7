"""Content: cut, named, sealed, packed, and listed in manifests."""
