"""Transports: each ends in a `Link`, an encrypted and authenticated byte stream to one peer."""
