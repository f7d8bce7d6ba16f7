"""Keys of this device and of its volumes."""
