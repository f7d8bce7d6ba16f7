"""Where peers may be found: hints only. Who answers there is proven by the link."""
