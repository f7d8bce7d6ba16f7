"""How devices that cannot reach each other tell each other how they can be: a server, and its clients."""
