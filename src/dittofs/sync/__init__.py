"""What two replicas say to each other, without I/O: frames, messages, digests."""
