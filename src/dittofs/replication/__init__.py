"""The tasks that keep replicas alike: sessions, publishing, fetching, custody."""
